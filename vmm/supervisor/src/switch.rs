//! The planned switch: from one healthy domain to another, without a lost or doubled frame.
//!
//! ```text
//!          switchboard                  the successor                   the domain that serves
//!   1.     reads both, each frame once
//!   2.                                  released, filters open
//!   3.     guest's frames wait                                          sends what it has
//!   4.     ring changes hands           serves, announces the guest
//!   5.                                                                  hears the announcements:
//!                                                                       filters shut
//!   6.                                                                  stands by
//!   7.     reads one
//! ```
//! All of it runs on the caller's thread, and waits are short. Each step checks with the domain
//! table locked that both domains are still partners. A verdict on either ends the partnership and
//! decides at once which domain serves, whatever step the switch was at. So a failure in the middle
//! costs what it costs at any other time.

use shared_ring::DomainState;

use super::domain::Domain;
use super::domain_table::TableGuard;
use super::failover::Failover;
use super::reports::SwitchReport;
use super::roles::{RoleEvent, RoleState};
use super::rules::{Health, Need};
use super::verdict::Verdict;
use super::views;
use super::wait::wait_until;
use microvm::domain::DomainId;
use platform::budget::{FILTERS_SETTLE, HANDOVER_OVERLAP, ROLE_DEADLINE};
use platform::clock::monotonic_ns;
use switchboard::{HandoverError, SwitchboardError};

/// Why a planned switch did not take place. The service goes on in each case.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// There is no domain to switch from.
    #[error("no domain serves")]
    NobodyServes,
    /// There is no domain to switch to.
    #[error("no healthy domain stands by")]
    NoSpare,
    /// The domain that was named does not stand by.
    #[error("{name} does not stand by: it is {state:?}")]
    NotStandby {
        /// Its name.
        name: String,
        /// Its role.
        state: RoleState,
    },
    /// The domain that was named is not healthy.
    #[error("{name} is not fit to serve: {health:?}")]
    Unhealthy {
        /// Its name.
        name: String,
        /// What speaks against it.
        health: Health,
    },
    /// Under this policy a standby's driver has no NIC yet.
    #[error("{name} has not attached its NIC: the policy `spare` has no planned switch")]
    NotAttached {
        /// Its name.
        name: String,
    },
    /// The active domain may be stopped, and then could not give the ring away.
    #[error("{name} is in a debugger: end that first")]
    Debugged {
        /// Its name.
        name: String,
    },
    /// A drill, another switch or an upgrade is in progress.
    #[error("another planned operation is in progress")]
    Busy,
    /// A domain did not change its role within [`ROLE_DEADLINE`]; it is rebuilt.
    #[error("{name} does not change its role; it is rebuilt")]
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

/// One life of a domain that takes part in a switch.
#[derive(Clone, Copy)]
struct Party {
    id: DomainId,
    epoch: u32,
}

/// The two parties of a switch.
#[derive(Clone, Copy)]
struct Pair {
    from: Party,
    to: Party,
}

impl Failover {
    /// Hands the ring to another domain: `to`, or the best that stands by. Takes some milliseconds.
    ///
    /// # Errors
    /// See [`SwitchError`].
    pub fn switch_to(&self, to: Option<DomainId>) -> Result<SwitchReport, SwitchError> {
        let _planned = self.planned.begin().ok_or(SwitchError::Busy)?;
        self.switch_planned(to)
    }

    /// The switch itself; the caller holds the right to a planned operation.
    pub(super) fn switch_planned(&self, to: Option<DomainId>) -> Result<SwitchReport, SwitchError> {
        let began_ns = monotonic_ns();
        let duplicates_before = self.switchboard.counters().rx_twice.get();
        let pair = self.pair_up(to)?;
        let result = self.switch_pair(pair);
        self.part(pair);
        self.notify();
        self.notify_drills();
        let (waited_ns, switched_ns) = result?;
        let duplicates = self.switchboard.counters().rx_twice.get() - duplicates_before;
        let (from, to, done_ns) = (pair.from.id, pair.to.id, monotonic_ns());
        Ok(SwitchReport { from, to, began_ns, switched_ns, done_ns, waited_ns, duplicates })
    }

    /// Steps 1 to 7. Returns how long the guest's frames waited, and when the ring had changed
    /// hands.
    fn switch_pair(&self, pair: Pair) -> Result<(u64, u64), SwitchError> {
        let waited_ns = self.hand_over(pair)?;
        let switched_ns = monotonic_ns();
        // What comes in after the guests' announcements comes to the successor too.
        wait_until(HANDOVER_OVERLAP, || self.switchboard.is_settled());
        std::thread::sleep(FILTERS_SETTLE);
        self.relieve(pair, pair.from)?;
        Ok((waited_ns, switched_ns))
    }

    /// Chooses the two domains and makes them partners: from here on a verdict on one concerns
    /// both.
    fn pair_up(&self, to: Option<DomainId>) -> Result<Pair, SwitchError> {
        let mut table = self.lock_table();
        let from = table.active().ok_or(SwitchError::NobodyServes)?;
        let to = match to {
            Some(id) => id.index(),
            None => self.successor(&table, Need::CanStay).ok_or(SwitchError::NoSpare)?,
        };
        self.check_pair(&table, from, to)?;
        table[from].standing.partner = Some(to);
        table[to].standing.partner = Some(from);
        let party = |n: usize| Party { id: self.domains[n].id(), epoch: table[n].epoch() };
        Ok(Pair { from: party(from), to: party(to) })
    }

    fn check_pair(
        &self,
        table: &TableGuard<'_>,
        from: usize,
        to: usize,
    ) -> Result<(), SwitchError> {
        let entry = table.get(to).ok_or(SwitchError::NoSpare)?;
        let name = |domain: &Domain| domain.name().to_owned();
        let (from_domain, to_domain) = (&self.domains[from], &self.domains[to]);
        if entry.role() != RoleState::Standby {
            return Err(SwitchError::NotStandby { name: name(to_domain), state: entry.role() });
        }
        if !self.attaches_early {
            return Err(SwitchError::NotAttached { name: name(to_domain) });
        }
        let health = views::with_views(&self.domains, table, |views| views[to].health());
        if !matches!(health, Health::Healthy | Health::Unproven | Health::HeldDown) {
            return Err(SwitchError::Unhealthy { name: name(to_domain), health });
        }
        if table[from].debugged {
            return Err(SwitchError::Debugged { name: name(from_domain) });
        }
        Ok(())
    }

    /// Ends a partnership, unless a verdict has ended it before.
    fn part(&self, pair: Pair) {
        let _ = self.while_partners(pair, |table| {
            for party in [pair.from, pair.to] {
                table[party.id.index()].standing.partner = None;
            }
        });
    }

    /// Acts on the table if the two are still partners, each in the same life.
    fn while_partners<T>(
        &self,
        pair: Pair,
        act: impl FnOnce(&mut TableGuard<'_>) -> T,
    ) -> Result<T, SwitchError> {
        let mut table = self.lock_table();
        let is_partner = |of: Party, other: Party| {
            let entry = &table[of.id.index()];
            entry.standing.partner == Some(other.id.index()) && entry.epoch() == of.epoch
        };
        if is_partner(pair.from, pair.to) && is_partner(pair.to, pair.from) {
            Ok(act(&mut table))
        } else {
            Err(SwitchError::Interrupted)
        }
    }

    /// Steps 1 to 4. Returns how long the guest's frames waited.
    fn hand_over(&self, pair: Pair) -> Result<u64, SwitchError> {
        let Party { id, epoch } = pair.to;
        self.switchboard.overlap(id, epoch)?;
        let domain = self.domain(id);
        self.while_partners(pair, |table| {
            domain.arm_first_sent();
            if let Some(life) = &table[id.index()].life {
                life.release();
            }
            domain.open_filters();
        })?;
        self.await_state(pair.to, DomainState::Serving)?;
        let waited_ns = match self.switchboard.hand_over(epoch) {
            Ok(waited_ns) => waited_ns,
            Err(error) => {
                // The ring stays where it was, and the successor stands by again.
                self.relieve(pair, pair.to)?;
                return Err(error.into());
            }
        };
        self.while_partners(pair, |table| {
            // Partners have the roles that these steps start from.
            let _ = table.step(pair.from.id.index(), RoleEvent::Retire);
            let _ = table.step(pair.to.id.index(), RoleEvent::TakeOver);
        })?;
        Ok(waited_ns)
    }

    /// Steps 5 to 7: the domain that does not serve stands by again.
    fn relieve(&self, pair: Pair, idle: Party) -> Result<(), SwitchError> {
        self.while_partners(pair, |_| self.domain(idle.id).shut_filters())?;
        // The driver gets what has passed the filters before it is told to rest.
        std::thread::sleep(FILTERS_SETTLE);
        self.while_partners(pair, |table| {
            if let Some(life) = &table[idle.id.index()].life {
                life.stand_by();
            }
        })?;
        self.await_state(idle, DomainState::Attached)?;
        self.switchboard.end_handover()?;
        Ok(())
    }

    /// Waits until a domain reports that it has changed its role. A domain that does not has
    /// failed.
    fn await_state(&self, party: Party, state: DomainState) -> Result<(), SwitchError> {
        let domain = self.domain(party.id);
        if wait_until(ROLE_DEADLINE, || domain.has_state(state)) {
            return Ok(());
        }
        let life = self.life_of(party.id);
        match life.filter(|life| life.epoch() == party.epoch && !life.is_stopped()) {
            Some(life) => {
                self.condemn(&life, Verdict::Unready);
                Err(SwitchError::Unready { name: domain.name().to_owned() })
            }
            None => Err(SwitchError::Interrupted),
        }
    }
}
