//! Campaigns of fault injection: `warmspare campaign`.
//!
//! A campaign is a list of faults that follows from a seed. Each gets a system of its own, freshly
//! started and under traffic; what becomes of it is judged from outside, by the sender's books and
//! by the application guest.
//!
//! ```text
//!  spec ─▶ draw ─▶ run ══ orders, answers ══▶ worker ─▶ trial ─▶ strike
//!           ▲       │  (office, crew)                     │
//!  target, mutate   ├─▶ book (injections.jsonl)           ▼
//!                   └─▶ progress, tally                 judge ─▶ record
//! ```
//! A worker is a process of its own: a fault that ends the VMM ends one of those.

mod crew;
mod draw;
mod error;
mod judge;
mod machine;
mod manifest;
mod mutate;
mod office;
mod order;
mod place;
mod profile;
mod progress;
mod record;
mod replay;
mod results;
mod run;
mod spec;
mod strike;
mod tally;
mod target;
mod testbed;
mod trial;
mod worker;

pub use crew::WORKER_COMMAND;
pub use draw::{DrawError, Drawn, Faults};
pub use error::CampaignError;
pub use manifest::{MANIFEST_SCHEMA, Machine, Manifest, Profile, ProfiledFunction};
pub use mutate::Mutation;
pub use record::{
    FaultKind, FaultRecord, FaultSegment, FrameCounts, INJECTION_SCHEMA, InjectionOutcome,
    InjectionRecord, RecoveryStep, VerdictRecord,
};
pub use replay::{Replayed, replay};
pub use results::{
    INJECTIONS_FILE, MANIFEST_FILE, Records, ResultStore, ResultsError, read_manifest,
    read_records, write_manifest,
};
pub use run::{Ended, RunConfig, run};
pub use spec::{CampaignSpec, Configuration, FaultSpec, Functions, Order, SpecError, Until};
pub use tally::{Counts, Tally};
pub use target::{Code, Function, Target, TargetError};
pub use testbed::{Emulated, InProcessCampaign, Testbed};
pub use worker::serve_worker;
