//! Which NICs of the igb family this machine has, and what each still lacks. Reads sysfs only.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Serialize;
use shared_ring::layout::{BUFFER_BYTES, DMA_BYTES, RX_BUFFERS, TX_BUFFERS};

use crate::obstacle::Obstacle;
use crate::pci::{Model, PciAddress};

/// The driver that hands devices to user space.
pub const VFIO_DRIVER: &str = "vfio-pci";

/// What one NIC may reach and is therefore pinned, in KiB.
pub const PINNED_KIB: u64 =
    (DMA_BYTES + (RX_BUFFERS * BUFFER_BYTES + TX_BUFFERS * BUFFER_BYTES) as u64) / 1024;

/// Where the kernel shows its devices. Another place than `/` in tests.
#[derive(Clone, Debug)]
pub struct Host {
    sys: PathBuf,
    dev: PathBuf,
    proc: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Self::at(Path::new("/"))
    }
}

/// State of a cable, as far as it can be told without touching the NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// The host's driver sees a carrier.
    Up,
    /// It sees none, or the interface is down.
    Down,
    /// No host driver to ask; opening the NIC to look would reset it.
    Unknown,
}

/// A device that shares an IOMMU group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupMember {
    /// Where.
    pub address: PciAddress,
    /// The driver bound to it.
    pub driver: Option<String>,
}

/// A NIC of the igb family.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceInfo {
    /// Where.
    pub address: PciAddress,
    /// Name of the model.
    pub model: &'static str,
    /// Vendor and device number, as `8086:1533`.
    pub id: String,
    /// The driver bound now.
    pub driver: Option<String>,
    /// Network interface of the host's driver.
    pub interface: Option<String>,
    /// IOMMU group.
    pub iommu_group: Option<u32>,
    /// What else is in the group.
    pub group_members: Vec<GroupMember>,
    /// State of the cable.
    pub link: Link,
    /// NUMA node, where the machine has several.
    pub numa_node: Option<u32>,
    /// What is missing before it can be used; the first is to be mended first.
    pub missing: Vec<Obstacle>,
}

/// The NICs of this machine.
///
/// # Errors
/// sysfs cannot be read.
pub fn list() -> std::io::Result<Vec<DeviceInfo>> {
    Host::default().list()
}

impl Host {
    /// A machine whose `sys`, `dev` and `proc` lie under `root`.
    pub fn at(root: &Path) -> Self {
        Self { sys: root.join("sys"), dev: root.join("dev"), proc: root.join("proc") }
    }

    /// The NICs of the machine, by address.
    ///
    /// # Errors
    /// The folder of PCI devices cannot be read.
    pub fn list(&self) -> std::io::Result<Vec<DeviceInfo>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.sys.join("bus/pci/devices"))? {
            let name = entry?.file_name();
            let address = name.to_str().and_then(|name| name.parse().ok());
            found.extend(address.and_then(|address| self.info(address).ok()));
        }
        found.sort_by_key(|device| device.address);
        Ok(found)
    }

    /// Everything about one NIC.
    ///
    /// # Errors
    /// There is none at this address.
    pub fn info(&self, address: PciAddress) -> Result<DeviceInfo, Obstacle> {
        let model = self.model(address)?;
        let device = self.device(address);
        let interface = first_name(&device.join("net"));
        let iommu_group = self.group(address);
        Ok(DeviceInfo {
            address,
            model: model.name,
            id: format!("8086:{:04x}", model.device),
            driver: self.driver(address),
            link: link(&device, interface.as_deref()),
            interface,
            iommu_group,
            group_members: self.group_members(address),
            numa_node: text(&device.join("numa_node")).and_then(|node| node.parse().ok()),
            missing: self.missing(address, model),
        })
    }

    /// The model at an address.
    ///
    /// # Errors
    /// No device, or none of the family.
    pub fn model(&self, address: PciAddress) -> Result<Model, Obstacle> {
        let device = self.device(address);
        let number = |file: &str| {
            let text = text(&device.join(file))?;
            u16::from_str_radix(text.trim_start_matches("0x"), 16).ok()
        };
        let (Some(vendor), Some(id)) = (number("vendor"), number("device")) else {
            return Err(Obstacle::NoDevice { address });
        };
        Model::of(vendor, id)
            .ok_or_else(|| Obstacle::NotIgb { address, id: format!("{vendor:04x}:{id:04x}") })
    }

    /// Everything that is still missing, in the order it must be mended.
    fn missing(&self, address: PciAddress, model: Model) -> Vec<Obstacle> {
        if let Some(unsupported) = check_model(address, model) {
            return vec![unsupported];
        }
        let checks = [
            self.check_group(address),
            self.check_modules(),
            self.check_driver(address),
            self.check_members(address),
            self.check_other_nics(address),
            self.check_access(address),
            self.check_memlock(),
        ];
        checks.into_iter().flatten().collect()
    }

    fn check_group(&self, address: PciAddress) -> Option<Obstacle> {
        let name = text(&self.device(address).join("iommu_group/name"));
        let fake = name.is_some_and(|name| name.starts_with("vfio-noiommu"));
        (fake || self.group(address).is_none()).then_some(Obstacle::NoIommu { address })
    }

    fn check_modules(&self) -> Option<Obstacle> {
        let needed = [self.dev.join("vfio/vfio"), self.driver_folder(VFIO_DRIVER)];
        let path = needed.into_iter().find(|path| !path.exists())?;
        Some(Obstacle::NoVfio { path })
    }

    fn check_driver(&self, address: PciAddress) -> Option<Obstacle> {
        match self.driver(address) {
            Some(driver) if driver == VFIO_DRIVER => None,
            Some(driver) => Some(Obstacle::OtherDriver { address, driver }),
            None => Some(Obstacle::NoDriver { address }),
        }
    }

    /// What the kernel calls a viable group: every other member is user space's, nobody's, or a
    /// bridge, whose driver does no DMA of its own.
    fn check_members(&self, address: PciAddress) -> Option<Obstacle> {
        let group = self.group(address)?;
        let harmless = |driver: &str| {
            driver.starts_with("vfio") || driver == "pci-stub" || driver == "pcieport"
        };
        self.group_members(address).into_iter().find_map(|member| {
            let driver = member.driver.filter(|driver| !harmless(driver))?;
            Some(Obstacle::GroupNotViable { address, group, member: member.address, driver })
        })
    }

    /// The kernel gives a group to one container, and each NIC needs one of its own: of two NICs in
    /// a group only one can be opened.
    pub(super) fn check_other_nics(&self, address: PciAddress) -> Option<Obstacle> {
        let group = self.group(address)?;
        let is_nic = |member: &GroupMember| {
            self.model(member.address).is_ok_and(|model| model.unsupported.is_none())
        };
        let member = self.group_members(address).into_iter().find(is_nic)?.address;
        Some(Obstacle::GroupShared { address, group, member })
    }

    fn check_access(&self, address: PciAddress) -> Option<Obstacle> {
        let group = self.group(address)?;
        let path = self.dev.join(format!("vfio/{group}"));
        // A group can be opened once: trying is the only way to see whether it is free.
        let tried = fs::OpenOptions::new().read(true).write(true).open(&path);
        match tried.err()?.kind() {
            ErrorKind::PermissionDenied => Some(Obstacle::Permission { path }),
            // By the other NIC of a group, which stands in the list already.
            ErrorKind::ResourceBusy if self.has_open(group) => None,
            ErrorKind::ResourceBusy => Some(Obstacle::InUse { address, group }),
            // No file before a member is bound, which stands in the list already.
            _ => None,
        }
    }

    /// Returns true if this process itself has the group open.
    pub(super) fn has_open(&self, group: u32) -> bool {
        let descriptors = self.proc.join("self/fd");
        let file = self.dev.join(format!("vfio/{group}"));
        let target = |name: String| fs::read_link(descriptors.join(name)).ok();
        names(&descriptors).into_iter().filter_map(target).any(|target| target == file)
    }

    fn check_memlock(&self) -> Option<Obstacle> {
        let limit_kib = self.memlock_limit_kib()?;
        (limit_kib < PINNED_KIB).then_some(Obstacle::Memlock { need_kib: PINNED_KIB, limit_kib })
    }

    /// RLIMIT_MEMLOCK in KiB; `None` where it does not bind this process.
    pub fn memlock_limit_kib(&self) -> Option<u64> {
        const CAP_IPC_LOCK: u32 = 14;
        let status = text(&self.proc.join("self/status"))?;
        let caps = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        if u64::from_str_radix(caps.trim(), 16).ok()? >> CAP_IPC_LOCK & 1 == 1 {
            return None;
        }
        let limits = text(&self.proc.join("self/limits"))?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
        let bytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(bytes / 1024)
    }

    /// sysfs folder of a device.
    pub(super) fn device(&self, address: PciAddress) -> PathBuf {
        self.sys.join("bus/pci/devices").join(address.to_string())
    }

    /// sysfs folder of a driver.
    pub(super) fn driver_folder(&self, driver: &str) -> PathBuf {
        self.sys.join("bus/pci/drivers").join(driver)
    }

    /// File that makes the kernel look for a device's driver.
    pub(super) fn drivers_probe(&self) -> PathBuf {
        self.sys.join("bus/pci/drivers_probe")
    }

    /// The driver bound to a device.
    pub fn driver(&self, address: PciAddress) -> Option<String> {
        link_name(&self.device(address).join("driver"))
    }

    /// IOMMU group of a device.
    pub fn group(&self, address: PciAddress) -> Option<u32> {
        link_name(&self.device(address).join("iommu_group"))?.parse().ok()
    }

    fn group_members(&self, address: PciAddress) -> Vec<GroupMember> {
        let folder = self.device(address).join("iommu_group/devices");
        let others = names(&folder).into_iter().filter_map(|name| name.parse().ok());
        let mut members: Vec<_> = others
            .filter(|other| *other != address)
            .map(|other| GroupMember { address: other, driver: self.driver(other) })
            .collect();
        members.sort_by_key(|member| member.address);
        members
    }
}

fn check_model(address: PciAddress, model: Model) -> Option<Obstacle> {
    let (name, why) = (model.name.into(), model.unsupported?.into());
    Some(if model.is_blank() {
        Obstacle::Blank { address, model: name, why }
    } else {
        Obstacle::Unsupported { address, model: name, why }
    })
}

fn link(device: &Path, interface: Option<&str>) -> Link {
    let Some(interface) = interface else { return Link::Unknown };
    // An interface that is down has a carrier file that cannot be read.
    match text(&device.join("net").join(interface).join("carrier")).as_deref() {
        Some("1") => Link::Up,
        _ => Link::Down,
    }
}

fn text(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn link_name(path: &Path) -> Option<String> {
    Some(fs::read_link(path).ok()?.file_name()?.to_str()?.to_owned())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn first_name(folder: &Path) -> Option<String> {
    names(folder).into_iter().min()
}

#[cfg(test)]
pub(super) mod tests;
