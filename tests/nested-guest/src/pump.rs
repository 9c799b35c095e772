//! The third NIC as a wire of the product's own sender: a thread carries frames from the raw
//! socket into a queue with an eventfd.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use warmspare::realtime::{self, Priority};
use warmspare::wire::Wire;

use crate::link::RawWire;

/// Frames that wait at most; more are dropped, as on a real wire.
const QUEUE_FRAMES: usize = 16_384;
/// How soon the thread sees that it should end.
const LOOK: Duration = Duration::from_millis(50);

struct Shared {
    wire: RawWire,
    frames: Mutex<VecDeque<Vec<u8>>>,
    readable: EventFd,
    stop: AtomicBool,
}

/// The wire; its thread ends when it is dropped.
pub(crate) struct PumpedWire {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl PumpedWire {
    pub(crate) fn start() -> Result<Arc<Self>> {
        let shared = Arc::new(Shared {
            wire: RawWire::open()?,
            frames: Mutex::default(),
            readable: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            stop: AtomicBool::new(false),
        });
        let theirs = shared.clone();
        let thread = realtime::spawn("pump", Some(Priority::Nic), move || theirs.run())?;
        Ok(Arc::new(Self { shared, thread: Some(thread) }))
    }
}

impl Shared {
    fn run(&self) {
        while !self.stop.load(Ordering::Acquire) {
            self.wire.wait(LOOK);
            let mut any = false;
            while let Some(frame) = self.wire.receive() {
                let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
                if frames.len() < QUEUE_FRAMES {
                    frames.push_back(frame);
                    any = true;
                }
            }
            if any {
                let _ = self.readable.write(1);
            }
        }
    }
}

impl Wire for PumpedWire {
    fn send(&self, frame: &[u8]) {
        // A frame that does not leave is lost, as on a real wire: the sender's books show it.
        let _ = self.shared.wire.send(frame);
    }

    fn receive(&self, into: &mut [u8]) -> Option<usize> {
        let frame =
            self.shared.frames.lock().unwrap_or_else(PoisonError::into_inner).pop_front()?;
        into[..frame.len()].copy_from_slice(&frame);
        Some(frame.len())
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the descriptor is open as long as the event, which `self` owns.
        Some(unsafe { BorrowedFd::borrow_raw(self.shared.readable.as_raw_fd()) })
    }

    fn begin_receive(&self) {
        let _ = self.shared.readable.read();
    }

    fn link_up(&self) -> bool {
        true
    }

    fn link_changed(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn follow_link(&self) {}
}

impl Drop for PumpedWire {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
