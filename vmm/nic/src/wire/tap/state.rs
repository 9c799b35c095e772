//! What is known of a TAP, and what that makes of its link.

use std::time::Instant;

use super::link::{LinkState, PortState};
use platform::budget::{TAP_PORT_GRACE, TAP_RETRY};

/// What is known of a TAP.
#[derive(Debug, Default)]
pub(super) struct State {
    link: LinkState,
    /// It is or was the port of a bridge, so without a bridge there is no network behind it.
    bridged: bool,
    /// The link as it is shown.
    up: bool,
    /// When a link that is shown as up goes down, unless its port is open again by then.
    closes: Option<Instant>,
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

    /// The kernel says this of a TAP that is there. A link goes down with its interface at once,
    /// and with its port after a grace: whoever puts a port into another bridge, or changes it,
    /// takes it out for a moment, and that is no link that flaps.
    pub(super) fn learn(&mut self, link: LinkState, now: Instant) {
        self.link = link;
        self.bridged |= link.port.is_some();
        self.absence = None;
        self.due = None;
        if !link.running || self.is_open() {
            self.up = link.running;
            self.closes = None;
        } else if self.up {
            let closes = *self.closes.get_or_insert(now + TAP_PORT_GRACE);
            self.up = now < closes;
        }
    }

    /// There is no TAP. Returns true if that, or the reason, is new.
    pub(super) fn lose(&mut self, why: String, now: Instant) -> bool {
        let is_new = self.absence.as_ref() != Some(&why);
        // Nothing is known of the one that comes next.
        *self = Self { absence: Some(why), due: Some(now + TAP_RETRY), ..Self::default() };
        is_new
    }

    /// Returns true if the TAP is to be looked for now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| now >= due)
    }

    /// Returns true if the link is up.
    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    /// Returns true if the link is up and about to go down.
    pub(super) fn is_closing(&self) -> bool {
        self.up && self.closes.is_some()
    }

    /// Returns true if its port lets frames pass, or it needs none.
    fn is_open(&self) -> bool {
        match self.link.port {
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
            _ if self.is_open() || !self.link.running => None,
            Some(port) => Some(format!("port blocked by the bridge ({})", port.name())),
            None => Some("it has left its bridge".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The state after these, each of them heard twice: at once, and after the grace.
    fn state(links: &[(bool, Option<PortState>)]) -> State {
        let mut state = State::default();
        let now = Instant::now();
        for &(running, port) in links {
            state.learn(LinkState { running, port }, now);
            state.learn(LinkState { running, port }, now + TAP_PORT_GRACE);
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
            for before in [false, true] {
                let state = state(&[(before, Some(PortState::Forwarding)), (true, Some(port))]);
                assert_eq!(state.is_up(), port == PortState::Forwarding, "{port:?}");
                let words = (port != PortState::Forwarding)
                    .then(|| format!("port blocked by the bridge ({})", port.name()));
                assert_eq!(state.trouble(), words);
            }
        }
        let down = state(&[(false, Some(PortState::Disabled))]);
        assert!(!down.is_up() && down.trouble().is_none(), "switched off: the port says nothing");
    }

    #[test]
    fn a_port_that_left_its_bridge_has_no_network() {
        let forwards = (true, Some(PortState::Forwarding));
        let never = state(&[(true, None)]);
        assert!(never.is_up(), "one that never was a port may be routed");
        let left = state(&[forwards, (true, None)]);
        assert!(!left.is_up() && left.trouble().is_some());
        let back = state(&[forwards, (true, None), forwards]);
        assert!(back.is_up() && back.trouble().is_none());
    }

    #[test]
    fn a_port_that_is_away_for_a_moment_is_no_link_that_flaps() {
        let link = |port| LinkState { running: true, port };
        let (now, mut state) = (Instant::now(), State::default());
        let moment = TAP_PORT_GRACE / 2;
        state.learn(link(Some(PortState::Forwarding)), now);
        for times in 1..9 {
            state.learn(link(None), now + moment * times);
            assert!(state.is_up() && state.is_closing());
            state.learn(link(Some(PortState::Forwarding)), now + moment * times);
            assert!(state.is_up() && !state.is_closing());
        }
        // A port that was never open since its interface came up is not shown as up for a moment.
        state.learn(LinkState { running: false, port: None }, now);
        assert!(!state.is_up());
        state.learn(link(Some(PortState::Listening)), now);
        assert!(!state.is_up() && !state.is_closing());
    }

    #[test]
    fn an_absence_is_new_once_and_ends() {
        let now = Instant::now();
        let mut state = state(&[(true, Some(PortState::Forwarding))]);
        assert!(state.lose("gone".into(), now) && !state.lose("gone".into(), now));
        assert!(state.lose("in use".into(), now), "another reason");
        assert_eq!(state.trouble().as_deref(), Some("in use"));
        assert!(!state.is_due(now) && state.is_due(now + TAP_RETRY));
        assert!(!state.is_up());
        state.learn(LinkState { running: true, port: None }, now);
        assert!(state.is_up() && state.trouble().is_none());
    }
}
