//! Faulty code, put in at the very moment at which it is about to run.
//!
//! Changing code under a running program is blunt: nobody knows when the change is met, so nobody
//! can say how long its discovery took. A trap is an `int3` in the first byte of an instruction.
//! When the program meets it, the vCPU thread has it outside the guest, puts the faulty bytes in,
//! sets the program back, and lets it run on into them; the stamp of that last entry is the
//! nearest there can be before the fault.

use std::sync::{Mutex, PoisonError};

use shared_ring::layout::{IMAGE_BASE, IMAGE_BYTES};

use crate::kvm::{CrashRecord, MicroVm};
use crate::memory::SharedMemory;

/// Longest piece of faulty code, in bytes: one instruction has at most 15.
pub const MAX_FAULTY_BYTES: usize = 16;

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

#[derive(Clone, Copy, Debug)]
struct Armed {
    address: u64,
    faulty: [u8; MAX_FAULTY_BYTES],
    len: usize,
}

/// The trap of one life.
#[derive(Debug, Default)]
pub(super) struct Trap(Mutex<Option<Armed>>);

impl Trap {
    /// Sets the trap at the first byte of an instruction.
    pub(super) fn arm(
        &self,
        ram: &SharedMemory,
        address: u64,
        code: &[u8],
    ) -> Result<(), TrapError> {
        let misplaced = TrapError::Place { address, len: code.len() };
        let image = IMAGE_BASE..IMAGE_BASE + IMAGE_BYTES - MAX_FAULTY_BYTES as u64;
        let mut faulty = [0; MAX_FAULTY_BYTES];
        let place = faulty.get_mut(..code.len()).filter(|place| !place.is_empty());
        let Some(place) = place.filter(|_| image.contains(&address)) else {
            return Err(misplaced);
        };
        place.copy_from_slice(code);
        let mut armed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Armed { address, .. }) = *armed {
            return Err(TrapError::Armed { address });
        }
        // Before the byte: the program may meet it at once.
        *armed = Some(Armed { address, faulty, len: code.len() });
        ram.write(address, &[INT3]).map_err(|_| misplaced)
    }

    /// If this exception is the trap's, springs it, and the program can run on.
    pub(super) fn spring(
        &self,
        vm: &mut MicroVm,
        ram: &SharedMemory,
        mut record: CrashRecord,
    ) -> bool {
        let address = record.registers.rip.wrapping_sub(1);
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(armed) = slot.take_if(|a| record.vector == BREAKPOINT && a.address == address)
        else {
            return false;
        };
        record.registers.rip = address;
        ram.write(address, &armed.faulty[..armed.len]).is_ok()
            && vm.complete(&mut record).is_ok()
            && vm.set_registers(&record.registers).is_ok()
    }
}
