//! Bodies of requests.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Body of a switch.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SwitchRequest {
    /// The domain that is to serve; any standby if it is left out.
    #[serde(default)]
    pub to: Option<String>,
}

/// Body of a drill.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DrillRequest {
    /// The standby; the first in line if it is left out.
    #[serde(default)]
    pub domain: Option<String>,
}

/// Body of an upgrade.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpgradeRequest {
    /// Path of the new driver, on the machine that warmspare runs on.
    pub image: PathBuf,
    /// How long it serves before it is trusted, milliseconds; 10 seconds if left out.
    #[serde(default)]
    #[schemars(range(max = 3_600_000))]
    pub probation_ms: Option<u32>,
}

/// Body of a dump and of a resumption.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DomainRequest {
    /// The domain.
    pub domain: String,
}

/// Body of a pause.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// The domain.
    pub domain: String,
    /// If it serves, let another one serve first.
    #[serde(default)]
    pub switch_first: bool,
}

/// Body of a request for a GDB server.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GdbRequest {
    /// The domain.
    pub domain: String,
    /// If it serves, let another one serve first. Else the service stands still with the domain.
    #[serde(default)]
    pub switch_first: bool,
    /// Unix socket to make, on the machine that warmspare runs on; `gdb-DOMAIN.sock` beside the
    /// control socket if it is left out.
    #[serde(default)]
    pub socket: Option<PathBuf>,
}
