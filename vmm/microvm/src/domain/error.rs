//! Why a life could not begin.

use shared_ring::ABI_VERSION;

use crate::kvm::VmError;

/// Why a life could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LifeError {
    /// Not one of our images.
    #[error("the image is no domain of warmspare: it has no note section")]
    NoNote,
    /// Built from other sources.
    #[error(
        "the image has ABI version {image}, this program needs {ABI_VERSION}: build both from the same sources"
    )]
    AbiVersion {
        /// What the image says.
        image: u32,
    },
    /// Does not fit the memory map.
    #[error("the image's segment of {len:#x} bytes at {address:#x} lies outside the image area")]
    Layout {
        /// Guest address of the segment.
        address: u64,
        /// Its bytes.
        len: u64,
    },
    /// `DomainSlot::prepare` was not called for this life.
    #[error("the slot is prepared for life {prepared}, not for life {epoch}")]
    NotPrepared {
        /// What the control page says; 0 if it is blank.
        prepared: u32,
        /// The life that was to begin.
        epoch: u32,
    },
    /// No micro-VM.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// No thread or eventfd.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}
