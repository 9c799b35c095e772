//! `cargo xtask linux-guest`: runs a Linux guest under QEMU whose network warmspare provides,
//! behind a real Linux bridge.
//!
//! ```text
//!  QEMU (TCG), Linux ── vhost-user ── warmspare ─┬─ TAP ws-a ─┐
//!  virtio_net, echo                              └─ TAP ws-b ─┴─ bridge ── veth ── the host: a UDP
//!                                                   (network namespaces)           ping each ms
//! ```
//!
//! Each step prints one line of JSON. QEMU and the kernel are the ones that `cargo xtask nested`
//! uses. Root is needed, for the network namespaces.

pub(crate) mod guest;
mod image;
mod judge;
pub(crate) mod lan;
mod libvirt;
mod migrate;
pub(crate) mod network;
pub(crate) mod ping;
pub(crate) mod service;
mod steps;
pub(crate) mod stream;
#[cfg(test)]
mod taps;
#[cfg(test)]
mod tests;
mod wire;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use supervisor::topology::Topology;

use crate::nested::kernel::{self, Kernel};
use crate::nested::qemu;
use crate::workspace;
use guest::{LinuxGuest, Order};
use lan::Lan;
use network::{Driver, Network};
use steps::Bench;

/// Command-line arguments.
#[derive(Debug, clap::Args)]
pub struct LinuxGuestArgs {
    /// Failures of the active domain: crash, hang, pulled cable in turn
    #[arg(long, default_value_t = 30, value_name = "N")]
    failovers: u32,
    /// Run only the steps with these names
    #[arg(long = "step", value_name = "STEP")]
    steps: Vec<String>,
}

/// Everything that is needed to boot guests.
pub(crate) struct Parts {
    qemu: PathBuf,
    kernel: Kernel,
    initramfs: PathBuf,
    cache: PathBuf,
    pub(crate) topology: Topology,
    pub(crate) topology_file: PathBuf,
}

impl Parts {
    pub(crate) fn prepare() -> Result<Self> {
        let cache = workspace().join("target/nested");
        std::fs::create_dir_all(&cache).context("target/nested cannot be created")?;
        let qemu = qemu::find_or_install(&cache)?;
        let kernel = kernel::fetch(&cache)?;
        let initramfs = image::build(&kernel, &cache, Driver::Virtio)?;
        let (topology, topology_file) = example("qemu-linux", &scratch()?)?;
        Ok(Self { qemu, kernel, initramfs, cache, topology, topology_file })
    }

    pub(crate) fn mac(&self) -> String {
        self.topology.apps[0].mac.to_string()
    }

    /// Boots the guest of README's QEMU command line, on the topology's socket.
    pub(crate) fn boot(&self) -> Result<LinuxGuest> {
        let socket = self.topology.apps[0].socket.path.clone();
        self.boot_on(&Network::VhostUser { socket, mac: self.mac(), reconnect_ms: 10 })
    }

    /// Boots a guest on another network.
    pub(crate) fn boot_on(&self, network: &Network) -> Result<LinuxGuest> {
        self.start(network, None)
    }

    /// Starts a QEMU on another back-end that waits at a socket for a guest to migrate in.
    pub(crate) fn await_guest(&self, backend: &Path, incoming: &Path) -> Result<LinuxGuest> {
        let socket = backend.to_owned();
        let network = Network::VhostUser { socket, mac: self.mac(), reconnect_ms: 10 };
        self.start(&network, Some(incoming))
    }

    fn start(&self, network: &Network, incoming: Option<&Path>) -> Result<LinuxGuest> {
        let console = match incoming {
            None => "linux-guest-console.log",
            Some(_) => "linux-guest-moved-console.log",
        };
        let other;
        let initramfs = match network.driver() {
            Driver::Virtio => &self.initramfs,
            driver @ Driver::Igb => {
                other = image::build(&self.kernel, &self.cache, driver)?;
                &other
            }
        };
        LinuxGuest::boot(&Order {
            qemu: &self.qemu,
            kernel: &self.kernel.image,
            initramfs,
            network,
            console: &self.cache.join(console),
            incoming,
        })
    }
}

/// A folder for sockets, whose paths must be short.
pub(crate) fn scratch() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("ws-{}", std::process::id()));
    std::fs::create_dir_all(&folder).context("no folder for sockets")?;
    Ok(folder)
}

/// Returns an example's topology, and a file that holds it. It differs from the example in two
/// ways: its socket is in `folder`, so that several runs can share a machine, and its limits allow
/// many faults.
pub(crate) fn example(name: &str, folder: &Path) -> Result<(Topology, PathBuf)> {
    let mut topology = Topology::load(&workspace().join(format!("examples/{name}.json")))?;
    // The tests inject many faults, which must not use up the limits.
    topology.limits.failures = 1000;
    topology.limits.link_flaps = 1000;
    topology.apps[0].socket = folder.join(format!("{name}.sock")).into();
    let file = folder.join(format!("{name}.json"));
    std::fs::write(&file, serde_json::to_string_pretty(&topology)?)?;
    Ok((topology, file))
}

/// Returns the topology of the same service on a second machine of the same LAN: the guest's
/// address is the same, the TAPs and the socket are different. Drills are off, because the drills
/// of two machines that serve the same address would disturb each other.
pub(crate) fn elsewhere(topology: &Topology, folder: &Path) -> Result<(Topology, PathBuf)> {
    let mut text = serde_json::to_string_pretty(topology)?;
    for (here, there) in lan::TAPS.iter().zip(lan::OTHER_TAPS) {
        text = text.replace(&format!("\"{here}\""), &format!("\"{there}\""));
    }
    let mut topology: Topology = serde_json::from_str(&text)?;
    topology.drill.every_s = 0;
    topology.apps[0].socket = folder.join("elsewhere.sock").into();
    let file = folder.join("elsewhere.json");
    std::fs::write(&file, serde_json::to_string_pretty(&topology)?)?;
    Ok((topology, file))
}

/// Builds and boots the guest, and runs the named steps, or all that are not in
/// `steps::ONLY_BY_NAME`.
///
/// # Errors
/// Something is missing and cannot be fetched, or a step failed.
pub fn run(args: &LinuxGuestArgs) -> Result<()> {
    let lan = Lan::new()?;
    let parts = Parts::prepare()?;
    let all = steps::all();
    if let Some(unknown) = args.steps.iter().find(|name| !all.iter().any(|s| s.0 == **name)) {
        let names: Vec<_> = all.iter().map(|step| step.0).collect();
        bail!("no step `{unknown}`: choose from {}", names.join(", "));
    }
    let mut bench = Bench::start(&lan, &parts, args.failovers)?;
    let mut failed = Vec::new();
    for (name, step) in all {
        let wanted = match args.steps.is_empty() {
            true => !steps::ONLY_BY_NAME.contains(&name),
            false => args.steps.iter().any(|wanted| wanted == name),
        };
        if !wanted {
            continue;
        }
        let outcome = step(&mut bench).and_then(|figures| {
            bench.expect_no_uncaused_failover()?;
            Ok(figures)
        });
        println!("{}", line(name, &outcome));
        if outcome.is_err() {
            failed.push(name);
        }
    }
    drop(bench);
    let _ = std::fs::remove_dir_all(scratch()?);
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn line(name: &str, outcome: &Result<Value>) -> Value {
    match outcome {
        Ok(figures) => json!({ "step": name, "ok": true, "figures": figures }),
        Err(error) => json!({ "step": name, "ok": false, "why": format!("{error:#}") }),
    }
}
