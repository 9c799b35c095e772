//! What a guest may send: MAC addresses, and frames for bridges.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use switchboard::{EgressRules, GuestRules, MacRule};

use super::mac::MacAddress;
use super::spec::AppSpec;

/// Which MAC addresses a guest has beside its own: frames from any other source are dropped, and only
/// frames to one of its addresses are received for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "write \"one\", \"learn\", \"promiscuous\" or a list of MAC addresses such as \
                 [\"52:54:00:77:73:01\"]"
)]
pub enum MacsSpec {
    /// One of the modes.
    Mode(MacsMode),
    /// These addresses, at most 64. Guests whose lists share one (the virtual address of two routers)
    /// have it in turn: the one that sent from it last.
    List(Vec<MacAddress>),
}

/// How a guest comes to MAC addresses beside its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MacsMode {
    /// It has none.
    One,
    /// It has those that it sends from, at most 64 at a time, each until it was silent for 300 s or
    /// another station sends from it.
    Learn,
    /// It may send from any address, and gets whatever is for none of the other guests.
    Promiscuous,
}

impl Default for MacsSpec {
    fn default() -> Self {
        Self::Mode(MacsMode::One)
    }
}

impl MacsSpec {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    fn rule(&self) -> MacRule {
        match self {
            Self::Mode(MacsMode::One) => MacRule::One,
            Self::Mode(MacsMode::Learn) => MacRule::Learn,
            Self::Mode(MacsMode::Promiscuous) => MacRule::Promiscuous,
            Self::List(macs) => MacRule::List(macs.iter().map(|mac| mac.0).collect()),
        }
    }
}

/// Which frames to 01-80-C2-00-00-00 to -0F a guest may send, which are meant for the next bridge and
/// for nobody behind it. PAUSE frames never leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EgressSpec {
    /// Spanning tree (BPDUs). A switch with BPDU guard shuts the port that gets one, and after a
    /// takeover the next.
    pub bpdu: bool,
    /// LACP and other slow protocols.
    pub lacp: bool,
    /// LLDP.
    pub lldp: bool,
    /// 802.1X.
    pub eapol: bool,
    /// Anything else to these addresses.
    pub reserved: bool,
}

impl EgressSpec {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    fn rules(self) -> EgressRules {
        let Self { bpdu, lacp, lldp, eapol, reserved } = self;
        EgressRules { bpdu, lacp, lldp, eapol, reserved }
    }
}

impl AppSpec {
    /// What the switchboard lets this guest send.
    pub fn rules(&self) -> GuestRules {
        GuestRules { macs: self.macs.rule(), egress: self.egress.rules() }
    }
}
