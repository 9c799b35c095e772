//! Fault injection: faulty code or registers, put in when the program is about to run them.
//!
//! Were code changed under the running program, nobody would know when the program reaches the
//! change, and so nobody could say how long its discovery took. Instead, an `int3` replaces the
//! first byte of an instruction. When the program reaches it, the vCPU leaves the guest; its thread
//! writes the faulty bytes, sets the program counter back, and enters the guest again. The time of
//! that entry is the closest stamp there can be before the fault. The registers can be changed at
//! the same moment, with the code or instead of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use shared_ring::layout::{IMAGE_BASE, IMAGE_BYTES};

use super::int3::{INT3, address_of_int3};
use crate::kvm::{CrashRecord, MicroVm, Registers};
use platform::clock::monotonic_ns;
use platform::memory::SharedMemory;

/// Longest piece of faulty code, in bytes: room for a small loop that does the wrong thing.
pub const MAX_FAULTY_BYTES: usize = 64;

/// Why an injection could not be prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InjectionError {
    /// An earlier one is prepared, and the program has not reached it yet.
    #[error("an injection is already pending at {address:#x}")]
    Pending {
        /// Guest address of its instruction.
        address: u64,
    },
    /// No bytes, too many, or an address outside the image.
    #[error("cannot put {len} faulty bytes at {address:#x}")]
    Place {
        /// Guest address of the instruction.
        address: u64,
        /// Bytes of faulty code.
        len: usize,
    },
}

/// What an injection does to the registers.
pub type RegisterChange = Box<dyn FnOnce(&mut Registers) + Send>;

/// An injection that the program has not reached yet.
struct Pending {
    address: u64,
    faulty: [u8; MAX_FAULTY_BYTES],
    len: usize,
    change: Option<RegisterChange>,
}

/// The injection of one life: at most one is pending at a time.
#[derive(Default)]
pub(super) struct Injection {
    pending: Mutex<Option<Pending>>,
    reached_ns: AtomicU64,
}

impl Injection {
    /// Prepares an injection at the first byte of an instruction, which `code` will replace.
    pub(super) fn prepare(
        &self,
        ram: &SharedMemory,
        address: u64,
        code: &[u8],
        change: Option<RegisterChange>,
    ) -> Result<(), InjectionError> {
        let misplaced = InjectionError::Place { address, len: code.len() };
        let image = IMAGE_BASE..IMAGE_BASE + IMAGE_BYTES - MAX_FAULTY_BYTES as u64;
        let mut faulty = [0; MAX_FAULTY_BYTES];
        let place = faulty.get_mut(..code.len()).filter(|place| !place.is_empty());
        let Some(place) = place.filter(|_| image.contains(&address)) else {
            return Err(misplaced);
        };
        place.copy_from_slice(code);
        let mut pending = self.pending();
        if let Some(Pending { address, .. }) = &*pending {
            return Err(InjectionError::Pending { address: *address });
        }
        // Before the byte: the program may reach it at once.
        *pending = Some(Pending { address, faulty, len: code.len(), change });
        ram.write(address, &[INT3]).map_err(|_| misplaced)
    }

    /// When the program last reached an injection, `CLOCK_MONOTONIC` nanoseconds; 0 before that.
    pub(super) fn reached_ns(&self) -> u64 {
        self.reached_ns.load(Ordering::Relaxed)
    }

    /// Returns true if this exception is the `int3` of the pending injection.
    pub(super) fn is_reached(&self, record: &CrashRecord) -> bool {
        let address = address_of_int3(record);
        address.is_some() && self.pending().as_ref().map(|pending| pending.address) == address
    }

    /// Carries the pending injection out if this exception is its `int3`. Returns true if the
    /// program can run on.
    pub(super) fn carry_out(
        &self,
        vm: &mut MicroVm,
        ram: &SharedMemory,
        mut record: CrashRecord,
    ) -> bool {
        let Some(address) = address_of_int3(&record) else { return false };
        let mut pending = self.pending();
        let Some(injection) = pending.take_if(|pending| pending.address == address) else {
            return false;
        };
        if ram.write(address, &injection.faulty[..injection.len]).is_err()
            || vm.complete_record(&mut record).is_err()
        {
            return false;
        }
        record.registers.rip = address;
        if let Some(change) = injection.change {
            change(&mut record.registers);
        }
        self.reached_ns.store(monotonic_ns(), Ordering::Relaxed);
        vm.set_registers(&record.registers).is_ok()
    }

    fn pending(&self) -> MutexGuard<'_, Option<Pending>> {
        // Set or taken as a whole.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
