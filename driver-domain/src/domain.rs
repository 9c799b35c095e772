//! A driver domain: the shared rings on one side, the NIC on the other.
//!
//! ## Waking each other
//! Two flags, each with the same protocol on both sides, so that no wakeup is lost:
//!
//! ```text
//!   sleeper: flag := 1; fence(SeqCst); look at the rings; nothing? sleep. Awake: flag := 0
//!   waker:   publish;   fence(SeqCst); look at the flag;  set?  ring
//! ```
//! Whichever fence comes second in the one order of all sequentially consistent fences, its side
//! sees what the other wrote before: either the sleeper finds the entry or the waker finds the
//! flag. `status.parked` is the domain's, the switchboard kicks; `control.switchboard_asleep` is
//! the switchboard's, the domain calls NOTIFY. The NIC knows no flags: it writes the descriptor
//! back and then interrupts, and an interrupt that comes while the domain looks makes WAIT return
//! at once.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use shared_ring::control::{CONTROL_MAGIC, wake};
use shared_ring::layout::{BUFFER_BYTES, PAGE_BYTES, RX_BUFFERS};
use shared_ring::{ABI_VERSION, Entry, EntryFlags, PushError, Role, layout};

use crate::bar::Registers;
use crate::budget;
use crate::clock::{Clock, Tsc};
use crate::error::{DomainError, EntryError};
use crate::hypercalls::Hypercalls;
use crate::igb::{AttachPlan, Attached, Igb, MAX_PARTS};
use crate::log;
use crate::memory::{DomainMemory, DomainRings};

/// A domain whose NIC is attached.
pub struct Domain<'m, R, H> {
    pub(crate) memory: DomainMemory<'m>,
    pub(crate) nic: Igb<'m, R>,
    pub(crate) calls: H,
    rings: DomainRings,
    epoch: u16,
    /// Something was published since the switchboard was last notified.
    unnotified: bool,
    busy_turns: u32,
    masked: bool,
    /// How the NIC was attached, until the log says so.
    unlogged: Option<Attached>,
}

/// Adds to a counter that only this domain writes: no locked instruction needed.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

/// Checks that the control page is one of this ABI, and takes the time base from it.
///
/// # Errors
/// It is not, or it has none.
pub fn check_control(memory: &DomainMemory<'_>) -> Result<Tsc, DomainError> {
    let magic = memory.control.magic.load(Ordering::Acquire);
    let version = memory.control.abi_version.load(Ordering::Relaxed);
    if magic != CONTROL_MAGIC || version != ABI_VERSION {
        return Err(DomainError::Abi { magic, version });
    }
    Tsc::new(memory.control.tsc_khz.load(Ordering::Relaxed)).ok_or(DomainError::NoTimeBase)
}

impl<'m, R: Registers, H: Hypercalls> Domain<'m, R, H> {
    /// A domain that leaves its NIC alone. All that only takes memory is done here, so that whoever
    /// attaches in the middle of a takeover has nothing left to do but that: the rings are made,
    /// the receive buffers that are there stand in their descriptors.
    ///
    /// # Errors
    /// What the VMM has published is impossible.
    ///
    /// # Safety
    /// At most once in the life of a domain; the rings in `memory` were zeroed before.
    pub unsafe fn new(memory: DomainMemory<'m>, bar: R, calls: H) -> Result<Self, DomainError> {
        memory.status.rx_next.store(0, Ordering::Relaxed);
        let mut domain = Self {
            memory,
            nic: Igb::new(bar, memory.nic),
            calls,
            // SAFETY: as the caller promises.
            rings: unsafe { memory.rings() },
            epoch: memory.control.epoch.load(Ordering::Relaxed) as u16,
            unnotified: false,
            busy_turns: 0,
            masked: false,
            unlogged: None,
        };
        domain.take_buffers()?;
        Ok(domain)
    }

    /// Brings the NIC up in the role that the control page names, and gives it its receive buffers.
    ///
    /// # Errors
    /// The NIC does not come up.
    pub fn attach(&mut self, clock: &impl Clock) -> Result<Attached, DomainError> {
        let control = self.memory.control;
        let dma = control.dma_iova.load(Ordering::Relaxed);
        let plan = AttachPlan {
            rx_ring_iova: dma + layout::DMA_RX_RING_OFFSET,
            tx_ring_iova: dma + layout::DMA_TX_RING_OFFSET,
            mac: control.mac(),
            other_macs: control.other_macs(),
            mtu: control.mtu(),
            role: control.role(),
        };
        let attached = self.nic.attach(&plan, clock)?;
        self.memory.status.attach_path.store(attached.path, Ordering::Relaxed);
        self.ring_receive();
        // Not now: a takeover may wait for this.
        self.unlogged = Some(attached);
        Ok(attached)
    }

    /// What the VMM wants of the domain now.
    pub fn role(&self) -> Role {
        self.memory.control.role()
    }

    /// Returns true if the NIC has completed receive work.
    #[inline(always)]
    pub fn has_received(&self) -> bool {
        self.nic.rx.is_completed()
    }

    /// Returns true if there are frames to send, and descriptors to send them with.
    ///
    /// # Errors
    /// The VMM's cursor is impossible.
    #[inline(always)]
    pub fn has_frames_to_send(&mut self) -> Result<bool, DomainError> {
        Ok(self.rings.tx_post.has_entry()? && self.nic.tx.has_room())
    }

    /// Publishes what the NIC has received.
    ///
    /// # Errors
    /// The VMM's cursor is impossible.
    #[inline(always)]
    pub fn rx_return(&mut self) -> Result<(), DomainError> {
        let counters = &self.memory.status.counters;
        let (mut frames, mut bytes, mut errors) = (0, 0, 0);
        let room = self.rings.rx_done.free()?.min(budget::BATCH_FRAMES);
        let (mut parts, mut open) = (0, false);
        // Whole frames: the switchboard takes half of one for a breach of the protocol.
        while parts < room || open {
            let Some(received) = self.nic.rx_return() else { break };
            (parts, open) = (parts + 1, received.more);
            let more = if received.more { EntryFlags::MORE.0 } else { 0 };
            let error = if received.error { EntryFlags::ERROR.0 } else { 0 };
            push(
                &mut self.rings.rx_done,
                Entry {
                    buffer: received.buffer,
                    len: received.len,
                    flags: EntryFlags(more | error),
                    epoch: self.epoch,
                    ..Entry::default()
                },
            )?;
            frames += u64::from(!received.more);
            errors += u64::from(received.error);
            bytes += u64::from(received.len);
        }
        self.rings.rx_done.publish();
        // Only now: what is in `rx_next` but not yet in the ring would be lost with a crash here.
        let next = self.nic.rx.settle();
        self.memory.status.rx_next.store(next, Ordering::Release);
        self.unnotified = true;
        add(&counters.rx_frames, frames);
        add(&counters.rx_bytes, bytes);
        add(&counters.rx_errors, errors);
        Ok(())
    }

    /// Gives the NIC the empty buffers that the switchboard has provided. Returns true if there
    /// were any.
    ///
    /// # Errors
    /// What the VMM has published is impossible.
    #[inline(always)]
    pub fn rx_provide(&mut self) -> Result<bool, DomainError> {
        let any = self.take_buffers()?;
        self.ring_receive();
        Ok(any)
    }

    /// Puts the empty buffers that the switchboard has provided into the receive ring. The NIC sees
    /// them after the doorbell.
    #[inline(always)]
    fn take_buffers(&mut self) -> Result<bool, DomainError> {
        let mut any = false;
        while self.nic.rx.room() > 0 {
            let Some(entry) = self.rings.rx_provide.pop()? else { break };
            self.check_buffer(&entry)?;
            self.nic.rx_provide(entry.iova, entry.buffer);
            any = true;
        }
        if any {
            self.rings.rx_provide.release();
        }
        Ok(any)
    }

    #[inline(always)]
    fn ring_receive(&mut self) {
        if self.nic.ring_receive() {
            add(&self.memory.status.counters.doorbells, 1);
        }
    }

    /// Hands the NIC the frames that the switchboard has posted.
    ///
    /// # Errors
    /// What the VMM has published is impossible.
    #[inline(always)]
    pub fn tx_provide(&mut self) -> Result<(), DomainError> {
        let counters = &self.memory.status.counters;
        let (mut frames, mut bytes) = (0, 0);
        while frames < u64::from(budget::BATCH_FRAMES) && self.nic.tx.has_room() {
            let Some(entry) = self.rings.tx_post.pop()? else { break };
            // Before the frame is touched: should it be the one that kills this driver, the VMM
            // must find it in our hand.
            self.rings.tx_post.release();
            self.check_epoch(&entry)?;
            frames += u64::from(self.nic.tx_provide(&entry)?);
            bytes += u64::from(entry.len);
        }
        if self.nic.ring_transmit() {
            add(&counters.doorbells, 1);
        }
        add(&counters.tx_frames, frames);
        add(&counters.tx_bytes, bytes);
        Ok(())
    }

    /// Claims the frames that the NIC has sent. Returns true if there were any.
    ///
    /// # Errors
    /// The VMM's cursor is impossible.
    #[inline(always)]
    pub fn tx_return(&mut self) -> Result<bool, DomainError> {
        let epoch = self.epoch;
        let done = &mut self.rings.tx_done;
        let mut any = false;
        for _ in 0..budget::BATCH_FRAMES {
            if !done.has_room(MAX_PARTS)? {
                break;
            }
            let mut outcome = Ok(());
            let claimed = self.nic.tx_return(|buffer| {
                let entry = Entry { buffer, epoch, ..Entry::default() };
                outcome = outcome.and(push(done, entry));
            });
            outcome?;
            if !claimed {
                break;
            }
            any = true;
        }
        if any {
            done.publish();
            self.unnotified = true;
        }
        Ok(any)
    }

    /// Tells the switchboard of what was published, if it sleeps.
    #[inline(always)]
    pub fn notify(&mut self) {
        if !self.unnotified {
            return;
        }
        self.unnotified = false;
        // Against the switchboard's fence between its flag and its last look, see the head.
        fence(Ordering::SeqCst);
        if self.memory.control.switchboard_asleep.0.load(Ordering::Relaxed) != 0 {
            add(&self.memory.status.counters.notifies, 1);
            self.calls.notify();
        }
    }

    /// A sign of life.
    #[inline(always)]
    pub fn heartbeat(&self) {
        add(&self.memory.status.heartbeat, 1);
    }

    /// After a turn that found something to do: masks the interrupt once the busy spell is long.
    #[inline(always)]
    pub fn note_busy_turn(&mut self) {
        self.busy_turns = self.busy_turns.saturating_add(1);
        if self.busy_turns == budget::BUSY_TURNS_BEFORE_MASK {
            self.nic.mask_queue_interrupt();
            self.masked = true;
            self.memory.status.interrupts_masked.store(1, Ordering::Relaxed);
        }
    }

    /// After a turn that found nothing: parks, unless one more look finds something after all.
    ///
    /// # Errors
    /// The VMM's cursor is impossible, or a check that the VMM asked for finds the NIC gone.
    pub fn park(&mut self) -> Result<(), DomainError> {
        // Before the look: what completes after the look must be able to interrupt.
        self.end_busy_spell();
        let parked = &self.memory.status.parked;
        parked.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.has_work()? {
            parked.store(0, Ordering::Release);
            return Ok(());
        }
        self.wait()
    }

    /// The busy spell is over: interrupts are wanted again.
    pub(crate) fn end_busy_spell(&mut self) {
        self.busy_turns = 0;
        if self.masked {
            self.nic.unmask_queue_interrupt();
            self.masked = false;
            self.memory.status.interrupts_masked.store(0, Ordering::Relaxed);
        }
    }

    /// Parks without looking for work first, and clears the parked flag afterwards.
    ///
    /// # Errors
    /// The VMM asked for a sign of life, and the NIC has none.
    pub(crate) fn wait(&mut self) -> Result<(), DomainError> {
        if let Some(attached) = self.unlogged.take() {
            log::line(&self.memory, format_args!("attached by {attached}"));
        }
        let DomainMemory { status, control, .. } = self.memory;
        status.parked.store(1, Ordering::Relaxed);
        add(&status.counters.parks, 1);
        fence(Ordering::SeqCst);
        self.calls.wait();
        status.parked.store(0, Ordering::Release);
        if control.wake_reason.load(Ordering::Acquire) & wake::CHECK != 0 {
            self.nic.check_presence()?;
        }
        Ok(())
    }

    fn has_work(&mut self) -> Result<bool, DomainError> {
        let buffers = self.rings.rx_provide.has_entry()? && self.nic.rx.room() > 0;
        Ok(buffers
            || self.has_received()
            || self.nic.tx.is_completed()
            || self.has_frames_to_send()?)
    }

    fn check_epoch(&self, entry: &Entry) -> Result<(), EntryError> {
        if entry.epoch == self.epoch { Ok(()) } else { Err(EntryError::Epoch) }
    }

    fn check_buffer(&self, entry: &Entry) -> Result<(), EntryError> {
        self.check_epoch(entry)?;
        if usize::from(entry.buffer) >= RX_BUFFERS {
            return Err(EntryError::Buffer);
        }
        // The NIC is told the size once for all buffers.
        if usize::from(entry.len) != BUFFER_BYTES {
            return Err(EntryError::Length);
        }
        let in_page = entry.iova % PAGE_BYTES;
        if entry.iova == 0 || in_page + BUFFER_BYTES as u64 > PAGE_BYTES {
            return Err(EntryError::Address);
        }
        Ok(())
    }
}

/// Pushes where there is room by construction: a ring holds as many entries as there are buffers.
fn push(ring: &mut shared_ring::Producer, entry: Entry) -> Result<(), DomainError> {
    match ring.push(entry) {
        Ok(()) => Ok(()),
        Err(PushError::Violation(violation)) => Err(DomainError::Cursor(violation)),
        Err(PushError::Full) => Err(DomainError::Entry(EntryError::Buffer)),
    }
}

#[cfg(test)]
mod tests;
