//! The micro-VM: one vCPU that runs a program at CPL 3 and nothing else.
//!
//! ```text
//!   Image (ELF) ─┐
//!   Mappings   ──┼─► MicroVm::new ─► run() ─► Exit: hypercall, MMIO, exception, shutdown, kicked
//!   RAM, slots ──┘        ▲
//!                      Kicker (any thread)
//! ```
//!
//! There is no kernel in the guest, no interrupt controller and no timer. The VMM builds the page
//! tables; user space of the guest sees only what a [`Mapping`] or an image segment grants, at the
//! same guest-virtual as guest-physical address. Ring 0 holds the [`stub`](stub), which turns every
//! CPU exception into one store to the hypercall page, and what the CPU needs to get there.

mod build;
mod config;
mod error;
mod exit;
mod image;
mod kicker;
mod registers;
mod stub;
mod system;
mod tables;
mod vm;

pub use config::{Mapping, MemSlot, MicroVmConfig, Protection};
pub use error::{VmError, open_kvm};
pub use exit::Exit;
pub use image::{Image, ImageError, Segment, SegmentProtection, Symbol};
pub use kicker::Kicker;
pub use registers::{CrashRecord, GeneralRegisters, Registers};
pub use system::{SYSTEM_FIXED_BYTES, USER_CODE, USER_DATA};
pub use tables::MapError;
pub use vm::{FXSAVE_BYTES, MicroVm};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
pub(crate) mod tests;
