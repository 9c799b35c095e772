//! The thread that watches the service as a whole: tells when its state changes, and goes back to the
//! preferred domain when that is due.
//!
//! Off every path: it is nudged when a role or a link changes, and looks then.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::event::Event;
use super::operator::Operator;
use super::rebuild_context::RebuildContext;
use super::rules::{FailBack, FailBackAdvice, SystemState};
use platform::clock::monotonic_ns;
use platform::one_line::one_line;

/// What the thread works with.
pub(super) struct Monitor {
    context: std::sync::Arc<RebuildContext>,
    known: SystemState,
    fail_back: Option<FailBack>,
}

impl Monitor {
    pub(super) fn new(
        context: std::sync::Arc<RebuildContext>,
        fail_back: Option<FailBack>,
    ) -> Self {
        let known = context.failover.system_state();
        Self { context, known, fail_back }
    }

    /// Sampling at each nudge, until it is told `false`.
    pub(super) fn run(mut self, notices: &Receiver<bool>) {
        let mut again = None;
        loop {
            let nudged = match again {
                Some(pause) => notices.recv_timeout(pause),
                None => notices.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match nudged {
                Ok(true) | Err(RecvTimeoutError::Timeout) => {}
                Ok(false) | Err(RecvTimeoutError::Disconnected) => return,
            }
            self.tell_state();
            again = self.go_back();
        }
    }

    fn tell_state(&mut self) {
        let state = self.context.failover.system_state();
        let from = std::mem::replace(&mut self.known, state);
        if from != state {
            self.context.tell(Event::State { from, to: state });
        }
    }

    /// Follows the fail-back rule. When to look again, if nothing else happens before.
    fn go_back(&mut self) -> Option<Duration> {
        let rule = self.fail_back.as_mut()?;
        let advice = rule.advise(&self.context.failover.views(), monotonic_ns());
        let until_ns = match advice {
            FailBackAdvice::Stay => return None,
            FailBackAdvice::WaitUntil(until_ns) => until_ns,
            FailBackAdvice::SwitchTo(index) => {
                let preferred = self.context.slots[index].id;
                let Err(error) = Operator::new(self.context.clone()).switch_to(Some(preferred))
                else {
                    return None;
                };
                let reason = one_line(&error);
                tracing::warn!(%reason, "cannot go back to the preferred domain now");
                rule.refused(monotonic_ns())
            }
        };
        Some(Duration::from_nanos(until_ns.saturating_sub(monotonic_ns()).max(1)))
    }
}
