//! The scheduler of a campaign, which its worker threads share: it says which injection is next and
//! records what came of it.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::draw::{DrawnFault, FaultList};
use super::error::CampaignError;
use super::progress::Progress;
use super::results::ResultStore;
use super::spec::{CampaignSpec, Until};
use super::tally::Tally;
use super::worker_handle::WorkerHandle;
use crate::injection::{Configuration, InjectionRecord};

/// The scheduler of a running campaign.
pub(super) struct Scheduler {
    spec: CampaignSpec,
    faults: FaultList,
    state: Mutex<State>,
}

struct State {
    /// Number of the next injection to consider.
    next: u64,
    /// Injections that are recorded.
    done: HashSet<u64>,
    /// Injections that workers are carrying out.
    under_way: BTreeMap<Configuration, u64>,
    tally: Tally,
    store: ResultStore,
    progress: Progress,
    stop: bool,
    error: Option<CampaignError>,
}

impl Scheduler {
    /// A scheduler for a campaign of which these injections are recorded.
    pub(super) fn new(
        spec: CampaignSpec,
        faults: FaultList,
        store: ResultStore,
        records: &[InjectionRecord],
        show: bool,
    ) -> Self {
        let mut tally = Tally::default();
        records.iter().for_each(|record| tally.add(record));
        let state = State {
            next: 1,
            done: records.iter().map(|record| record.id).collect(),
            under_way: BTreeMap::new(),
            progress: Progress::new(show, &spec, &tally),
            tally,
            store,
            stop: false,
            error: None,
        };
        Self { spec, faults, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counters and files are consistent even where a thread panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the injections under way end, and starts no more; `why` is shown.
    pub(super) fn stop(&self, why: &str) {
        let mut state = self.lock();
        state.stop = true;
        state.progress.say(why);
    }

    /// Shows how far the campaign is.
    pub(super) fn show_progress(&self) {
        let mut state = self.lock();
        let State { progress, tally, .. } = &mut *state;
        progress.show(tally);
    }

    /// Ends the display, and returns what is recorded.
    ///
    /// # Errors
    /// What stopped the campaign.
    pub(super) fn finish(self) -> Result<Tally, CampaignError> {
        let mut state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.progress.end(&state.tally);
        match state.error {
            Some(error) => Err(error),
            None => Ok(state.tally),
        }
    }

    /// Drives one worker until there is nothing left to do.
    pub(super) fn drive(&self, mut worker: WorkerHandle) {
        while let Some(drawn) = self.next() {
            let configuration = drawn.configuration;
            let result = worker.inject(&drawn.order(&self.spec));
            self.record(configuration, result);
        }
    }

    /// The next injection to do, or `None` at the end. Each configuration gets its injections in
    /// the order of their numbers and without a gap, however many workers there are.
    fn next(&self) -> Option<DrawnFault> {
        let mut state = self.lock();
        while !state.stop && !self.spec.configurations.iter().all(|c| self.is_over(&state, *c)) {
            let id = state.next;
            state.next += 1;
            if state.done.contains(&id) {
                continue;
            }
            let drawn = self.faults.injection(id);
            if self.is_over(&state, drawn.configuration) {
                continue;
            }
            *state.under_way.entry(drawn.configuration).or_default() += 1;
            return Some(drawn);
        }
        None
    }

    /// Records what came of an injection that was under way.
    fn record(&self, configuration: Configuration, result: Result<InjectionRecord, CampaignError>) {
        let mut state = self.lock();
        let under_way = state.under_way.entry(configuration).or_default();
        *under_way = under_way.saturating_sub(1);
        let added = result.and_then(|record| {
            state.store.add(&record)?;
            Ok(record)
        });
        match added {
            Ok(record) => {
                state.done.insert(record.id);
                state.tally.add(&record);
            }
            Err(error) => {
                state.stop = true;
                state.error.get_or_insert(error);
            }
        }
    }

    fn is_over(&self, state: &State, configuration: Configuration) -> bool {
        let counts = state.tally.of(configuration);
        let reached = |limit: Option<u64>, count: u64| limit.is_some_and(|limit| count >= limit);
        let Until { injections, activated, detected } = self.spec.until;
        // An injection under way counts as one already; its outcome is not known yet.
        let under_way = state.under_way.get(&configuration).copied().unwrap_or(0);
        reached(injections, counts.injections + under_way)
            || reached(activated, counts.activated)
            || reached(detected, counts.detected)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::injection::{InjectionOutcome, Target};

    /// A campaign under two configurations, numbers of the first being odd, of the second even.
    struct Bench {
        scheduler: Scheduler,
        folder: std::path::PathBuf,
    }

    impl Bench {
        fn new(name: &str, until: &str, recorded: &[u64]) -> Self {
            let text = format!(
                r#"{{"configurations": ["fast-spare", "reboot"], "until": {until},
                    "faults": [{{"code": {{"functions": "text"}}}}]}}"#
            );
            let spec = CampaignSpec::parse("test", &text).unwrap();
            let target = Arc::new(Target::new(guest_images::DRIVER_DOMAIN).unwrap());
            let faults = FaultList::new(&spec, target, None).unwrap();
            let name = format!("warmspare-scheduler-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            let store = ResultStore::create(&folder).unwrap();
            let masked = |id: &u64| record(&spec, faults.injection(*id), InjectionOutcome::Masked);
            let records: Vec<_> = recorded.iter().map(masked).collect();
            Self { scheduler: Scheduler::new(spec, faults, store, &records, false), folder }
        }

        fn next(&self) -> Option<u64> {
            self.scheduler.next().map(|drawn| drawn.id)
        }

        fn record(&self, id: u64, outcome: InjectionOutcome) {
            let drawn = self.scheduler.faults.injection(id);
            let configuration = drawn.configuration;
            self.scheduler.record(configuration, Ok(record(&self.scheduler.spec, drawn, outcome)));
        }

        /// Numbers of all injections that are left to do, taken so many at a time.
        fn all(&self, jobs: usize) -> Vec<u64> {
            let mut all = Vec::new();
            loop {
                let taken: Vec<u64> = (0..jobs).map_while(|_| self.next()).collect();
                if taken.is_empty() {
                    return all;
                }
                taken.iter().for_each(|id| self.record(*id, InjectionOutcome::Masked));
                all.extend(taken);
            }
        }
    }

    impl Drop for Bench {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    fn record(
        spec: &CampaignSpec,
        drawn: DrawnFault,
        outcome: InjectionOutcome,
    ) -> InjectionRecord {
        let activated = outcome != InjectionOutcome::NotActivated;
        InjectionRecord { activated, ..drawn.order(spec).record(outcome) }
    }

    #[test]
    fn the_numbers_are_the_same_whatever_the_number_of_jobs() {
        for jobs in 1..=7 {
            let bench = Bench::new(&format!("jobs-{jobs}"), r#"{"injections": 5}"#, &[]);
            assert_eq!(bench.all(jobs), (1..=10).collect::<Vec<_>>(), "{jobs} jobs");
        }
    }

    #[test]
    fn what_is_missing_is_done_first_and_all_of_it() {
        let holes = Bench::new("holes", r#"{"injections": 4}"#, &[1, 2, 4, 6]);
        assert_eq!(holes.all(2), [3, 5, 7, 8]);
        // The numbers of one configuration are all done, many in a row.
        let one = Bench::new("one", r#"{"injections": 4}"#, &[2, 4, 6, 8]);
        assert_eq!(one.all(2), [1, 3, 5, 7]);
    }

    #[test]
    fn a_configuration_that_is_over_does_not_end_the_other() {
        let bench = Bench::new("over", r#"{"injections": 9, "activated": 2}"#, &[]);
        let first: Vec<u64> = (0..4).map_while(|_| bench.next()).collect();
        assert_eq!(first, [1, 2, 3, 4]);
        [1, 3].iter().for_each(|id| bench.record(*id, InjectionOutcome::Masked));
        [2, 4].iter().for_each(|id| bench.record(*id, InjectionOutcome::NotActivated));

        assert_eq!((bench.next(), bench.next()), (Some(6), Some(8)));
    }

    #[test]
    fn nothing_is_begun_after_a_stop() {
        let bench = Bench::new("stop", r#"{"injections": 9}"#, &[]);
        bench.scheduler.stop("for a test");
        assert_eq!(bench.next(), None);
    }
}
