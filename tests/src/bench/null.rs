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
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use warmspare::domain::{DomainId, DomainSlot};
use warmspare::nic::{BarAccess, DmaArea, Nic, NicError};

/// Life of the domain that is not there.
pub(super) const EPOCH: u32 = 1;
/// Between two looks while there is nothing.
const PAUSE: Duration = Duration::from_micros(20);

/// A NIC that has sent whatever was posted.
struct NullNic {
    sent: AtomicU32,
    event: EventFd,
}

impl Nic for NullNic {
    fn name(&self) -> &str {
        "null"
    }
    fn shut_units(&self) {}
    fn open_filters(&self) {}
    fn take_sent(&self) -> u32 {
        self.sent.swap(0, Ordering::AcqRel)
    }
    fn link_up(&self) -> bool {
        true
    }
    fn shut_filters(&self) {}
    fn accept_probes(&self, _to: Option<[u8; 6]>) {}
    fn take_received(&self) -> u32 {
        0
    }
    fn queue_event(&self) -> &EventFd {
        &self.event
    }
    fn link_event(&self) -> &EventFd {
        &self.event
    }
    fn acknowledge_link(&self) -> bool {
        true
    }
    fn map_dma(&self, _areas: &[DmaArea]) -> Result<(), NicError> {
        Ok(())
    }
    fn quiesce(&self) -> Result<(), NicError> {
        Ok(())
    }
    fn enable_bus_master(&self) -> Result<(), NicError> {
        Ok(())
    }
    fn reset(&self) -> Result<(), NicError> {
        Ok(())
    }
    fn bar(&self) -> BarAccess<'_> {
        BarAccess::Mapped(&[])
    }
    fn arm_first_sent(&self) {}
    fn first_sent_ns(&self) -> Option<u64> {
        None
    }
    fn progress(&self) -> u64 {
        0
    }
    fn peek(&self, _register: u32) -> u32 {
        0
    }
    fn poke(&self, _register: u32, _value: u32) {}
}

/// The slot of the domain that is not there.
pub(super) struct NullSlot {
    nic: Arc<NullNic>,
    /// For the switchboard.
    pub(super) slot: Arc<DomainSlot>,
}

impl NullSlot {
    /// Fresh memory, all zeroes.
    pub(super) fn new() -> Result<Self> {
        let event = EventFd::new(EFD_NONBLOCK)?;
        let nic = Arc::new(NullNic { sent: AtomicU32::new(0), event });
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
            nic.sent.fetch_add(frames, Ordering::AcqRel);
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
