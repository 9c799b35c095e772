//! Campaigns of fault injection: `warmspare campaign`.
//!
//! A campaign is a list of faults that follows from a seed. Each gets a system of its own, freshly
//! started and under traffic; what becomes of it is judged from outside, by what the sender counted
//! and by the application guest ([`crate::injection`]).
//!
//! ```text
//!  run ─▶ setup ─▶ results ─▶ manifest ─▶ spec
//!   └───▶ scheduler ─▶ draw ─▶ pools ─▶ spec
//!             ├──────▶ results (injections.jsonl), tally, progress
//!             └──────▶ worker_handle ══ one JSON line each way ══ worker_process ─▶ injection
//! ```
//! Arrows point at what a file uses. A worker is a process of its own: a fault that ends the VMM
//! ends one of those.

mod config;
mod draw;
mod error;
mod in_process;
mod machine;
mod manifest;
mod pools;
mod profile;
mod progress;
mod replay;
mod results;
mod run;
mod scheduler;
mod setup;
mod spec;
mod tally;
mod worker_handle;
mod worker_process;
mod worker_protocol;

pub use crate::injection::{
    Configuration, Emulated, FaultKind, FaultSegment, InjectionOutcome, InjectionRecord, Target,
    Testbed,
};
pub use config::RunConfig;
pub use error::CampaignError;
pub use in_process::InProcessCampaign;
pub use replay::{Replayed, replay};
pub use results::{ResultsError, read_records};
pub use run::{Ended, run};
pub use spec::CampaignSpec;
pub use tally::Tally;
pub use worker_process::serve_worker;
pub use worker_protocol::WORKER_COMMAND;

pub(crate) use manifest::Manifest;
pub(crate) use results::{INJECTIONS_FILE, Records, read_manifest};
