//! Rules about the application guests and their sockets.

use std::io;
use std::path::Path;

use shared_ring::layout::MAX_GUESTS;

use super::check::{Mistake, mistake};
use super::egress::MacsSpec;
use super::mac::MacAddress;
use super::spec::{AppSpec, QmpSpec, Topology};
use platform::accounts;
use switchboard::FURTHER_MACS;

/// Bytes of a Unix socket path without its final zero (`sun_path` has 108).
const SOCKET_PATH_BYTES: usize = 107;

/// The first broken rule about guests, if any.
pub(super) fn check_apps(topology: &Topology) -> Option<Mistake> {
    match topology.apps.as_slice() {
        [] => mistake("apps", "no application guest", "add one with a socket and a MAC address"),
        apps if apps.len() > MAX_GUESTS => {
            let what = format!("{} application guests are too many", apps.len());
            mistake(format!("apps[{MAX_GUESTS}]"), what, "leave at most 8")
        }
        apps => {
            let mut places = apps.iter().enumerate();
            places
                .find_map(|(i, app)| check_app(&format!("apps[{i}]"), app, &apps[..i]))
                .or_else(|| check_lists(apps))
        }
    }
}

fn check_app(at: &str, app: &AppSpec, others: &[AppSpec]) -> Option<Mistake> {
    if !app.mac.is_station() {
        let what = format!("{} is not a station's address", app.mac);
        let mend = "use one whose first byte is even, such as 52:54:00:77:73:01";
        return mistake(format!("{at}.mac"), what, mend);
    }
    if others.iter().any(|other| other.mac == app.mac) {
        let what = format!("{} is another guest's address", app.mac);
        return mistake(format!("{at}.mac"), what, "give each guest a MAC address of its own");
    }
    if others.iter().any(|other| other.socket.path == app.socket.path) {
        let what = format!("`{}` is another guest's socket", app.socket.display());
        return mistake(format!("{at}.socket"), what, "give each guest a socket of its own");
    }
    let rights = [("owner", app.owner.is_some()), ("group", app.group.is_some())];
    let mut rights = rights.into_iter().chain([("mode", app.mode.is_some())]);
    if let Some((key, _)) = rights.find(|(_, is_set)| app.socket.connects && *is_set) {
        let what = "the socket is the VMM's, which gives it its rights";
        return mistake(format!("{at}.{key}"), what, "leave it out, or let warmspare listen");
    }
    check_socket(&format!("{at}.socket"), &app.socket)
        .or_else(|| check_account(&format!("{at}.owner"), "user", &app.owner, accounts::user_id))
        .or_else(|| check_account(&format!("{at}.group"), "group", &app.group, accounts::group_id))
        .or_else(|| check_qmp(&format!("{at}.qmp"), app.qmp.as_ref()?, others))
}

fn check_qmp(at: &str, qmp: &QmpSpec, others: &[AppSpec]) -> Option<Mistake> {
    if qmp.name.is_empty() || qmp.name.chars().any(char::is_control) {
        let what = "this is no id of a -netdev";
        return mistake(format!("{at}.name"), what, "name the one on QEMU's command line");
    }
    if others.iter().filter_map(|other| other.qmp.as_ref()).any(|it| it.socket == qmp.socket) {
        let what = format!("`{}` is another guest's monitor", qmp.socket.display());
        return mistake(
            format!("{at}.socket"),
            what,
            "give each guest's QEMU a monitor of its own",
        );
    }
    check_socket(&format!("{at}.socket"), &qmp.socket)
}

/// Checks the lists of further addresses, when every guest's own is known to be right.
fn check_lists(apps: &[AppSpec]) -> Option<Mistake> {
    apps.iter().enumerate().find_map(|(i, app)| match &app.macs {
        MacsSpec::Mode(_) => None,
        MacsSpec::List(macs) => check_list(&format!("apps[{i}].macs"), macs, apps),
    })
}

fn check_list(at: &str, macs: &[MacAddress], apps: &[AppSpec]) -> Option<Mistake> {
    if macs.len() > FURTHER_MACS {
        let what = format!("{} addresses are too many", macs.len());
        return mistake(at, what, "leave at most 64, or use \"promiscuous\"");
    }
    macs.iter().enumerate().find_map(|(n, mac)| {
        let at = format!("{at}[{n}]");
        if !mac.is_station() {
            let mend = "use one whose first byte is even, such as 52:54:00:77:73:01";
            return mistake(at, format!("{mac} is not a station's address"), mend);
        }
        if apps.iter().any(|app| app.mac == *mac) {
            let mend = "list only addresses that are the `mac` of no guest";
            return mistake(at, format!("{mac} is the `mac` of a guest"), mend);
        }
        let is_twice = macs[..n].contains(mac);
        is_twice.then(|| mistake(at, format!("{mac} is listed twice"), "list it once")).flatten()
    })
}

/// Checks that a user or group of this name exists.
fn check_account(
    at: &str,
    kind: &str,
    name: &Option<String>,
    id: fn(&str) -> io::Result<Option<u32>>,
) -> Option<Mistake> {
    let name = name.as_ref()?;
    match id(name) {
        Ok(Some(_)) => None,
        Ok(None) => {
            let what = format!("this machine has no {kind} `{name}`");
            mistake(at, what, "create it, or name another one")
        }
        Err(error) => {
            let what = format!("the {kind} `{name}` cannot be looked up ({error})");
            mistake(at, what, "name it by its number")
        }
    }
}

fn check_socket(at: &str, socket: &Path) -> Option<Mistake> {
    let shown = socket.display();
    let bytes = socket.as_os_str().len();
    if bytes == 0 || bytes > SOCKET_PATH_BYTES {
        let what = format!("`{shown}` has {bytes} bytes");
        return mistake(at, what, "a socket path has 1 to 107 bytes: choose a shorter one");
    }
    if shown.to_string().chars().any(char::is_control) {
        return mistake(at, "it has control characters", "choose a path without them");
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
        let what = format!("`{shown}` exists and is not a socket");
        return mistake(at, what, "remove it, or choose another path");
    }
    None
}
