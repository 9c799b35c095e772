//! The rebuild threads, one for each domain. Everything slow about a failure is done here, after
//! the service has gone on.
//!
//! ```text
//!  Begin ─────────────────────────────────┐
//!  Failure ─▶ record, copy for the dump ─▶│ due ─▶ attempt ─▶ Ready
//!               │ too often               │  ▲       │ failed
//!               ▼                         │  └ back-off, a few times
//!          Quarantined ─ over, or Needed ─┘          │ too often ─▶ Quarantined
//! ```
//! Each domain has a thread of its own, so that a domain whose rebuild fails, takes long or has to
//! wait does not delay another. An attempt waits for the NIC to fall silent, ends the old life and
//! starts a new one in the same memory. The domain stands by when its driver is attached, or serves
//! at once if no other domain does.
//!
//! Where the domains share one NIC, the NIC is left alone as long as another domain serves: the old
//! life ends when the NIC is programmed with the other domain's rings, which that domain's driver
//! reports by a second READY.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::domain::{Domain, LifeHandle};
use super::event::Event;
use super::failure_record::FailureRecorder;
use super::flapping::{FailureHistory, Restart};
use super::job_queue::{Job, JobReceiver, JobSender};
use super::rebuild_context::RebuildContext;
use super::roles::RoleState;
use super::verdict::FailoverRecord;
use super::wait::poll;
use microvm::domain::PrepareConfig;
use platform::budget::{
    BUILD_ATTEMPTS, NIC_RETRY_FIRST, NIC_RETRY_LONGEST, PAUSE_DEADLINE, READY_DEADLINE,
    REBUILD_BACKOFF,
};
use platform::clock::monotonic_ns;
use platform::realtime::guarded;

/// How often a thread with nothing to do looks whether its domain has failed: rarely, since a
/// failure is sent to it at once, and this is for one that was lost on its way.
const SAMPLE_PERIOD: Duration = Duration::from_secs(1);

/// Builds one domain, again and again.
pub(super) struct Rebuilder {
    context: Arc<RebuildContext>,
    domain: Domain,
    history: FailureHistory,
    /// It has been told to bring the domain up.
    begun: bool,
    /// Attempts that failed since the last success.
    attempts: u32,
    /// The NIC is to be reset before the next life.
    reset_due: bool,
    /// When the next attempt is due, if one is.
    due: Option<Instant>,
    /// The life that the present attempt replaces, until it is certain that it has ended.
    old_life: Option<LifeHandle>,
    /// Number of the last life that was attached.
    attached_epoch: u32,
    /// The NIC may have sent a guest's frame after the guests were announced elsewhere.
    sent_late: bool,
    /// Why the NIC is not there, and how often it was looked for, if it is not.
    absence: Option<(String, u32)>,
    /// The queue of the domain to begin with after the first attempt.
    next: Option<JobSender>,
}

/// Why one attempt to build a domain failed.
#[derive(Debug, thiserror::Error)]
enum BuildError {
    #[error("the domain that serves has not taken the NIC over yet")]
    NotHandedOver,
    #[error("its vCPU does not come out of the guest")]
    NotOut,
    #[error("its NIC does not fall silent")]
    Quiesce(#[source] nic::NicError),
    #[error("its NIC does not come back")]
    Nic(#[source] nic::NicError),
    #[error("its NIC is not there")]
    Absent(#[source] nic::NicError),
    #[error("its memory cannot be prepared")]
    Prepare(#[source] platform::memory::MemoryError),
    #[error("the switchboard does not take its rings")]
    Install(#[source] switchboard::SwitchboardError),
    #[error("its micro-VM does not start")]
    Start(#[source] microvm::domain::LifeError),
    #[error("its driver does not attach: {0}")]
    NotReady(String),
    #[error("its rebuild thread has panicked, a defect of this program")]
    Panicked,
}

/// An attempt that failed, and the number of its life.
struct FailedAttempt {
    epoch: u32,
    error: BuildError,
}

/// Which domain uses the NIC of a domain that is to be built.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NicUser {
    /// No other domain.
    Free,
    /// Another domain, which serves.
    Other,
}

/// How long to wait before a NIC is looked for again that was looked for so often.
fn nic_backoff(looked: u32) -> Duration {
    let factor = 2u32.checked_pow(looked).unwrap_or(u32::MAX);
    NIC_RETRY_FIRST.saturating_mul(factor).min(NIC_RETRY_LONGEST)
}

impl Rebuilder {
    /// The builder of one domain. It begins with `next` when its own first attempt is over, so the
    /// first domain of the topology is the first to serve, and has the processor to itself.
    pub(super) fn new(
        context: Arc<RebuildContext>,
        domain: Domain,
        next: Option<JobSender>,
    ) -> Self {
        let history = FailureHistory::new(context.limits);
        Self {
            context,
            domain,
            history,
            begun: false,
            attempts: 0,
            reset_due: false,
            due: None,
            old_life: None,
            attached_epoch: 0,
            sent_late: false,
            absence: None,
            next,
        }
    }

    /// Does its jobs until told to stop. A panic in one counts as a failed attempt: the domain is
    /// built again, and the service, which does not depend on this thread, goes on.
    pub(super) fn run(mut self, jobs: &JobReceiver) {
        let name = format!("build-{}", self.domain.name());
        while !self.context.is_stopped() {
            match guarded(&name, || self.step(jobs)) {
                Some(ControlFlow::Continue(())) => {}
                Some(ControlFlow::Break(())) => return,
                None => self.panicked(),
            }
        }
    }

    /// Does the next job, or what is due.
    fn step(&mut self, jobs: &JobReceiver) -> ControlFlow<()> {
        let left = self.due.map(|due| due.saturating_duration_since(Instant::now()));
        // Jobs come before attempts: a failure is recorded before the memory is used again.
        match jobs.next(left.unwrap_or(SAMPLE_PERIOD)) {
            Ok(Job::Begin) => self.begin(),
            Ok(Job::Failure(record)) => self.failed(record),
            Ok(Job::Needed) => self.end_quarantine(),
            Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(()),
            Err(RecvTimeoutError::Timeout) if left.is_some() => self.build(),
            Err(RecvTimeoutError::Timeout) => self.sample(),
        }
        ControlFlow::Continue(())
    }

    /// A job ended in a panic. What it had taken out of the table goes back there, so that the next
    /// attempt ends the old life before it uses the memory.
    fn panicked(&mut self) {
        let id = self.domain.id();
        if let Some(life) = self.old_life.take() {
            self.context.failover.return_life(id, life);
        }
        let (role, epoch) = self.context.failover.state(id);
        if role.can_serve() {
            self.attached_epoch = epoch;
            return;
        }
        self.attempt_failed(&FailedAttempt { epoch, error: BuildError::Panicked });
        self.begin_next();
    }

    /// The domain is built now, if it is not up.
    fn begin(&mut self) {
        self.begun = true;
        if self.context.failover.state(self.domain.id()).0.is_down() {
            self.due = Some(Instant::now());
        }
    }

    /// Nothing is due. A domain that has failed all the same is rebuilt, whatever became of the
    /// message.
    fn sample(&mut self) {
        let has_failed = self.context.failover.state(self.domain.id()).0 == RoleState::Failed;
        if !self.begun || !has_failed || self.context.abandoned.load(Ordering::Acquire) {
            return;
        }
        let domain = self.domain.name();
        tracing::warn!(domain, "a domain has failed and nobody has said so: it is rebuilt");
        // The message may be on its way yet, and then is handled first.
        self.due = Some(Instant::now() + REBUILD_BACKOFF);
    }

    /// A life that was attached has failed. A life that never was is handled by its own attempt.
    fn failed(&mut self, record: FailoverRecord) {
        if record.epoch != self.attached_epoch {
            return;
        }
        self.sent_late |= record.was_active;
        let recorder = FailureRecorder { context: &self.context, domain: &self.domain };
        let takeover = recorder.record(record);
        recorder.dump(&record, takeover);
        if self.context.abandoned.load(Ordering::Acquire) {
            return;
        }
        self.due = Some(Instant::now());
        self.reset_due |=
            record.verdict.blames_registers() && self.history.nic_failed(monotonic_ns());
        // A lost link is not the domain's own failure; a flapping link is held down where links are
        // judged.
        if record.verdict.is_own_fault() {
            let restart = self.history.failed(monotonic_ns());
            self.follow(restart);
        }
    }

    fn follow(&mut self, restart: Restart) {
        if let Restart::After { with_spare, without_spare } = restart {
            self.quarantine(with_spare, without_spare);
        }
    }

    /// Begins a quarantine, and reports it.
    fn quarantine(&mut self, with_spare: Duration, without_spare: Duration) {
        let id = self.domain.id();
        let dispensable = self.context.failover.is_dispensable(id);
        let pause = if dispensable { with_spare } else { without_spare };
        if self.context.failover.give_up(id).is_err() {
            return;
        }
        self.attempts = 0;
        // Whatever it is that building anew did not mend, the registers are not to blame next time.
        self.reset_due = true;
        self.due = Some(Instant::now() + pause);
        let domain = self.domain.name();
        tracing::warn!(domain, ?pause, "a domain failed too often and is left alone for a while");
        self.context.report(Event::Quarantined { domain: id, pause });
        // The domain that made this one dispensable may have failed since.
        if dispensable && !self.context.failover.is_dispensable(id) {
            self.end_quarantine();
        }
    }

    /// No domain serves: a quarantine ends soon.
    fn end_quarantine(&mut self) {
        if self.context.failover.state(self.domain.id()).0 == RoleState::Quarantined {
            let soon = Instant::now() + REBUILD_BACKOFF;
            self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
        }
    }

    /// Makes one attempt, and handles its outcome.
    fn build(&mut self) {
        self.due = None;
        match self.attempt() {
            Ok(state) => {
                self.attempts = 0;
                self.absence = None;
                let (domain, at_ns) = (self.domain.id(), monotonic_ns());
                self.context.report(Event::Ready { domain, state, at_ns });
            }
            Err(failed) => self.attempt_failed(&failed),
        }
        self.begin_next();
    }

    fn begin_next(&mut self) {
        if let Some(next) = self.next.take() {
            // Its queue is empty.
            next.send(Job::Begin);
        }
    }

    fn attempt_failed(&mut self, failed: &FailedAttempt) {
        self.context.failover.build_failed(self.domain.id(), failed.epoch);
        if let BuildError::Absent(_) = failed.error {
            self.await_nic_back(&failed.error);
            return;
        }
        self.attempts += 1;
        let given_up = self.attempts == BUILD_ATTEMPTS;
        self.report_failed(&failed.error, given_up);
        self.due = Some(Instant::now() + REBUILD_BACKOFF * 2u32.pow(self.attempts - 1));
        if given_up {
            let restart = self.history.quarantine(monotonic_ns());
            self.follow(restart);
        }
    }

    /// The NIC is not there, which is no fault of the domain: it is looked for again and again, and
    /// reported once.
    fn await_nic_back(&mut self, error: &BuildError) {
        let reason = platform::one_line::one_line(error);
        let looked = match &self.absence {
            Some((known, looked)) if *known == reason => looked + 1,
            _ => {
                self.report_failed(error, false);
                0
            }
        };
        self.absence = Some((reason, looked));
        self.due = Some(Instant::now() + nic_backoff(looked));
    }

    fn report_failed(&self, error: &BuildError, given_up: bool) {
        let reason = platform::one_line::one_line(error);
        let domain = self.domain.name();
        tracing::warn!(domain, %reason, given_up, "a domain could not be built");
        self.context.report(Event::BuildFailed { domain: self.domain.id(), reason, given_up });
    }
}

/// One attempt.
impl Rebuilder {
    fn attempt(&mut self) -> Result<RoleState, FailedAttempt> {
        // Not even a new life is begun without a NIC, however often it is looked for.
        if !self.domain.nic_is_present() && self.absence.is_some() {
            let absent = |error| FailedAttempt { epoch: 0, error: BuildError::Absent(error) };
            self.domain.reopen_nic().map_err(absent)?;
        }
        let begun = self.context.failover.begin_rebuild(self.domain.id());
        let (epoch, old_life) = begun.map_err(|error| FailedAttempt {
            epoch: 0,
            error: BuildError::NotReady(error.to_string()),
        })?;
        self.old_life = old_life;
        self.attempt_life(epoch).map_err(|error| FailedAttempt { epoch, error })
    }

    /// Ends the life that is to be replaced.
    fn end_old_life(&mut self) -> Result<(), BuildError> {
        let Some(life) = &self.old_life else { return Ok(()) };
        if life.end(PAUSE_DEADLINE) {
            life.revoke_memory();
            return Ok(());
        }
        // The memory is the old life's until it is out; the next attempt asks again.
        self.context.failover.return_life(self.domain.id(), life.clone());
        self.old_life = None;
        Err(BuildError::NotOut)
    }

    fn attempt_life(&mut self, epoch: u32) -> Result<RoleState, BuildError> {
        let id = self.domain.id();
        self.end_old_life()?;
        let context = self.context.clone();
        let _shared_nic = context.lock_shared_nic();
        let user = self.await_nic()?;
        if user == NicUser::Free {
            self.quiesce()?;
            self.reannounce()?;
            self.domain.reopen_nic().map_err(BuildError::Absent)?;
        }
        self.old_life = None;
        if user == NicUser::Free && (self.attempts > 0 || self.reset_due) {
            self.reset()?;
        }
        let life = self.start(epoch, user)?;
        if !context.event_sink.wait_ready(id, epoch, READY_DEADLINE) {
            life.end(PAUSE_DEADLINE);
            return Err(BuildError::NotReady(life.crash_summary()));
        }
        let ready = context.failover.ready(id);
        let role = ready.ok_or_else(|| BuildError::NotReady(life.crash_summary()))?;
        self.attached_epoch = epoch;
        Ok(role)
    }

    /// Waits until the NIC reaches memory no more. Where it has refused that before, and nothing
    /// else is left, it is reset and asked once more.
    fn quiesce(&mut self) -> Result<(), BuildError> {
        let quiesced = self.domain.quiesce();
        if quiesced.is_err() && self.attempts > 0 && self.reset().is_ok() {
            return self.domain.quiesce().map_err(BuildError::Quiesce);
        }
        quiesced.map_err(BuildError::Quiesce)
    }

    /// Resets the NIC. A driver that attaches again writes some of its registers; the domain could
    /// have written any.
    fn reset(&mut self) -> Result<(), BuildError> {
        self.domain.reset().map_err(BuildError::Nic)?;
        self.reset_due = false;
        Ok(())
    }

    /// A late frame of the NIC may have drawn the guests' addresses back to the wrong switch port,
    /// and a guest that only answers would be cut off then. No such frame can come from here on, so
    /// the guests are announced once more.
    fn reannounce(&mut self) -> Result<(), BuildError> {
        if std::mem::take(&mut self.sent_late) {
            self.context.switchboard.reannounce().map_err(BuildError::Install)?;
        }
        Ok(())
    }

    /// Finds out which domain uses the NIC. If another one does, waits until that domain's driver
    /// has attached the NIC: only then does the NIC no longer know the memory that is to be used
    /// again.
    fn await_nic(&self) -> Result<NicUser, BuildError> {
        let failover = &self.context.failover;
        if !failover.shares_nic {
            return Ok(NicUser::Free);
        }
        // A domain that does not attach in its own time fails, and then no domain uses the NIC.
        let user =
            poll(READY_DEADLINE * 2, || match failover.successor_attached(self.domain.id()) {
                _ if self.context.is_stopped() => Some(Err(BuildError::NotHandedOver)),
                None => Some(Ok(NicUser::Free)),
                Some(true) => Some(Ok(NicUser::Other)),
                Some(false) => None,
            });
        user.unwrap_or(Err(BuildError::NotHandedOver))
    }

    fn start(&self, epoch: u32, user: NicUser) -> Result<LifeHandle, BuildError> {
        let (domain, context) = (&self.domain, &self.context);
        let id = domain.id();
        // Detached first, while the old life's cursors and descriptors still stand in its memory:
        // the switchboard counts what that life had in hand, and salvages what it had received.
        context.switchboard.detach(id).map_err(BuildError::Install)?;
        let (role, shares_nic) = (context.first_role, context.failover.shares_nic);
        let (macs, mtu) = (context.macs.as_slice(), context.switchboard.mtu());
        // What a shared NIC received is several domains'.
        if !shares_nic {
            domain.end_accounts();
        }
        domain
            .prepare(&PrepareConfig { epoch, role, shares_nic, macs, mtu })
            .map_err(BuildError::Prepare)?;
        context.switchboard.install(id, epoch).map_err(BuildError::Install)?;
        if user == NicUser::Free {
            domain.enable_nic().map_err(BuildError::Nic)?;
        }
        let image = context.images.take_for(id, epoch);
        if !shares_nic {
            domain.begin_accounts();
        }
        let life =
            domain.start(image, epoch, context.event_sink.clone()).map_err(BuildError::Start)?;
        context.failover.enter_life(id, life.clone());
        context.event_sink.life_entered(id);
        Ok(life)
    }
}
