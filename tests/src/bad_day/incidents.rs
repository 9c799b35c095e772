//! What goes wrong around the program.

use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail, ensure};

use super::service::{Reader, Service};
use crate::realguest::lan::TAPS;

/// How long something stays wrong.
const WRONG: Duration = Duration::from_secs(2);
/// How long the process is stopped: longer than each of its thresholds and than a service manager's
/// patience with a slow answer.
const STOPPED: Duration = Duration::from_secs(5);
/// Number of connections to the API that ask nothing.
const CONNECTIONS: usize = 1000;
/// How far the clock is set forward.
const CLOCK_STEP: Duration = Duration::from_secs(3600);
/// Verdicts that say that a cable or the network behind it failed.
const NETWORK: &[&str] = &["link", "port", "drill"];

/// Something that goes wrong and is put right again.
pub(super) struct Incident {
    /// Its name in results.
    pub(super) name: &'static str,
    /// Causes of failovers that it is a reason for.
    pub(super) reasons: &'static [&'static str],
    /// True if it changes more than the test's own processes and namespaces.
    pub(super) whole_machine: bool,
    /// Lets it happen, and puts right what only an operator could put right.
    pub(super) happen: fn(&mut Service<'_>) -> Result<()>,
}

impl Incident {
    const fn new(
        name: &'static str,
        reasons: &'static [&'static str],
        happen: fn(&mut Service<'_>) -> Result<()>,
    ) -> Self {
        Self { name, reasons, whole_machine: false, happen }
    }

    /// Returns true if a failover of this cause is no surprise.
    pub(super) fn explains(&self, cause: &str) -> bool {
        self.reasons.contains(&cause)
    }
}

/// The incidents of each round.
pub(super) const REPEATED: &[Incident] = &[
    Incident::new("disk-full", &[], disk_full),
    Incident::new("log-reader-stuck", &[], log_reader_stuck),
    Incident::new("tap-out-of-bridge", NETWORK, tap_out_of_bridge),
    Incident::new("bridge-remade", NETWORK, bridge_remade),
    Incident::new("tap-remade", NETWORK, tap_remade),
    Incident::new("process-stopped", &[], process_stopped),
    Incident { whole_machine: true, ..Incident::new("clock-set", &[], clock_set) },
    Incident::new("thousand-connections", &[], thousand_connections),
    Incident::new("front-end-replaced", &[], |service| service.replace_guest()),
    Incident::new("planned-switches", &[], planned_switches),
];

/// The incident after all rounds: it cannot be put right.
pub(super) const LAST: Incident = Incident::new("log-reader-gone", &[], log_reader_gone);

/// Has the program do things that it writes events and log lines about.
fn planned_switches(service: &mut Service<'_>) -> Result<()> {
    for _ in 0..4 {
        service.wait_redundant(super::REDUNDANT_WITHIN)?;
        service.ask(&["switch"])?;
    }
    Ok(())
}

fn disk_full(service: &mut Service<'_>) -> Result<()> {
    service.disk.fill()?;
    let switched = planned_switches(service);
    service.disk.empty()?;
    switched
}

fn log_reader_stuck(service: &mut Service<'_>) -> Result<()> {
    service.set_reader(Reader::Stuck);
    // A pipe holds 64 KiB; each round writes some kilobytes at this level.
    let end = std::time::Instant::now() + 2 * WRONG;
    let mut switched = Ok(());
    while std::time::Instant::now() < end && switched.is_ok() {
        switched = planned_switches(service);
    }
    service.set_reader(Reader::Reads);
    switched
}

fn log_reader_gone(service: &mut Service<'_>) -> Result<()> {
    service.set_reader(Reader::Gone);
    planned_switches(service)?;
    planned_switches(service)
}

fn tap_out_of_bridge(service: &mut Service<'_>) -> Result<()> {
    let tap = TAPS[service.active()?];
    service.lan.bridge().ip(&format!("link set {tap} nomaster"))?;
    std::thread::sleep(WRONG);
    service.lan.bridge().ip(&format!("link set {tap} master br0"))
}

fn bridge_remade(service: &mut Service<'_>) -> Result<()> {
    let bridge = service.lan.bridge();
    bridge.ip("link del br0")?;
    std::thread::sleep(WRONG);
    bridge.ip("link add br0 type bridge")?;
    bridge.ip("link set br0 up")?;
    for port in TAPS.iter().chain(&["v0"]) {
        bridge.ip(&format!("link set {port} master br0"))?;
    }
    Ok(())
}

fn tap_remade(service: &mut Service<'_>) -> Result<()> {
    let (bridge, tap) = (service.lan.bridge(), TAPS[service.active()?]);
    bridge.ip(&format!("link del {tap}"))?;
    std::thread::sleep(WRONG);
    bridge.ip(&format!("tuntap add {tap} mode tap"))?;
    bridge.ip(&format!("link set {tap} master br0"))?;
    bridge.ip(&format!("link set {tap} up"))
}

fn process_stopped(service: &mut Service<'_>) -> Result<()> {
    signal(service, libc::SIGSTOP)?;
    std::thread::sleep(STOPPED);
    signal(service, libc::SIGCONT)
}

fn signal(service: &Service<'_>, number: i32) -> Result<()> {
    // SAFETY: the arguments are plain integers. The process is a child that was not yet waited for,
    // so its ID is still its own.
    let done = unsafe { libc::kill(service.pid(), number) };
    ensure!(done == 0, "no signal can be sent: {}", std::io::Error::last_os_error());
    Ok(())
}

fn clock_set(_: &mut Service<'_>) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    set_clock(now + CLOCK_STEP)?;
    std::thread::sleep(WRONG);
    set_clock(now + WRONG)
}

fn set_clock(time: Duration) -> Result<()> {
    let time = libc::timespec {
        tv_sec: time.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(time.subsec_nanos() as i32),
    };
    // SAFETY: `time` outlives the call.
    let done = unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) };
    if done < 0 {
        bail!("the clock cannot be set: {} (root is needed)", std::io::Error::last_os_error());
    }
    Ok(())
}

fn thousand_connections(service: &mut Service<'_>) -> Result<()> {
    let socket = service.api_socket();
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        // Refusing some of them is the program's right.
        match UnixStream::connect(&socket) {
            Ok(stream) => held.push(stream),
            Err(_) => break,
        }
    }
    ensure!(!held.is_empty(), "the API refuses the first connection");
    std::thread::sleep(WRONG / 2);
    service.state()?;
    drop(held);
    Ok(())
}
