//! What a campaign asks of a worker process, and what the worker answers: one JSON line each.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::manifest::Profile;
use crate::injection::{InjectionRecord, TrialOrder};

/// The command by which this program becomes a worker.
pub const WORKER_COMMAND: &str = "campaign-worker";

/// A request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Sample where the driver spends its time.
    Profile { period_us: u32 },
    /// Carry out one injection.
    Inject(Box<TrialOrder>),
}

/// The answer to a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Profile(Profile),
    Injected(Box<InjectionRecord>),
    /// It could not be done: why, in one line.
    Failed(String),
}

/// The private folder of the worker with this process id.
pub(super) fn worker_folder(process: u32) -> PathBuf {
    std::env::temp_dir().join(format!("warmspare-trial-{process}"))
}
