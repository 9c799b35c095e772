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
//! expel / drop: stop flag, kick; out of the guest for good
//! ```

mod breakpoints;
mod debug;
mod fault;
mod hold;
mod injection;
mod int3;
mod life;
mod log;
mod map;
mod prepare;
mod samples;
mod slot;
mod vcpu;
mod view;

pub use debug::{AllRegisters, DebugAccess, DebugError};
pub use fault::{ExitCounts, Fault, Outcome};
pub use hold::{Hold, HoldError};
pub use injection::{InjectionError, MAX_FAULTY_BYTES, RegisterChange};
pub use life::{CpuClock, DomainEvents, Life, LifeError};
pub use map::{MemoryArea, check_image, memory_areas};
pub use prepare::PrepareConfig;
pub use slot::{DomainId, DomainRings, DomainSlot, HostRings, SlotError};
pub use vcpu::VcpuState;
pub use view::LifeView;

#[cfg(test)]
mod tests;
