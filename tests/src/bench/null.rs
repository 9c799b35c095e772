//! A null domain in place of a domain and its NIC: frames to send are taken and reported as sent,
//! and received frames are copies of one given frame. So the switchboard is measured alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use microvm::domain::{DomainId, DomainRings, DomainSlot};
use nic::NullNic;
use shared_ring::frame::DEFAULT_MTU;
use shared_ring::layout::{BUFFER_BYTES, RX_POOL_BASE};
use shared_ring::{Entry, EntryFlags};
use switchboard::{AnnounceConfig, Switchboard, SwitchboardConfig, Violation, ViolationSink};

use super::ends::{EPOCH, notify};

/// How long the null domain sleeps when there is nothing to do.
const PAUSE: Duration = Duration::from_micros(20);

struct Ignore;

impl ViolationSink for Ignore {
    fn violation(&self, _: DomainId, _: u32, violation: Violation) {
        eprintln!("bench: {violation:?}");
    }
}

/// The slot of the null domain.
pub(super) struct NullSlot {
    /// Counts what the domain's NIC has sent.
    pub(super) nic: Arc<NullNic>,
    /// The slot that the switchboard is given.
    pub(super) slot: Arc<DomainSlot>,
}

impl NullSlot {
    /// Creates a slot with fresh memory, all zeroes.
    pub(super) fn new() -> Result<Self> {
        let nic = NullNic::new()?;
        let pool = DomainSlot::new_tx_pool()?;
        let slot = DomainSlot::new(DomainId(0), "null", nic.clone(), pool)?;
        Ok(Self { nic, slot: Arc::new(slot) })
    }

    /// Starts a switchboard between one guest and this slot.
    pub(super) fn switchboard(&self, mac: [u8; 6]) -> Result<Switchboard> {
        Ok(Switchboard::spawn(SwitchboardConfig {
            slots: vec![self.slot.clone()],
            tx_pool: self.slot.tx_pool.clone(),
            macs: vec![mac],
            mtu: DEFAULT_MTU,
            rules: Vec::new(),
            announce: AnnounceConfig { again: Vec::new(), probe_vlan: None },
            violations: Arc::new(Ignore),
        })?)
    }

    /// Starts the null domain; the slot must be installed. `source`, if given, is the frame that
    /// the guest receives over and over.
    pub(super) fn start(&self, source: Option<Vec<u8>>) -> Result<NullDomain> {
        let stop = Arc::new(AtomicBool::new(false));
        let (slot, nic, ended) = (self.slot.clone(), self.nic.clone(), stop.clone());
        let thread = std::thread::Builder::new().name("null-domain".into()).spawn(move || {
            // SAFETY: these are the slot's only `DomainRings`, and no domain runs there.
            let mut turner = Turner { ends: unsafe { slot.domain_rings() } };
            while !ended.load(Ordering::Relaxed) {
                if !turner.turn(&slot, &nic, source.as_deref()) {
                    std::thread::sleep(PAUSE);
                }
            }
        });
        Ok(NullDomain { stop, thread: Some(thread.context("no thread")?) })
    }
}

/// The running null domain; stops when dropped.
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

/// The null domain's end of the shared rings.
struct Turner {
    ends: DomainRings,
}

impl Turner {
    /// Moves as many frames as it can in both directions; returns whether there were any.
    fn turn(&mut self, slot: &DomainSlot, nic: &NullNic, source: Option<&[u8]>) -> bool {
        let moved = self.sink(nic) | source.is_some_and(|frame| self.give(slot, frame));
        if moved {
            notify(slot);
        }
        moved
    }

    fn sink(&mut self, nic: &NullNic) -> bool {
        let mut frames = 0;
        while let Ok(Some(entry)) = self.ends.tx_post.pop() {
            frames += u32::from(!entry.flags.contains(EntryFlags::MORE));
            let done = Entry { buffer: entry.buffer, epoch: EPOCH as u16, ..Entry::default() };
            if self.ends.tx_done.push(done).is_err() {
                break;
            }
        }
        if frames > 0 {
            self.ends.tx_post.release();
            nic.send(frames);
            self.ends.tx_done.publish();
        }
        frames > 0
    }

    fn give(&mut self, slot: &DomainSlot, frame: &[u8]) -> bool {
        let mut given = false;
        while let Ok(Some(entry)) = self.ends.rx_provide.pop() {
            let at = RX_POOL_BASE + u64::from(entry.buffer) * BUFFER_BYTES as u64;
            let (buffer, len) = (entry.buffer, frame.len() as u16);
            let received = Entry { buffer, len, epoch: EPOCH as u16, ..Entry::default() };
            if slot.ram.write(at, frame).is_err() || self.ends.rx_done.push(received).is_err() {
                break;
            }
            given = true;
        }
        if given {
            self.ends.rx_provide.release();
            self.ends.rx_done.publish();
        }
        given
    }
}
