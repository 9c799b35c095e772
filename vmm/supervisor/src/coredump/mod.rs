//! What a failed domain leaves behind for whoever asks why: one folder for each failure. A domain
//! that lives can be written in the same way.
//!
//! ```text
//!  rebuild thread                        thread "dumps", normal priority
//!  Capture::of: memory, registers, ─────▶ store: .partial-N ─ core, domain.elf, failure.json
//!  log, cursors copied, ~2 ms             │      rename to N-DOMAIN-CAUSE
//!  (then the memory is used again)        └─ the oldest make room
//! ```
//!
//! `gdb domain.elf core` shows where the driver stood, with source lines. The disk is only touched
//! on the store's own thread, so one that is full or stuck costs the dump and nothing else.
//! A dump holds received frames: its folder is readable by its owner only.

mod capture;
mod elf;
mod failure;
mod notes;
mod store;
mod writer;

pub use capture::{Capture, CaptureConfig, LiveCapture};
pub use store::{DumpError, DumpStore, StoreError, is_dump_name};
pub use writer::{DumpOutcome, DumpWriter, Offer};

/// Name of the core file in a failure's folder.
pub const CORE_FILE: &str = "core";
/// Name of the driver's program, with symbols and debug information.
pub const IMAGE_FILE: &str = "domain.elf";
/// Name of the description.
pub const FAILURE_FILE: &str = "failure.json";

#[cfg(test)]
mod tests;
