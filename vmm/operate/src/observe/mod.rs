//! What the outside learns.
//!
//! ```text
//!  supervisor's events ─▶ Recorder ─▶ books: histograms, newest failures, redundancy
//!                            └──────▶ EventBus ─▶ streams, file
//!  atomics of the data path ◀─ SystemView ─▶ Snapshot, metrics, samples
//! ```
//!
//! Nothing on the data path or the failover path calls any of this.

pub mod bus;
pub mod event;
pub mod event_file;
mod heard;
pub mod histogram;
pub mod hooks;
pub mod metrics;
pub mod openmetrics;
pub mod recorder;
mod redundancy;
pub mod sampler;
pub mod snapshot;
pub mod system;
#[cfg(test)]
pub(crate) mod testing;
pub mod view;
mod wall;
mod witness;

pub use heard::{FailoverFacts, Heard};
pub use recorder::Recorder;
pub use sampler::Sampler;
pub use snapshot::Snapshot;
pub use system::SystemWatch;
pub use view::{Observer, SystemView};
pub use wall::wall_now;
pub use witness::{Stall, Witness};
