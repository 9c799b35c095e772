//! A life as a debugger sees it.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use super::hold::{Hold, HoldError};
use super::life::Life;
use super::life_state::LifeState;
use super::map::{MemoryArea, memory_areas};
use crate::kvm::{FXSAVE_BYTES, Registers, VmError};

/// Why a debugger cannot have what it asks for.
#[derive(Debug, thiserror::Error)]
pub enum DebugError {
    /// The domain was let go.
    #[error(transparent)]
    Hold(#[from] HoldError),
    /// KVM refuses.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// It is none of the program's, or not to be written.
    #[error("{len} bytes at {address:#x} are not the program's to {what}")]
    Memory {
        /// What was asked for.
        what: &'static str,
        /// Guest address of the first byte.
        address: u64,
        /// How many bytes.
        len: usize,
    },
}

/// All registers of a program.
#[derive(Clone, Copy, Debug)]
pub struct AllRegisters {
    /// General purpose registers, program counter, flags.
    pub general: Registers,
    /// x87 and SSE registers as `fxsave` stores them.
    pub vector: [u8; FXSAVE_BYTES],
}

/// Breakpoints and memory of one life, for one debugger at a time. Dropped, it leaves no trace: the
/// breakpoints are gone, and a vCPU that stood before one runs on.
pub struct DebugAccess {
    life: Arc<LifeState>,
    areas: Vec<MemoryArea>,
}

impl Life {
    /// The life as a debugger sees it, unless there is one already.
    pub fn debug(&self) -> Option<DebugAccess> {
        let life = self.life_state();
        if !life.breakpoints.attach() {
            return None;
        }
        Some(DebugAccess { life: life.clone(), areas: memory_areas(self.image()) })
    }
}

impl DebugAccess {
    /// Readable when the vCPU stands before a breakpoint; [`Self::take_stop`] has it then.
    pub fn stop_fd(&self) -> RawFd {
        self.life.breakpoints.met.as_raw_fd()
    }

    /// Readable when the life is over.
    pub fn out_fd(&self) -> RawFd {
        self.life.events.out.as_raw_fd()
    }

    /// Returns true if the debugger has to leave: the domain is to serve, or its life is over.
    pub fn is_over(&self) -> bool {
        !self.life.breakpoints.are_wanted() || self.life.is_stopped()
    }

    /// Stops the domain.
    pub fn hold(&self) -> Hold {
        Hold::begin(&self.life)
    }

    /// The breakpoint that the vCPU stands before, if it does, and the hold that keeps it there.
    pub fn take_stop(&self) -> Option<(u64, Hold)> {
        let stop = self.life.breakpoints.take_stop()?;
        Some((stop.address, Hold::adopt(&self.life, stop.generation)))
    }

    /// Sets a breakpoint at the first byte of an instruction. One that is there stays.
    ///
    /// # Errors
    /// There is no code.
    pub fn set_breakpoint(&self, address: u64) -> Result<(), DebugError> {
        let misplaced = DebugError::Memory { what: "execute", address, len: 1 };
        if !self.is_in(address, 1, |area| area.execute) {
            return Err(misplaced);
        }
        self.life.breakpoints.set(&self.life.slot.ram, address).map_err(|_| misplaced)
    }

    /// Takes a breakpoint away, if there is one.
    pub fn remove_breakpoint(&self, address: u64) {
        self.life.breakpoints.remove(&self.life.slot.ram, address);
    }

    /// Reads what the program can read; breakpoints do not show.
    ///
    /// # Errors
    /// It cannot.
    pub fn read(&self, address: u64, to: &mut [u8]) -> Result<(), DebugError> {
        let foreign = DebugError::Memory { what: "read", address, len: to.len() };
        if !self.is_in(address, to.len(), |area| area.read) {
            return Err(foreign);
        }
        self.life.slot.ram.read(address, to).map_err(|_| foreign)?;
        self.life.breakpoints.hide(address, to);
        Ok(())
    }

    /// Writes what the program can write: code and what the VMM tells it are not among that.
    ///
    /// # Errors
    /// It cannot.
    pub fn write(&self, address: u64, from: &[u8]) -> Result<(), DebugError> {
        let foreign = DebugError::Memory { what: "write", address, len: from.len() };
        if !self.is_in(address, from.len(), |area| area.write) {
            return Err(foreign);
        }
        // What is written after the end of the life is lost with it.
        let written = self.life.breakpoints.unless_over(|| self.life.slot.ram.write(address, from));
        written.unwrap_or(Ok(())).map_err(|_| foreign)
    }

    fn is_in(&self, address: u64, len: usize, may: impl Fn(&MemoryArea) -> bool) -> bool {
        let Some(end) = address.checked_add(len as u64) else { return false };
        // Areas lie beside each other, and a read may go over the edge between two.
        let mut at = address;
        while at < end {
            let here = |area: &&MemoryArea| (area.address..area.address + area.len).contains(&at);
            match self.areas.iter().find(here).filter(|area| may(area)) {
                Some(area) => at = area.address + area.len,
                None => return false,
            }
        }
        true
    }
}

impl Drop for DebugAccess {
    fn drop(&mut self) {
        if let Some(stop) = self.life.breakpoints.detach(&self.life.slot.ram) {
            drop(Hold::adopt(&self.life, stop.generation));
        }
    }
}

impl Hold {
    /// The registers of the program, which stands still.
    ///
    /// # Errors
    /// It was let go, or KVM refuses.
    pub fn registers(&self) -> Result<AllRegisters, DebugError> {
        let registers = self.on_vcpu_thread(|vm| {
            vm.complete_exit()?;
            Ok(AllRegisters { general: vm.registers()?, vector: vm.vector_registers()? })
        })?;
        registers.map_err(DebugError::Vm)
    }

    /// Changes them, but for the vector registers.
    ///
    /// # Errors
    /// It was let go, or KVM refuses.
    pub fn set_registers(&self, registers: Registers) -> Result<(), DebugError> {
        Ok(self.on_vcpu_thread(move |vm| vm.set_registers(&registers))??)
    }
}
