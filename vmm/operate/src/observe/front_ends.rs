//! Notices that more front-ends wait at a socket than before.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::received_event::ReceivedEvent;
use super::snapshot::AppView;

/// At least this long between two events of one socket, so that a front-end that comes and goes does
/// not push out all other events.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What was seen of the sockets last, in the topology's order.
#[derive(Debug, Default)]
pub(crate) struct FrontEndWatch(Mutex<Vec<Seen>>);

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    waiting: usize,
    told: Option<Instant>,
}

impl FrontEndWatch {
    /// The events that follow from what the sockets are now.
    pub(crate) fn sample(&self, apps: &[AppView], now: Instant) -> Vec<ReceivedEvent> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.resize(apps.len(), Seen::default());
        seen.iter_mut().zip(apps).filter_map(|(seen, app)| seen.sample(app, now)).collect()
    }
}

impl Seen {
    fn sample(&mut self, app: &AppView, now: Instant) -> Option<ReceivedEvent> {
        if app.waiting <= self.waiting {
            self.waiting = app.waiting;
            return None;
        }
        if self.told.is_some_and(|told| now.duration_since(told) < TELL_EVERY) {
            return None;
        }
        *self = Self { waiting: app.waiting, told: Some(now) };
        let (socket, waiting) = (app.socket.clone(), app.waiting);
        Some(ReceivedEvent::FrontEndWaits { socket, waiting })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_further_front_end_is_told_once_and_not_too_often() {
        let watch = FrontEndWatch::default();
        let began = Instant::now();
        let told = |waiting, after_ms| {
            let app = AppView { socket: "/run/a.sock".into(), waiting, ..AppView::default() };
            !watch.sample(&[app], began + Duration::from_millis(after_ms)).is_empty()
        };
        let seen = [(0, 0), (1, 10), (1, 20), (0, 30), (1, 40), (1, 1020), (2, 3000), (1, 3010)];
        let events = seen.map(|(waiting, after_ms)| told(waiting, after_ms));
        assert_eq!(events, [false, true, false, false, false, true, true, false]);
    }
}
