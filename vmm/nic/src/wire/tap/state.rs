//! What is known of a TAP, and what that makes of its link.

use std::time::Instant;

use super::link::{LinkState, PortState};
use platform::budget::TAP_RETRY;

/// What is known of a TAP.
#[derive(Debug, Default)]
pub(super) struct State {
    link: LinkState,
    /// It is or was the port of a bridge, so without a bridge there is no network behind it.
    bridged: bool,
    /// Why there is no TAP, in one line, if there is none.
    absence: Option<String>,
    /// When it is looked for again.
    due: Option<Instant>,
}

impl State {
    /// What the kernel said last.
    pub(super) fn link(&self) -> LinkState {
        self.link
    }

    /// The kernel says this of a TAP that is there.
    pub(super) fn learn(&mut self, link: LinkState) {
        self.link = link;
        self.bridged |= link.port.is_some();
        self.absence = None;
        self.due = None;
    }

    /// There is no TAP. Returns true if that, or the reason, is new.
    pub(super) fn lose(&mut self, why: String, now: Instant) -> bool {
        // The one that comes next may have no bridge.
        self.bridged = false;
        self.link = LinkState::default();
        self.due = Some(now + TAP_RETRY);
        let is_new = self.absence.as_ref() != Some(&why);
        self.absence = Some(why);
        is_new
    }

    /// Returns true if the TAP is to be looked for now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| now >= due)
    }

    /// Returns true if frames pass.
    pub(super) fn passes(&self) -> bool {
        self.link.running
            && match self.link.port {
                Some(port) => port == PortState::Forwarding,
                None => !self.bridged,
            }
    }

    /// Why no frames pass, in one line, as far as it is known.
    pub(super) fn trouble(&self) -> Option<String> {
        if let Some(absence) = &self.absence {
            return Some(absence.clone());
        }
        match self.link.port {
            _ if self.passes() || !self.link.running => None,
            Some(port) => Some(format!("port blocked by the bridge ({})", port.name())),
            None => Some("it has left its bridge".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(links: &[(bool, Option<PortState>)]) -> State {
        let mut state = State::default();
        for &(running, port) in links {
            state.learn(LinkState { running, port });
        }
        state
    }

    #[test]
    fn only_a_port_that_forwards_is_a_link() {
        let all = [
            PortState::Disabled,
            PortState::Listening,
            PortState::Learning,
            PortState::Forwarding,
            PortState::Blocking,
        ];
        for port in all {
            let state = state(&[(true, Some(port))]);
            assert_eq!(state.passes(), port == PortState::Forwarding, "{port:?}");
            let words = (port != PortState::Forwarding)
                .then(|| format!("port blocked by the bridge ({})", port.name()));
            assert_eq!(state.trouble(), words);
        }
        let down = state(&[(false, Some(PortState::Disabled))]);
        assert!(!down.passes() && down.trouble().is_none(), "switched off: the port says nothing");
    }

    #[test]
    fn a_port_that_left_its_bridge_has_no_network() {
        let never = state(&[(true, None)]);
        assert!(never.passes(), "one that never was a port may be routed");
        let left = state(&[(true, Some(PortState::Forwarding)), (true, None)]);
        assert!(!left.passes() && left.trouble().is_some());
        let back = state(&[
            (true, Some(PortState::Forwarding)),
            (true, None),
            (true, Some(PortState::Forwarding)),
        ]);
        assert!(back.passes() && back.trouble().is_none());
    }

    #[test]
    fn an_absence_is_new_once_and_ends() {
        let now = Instant::now();
        let mut state = state(&[(true, Some(PortState::Forwarding))]);
        assert!(state.lose("gone".into(), now) && !state.lose("gone".into(), now));
        assert!(state.lose("in use".into(), now), "another reason");
        assert_eq!(state.trouble().as_deref(), Some("in use"));
        assert!(!state.is_due(now) && state.is_due(now + TAP_RETRY));
        assert!(!state.passes());
        state.learn(LinkState { running: true, port: None });
        assert!(state.passes() && state.trouble().is_none());
    }
}
