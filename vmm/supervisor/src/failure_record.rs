//! What a rebuild thread does about a failure before it rebuilds: it collects what is known,
//! reports it, and copies the failed life for a dump.

use super::domain::{Domain, LifeHandle};
use super::event::{Event, FailoverReport};
use super::rebuild_context::RebuildContext;
use super::roles::RoleState;
use super::verdict::{FailoverRecord, Verdict};
use super::wait::poll;
use crate::coredump::CaptureConfig;
use microvm::domain::DomainId;
use platform::budget::{FIRST_FRAME_DEADLINE, PAUSE_DEADLINE, REBUILD_YIELD};
use switchboard::{QuarantinedFrame, TakeOverReport};

/// Records the failures of one domain.
pub(super) struct FailureRecorder<'a> {
    pub(super) context: &'a RebuildContext,
    pub(super) domain: &'a Domain,
}

impl FailureRecorder<'_> {
    /// Collects what is known of a failure, and reports it.
    pub(super) fn record(&self, record: FailoverRecord) -> TakeOverReport {
        let first_sent_ns = record.to.and_then(|to| self.await_first_frame(to));
        let takeover = record.to.map(|_| self.takeover_report(record.verdict_ns));
        let takeover = takeover.unwrap_or_default();
        let life = self.context.failover.life_of(self.domain.id());
        let undone = [record.unpublished_ns, Some(takeover.oldest_ns).filter(|&at_ns| at_ns != 0)];
        let report = FailoverReport {
            record,
            felt_ns: undone.into_iter().flatten().fold(record.verdict_ns, u64::min),
            first_sent_ns,
            resent: takeover.resent,
            poisoned: takeover.poisoned,
            salvaged: takeover.salvaged,
            crash_summary: life.map_or_else(String::new, |life| life.crash_summary()),
        };
        self.context.report(Event::Failover(Box::new(report)));
        takeover
    }

    /// Waits for the stamp of the spare's first frame, or, if its NIC stamps none, until the
    /// service is back. Does not wait for a spare that has failed in turn, because this domain is
    /// needed then.
    fn await_first_frame(&self, to: DomainId) -> Option<u64> {
        let failover = &self.context.failover;
        let (spare, (_, epoch)) = (failover.domain(to), failover.state(to));
        let failed = || failover.state(to) != (RoleState::Active, epoch);
        if spare.stamps_first_sent() {
            let stamp = || spare.first_sent_ns().map(Some).or_else(|| failed().then_some(None));
            return poll(FIRST_FRAME_DEADLINE, stamp).flatten();
        }
        self.await_service(spare, epoch, failed);
        None
    }

    /// Waits until a spare on hardware has its NIC and its link is up: before that this domain,
    /// once rebuilt, would look like the better one. Then waits until a frame has come in and one
    /// has gone out after it, because a rebuild takes the processors and the bus that these need.
    fn await_service(&self, spare: &Domain, epoch: u32, failed: impl Fn() -> bool) {
        let counters = self.context.switchboard.counters();
        let serves = || spare.is_attached(epoch) && spare.link_is_up();
        poll(FIRST_FRAME_DEADLINE, || (serves() || failed()).then_some(()));
        let (heard, mut claimed) = (counters.received(), None);
        poll(REBUILD_YIELD, || {
            let now = counters.tx_claimed.get();
            let answered = counters.received() > heard && now > *claimed.get_or_insert(now);
            (answered || failed()).then_some(())
        });
    }

    /// Waits until the switchboard has carried out the takeover of this verdict. The report is
    /// empty if a later takeover has come, or if it takes too long.
    fn takeover_report(&self, verdict_ns: u64) -> TakeOverReport {
        let done = || {
            let report = self.context.switchboard.report();
            (report.verdict_ns >= verdict_ns).then_some(report)
        };
        let report = poll(FIRST_FRAME_DEADLINE, done).unwrap_or_default();
        if report.verdict_ns == verdict_ns { report } else { TakeOverReport::default() }
    }

    /// Copies the failed life for a dump, if dumps are wanted.
    pub(super) fn dump(&self, record: &FailoverRecord, takeover: TakeOverReport) {
        if self.context.dumps.is_none() {
            return;
        }
        let Some(life) = self.context.failover.life_of(self.domain.id()) else { return };
        let mut poison = self.context.switchboard.quarantine();
        poison.retain(|frame| takeover.poisoned > 0 && frame.takeover == takeover.sequence);
        self.dump_life(&life, record, poison);
    }

    fn dump_life(&self, life: &LifeHandle, record: &FailoverRecord, poison: Vec<QuarantinedFrame>) {
        life.order_out();
        // Its registers are collected when the vCPU is out, or a moment later.
        let _ = poll(PAUSE_DEADLINE, || life.is_collected().then_some(()));
        let config = CaptureConfig {
            cause: record.verdict.cause(),
            text: match record.verdict {
                Verdict::Crash(_) => life.crash_summary(),
                verdict => verdict.to_string(),
            },
            verdict_ns: record.verdict_ns,
            was_active: record.was_active,
            poison,
        };
        self.context.dump(self.domain.id(), || self.domain.capture(life, config));
    }
}
