//! What the rebuild threads share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared_ring::Role;

use super::event::Event;
use super::event_sink::EventSink;
use super::failover::Failover;
use super::images::Images;
use crate::coredump::{Capture, DumpOutcome, DumpWriter, Offer};
use crate::topology::Limits;
use microvm::domain::DomainId;
use platform::one_line::one_line;
use switchboard::Switchboard;

/// Everything from which domains are built.
pub(super) struct RebuildContext {
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
    /// Held while a domain is built whose NIC other domains have too, so that no other domain
    /// begins to serve while the rebuild thread works on the NIC.
    pub(super) shared_nic: Mutex<()>,
    /// Domains that fail from now on are not rebuilt.
    pub(super) abandoned: AtomicBool,
    /// The system ends.
    pub(super) stopped: AtomicBool,
}

impl RebuildContext {
    pub(super) fn report(&self, event: Event) {
        // The receiver may be gone; rebuilding goes on without it.
        let _ = self.events.send(event);
    }

    /// Has a capture written, if dumps are wanted. The capture is made on this thread, which never
    /// waits for the disk.
    pub(super) fn dump(&self, domain: DomainId, capture: impl FnOnce() -> Capture) {
        let Some(dumps) = &self.dumps else { return };
        if !dumps.offer(Offer::of_failure(capture())) {
            let reason = "the disk is slower than the failures".to_owned();
            self.report(Event::DumpLost { domain, reason });
        }
    }

    /// Locks the NIC that all domains share; `None` if each domain has a NIC of its own.
    pub(super) fn lock_shared_nic(&self) -> Option<MutexGuard<'_, ()>> {
        let lock = || self.shared_nic.lock().unwrap_or_else(PoisonError::into_inner);
        self.failover.shares_nic.then(lock)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

/// Makes the function that the thread "dumps" calls with each outcome: it reports the outcome as an
/// event. `names` are those of the domains.
pub(super) fn dump_reporter(
    names: Vec<(String, DomainId)>,
    events: Sender<Event>,
) -> impl Fn(&str, bool, DumpOutcome) + Send + 'static {
    move |name, requested, outcome| {
        let Some((_, domain)) = names.iter().find(|(known, _)| known == name) else { return };
        let domain = *domain;
        // The receiver may be gone.
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
