//! What takeovers and handovers are made of: beginning and ceasing to serve, and the steps between.

use std::sync::atomic::Ordering;

use super::DataPath;
use crate::domains::QueuePair;
use crate::engine::serving::Serving;
use crate::salvage::{Salvaged, salvage};
use crate::tx_path::{GuestSide, Settled};

impl DataPath {
    /// Returns true if this life of a domain could serve.
    pub(in crate::engine) fn is_fit(&self, domain: usize, epoch: u32) -> bool {
        self.domains.is_fit(domain, epoch)
    }

    /// An installed life serves from now on. Returns false if it is not fit for that.
    pub(in crate::engine) fn begin(
        &mut self,
        serving: &mut Serving,
        domain: usize,
        epoch: u32,
    ) -> bool {
        let fit = self.is_fit(domain, epoch);
        if fit {
            self.tx.begin(&*self.domains.slot(domain).nic);
            serving.begin(domain);
        }
        fit
    }

    /// The domain that serves does so no more: its last claims are read, its NIC is asked for the
    /// last time, and all that is not confirmed waits to be posted again.
    pub(in crate::engine) fn settle(
        &mut self,
        serving: &mut Serving,
        domain: usize,
        ask_nic: bool,
    ) -> Settled {
        let mut claims = 0;
        // A violation in its last claims does not matter now: the domain has failed.
        let _ = self.read_claims(serving, &mut claims);
        serving.end();
        self.stop_announcing();
        let pair = self.domains.peek(domain);
        self.tx.settle(self.domains.slot(domain), pair, ask_nic, &self.shared.counters)
    }

    /// Posts everything that waits to the domain that just began to serve, and wakes it. Returns
    /// how many frames had been posted before.
    pub(in crate::engine) fn publish_all(&mut self, domain: usize, now_ns: u64) -> u64 {
        let Self { domains, tx, shared, .. } = self;
        let counters = &shared.counters;
        let resent_before = counters.tx_resent.get();
        let Some((slot, pair)) = domains.even_untrusted(domain) else { return 0 };
        match tx.post(pair, now_ns, counters).and_then(|()| pair.publish(slot)) {
            Ok(kicked) => counters.kicks.add(u64::from(kicked)),
            Err(violation) => self.report(Some(domain), Err(violation)),
        }
        self.shared.counters.tx_resent.get() - resent_before
    }

    /// The same behind an announcement of each guest, which has a new port since `now_ns`.
    pub(in crate::engine) fn publish_announced(&mut self, domain: usize, now_ns: u64) -> u64 {
        self.start_announcing(now_ns);
        let announced = self.announcer.lead(&mut self.tx.reserved());
        self.shared.counters.announced.add(announced);
        self.publish_all(domain, now_ns)
    }

    /// Hands on the received frames that a failed life leaves; also for a domain that only
    /// received, and for one that is not trusted any more.
    pub(in crate::engine) fn salvage(&mut self, domain: usize) -> Salvaged {
        let Self { domains, guests, rx, announcer, shared, .. } = self;
        let Some((slot, pair)) = domains.even_untrusted(domain) else { return Salvaged::default() };
        let side = GuestSide::new(guests, announcer, shared);
        let salvaged = salvage(rx.inbound(domain, slot, side), slot, pair);
        shared.counters.rx_salvaged.add(salvaged.salvaged);
        shared.counters.rx_lost.add(salvaged.lost);
        salvaged
    }

    /// Takes everything that a domain received which goes on as a standby.
    pub(in crate::engine) fn take_last(&mut self, domain: usize) {
        let Self { domains, guests, rx, announcer, shared, .. } = self;
        let Some((slot, pair)) = domains.trusted(domain) else { return };
        let side = GuestSide::new(guests, announcer, shared);
        let taken = rx.inbound(domain, slot, side).take_last(pair);
        self.report(Some(domain), taken);
    }

    /// Gives a domain a new life, and returns the one before.
    pub(in crate::engine) fn install(
        &mut self,
        domain: usize,
        pair: Box<QueuePair>,
    ) -> Option<Box<QueuePair>> {
        self.domains.install(domain, pair)
    }

    /// Forgets a life's rings.
    pub(in crate::engine) fn remove(&mut self, domain: usize) -> Option<Box<QueuePair>> {
        let pair = self.domains.remove(domain)?;
        self.domains.slot(domain).accounts.note_known(pair.received().into());
        Some(pair)
    }

    /// Both NICs receive from now on.
    pub(in crate::engine) fn begin_overlap(&mut self) {
        self.rx.begin_overlap();
    }

    /// The ring has changed hands in a planned switch.
    pub(in crate::engine) fn note_changed_hands(&mut self, now_ns: u64) {
        self.rx.change_hands(now_ns);
    }

    /// Only one NIC receives from now on.
    pub(in crate::engine) fn end_overlap(&mut self, now_ns: u64) {
        self.rx.end_overlap(now_ns);
    }

    /// Watches for the guests' own frames at the port that was left.
    pub(in crate::engine) fn watch_left_port(&mut self, domain: usize) {
        self.announcer.forget_returned();
        self.rx.watch_left_port(domain);
    }

    /// The planned switch is over.
    pub(in crate::engine) fn forget_left_port(&mut self) {
        self.rx.forget_left_port();
    }

    /// Tells whoever waits for it when announcements of all guests have come round to the port that
    /// was left, from each address and in each VLAN.
    pub(in crate::engine) fn note_settled(&self) {
        if self.rx.watches_left_port() && self.announcer.have_returned() {
            self.set_settled(true);
        }
    }

    pub(in crate::engine) fn set_settled(&self, settled: bool) {
        self.shared.settled.store(settled, Ordering::Release);
    }

    /// Returns true if every frame that was taken from the guests is confirmed.
    pub(in crate::engine) fn has_sent_all(&self) -> bool {
        self.tx.unconfirmed() == 0
    }

    pub(in crate::engine) fn start_announcing(&mut self, now_ns: u64) {
        self.announcer.start(now_ns);
    }

    pub(in crate::engine) fn announce_guest(&mut self, guest: usize, now_ns: u64) {
        self.announcer.start_one(guest, now_ns);
    }

    pub(in crate::engine) fn stop_announcing(&mut self) {
        self.announcer.stop();
    }

    /// Returns true if announcements are still to come.
    pub(in crate::engine) fn is_announcing(&self) -> bool {
        self.announcer.due_ns().is_some()
    }
}
