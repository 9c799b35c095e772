//! Nothing in place of a domain and its NIC: frames to send are taken and said to be sent, frames
//! received come from nowhere. So the switchboard is measured alone.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use shared_ring::entry::Slot;
use shared_ring::layout::{
    BUFFER_BYTES, RX_DONE_BASE, RX_POOL_BASE, RX_PROVIDE_BASE, TX_DONE_BASE, TX_POST_BASE,
};
use shared_ring::ring::RingMemory;
use shared_ring::{Consumer, Entry, EntryFlags, Producer};
use warmspare::domain::{DomainId, DomainSlot};
use warmspare::nic::NullNic;

/// Life of the domain that is not there.
pub(super) const EPOCH: u32 = 1;
/// Between two looks while there is nothing.
const PAUSE: Duration = Duration::from_micros(20);

/// The slot of the domain that is not there.
pub(super) struct NullSlot {
    nic: Arc<NullNic>,
    /// For the switchboard.
    pub(super) slot: Arc<DomainSlot>,
}

impl NullSlot {
    /// Fresh memory, all zeroes.
    pub(super) fn new() -> Result<Self> {
        let nic = NullNic::new()?;
        let pool = DomainSlot::new_tx_pool()?;
        let slot = DomainSlot::new(DomainId(0), "null", nic.clone(), pool)?;
        Ok(Self { nic, slot: Arc::new(slot) })
    }

    /// Begins to take and to give; the slot must be installed. `source` is the frame that comes from
    /// nowhere, if any does.
    pub(super) fn start(&self, source: Option<Vec<u8>>) -> Result<NullDomain> {
        let stop = Arc::new(AtomicBool::new(false));
        let (slot, nic, ended) = (self.slot.clone(), self.nic.clone(), stop.clone());
        let thread = std::thread::Builder::new().name("null-domain".into()).spawn(move || {
            let mut ends = Ends::new(&slot);
            while !ended.load(Ordering::Relaxed) {
                if !ends.turn(&slot, &nic, source.as_deref()) {
                    std::thread::sleep(PAUSE);
                }
            }
        });
        Ok(NullDomain { stop, thread: Some(thread.context("no thread")?) })
    }
}

/// The running domain that is not there.
pub(super) struct NullDomain {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for NullDomain {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The domain's ends of its rings.
struct Ends {
    tx_post: Consumer,
    rx_provide: Consumer,
    tx_done: Producer,
    rx_done: Producer,
}

impl Ends {
    fn new(slot: &DomainSlot) -> Self {
        let (control, status) = (slot.control(), slot.status());
        let ring = |base, published: &AtomicU32, consumed: &AtomicU32| RingMemory {
            slots: NonNull::from(slot.ram.shape::<Slot>(base).expect("within the memory map")),
            published: NonNull::from(published),
            consumed: NonNull::from(consumed),
        };
        let post = ring(TX_POST_BASE, &control.tx_post_published.0, &status.tx_post_consumed.0);
        let provide =
            ring(RX_PROVIDE_BASE, &control.rx_provide_published.0, &status.rx_provide_consumed.0);
        let done = ring(TX_DONE_BASE, &status.tx_done_published.0, &control.tx_done_consumed.0);
        let received = ring(RX_DONE_BASE, &status.rx_done_published.0, &control.rx_done_consumed.0);
        // SAFETY: the thread that uses them holds the slot, and there is one for each slot.
        unsafe {
            Self {
                tx_post: Consumer::new(post),
                rx_provide: Consumer::new(provide),
                tx_done: Producer::new(done),
                rx_done: Producer::new(received),
            }
        }
    }

    /// Takes and gives what it can; whether that was anything.
    fn turn(&mut self, slot: &DomainSlot, nic: &NullNic, source: Option<&[u8]>) -> bool {
        let moved = self.sink(nic) | source.is_some_and(|frame| self.give(slot, frame));
        if moved {
            fence(Ordering::SeqCst);
            if slot.control().switchboard_asleep.0.load(Ordering::Relaxed) != 0 {
                let _ = slot.notify.write(1);
            }
        }
        moved
    }

    fn sink(&mut self, nic: &NullNic) -> bool {
        let mut frames = 0;
        while let Ok(Some(entry)) = self.tx_post.pop() {
            frames += u32::from(!entry.flags.contains(EntryFlags::MORE));
            let done = Entry { buffer: entry.buffer, epoch: EPOCH as u16, ..Entry::default() };
            if self.tx_done.push(done).is_err() {
                break;
            }
        }
        if frames > 0 {
            self.tx_post.release();
            nic.send(frames);
            self.tx_done.publish();
        }
        frames > 0
    }

    fn give(&mut self, slot: &DomainSlot, frame: &[u8]) -> bool {
        let mut given = false;
        while let Ok(Some(entry)) = self.rx_provide.pop() {
            let at = RX_POOL_BASE + u64::from(entry.buffer) * BUFFER_BYTES as u64;
            let (buffer, len) = (entry.buffer, frame.len() as u16);
            let received = Entry { buffer, len, epoch: EPOCH as u16, ..Entry::default() };
            if slot.ram.write(at, frame).is_err() || self.rx_done.push(received).is_err() {
                break;
            }
            given = true;
        }
        if given {
            self.rx_provide.release();
            self.rx_done.publish();
        }
        given
    }
}
