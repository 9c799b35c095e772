//! Driver domains: what is permanent about one (its slot) and what lives and dies (a life).
//!
//! ```text
//! slot.prepare(epoch, role)   memory as if new, control page written
//!      │
//! Life::start ──► thread vcpu-NAME: run ─► exit ─► stopped? ─► act ─► run ...
//!      │               │ READY             │ WAIT          │ exception, panic, ...
//!      │               ▼                   ▼               ▼
//!      │          events.ready         poll(2)        events.failed
//!      ▼
//! force_out / drop: stop flag, kick; out of the guest for good
//! ```

mod accounts;
mod breakpoints;
mod cpu_clock;
mod debug;
mod error;
mod eventfd;
mod events;
mod exit_counts;
mod exits;
mod fault;
mod hold;
mod holds;
mod injection;
mod int3;
mod life;
mod life_state;
mod log;
mod map;
mod park;
mod prepare;
mod samples;
mod slot;
mod vcpu;
mod vcpu_state;
mod view;

pub use accounts::Accounts;
pub use cpu_clock::CpuClock;
pub use debug::{AllRegisters, DebugAccess, DebugError};
pub use error::LifeError;
pub use events::DomainEvents;
pub use exit_counts::ExitCounts;
pub use fault::{Fault, Outcome};
pub use hold::{Hold, HoldError};
pub use injection::{InjectionError, MAX_FAULTY_BYTES, RegisterChange};
pub use life::Life;
pub use map::{MemoryArea, check_image, memory_areas};
pub use prepare::PrepareConfig;
pub use slot::{DomainId, DomainRings, DomainSlot, HostRings, SlotError};
pub use vcpu_state::VcpuState;
pub use view::LifeView;

#[cfg(test)]
mod tests;
