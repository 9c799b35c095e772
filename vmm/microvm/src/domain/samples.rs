//! Where a program is found when it is interrupted: a sampling profile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::kvm::MicroVm;

/// The samples of one life. Off unless somebody asks: each costs a call into KVM.
#[derive(Debug, Default)]
pub(super) struct Samples {
    wanted: AtomicBool,
    taken: Mutex<Vec<u64>>,
}

impl Samples {
    /// Begins.
    pub(super) fn begin(&self) {
        self.wanted.store(true, Ordering::Release);
    }

    /// Notes where the program stands, if that is wanted.
    pub(super) fn take(&self, vm: &MicroVm) {
        if !self.wanted.load(Ordering::Acquire) {
            return;
        }
        if let Ok(registers) = vm.registers() {
            self.taken.lock().unwrap_or_else(PoisonError::into_inner).push(registers.rip);
        }
    }

    /// Ends, and gives what was taken.
    pub(super) fn end(&self) -> Vec<u64> {
        self.wanted.store(false, Ordering::Release);
        std::mem::take(&mut self.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
