//! Bodies of the answers to requests that act.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Result of a switch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Switched {
    /// The domain that served.
    pub from: String,
    /// The domain that serves now.
    pub to: String,
    /// How long the guest's frames waited.
    pub waited_us: f64,
}

/// Result of a drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Drilled {
    /// The standby.
    pub domain: String,
    /// Whether it passed. If not, it is rebuilt, unless the wire or the active domain is to blame.
    pub passed: bool,
    /// Whose fault it was, if it failed: `spare`, `wire` or `active`.
    pub blame: Option<String>,
    /// Number of attempts.
    pub attempts: u32,
    /// Time from the release of the standby to the answer.
    pub round_trip_us: f64,
}

/// Result of an upgrade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Upgraded {
    /// The domain that serves now.
    pub serves: String,
    /// The domain that served before.
    pub served: String,
    /// How long the upgrade took, probation included.
    pub took_seconds: f64,
}

/// Result of a pause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Paused {
    /// The domain, which is stopped until it is resumed or has to serve.
    pub domain: String,
    /// The domain that serves.
    pub serves: Option<String>,
}

/// Result of a resumption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Resumed {
    /// The domain, which runs again.
    pub domain: String,
}

/// A dump that was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dumped {
    /// The domain.
    pub domain: String,
    /// Folder with core file, program and description, on the machine that warmspare runs on.
    pub folder: PathBuf,
    /// How long the domain was stopped.
    pub held_us: f64,
}

/// A GDB server that waits for a debugger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Opened {
    /// The domain.
    pub domain: String,
    /// The domain that serves.
    pub serves: Option<String>,
    /// Unix socket for `target remote`, on the machine that warmspare runs on.
    pub socket: PathBuf,
    /// The program that the domain runs, with symbols.
    pub program: PathBuf,
}
