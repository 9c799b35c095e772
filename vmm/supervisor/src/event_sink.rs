//! The sink for what vCPU threads and the switchboard report.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::failover::Failover;
use super::verdict::Verdict;
use crate::topology::MAX_DOMAINS;
use microvm::domain::{DomainEvents, DomainId, Fault};
use platform::realtime::guarded;
use switchboard::{Violation, ViolationSink};

/// A violation that waits for the supervisor thread.
#[derive(Clone, Copy)]
pub(super) struct PendingViolation {
    pub(super) epoch: u32,
    pub(super) violation: Violation,
}

/// How far the lives of a domain have come.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// Number of the newest life that reported ready.
    ready: u32,
    /// Number of the newest life that failed by itself.
    failed: u32,
}

/// Receives what vCPU threads and switchboard report.
pub(super) struct EventSink {
    failover: OnceLock<Weak<Failover>>,
    progress: Mutex<[Progress; MAX_DOMAINS]>,
    progressed: Condvar,
    violations: Mutex<[Option<PendingViolation>; MAX_DOMAINS]>,
    /// Written when `violations` holds something.
    pub(super) violated: EventFd,
    /// The supervisor samples rarely, so a domain that wakes must write to `woken`.
    asleep: AtomicBool,
    /// Written when a domain woke while the supervisor sampled rarely.
    pub(super) woken: EventFd,
    /// A verdict ended in a panic, so the roles may be half changed.
    pub(super) broken: AtomicBool,
    /// How often the supervisor has sampled the domains so far.
    pub(super) samplings: AtomicU64,
}

impl EventSink {
    pub(super) fn new() -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            failover: OnceLock::new(),
            progress: Mutex::default(),
            progressed: Condvar::new(),
            violations: Mutex::default(),
            violated: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            asleep: AtomicBool::new(false),
            woken: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            broken: AtomicBool::new(false),
            samplings: AtomicU64::new(0),
        }))
    }

    /// Has crashes reported to `failover` from now on.
    pub(super) fn connect(&self, failover: &Arc<Failover>) {
        // A second connection would be a defect of the builder; the first one stays.
        let _ = self.failover.set(Arc::downgrade(failover));
    }

    /// Waits until this life of a domain is ready. Returns false if it failed or the time is over.
    pub(super) fn wait_ready(&self, id: DomainId, epoch: u32, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let now = progress[id.index()];
            if now.failed == epoch {
                return false;
            }
            if now.ready == epoch {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            progress = self
                .progressed
                .wait_timeout(progress, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Takes the violation of one domain.
    pub(super) fn take_violation(&self, id: DomainId) -> Option<PendingViolation> {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner)[id.index()].take()
    }

    /// Keeps a violation, unless there is one of the same life or a later one.
    pub(super) fn keep_violation(&self, id: DomainId, pending: PendingViolation) {
        let mut all = self.violations.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut all[id.index()];
        if kept.is_none_or(|kept| kept.epoch < pending.epoch) {
            *kept = Some(pending);
        }
    }

    /// A life was entered in the domain table: a violation of it that came before is handled now.
    pub(super) fn life_entered(&self, id: DomainId) {
        let all = self.violations.lock().unwrap_or_else(PoisonError::into_inner);
        if all[id.index()].is_some() {
            // Only a full counter refuses the write, and then the supervisor is awake already.
            let _ = self.violated.write(1);
        }
    }

    /// Sets whether the supervisor samples rarely, so that domains that wake have to wake it.
    /// Returns the value before.
    pub(super) fn set_asleep(&self, asleep: bool) -> bool {
        self.asleep.swap(asleep, Ordering::SeqCst)
    }

    /// A life that may still be awaited has failed by somebody else's verdict.
    pub(super) fn give_up_waiting(&self, id: DomainId, epoch: u32) {
        self.note(id, |progress| progress.failed = epoch);
    }

    fn note(&self, id: DomainId, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner)[id.index()]);
        self.progressed.notify_all();
    }
}

impl DomainEvents for EventSink {
    fn ready(&self, id: DomainId, epoch: u32) {
        self.note(id, |progress| progress.ready = epoch);
    }

    fn failed(&self, id: DomainId, epoch: u32, fault: &Fault, entered_ns: u64) {
        if let Some(failover) = self.failover.get().and_then(Weak::upgrade) {
            let verdict = || failover.verdict(id, epoch, Verdict::Crash(*fault), entered_ns);
            if guarded("vcpu", verdict).is_none() {
                self.broken.store(true, Ordering::Release);
            }
        }
        self.note(id, |progress| progress.failed = epoch);
    }

    fn woke(&self, _: DomainId) {
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::SeqCst) {
            // Only a full counter refuses the write, and then the supervisor is awake already.
            let _ = self.woken.write(1);
        }
    }
}

impl ViolationSink for EventSink {
    fn violation(&self, id: DomainId, epoch: u32, violation: Violation) {
        self.keep_violation(id, PendingViolation { epoch, violation });
        // Only a full counter refuses the write, and then the supervisor is awake already.
        let _ = self.violated.write(1);
    }
}
