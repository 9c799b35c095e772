//! What is shown of a running system.
//!
//! ```text
//!  supervisor's events ─▶ Recorder ─▶ Records: histograms, newest failures, counters
//!                            └──────▶ EventBus ─▶ streams, event file, notify programs
//!  atomics of the data path ◀─ SystemView ─▶ Snapshot, metrics, samples
//! ```
//!
//! Nothing on the data path or the failover path calls any of this.

pub(crate) mod bus;
mod duration;
pub(crate) mod event;
pub(crate) mod event_file;
mod failure_records;
mod front_ends;
pub(crate) mod guest_frames;
pub(crate) mod histogram;
pub(crate) mod hooks;
pub(crate) mod metrics;
mod observer;
pub(crate) mod openmetrics;
mod received_event;
mod recorder;
mod records;
mod redundancy;
mod rotating_file;
pub(crate) mod sampler;
pub(crate) mod snapshot;
pub(crate) mod system;
mod tally;
#[cfg(test)]
pub(crate) mod testing;
mod view;
mod wall_clock;
mod witness;

pub use event::{FailoverOutcome, FailoverView, Phases};
pub use histogram::HistogramView;
pub use snapshot::{
    AppView, DomainView, FailoverCount, InterruptionView, NicView, Rates, RingDepths, Snapshot,
};
pub use wall_clock::wall_clock_now;
pub use witness::{Stall, Witness, stalled_ns};

pub(crate) use front_ends::FrontEndWatch;
pub(crate) use observer::Observer;
pub(crate) use received_event::ReceivedEvent;
pub(crate) use sampler::Sampler;
pub(crate) use system::SystemWatch;
