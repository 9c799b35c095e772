//! A NIC as the rest of the VMM sees it, whether it is hardware or emulated.

use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use crate::added::AddedAddresses;
use crate::error::NicError;
use crate::totals::NicCounters;
use platform::memory::SharedMemory;

/// What a NIC may do with an area of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaAccess {
    /// Read only: the common transmit pool.
    Read,
    /// Read and write: a domain's descriptor rings and receive pool.
    ReadWrite,
}

/// An area of memory that a NIC reaches, and at which address. Everything else is out of its reach.
#[derive(Clone, Debug)]
pub struct DmaArea {
    /// I/O address of the first byte; page-aligned.
    pub iova: u64,
    /// The memory.
    pub memory: Arc<SharedMemory>,
    /// Offset of the area in `memory`, in bytes; page-aligned.
    pub offset: u64,
    /// Length in bytes; whole pages.
    pub len: u64,
    /// What the NIC may do.
    pub access: DmaAccess,
}

impl DmaArea {
    /// Returns true if both are the same memory, at the same place and with the same access.
    pub fn is_same(&self, other: &Self) -> bool {
        let place = |area: &Self| (area.iova, area.offset, area.len, area.access);
        place(self) == place(other) && Arc::ptr_eq(&self.memory, &other.memory)
    }
}

/// How a domain reaches the registers.
pub enum BarAccess<'a> {
    /// Loads and stores leave the guest; the vCPU thread carries them out.
    Trapped(&'a dyn BarRegisters),
    /// Pages of the real BAR are mapped into the domain.
    Mapped(&'a [BarPages]),
}

/// Pages of a real BAR that a domain may touch.
#[derive(Clone, Copy, Debug)]
pub struct BarPages {
    /// Offset in the BAR, bytes, page-aligned.
    pub offset: u64,
    /// Address in the VMM.
    pub host_address: u64,
    /// Length in bytes, whole pages.
    pub len: u64,
}

/// Registers that are carried out in software. Aligned 32-bit accesses.
pub trait BarRegisters: Send + Sync {
    /// A load.
    fn read(&self, offset: u32) -> u32;
    /// A store. Must not block: a doorbell wakes the NIC's own thread.
    fn write(&self, offset: u32, value: u32);
}

/// What the VMM does with a NIC. All of it through the VMM's own access to the registers.
///
/// [`Self::shut_units`], [`Self::open_filters`], [`Self::take_sent`] and [`Self::link_up`] are on
/// the failover path: a few register accesses, no system call but eventfd writes, no lock that is
/// held for long.
pub trait Nic: Send + Sync {
    /// Name for people and logs, unique.
    fn name(&self) -> &str;

    /// Switches the receive and the transmit unit off (RCTL.EN, TCTL.EN): two posted writes.
    fn shut_units(&self);

    /// Opens the receive filters for the guests' MACs, as the driver has programmed them, broadcast
    /// and multicast.
    fn open_filters(&self);

    /// Which addresses are received beside those that the driver has programmed. It takes effect at
    /// once where the filters are open, and else when they are opened. No two calls at a time, and
    /// none while another thread opens or shuts filters or units.
    fn set_added(&self, added: &AddedAddresses) {
        let _ = added;
    }

    /// The driver has opened the filters itself, because it attached in order to serve: those of
    /// [`Self::set_added`] follow.
    fn driver_opened(&self) {}

    /// Returns true if every unicast frame is received at present.
    fn is_promiscuous(&self) -> bool {
        false
    }

    /// Reads one of the registers of [`Self::set_added`]; `number` counts them in turn. Returns the
    /// register, what it has to hold and what it holds, if these differ.
    fn spoilt_address(&self, number: usize) -> Option<(u32, u32, u32)> {
        let _ = number;
        None
    }

    /// Good frames sent since the last call (GPTC, clear on read).
    fn take_sent(&self) -> u32;

    /// Returns true if the link is up (STATUS.LU).
    fn link_up(&self) -> bool;

    /// Shuts every receive filter: the guests' addresses, broadcast, multicast, promiscuous.
    fn shut_filters(&self);

    /// Receives frames to this address too (receive address 1), or with `None` only those to the
    /// guests. For drills, whose frames never carry a guest's address.
    fn accept_probes(&self, to: Option<[u8; 6]>);

    /// Good frames received since the last call (GPRC, clear on read).
    fn take_received(&self) -> u32;

    /// What became of all frames so far. Off the path: hardware is asked register by register. All
    /// zero where there is nothing to ask.
    fn counters(&self) -> NicCounters {
        NicCounters::default()
    }

    /// Vector 0: queues. For the domain's wait.
    fn queue_event(&self) -> &EventFd;

    /// Vector 1: link and other causes. For the VMM.
    fn link_event(&self) -> &EventFd;

    /// Acknowledges vector 1: writes exactly ICR.LSC, EICR bit 1 and EIMS bit 1, then reads STATUS.
    /// Returns true if the link is up.
    fn acknowledge_link(&self) -> bool;

    /// Lets the NIC reach these areas for its whole life, and of all memory only these and those of
    /// earlier calls: domains that share a NIC each bring their own.
    ///
    /// # Errors
    /// The IOMMU or the operating system refuses.
    fn map_dma(&self, areas: &[DmaArea]) -> Result<(), NicError>;

    /// Off the path: masks interrupts, disables the queues, bus master off, and reads back, so that
    /// nothing of the NIC reaches memory any more. A NIC that [`Self::leave`] was called for, or
    /// that does not answer, is let go of; one that is not there is silent.
    ///
    /// # Errors
    /// The NIC may still reach memory: the caller must not reuse it.
    fn quiesce(&self) -> Result<(), NicError>;

    /// Off the path: bus master on again, for a domain that is about to attach. Registers that no
    /// driver writes and one had spoilt are put back before.
    ///
    /// # Errors
    /// The configuration write did not take.
    fn enable_bus_master(&self) -> Result<(), NicError>;

    /// Off the path: full reset, where a re-attach failed.
    ///
    /// # Errors
    /// The NIC does not come back.
    fn reset(&self) -> Result<(), NicError>;

    /// What is known to keep the NIC or its link from working, in one line for people; none if
    /// nothing is known, or all works. May take a lock: not for the failover path.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Returns true if the NIC, or the wire of one in software, is there. One that is not has no
    /// link, and is opened when it is.
    fn is_present(&self) -> bool {
        true
    }

    /// Off the path: has a NIC that was not there, or was let go of, opened if it is there now.
    /// Nothing happens to one that is open.
    ///
    /// # Errors
    /// What is missing.
    fn reopen(&self) -> Result<(), NicError> {
        Ok(())
    }

    /// The NIC is taken away, or has failed on the bus: the next [`Self::quiesce`] lets go of it.
    fn leave(&self) {}

    /// Readable when somebody wants the NIC back, who waits until it is let go of; `None` where
    /// nobody can.
    fn request_event(&self) -> Option<&EventFd> {
        None
    }

    /// How a domain reaches the registers.
    fn bar(&self) -> BarAccess<'_>;

    /// Returns true if [`Self::first_sent_ns`] ever says anything: hardware does not.
    fn stamps_first_sent(&self) -> bool {
        false
    }

    /// Forgets the stamp of [`Self::first_sent_ns`], and frames that were refused: the NIC begins
    /// to serve.
    fn arm_first_sent(&self);

    /// When the first frame after [`Self::arm_first_sent`] left, in `CLOCK_MONOTONIC` nanoseconds;
    /// `None` if none did, or the NIC cannot tell.
    fn first_sent_ns(&self) -> Option<u64>;

    /// When the oldest frame arrived that nobody got: it is in the descriptor `next` (modulo the
    /// ring), which the driver looks at next, or the NIC could not take it in since it last took
    /// one. `CLOCK_MONOTONIC` nanoseconds; `None` if there is none, or the NIC cannot tell: hardware
    /// keeps no such stamps. On the failover path: a few loads.
    fn unpublished_since_ns(&self, next: u32) -> Option<u64> {
        let _ = next;
        None
    }

    /// Increases with every sign of life of the NIC's engine; 0 where the NIC is hardware.
    fn progress(&self) -> u64;

    /// Reads one of the registers that no driver writes and a wild store can spoil; `number` counts
    /// them in turn. Returns the register, what a reset leaves there and what it holds, if these
    /// differ. Takes no lock that is held for long.
    fn spoilt_register(&self, number: usize) -> Option<(u32, u32, u32)> {
        let _ = number;
        None
    }

    /// Reads a register for the detectors. Never one whose reading has an effect: neither the
    /// statistics nor ICR, EICR and SWSM (i210 datasheet §8.8, §8.18).
    fn peek(&self, register: u32) -> u32;

    /// Fault injection: writes a register, as a bit flip or a driver gone wrong would.
    fn poke(&self, register: u32, value: u32);

    /// Readable when the bus reports an error of the NIC; `None` where nothing would report one.
    fn error_event(&self) -> Option<&EventFd> {
        None
    }
}
