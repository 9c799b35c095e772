//! Why the guest was left.

use kvm_ioctls::VcpuExit;

use super::registers::CrashRecord;

/// Why the guest was left.
#[derive(Debug, PartialEq, Eq)]
pub enum Exit<'a> {
    /// A 32-bit store to the hypercall page.
    Hypercall {
        /// Offset in the page, bytes.
        offset: u64,
        /// What was stored.
        value: u32,
    },
    /// A load from an address with no memory. Fill in `data` before running again.
    MmioRead {
        /// Guest-physical address.
        address: u64,
        /// 1 to 8 bytes.
        data: &'a mut [u8],
    },
    /// A store to an address with no memory.
    MmioWrite {
        /// Guest-physical address.
        address: u64,
        /// 1 to 8 bytes.
        data: &'a [u8],
    },
    /// A CPU exception, known from the stub's frame alone: [`super::MicroVm::complete_record`] adds what only KVM
    /// can tell. The vCPU stands in the stub; only [`super::MicroVm::set_registers`] makes it run on.
    Exception(CrashRecord),
    /// Triple fault: registers are gone, the vCPU must not run again and refuses to.
    Shutdown,
    /// An exit that a sound guest does not cause; the vCPU refuses to run again.
    Unexpected {
        /// Number of the exit in the KVM API.
        reason: u32,
    },
    /// Kicked, or a signal came. May be spurious.
    Interrupted,
}

/// What `KVM_RUN` said, without its borrow.
pub(super) enum RawExit {
    Read { address: u64, len: usize },
    Write { address: u64, len: usize },
    Shutdown,
    Unexpected,
    Interrupted,
    Failed(kvm_ioctls::Error),
}

impl RawExit {
    pub(super) fn of(result: Result<VcpuExit<'_>, kvm_ioctls::Error>) -> Self {
        match result {
            Ok(VcpuExit::MmioRead(address, data)) => Self::Read { address, len: data.len() },
            Ok(VcpuExit::MmioWrite(address, data)) => Self::Write { address, len: data.len() },
            Ok(VcpuExit::Shutdown) => Self::Shutdown,
            Ok(VcpuExit::Intr) => Self::Interrupted,
            Ok(_) => Self::Unexpected,
            Err(error) if error.errno() == libc::EINTR => Self::Interrupted,
            Err(error) => Self::Failed(error),
        }
    }
}
