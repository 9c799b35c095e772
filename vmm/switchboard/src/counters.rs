//! Counters of the switchboard: one writer, any number of readers.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread increases and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The number as it stands.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds to the number. Only the switchboard's thread does, so no locked instruction is needed.
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
    }

    /// Replaces a gauge's value.
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }
}

impl Counters {
    /// Frames that came in from the network, other than those of drills.
    pub fn received(&self) -> u64 {
        let arrived = [&self.rx_frames, &self.rx_no_guest, &self.rx_unknown, &self.rx_overrun];
        arrived.map(Counter::get).iter().sum::<u64>() + self.rx_own.get()
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// What the switchboard counts: frames unless said otherwise. Never reset.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)+
        }

        impl Counters {
            /// All of them with their names, for metrics.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name.get())),+].into_iter()
            }
        }
    };
}

counters! {
    /// Taken from the guest.
    tx_frames,
    /// Bytes of the frames taken from the guest.
    tx_bytes,
    /// Frames of the guest that were cut into segments; these are counted as frames.
    tx_cut,
    /// Copied, each way and once for each guest that got one. The emulated NIC's own copies,
    /// between pool and wire, are not the switchboard's.
    copies,
    /// Handed from guest to guest, once for each that got one.
    local_frames,
    /// Lost between guests, because the receiver had no room or is not there.
    local_lost,
    /// Buffers claimed sent by a domain.
    tx_claimed,
    /// Confirmed by a NIC's own counter.
    tx_confirmed,
    /// Confirmed frames that no guest sent: announcements, and what drills send.
    tx_confirmed_own,
    /// For other guests alone, so that they never go to the wire.
    tx_local,
    /// Not let out: meant for bridges or NICs alone, or from an address that the guest may not send
    /// from.
    tx_refused,
    /// Sent again after a failover or a link that was down.
    tx_resent,
    /// Dropped: two domains were at the frame when they failed, or four had it in hand.
    tx_poisoned,
    /// Malformed chains of the guest, thrown away.
    tx_malformed,
    /// Refused: the guest sent more than the MTU allows.
    tx_too_long,
    /// Thrown away because the guest's ring is disabled.
    tx_discarded,
    /// Not sent, or not again, because the guest may be at another machine.
    tx_left_behind,
    /// Times the guest's ring had to wait for free buffers.
    tx_backpressure,
    /// Gauge: buffers of frames that are not confirmed.
    tx_unconfirmed,
    /// Gauge: buffers that are claimed sent and not confirmed.
    tx_awaiting,
    /// Announcements of the guest's MAC and addresses.
    announced,
    /// Handed to the guest.
    rx_frames,
    /// Bytes of the frames handed to the guest.
    rx_bytes,
    /// Broadcast and multicast among the frames handed to the guest.
    rx_groups,
    /// Dropped: both NICs received the frame, and the other's copy was handed on.
    rx_twice,
    /// Frames of drills, taken out of the stream.
    rx_probes,
    /// Dropped: no guest is connected or its ring is not running.
    rx_no_guest,
    /// Dropped: addressed to none of several guests.
    rx_unknown,
    /// Lost to one of several guests, because it posted no buffers for too long.
    rx_overrun,
    /// Dropped: sent by a guest itself, and come back through the other port.
    rx_own,
    /// Dropped: the NIC reported an error with them.
    rx_damaged,
    /// Dropped: longer than the MTU allows. A NIC refuses most such frames, and counts them itself.
    rx_too_long,
    /// Dropped: larger than what the guest offers.
    rx_too_large,
    /// Malformed chains of the guest, given back unused.
    rx_malformed,
    /// Times received frames had to wait for chains of the guest.
    rx_backpressure,
    /// Taken over from NICs that had completed them for a failed domain.
    rx_salvaged,
    /// Lost with a failed domain: its NIC had completed them, but the guest had no chain for them,
    /// or they did not check.
    rx_lost,
    /// Protocol violations of domains.
    violations,
    /// Takeovers.
    takeovers,
    /// Planned switches.
    handovers,
    /// Kicks of parked domains.
    kicks,
    /// Interrupts of the guest.
    calls,
    /// Turns of the loop.
    turns,
    /// Times the loop slept.
    sleeps,
    /// Guest rings stopped because they are corrupt.
    guest_rings_broken,
}
