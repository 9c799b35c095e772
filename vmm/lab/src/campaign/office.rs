//! What the threads of a campaign share: which injection is next, and what is recorded.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::crew::Worker;
use super::draw::{Drawn, Faults};
use super::error::CampaignError;
use super::order::Order;
use super::progress::Progress;
use super::record::InjectionRecord;
use super::results::ResultStore;
use super::run::carry_out;
use super::spec::{CampaignSpec, Configuration, Until};
use super::tally::Tally;

/// The office of a running campaign.
pub(super) struct Office {
    spec: CampaignSpec,
    faults: Faults,
    state: Mutex<State>,
}

struct State {
    /// Number of the next injection, unless it is done.
    next: u64,
    done: HashSet<u64>,
    /// Injections that workers have in hand.
    under_way: BTreeMap<Configuration, u64>,
    tally: Tally,
    book: ResultStore,
    progress: Progress,
    stop: bool,
    error: Option<CampaignError>,
}

impl Office {
    /// The office of a campaign of which these injections are recorded.
    pub(super) fn new(
        spec: CampaignSpec,
        faults: Faults,
        book: ResultStore,
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
            book,
            stop: false,
            error: None,
        };
        Self { spec, faults, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counters and files stay whole whatever a thread was doing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets what is under way come to its end, and no more; says why.
    pub(super) fn stop(&self, why: &str) {
        let mut state = self.lock();
        state.stop = true;
        state.progress.say(why);
    }

    /// Shows how far it is.
    pub(super) fn show(&self) {
        let mut state = self.lock();
        let State { progress, tally, .. } = &mut *state;
        progress.show(tally);
    }

    /// What is recorded in the end.
    ///
    /// # Errors
    /// What stopped the campaign.
    pub(super) fn close(self) -> Result<Tally, CampaignError> {
        let mut state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.progress.end(&state.tally);
        match state.error {
            Some(error) => Err(error),
            None => Ok(state.tally),
        }
    }

    /// One worker's share.
    pub(super) fn serve(&self, mut worker: Worker) {
        while let Some(drawn) = self.next() {
            let configuration = drawn.configuration;
            let result = carry_out(&mut worker, Order::of(&self.spec, drawn));
            self.enter(configuration, result);
        }
    }

    /// The next injection to do, unless it is the end. Each configuration gets its injections in
    /// the order of their numbers and without a gap, whoever else is at work.
    fn next(&self) -> Option<Drawn> {
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

    /// Enters what came of an injection that was under way.
    fn enter(&self, configuration: Configuration, result: Result<InjectionRecord, CampaignError>) {
        let mut state = self.lock();
        let under_way = state.under_way.entry(configuration).or_default();
        *under_way = under_way.saturating_sub(1);
        let added = result.and_then(|record| {
            state.book.add(&record)?;
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
        // What is under way is an injection already; what it comes to is not known yet.
        let under_way = state.under_way.get(&configuration).copied().unwrap_or(0);
        reached(injections, counts.injections + under_way)
            || reached(activated, counts.activated)
            || reached(detected, counts.detected)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::record::InjectionOutcome;
    use super::super::target::Target;
    use super::*;

    /// A campaign under two configurations, numbers of the first being odd, of the second even.
    struct Desk {
        office: Office,
        folder: std::path::PathBuf,
    }

    impl Desk {
        fn new(name: &str, until: &str, recorded: &[u64]) -> Self {
            let text = format!(
                r#"{{"configurations": ["fast-spare", "reboot"], "until": {until},
                    "faults": [{{"code": {{"functions": "text"}}}}]}}"#
            );
            let spec = CampaignSpec::parse("test", &text).unwrap();
            let target = Arc::new(Target::new(guest_images::DRIVER_DOMAIN).unwrap());
            let faults = Faults::new(&spec, target, None).unwrap();
            let name = format!("warmspare-office-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            let book = ResultStore::create(&folder).unwrap();
            let masked = |id: &u64| record(&spec, faults.injection(*id), InjectionOutcome::Masked);
            let records: Vec<_> = recorded.iter().map(masked).collect();
            Self { office: Office::new(spec, faults, book, &records, false), folder }
        }

        fn next(&self) -> Option<u64> {
            self.office.next().map(|drawn| drawn.id)
        }

        fn enter(&self, id: u64, outcome: InjectionOutcome) {
            let drawn = self.office.faults.injection(id);
            let configuration = drawn.configuration;
            self.office.enter(configuration, Ok(record(&self.office.spec, drawn, outcome)));
        }

        /// Numbers of all that is left to do, so many at a time.
        fn all(&self, jobs: usize) -> Vec<u64> {
            let mut all = Vec::new();
            loop {
                let taken: Vec<u64> = (0..jobs).map_while(|_| self.next()).collect();
                if taken.is_empty() {
                    return all;
                }
                taken.iter().for_each(|id| self.enter(*id, InjectionOutcome::Masked));
                all.extend(taken);
            }
        }
    }

    impl Drop for Desk {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    fn record(spec: &CampaignSpec, drawn: Drawn, outcome: InjectionOutcome) -> InjectionRecord {
        let activated = outcome != InjectionOutcome::NotActivated;
        InjectionRecord { activated, ..Order::of(spec, drawn).record(outcome) }
    }

    #[test]
    fn the_numbers_are_the_same_whatever_the_number_of_jobs() {
        for jobs in 1..=7 {
            let desk = Desk::new(&format!("jobs-{jobs}"), r#"{"injections": 5}"#, &[]);
            assert_eq!(desk.all(jobs), (1..=10).collect::<Vec<_>>(), "{jobs} jobs");
        }
    }

    #[test]
    fn what_is_missing_is_done_first_and_all_of_it() {
        let holes = Desk::new("holes", r#"{"injections": 4}"#, &[1, 2, 4, 6]);
        assert_eq!(holes.all(2), [3, 5, 7, 8]);
        // The numbers of one configuration are all done, many in a row.
        let one = Desk::new("one", r#"{"injections": 4}"#, &[2, 4, 6, 8]);
        assert_eq!(one.all(2), [1, 3, 5, 7]);
    }

    #[test]
    fn a_configuration_that_is_over_does_not_end_the_other() {
        let desk = Desk::new("over", r#"{"injections": 9, "activated": 2}"#, &[]);
        let first: Vec<u64> = (0..4).map_while(|_| desk.next()).collect();
        assert_eq!(first, [1, 2, 3, 4]);
        [1, 3].iter().for_each(|id| desk.enter(*id, InjectionOutcome::Masked));
        [2, 4].iter().for_each(|id| desk.enter(*id, InjectionOutcome::NotActivated));

        assert_eq!((desk.next(), desk.next()), (Some(6), Some(8)));
    }

    #[test]
    fn nothing_is_begun_after_a_stop() {
        let desk = Desk::new("stop", r#"{"injections": 9}"#, &[]);
        desk.office.stop("for a test");
        assert_eq!(desk.next(), None);
    }
}
