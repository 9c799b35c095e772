//! The switchboard's side of one guest.
//!
//! Invariant: between two turns of the loop no chain is taken, and none that was given back is
//! hidden from the guest; so a ring can be replaced there.

use vm_memory::VolatileSlice;

use super::events::PortEvents;
use super::guard;
use super::incoming::{Delivery, Incoming};
use super::numbers::{RINGS, RX_RING, TX_RING};
use super::outgoing::{GuestFrame, Outgoing, Taken};
use super::vring::Vring;

/// The switchboard's side of a guest.
pub(crate) struct GuestPort {
    rings: [Option<Box<Vring>>; RINGS],
    incoming: Incoming,
    outgoing: Outgoing,
    faults_seen: u32,
}

impl GuestPort {
    /// A guest whose frames have at most so many bytes.
    pub(crate) fn new(longest_bytes: usize) -> Self {
        Self {
            rings: [None, None],
            incoming: Incoming::new(),
            outgoing: Outgoing::new(longest_bytes),
            faults_seen: guard::faults(),
        }
    }

    /// The place of a virtqueue, to stop it or to start another.
    pub(crate) fn place(&mut self, ring: usize) -> &mut Option<Box<Vring>> {
        &mut self.rings[ring]
    }

    /// Returns true if a virtqueue is there, corrupt or not.
    pub(crate) fn has_ring(&self, ring: usize) -> bool {
        self.rings[ring].is_some()
    }

    /// The virtqueue, if it is running and not corrupt.
    fn running(&mut self, ring: usize) -> Option<&mut Vring> {
        self.rings[ring].as_deref_mut().filter(|vring| vring.is_intact())
    }

    /// Returns true if the guest can be given frames at all.
    pub(crate) fn receives(&mut self) -> bool {
        self.running(RX_RING).is_some_and(|vring| vring.enabled)
    }

    /// Returns true if the guest has chains for received frames.
    pub(crate) fn has_room(&mut self) -> bool {
        self.running(RX_RING).is_some_and(Vring::has_chains)
    }

    /// `None` unless the guest's transmit ring is running; `Some(false)` if it is disabled, so that
    /// its frames are to be thrown away.
    pub(crate) fn transmits(&mut self) -> Option<bool> {
        self.running(TX_RING).map(|vring| vring.enabled)
    }

    /// Copies a frame into the guest's memory: its checked head, then the `rest` from a pool.
    /// Returns what became of it, and counts malformed chains in `malformed`.
    pub(crate) fn deliver(
        &mut self,
        head: &[u8],
        rest: &[VolatileSlice<'_>],
        malformed: &mut u64,
    ) -> Delivery {
        let vring = self.rings[RX_RING].as_deref_mut();
        let Some(vring) = vring.filter(|vring| vring.is_intact() && vring.enabled) else {
            return Delivery::NoGuest;
        };
        self.incoming.deliver(vring, head, rest, malformed)
    }

    /// Takes the next chain that the guest sends.
    pub(crate) fn take_chain(&mut self) -> Taken {
        let Some(vring) = self.rings[TX_RING].as_deref_mut() else { return Taken::Nothing };
        self.outgoing.take_chain(vring)
    }

    /// The next frame of the chain that was taken; `None` if that was all.
    pub(crate) fn next_frame(&mut self) -> Option<GuestFrame<'_>> {
        self.outgoing.next_frame(self.rings[TX_RING].as_deref()?)
    }

    /// Leaves the chain that was taken in the guest's ring after all; nothing of it was sent.
    pub(crate) fn leave_chain(&mut self) {
        if let Some(vring) = &mut self.rings[TX_RING] {
            self.outgoing.leave_chain(vring);
        }
    }

    /// Gives back the chain that was taken.
    pub(crate) fn return_chain(&mut self) {
        if let Some(vring) = &mut self.rings[TX_RING] {
            self.outgoing.return_chain(vring);
        }
    }

    /// Shows the guest what was given back. Returns how often it was interrupted.
    pub(crate) fn publish(&mut self) -> u64 {
        self.rings.iter_mut().flatten().map(|vring| u64::from(vring.publish())).sum()
    }

    /// Asks for kicks before a sleep, on the rings that are waited for. Returns true if there is
    /// something already.
    pub(crate) fn arm(&mut self, wanted: [bool; RINGS]) -> bool {
        let armed = |(vring, wanted): (&mut Option<Box<Vring>>, bool)| {
            wanted && vring.as_deref_mut().is_some_and(Vring::arm)
        };
        // No short cut: both must be armed.
        self.rings.iter_mut().zip(wanted).map(armed).fold(false, |any, more| any | more)
    }

    /// Takes the requests for kicks back, after a sleep.
    pub(crate) fn disarm(&mut self) {
        self.rings.iter_mut().flatten().for_each(|vring| vring.disarm());
    }

    /// Returns true if a ring must be looked at without ever being kicked.
    pub(crate) fn has_deaf_ring(&self) -> bool {
        self.rings.iter().flatten().any(|vring| vring.is_intact() && vring.kick.is_deaf())
    }

    /// Looks for damage that a turn has shown: truncated memory, corrupt rings. Stops the rings
    /// concerned, tells the connection's thread, and returns how many were stopped.
    pub(crate) fn inspect(&mut self, events: &PortEvents) -> u64 {
        let mut stopped = 0;
        let faults = guard::faults();
        if faults != self.faults_seen {
            self.faults_seen = faults;
            for vring in self.rings.iter_mut().flatten() {
                if vring.is_truncated() {
                    vring.break_off();
                    events.raise(&events.truncated);
                }
            }
        }
        for (vring, broken) in self.rings.iter_mut().zip(&events.broken) {
            if vring.as_deref_mut().is_some_and(Vring::newly_broken) {
                events.raise(broken);
                stopped += 1;
            }
        }
        stopped
    }
}
