//! Notices what guests send that is not let out, and the MAC addresses that they come to have.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::received_event::ReceivedEvent;
use super::snapshot::AppView;

/// At least this long between two events about the addresses of one guest, so that a guest which floods
/// with sources does not push out all other events.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What was seen of the guests, in the topology's order.
#[derive(Debug, Default)]
pub(crate) struct GuestFrameWatch(Mutex<Vec<Seen>>);

#[derive(Clone, Debug, Default)]
struct Seen {
    /// Reasons that were told.
    told: BTreeSet<String>,
    macs: Vec<String>,
    pushed_out: u64,
    macs_told: Option<Instant>,
}

impl GuestFrameWatch {
    /// The events that follow from what the guests have sent by now. Each reason for refusing frames
    /// is told once for each guest.
    pub(crate) fn sample(&self, apps: &[AppView], now: Instant) -> Vec<ReceivedEvent> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.resize(apps.len(), Seen::default());
        let mut events = Vec::new();
        for (index, (seen, app)) in seen.iter_mut().zip(apps).enumerate() {
            events.extend(seen.refusals(index, app));
            events.extend(seen.addresses(app, now));
        }
        events
    }
}

impl Seen {
    fn refusals(&mut self, index: usize, app: &AppView) -> Vec<ReceivedEvent> {
        let reasons = app.refused.iter().filter(|(_, count)| **count > 0).map(|(why, _)| why);
        let new: Vec<_> = reasons.filter(|why| !self.told.contains(*why)).cloned().collect();
        let told = |reason: String| {
            self.told.insert(reason.clone());
            let source = app.refused_source.clone().filter(|_| reason == "source");
            let mend = mend(index, &reason, source.as_deref());
            ReceivedEvent::FramesRefused { socket: app.socket.clone(), reason, source, mend }
        };
        new.into_iter().map(told).collect()
    }

    fn addresses(&mut self, app: &AppView, now: Instant) -> Option<ReceivedEvent> {
        let is_soon = self.macs_told.is_some_and(|told| now.duration_since(told) < TELL_EVERY);
        let pushed_out = app.macs_pushed_out - self.pushed_out;
        if is_soon || self.macs == app.macs && pushed_out == 0 {
            return None;
        }
        self.macs_told = Some(now);
        self.macs.clone_from(&app.macs);
        self.pushed_out = app.macs_pushed_out;
        let (socket, macs) = (app.socket.clone(), app.macs.clone());
        Some(ReceivedEvent::MacsChanged { socket, macs, pushed_out })
    }
}

/// Writes such an event to the log.
pub(crate) fn log(event: &ReceivedEvent) {
    match event {
        ReceivedEvent::FramesRefused { socket, reason, source, mend } => {
            let of = source.as_ref().map(|mac| format!(" from {mac}")).unwrap_or_default();
            tracing::warn!(socket, reason, "frames of a guest{of} are dropped; {mend}");
        }
        ReceivedEvent::MacsChanged { socket, macs, pushed_out } => {
            let macs = macs.join(", ");
            tracing::info!(socket, macs, pushed_out, "the MAC addresses beside its own of a guest");
        }
        _ => {}
    }
}

/// The line of the topology that lets such frames out, in words.
fn mend(index: usize, reason: &str, source: Option<&str>) -> String {
    match reason {
        "source" => {
            let source = source.unwrap_or("the address");
            format!(
                "to allow it, list {source} in apps[{index}].macs, or set that to \"learn\" or \
                 \"promiscuous\"; or give the guest the address that apps[{index}].mac says"
            )
        }
        "pause" => "it never leaves: it would stop the switch port of all guests".to_owned(),
        other => format!("to allow it, set apps[{index}].egress.{other} to true"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(refused: &[(&str, u64)], macs: &[&str]) -> AppView {
        AppView {
            socket: "/run/a.sock".into(),
            refused: refused.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect(),
            refused_source: Some("52:54:00:aa:bb:cc".into()),
            macs: macs.iter().map(|mac| (*mac).to_owned()).collect(),
            ..AppView::default()
        }
    }

    fn mends(events: Vec<ReceivedEvent>) -> Vec<String> {
        let mend = |event| match event {
            ReceivedEvent::FramesRefused { mend, .. } => Some(mend),
            _ => None,
        };
        events.into_iter().filter_map(mend).collect()
    }

    #[test]
    fn each_reason_is_told_once_with_the_line_that_mends_it() {
        let (watch, now) = (GuestFrameWatch::default(), Instant::now());
        assert!(watch.sample(&[app(&[("source", 0)], &[])], now).is_empty());
        let seen = [app(&[], &[]), app(&[("bpdu", 3), ("source", 1), ("pause", 1)], &[])];
        let told = mends(watch.sample(&seen, now));
        assert_eq!(told[0], "to allow it, set apps[1].egress.bpdu to true");
        assert!(told[1].contains("never leaves"), "{told:?}");
        assert!(told[2].contains("list 52:54:00:aa:bb:cc in apps[1].macs"), "{told:?}");
        assert!(watch.sample(&seen, now).is_empty(), "once");
    }

    #[test]
    fn new_addresses_are_told_and_not_too_often() {
        let (watch, began) = (GuestFrameWatch::default(), Instant::now());
        let told = |macs: &[&str], after_ms| {
            !watch.sample(&[app(&[], macs)], began + Duration::from_millis(after_ms)).is_empty()
        };
        let seen =
            [(&["a"][..], 0), (&["a"], 10), (&["a", "b"], 20), (&["a", "b"], 1010), (&[], 3000)];
        let events = seen.map(|(macs, after_ms)| told(macs, after_ms));
        assert_eq!(events, [true, false, false, true, true]);
    }
}
