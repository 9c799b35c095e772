//! Rules that no schema can express, checked over the whole topology.

use std::collections::HashSet;
use std::path::Path;

use super::check_apps::check_apps;
use super::event_kind::EventKind;
use super::limits::{FailBackSpec, Limits};
use super::policy::Policy;
use super::spec::{AnnounceSpec, DumpSpec, MAX_DOMAINS, NicSpec, Topology, WireSpec};
use nic::wire::TAP_NAME_BYTES;
use platform::budget::MAX_ANNOUNCE_AGAIN;
use shared_ring::frame::{MAX_MTU, MIN_MTU};

/// Longest name in bytes: with `vcpu-` before it, it must fit into the 15 bytes of a thread's name.
const NAME_BYTES: usize = 10;

/// A broken rule.
pub(super) struct Mistake {
    pub(super) at: String,
    pub(super) what: String,
    pub(super) mend: &'static str,
}

pub(super) fn mistake(
    at: impl Into<String>,
    what: impl Into<String>,
    mend: &'static str,
) -> Option<Mistake> {
    Some(Mistake { at: at.into(), what: what.into(), mend })
}

/// The first broken rule, if any.
pub(super) fn check(topology: &Topology) -> Option<Mistake> {
    check_title(&topology.name)
        .or_else(|| check_counts(topology))
        .or_else(|| check_domains(topology))
        .or_else(|| check_apps(topology))
        .or_else(|| check_mtu(topology.mtu))
        .or_else(|| check_dashboard(topology))
        .or_else(|| check_notify(topology))
        .or_else(|| check_announce(&topology.announce))
        .or_else(|| check_drills(topology))
        .or_else(|| check_probes(topology))
        .or_else(|| check_fail_back(topology))
        .or_else(|| check_limits(&topology.limits))
        .or_else(|| topology.dumps.as_ref().and_then(check_dumps))
        .or_else(|| check_detect(topology))
}

fn check_mtu(mtu: u16) -> Option<Mistake> {
    if (MIN_MTU..=MAX_MTU).contains(&mtu) {
        return None;
    }
    let what = format!("{mtu} is no MTU that a network here can have");
    mistake("mtu", what, "use 576 to 9216, or leave it out for 1500")
}

/// Latest repetition in milliseconds: within a minute every neighbour asks by itself.
const LATEST_AGAIN_MS: u32 = 60_000;

fn check_announce(announce: &AnnounceSpec) -> Option<Mistake> {
    let again = &announce.again_ms;
    let at = "announce.again_ms";
    if again.len() > MAX_ANNOUNCE_AGAIN {
        let what = format!("{} repetitions are too many", again.len());
        return mistake(at, what, "leave at most 16");
    }
    let disordered = again.windows(2).position(|pair| pair[0] >= pair[1]);
    if let Some(index) = disordered {
        let at = format!("{at}[{}]", index + 1);
        return mistake(at, "not later than the one before", "put the times in ascending order");
    }
    let late = again.iter().position(|after| !(1..=LATEST_AGAIN_MS).contains(after))?;
    let what = format!("{} ms is not a valid time for a repetition", again[late]);
    mistake(format!("{at}[{late}]"), what, "use 1 to 60000 ms")
}

/// Milliseconds for which a drill may wait for its answer. Other planned operations are refused
/// meanwhile.
const ANSWER_WITHIN_MS: std::ops::RangeInclusive<u32> = 1..=100;

/// VLANs that there are (IEEE 802.1Q, 9.6).
const VLANS: std::ops::RangeInclusive<u16> = 1..=4094;

fn check_drills(topology: &Topology) -> Option<Mistake> {
    if let Some(vlan) = topology.drill.vlan.filter(|vlan| !VLANS.contains(vlan)) {
        let what = format!("there is no VLAN {vlan}");
        return mistake("drill.vlan", what, "use 1 to 4094, or leave it out for no tag");
    }
    let limit_ms = topology.drill.answer_within_ms;
    if ANSWER_WITHIN_MS.contains(&limit_ms) {
        return None;
    }
    let what = format!("{limit_ms} ms is not a valid time to wait for an answer");
    mistake("drill.answer_within_ms", what, "use 1 to 100 ms, or leave it out for 1")
}

/// Milliseconds between two probes. A probe takes up to a millisecond, and beyond a second a drill
/// finds a dead port as soon as probes do.
const PROBE_MS: std::ops::RangeInclusive<u32> = 3..=1000;

fn check_probes(topology: &Topology) -> Option<Mistake> {
    let (at, every_ms) = ("drill.probe_ms", topology.drill.probe_ms);
    if every_ms == 0 {
        return None;
    }
    if !PROBE_MS.contains(&every_ms) {
        let what = format!("{every_ms} ms is not a valid time between two probes");
        return mistake(at, what, "use 3 to 1000 ms, or 0 for none");
    }
    let limit_ms = topology.drill.answer_within_ms;
    if every_ms <= limit_ms {
        let what = format!("a probe every {every_ms} ms cannot wait {limit_ms} ms for its answer");
        return mistake(at, what, "make it longer than drill.answer_within_ms");
    }
    if topology.policy != Policy::FastSpare {
        let what = format!("the policy {} has no spare that could probe", topology.policy.name());
        return mistake(at, what, "leave it out, or set \"policy\": \"fast-spare\"");
    }
    None
}

fn check_detect(topology: &Topology) -> Option<Mistake> {
    let (key, why) = topology.detect.mistake()?;
    mistake(format!("detect.{key}"), why, "leave it out for the default")
}

/// Most characters of the topology's name, which stands in the first line of `status`.
const TITLE_CHARS: usize = 200;

fn check_title(name: &str) -> Option<Mistake> {
    if name.chars().any(char::is_control) {
        return mistake("name", "it has control characters", "leave them out");
    }
    let is_long = name.chars().count() > TITLE_CHARS;
    is_long.then(|| mistake("name", "it is too long", "use at most 200 characters")).flatten()
}

fn check_counts(topology: &Topology) -> Option<Mistake> {
    let domains = topology.domains.len();
    match topology.policy {
        _ if domains > MAX_DOMAINS => mistake(
            format!("domains[{MAX_DOMAINS}]"),
            format!("{domains} domains are too many"),
            "leave at most 8",
        ),
        Policy::FastSpare | Policy::Spare if domains < 2 => mistake(
            "domains",
            format!("the policy {} needs two domains, here: {domains}", topology.policy.name()),
            "add a second domain with a NIC of its own, or set \"policy\": \"reboot\"",
        ),
        Policy::Reboot if domains != 1 => mistake(
            "domains",
            format!("the policy reboot has exactly one domain, here: {domains}"),
            "leave one domain, or set \"policy\": \"fast-spare\"",
        ),
        _ => None,
    }
}

fn nic_name(nic: &NicSpec) -> String {
    match nic {
        NicSpec::Emulated(nic) => nic.name.clone(),
        NicSpec::Vfio(address) => address.to_string(),
    }
}

fn check_domains(topology: &Topology) -> Option<Mistake> {
    let mut names = HashSet::new();
    let mut nics = HashSet::new();
    let mut taps = HashSet::new();
    for (i, domain) in topology.domains.iter().enumerate() {
        let at = format!("domains[{i}]");
        if let Some(bad) = check_name(&format!("{at}.name"), &domain.name) {
            return Some(bad);
        }
        if !names.insert(&domain.name) {
            let what = format!("the name `{}` is taken", domain.name);
            return mistake(format!("{at}.name"), what, "give each domain a name of its own");
        }
        let nic_at = format!("{at}.nic");
        // A shared NIC is checked once.
        if i > 0 && topology.shares_nic() {
            continue;
        }
        if let Some(bad) = check_nic(&nic_at, &domain.nic, &mut nics)
            .or_else(|| check_wire(&format!("{nic_at}.emulated.wire"), &domain.nic, &mut taps))
        {
            return Some(bad);
        }
    }
    None
}

fn check_nic(at: &str, nic: &NicSpec, taken: &mut HashSet<String>) -> Option<Mistake> {
    let name = nic_name(nic);
    let at = match nic {
        NicSpec::Emulated(_) => {
            let at = format!("{at}.emulated");
            if let Some(bad) = check_name(&format!("{at}.name"), &name) {
                return Some(bad);
            }
            at
        }
        NicSpec::Vfio(_) => format!("{at}.vfio"),
    };
    let what = format!("the NIC `{name}` is another domain's");
    let is_taken = !taken.insert(name);
    let mend = "give each domain a NIC of its own, or all the same one and \"policy\": \"spare\"";
    is_taken.then(|| mistake(at, what, mend)).flatten()
}

fn check_name(at: &str, name: &str) -> Option<Mistake> {
    let fits = (1..=NAME_BYTES).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if fits {
        return None;
    }
    mistake(at, format!("`{name}` is not a valid name"), "use 1 to 10 letters, digits, - or _")
}

fn check_wire<'a>(at: &str, nic: &'a NicSpec, taps: &mut HashSet<&'a str>) -> Option<Mistake> {
    let NicSpec::Emulated(nic) = nic else { return None };
    let tap = match &nic.wire {
        WireSpec::Switch(switch) => return check_name(&format!("{at}.switch"), switch),
        WireSpec::Tap(tap) => tap,
    };
    let at = format!("{at}.tap");
    let fits = (1..=TAP_NAME_BYTES).contains(&tap.len())
        && tap.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b':')
        && tap != "."
        && tap != "..";
    if !fits {
        let mend = "use 1 to 15 printable characters without spaces, / and :";
        return mistake(at, format!("`{tap}` is not a valid interface name"), mend);
    }
    if !taps.insert(tap) {
        let what = format!("the TAP `{tap}` is another NIC's");
        return mistake(at, what, "give each NIC a TAP of its own, and bridge them");
    }
    None
}

fn check_dashboard(topology: &Topology) -> Option<Mistake> {
    let dashboard = topology.dashboard.as_ref()?;
    if let Some(place) = dashboard.hosts.iter().position(|name| !is_host_name(name)) {
        let what = format!("`{}` is not a host name", dashboard.hosts[place]);
        let mend = "write one as ws.example.org, without a port";
        return mistake(format!("dashboard.hosts[{place}]"), what, mend);
    }
    if dashboard.listen.ip().is_loopback() || dashboard.token_file.is_some() {
        return None;
    }
    let what = format!("{} can be reached from elsewhere, and there is no token", dashboard.listen);
    let mend = "add a \"token_file\", or listen on 127.0.0.1";
    mistake("dashboard.listen", what, mend)
}

/// Returns true if this can be the name of a host in a request, without a port.
pub fn is_host_name(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

fn check_notify(topology: &Topology) -> Option<Mistake> {
    for (i, notify) in topology.notify.iter().enumerate() {
        let at = format!("notify[{i}]");
        if let Some(unknown) = notify.events.iter().find(|kind| EventKind::by_name(kind).is_none())
        {
            let what = format!("there is no event `{unknown}`");
            let mend = "docs/operation.md lists them: failover, redundancy-lost, ...";
            return mistake(format!("{at}.events"), what, mend);
        }
        if !notify.run.first().is_some_and(|program| Path::new(program).is_absolute()) {
            let mend = "begin with the program's absolute path";
            return mistake(format!("{at}.run"), "no program is named", mend);
        }
        if !(1..=600_000).contains(&notify.timeout_ms) {
            let what = format!("{} ms is not a valid time limit", notify.timeout_ms);
            return mistake(format!("{at}.timeout_ms"), what, "use 1 to 600000");
        }
    }
    None
}

fn check_fail_back(topology: &Topology) -> Option<Mistake> {
    let FailBackSpec::Prefer { domain, hold_s } = &topology.fail_back else { return None };
    if topology.domains.iter().all(|known| known.name != *domain) {
        let what = format!("there is no domain `{domain}`");
        return mistake("fail_back.prefer.domain", what, "name one of the domains");
    }
    if topology.policy != Policy::FastSpare {
        let what = format!("the policy {} has no planned switch", topology.policy.name());
        return mistake("fail_back", what, "set it to \"never\", or the policy to fast-spare");
    }
    check_range("fail_back.prefer.hold_s", *hold_s, 0, 86_400)
}

fn check_limits(limits: &Limits) -> Option<Mistake> {
    let longest = |at: &str, value: u32, first: u32| {
        let what = format!("the longest ({value}) is less than the first ({first})");
        (value < first).then(|| mistake(at, what, "raise it")).flatten()
    };
    check_range("limits.failures", limits.failures, 1, 100_000)
        .or_else(|| check_range("limits.window_s", limits.window_s, 1, 86_400))
        .or_else(|| check_range("limits.quarantine_s", limits.quarantine_s, 1, 86_400))
        .or_else(|| {
            let at = "limits.quarantine_max_s";
            longest(at, limits.quarantine_max_s, limits.quarantine_s)
        })
        .or_else(|| check_range("limits.quarantine_max_s", limits.quarantine_max_s, 1, 604_800))
        .or_else(|| check_range("limits.link_flaps", limits.link_flaps, 0, 100_000))
        .or_else(|| check_range("limits.link_window_s", limits.link_window_s, 1, 86_400))
        .or_else(|| check_range("limits.link_hold_ms", limits.link_hold_ms, 1, 3_600_000))
        .or_else(|| {
            let at = "limits.link_hold_max_ms";
            longest(at, limits.link_hold_max_ms, limits.link_hold_ms)
        })
        .or_else(|| check_range("limits.link_hold_max_ms", limits.link_hold_max_ms, 1, 3_600_000))
}

fn check_dumps(dumps: &DumpSpec) -> Option<Mistake> {
    if dumps.dir.as_os_str().is_empty() {
        return mistake("dumps.dir", "it is empty", "name a folder, or leave `dumps` out");
    }
    check_range("dumps.keep", dumps.keep, 1, 100_000)
        .or_else(|| check_range("dumps.max_mib", dumps.max_mib, 8, 1 << 20))
}

fn check_range(at: &str, value: u32, least: u32, most: u32) -> Option<Mistake> {
    if (least..=most).contains(&value) {
        return None;
    }
    let what = format!("{value} is not within {least} to {most}");
    mistake(at, what, "choose a value in this range")
}
