//! What goes wrong with a micro-VM.

use std::io;

use kvm_ioctls::Kvm;

use super::tables::MapError;
use platform::memory::MemoryError;

/// Version of the KVM API that this program speaks; it has been 12 since 2007.
const KVM_API_VERSION: i32 = 12;

/// Why a micro-VM could not be built or run.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// `/dev/kvm` exists and may not be opened.
    #[error(
        "no access to /dev/kvm: add yourself to the group kvm (usermod -aG kvm USER, then log in again) or run as root"
    )]
    NoPermission(#[source] io::Error),
    /// There is no `/dev/kvm`.
    #[error(
        "there is no usable /dev/kvm: load kvm_intel or kvm_amd, and switch virtualisation on in the firmware (or nested virtualisation in the hypervisor)"
    )]
    NoDevice(#[source] io::Error),
    /// `/dev/kvm` is not KVM as we know it.
    #[error("/dev/kvm speaks API version {found}, this program needs {KVM_API_VERSION}")]
    ApiVersion {
        /// What it answered.
        found: i32,
    },
    /// A KVM call failed.
    #[error("KVM cannot {what}")]
    Kvm {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The memory map is impossible.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Something does not lie in the guest's RAM.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The kick signal's handler could not be installed.
    #[error("cannot install the handler of the kick signal")]
    Signal(#[source] io::Error),
    /// A first, deliberate fault of the program was not reported.
    #[error("this KVM does not deliver CPU exceptions to the guest: a crash could not be seen")]
    NoExceptions,
    /// The vCPU had a triple fault, or failed in KVM: it must not run again.
    #[error("this vCPU has shut down and must not run again")]
    Dead,
}

impl VmError {
    /// Names the KVM call that failed.
    pub(super) fn kvm(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |error| Self::Kvm { what, source: io::Error::from_raw_os_error(error.errno()) }
    }

    /// The operating system's number of the error, 0 if it has none.
    pub fn errno(&self) -> i32 {
        match self {
            Self::NoPermission(source)
            | Self::NoDevice(source)
            | Self::Signal(source)
            | Self::Kvm { source, .. } => source.raw_os_error().unwrap_or(0),
            Self::ApiVersion { .. }
            | Self::Map(_)
            | Self::Memory(_)
            | Self::NoExceptions
            | Self::Dead => 0,
        }
    }
}

/// Opens `/dev/kvm`.
///
/// # Errors
/// No permission, no such device, or not the API of today; the message says how to mend it.
pub fn open_kvm() -> Result<Kvm, VmError> {
    let kvm = Kvm::new().map_err(|error| {
        let source = io::Error::from_raw_os_error(error.errno());
        match source.kind() {
            io::ErrorKind::PermissionDenied => VmError::NoPermission(source),
            _ => VmError::NoDevice(source),
        }
    })?;
    match kvm.get_api_version() {
        KVM_API_VERSION => Ok(kvm),
        found => Err(VmError::ApiVersion { found }),
    }
}
