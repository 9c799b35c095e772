//! What goes wrong with VFIO, and whose mistake it is.

use vfio_ioctls::VfioError as Cause;

use crate::obstacle::Obstacle;
use crate::pci::PciAddress;

/// Why a NIC behind VFIO could not be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum VfioError {
    /// Something is missing that the user can mend.
    #[error(transparent)]
    Obstacle(Obstacle),
    /// The kernel refused a step.
    #[error("{name}: VFIO refuses it")]
    Refused {
        /// The NIC.
        name: String,
        /// The step, and why.
        source: Cause,
    },
    /// An operating system call failed.
    #[error("{name}: cannot {what}")]
    System {
        /// The NIC.
        name: String,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// BAR 0 is not what the family has.
    #[error("{name}: its BAR 0 has {bytes} bytes{}: this is no igb as the driver knows it", if *mappable { "" } else { " and cannot be mapped" })]
    Bar {
        /// The NIC.
        name: String,
        /// Length of the BAR.
        bytes: u64,
        /// Whether the kernel lets it be mapped.
        mappable: bool,
    },
    /// Two different areas at one I/O address.
    #[error("{name}: {len} bytes at I/O address {iova:#x} are mapped already, to other memory")]
    Overlap {
        /// The NIC.
        name: String,
        /// First I/O address.
        iova: u64,
        /// Length in bytes.
        len: u64,
    },
    /// A DMA area that lies outside its memory.
    #[error("{name}: the area at I/O address {iova:#x} does not lie within its memory")]
    Area {
        /// The NIC.
        name: String,
        /// First I/O address.
        iova: u64,
    },
    /// A configuration write did not take.
    #[error("{name}: bus master stays {}", if *wanted { "off" } else { "on" })]
    BusMaster {
        /// The NIC.
        name: String,
        /// What was written.
        wanted: bool,
    },
    /// A queue does not let itself be disabled; a reset may help.
    #[error("{name}: its queues do not stop")]
    QueuesRun {
        /// The NIC.
        name: String,
    },
    /// Transactions do not come to an end.
    #[error("{name}: it still has PCI Express transactions under way")]
    Pending {
        /// The NIC.
        name: String,
    },
    /// All registers read all ones.
    #[error("{name}: it does not answer any more")]
    Gone {
        /// The NIC.
        name: String,
    },
}

impl VfioError {
    /// Returns true if no change of the machine mends it while this process runs, so that waiting
    /// makes no sense.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Obstacle(obstacle) => obstacle.is_final(),
            Self::Bar { .. } | Self::Overlap { .. } | Self::Area { .. } => true,
            Self::Refused { .. }
            | Self::System { .. }
            | Self::BusMaster { .. }
            | Self::QueuesRun { .. }
            | Self::Pending { .. }
            | Self::Gone { .. } => false,
        }
    }

    /// Sorts what the crate reports: a mistake with a mend, or a refusal.
    pub(super) fn refused(address: PciAddress, group: Option<u32>, cause: Cause) -> Self {
        let group = group.unwrap_or_default();
        let in_use = Obstacle::InUse { address, group };
        match &cause {
            Cause::OpenContainer(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Self::Obstacle(Obstacle::NoVfio { path: "/dev/vfio/vfio".into() })
            }
            Cause::OpenContainer(error) if is_denied(error) => {
                Self::Obstacle(Obstacle::Permission { path: "/dev/vfio/vfio".into() })
            }
            Cause::OpenGroup(error, group) if is_denied(error) => {
                Self::Obstacle(Obstacle::Permission { path: format!("/dev/vfio/{group}").into() })
            }
            Cause::OpenGroup(error, _) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                Self::Obstacle(in_use)
            }
            Cause::VfioExtension => Self::Obstacle(Obstacle::NoType1),
            Cause::ContainerSetIOMMU(errno) if errno.errno() == libc::EPERM => {
                Self::Obstacle(Obstacle::NoInterruptRemapping { address })
            }
            _ => Self::Refused { name: address.to_string(), source: cause },
        }
    }
}

fn is_denied(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::PermissionDenied
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(cause: Cause) -> String {
        VfioError::refused("01:00.0".parse().unwrap(), Some(7), cause).to_string()
    }

    fn errno(number: i32) -> std::io::Error {
        std::io::Error::from_raw_os_error(number)
    }

    #[test]
    fn what_the_user_can_mend_says_how() {
        let cases = [
            (Cause::OpenContainer(errno(libc::ENOENT)), "modprobe vfio-pci"),
            (Cause::OpenGroup(errno(libc::EACCES), "7".into()), "chown $USER /dev/vfio/7"),
            (Cause::OpenGroup(errno(libc::EBUSY), "7".into()), "fuser -v /dev/vfio/7"),
            (Cause::VfioExtension, "modprobe vfio_iommu_type1"),
            (
                Cause::ContainerSetIOMMU(vmm_sys_util::errno::Error::new(libc::EPERM)),
                "allow_unsafe_interrupts",
            ),
        ];
        for (cause, mend) in cases {
            let text = sorted(cause);
            assert!(text.contains(mend), "{text}");
        }
        assert_eq!(sorted(Cause::GroupViable), "0000:01:00.0: VFIO refuses it");
    }
}
