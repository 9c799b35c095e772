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
//! is built from the trusted image. And while it is on probation the other domain stands by with the
//! trusted image, so a crash is a failover to it, no more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::drill::{Blame, DrillError};
use super::event::Event;
use super::failover::Failover;
use super::rebuild_context::RebuildContext;
use super::roles::RoleState;
use super::rules::Need;
use super::switch::{SwitchError, wait_until};
use microvm::domain::{DomainId, LifeError, check_image};
use microvm::kvm::{Image, ImageError};
use platform::budget::{READY_DEADLINE, REBUILD_BACKOFF};
use platform::one_line::one_line;

/// How far an upgrade came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpgradeStep {
    /// A domain was to attach its NIC with the new image.
    Attach,
    /// It was to pass a drill.
    Drill,
    /// It was to take the ring.
    Switch,
    /// It was to serve for its probation.
    Probation,
}

/// Why there is no new driver. The service goes on in each case.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// Not an image. Nothing has changed.
    #[error("the new driver cannot be read")]
    Image(#[from] ImageError),
    /// An image of something else, or of another version. Nothing has changed.
    #[error("the new driver does not fit")]
    Unfit(#[source] LifeError),
    /// Nothing has changed.
    #[error("no healthy domain stands by that could try it")]
    NoSpare,
    /// Nothing has changed.
    #[error("another planned operation is on")]
    Busy,
    /// It was tried and is not used any more.
    #[error("the new driver was rolled back: {reason}")]
    RolledBack {
        /// What it did not get through.
        step: UpgradeStep,
        /// How, in one line.
        reason: String,
    },
}

/// An upgrade that took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpgradeReport {
    /// The domain that serves now, the first with the new image.
    pub serves: DomainId,
    /// The domain that served before.
    pub served: DomainId,
    /// How long it took, probation included.
    pub took: Duration,
}

/// Tries, trusts and rolls back.
pub(super) struct Upgrade<'a> {
    context: &'a RebuildContext,
    failover: &'a Failover,
    image: Arc<Image>,
}

/// A trial that failed.
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
    /// It is not fit.
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
        let _planned = self.failover.begin_planned().ok_or(UpgradeError::Busy)?;
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

    /// Who serves, and who is to try.
    fn first_two(&self) -> Option<(DomainId, DomainId)> {
        let table = self.failover.lock_table();
        let active = table.iter().position(|entry| entry.state == RoleState::Active)?;
        let spare = self.failover.successor(&table, Need::CanStay)?;
        let id = |index: usize| self.failover.slots[index].id;
        self.failover.attaches_early.then(|| (id(active), id(spare)))
    }

    /// From the first build to the end of the probation.
    fn try_in(&self, spare: DomainId, probation: Duration) -> Result<(), Failed> {
        let epoch = self.build(spare)?;
        // A crash of the other meanwhile made it serve already: then it has to do.
        if self.failover.state(spare) == (RoleState::Standby, epoch) {
            self.drill(spare)?;
            let switched = self.failover.switch_planned(Some(spare));
            let report = switched.map_err(|error| self.lost_switch(spare, &error))?;
            self.context.tell(Event::Switched(report));
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
        for slot in self.failover.slots.iter().filter(|slot| slot.id != first) {
            // One that has failed meanwhile is built from the images in use, which these are now;
            // one that is being built may have begun before.
            if !wait_until(READY_DEADLINE, || self.is_settled(slot.id)) || self.runs_it(slot.id) {
                continue;
            }
            self.build(slot.id)?;
            if self.failover.state(slot.id).0 == RoleState::Standby {
                self.drill(slot.id)?;
            }
        }
        Ok(())
    }

    /// Whether a domain stands by, so that it can be built anew.
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
        let life = self.failover.life(id).filter(|life| life.is_ready());
        match life {
            Some(life) if Arc::ptr_eq(&life.image_handle(), &self.image) => Ok(life.epoch()),
            _ => Err(failed(UpgradeStep::Attach, "it does not attach its NIC")),
        }
    }

    /// Has a standby built anew and waits until it stands by, or serves. Whether it does.
    fn replace(&self, id: DomainId) -> bool {
        let (_, before) = self.failover.state(id);
        if !self.failover.replace(id) {
            return false;
        }
        // Its first attempt may fail, and then a trusted image takes another.
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
                self.context.tell(Event::Drilled(report));
                match report.blame {
                    // The other one's fault does not speak against the new driver.
                    None | Some(Blame::Active) => Ok(()),
                    Some(blame) => {
                        let reason = format!("it failed its drill, to blame: {blame:?}");
                        Err(failed(UpgradeStep::Drill, reason))
                    }
                }
            }
            // It serves by now, which proves more.
            Err(DrillError::Abandoned) if self.failover.active() == Some(id) => Ok(()),
            Err(error) => Err(failed(UpgradeStep::Drill, one_line(&error))),
        }
    }

    fn lost_switch(&self, spare: DomainId, error: &SwitchError) -> Failed {
        match error {
            // It had the ring, or was about to have it.
            SwitchError::Interrupted => failed(UpgradeStep::Switch, self.fate(spare)),
            _ => failed(UpgradeStep::Switch, one_line(error)),
        }
    }

    /// How the life that was tried has ended.
    fn fate(&self, id: DomainId) -> String {
        let life = self.failover.life(id);
        let life = life.filter(|life| Arc::ptr_eq(&life.image_handle(), &self.image));
        let epitaph = life.map_or_else(String::new, |life| life.epitaph());
        match epitaph.is_empty() {
            true => "it failed".into(),
            false => format!("it failed: {epitaph}"),
        }
    }

    /// Gives every domain that still runs the new image the trusted one again; first those that
    /// stand by, then, behind a switch, the one that serves.
    fn roll_back(&self) {
        self.rebuild_standbys();
        let serves = self.failover.active().filter(|id| self.runs_it(*id));
        if serves.is_some() {
            match self.failover.switch_planned(None) {
                Ok(report) => self.context.tell(Event::Switched(report)),
                Err(error) => {
                    tracing::warn!(%error, "the new driver serves until it can be replaced")
                }
            }
            self.rebuild_standbys();
        }
    }

    fn rebuild_standbys(&self) {
        for slot in &self.failover.slots {
            if self.runs_it(slot.id) {
                // One that serves is no standby, and stays.
                self.replace(slot.id);
            }
        }
    }

    fn runs_it(&self, id: DomainId) -> bool {
        let life = self.failover.life(id);
        life.is_some_and(|life| Arc::ptr_eq(&life.image_handle(), &self.image))
    }
}
