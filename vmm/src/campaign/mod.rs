//! Campaigns of fault injection: `warmspare campaign`.
//!
//! A campaign is a list of faults that follows from a seed. Each gets a system of its own, freshly
//! started and under traffic; what becomes of it is judged from outside, by the sender's books and
//! by the application guest.

mod manifest;
mod mutate;
mod record;
mod spec;

pub use manifest::{MANIFEST_SCHEMA, Machine, Manifest, Profile, ProfiledFunction};
pub use mutate::Mutation;
pub use record::{
    FaultKind, FaultRecord, FaultSegment, FrameCounts, INJECTION_SCHEMA, InjectionOutcome,
    InjectionRecord, RecoveryStep, VerdictRecord,
};
pub use spec::{CampaignSpec, Configuration, FaultSpec, Functions, Order, SpecError, Until};
