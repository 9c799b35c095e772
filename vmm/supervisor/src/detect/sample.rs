//! A sample: everything that the detectors know of a domain at one moment.

use shared_ring::layout::{NIC_RX_DESCRIPTORS, NIC_TX_DESCRIPTORS, RING_ENTRIES};

use super::speed::LinkSpeed;
use microvm::domain::VcpuState;

/// A register that does not hold what the driver and the VMM have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Offset in BAR 0.
    pub register: u32,
    /// The relevant bits as they should be.
    pub expected: u32,
    /// The same bits as they are.
    pub found: u32,
}

/// What the VMM reads from a NIC, without side effects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NicView {
    /// The NIC answers all ones: it is gone.
    pub gone: bool,
    /// Link up.
    pub link_up: bool,
    /// Speed of the link.
    pub speed: LinkSpeed,
    /// First register found wrong.
    pub mismatch: Option<Mismatch>,
    /// Vector 0 is masked.
    pub masked: bool,
    /// Receive head, descriptors.
    pub rx_head: u32,
    /// Receive tail, descriptors.
    pub rx_tail: u32,
    /// Transmit head, descriptors.
    pub tx_head: u32,
    /// Transmit tail, descriptors.
    pub tx_tail: u32,
    /// Signs of life of an emulated engine; 0 where the NIC is hardware.
    pub progress: u64,
}

/// Cursors of a domain's rings: free-running, modulo 2^32. Those that the domain writes are not
/// trusted; they are only ever compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursors {
    /// TX_POST, published by the switchboard.
    pub tx_posted: u32,
    /// TX_POST, taken by the domain.
    pub tx_taken: u32,
    /// TX_DONE, published by the domain.
    pub tx_claimed: u32,
    /// TX_DONE, read by the switchboard.
    pub tx_read: u32,
    /// RX_PROVIDE, published by the switchboard.
    pub rx_provided: u32,
    /// RX_PROVIDE, taken by the domain.
    pub rx_taken: u32,
    /// RX_DONE, published by the domain.
    pub rx_returned: u32,
    /// RX_DONE, read by the switchboard.
    pub rx_read: u32,
}

/// What the switchboard knows of transmitted frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confirmations {
    /// Frames that any domain ever claimed.
    pub claimed: u64,
    /// Frames that are claimed and not confirmed now.
    pub awaiting: u64,
    /// Turns of the switchboard's loop.
    pub turns: u64,
}

/// A domain at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it was taken, `CLOCK_MONOTONIC` nanoseconds.
    pub now_ns: u64,
    /// Number of the life.
    pub epoch: u32,
    /// Where the vCPU thread is.
    pub vcpu: VcpuState,
    /// CPU time of the vCPU thread, nanoseconds.
    pub cpu_ns: u64,
    /// Times the domain has parked.
    pub waits: u64,
    /// Times the vCPU was kicked out of the guest.
    pub interruptions: u64,
    /// Turns of the loop, as the domain itself reports them.
    pub heartbeat: u64,
    /// The vCPU thread sleeps although an event that wakes it is set: it has not been scheduled
    /// yet.
    pub signalled: bool,
    /// The NIC has completed a receive descriptor that the domain has not published.
    pub rx_completed: bool,
    /// The switchboard sleeps, and relies on being notified.
    pub switchboard_asleep: bool,
    /// Rings.
    pub cursors: Cursors,
    /// NIC.
    pub nic: NicView,
    /// Transmitted frames.
    pub confirmations: Confirmations,
}

/// How far a domain has come with its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Done {
    tx_taken: u32,
    tx_claimed: u32,
    rx_taken: u32,
    rx_returned: u32,
}

impl Sample {
    /// Returns true if the domain sleeps and nothing is about to wake it.
    pub(super) fn sleeps(&self) -> bool {
        self.vcpu == VcpuState::Parked && !self.signalled
    }

    /// Returns true if a debugger or an injector keeps the vCPU out of the guest.
    pub(super) fn held(&self) -> bool {
        self.vcpu == VcpuState::Held
    }

    /// Returns true if the vCPU runs the domain or carries out what the domain asked for.
    pub(super) fn runs(&self) -> bool {
        matches!(self.vcpu, VcpuState::InGuest | VcpuState::Serving)
    }

    /// Returns true if there are frames to send that the domain could take and has not taken.
    pub(super) fn untaken(&self) -> bool {
        let c = &self.cursors;
        let with_nic = c.tx_taken.wrapping_sub(c.tx_claimed);
        // A frame takes a context and a data descriptor; if the ring is full, the NIC is to blame.
        let full = with_nic.saturating_mul(2) >= NIC_TX_DESCRIPTORS as u32 - 2;
        c.tx_posted != c.tx_taken && !full
    }

    /// Returns true if there are frames that the domain has taken and not claimed.
    pub(super) fn unclaimed(&self) -> bool {
        self.cursors.tx_taken != self.cursors.tx_claimed
    }

    /// Returns true if the NIC has no receive buffers left although the driver has some, or could
    /// take some.
    pub(super) fn starved(&self) -> bool {
        let c = &self.cursors;
        let holds = c.rx_taken != c.rx_returned && !self.rx_completed;
        let could_take = c.rx_provided != c.rx_taken;
        self.nic.rx_head == self.nic.rx_tail && c.rx_taken > 0 && (holds || could_take)
    }

    /// Returns true if there is anything for the domain to do.
    pub(super) fn has_work(&self) -> bool {
        self.untaken() || self.unclaimed() || self.rx_completed || self.starved()
    }

    /// Returns true if the domain cannot publish because the switchboard has not read.
    pub(super) fn is_crowded(&self) -> bool {
        let c = &self.cursors;
        let full = |published: u32, read: u32| {
            published.wrapping_sub(read) as usize >= RING_ENTRIES - NIC_RX_DESCRIPTORS
        };
        full(c.tx_claimed, c.tx_read) || full(c.rx_returned, c.rx_read)
    }

    /// The cursors that a working loop moves.
    pub(super) fn done(&self) -> Done {
        let c = &self.cursors;
        Done {
            tx_taken: c.tx_taken,
            tx_claimed: c.tx_claimed,
            rx_taken: c.rx_taken,
            rx_returned: c.rx_returned,
        }
    }
}
