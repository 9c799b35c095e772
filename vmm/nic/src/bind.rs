//! Taking a NIC from the host's driver, and giving it back: the kernel's driver override.

use std::fs;
use std::path::Path;

use crate::discovery::{Host, VFIO_DRIVER};
use crate::obstacle::Obstacle;
use crate::pci::PciAddress;

/// Why a NIC's driver could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// It is not a NIC for this, or the kernel lacks what it takes.
    #[error(transparent)]
    Obstacle(#[from] Obstacle),
    /// The host uses it.
    #[error(
        "{address}: its interface {interface} is up, and this host would lose it: ip link set {interface} down"
    )]
    InterfaceUp {
        /// Where.
        address: PciAddress,
        /// Its interface.
        interface: String,
    },
    /// sysfs refuses, and nothing has changed.
    #[error("{path}: cannot be written ({source}): {}", mend(source))]
    Write {
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// vfio-pci did not take it; what it had before was asked to take it back.
    #[error("{address}: vfio-pci did not take it{reason}, {}", whereabouts(*address, before.as_deref(), now.as_deref()))]
    NotTaken {
        /// Where.
        address: PciAddress,
        /// What the kernel said, in parentheses behind a space, or nothing.
        reason: String,
        /// The driver it had before.
        before: Option<String>,
        /// The driver it has now.
        now: Option<String>,
    },
    /// vfio-pci did not let it go.
    #[error(
        "{address}: vfio-pci keeps it: end the program that uses it (fuser -v /dev/vfio/*), and try again"
    )]
    Kept {
        /// Where.
        address: PciAddress,
    },
}

fn mend(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::PermissionDenied => "run as root",
        std::io::ErrorKind::NotFound => {
            "run on a kernel with PCI driver overrides and sysfs mounted"
        }
        _ => "`dmesg` has the kernel's reason",
    }
}

/// Where a NIC is now, and the way back.
fn whereabouts(address: PciAddress, before: Option<&str>, now: Option<&str>) -> String {
    match (before, now) {
        (_, Some(now)) => format!("and it is with {now}: `dmesg` has the reason"),
        (Some(before), None) => format!(
            "and {before} did not take it back, so that no driver has it: modprobe {before}, then \
             warmspare devices unbind {address} (`dmesg` has the reasons)"
        ),
        (None, None) => "and no driver has it, as before: `dmesg` has the reason".into(),
    }
}

/// Hands a NIC of this machine to vfio-pci.
///
/// # Errors
/// See [`BindError`].
pub fn bind(address: PciAddress) -> Result<(), BindError> {
    Host::default().bind(address)
}

/// Gives a NIC of this machine back to the driver the kernel would choose.
///
/// # Errors
/// See [`BindError`].
pub fn unbind(address: PciAddress) -> Result<(), BindError> {
    Host::default().unbind(address)
}

impl Host {
    /// Hands a NIC to vfio-pci; nothing to do where it has it already.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(&self, address: PciAddress) -> Result<(), BindError> {
        let info = self.info(address)?;
        if info.driver.as_deref() == Some(VFIO_DRIVER) {
            return Ok(());
        }
        // All but the binding itself must be in order first.
        let blocking = info.missing.into_iter().find(|obstacle| {
            use Obstacle::{Blank, NoIommu, NoVfio, Unsupported};
            matches!(obstacle, Blank { .. } | NoIommu { .. } | NoVfio { .. } | Unsupported { .. })
        });
        if let Some(obstacle) = blocking {
            return Err(obstacle.into());
        }
        if let Some(interface) = info.interface
            && self.is_interface_up(address, &interface)
        {
            return Err(BindError::InterfaceUp { address, interface });
        }
        let outcome = self.change_driver(address, VFIO_DRIVER);
        if self.driver(address).as_deref() == Some(VFIO_DRIVER) {
            return Ok(());
        }
        Err(self.give_back(address, info.driver, outcome.err()))
    }

    /// After a binding that failed: a NIC that had a driver is not left without one, nor with an
    /// override that keeps its own driver off at the next boot of that driver.
    fn give_back(
        &self,
        address: PciAddress,
        before: Option<String>,
        cause: Option<BindError>,
    ) -> BindError {
        let _ = write(&self.device(address).join("driver_override"), "\n");
        if before.is_some() && self.driver(address).is_none() {
            let _ = write(&self.drivers_probe(), &address.to_string());
        }
        let now = self.driver(address);
        match cause {
            Some(cause) if now == before => cause,
            cause => {
                let reason = cause.map(|cause| format!(" ({cause})")).unwrap_or_default();
                BindError::NotTaken { address, reason, before, now }
            }
        }
    }

    /// Takes a NIC from vfio-pci and lets the kernel choose; nothing to do where another has it.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn unbind(&self, address: PciAddress) -> Result<(), BindError> {
        self.model(address)?;
        if self.driver(address).is_some_and(|driver| driver != VFIO_DRIVER) {
            return Ok(());
        }
        self.change_driver(address, "\n")?;
        match self.driver(address) {
            // Without the host's driver loaded, no driver is where it belongs.
            Some(driver) if driver == VFIO_DRIVER => Err(BindError::Kept { address }),
            _ => Ok(()),
        }
    }

    fn change_driver(&self, address: PciAddress, wanted: &str) -> Result<(), BindError> {
        let device = self.device(address);
        write(&device.join("driver_override"), wanted)?;
        if device.join("driver").exists() {
            write(&device.join("driver/unbind"), &address.to_string())?;
        }
        write(&self.drivers_probe(), &address.to_string())
    }

    fn is_interface_up(&self, address: PciAddress, interface: &str) -> bool {
        const IFF_UP: u32 = 1;
        let flags = self.device(address).join("net").join(interface).join("flags");
        let text = fs::read_to_string(flags).unwrap_or_default();
        let flags = u32::from_str_radix(text.trim().trim_start_matches("0x"), 16);
        flags.is_ok_and(|flags| flags & IFF_UP != 0)
    }
}

fn write(path: &Path, text: &str) -> Result<(), BindError> {
    // Not `fs::write`: these files exist or the kernel lacks them, none is to be created.
    let mut options = fs::OpenOptions::new();
    options
        .write(true)
        .open(path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .map_err(|source| BindError::Write { path: path.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::super::discovery::tests::FakeHost;
    use super::*;

    #[test]
    fn bind_overrides_unbinds_and_probes() {
        let fake = FakeHost::with_nic("0000:01:00.0", 0x1533, "igb", 7);
        fake.file("sys/bus/pci/devices/0000:01:00.0/net/eth0/flags", "0x1002");
        let address = "0000:01:00.0".parse().unwrap();

        // Files do not act: the fake kernel leaves the NIC with its driver, and that is told.
        let error = fake.host().bind(address).unwrap_err();

        assert!(matches!(error, BindError::NotTaken { now: Some(ref igb), .. } if igb == "igb"));
        let device = "sys/bus/pci/devices/0000:01:00.0";
        // Files keep what is not written over: the override was taken back.
        assert_eq!(fake.read(&format!("{device}/driver_override")), "\nfio-pci");
        assert_eq!(fake.read("sys/bus/pci/drivers/igb/unbind"), "0000:01:00.0");
        assert_eq!(fake.read("sys/bus/pci/drivers_probe"), "0000:01:00.0");
    }

    #[test]
    fn a_nic_that_no_driver_takes_names_the_way_back() {
        let fake = FakeHost::with_nic("0000:01:00.0", 0x1533, "igb", 7);
        fake.remove("sys/bus/pci/devices/0000:01:00.0/driver");
        let address = "01:00.0".parse().unwrap();

        let error = fake.host().give_back(address, Some("igb".into()), None).to_string();

        assert!(error.contains("modprobe igb"), "{error}");
        assert!(error.contains("warmspare devices unbind 0000:01:00.0"), "{error}");
        assert_eq!(fake.read("sys/bus/pci/drivers_probe"), "0000:01:00.0", "its own was asked");
        assert_eq!(fake.read("sys/bus/pci/devices/0000:01:00.0/driver_override"), "\n");
    }

    #[test]
    fn a_kernel_that_refuses_is_not_a_user_without_rights() {
        let fake = FakeHost::with_nic("0000:01:00.0", 0x1533, "igb", 7);
        fake.file("sys/bus/pci/devices/0000:01:00.0/net/eth0/flags", "0x1002");
        fake.remove("sys/bus/pci/drivers_probe");
        fake.file("sys/bus/pci/drivers_probe/in-the-way", "");

        let error = fake.host().bind("01:00.0".parse().unwrap()).unwrap_err().to_string();

        assert!(error.contains("drivers_probe: cannot be written"), "{error}");
        assert!(error.contains("dmesg") && !error.contains("root"), "{error}");
    }

    #[test]
    fn a_blank_nic_is_not_bound() {
        let fake = FakeHost::with_nic("0000:01:00.0", 0x1531, "igb", 7);
        let error = fake.host().bind("01:00.0".parse().unwrap()).unwrap_err();
        assert!(matches!(error, BindError::Obstacle(Obstacle::Blank { .. })), "{error}");
    }

    #[test]
    fn an_interface_that_is_up_is_left_alone() {
        let fake = FakeHost::with_nic("0000:01:00.0", 0x1533, "igb", 7);
        fake.file("sys/bus/pci/devices/0000:01:00.0/net/eth0/flags", "0x1003");

        let error = fake.host().bind("01:00.0".parse().unwrap()).unwrap_err();

        assert!(error.to_string().contains("ip link set eth0 down"), "{error}");
        assert_eq!(fake.read("sys/bus/pci/drivers/igb/unbind"), "");
    }

    #[test]
    fn a_bound_nic_is_bound_already() {
        let fake = FakeHost::with_nic("0000:01:00.0", 0x1533, "vfio-pci", 7);
        fake.host().bind("01:00.0".parse().unwrap()).unwrap();
        assert_eq!(fake.read("sys/bus/pci/drivers_probe"), "");
    }

    #[test]
    fn unbind_clears_the_override() {
        let fake = FakeHost::with_nic("0000:01:00.0", 0x1533, "vfio-pci", 7);
        let error = fake.host().unbind("01:00.0".parse().unwrap()).unwrap_err();
        assert!(matches!(error, BindError::Kept { .. }));
        assert_eq!(fake.read("sys/bus/pci/devices/0000:01:00.0/driver_override"), "\n");
        assert_eq!(fake.read("sys/bus/pci/drivers/vfio-pci/unbind"), "0000:01:00.0");
    }

    #[test]
    fn without_an_iommu_nothing_is_bound() {
        let fake = FakeHost::with_nic("0000:01:00.0", 0x1533, "igb", 7);
        fake.remove("sys/bus/pci/devices/0000:01:00.0/iommu_group");
        let error = fake.host().bind("01:00.0".parse().unwrap()).unwrap_err();
        assert!(matches!(error, BindError::Obstacle(Obstacle::NoIommu { .. })), "{error}");
    }
}
