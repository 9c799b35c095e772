//! A station behind the bridge that sends frames as fast as its processor allows, or at an even
//! rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result};
use platform::realtime::{self, Priority};
use supervisor::topology::MacAddress;
use warmspare_linux_guest::groups::FrameSocket;

use crate::realguest::lan::{HOST_INTERFACE, Namespace};

/// The station's MAC address.
pub(super) const STATION: &str = "02:77:73:00:00:21";
/// IEEE 802's Local Experimental EtherType 1.
const ETHER_TYPE: [u8; 2] = [0x88, 0xb5];
/// Time between two groups of frames at an even rate.
const TICK: Duration = Duration::from_micros(500);
/// How late a paced sender may be and still send the frames that it missed.
const LATE: Duration = Duration::from_millis(4);

/// A station that sends as fast as it can; stops when dropped.
pub(super) struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Starts to send frames of `bytes` bytes to the address `to`, from inside a namespace.
    pub(super) fn start(namespace: &Namespace, to: &str, bytes: usize) -> Result<Self> {
        let (socket, frame) = open(namespace, to, bytes)?;
        let stop = Arc::new(AtomicBool::new(false));
        let ended = stop.clone();
        let thread = std::thread::Builder::new().name("flood".into()).spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                // If a queue on the way is full, the next frame is tried.
                let _ = socket.send(&frame);
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

/// Opens a packet socket, and builds the frame to send through it.
fn open(namespace: &Namespace, to: &str, bytes: usize) -> Result<(FrameSocket, Vec<u8>)> {
    let address = |text: &str| text.parse::<MacAddress>().map(|mac| mac.0).map_err(Error::msg);
    let mut frame = [&address(to)?[..], &address(STATION)?, &ETHER_TYPE].concat();
    frame.resize(bytes, 0x5a);
    let socket = namespace.run(|| FrameSocket::sender(HOST_INTERFACE))?;
    Ok((socket.context("no packet socket")?, frame))
}

/// A station that sends `rate` frames per second.
pub(super) struct Paced {
    socket: FrameSocket,
    frame: Vec<u8>,
    rate: f64,
}

impl Paced {
    /// Prepares frames to the address `to`, sent from inside a namespace.
    pub(super) fn start(namespace: &Namespace, to: &str, bytes: usize, rate: f64) -> Result<Self> {
        let (socket, frame) = open(namespace, to, bytes)?;
        Ok(Self { socket, frame, rate })
    }

    /// Sends for `time`; returns how many frames were sent.
    pub(super) fn run(&self, time: Duration) -> Result<u64> {
        let paced = || {
            // At normal priority it would wait for the threads that its own frames keep busy.
            realtime::enter(Priority::Nic);
            self.send(time)
        };
        std::thread::scope(|scope| match scope.spawn(paced).join() {
            Ok(sent) => sent,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Sends for `time`. Frames missed while the sender waited for a processor, beyond [`LATE`],
    /// are not sent afterwards: they would arrive as a flood.
    fn send(&self, time: Duration) -> Result<u64> {
        let (began, mut sent, mut missed) = (Instant::now(), 0, 0);
        let most = (self.rate * LATE.as_secs_f64()) as u64 + 1;
        while began.elapsed() < time {
            let due = (began.elapsed().as_secs_f64() * self.rate) as u64;
            let late = due - sent - missed;
            missed += late.saturating_sub(most);
            for _ in 0..late.min(most) {
                self.socket.send(&self.frame).context("a frame cannot be sent")?;
                sent += 1;
            }
            std::thread::sleep(TICK);
        }
        Ok(sent)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
