//! A LAN of network namespaces: a bridge with the two TAPs of the NICs (and of a second pair, for a
//! guest that moves), and a host behind it.
//!
//! ```text
//!   namespace ws-PID-N                      namespace ws-PID-N-h
//!     ws-a ─┐                                 the host, 10.77.0.1
//!     ws-b ─┴─ br0 ─── v0 ═══════════════════ v1
//! ```

use std::ffi::CStr;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Address of the host; the guest has the next one.
pub(crate) const HOST: &str = "10.77.0.1";
/// The host's interface.
pub(crate) const HOST_INTERFACE: &CStr = c"v1";
/// The TAPs that the examples use.
pub(crate) const TAPS: [&str; 2] = ["ws-a", "ws-b"];

/// The TAPs of a second machine that runs warmspare, for a guest that moves there.
pub(crate) const OTHER_TAPS: [&str; 2] = ["ws-c", "ws-d"];

/// One more TAP, for DPDK's driver, which attaches only to TAPs with several queues.
pub(crate) const MULTI_QUEUE_TAP: &str = "ws-m";

/// A network namespace, which is deleted when dropped.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    fn new(name: String) -> Result<Self> {
        ip(&format!("netns add {name}")).context(
            "no network namespace can be made: these tests need root and iproute2 (run them with \
             sudo, or in a container with CAP_SYS_ADMIN and CAP_NET_ADMIN)",
        )?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, for `ip netns exec`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip ARGUMENTS` in this namespace.
    ///
    /// # Errors
    /// The command fails.
    pub(crate) fn ip(&self, arguments: &str) -> Result<()> {
        ip(&format!("-n {} {arguments}", self.name))
    }

    /// Runs `body` on a new thread in this namespace. Threads that `body` starts stay in it.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    ///
    /// # Panics
    /// `body` panics.
    pub(crate) fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Result<T> {
        let file = File::open(format!("/run/netns/{}", self.name))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                // SAFETY: the descriptor is open, and the call affects only this thread.
                let done = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
                if done < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(body())
            });
            let done = thread.join();
            Ok(done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&format!("netns del {}", self.name));
    }
}

/// The LAN.
pub(crate) struct Lan {
    host: Namespace,
    bridge: Namespace,
}

impl Lan {
    /// Creates the LAN, with persistent TAPs in the bridge.
    ///
    /// # Errors
    /// This process may not do so, or iproute2 is missing.
    pub(crate) fn new() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ws-{}-{number}", std::process::id());
        let bridge = Namespace::new(name.clone())?;
        let host = Namespace::new(format!("{name}-h"))?;
        bridge.ip("link add br0 type bridge")?;
        bridge.ip("link set br0 up")?;
        bridge.ip(&format!("link add v0 type veth peer name v1 netns {}", host.name()))?;
        for tap in TAPS.iter().chain(&OTHER_TAPS) {
            bridge.ip(&format!("tuntap add {tap} mode tap"))?;
        }
        bridge.ip(&format!("tuntap add {MULTI_QUEUE_TAP} mode tap multi_queue"))?;
        for port in ["v0", MULTI_QUEUE_TAP].iter().chain(&TAPS).chain(&OTHER_TAPS) {
            bridge.ip(&format!("link set {port} master br0 up"))?;
        }
        host.ip(&format!("addr add {HOST}/24 dev v1"))?;
        host.ip("link set v1 up")?;
        Ok(Self { host, bridge })
    }

    /// The namespace of the host.
    pub(crate) fn host(&self) -> &Namespace {
        &self.host
    }

    /// The namespace of the bridge and the TAPs.
    pub(crate) fn bridge(&self) -> &Namespace {
        &self.bridge
    }

    /// Adds a static entry for a station behind a port to the bridge's forwarding table, or deletes
    /// it.
    ///
    /// # Errors
    /// The `bridge` command fails.
    pub(crate) fn fix(&self, mac: &str, port: &str, known: bool) -> Result<()> {
        let what = if known { "replace" } else { "del" };
        let rest = ["fdb", what, mac, "dev", port, "master", "static"];
        let arguments = [&["-n", self.bridge.name()][..], &rest[..if known { 7 } else { 6 }]];
        let output = Command::new("bridge").args(arguments.concat()).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "bridge {}: {}", rest.join(" "), errors.trim());
        Ok(())
    }

    /// Counts the frames that the bridge has received on one of its ports.
    ///
    /// # Errors
    /// The port's counters cannot be read.
    pub(crate) fn received_from(&self, port: &str) -> Result<u64> {
        let output = Command::new("ip")
            .args(["-n", self.bridge.name(), "-json", "-stats", "link", "show", port])
            .output()
            .context("iproute2 is missing")?;
        let links: Value = serde_json::from_slice(&output.stdout).context("what `ip` says")?;
        links.pointer("/0/stats64/rx/packets").and_then(Value::as_u64).context("no counters")
    }

    /// Makes a port of the bridge stop forwarding while its carrier stays up, or forward again.
    ///
    /// # Errors
    /// iproute2 is missing, or there is no such port.
    pub(crate) fn set_port_dead(&self, port: &str, dead: bool) -> Result<()> {
        // Port states of the spanning tree protocol (IEEE 802.1D): disabled and forwarding.
        let state = if dead { "0" } else { "3" };
        let status = Command::new("bridge")
            .args(["-n", self.bridge.name(), "link", "set", "dev", port, "state", state])
            .status()
            .context("iproute2's `bridge` is missing")?;
        ensure!(status.success(), "the port {port} cannot be switched");
        Ok(())
    }

    /// Starts to record changes of the bridge's forwarding table in a log file at this path.
    ///
    /// # Errors
    /// iproute2 is missing.
    pub(crate) fn watch(&self, log: PathBuf) -> Result<Watch> {
        let monitor = Command::new("stdbuf")
            .args(["--output=L", "bridge", "-n", self.bridge.name(), "monitor", "fdb"])
            .stdout(File::create(&log)?)
            .spawn()
            .context("iproute2's `bridge` is missing")?;
        Ok(Watch { monitor, log })
    }

    /// Returns the port behind which the bridge has learned a station.
    ///
    /// # Errors
    /// The table cannot be read.
    pub(crate) fn port_of(&self, mac: &str) -> Result<Option<String>> {
        let output = Command::new("bridge")
            .args(["-n", self.bridge.name(), "fdb", "show", "br", "br0"])
            .output()
            .context("iproute2's `bridge` is missing")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.starts_with(mac));
        let mut words = line.unwrap_or_default().split(' ').skip_while(|word| *word != "dev");
        Ok(words.nth(1).map(str::to_owned))
    }
}

/// Records changes of the bridge's forwarding table until dropped.
pub(crate) struct Watch {
    monitor: Child,
    log: PathBuf,
}

impl Watch {
    /// Returns the ports behind which a station was learned since the beginning, in order.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn ports_of(&self, mac: &str) -> Result<Vec<String>> {
        let text = fs::read_to_string(&self.log)?;
        let learned = text.lines().filter(|line| line.starts_with(mac));
        let port = |line: &str| {
            line.split(' ').skip_while(|word| *word != "dev").nth(1)?.to_owned().into()
        };
        Ok(learned.filter_map(port).collect())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
        let _ = fs::remove_file(&self.log);
    }
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .context("iproute2 is missing: apt-get install iproute2")?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        bail!("ip {arguments}: {errors}");
    }
    Ok(())
}
