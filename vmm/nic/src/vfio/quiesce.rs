//! Making a NIC fall silent, letting it speak again, and resetting it. All off the failover path.
//!
//! The order is that for a NIC whose driver is no longer trusted: mask the interrupts, disable the
//! queues, wait until each says that it has stopped (the on-chip descriptor cache is live until
//! then), bus master off, and a read last: its answer arrives behind every write the NIC had under
//! way (PCI Express ordering).

use std::time::{Duration, Instant};

use vfio_bindings::bindings::vfio::{VFIO_BASE, VFIO_TYPE};
use vmm_sys_util::ioctl::ioctl;
use vmm_sys_util::ioctl_io_nr;

use super::error::VfioError;
use super::{OpenDevice, VfioNic};
use crate::interface::{BarRegisters, Nic};
use crate::registers::{ALL_ONES, EIMC, QUEUE_BLOCK_BYTES, RXDCTL, STATUS, TXDCTL, queue};
use platform::budget::{NIC_DRAIN_DEADLINE, NIC_DRAIN_POLL, RESET_DEADLINE};

ioctl_io_nr!(VFIO_DEVICE_RESET, VFIO_TYPE as u32, VFIO_BASE + 11);

impl VfioNic {
    pub(super) fn mask_interrupts(&self) {
        self.bar.write(EIMC, u32::MAX);
    }

    /// Does something with the device, if one is open.
    pub(super) fn with_device<T>(&self, act: impl FnOnce(&OpenDevice, &Self) -> T) -> Option<T> {
        self.device().as_ref().map(|device| act(device, self))
    }

    /// Does something with the device.
    ///
    /// # Errors
    /// None is open, or `act` fails.
    pub(super) fn with_present_device(
        &self,
        act: impl FnOnce(&OpenDevice, &Self) -> Result<(), VfioError>,
    ) -> Result<(), VfioError> {
        let gone = || VfioError::Gone { name: self.name.clone() };
        self.with_device(act).unwrap_or_else(|| Err(gone()))
    }
}

impl OpenDevice {
    pub(super) fn silence(&self, nic: &VfioNic) -> Result<(), VfioError> {
        nic.shut_units();
        nic.mask_interrupts();
        // A queue that hangs (link down, PAUSE) is no reason to stop here: without bus master it
        // reaches nothing, and `let_master` looks again.
        let _ = self.stop_queues(nic);
        self.config.set_bus_master(false)?;
        let name = || nic.name.clone();
        if !within(NIC_DRAIN_DEADLINE, || Ok(!self.config.is_pending()?))? {
            return Err(VfioError::Pending { name: name() });
        }
        match nic.bar.read(STATUS) {
            ALL_ONES => Err(VfioError::Gone { name: name() }),
            _ => Ok(()),
        }
    }

    /// Bus master on, but never over queues that still run on rings of a failed driver.
    pub(super) fn let_master(&self, nic: &VfioNic) -> Result<(), VfioError> {
        self.stop_queues(nic)?;
        self.pristine.restore(&nic.bar, &nic.name);
        self.config.set_bus_master(true)
    }

    /// Disables every queue of the model, those too that no driver of ours uses: a driver gone
    /// wrong may have enabled any.
    fn stop_queues(&self, nic: &VfioNic) -> Result<(), VfioError> {
        let controls: Vec<u32> = (0..self.model.queues)
            .flat_map(|number| [RXDCTL, TXDCTL].map(|first| first + number * QUEUE_BLOCK_BYTES))
            .collect();
        for control in &controls {
            nic.bar.write(*control, 0);
        }
        let stopped = |control: &u32| nic.bar.read(*control) & queue::ENABLE == 0;
        if within(NIC_DRAIN_DEADLINE, || Ok(controls.iter().all(stopped)))? {
            Ok(())
        } else {
            Err(VfioError::QueuesRun { name: nic.name.clone() })
        }
    }

    /// The kernel's reset of the function: mappings of the BAR block meanwhile, MSI-X and the
    /// configuration come back as they were, all other registers are lost, the link goes down.
    pub(super) fn reset_function(&self, nic: &VfioNic) -> Result<(), VfioError> {
        self.config.set_bus_master(false)?;
        // SAFETY: an ioctl without argument on the device's own descriptor.
        if unsafe { ioctl(&self.device, VFIO_DEVICE_RESET()) } != 0 {
            return Err(VfioError::System {
                name: nic.name.clone(),
                what: "reset it",
                source: std::io::Error::last_os_error(),
            });
        }
        if !within(RESET_DEADLINE, || Ok(nic.bar.read(STATUS) != ALL_ONES))? {
            return Err(VfioError::Gone { name: nic.name.clone() });
        }
        nic.mask_interrupts();
        Ok(())
    }
}

/// Returns true if `done` becomes true in time.
fn within(
    deadline: Duration,
    mut done: impl FnMut() -> Result<bool, VfioError>,
) -> Result<bool, VfioError> {
    let end = Instant::now() + deadline;
    loop {
        if done()? {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        std::thread::sleep(NIC_DRAIN_POLL);
    }
}
