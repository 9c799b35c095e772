//! The domains' permanent places, each with or without a life, and what happens to a domain that
//! breaks the protocol.
//!
//! Invariants: a place has at most one life; the queues of a life that broke the protocol are not
//! handed out again by [`Domains::trusted`], and its violation is reported once.

use std::sync::Arc;

use microvm::domain::DomainSlot;

use super::queue_pair::QueuePair;
use crate::counters::Counters;
use crate::violation::{Violation, ViolationSink};

/// A domain's place: permanent, with a life or without.
struct DomainQueues {
    slot: Arc<DomainSlot>,
    pair: Option<Box<QueuePair>>,
}

/// All domains, each at the place that its number says.
pub(crate) struct Domains {
    places: Vec<DomainQueues>,
    sink: Arc<dyn ViolationSink>,
}

impl Domains {
    pub(crate) fn new(slots: Vec<Arc<DomainSlot>>, sink: Arc<dyn ViolationSink>) -> Self {
        let place = |slot| DomainQueues { slot, pair: None };
        Self { places: slots.into_iter().map(place).collect(), sink }
    }

    pub(crate) fn count(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn slot(&self, domain: usize) -> &DomainSlot {
        &self.places[domain].slot
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = &DomainSlot> {
        self.places.iter().map(|place| &*place.slot)
    }

    /// Slots of the domains that have a life.
    pub(crate) fn living(&self) -> impl Iterator<Item = &DomainSlot> {
        self.places.iter().filter(|place| place.pair.is_some()).map(|place| &*place.slot)
    }

    /// Gives a place a new life, and returns the one before.
    pub(crate) fn install(
        &mut self,
        domain: usize,
        pair: Box<QueuePair>,
    ) -> Option<Box<QueuePair>> {
        self.places[domain].pair.replace(pair)
    }

    /// Ends a life: nothing of its rings is touched afterwards.
    pub(crate) fn remove(&mut self, domain: usize) -> Option<Box<QueuePair>> {
        self.places[domain].pair.take()
    }

    /// The queues of a domain, unless it has no life or broke the protocol.
    #[inline]
    pub(crate) fn trusted(&mut self, domain: usize) -> Option<(&DomainSlot, &mut QueuePair)> {
        self.even_untrusted(domain).filter(|(_, pair)| pair.is_trusted())
    }

    /// The queues of a domain that has a life, even if it broke the protocol: what was checked
    /// before is still good.
    #[inline]
    pub(crate) fn even_untrusted(
        &mut self,
        domain: usize,
    ) -> Option<(&DomainSlot, &mut QueuePair)> {
        let DomainQueues { slot, pair } = &mut self.places[domain];
        Some((slot, pair.as_deref_mut()?))
    }

    /// The same as [`Self::trusted`], to look at only.
    #[inline]
    pub(crate) fn peek_trusted(&self, domain: usize) -> Option<&QueuePair> {
        self.places[domain].pair.as_deref().filter(|pair| pair.is_trusted())
    }

    /// The same as [`Self::even_untrusted`], to look at only.
    pub(crate) fn peek(&self, domain: usize) -> Option<&QueuePair> {
        self.places[domain].pair.as_deref()
    }

    /// Returns true if this life of a domain could serve. There need not be such a domain.
    pub(crate) fn is_fit(&self, domain: usize, epoch: u32) -> bool {
        let pair = self.places.get(domain).and_then(|place| place.pair.as_deref());
        pair.is_some_and(|pair| pair.epoch() == epoch && pair.is_trusted())
    }

    /// Notes a violation: the domain's rings are ignored from here on.
    pub(crate) fn distrust(&mut self, domain: usize, violation: Violation, counters: &Counters) {
        let DomainQueues { slot, pair } = &mut self.places[domain];
        let Some(pair) = pair.as_deref_mut().filter(|pair| pair.is_trusted()) else { return };
        pair.distrust();
        counters.violations.add(1);
        self.sink.violation(slot.id, pair.epoch(), violation);
    }
}
