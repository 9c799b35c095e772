//! PCI configuration space. Every write is read back: the kernel filters and virtualises it.

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use vfio_bindings::bindings::vfio::VFIO_PCI_CONFIG_REGION_INDEX;
use vfio_ioctls::VfioDevice;

use super::error::VfioError;

/// Command register (PCI 3.0 §6.2.2), and the bits this program writes.
const COMMAND: u64 = 0x04;
const COMMAND_MEMORY: u16 = 1 << 1;
const COMMAND_BUS_MASTER: u16 = 1 << 2;
/// Status register; the bit that says there is a capability list, and where it begins.
const STATUS: u64 = 0x06;
const STATUS_CAPABILITIES: u16 = 1 << 4;
const CAPABILITIES: u64 = 0x34;
/// The PCI Express capability (PCIe base specification §7.5.3), its device status, and in it:
/// transactions pending.
const CAPABILITY_PCIE: u8 = 0x10;
const PCIE_DEVICE_STATUS: u64 = 0x0a;
const DEVICE_STATUS_PENDING: u16 = 1 << 5;
/// The list has 48 entries at most: what is longer runs in a circle.
const MOST_CAPABILITIES: usize = 48;

/// Configuration space of one function.
pub(super) struct ConfigSpace {
    name: String,
    file: File,
    base: u64,
    /// Device status of the PCI Express capability.
    device_status: Option<u64>,
}

impl ConfigSpace {
    pub(super) fn new(name: &str, device: &VfioDevice) -> Result<Self, VfioError> {
        // SAFETY: the descriptor is open as long as `device`, and duplicated here.
        let fd = unsafe { BorrowedFd::borrow_raw(device.as_raw_fd()) };
        let owned = fd.try_clone_to_owned().map_err(|source| VfioError::System {
            name: name.to_owned(),
            what: "duplicate its descriptor",
            source,
        })?;
        let base = device.get_region_offset(VFIO_PCI_CONFIG_REGION_INDEX);
        let mut config =
            Self { name: name.to_owned(), file: owned.into(), base, device_status: None };
        config.device_status =
            config.find(CAPABILITY_PCIE)?.map(|capability| capability + PCIE_DEVICE_STATUS);
        Ok(config)
    }

    pub(super) fn is_bus_master(&self) -> Result<bool, VfioError> {
        Ok(self.word(COMMAND)? & COMMAND_BUS_MASTER != 0)
    }

    /// Lets the function read and write memory, or forbids it, and checks that this took effect.
    pub(super) fn set_bus_master(&self, on: bool) -> Result<(), VfioError> {
        let command = self.word(COMMAND)? | COMMAND_MEMORY;
        let wanted = if on { command | COMMAND_BUS_MASTER } else { command & !COMMAND_BUS_MASTER };
        self.file.write_all_at(&wanted.to_le_bytes(), self.base + COMMAND).map_err(|source| {
            VfioError::System { name: self.name.clone(), what: "write its configuration", source }
        })?;
        if self.is_bus_master()? == on {
            Ok(())
        } else {
            Err(VfioError::BusMaster { name: self.name.clone(), wanted: on })
        }
    }

    /// Returns true if requests of the function are still without their completion.
    pub(super) fn is_pending(&self) -> Result<bool, VfioError> {
        let Some(offset) = self.device_status else { return Ok(false) };
        Ok(self.word(offset)? & DEVICE_STATUS_PENDING != 0)
    }

    fn find(&self, wanted: u8) -> Result<Option<u64>, VfioError> {
        if self.word(STATUS)? & STATUS_CAPABILITIES == 0 {
            return Ok(None);
        }
        let mut at = self.word(CAPABILITIES)? & 0xfc;
        for _ in 0..MOST_CAPABILITIES {
            if at == 0 {
                break;
            }
            let [id, next] = self.word(at.into())?.to_le_bytes();
            if id == wanted {
                return Ok(Some(at.into()));
            }
            at = u16::from(next & 0xfc);
        }
        Ok(None)
    }

    fn word(&self, offset: u64) -> Result<u16, VfioError> {
        let mut bytes = [0; 2];
        self.file.read_exact_at(&mut bytes, self.base + offset).map_err(|source| {
            VfioError::System { name: self.name.clone(), what: "read its configuration", source }
        })?;
        Ok(u16::from_le_bytes(bytes))
    }
}
