//! What keeps a NIC from being used by VFIO, and how to mend it, each in one line.

use std::path::PathBuf;

use serde::Serialize;

use crate::pci::PciAddress;

/// Why a NIC cannot be used yet. The text says what, where, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Obstacle {
    /// No device there.
    #[error(
        "{address}: there is no PCI device here: `warmspare devices` lists the NICs of this machine"
    )]
    NoDevice {
        /// Where.
        address: PciAddress,
    },
    /// A device, but none of the igb family.
    #[error(
        "{address}: the device {id} is no NIC of the igb family: name an i210, i211 or 82576 \
         (`warmspare devices` lists them)"
    )]
    NotIgb {
        /// Where.
        address: PciAddress,
        /// Vendor and device number, as `8086:1533`.
        id: String,
    },
    /// A NIC that has not been given its identity yet.
    #[error("{address}: the {model} cannot be used, {why}")]
    Blank {
        /// Where.
        address: PciAddress,
        /// Its name.
        model: String,
        /// Why not, and what to do.
        why: String,
    },
    /// A NIC of the family that the driver cannot drive.
    #[error(
        "{address}: the {model} is not supported, {why}: use an i210 or i211 with a copper port, or an 82576"
    )]
    Unsupported {
        /// Where.
        address: PciAddress,
        /// Its name.
        model: String,
        /// Why not.
        why: String,
    },
    /// Nothing confines its DMA.
    #[error(
        "{address}: it is in no IOMMU group: switch the IOMMU on in the firmware (VT-d, AMD-Vi) and \
         boot with intel_iommu=on (Intel) or amd_iommu=on (AMD)"
    )]
    NoIommu {
        /// Where.
        address: PciAddress,
    },
    /// The kernel's VFIO is not loaded.
    #[error("{path} is missing, the kernel's VFIO is not loaded: modprobe vfio-pci", path = path.display())]
    NoVfio {
        /// What is missing.
        path: PathBuf,
    },
    /// The kernel has VFIO, but not the part that programs the IOMMU.
    #[error("the kernel's VFIO cannot program the IOMMU: modprobe vfio_iommu_type1")]
    NoType1,
    /// Still the host's.
    #[error("{address}: it is bound to the driver {driver}: warmspare devices bind {address}")]
    OtherDriver {
        /// Where.
        address: PciAddress,
        /// Its driver.
        driver: String,
    },
    /// Nobody's.
    #[error("{address}: it is bound to no driver: warmspare devices bind {address}")]
    NoDriver {
        /// Where.
        address: PciAddress,
    },
    /// The group holds a device that the host drives.
    #[error(
        "{address}: its IOMMU group {group} is not viable, it also holds {member} bound to {driver}: bind \
         that one to vfio-pci as well (driverctl, or driver_override), or move the NIC to a slot with \
         a group of its own"
    )]
    GroupNotViable {
        /// Where.
        address: PciAddress,
        /// Group number.
        group: u32,
        /// The other device.
        member: PciAddress,
        /// Its driver.
        driver: String,
    },
    /// Another NIC of the family is in the group.
    #[error(
        "{address}: its IOMMU group {group} also holds the NIC {member}, and nothing keeps two NICs of \
         one group apart: use one of the two and leave the other out of the topology, or move one to a \
         slot with a group of its own"
    )]
    GroupShared {
        /// Where.
        address: PciAddress,
        /// Group number.
        group: u32,
        /// The other NIC.
        member: PciAddress,
    },
    /// The group's file is not for this user.
    #[error("{path}: permission denied: run as root, or `chown $USER {path}`", path = path.display())]
    Permission {
        /// File of the group.
        path: PathBuf,
    },
    /// Somebody else has it open.
    #[error(
        "{address}: IOMMU group {group} is in use by another program (fuser -v /dev/vfio/{group}): end that one"
    )]
    InUse {
        /// Where.
        address: PciAddress,
        /// Group number.
        group: u32,
    },
    /// The NIC's memory cannot be pinned.
    #[error(
        "RLIMIT_MEMLOCK is {limit_kib} KiB, and memory that NICs reach is pinned ({need_kib} KiB for \
         this one): ulimit -l unlimited (systemd: LimitMEMLOCK=infinity), or grant CAP_IPC_LOCK"
    )]
    Memlock {
        /// What this NIC needs, in KiB.
        need_kib: u64,
        /// The limit of this process, in KiB.
        limit_kib: u64,
    },
    /// The platform cannot confine interrupts.
    #[error(
        "{address}: the kernel refuses the IOMMU without interrupt remapping: switch it on in the \
         firmware (x2APIC), or accept the risk with vfio_iommu_type1.allow_unsafe_interrupts=1"
    )]
    NoInterruptRemapping {
        /// Where.
        address: PciAddress,
    },
}

impl Obstacle {
    /// Returns true if nothing that happens while this process runs can remove it: waiting for the
    /// NIC makes no sense.
    pub fn is_final(&self) -> bool {
        match self {
            Self::NotIgb { .. }
            | Self::Blank { .. }
            | Self::GroupShared { .. }
            | Self::Unsupported { .. }
            | Self::NoIommu { .. }
            | Self::Memlock { .. }
            | Self::NoInterruptRemapping { .. } => true,
            Self::NoDevice { .. }
            | Self::NoVfio { .. }
            | Self::NoType1
            | Self::OtherDriver { .. }
            | Self::NoDriver { .. }
            | Self::GroupNotViable { .. }
            | Self::Permission { .. }
            | Self::InUse { .. } => false,
        }
    }
}
