//! Driver upgrades without an outage.
//!
//! ```text
//!  check ─▶ build the spare from it ─▶ drill ─▶ planned switch ─▶ probation ─▶ trusted
//!    │            │                      │            │               │            │
//!    │            └──────────────────────┴────────────┴───────────────┤            ▼
//!  refused                     rolled back: the spare is built        │     the others, one by one,
//!                              from the trusted image again ◀─────────┘     each built and drilled
//! ```
//! A new image runs for exactly one life until it is trusted: whatever ends that life, the next one
//! is built from the trusted image. While the new image is on probation, the other domain stands by
//! with the trusted image, so a crash causes one failover to that domain and no more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::domain::Domain;
use super::drill::DrillError;
use super::event::Event;
use super::failover::Failover;
use super::rebuild_context::RebuildContext;
use super::reports::{Blame, UpgradeReport, UpgradeStep};
use super::roles::RoleState;
use super::rules::Need;
use super::switch::SwitchError;
use super::wait::wait_until;
use microvm::domain::{DomainId, LifeError, check_image};
use microvm::kvm::{Image, ImageError};
use platform::budget::{READY_DEADLINE, REBUILD_BACKOFF};
use platform::one_line::one_line;

/// Why an upgrade did not take place. The service goes on in each case.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The file is not an image. Nothing has changed.
    #[error("the new driver cannot be read")]
    Image(#[from] ImageError),
    /// The image is of something else, or of another version. Nothing has changed.
    #[error("the new driver does not fit")]
    Unfit(#[source] LifeError),
    /// No domain could try the image. Nothing has changed.
    #[error("no healthy domain stands by that could try it")]
    NoSpare,
    /// Another planned operation is in progress. Nothing has changed.
    #[error("another planned operation is in progress")]
    Busy,
    /// The image was tried and is not used any more.
    #[error("the new driver was rolled back: {reason}")]
    RolledBack {
        /// The step that failed.
        step: UpgradeStep,
        /// Why it failed, in one line.
        reason: String,
    },
}

/// One upgrade: tries an image, trusts it or rolls it back.
pub(super) struct Upgrade<'a> {
    context: &'a RebuildContext,
    failover: &'a Failover,
    image: Arc<Image>,
}

/// A step that failed.
struct Failed {
    step: UpgradeStep,
    reason: String,
}

fn failed(step: UpgradeStep, reason: impl Into<String>) -> Failed {
    Failed { step, reason: reason.into() }
}

impl<'a> Upgrade<'a> {
    /// Checks an image.
    ///
    /// # Errors
    /// The image is not fit.
    pub(super) fn new(context: &'a RebuildContext, image: &[u8]) -> Result<Self, UpgradeError> {
        let image = Arc::new(Image::parse(image)?);
        check_image(&image).map_err(UpgradeError::Unfit)?;
        Ok(Self { context, failover: &context.failover, image })
    }

    /// Carries the upgrade out.
    ///
    /// # Errors
    /// See [`UpgradeError`].
    pub(super) fn run(self, probation: Duration) -> Result<UpgradeReport, UpgradeError> {
        let began = Instant::now();
        let _planned = self.failover.planned.begin().ok_or(UpgradeError::Busy)?;
        let (served, spare) = self.first_two().ok_or(UpgradeError::NoSpare)?;
        let trusted = self.context.images.current();
        let result = self
            .try_in(spare, probation)
            .and_then(|()| self.spread(spare))
            .map(|()| UpgradeReport { serves: spare, served, took: began.elapsed() });
        result.map_err(|Failed { step, reason }| {
            self.context.images.withdraw();
            self.context.images.replace(trusted);
            self.roll_back();
            UpgradeError::RolledBack { step, reason }
        })
    }

    /// The domain that serves, and the one that is to try the image.
    fn first_two(&self) -> Option<(DomainId, DomainId)> {
        let table = self.failover.lock_table();
        let active = table.active()?;
        let spare = self.failover.successor(&table, Need::CanStay)?;
        let id = |index: usize| self.failover.domains[index].id();
        self.failover.attaches_early.then(|| (id(active), id(spare)))
    }

    /// From the first build to the end of the probation.
    fn try_in(&self, spare: DomainId, probation: Duration) -> Result<(), Failed> {
        let epoch = self.build(spare)?;
        // If the other domain has crashed meanwhile, this one serves already, without a drill.
        if self.failover.state(spare) == (RoleState::Standby, epoch) {
            self.drill(spare)?;
            let switched = self.failover.switch_planned(Some(spare));
            let report = switched.map_err(|error| self.lost_switch(spare, &error))?;
            self.context.report(Event::Switched(report));
        }
        let end = Instant::now() + probation;
        while Instant::now() < end {
            if self.failover.state(spare) != (RoleState::Active, epoch) {
                return Err(failed(UpgradeStep::Probation, self.fate(spare)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The image is trusted: every other domain gets it.
    fn spread(&self, first: DomainId) -> Result<(), Failed> {
        self.context.images.replace([self.image.clone(), self.image.clone()]);
        for id in self.failover.domains.iter().map(Domain::id).filter(|id| *id != first) {
            // A domain that has failed meanwhile is built from the images in use, so it has the new
            // one; a rebuild that is in progress may have begun with the old one.
            if !wait_until(READY_DEADLINE, || self.is_settled(id)) || self.runs_it(id) {
                continue;
            }
            self.build(id)?;
            if self.failover.state(id).0 == RoleState::Standby {
                self.drill(id)?;
            }
        }
        Ok(())
    }

    /// Returns true if a domain stands by, so that it can be rebuilt.
    fn is_settled(&self, id: DomainId) -> bool {
        self.failover.state(id).0 == RoleState::Standby
    }

    /// Builds a standby from the new image, once. Returns the epoch of that life.
    fn build(&self, id: DomainId) -> Result<u32, Failed> {
        let images = &self.context.images;
        images.try_once(id, self.image.clone());
        if !self.replace(id) {
            return Err(failed(UpgradeStep::Attach, "the domain that was to try it is needed"));
        }
        let life = self.failover.life_of(id).filter(|life| life.is_ready());
        match life {
            Some(life) if life.runs_image(&self.image) => Ok(life.epoch()),
            _ => Err(failed(UpgradeStep::Attach, "it does not attach its NIC")),
        }
    }

    /// Has a standby rebuilt and waits until it stands by or serves. Returns true if it does.
    fn replace(&self, id: DomainId) -> bool {
        let (_, before) = self.failover.state(id);
        if !self.failover.replace(id) {
            return false;
        }
        // The first attempt may fail; another one follows, with a trusted image.
        let end = Instant::now() + 2 * READY_DEADLINE + REBUILD_BACKOFF;
        while Instant::now() < end {
            let (state, epoch) = self.failover.state(id);
            if epoch > before && matches!(state, RoleState::Standby | RoleState::Active) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    fn drill(&self, id: DomainId) -> Result<(), Failed> {
        match self.failover.drill_planned(Some(id)) {
            Ok(report) => {
                self.context.report(Event::Drilled(report));
                match report.blame {
                    // A fault of the active domain does not speak against the new driver.
                    None | Some(Blame::Active) => Ok(()),
                    Some(blame) => {
                        let reason = format!("it failed its drill, to blame: {blame:?}");
                        Err(failed(UpgradeStep::Drill, reason))
                    }
                }
            }
            // The domain serves by now, which proves more.
            Err(DrillError::Abandoned) if self.failover.active() == Some(id) => Ok(()),
            Err(error) => Err(failed(UpgradeStep::Drill, one_line(&error))),
        }
    }

    fn lost_switch(&self, spare: DomainId, error: &SwitchError) -> Failed {
        match error {
            // The domain had the ring, or was about to get it.
            SwitchError::Interrupted => failed(UpgradeStep::Switch, self.fate(spare)),
            _ => failed(UpgradeStep::Switch, one_line(error)),
        }
    }

    /// How the life that was tried has ended.
    fn fate(&self, id: DomainId) -> String {
        let life = self.failover.life_of(id).filter(|life| life.runs_image(&self.image));
        let summary = life.map_or_else(String::new, |life| life.crash_summary());
        match summary.is_empty() {
            true => "it failed".into(),
            false => format!("it failed: {summary}"),
        }
    }

    /// Gives the trusted image back to every domain that still runs the new one: first to those
    /// that stand by, then, after a switch, to the one that served.
    fn roll_back(&self) {
        self.rebuild_standbys();
        let serves = self.failover.active().filter(|id| self.runs_it(*id));
        if serves.is_some() {
            match self.failover.switch_planned(None) {
                Ok(report) => self.context.report(Event::Switched(report)),
                Err(error) => {
                    tracing::warn!(%error, "the new driver serves until it can be replaced")
                }
            }
            self.rebuild_standbys();
        }
    }

    fn rebuild_standbys(&self) {
        for id in self.failover.domains.iter().map(Domain::id) {
            if self.runs_it(id) {
                // A domain that serves is not a standby, and is left as it is.
                self.replace(id);
            }
        }
    }

    fn runs_it(&self, id: DomainId) -> bool {
        self.failover.life_of(id).is_some_and(|life| life.runs_image(&self.image))
    }
}
