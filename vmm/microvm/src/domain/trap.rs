//! Faulty code, put in at the very moment at which it is about to run.
//!
//! Changing code under a running program is blunt: nobody knows when the change is met, so nobody
//! can say how long its discovery took. A trap is an `int3` in the first byte of an instruction.
//! When the program meets it, the vCPU thread has it outside the guest, puts the faulty bytes in,
//! sets the program back, and lets it run on into them; the stamp of that last entry is the
//! nearest there can be before the fault. Instead of code, or with it, the registers can be changed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use shared_ring::layout::{IMAGE_BASE, IMAGE_BYTES};

use crate::kvm::{CrashRecord, MicroVm, Registers};
use platform::clock::monotonic_ns;
use platform::memory::SharedMemory;

/// Longest piece of faulty code, in bytes: room for a small loop that does the wrong thing.
pub const MAX_FAULTY_BYTES: usize = 64;

const INT3: u8 = 0xcc;
const BREAKPOINT: u8 = 3;

/// Why a trap could not be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrapError {
    /// One is set and was not met yet.
    #[error("a trap is already set at {address:#x}")]
    Armed {
        /// Where.
        address: u64,
    },
    /// Too much, nothing at all, or outside the image.
    #[error("cannot put {len} faulty bytes at {address:#x}")]
    Place {
        /// Where.
        address: u64,
        /// How many.
        len: usize,
    },
}

/// What becomes of the registers when a trap is sprung.
pub type RegisterChange = Box<dyn FnOnce(&mut Registers) + Send>;

struct Armed {
    address: u64,
    faulty: [u8; MAX_FAULTY_BYTES],
    len: usize,
    change: Option<RegisterChange>,
}

/// The trap of one life.
#[derive(Default)]
pub(super) struct Trap {
    armed: Mutex<Option<Armed>>,
    sprung_ns: AtomicU64,
}

impl Trap {
    /// Sets the trap at the first byte of an instruction; `code` stands there when it is sprung.
    pub(super) fn arm(
        &self,
        ram: &SharedMemory,
        address: u64,
        code: &[u8],
        change: Option<RegisterChange>,
    ) -> Result<(), TrapError> {
        let misplaced = TrapError::Place { address, len: code.len() };
        let image = IMAGE_BASE..IMAGE_BASE + IMAGE_BYTES - MAX_FAULTY_BYTES as u64;
        let mut faulty = [0; MAX_FAULTY_BYTES];
        let place = faulty.get_mut(..code.len()).filter(|place| !place.is_empty());
        let Some(place) = place.filter(|_| image.contains(&address)) else {
            return Err(misplaced);
        };
        place.copy_from_slice(code);
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Armed { address, .. }) = &*armed {
            return Err(TrapError::Armed { address: *address });
        }
        // Before the byte: the program may meet it at once.
        *armed = Some(Armed { address, faulty, len: code.len(), change });
        ram.write(address, &[INT3]).map_err(|_| misplaced)
    }

    /// When the trap was sprung last, `CLOCK_MONOTONIC` nanoseconds; 0 before the first time.
    pub(super) fn sprung_ns(&self) -> u64 {
        self.sprung_ns.load(Ordering::Relaxed)
    }

    /// Whether this exception is the trap's.
    pub(super) fn is_met(&self, record: &CrashRecord) -> bool {
        let armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let address = record.registers.rip.wrapping_sub(1);
        record.vector == BREAKPOINT && armed.as_ref().is_some_and(|a| a.address == address)
    }

    /// If this exception is the trap's, springs it, and the program can run on.
    pub(super) fn spring(
        &self,
        vm: &mut MicroVm,
        ram: &SharedMemory,
        mut record: CrashRecord,
    ) -> bool {
        let address = record.registers.rip.wrapping_sub(1);
        let mut slot = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(armed) = slot.take_if(|a| record.vector == BREAKPOINT && a.address == address)
        else {
            return false;
        };
        if ram.write(address, &armed.faulty[..armed.len]).is_err()
            || vm.complete(&mut record).is_err()
        {
            return false;
        }
        record.registers.rip = address;
        if let Some(change) = armed.change {
            change(&mut record.registers);
        }
        self.sprung_ns.store(monotonic_ns(), Ordering::Relaxed);
        vm.set_registers(&record.registers).is_ok()
    }
}
