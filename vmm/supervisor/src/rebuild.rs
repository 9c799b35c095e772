//! The rebuild threads, one for each domain: everything slow about a failure, done after the service
//! goes on.
//!
//! ```text
//!  Begin ─────────────────────────────────┐
//!  Failure ─▶ record, copy for the dump ─▶│ due ─▶ attempt ─▶ Ready
//!               │ too often               │  ▲       │ failed
//!               ▼                         │  └ back-off, a few times
//!          Quarantined ─ over, or Needed ─┘          │ too often ─▶ Quarantined
//! ```
//! Each domain has a thread of its own, so that one whose rebuild fails, takes long or has to wait
//! does not hold up another's. An attempt waits for the NIC to fall silent, lets the old life go and
//! builds a new one in the same slot. It stands by when its driver is attached, or serves at once if
//! nobody else does.
//!
//! Where the domains share one NIC, it is left alone as long as another domain serves: the old life
//! goes when the NIC is programmed with the other's rings, which its driver tells by a second READY.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::event::{Event, FailoverReport};
use super::failover::Job;
use super::flapping::{FailureHistory, Restart};
use super::roles::RoleState;
use super::verdict::{FailoverRecord, Verdict};
use super::workshop::Workshop;
use crate::coredump::{Capture, CaptureConfig};
use microvm::domain::{DomainId, DomainSlot, Life, PrepareConfig};
use platform::budget::{
    BUILD_ATTEMPTS, FIRST_FRAME_DEADLINE, PAUSE_DEADLINE, READY_DEADLINE, REBUILD_BACKOFF,
    REBUILD_LOOK, SERVICE_FIRST,
};
use platform::clock::monotonic_ns;
use switchboard::{QuarantinedFrame, TakeOverReport};

/// Builds one domain, again and again.
pub(super) struct Rebuilder {
    shop: Arc<Workshop>,
    slot: Arc<DomainSlot>,
    history: FailureHistory,
    /// Attempts that failed since the last success.
    attempts: u32,
    /// When the next attempt is due, if one is.
    due: Option<Instant>,
    /// The last life that was attached.
    attached_epoch: u32,
    /// Its NIC may have sent a frame of a guest's after the guests were announced elsewhere.
    strayed: bool,
    /// Whom to begin with after the first attempt.
    next: Option<SyncSender<Job>>,
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
    #[error("its memory cannot be prepared")]
    Prepare(#[source] platform::memory::MemoryError),
    #[error("the switchboard does not take its rings")]
    Install(#[source] switchboard::SwitchboardError),
    #[error("its micro-VM does not start")]
    Start(#[source] microvm::domain::LifeError),
    #[error("its driver does not attach: {0}")]
    NotReady(String),
}

impl Rebuilder {
    /// The builder of one domain, which begins with `next` when its own first attempt is over: so
    /// the first domain of the topology is the first to serve, and has the processor to itself.
    pub(super) fn new(
        shop: Arc<Workshop>,
        slot: Arc<DomainSlot>,
        next: Option<SyncSender<Job>>,
    ) -> Self {
        let history = FailureHistory::new(shop.limits);
        Self {
            shop,
            slot,
            history,
            attempts: 0,
            due: None,
            attached_epoch: 0,
            strayed: false,
            next,
        }
    }

    /// Does its jobs until told to stop.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        while !self.shop.stopped.load(Ordering::Acquire) {
            // Jobs before attempts: a failure is recorded before its memory is used again.
            match self.next_job(jobs) {
                Ok(Job::Begin) => self.due = Some(Instant::now()),
                Ok(Job::Failure(record)) => self.failed(record),
                Ok(Job::Needed) => self.hurry(),
                Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => self.build(),
            }
        }
    }

    fn next_job(&self, jobs: &Receiver<Job>) -> Result<Job, RecvTimeoutError> {
        match self.due {
            Some(due) => jobs.recv_timeout(due.saturating_duration_since(Instant::now())),
            None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// A life that was attached has failed. One that never was is the business of its attempt.
    fn failed(&mut self, record: FailoverRecord) {
        if record.epoch != self.attached_epoch {
            return;
        }
        self.strayed |= record.was_active;
        let takeover = self.record(record);
        self.dump(&record, takeover);
        if self.shop.abandoned.load(Ordering::Acquire) {
            return;
        }
        self.due = Some(Instant::now());
        // A lost link is no failure of the domain; what is done against a flapping one is done
        // where links are judged.
        if record.verdict.is_own_fault()
            && let Restart::After { quarantine, lonely } = self.history.failed(monotonic_ns())
        {
            self.quarantine(quarantine, lonely);
        }
    }

    /// Nobody serves: a quarantine ends soon.
    fn hurry(&mut self) {
        if self.shop.failover.state(self.slot.id).0 == RoleState::Quarantined {
            let soon = Instant::now() + REBUILD_BACKOFF;
            self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
        }
    }

    /// Leaves the domain alone for a while, and says so.
    fn quarantine(&mut self, quarantine: Duration, lonely: Duration) {
        let id = self.slot.id;
        let dispensable = self.shop.failover.is_dispensable(id);
        let pause = if dispensable { quarantine } else { lonely };
        if self.shop.failover.give_up(id).is_err() {
            return;
        }
        self.attempts = 0;
        self.due = Some(Instant::now() + pause);
        let domain = &self.slot.name;
        tracing::warn!(domain, ?pause, "a domain failed too often and is left alone for a while");
        self.shop.tell(Event::Quarantined { domain: id, pause });
        // Whoever it relied on may have failed since it was asked.
        if dispensable && !self.shop.failover.is_dispensable(id) {
            self.hurry();
        }
    }

    /// Collects what is known of a failure, and tells of it.
    fn record(&self, record: FailoverRecord) -> TakeOverReport {
        let first_sent_ns = record.to.and_then(|to| self.first_frame(to));
        let takeover = record.to.map(|_| self.takeover_report(record.verdict_ns));
        let takeover = takeover.unwrap_or_default();
        let report = FailoverReport {
            record,
            first_sent_ns,
            resent: takeover.resent,
            poisoned: takeover.poisoned,
            salvaged: takeover.salvaged,
            epitaph: self.epitaph(),
        };
        self.shop.tell(Event::Failover(Box::new(report)));
        takeover
    }

    fn epitaph(&self) -> String {
        let life = self.shop.failover.life(self.slot.id);
        life.map_or_else(String::new, |life| life.epitaph())
    }

    /// Waits, off the path, for the stamp of the spare's first frame; where the NIC stamps none, until
    /// the service is back. Not for one that has failed in turn: then this domain is needed.
    fn first_frame(&self, to: DomainId) -> Option<u64> {
        let (nic, (_, epoch)) = (&self.shop.slots[to.index()].nic, self.shop.failover.state(to));
        let failed = || self.shop.failover.state(to) != (RoleState::Active, epoch);
        if nic.stamps_first_sent() {
            let stamp = || nic.first_sent_ns().map(Some).or_else(|| failed().then_some(None));
            return poll(FIRST_FRAME_DEADLINE, stamp).flatten();
        }
        self.await_service(to, epoch, failed);
        None
    }

    /// Waits until a spare on hardware has its NIC and its link is up: before that this domain, once
    /// built anew, would look like the better one. Then until a frame has come in and one has gone out
    /// after it, because building takes the processors and the bus that these need.
    fn await_service(&self, to: DomainId, epoch: u32, failed: impl Fn() -> bool) {
        let (slot, counters) = (&self.shop.slots[to.index()], self.shop.switchboard.counters());
        let serves = || slot.is_attached(epoch) && slot.nic.link_up();
        poll(FIRST_FRAME_DEADLINE, || (serves() || failed()).then_some(()));
        let (heard, mut claimed) = (counters.received(), None);
        poll(SERVICE_FIRST, || {
            let now = counters.tx_claimed.get();
            let answered = counters.received() > heard && now > *claimed.get_or_insert(now);
            (answered || failed()).then_some(())
        });
    }

    /// Waits until the switchboard has carried the takeover of this verdict out. Empty if a later one
    /// has come, or it takes too long.
    fn takeover_report(&self, verdict_ns: u64) -> TakeOverReport {
        let done = || {
            let report = self.shop.switchboard.report();
            (report.verdict_ns >= verdict_ns).then_some(report)
        };
        let report = poll(FIRST_FRAME_DEADLINE, done).unwrap_or_default();
        if report.verdict_ns == verdict_ns { report } else { TakeOverReport::default() }
    }

    /// Copies the failed life for a dump, if dumps are wanted.
    fn dump(&self, record: &FailoverRecord, takeover: TakeOverReport) {
        let Some(life) = self.shop.failover.life(self.slot.id) else { return };
        let mut poison = self.shop.switchboard.quarantine();
        poison.retain(|frame| takeover.poisoned > 0 && frame.takeover == takeover.sequence);
        self.dump_life(&life, record.verdict.cause(), record, poison);
    }

    fn dump_life(
        &self,
        life: &Life,
        cause: &'static str,
        record: &FailoverRecord,
        poison: Vec<QuarantinedFrame>,
    ) {
        if self.shop.dumps.is_none() {
            return;
        }
        life.expel();
        // Its registers are there when it is out, or a moment later.
        let _ = poll(PAUSE_DEADLINE, || life.outcome());
        let config = CaptureConfig {
            cause,
            text: match record.verdict {
                Verdict::Crash(_) => life.epitaph(),
                verdict => verdict.to_string(),
            },
            verdict_ns: record.verdict_ns,
            was_active: record.was_active,
            poison,
        };
        self.shop.dump(self.slot.id, || Capture::of(&self.slot, life, config));
    }

    /// One attempt, and what follows of it.
    fn build(&mut self) {
        self.due = None;
        let id = self.slot.id;
        match self.attempt() {
            Ok(state) => {
                self.attempts = 0;
                self.shop.tell(Event::Ready { domain: id, state, at_ns: monotonic_ns() });
            }
            Err(Attempt { epoch, error }) => {
                self.shop.failover.build_failed(id, epoch);
                self.attempts += 1;
                let given_up = self.attempts == BUILD_ATTEMPTS;
                self.tell_build_failed(&error, given_up);
                self.due = Some(Instant::now() + REBUILD_BACKOFF * 2u32.pow(self.attempts - 1));
                if given_up
                    && let Restart::After { quarantine, lonely } =
                        self.history.quarantine(monotonic_ns())
                {
                    self.quarantine(quarantine, lonely);
                }
            }
        }
        if let Some(next) = self.next.take() {
            // Its queue is empty, or it is gone because the system ends.
            let _ = next.try_send(Job::Begin);
        }
    }

    fn attempt(&mut self) -> Result<RoleState, Attempt> {
        let id = self.slot.id;
        let (epoch, old_life) = self.shop.failover.begin_rebuild(id).map_err(|error| Attempt {
            epoch: 0,
            error: BuildError::NotReady(error.to_string()),
        })?;
        self.attempt_life(epoch, old_life).map_err(|error| Attempt { epoch, error })
    }

    fn attempt_life(
        &mut self,
        epoch: u32,
        old_life: Option<Arc<Life>>,
    ) -> Result<RoleState, BuildError> {
        let id = self.slot.id;
        if let Some(life) = &old_life {
            if !end(life) {
                // Its memory is its own until it is out; the next attempt asks again.
                self.shop.failover.return_life(id, life.clone());
                return Err(BuildError::NotOut);
            }
            life.leave_memory();
        }
        let shop = self.shop.clone();
        let _alone = shop.failover.shares_nic.then(|| lock(&shop.shared_nic));
        let free = self.free_nic()?;
        if free {
            self.slot.nic.quiesce().map_err(BuildError::Quiesce)?;
            self.call_back()?;
        }
        drop(old_life);
        if free && self.attempts > 0 {
            self.slot.nic.reset().map_err(BuildError::Nic)?;
        }
        let life = self.start(epoch, free)?;
        if !self.shop.hub.wait_ready(id, epoch, READY_DEADLINE) {
            end(&life);
            return Err(BuildError::NotReady(life.epitaph()));
        }
        let ready = self.shop.failover.ready(id);
        let state = ready.map_err(|_| BuildError::NotReady(life.epitaph()))?;
        self.attached_epoch = epoch;
        Ok(state)
    }

    /// A late frame of its NIC may have drawn the guests' addresses back to the wrong switch port, and
    /// a guest that only answers would never be heard of again. From here on there is no such frame.
    fn call_back(&mut self) -> Result<(), BuildError> {
        if std::mem::take(&mut self.strayed) {
            self.shop.switchboard.reannounce().map_err(BuildError::Install)?;
        }
        Ok(())
    }

    /// Whether the NIC is this domain's alone. If another has it, waits until its driver has it
    /// indeed: only then does the NIC no longer know the memory that is to be used again.
    fn free_nic(&self) -> Result<bool, BuildError> {
        if !self.shop.failover.shares_nic {
            return Ok(true);
        }
        // A domain that does not attach in its own time fails, and nobody has the NIC then.
        let free =
            poll(READY_DEADLINE * 2, || match self.shop.failover.heir_attached(self.slot.id) {
                _ if self.shop.stopped.load(Ordering::Acquire) => {
                    Some(Err(BuildError::NotHandedOver))
                }
                None => Some(Ok(true)),
                Some(true) => Some(Ok(false)),
                Some(false) => None,
            });
        free.unwrap_or(Err(BuildError::NotHandedOver))
    }

    fn start(&self, epoch: u32, free: bool) -> Result<Arc<Life>, BuildError> {
        let (slot, shop) = (&self.slot, &self.shop);
        // First, while the old life's cursors and descriptors still stand in its memory: what it had
        // in hand is counted, and what it had received is salvaged.
        shop.switchboard.detach(slot.id).map_err(BuildError::Install)?;
        let (role, shares_nic) = (shop.first_role, shop.failover.shares_nic);
        slot.prepare(&PrepareConfig { epoch, role, shares_nic, macs: &shop.macs })
            .map_err(BuildError::Prepare)?;
        shop.switchboard.install(slot.id, epoch).map_err(BuildError::Install)?;
        if free {
            slot.nic.shut_filters();
            slot.nic.enable_bus_master().map_err(BuildError::Nic)?;
        }
        let image = shop.images.take_for(slot.id, epoch);
        let life =
            Life::start(slot.clone(), image, epoch, shop.hub.clone()).map_err(BuildError::Start)?;
        let life = Arc::new(life);
        shop.failover.seat_life(slot.id, life.clone());
        shop.hub.seated(slot.id);
        Ok(life)
    }

    fn tell_build_failed(&self, error: &BuildError, given_up: bool) {
        let reason = platform::one_line::one_line(error);
        tracing::warn!(domain = self.slot.name, %reason, given_up, "a domain could not be built");
        self.shop.tell(Event::BuildFailed { domain: self.slot.id, reason, given_up });
    }
}

/// Ends a life. Whether its vCPU is out of the guest for good.
fn end(life: &Life) -> bool {
    life.expel();
    life.wait_out(Instant::now() + PAUSE_DEADLINE)
}

/// An attempt that failed.
struct Attempt {
    epoch: u32,
    error: BuildError,
}

fn lock(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks now and then until there is an answer or the time is over. For rebuild threads only, where
/// nobody waits for the result.
fn poll<T>(deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() >= end {
            return answer;
        }
        std::thread::sleep(REBUILD_LOOK);
    }
}
