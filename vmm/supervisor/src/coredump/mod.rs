//! Core dumps: one folder for each failure, which shows what the failed domain was doing. A domain
//! that is alive can be dumped in the same way.
//!
//! ```text
//!  rebuild thread                        thread "dumps", normal priority
//!  Capture::of: memory, registers, ─────▶ store: .partial-N ─ core, domain.elf, failure.json
//!  log, cursors copied, ~2 ms             │      rename to N-DOMAIN-CAUSE
//!  (then the memory is used again)        └─ the oldest make room
//! ```
//!
//! `gdb domain.elf core` shows where the driver stood, with source lines. The disk is only touched
//! on the store's own thread, so a disk that is full or stuck costs the dump and nothing else.
//! A dump contains received frames, so only the owner of its folder can read it.

mod capture;
mod elf;
mod failure;
mod files;
mod notes;
mod store;
mod writer;

pub use capture::{Capture, CaptureConfig, LiveCapture};
pub use files::{CORE_FILE, FAILURE_FILE, IMAGE_FILE};
pub use store::{DumpError, DumpStore, StoreError, is_dump_name};
pub use writer::{DumpOutcome, DumpWriter, Offer};

#[cfg(test)]
mod tests;
