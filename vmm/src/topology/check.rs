//! What no schema can say: rules over the whole topology.

use std::collections::HashSet;
use std::path::Path;

use super::{AppSpec, MAX_DOMAINS, NicSpec, Policy, Topology, WireSpec};
use crate::wire::TAP_NAME_BYTES;

/// Bytes of a Unix socket path without its final zero (`sun_path` has 108).
const SOCKET_PATH_BYTES: usize = 107;
/// Bytes of a name: `vcpu-` and it must fit the kernel's 15 for a thread.
const NAME_BYTES: usize = 10;

/// A broken rule.
pub(super) struct Mistake {
    pub(super) at: String,
    pub(super) what: String,
    pub(super) mend: &'static str,
}

fn mistake(at: impl Into<String>, what: impl Into<String>, mend: &'static str) -> Option<Mistake> {
    Some(Mistake { at: at.into(), what: what.into(), mend })
}

/// The first broken rule, if any.
pub(super) fn check(topology: &Topology) -> Option<Mistake> {
    check_counts(topology).or_else(|| check_domains(topology)).or_else(|| check_apps(topology))
}

fn check_counts(topology: &Topology) -> Option<Mistake> {
    let domains = topology.domains.len();
    match topology.policy {
        _ if domains > MAX_DOMAINS => mistake(
            format!("domains[{MAX_DOMAINS}]"),
            format!("{domains} domains are too many"),
            "leave at most 8",
        ),
        Policy::FastSpare if domains < 2 => mistake(
            "domains",
            format!("the policy fast-spare needs two domains, here: {domains}"),
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
        if let Some(bad) = check_nic(&nic_at, &domain.nic, &mut nics)
            .or_else(|| check_wire(&format!("{nic_at}.emulated.wire"), &domain.nic, &mut taps))
        {
            return Some(bad);
        }
    }
    None
}

fn check_nic(at: &str, nic: &NicSpec, taken: &mut HashSet<String>) -> Option<Mistake> {
    let (at, name) = match nic {
        NicSpec::Emulated(nic) => {
            let at = format!("{at}.emulated");
            if let Some(bad) = check_name(&format!("{at}.name"), &nic.name) {
                return Some(bad);
            }
            (at, nic.name.clone())
        }
        NicSpec::Vfio(address) => (format!("{at}.vfio"), address.to_string()),
    };
    let what = format!("the NIC `{name}` is another domain's");
    let is_taken = !taken.insert(name);
    is_taken.then(|| mistake(at, what, "give each domain a NIC of its own")).flatten()
}

fn check_name(at: &str, name: &str) -> Option<Mistake> {
    let fits = (1..=NAME_BYTES).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if fits {
        return None;
    }
    mistake(at, format!("`{name}` is no name"), "use 1 to 10 letters, digits, - or _")
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
        return mistake(at, format!("`{tap}` is no name of an interface"), mend);
    }
    if !taps.insert(tap) {
        let what = format!("the TAP `{tap}` is another NIC's");
        return mistake(at, what, "give each NIC a TAP of its own, and bridge them");
    }
    None
}

fn check_apps(topology: &Topology) -> Option<Mistake> {
    match topology.apps.as_slice() {
        [] => mistake("apps", "no application guest", "add one with a socket and a MAC address"),
        [app] => check_app("apps[0]", app),
        [_, _, ..] => mistake(
            "apps[1]",
            "one pair of NICs serves one application guest for now",
            "leave one, and run a second topology for the other",
        ),
    }
}

fn check_app(at: &str, app: &AppSpec) -> Option<Mistake> {
    if !app.mac.is_station() {
        let what = format!("{} is no station's address", app.mac);
        let mend = "use one whose first byte is even, such as 52:54:00:77:73:01";
        return mistake(format!("{at}.mac"), what, mend);
    }
    check_socket(&format!("{at}.socket"), &app.socket)
}

fn check_socket(at: &str, socket: &Path) -> Option<Mistake> {
    let shown = socket.display();
    let bytes = socket.as_os_str().len();
    if bytes == 0 || bytes > SOCKET_PATH_BYTES {
        let what = format!("`{shown}` has {bytes} bytes");
        return mistake(at, what, "a socket path has 1 to 107 bytes: choose a shorter one");
    }
    let parent = socket.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        let what = format!("the folder of `{shown}` does not exist");
        return mistake(at, what, "create it, or choose another path");
    }
    let is_socket = |m: std::fs::Metadata| {
        use std::os::unix::fs::FileTypeExt;
        m.file_type().is_socket()
    };
    if socket.symlink_metadata().is_ok_and(|m| !is_socket(m)) {
        let what = format!("`{shown}` exists and is no socket");
        return mistake(at, what, "remove it, or choose another path");
    }
    None
}
