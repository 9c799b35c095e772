//! The roles of a domain, and every legal step between them.
//!
//! ```text
//!             Rebuild              Ready              TakeOver
//!   Failed ───────────▶ Restarting ──────▶ Standby ◀────────────▶ Active
//!                                                       Retire
//!     ▲ │ GiveUp          ▲ │ Fault           │ Fault               │ Fault
//!     │ ▼         Rebuild   │ ▼                 ▼                     ▼
//!     │ Quarantined ────────┘ └───────────▶ Failed ◀──────────────────┘
//! ```

use std::fmt;

/// What a domain is at the moment.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum RoleState {
    /// Not running: never started, or stopped by a verdict.
    Failed,
    /// Being built; not yet attached to its NIC.
    Restarting,
    /// Attached to its NIC, paused.
    Standby,
    /// Serves the ring.
    Active,
    /// Left alone for a while: it failed too often in a row.
    Quarantined,
}

/// What happens to a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleEvent {
    /// The rebuild thread begins to build it.
    Rebuild,
    /// Its driver is attached.
    Ready,
    /// It takes the ring.
    TakeOver,
    /// It gave the ring away in a planned switch.
    Retire,
    /// A verdict fell on it.
    Fault,
    /// It failed too often in a row.
    GiveUp,
}

/// A step that the table does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a domain that is {state:?} has no step {event:?}")]
pub struct IllegalTransition {
    /// What the domain was.
    pub state: RoleState,
    /// What was to happen.
    pub event: RoleEvent,
}

impl fmt::Display for RoleState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed => "failed",
            Self::Restarting => "restarting",
            Self::Standby => "standby",
            Self::Active => "active",
            Self::Quarantined => "quarantined",
        })
    }
}

impl RoleState {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::Failed, Self::Restarting, Self::Standby, Self::Active, Self::Quarantined];

    /// The state after `event`.
    ///
    /// # Errors
    /// The table has no such step; the state stays.
    pub fn after(self, event: RoleEvent) -> Result<Self, IllegalTransition> {
        use RoleEvent as E;
        Ok(match (self, event) {
            (Self::Failed | Self::Quarantined, E::Rebuild) => Self::Restarting,
            (Self::Restarting, E::Ready) => Self::Standby,
            (Self::Standby, E::TakeOver) => Self::Active,
            (Self::Active, E::Retire) => Self::Standby,
            (Self::Restarting | Self::Standby | Self::Active, E::Fault) => Self::Failed,
            (Self::Failed, E::GiveUp) => Self::Quarantined,
            (state, event) => return Err(IllegalTransition { state, event }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [RoleEvent; 6] = [
        RoleEvent::Rebuild,
        RoleEvent::Ready,
        RoleEvent::TakeOver,
        RoleEvent::Retire,
        RoleEvent::Fault,
        RoleEvent::GiveUp,
    ];

    #[test]
    fn a_life_goes_round() {
        let mut state = RoleState::Failed;
        for event in [RoleEvent::Rebuild, RoleEvent::Ready, RoleEvent::TakeOver, RoleEvent::Fault] {
            state = state.after(event).unwrap();
        }
        assert_eq!(state, RoleState::Failed);
    }

    #[test]
    fn exactly_nine_steps_are_legal() {
        let legal = RoleState::ALL
            .iter()
            .flat_map(|s| EVENTS.iter().map(move |e| s.after(*e)))
            .filter(Result::is_ok)
            .count();
        assert_eq!(legal, 9);
    }

    #[test]
    fn a_quarantined_domain_can_only_be_built_anew() {
        for event in EVENTS {
            let step = RoleState::Quarantined.after(event);
            match event {
                RoleEvent::Rebuild => assert_eq!(step, Ok(RoleState::Restarting)),
                _ => assert!(step.is_err(), "{event:?}"),
            }
        }
    }

    #[test]
    fn only_a_standby_takes_over() {
        for state in RoleState::ALL {
            let step = state.after(RoleEvent::TakeOver);
            let expected = IllegalTransition { state, event: RoleEvent::TakeOver };
            match state {
                RoleState::Standby => assert_eq!(step, Ok(RoleState::Active)),
                _ => assert_eq!(step, Err(expected)),
            }
        }
    }
}
