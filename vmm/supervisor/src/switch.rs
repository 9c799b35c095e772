//! The planned switch: from one healthy domain to another, without a lost or doubled frame.
//!
//! ```text
//!          switchboard                  the successor                        the one that serves
//!   1.     reads both, each frame once
//!   2.                                  released, filters open
//!   3.     guest's frames wait                                          sends what it has
//!   4.     ring changes hands           serves, announces the guest
//!   5.                                                                  hears the announcements:
//!                                                                       filters shut
//!   6.                                                                  stands by
//!   7.     reads one
//! ```
//! All of it runs on the caller's thread, and waits are short. Each step looks under the lock of the
//! table whether both are still partners; a verdict on either ends that and settles who serves, at
//! once, whatever step it was. So a failure in the middle costs what it costs at any other time.

use std::sync::{MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use shared_ring::{DomainState, Role};

use super::domain_table::DomainEntry;
use super::failover::Failover;
use super::roles::{RoleEvent, RoleState};
use super::rules::{Health, Need};
use super::verdict::Verdict;
use microvm::domain::{DomainId, Life};
use platform::budget::{
    FILTERS_SETTLE, HANDOVER_OVERLAP, PAUSE_DEADLINE, PLANNED_WAIT, ROLE_DEADLINE,
};
use platform::clock::monotonic_ns;
use switchboard::{HandoverError, SwitchboardError};

/// Why a planned switch did not take place. The service goes on in each case.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// There is nothing to switch from.
    #[error("no domain serves")]
    NobodyServes,
    /// There is nothing to switch to.
    #[error("no healthy domain stands by")]
    NoSpare,
    /// The one that was asked for.
    #[error("{name} does not stand by: it is {state:?}")]
    NotStandby {
        /// Its name.
        name: String,
        /// What it is.
        state: RoleState,
    },
    /// The one that was asked for.
    #[error("{name} is not fit to serve: {health:?}")]
    Unhealthy {
        /// Its name.
        name: String,
        /// What speaks against it.
        health: Health,
    },
    /// Its driver has no NIC yet: the policy says so.
    #[error("{name} has not attached its NIC: the policy `spare` has no planned switch")]
    NotAttached {
        /// Its name.
        name: String,
    },
    /// It may stand still, and could not give the ring away then.
    #[error("{name} is in a debugger: end that first")]
    Debugged {
        /// Its name.
        name: String,
    },
    /// A drill, a switch or an upgrade is on.
    #[error("another planned operation is on")]
    Busy,
    /// A domain did not change its role within [`ROLE_DEADLINE`]; it is rebuilt.
    #[error("{name} does not change its role; it is built anew")]
    Unready {
        /// Its name.
        name: String,
    },
    /// A domain failed in the middle.
    #[error("a failover came in between")]
    Interrupted,
    /// The switchboard kept the ring where it was.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// The switchboard does not answer.
    #[error(transparent)]
    Switchboard(#[from] SwitchboardError),
}

/// A planned switch that took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchReport {
    /// The domain that served, and stands by now.
    pub from: DomainId,
    /// The domain that serves.
    pub to: DomainId,
    /// When it began, `CLOCK_MONOTONIC` nanoseconds.
    pub began_ns: u64,
    /// When the ring had changed hands.
    pub switched_ns: u64,
    /// When the other stood by.
    pub done_ns: u64,
    /// How long the guest's frames waited, in nanoseconds.
    pub waited_ns: u64,
    /// Frames that both NICs received, and the guest once.
    pub duplicates: u64,
}

/// The two domains of a switch, each with its life.
#[derive(Clone, Copy)]
struct Pair {
    from: (DomainId, u32),
    to: (DomainId, u32),
}

impl Failover {
    /// Hands the ring to another domain: `to`, or the best that stands by. Takes some milliseconds.
    ///
    /// # Errors
    /// See [`SwitchError`].
    pub fn switch_to(&self, to: Option<DomainId>) -> Result<SwitchReport, SwitchError> {
        let _planned = self.begin_planned().ok_or(SwitchError::Busy)?;
        self.switch_planned(to)
    }

    /// The right to a planned operation, if none is on or it ends soon.
    pub(super) fn begin_planned(&self) -> Option<MutexGuard<'_, ()>> {
        let end = Instant::now() + PLANNED_WAIT;
        loop {
            match self.planned.try_lock() {
                Ok(guard) => return Some(guard),
                // It guards an order, not data.
                Err(TryLockError::Poisoned(guard)) => return Some(guard.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() >= end => return None,
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// The switch itself; the caller holds the right to it.
    pub(super) fn switch_planned(&self, to: Option<DomainId>) -> Result<SwitchReport, SwitchError> {
        let began_ns = monotonic_ns();
        let duplicates_before = self.switchboard.counters().rx_twice.get();
        let pair = self.pair_up(to)?;
        let switched = self.hand_over(pair);
        let result = switched.and_then(|waited_ns| {
            let switched_ns = monotonic_ns();
            // What has come in behind the guests' announcements is the successor's too.
            wait_until(HANDOVER_OVERLAP, || self.switchboard.is_settled());
            std::thread::sleep(FILTERS_SETTLE);
            self.relieve(pair, pair.from)?;
            Ok((waited_ns, switched_ns))
        });
        self.part(pair);
        self.notify();
        let (waited_ns, switched_ns) = result?;
        let duplicates = self.switchboard.counters().rx_twice.get() - duplicates_before;
        let (from, to, done_ns) = (pair.from.0, pair.to.0, monotonic_ns());
        Ok(SwitchReport { from, to, began_ns, switched_ns, done_ns, waited_ns, duplicates })
    }

    /// Finds the two and makes them partners: from here on a verdict on one is about both.
    fn pair_up(&self, to: Option<DomainId>) -> Result<Pair, SwitchError> {
        let mut table = self.lock_table();
        let from = table.iter().position(|entry| entry.state == RoleState::Active);
        let from = from.ok_or(SwitchError::NobodyServes)?;
        let to = match to {
            Some(id) => id.index(),
            None => self.successor(&table, Need::CanStay).ok_or(SwitchError::NoSpare)?,
        };
        let name = || self.slots[to].name.clone();
        let entry = table.get(to).ok_or(SwitchError::NoSpare)?;
        if entry.state != RoleState::Standby {
            return Err(SwitchError::NotStandby { name: name(), state: entry.state });
        }
        if !self.attaches_early {
            return Err(SwitchError::NotAttached { name: name() });
        }
        let health = self.with_views(&table, |views| views[to].health());
        if !matches!(health, Health::Healthy | Health::HeldDown) {
            return Err(SwitchError::Unhealthy { name: name(), health });
        }
        if table[from].debugged {
            return Err(SwitchError::Debugged { name: self.slots[from].name.clone() });
        }
        table[from].partner = Some(to);
        table[to].partner = Some(from);
        let place = |index: usize| (self.slots[index].id, table[index].epoch);
        Ok(Pair { from: place(from), to: place(to) })
    }

    /// The end of a partnership, if a verdict has not ended it before.
    fn part(&self, pair: Pair) {
        let _ = self.together(pair, |table| {
            for (id, _) in [pair.from, pair.to] {
                table[id.index()].partner = None;
            }
        });
    }

    /// Does something to the table of two that are still partners.
    fn together<T>(
        &self,
        pair: Pair,
        act: impl FnOnce(&mut [DomainEntry]) -> T,
    ) -> Result<T, SwitchError> {
        let mut table = self.lock_table();
        let (from, to) = (pair.from.0.index(), pair.to.0.index());
        let are_partners = table[from].partner == Some(to) && table[to].partner == Some(from);
        let same = |(id, epoch): (DomainId, u32)| table[id.index()].epoch == epoch;
        if are_partners && same(pair.from) && same(pair.to) {
            Ok(act(&mut table))
        } else {
            Err(SwitchError::Interrupted)
        }
    }

    /// Steps 1 to 4. Returns how long the guest's frames waited.
    fn hand_over(&self, pair: Pair) -> Result<u64, SwitchError> {
        let (to, epoch) = pair.to;
        self.switchboard.overlap(to, epoch)?;
        let slot = &self.slots[to.index()];
        self.together(pair, |table| {
            slot.nic.arm_first_sent();
            if let Some(life) = &table[to.index()].life {
                life.release();
            }
            slot.nic.open_filters();
        })?;
        self.await_state(pair.to, DomainState::Serving)?;
        let waited_ns = match self.switchboard.hand_over(epoch) {
            Ok(waited_ns) => waited_ns,
            Err(error) => {
                // The ring stays where it was, and the successor goes back to where it came from.
                self.relieve(pair, pair.to)?;
                return Err(error.into());
            }
        };
        self.together(pair, |table| {
            let step = |table: &mut [DomainEntry], (id, _): (DomainId, u32), event| {
                let entry = &mut table[id.index()];
                // Partners have the roles that these steps start from.
                if let Ok(state) = entry.state.after(event) {
                    entry.state = state;
                }
            };
            step(table, pair.from, RoleEvent::Retire);
            step(table, pair.to, RoleEvent::TakeOver);
        })?;
        Ok(waited_ns)
    }

    /// Steps 5 to 7: the one that does not serve stands by again.
    fn relieve(&self, pair: Pair, idle: (DomainId, u32)) -> Result<(), SwitchError> {
        let index = idle.0.index();
        self.together(pair, |_| self.slots[index].nic.shut_filters())?;
        // What had passed the filters is with the driver before it is told to rest.
        std::thread::sleep(FILTERS_SETTLE);
        self.together(pair, |table| {
            if let Some(life) = &table[index].life {
                life.set_role(Role::Standby);
            }
        })?;
        self.await_state(idle, DomainState::Attached)?;
        self.switchboard.end_handover()?;
        Ok(())
    }

    /// Waits until a domain says that it has changed its role. One that does not has failed.
    fn await_state(
        &self,
        (id, epoch): (DomainId, u32),
        state: DomainState,
    ) -> Result<(), SwitchError> {
        let slot = &self.slots[id.index()];
        let is = || slot.status().state.load(std::sync::atomic::Ordering::Acquire) == state as u32;
        if wait_until(ROLE_DEADLINE, is) {
            return Ok(());
        }
        match self.life(id).filter(|life| life.epoch() == epoch && !life.is_stopped()) {
            Some(life) => {
                self.condemn(&life, Verdict::Unready);
                Err(SwitchError::Unready { name: slot.name.clone() })
            }
            None => Err(SwitchError::Interrupted),
        }
    }

    /// A verdict on a domain that runs: its vCPU out of the guest first.
    pub(super) fn condemn(&self, life: &Life, verdict: Verdict) {
        let entered_ns = life.last_entry_ns();
        life.expel();
        life.wait_out(Instant::now() + PAUSE_DEADLINE);
        self.verdict(life.id(), life.epoch(), verdict, entered_ns);
    }
}

/// Sampling every 50 µs until something holds or the time is over. For planned operations only.
pub(super) fn wait_until(deadline: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + deadline;
    loop {
        let late = Instant::now() >= end;
        // Asked after the time was looked at: this thread may have been away.
        if holds() {
            return true;
        }
        if late {
            return false;
        }
        std::thread::sleep(Duration::from_micros(50));
    }
}
