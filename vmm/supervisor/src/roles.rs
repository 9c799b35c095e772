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

/// The role of a domain at the moment.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum RoleState {
    /// Does not run: it was never started, or a verdict stopped it.
    Failed,
    /// Is being built; its driver has not attached its NIC yet.
    Restarting,
    /// Has its NIC attached, and is paused.
    Standby,
    /// Serves the ring.
    Active,
    /// Is not rebuilt for a while, because it failed too often in a row.
    Quarantined,
}

/// An event that changes the role of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleEvent {
    /// The rebuild thread begins to build the domain.
    Rebuild,
    /// The domain's driver has attached its NIC.
    Ready,
    /// The domain takes the ring.
    TakeOver,
    /// The domain gave the ring away in a planned switch.
    Retire,
    /// A verdict declared the domain failed.
    Fault,
    /// The domain failed too often in a row.
    GiveUp,
}

/// An event that is illegal in the domain's present role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a domain that is {state:?} has no step {event:?}")]
pub struct IllegalTransition {
    /// The role of the domain.
    pub state: RoleState,
    /// The event that was refused.
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
    /// All roles, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::Failed, Self::Restarting, Self::Standby, Self::Active, Self::Quarantined];

    /// The role after `event`.
    ///
    /// # Errors
    /// The event is illegal in this role.
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

    /// Returns true if the domain has no life that could still fail.
    pub(super) fn is_down(self) -> bool {
        match self {
            Self::Failed | Self::Quarantined => true,
            Self::Restarting | Self::Standby | Self::Active => false,
        }
    }

    /// Returns true if the domain serves, or could at once.
    pub(super) fn can_serve(self) -> bool {
        match self {
            Self::Active | Self::Standby => true,
            Self::Failed | Self::Restarting | Self::Quarantined => false,
        }
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
