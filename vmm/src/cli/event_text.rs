//! Events of a running system as text, one line each.

use microvm::domain::DomainId;
use supervisor::{DrillReport, Event, FailoverReport};

/// Gives a domain's name.
type Name<'a> = &'a dyn Fn(DomainId) -> &'a str;

/// An event as one line of text.
pub(super) fn event_text(event: &Event, name: Name<'_>) -> String {
    match event {
        Event::Link { nic, up } => format!("link of {nic} is {}", if *up { "up" } else { "down" }),
        Event::Failover(report) => failover(report, name),
        Event::Healed { domain, delayed_us, .. } => {
            format!("{} lost a wakeup, which was repaired {delayed_us} µs later", name(*domain))
        }
        Event::Ready { domain, state, .. } => format!("{} is {state:?}", name(*domain)),
        Event::BuildFailed { domain, reason, given_up } => {
            let more = if *given_up { "; given up" } else { "" };
            format!("{} could not be built: {reason}{more}", name(*domain))
        }
        Event::Quarantined { domain, pause } => format!(
            "{} failed too often: it is left alone for {:.1} s, or until it is needed",
            name(*domain),
            pause.as_secs_f64()
        ),
        Event::State { from, to } => format!("the service is {to:?}, it was {from:?}"),
        Event::Switched(report) => format!(
            "{} serves instead of {}; frames waited {} µs",
            name(report.to),
            name(report.from),
            report.waited_ns / 1000
        ),
        Event::Drilled(report) => drilled(report, name),
        Event::Upgraded(report) => format!(
            "all domains run the new driver, {} serves; it took {:.1} s",
            name(report.serves),
            report.took.as_secs_f64()
        ),
        Event::UpgradeFailed { reason } => format!("no upgrade: {reason}"),
        Event::Dumped { domain, folder, requested } => {
            let what = if *requested { "a dump of" } else { "the dump of the failed domain" };
            format!("{what} {} is in {}", name(*domain), folder.display())
        }
        Event::DumpLost { domain, reason } => {
            format!("no dump of {} could be written: {reason}", name(*domain))
        }
        Event::Paused { domain } => format!("{} is paused", name(*domain)),
        Event::Resumed { domain } => format!("{} is resumed", name(*domain)),
        Event::Debugger { domain, attached: true } => {
            format!("{} waits for a debugger", name(*domain))
        }
        Event::Debugger { domain, attached: false } => {
            format!("the debugger of {} has disconnected", name(*domain))
        }
    }
}

fn failover(report: &FailoverReport, name: Name<'_>) -> String {
    let record = &report.record;
    format!(
        "{} failed ({}: {}): {} takes over; {}",
        name(record.from),
        record.verdict.cause(),
        record.verdict,
        record.to.map_or("no domain", name),
        report.crash_summary
    )
}

fn drilled(report: &DrillReport, name: Name<'_>) -> String {
    let domain = name(report.domain);
    match report.blame {
        None => format!("{domain} passed its drill in {} µs", report.round_trip_ns / 1000),
        Some(blame) => {
            format!("the drill of {domain} failed, to blame: {blame:?}; {:?}", report.evidence)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_have_their_names() {
        let name = |id: DomainId| ["a", "b"][id.index()];
        let [a, b] = [DomainId(0), DomainId(1)];
        let folder = || "/dumps/1".into();
        for (event, text) in [
            (Event::Link { nic: "nic-a".into(), up: false }, "link of nic-a is down"),
            (Event::Paused { domain: b }, "b is paused"),
            (
                Event::Dumped { domain: a, folder: folder(), requested: true },
                "a dump of a is in /dumps/1",
            ),
            (
                Event::Dumped { domain: a, folder: folder(), requested: false },
                "the dump of the failed domain a is in /dumps/1",
            ),
        ] {
            assert_eq!(event_text(&event, &name), text);
        }
    }
}
