//! What a topology file holds, key by key.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::egress::{EgressSpec, MacsSpec};
use super::limits::{FailBackSpec, Limits};
use super::mac::MacAddress;
use super::policy::Policy;
use super::socket_mode::SocketMode;
use super::socket_spec::SocketSpec;
use super::thresholds::Thresholds;
use nic::pci::PciAddress;

/// Most domains of a topology.
pub const MAX_DOMAINS: usize = 8;

/// A network interface with a spare: domains, their NICs, and the guests they serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Name for people, in logs and reports.
    #[serde(default = "default_name")]
    pub name: String,
    /// The driver domains; the first one starts as the active one.
    pub domains: Vec<DomainSpec>,
    /// The application guests, 1 to 8. They share the NICs, reach each other, and fail over
    /// together.
    pub apps: Vec<AppSpec>,
    /// MTU of the network, 576 to 9216: the longest frames are those of this length with an Ethernet
    /// header and up to three VLAN tags. It must fit the switch, the guests and, where NICs are
    /// emulated, the TAPs.
    #[serde(default = "default_mtu")]
    pub mtu: u16,
    /// What happens when the active domain fails.
    #[serde(default)]
    pub policy: Policy,
    /// How the guest is announced to the network after a takeover.
    #[serde(default)]
    pub announce: AnnounceSpec,
    /// How standbys prove themselves.
    #[serde(default)]
    pub drill: DrillSpec,
    /// The thresholds beyond which a domain counts as failed.
    #[serde(default)]
    pub detect: Thresholds,
    /// Whether the service goes back to a preferred domain once that is healthy again.
    #[serde(default)]
    pub fail_back: FailBackSpec,
    /// When a domain or a link counts as flapping.
    #[serde(default)]
    pub limits: Limits,
    /// Where core files of failed domains are written; none are if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dumps: Option<DumpSpec>,
    /// The dashboard, if there is to be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dashboard: Option<DashboardSpec>,
    /// Programs to run on events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<NotifySpec>,
}

fn default_name() -> String {
    "warmspare".into()
}

fn default_mtu() -> u16 {
    shared_ring::frame::DEFAULT_MTU
}

/// One driver domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DomainSpec {
    /// Unique name: letters, digits, `-`, `_`; at most 10 of them.
    pub name: String,
    /// The NIC it drives.
    pub nic: NicSpec,
}

/// Where a domain's NIC comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum NicSpec {
    /// A software model of the igb family inside the VMM.
    Emulated(EmulatedSpec),
    /// A NIC of this machine, bound to vfio-pci: its PCI address (`warmspare devices` lists them).
    Vfio(PciAddress),
}

/// A software NIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmulatedSpec {
    /// Unique name, as for domains.
    pub name: String,
    /// What it is plugged into.
    pub wire: WireSpec,
}

/// What an emulated NIC is plugged into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum WireSpec {
    /// A port of the learning Ethernet switch of this name inside the VMM.
    Switch(String),
    /// The TAP device of this name, at most 15 bytes: attached to, or created if it is not there.
    Tap(String),
}

/// One application guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppSpec {
    /// Path of the vhost-user socket that its VMM connects to, at most 107 bytes; or, where the VMM
    /// listens and warmspare connects, `{"connect": PATH}`.
    pub socket: SocketSpec,
    /// Its MAC address, which both NICs carry; no other guest's.
    pub mac: MacAddress,
    /// Which MAC addresses it has beside that one.
    #[serde(default, skip_serializing_if = "MacsSpec::is_default")]
    pub macs: MacsSpec,
    /// Which frames for the next bridge alone it may send.
    #[serde(default, skip_serializing_if = "EgressSpec::is_default")]
    pub egress: EgressSpec,
    /// The user that the socket is given to, by name or number; the one that runs warmspare if it is
    /// left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The group that the socket is given to, by name or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Who may connect: the permissions of the socket in octal digits; `0600`, only its owner, if it
    /// is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<SocketMode>,
    /// Its VMM's monitor, if the guest's link is to be down while no NIC has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qmp: Option<QmpSpec>,
}

/// The monitor of a guest's QEMU, by which the link of the guest's NIC is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QmpSpec {
    /// Path of a QMP socket that nobody else uses; at most 107 bytes.
    pub socket: PathBuf,
    /// The `id` of the guest's `-netdev`.
    pub name: String,
}

impl AppSpec {
    /// A guest with a socket for its owner only.
    pub fn new(socket: PathBuf, mac: MacAddress) -> Self {
        let (macs, egress) = (MacsSpec::default(), EgressSpec::default());
        let socket = socket.into();
        Self { socket, mac, macs, egress, owner: None, group: None, mode: None, qmp: None }
    }
}

/// How the guest is announced after a takeover: its learned addresses by ARP and neighbour
/// advertisements, or by reverse ARP if none are known; at once, and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnnounceSpec {
    /// When announcements are repeated, milliseconds after the first; ascending, at most 16.
    pub again_ms: Vec<u32>,
}

impl Default for AnnounceSpec {
    fn default() -> Self {
        let again_ms = platform::budget::ANNOUNCE_AGAIN.iter();
        Self { again_ms: again_ms.map(|after| after.as_millis() as u32).collect() }
    }
}

/// How standbys prove themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DrillSpec {
    /// Seconds between two drills of a standby; 0 for none.
    pub every_s: u32,
    /// Milliseconds, 1 to 100, in which question and answer of a drill must have gone through the
    /// network and both domains.
    pub answer_within_ms: u32,
    /// Milliseconds, 3 to 1000, between two probes of the network between the NICs, which find a
    /// switch port that is dead while its link is up; 0 for none.
    pub probe_ms: u32,
    /// VLAN of drills and probes, 1 to 4094: for NICs on a trunk that takes only tagged frames;
    /// the trunk must carry it between the NICs. Without it they have no tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
}

impl Default for DrillSpec {
    fn default() -> Self {
        let answer_within_ms = platform::budget::DRILL_LIMIT.as_millis() as u32;
        Self {
            every_s: platform::budget::DRILL_EVERY.as_secs() as u32,
            answer_within_ms,
            probe_ms: 0,
            vlan: None,
        }
    }
}

/// Post-mortem dumps: one folder for each failure, with core file, program, log and ring cursors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DumpSpec {
    /// Folder; made if it is not there.
    pub dir: PathBuf,
    /// Most failures that are kept, at least 1; the oldest one is removed first.
    #[serde(default = "DumpSpec::default_keep")]
    pub keep: u32,
    /// Most MiB that they take in all, at least 8. One failure takes up to 5 MiB.
    #[serde(default = "DumpSpec::default_max_mib")]
    pub max_mib: u32,
}

impl DumpSpec {
    /// A folder with the default bounds.
    pub fn in_dir(dir: &Path) -> Self {
        let (keep, max_mib) = (Self::default_keep(), Self::default_max_mib());
        Self { dir: dir.to_owned(), keep, max_mib }
    }

    /// Enough dumps to see whether failures are alike.
    fn default_keep() -> u32 {
        16
    }

    /// Room for 16 failures of full size.
    fn default_max_mib() -> u32 {
        100
    }
}

/// Where the dashboard listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DashboardSpec {
    /// Address and port.
    pub listen: SocketAddr,
    /// File with the token that changes take, and beyond loopback everything; where it is left
    /// out, one is made up and printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Host names under which a proxy asks for the dashboard, without a port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

/// A program to run on events; it gets the event as a line of JSON on its standard input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifySpec {
    /// Which events, by name: `failover`, `redundancy-lost`, and so on.
    pub events: Vec<String>,
    /// Absolute path of the program, and its arguments.
    pub run: Vec<String>,
    /// How long it may run, in milliseconds; 10 seconds if left out.
    #[serde(default = "default_notify_timeout_ms")]
    pub timeout_ms: u64,
}

fn default_notify_timeout_ms() -> u64 {
    10_000
}

impl Topology {
    /// Returns true if all domains share one NIC, which only the serving domain drives.
    pub fn shares_nic(&self) -> bool {
        let mut pairs = self.domains.windows(2);
        let same = self.domains.len() > 1 && pairs.all(|pair| pair[0].nic == pair[1].nic);
        same && self.policy == Policy::Spare
    }

    /// The built-in topology of the demo, with its socket at `socket`.
    pub fn demo(socket: &Path) -> Self {
        let domain = |name: &str| DomainSpec {
            name: name.into(),
            nic: NicSpec::Emulated(EmulatedSpec {
                name: format!("nic-{name}"),
                wire: WireSpec::Switch("lan".into()),
            }),
        };
        Self {
            name: "demo".into(),
            domains: vec![domain("a"), domain("b")],
            apps: vec![AppSpec::new(
                socket.to_owned(),
                MacAddress([0x52, 0x54, 0x00, 0x77, 0x73, 0x01]),
            )],
            mtu: default_mtu(),
            policy: Policy::FastSpare,
            dashboard: None,
            notify: Vec::new(),
            announce: AnnounceSpec::default(),
            drill: DrillSpec::default(),
            detect: Thresholds::DEFAULT,
            fail_back: FailBackSpec::Never,
            // A demo makes domains and links fail many times a second, which is no flapping here.
            limits: Limits { failures: 1000, link_flaps: 1000, ..Limits::default() },
            dumps: None,
        }
    }
}
