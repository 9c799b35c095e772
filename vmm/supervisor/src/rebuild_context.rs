//! What the rebuild threads share.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use shared_ring::Role;

use super::event::Event;
use super::event_sink::EventSink;
use super::failover::Failover;
use super::images::Images;
use crate::coredump::{Capture, DumpOutcome, DumpWriter, Offer};
use crate::topology::Limits;
use microvm::domain::{DomainId, DomainSlot};
use platform::one_line::one_line;
use switchboard::Switchboard;

/// Everything that domains are built from.
pub(super) struct RebuildContext {
    pub(super) slots: Vec<Arc<DomainSlot>>,
    pub(super) switchboard: Arc<Switchboard>,
    pub(super) failover: Arc<Failover>,
    pub(super) event_sink: Arc<EventSink>,
    pub(super) images: Images,
    /// MAC addresses of the application guests.
    pub(super) macs: Vec<[u8; 6]>,
    /// The role in which a life starts: standby, with its NIC or without.
    pub(super) first_role: Role,
    pub(super) limits: Limits,
    pub(super) events: Sender<Event>,
    pub(super) dumps: Option<DumpWriter>,
    /// Held while a domain is built that has its NIC in common with others: so nobody else begins to
    /// serve while its thread has the NIC in hand.
    pub(super) shared_nic: Mutex<()>,
    /// What fails from now on stays failed.
    pub(super) abandoned: AtomicBool,
    /// The system ends.
    pub(super) stopped: AtomicBool,
}

impl RebuildContext {
    pub(super) fn tell(&self, event: Event) {
        // Nobody may listen; that is no reason to stop rebuilding.
        let _ = self.events.send(event);
    }

    /// Has a capture written, if dumps are wanted. Makes it on this thread, and never waits for the
    /// disk.
    pub(super) fn dump(&self, domain: DomainId, capture: impl FnOnce() -> Capture) {
        let Some(dumps) = &self.dumps else { return };
        if !dumps.offer(Offer::of_failure(capture())) {
            let reason = "the disk is slower than the failures".to_owned();
            self.tell(Event::DumpLost { domain, reason });
        }
    }
}

/// What the thread that writes dumps does with its news.
pub(super) fn dump_news(
    slots: &[Arc<DomainSlot>],
    events: Sender<Event>,
) -> impl Fn(&str, bool, DumpOutcome) + Send + 'static {
    let names: Vec<(String, DomainId)> =
        slots.iter().map(|slot| (slot.name.clone(), slot.id)).collect();
    move |name, requested, outcome| {
        let Some((_, domain)) = names.iter().find(|(known, _)| known == name) else { return };
        let domain = *domain;
        // Nobody may listen.
        let _ = events.send(match outcome {
            DumpOutcome::Saved(folder) => Event::Dumped { domain, folder, requested },
            DumpOutcome::Failed(error) => {
                let reason = one_line(&error);
                tracing::warn!(domain = name, %reason, "a dump is lost");
                Event::DumpLost { domain, reason }
            }
        });
    }
}
