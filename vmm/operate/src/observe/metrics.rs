//! The metrics. All names have one prefix, and all values are in base units.

use super::observer::Observer;
use super::openmetrics::{Exposition, Format, Kind};
use super::sampler::Sampler;
use super::snapshot::{AppView, DomainView, RingDepths, Snapshot};
use platform::clock::monotonic_ns;
use supervisor::RoleState;

/// Every role, so that each domain shows all of them with 0 or 1.
const ROLES: [(RoleState, &str); 5] = [
    (RoleState::Failed, "failed"),
    (RoleState::Restarting, "restarting"),
    (RoleState::Standby, "standby"),
    (RoleState::Active, "active"),
    (RoleState::Quarantined, "quarantined"),
];

/// Counters of frames and bytes: the prefix of their name in the switchboard, and their label
/// `direction`.
const FRAMES: [(&str, &str); 2] = [("tx", "transmit"), ("rx", "receive")];

/// The text for one scrape.
pub(crate) fn exposition(observer: &Observer, sampler: &Sampler, format: Format) -> String {
    let snapshot = observer.snapshot(sampler);
    let mut out = Exposition::new(format);
    system(&mut out, &snapshot);
    failovers(&mut out, &snapshot, observer);
    planned(&mut out, observer);
    apps(&mut out, &snapshot);
    traffic(&mut out, &snapshot);
    domains(&mut out, &snapshot);
    out.finish()
}

fn system(out: &mut Exposition, snapshot: &Snapshot) {
    out.family("warmspare_build_info", Kind::Gauge, "Version of the program; always 1.");
    out.sample(&[("version", &snapshot.version)], 1.0);
    out.family("warmspare_uptime_seconds", Kind::Gauge, "Time since the system was started.");
    out.sample(&[], snapshot.uptime_seconds);
    out.family("warmspare_redundant", Kind::Gauge, "1 if the service would survive a failure now.");
    out.sample(&[], snapshot.redundant);
    out.family("warmspare_realtime", Kind::Gauge, "1 if real-time scheduling was permitted.");
    out.sample(&[], snapshot.realtime);
    let help = "Lines of the log that were lost, because standard error could not be written.";
    out.family("warmspare_log_lines_lost", Kind::Counter, help);
    out.sample(&[], platform::stderr::lost() as f64);
}

fn failovers(out: &mut Exposition, snapshot: &Snapshot, observer: &Observer) {
    out.family("warmspare_failovers", Kind::Counter, "Failures of domains, and how they ended.");
    for count in &snapshot.failovers {
        let labels = [("cause", count.cause.as_str()), ("outcome", count.outcome.as_str())];
        out.sample(&labels, count.count as f64);
    }
    let help = "Steps of failovers: detect, release, first-frame, rebuild.";
    out.family("warmspare_failover_duration_seconds", Kind::Histogram, help);
    for durations in observer.recorder.phase_histograms() {
        let labels = [("phase", durations.phase), ("cause", durations.cause)];
        out.histogram(&labels, &durations.histogram);
    }
    let help = "From the oldest work that a failed domain left undone, or else the verdict, to the \
                first frame of its successor.";
    out.family("warmspare_interruption_seconds", Kind::Histogram, help);
    for (cause, histogram) in observer.recorder.interruption_histograms() {
        out.histogram(&[("cause", cause)], &histogram);
    }
}

fn planned(out: &mut Exposition, observer: &Observer) {
    let tally = observer.recorder.tally();
    out.family("warmspare_switches", Kind::Counter, "Planned switches.");
    out.sample(&[], tally.switches as f64);
    out.family("warmspare_upgrades", Kind::Counter, "Upgrades, and how they ended.");
    out.sample(&[("outcome", "done")], tally.upgrades as f64);
    out.sample(&[("outcome", "refused-or-rolled-back")], tally.upgrades_failed as f64);
    out.family("warmspare_drills", Kind::Counter, "Drills of a standby, and how they ended.");
    for (domain, drills) in &tally.drills {
        out.sample(&[("domain", domain), ("result", "passed")], drills.passed as f64);
        out.sample(&[("domain", domain), ("result", "failed")], drills.failed as f64);
    }
    let help = "Time since the last drill of a domain ended.";
    out.family("warmspare_last_drill_age_seconds", Kind::Gauge, help);
    for (domain, drills) in &tally.drills {
        let age_ns = monotonic_ns().saturating_sub(drills.last_ns);
        out.sample(&[("domain", domain)], age_ns as f64 / 1e9);
    }
    let help = "Lost wakeups of a domain that were noticed and repaired.";
    out.family("warmspare_healed_wakeups", Kind::Counter, help);
    for (domain, &count) in &tally.healed {
        out.sample(&[("domain", domain)], count as f64);
    }
}

fn apps(out: &mut Exposition, snapshot: &Snapshot) {
    let mut each = |name, kind, help, value: fn(&AppView) -> f64| {
        out.family(name, kind, help);
        for app in &snapshot.apps {
            out.sample(&[("socket", &app.socket)], value(app));
        }
    };
    let help = "1 if a front-end is connected to the socket of a guest.";
    each("warmspare_front_end_connected", Kind::Gauge, help, |app| app.connected.into());
    let help = "Front-ends that wait until the one that is connected to their socket ends.";
    each("warmspare_front_ends_waiting", Kind::Gauge, help, |app| app.waiting as f64);
    let help = "MAC addresses that a guest has beside its own.";
    each("warmspare_guest_macs", Kind::Gauge, help, |app| app.macs.len() as f64);
    let help = "Learned MAC addresses of a guest that had to make room for others.";
    each("warmspare_guest_macs_pushed_out", Kind::Counter, help, |app| app.macs_pushed_out as f64);
    let help = "Frames of a guest that were not let out, by reason.";
    out.family("warmspare_guest_refused_frames", Kind::Counter, help);
    for app in &snapshot.apps {
        for (reason, &count) in &app.refused {
            out.sample(&[("socket", &app.socket), ("reason", reason)], count as f64);
        }
    }
}

fn traffic(out: &mut Exposition, snapshot: &Snapshot) {
    let counter = |name: String| snapshot.counters.get(&name).map(|&n| n as f64);
    out.family("warmspare_frames", Kind::Counter, "Frames from (transmit) and to the guest.");
    for (key, direction) in FRAMES {
        counter(format!("{key}_frames"))
            .into_iter()
            .for_each(|n| out.sample(&[("direction", direction)], n));
    }
    out.family("warmspare_bytes", Kind::Counter, "Bytes from (transmit) and to the guest.");
    for (key, direction) in FRAMES {
        counter(format!("{key}_bytes"))
            .into_iter()
            .for_each(|n| out.sample(&[("direction", direction)], n));
    }
    let help = "Frames sent and not yet confirmed by a NIC's own counter.";
    out.family("warmspare_unconfirmed_frames", Kind::Gauge, help);
    counter("tx_unconfirmed".into()).into_iter().for_each(|n| out.sample(&[], n));
    let help = "All other counters of the switchboard, by name.";
    out.family("warmspare_switchboard_events", Kind::Counter, help);
    let own = ["tx_frames", "tx_bytes", "rx_frames", "rx_bytes", "tx_unconfirmed"];
    for (name, &count) in snapshot.counters.iter().filter(|(name, _)| !own.contains(&name.as_str()))
    {
        out.sample(&[("event", name)], count as f64);
    }
}

fn domains(out: &mut Exposition, snapshot: &Snapshot) {
    out.family("warmspare_domain_role", Kind::Gauge, "1 for the role that a domain has.");
    for domain in &snapshot.domains {
        for (role, name) in ROLES {
            out.sample(&[("domain", &domain.name), ("role", name)], domain.role == role);
        }
    }
    out.family("warmspare_domain_lives", Kind::Counter, "Times a domain was built.");
    each(out, snapshot, |domain| Some(f64::from(domain.epoch)));
    out.family("warmspare_link_up", Kind::Gauge, "1 if the link of a NIC is up.");
    for domain in &snapshot.domains {
        if let Some(up) = domain.nic.link_up {
            out.sample(&[("nic", &domain.nic.name), ("domain", &domain.name)], up);
        }
    }
    nics(out, snapshot);
    let help = "CPU time of the vCPU in the present life.";
    out.family("warmspare_domain_cpu_seconds", Kind::Gauge, help);
    each(out, snapshot, |domain| domain.cpu_seconds);
    let help = "Share of the last second in which the vCPU did not run.";
    out.family("warmspare_domain_parked_ratio", Kind::Gauge, help);
    for (domain, share) in snapshot.domains.iter().zip(&snapshot.rates.parked_share) {
        out.sample(&[("domain", &domain.name)], *share);
    }
    let help = "Turns of the loop in the present life, as the domain reports them.";
    out.family("warmspare_domain_heartbeat", Kind::Gauge, help);
    each(out, snapshot, |domain| Some(domain.heartbeat as f64));
    let help = "Exits from the guest in the present life, by reason.";
    out.family("warmspare_domain_exits", Kind::Gauge, help);
    for domain in &snapshot.domains {
        for (reason, &count) in &domain.exits {
            out.sample(&[("domain", &domain.name), ("reason", reason)], count as f64);
        }
    }
    out.family("warmspare_ring_entries", Kind::Gauge, "Entries in a shared ring.");
    for domain in &snapshot.domains {
        for (ring, depth) in rings(&domain.rings) {
            out.sample(&[("domain", &domain.name), ("ring", ring)], depth);
        }
    }
}

fn nics(out: &mut Exposition, snapshot: &Snapshot) {
    let help = "Frames of a NIC by what became of them; no-buffer is no loss of its own.";
    out.family("warmspare_nic_frames", Kind::Counter, help);
    for domain in &snapshot.domains {
        for (event, &count) in domain.nic.counters.iter().filter(|(name, _)| *name != "vanished") {
            let (nic, domain) = (domain.nic.name.as_str(), domain.name.as_str());
            let labels = [("nic", nic), ("domain", domain), ("event", event.as_str())];
            out.sample(&labels, count as f64);
        }
    }
    let help = "Frames that a NIC received and a failed driver never passed on.";
    out.family("warmspare_vanished_frames", Kind::Counter, help);
    each(out, snapshot, |domain| domain.nic.counters.get("vanished").map(|&n| n as f64));
}

/// One sample for each domain that has a value.
fn each(out: &mut Exposition, snapshot: &Snapshot, value: impl Fn(&DomainView) -> Option<f64>) {
    for domain in &snapshot.domains {
        if let Some(value) = value(domain) {
            out.sample(&[("domain", &domain.name)], value);
        }
    }
}

fn rings(depths: &RingDepths) -> [(&'static str, u32); 4] {
    [
        ("tx-post", depths.tx_post),
        ("tx-done", depths.tx_done),
        ("rx-provide", depths.rx_provide),
        ("rx-done", depths.rx_done),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::observe::testing::FakeSystem;

    const ALERTS: &str = include_str!("../../../../examples/monitoring/alerts.yml");
    const GRAFANA: &str = include_str!("../../../../examples/monitoring/grafana.json");

    /// All words that begin with the common prefix.
    fn metrics_in(text: &str) -> BTreeSet<&str> {
        let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        text.split(word).filter(|word| word.starts_with("warmspare_")).collect()
    }

    #[test]
    fn what_the_dashboard_and_the_alerts_ask_for_is_there() {
        let (fake, observer) = FakeSystem::observed();
        fake.crash(&observer, "crash", 100);
        let sampler = Sampler::default();
        observer.sample_rates(&sampler);
        observer.sample_rates(&sampler);
        let text = exposition(&observer, &sampler, Format::Text);
        let there = metrics_in(&text);
        for (file, asked) in [("alerts.yml", ALERTS), ("grafana.json", GRAFANA)] {
            let missing: Vec<_> = metrics_in(asked).difference(&there).copied().collect();
            assert!(missing.is_empty(), "{file} asks for {missing:?}");
        }
    }

    #[test]
    fn a_counters_family_stands_once_and_whole() {
        let (_, observer) = FakeSystem::observed();
        let text = exposition(&observer, &Sampler::default(), Format::OpenMetrics);
        let families: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let distinct: BTreeSet<_> = families.iter().collect();
        assert_eq!(families.len(), distinct.len());
        assert!(text.ends_with("# EOF\n"));
    }
}
