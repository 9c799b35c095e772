//! Counts the group frames that reach the guest, while the guest sends some of its own.

use std::ffi::CString;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use warmspare_linux_guest::groups::{FrameSocket, Kind, Tally};

use crate::sys;

/// Time between two of the guest's own broadcasts.
const OWN_EVERY: Duration = Duration::from_millis(5);

/// The frames received so far.
#[derive(Default)]
struct Heard {
    tallies: [Tally; Kind::ALL.len()],
    /// How many of the guest's own frames came back.
    own: u64,
}

/// The running threads, one that listens and one that sends.
pub(crate) struct Listener {
    stop: Arc<AtomicBool>,
    heard: Arc<Mutex<Heard>>,
    threads: [JoinHandle<()>; 2],
}

impl Listener {
    /// Starts to listen and to send on an interface.
    pub(crate) fn start(interface: &str) -> io::Result<Self> {
        let own = sys::mac_of(interface)?;
        let stop = Arc::new(AtomicBool::new(false));
        let heard = Arc::new(Mutex::new(Heard::default()));
        let name = CString::new(interface)?;
        let socket = FrameSocket::open(&name)?;
        let (stopped, theirs) = (stop.clone(), heard.clone());
        let listens = thread::spawn(move || listen(&socket, own, &stopped, &theirs));
        let socket = FrameSocket::sender(&name)?;
        let stopped = stop.clone();
        let sends = thread::spawn(move || {
            for number in 0.. {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                // A frame that finds the queue full is simply not sent.
                let _ = socket.send(&Kind::Broadcast.frame(own, number));
                thread::sleep(OWN_EVERY);
            }
        });
        Ok(Self { stop, heard, threads: [listens, sends] })
    }

    /// Stops the threads and reports what was received: a word for each kind, and one for the
    /// guest's own frames.
    pub(crate) fn finish(self) -> String {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads {
            let _ = thread.join();
        }
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let words = Kind::ALL.iter().zip(&heard.tallies);
        let words = words.map(|(kind, tally)| format!("{}={}", kind.name(), tally.to_word()));
        let words: Vec<_> = words.chain([format!("own={}", heard.own)]).collect();
        words.join(" ")
    }
}

fn listen(socket: &FrameSocket, own: [u8; 6], stop: &AtomicBool, heard: &Mutex<Heard>) {
    let mut bytes = [0; 2048];
    while !stop.load(Ordering::Acquire) {
        // If no frame came for a second, check again whether to stop.
        let Ok(len) = socket.receive(&mut bytes) else { continue };
        let frame = &bytes[..len.min(bytes.len())];
        let Some((source, kind, number)) = Kind::parse(frame) else { continue };
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        if source == own {
            heard.own += 1;
        } else {
            heard.tallies[kind as usize].add(number);
        }
    }
}
