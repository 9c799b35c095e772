//! Every timeout and budget, with its reason. Nothing waits without a deadline from here.

use std::time::Duration;

/// How often the switchboard asks the NIC which claimed frames it really sent. Bounds how long a
/// frame stays unconfirmed, and so how many a failover sends twice.
pub const CONFIRM_TICK: Duration = Duration::from_millis(1);

/// How long a vCPU that was told to leave the guest may take. 154 µs was the worst of an idle
/// development machine, 4.7 ms of the nested one; past it the failover goes on without it.
pub const PAUSE_DEADLINE: Duration = Duration::from_millis(5);

/// From starting a domain to its READY call: the driver's bounded polls add up to some 200 ms on a
/// real i210, copper link negotiation excluded.
pub const READY_DEADLINE: Duration = Duration::from_secs(3);

/// How long the switchboard may take to reach a loop boundary and answer a change that somebody
/// waits for. A turn of its loop takes well under a millisecond; the rest is for a stalled machine.
pub const BOUNDARY_DEADLINE: Duration = Duration::from_secs(1);

/// When announcements of the guest's MAC follow a takeover, beside the one at once: a late frame of
/// the failed NIC can pull the MAC back to the wrong switch port.
pub const ANNOUNCE_AGAIN: [Duration; 3] =
    [Duration::from_millis(1), Duration::from_millis(5), Duration::from_millis(20)];

/// How long a NIC may take to answer after the kernel has reset it. The kernel itself waits out the
/// 100 ms that PCI Express grants; this is for a slow one.
pub const RESET_DEADLINE: Duration = Duration::from_secs(1);

/// How long the engine of an emulated NIC sleeps at most, so that its progress stamp shows life
/// even where nothing happens.
pub const NIC_HEARTBEAT: Duration = Duration::from_millis(100);

/// How long a NIC's queues may take to send what they had fetched when they are switched off:
/// 24 frames of full size take 0.3 ms at 1 Gb/s; the budget is that of the igb drivers. With the
/// link down they never finish, and the bus is cut instead.
pub const NIC_DRAIN_DEADLINE: Duration = Duration::from_millis(10);

/// How long the engine of an emulated NIC may take to reach the next turn of its loop. A turn takes
/// well under a millisecond; the rest is for a stalled machine.
pub const NIC_BOUNDARY_DEADLINE: Duration = Duration::from_secs(1);
