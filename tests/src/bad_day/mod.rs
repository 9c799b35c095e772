//! `cargo xtask bad-day`: runs the program as a service manager would, under traffic, and lets
//! everything around it go wrong, one incident after the other.
//!
//! ```text
//!  warmspare app ── vhost-user ── warmspare run ─┬─ TAP ws-a ─┐
//!  (echo)             API socket, event file,    └─ TAP ws-b ─┴─ bridge ── veth ── the host: a UDP
//!                     log pipe                      (network namespaces)           ping each 4 ms
//! ```
//!
//! After each incident the service must come back by itself, redundancy too, and no domain may have
//! failed that the incident gives no reason for. At the end no datagram may be damaged, every line
//! of the event file must parse, and memory and descriptors must be what they were after the first
//! round. NICs that are unbound need a machine with VFIO, so that this leaves them out.

mod incidents;
mod mount;
mod service;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use lab::traffic::Ledger;
use platform::clock::monotonic_ns;
use serde_json::{Value, json};

use incidents::{Incident, LAST, REPEATED};
use service::{Resources, Service};

use crate::realguest::lan::Lan;

/// How long the service may be away after an incident is over.
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// How long redundancy may be away after that: a domain that failed is built again after a growing
/// delay.
const REDUNDANT_WITHIN: Duration = Duration::from_secs(30);
/// Time with nothing wrong after each incident.
const CALM: Duration = Duration::from_millis(500);
/// By how much the resident memory may grow in the second half of the rounds. In the first half the
/// allocator gets what a thousand connections need, in smaller and smaller steps.
const GROWTH_KIB: u64 = 1024;
/// By how many the open descriptors may grow in all: a connection may be about to close.
const DESCRIPTORS: u64 = 2;

/// Command-line arguments.
#[derive(Debug, clap::Args)]
pub struct BadDayArgs {
    /// How long the rounds of incidents go on; a round that has begun is finished
    #[arg(long, default_value_t = 10, value_name = "N")]
    minutes: u64,
    /// Run one round without the incidents that change the whole machine, as the test command does
    #[arg(long)]
    short: bool,
}

/// What an incident did.
struct Record {
    name: &'static str,
    from_ns: u64,
    to_ns: u64,
    back_ms: f64,
    failovers: BTreeMap<String, u64>,
    failure: Option<String>,
}

/// Lets the incidents happen, round after round.
///
/// # Errors
/// The service did not survive an incident as it should have, or cannot be run here.
pub fn run(args: &BadDayArgs) -> Result<()> {
    let lan = Lan::new()?;
    let mut service = Service::start(&lan)?;
    let (began, lasts) = (Instant::now(), Duration::from_secs(60 * args.minutes));
    let mut records = Vec::new();
    let first = service.resources()?;
    let mut settled_kib = None;
    loop {
        for incident in REPEATED.iter().filter(|incident| !args.short || !incident.whole_machine) {
            records.push(suffer(&mut service, incident));
        }
        if args.short || began.elapsed() > lasts {
            break;
        }
        if began.elapsed() > lasts / 2 && settled_kib.is_none() {
            settled_kib = Some(service.resources()?.resident_kib);
        }
    }
    let last = service.resources()?;
    records.push(suffer(&mut service, &LAST));
    let events = service.check_event_file()?;
    let ledger = service.finish()?;
    for record in &records {
        println!("{}", line(record, &ledger));
    }
    let whole = json!({
        "kind": "day", "incidents": records.len(), "events": events,
        "sent": ledger.total_sent(), "echoed": ledger.total_echoed(),
        "damaged": ledger.total_corrupted(),
        "resident_kib": [first.resident_kib, settled_kib, last.resident_kib],
        "descriptors": [first.descriptors, last.descriptors],
    });
    println!("{whole}");
    judge(&records, &ledger)?;
    judge_resources(first, settled_kib, last)
}

/// Lets one incident happen, and waits until the service is whole again.
fn suffer(service: &mut Service<'_>, incident: &Incident) -> Record {
    let before = service.failovers().unwrap_or_default();
    let from_ns = monotonic_ns();
    let mut record = Record {
        name: incident.name,
        from_ns,
        to_ns: from_ns,
        back_ms: 0.0,
        failovers: BTreeMap::new(),
        failure: None,
    };
    let done = (incident.happen)(service).and_then(|()| recover(service, &mut record));
    let done = done.and_then(|()| {
        record.failovers = difference(&before, &service.failovers()?);
        let uncaused = record.failovers.keys().find(|cause| !incident.explains(cause));
        ensure!(uncaused.is_none(), "a failover without reason: {:?}", record.failovers);
        Ok(())
    });
    record.to_ns = monotonic_ns();
    record.failure = done.err().map(|error| format!("{error:#}"));
    if let Some(failure) = &record.failure {
        eprintln!("bad-day: {}: {failure}", record.name);
    }
    record
}

fn recover(service: &mut Service<'_>, record: &mut Record) -> Result<()> {
    let back = service.wait_answers(BACK_WITHIN)?;
    record.back_ms = back.as_secs_f64() * 1000.0;
    service.wait_redundant(REDUNDANT_WITHIN)?;
    std::thread::sleep(CALM);
    Ok(())
}

/// Returns how many failovers of each cause came in addition.
fn difference(
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    let more = after.iter().map(|(cause, count)| {
        (cause.clone(), count.saturating_sub(before.get(cause).copied().unwrap_or(0)))
    });
    more.filter(|(_, count)| *count > 0).collect()
}

fn line(record: &Record, ledger: &Ledger) -> Value {
    let gap = ledger.longest_gap(record.from_ns, record.to_ns).unwrap_or_default();
    json!({
        "kind": "incident", "name": record.name, "ok": record.failure.is_none(),
        "why": record.failure, "failovers": record.failovers, "back_ms": record.back_ms,
        "interruption_ms": gap.length_ns() as f64 / 1e6,
        "lost": ledger.lost_between(record.from_ns, record.to_ns),
    })
}

fn judge(records: &[Record], ledger: &Ledger) -> Result<()> {
    let failed: Vec<_> =
        records.iter().filter(|r| r.failure.is_some()).map(|record| record.name).collect();
    if !failed.is_empty() {
        bail!("bad-day: {} of {} incidents: {}", failed.len(), records.len(), failed.join(", "));
    }
    ensure!(ledger.total_corrupted() == 0, "{} damaged datagrams", ledger.total_corrupted());
    Ok(())
}

/// One round says nothing of memory, so that `settled_kib` is `None` then.
fn judge_resources(first: Resources, settled_kib: Option<u64>, last: Resources) -> Result<()> {
    let growth_kib = settled_kib.map_or(0, |kib| last.resident_kib.saturating_sub(kib));
    ensure!(growth_kib <= GROWTH_KIB, "the program's memory grew by {growth_kib} KiB");
    let descriptors = last.descriptors.saturating_sub(first.descriptors);
    ensure!(descriptors <= DESCRIPTORS, "it holds {descriptors} descriptors more");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(all: &[(&str, u64)]) -> BTreeMap<String, u64> {
        all.iter().map(|(cause, count)| ((*cause).to_owned(), *count)).collect()
    }

    #[test]
    fn only_new_failovers_count() {
        let before = counts(&[("link", 2), ("crash", 1)]);
        let after = counts(&[("link", 3), ("crash", 1), ("hang", 1)]);
        assert_eq!(difference(&before, &after), counts(&[("hang", 1), ("link", 1)]));
    }

    #[test]
    fn a_day_with_a_failed_incident_a_leak_or_damage_fails() {
        let record = |failure: Option<&str>| Record {
            name: "disk-full",
            from_ns: 0,
            to_ns: 1,
            back_ms: 0.0,
            failovers: BTreeMap::new(),
            failure: failure.map(str::to_owned),
        };
        let ledger = Ledger::with_capacity(1);
        judge(&[record(None)], &ledger).unwrap();
        assert!(judge(&[record(Some("dark"))], &ledger).is_err());
        let mut damaged = Ledger::with_capacity(1);
        damaged.corrupted();
        assert!(judge(&[record(None)], &damaged).is_err());
        let resources = |resident_kib, descriptors| Resources { resident_kib, descriptors };
        let calm = resources(10_000, 40);
        judge_resources(calm, Some(20_000), resources(20_500, 41)).unwrap();
        judge_resources(calm, None, resources(20_500, 41)).unwrap();
        assert!(judge_resources(calm, Some(20_000), resources(22_000, 40)).is_err());
        assert!(judge_resources(calm, None, resources(10_000, 80)).is_err());
    }
}
