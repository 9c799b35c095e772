//! The monitor thread: it reports when the state of the service as a whole changes, and goes back
//! to the preferred domain when that is due.
//!
//! It is on no failover's path: it is notified when a role or a link has changed, and evaluates the
//! state then.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::event::Event;
use super::failover::Notice;
use super::operator::Operator;
use super::rebuild_context::RebuildContext;
use super::rules::{FailBack, FailBackAdvice, SystemState};
use platform::clock::monotonic_ns;
use platform::one_line::one_line;
use platform::realtime::guarded;

/// What the thread works with.
pub(super) struct Monitor {
    context: Arc<RebuildContext>,
    known: SystemState,
    fail_back: Option<FailBack>,
}

impl Monitor {
    pub(super) fn new(context: Arc<RebuildContext>, fail_back: Option<FailBack>) -> Self {
        let known = context.failover.system_state();
        Self { context, known, fail_back }
    }

    /// Evaluates the state at each notice, until the system ends.
    pub(super) fn run(mut self, notices: &Receiver<Notice>) {
        let mut pause = None;
        loop {
            let notice = match pause {
                Some(pause) => notices.recv_timeout(pause),
                None => notices.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match notice {
                Ok(Notice::Changed) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Notice::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
            // What it knows is written whole, so a panic costs this look and not the next.
            let look = guarded("monitor", || {
                self.report_state();
                self.go_back()
            });
            pause = look.flatten();
        }
    }

    fn report_state(&mut self) {
        let state = self.context.failover.system_state();
        let from = std::mem::replace(&mut self.known, state);
        if from != state {
            self.context.report(Event::State { from, to: state });
        }
    }

    /// Follows the fail-back rule. Returns after what time to ask it again, if nothing changes
    /// before.
    fn go_back(&mut self) -> Option<Duration> {
        let rule = self.fail_back.as_mut()?;
        let advice = rule.advise(&self.context.failover.views(), monotonic_ns());
        let until_ns = match advice {
            FailBackAdvice::Stay => return None,
            FailBackAdvice::WaitUntil(until_ns) => until_ns,
            FailBackAdvice::SwitchTo(index) => {
                let preferred = self.context.failover.domains[index].id();
                let operator = Operator::new(self.context.clone());
                let Err(error) = operator.switch_to(Some(preferred)) else { return None };
                let reason = one_line(&error);
                tracing::warn!(%reason, "cannot go back to the preferred domain now");
                rule.refused(monotonic_ns())
            }
        };
        Some(Duration::from_nanos(until_ns.saturating_sub(monotonic_ns()).max(1)))
    }
}
