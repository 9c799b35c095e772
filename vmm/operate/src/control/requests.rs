//! Bodies of requests that act.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Request for a planned switch.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SwitchRequest {
    /// The domain that is to serve; the best standby if it is left out.
    #[serde(default)]
    pub to: Option<String>,
}

/// Request for a drill.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DrillRequest {
    /// The standby; the one that would take over if it is left out.
    #[serde(default)]
    pub domain: Option<String>,
}

/// Request for an upgrade.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpgradeRequest {
    /// Path of the new driver's image, on the machine that warmspare runs on.
    pub image: PathBuf,
    /// How long the new driver serves before it is trusted, milliseconds; 10 seconds if left out.
    #[serde(default)]
    #[schemars(range(max = 3_600_000))]
    pub probation_ms: Option<u32>,
}

/// Request for a dump, or for the resumption of a paused domain.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DomainRequest {
    /// The domain.
    pub domain: String,
}

/// Request for a pause.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// The domain.
    pub domain: String,
    /// If the domain serves, let another one serve first.
    #[serde(default)]
    pub switch_first: bool,
}

/// Request for a GDB server.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GdbRequest {
    /// The domain.
    pub domain: String,
    /// If the domain serves, let another one serve first. Otherwise the service stops while gdb has
    /// the domain stopped.
    #[serde(default)]
    pub switch_first: bool,
    /// Unix socket to create, on the machine that warmspare runs on; `gdb-DOMAIN.sock` beside the
    /// control socket if it is left out.
    #[serde(default)]
    pub socket: Option<PathBuf>,
}
