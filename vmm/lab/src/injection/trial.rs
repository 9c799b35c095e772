//! One trial: a fresh system under traffic, one fault, and what there is to be seen of it until the
//! outcome is certain.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::injector::{InjectError, inject};
use super::kinds::Configuration;
use super::observation::{DomainEvent, Observation};
use super::order::TrialOrder;
use super::system::{Serving, Setup, SetupError, SystemUnderTest};
use super::target::Target;
use super::testbed::Testbed;
use microvm::domain::Life;
use platform::clock::monotonic_ns;
use supervisor::{Event, FailoverReport};

/// How often in a row an injection is tried that could not be carried out at all.
pub(crate) const ATTEMPTS: u32 = 3;

/// Why a trial could not be carried out; this is no outcome of the fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrialError {
    /// The system did not come up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The fault cannot be injected.
    #[error(transparent)]
    Inject(#[from] InjectError),
}

/// Carries an order out.
///
/// # Errors
/// The system did not come up, or the fault cannot be injected.
pub(crate) fn carry_out(
    order: &TrialOrder,
    target: &Target,
    testbed: &dyn Testbed,
    folder: &Path,
) -> Result<Observation, TrialError> {
    let setup = Setup {
        configuration: order.configuration,
        period: Duration::from_micros(order.period_us.into()),
        folder,
        dumps: order.dumps.as_deref(),
    };
    let under_test = SystemUnderTest::start(testbed, &setup)?;
    // Events from the system's start are no failures; from now on, a failover is one.
    under_test.system.events().try_iter().for_each(drop);
    let Serving { domain: victim, life } = under_test.serving()?;
    std::thread::sleep(Duration::from_micros(order.moment_us));
    let slot = &under_test.system.slots()[victim.index()];
    let armed_ns = monotonic_ns();
    let mut watch = Watch::new(&under_test, &life, order, armed_ns);
    watch.sample();
    // A domain that has failed without any fault is found already, and gets none.
    if watch.seen.failovers.is_empty() {
        watch.seen.activated_ns = inject(slot, &life, target, order.kind, &order.fault)?;
    }
    let whole = watch.run();
    let seen = watch.seen;
    drop(life);
    let (end_ns, first_echo_ns) = (monotonic_ns(), under_test.first_echo_ns);
    let remains = under_test.finish(end_ns);
    Ok(Observation {
        first_echo_ns,
        armed_ns,
        activated_ns: seen.activated_ns,
        end_ns,
        victim,
        failovers: seen.failovers,
        healed: seen.healed,
        ready: seen.ready,
        serving: remains.serving,
        whole,
        ledger: remains.ledger,
        stalls: remains.stalls,
        app: remains.app,
        dump: seen.dump,
        slowness: testbed.slowness(),
    })
}

/// What the system has reported since the fault was armed.
#[derive(Default)]
struct Seen {
    activated_ns: Option<u64>,
    failovers: Vec<FailoverReport>,
    healed: Vec<DomainEvent>,
    ready: Vec<DomainEvent>,
    dump: Option<PathBuf>,
}

/// Samples a system until the outcome of its fault is certain.
struct Watch<'a> {
    under_test: &'a SystemUnderTest,
    life: &'a Life,
    order: &'a TrialOrder,
    armed_ns: u64,
    /// When the service was last seen to be disturbed.
    disturbed_ns: u64,
    seen: Seen,
}

impl<'a> Watch<'a> {
    fn new(
        under_test: &'a SystemUnderTest,
        life: &'a Life,
        order: &'a TrialOrder,
        armed_ns: u64,
    ) -> Self {
        let seen = Seen::default();
        Self { under_test, life, order, armed_ns, disturbed_ns: armed_ns, seen }
    }

    /// Samples until the outcome is certain. Returns true if the system was whole then.
    fn run(&mut self) -> bool {
        loop {
            std::thread::sleep(self.under_test.budget.look);
            self.sample();
            // This is asked at the same moment as the rest: a failure whose event has not arrived
            // yet leaves a system that is not whole, and is waited for.
            let whole = self.under_test.is_whole();
            if self.is_over(whole, monotonic_ns()) {
                return whole;
            }
        }
    }

    fn sample(&mut self) {
        let reached_ns = self.life.fault_reached_ns();
        if self.seen.activated_ns.is_none() && reached_ns != 0 {
            self.seen.activated_ns = Some(reached_ns);
            self.disturbed_ns = reached_ns;
        }
        let now_ns = monotonic_ns();
        if self.under_test.silent_ns(now_ns) > self.under_test.clean_gap_ns() {
            self.disturbed_ns = now_ns;
        }
        for event in self.under_test.system.events().try_iter() {
            match event {
                Event::Failover(report) => {
                    self.disturbed_ns = now_ns;
                    self.seen.failovers.push(*report);
                }
                Event::Healed { domain, at_ns, .. } => {
                    self.seen.healed.push(DomainEvent { domain, at_ns });
                }
                Event::Ready { domain, at_ns, .. } => {
                    self.seen.ready.push(DomainEvent { domain, at_ns });
                }
                Event::Dumped { folder, .. } => self.seen.dump = Some(folder),
                _ => {}
            }
        }
    }

    fn is_over(&self, whole: bool, now_ns: u64) -> bool {
        let since = |at_ns: u64| Duration::from_nanos(now_ns.saturating_sub(at_ns));
        let budget = &self.under_test.budget;
        let sound = whole && since(self.disturbed_ns) >= budget.clean;
        if let Some(first) = self.seen.failovers.first() {
            let dumped = self.order.dumps.is_none() || self.seen.dump.is_some();
            return sound && dumped || since(first.record.verdict_ns) >= self.patience();
        }
        let (watched, wanted_ms) = match self.seen.activated_ns {
            Some(activated_ns) => (since(activated_ns), self.order.observe_ms),
            None => (since(self.armed_ns), self.order.reach_ms),
        };
        let wanted = Duration::from_millis(wanted_ms.into());
        // If something is wrong that no detector has found yet, one still may.
        watched >= wanted && (sound || watched >= wanted + budget.silence)
    }

    fn patience(&self) -> Duration {
        match self.order.configuration {
            Configuration::FastSpare | Configuration::Spare | Configuration::Reboot => {
                self.under_test.budget.recovery
            }
            Configuration::None => self.under_test.budget.no_recovery,
        }
    }
}
