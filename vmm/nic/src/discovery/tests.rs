use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A machine made of files.
pub(crate) struct FakeHost {
    root: PathBuf,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl FakeHost {
    /// One NIC of the igb family in an IOMMU group of its own, VFIO loaded.
    pub(crate) fn with_nic(address: &str, id: u16, driver: &str, group: u32) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("warmspare-fake-host-{}-{number}", std::process::id());
        let fake = Self { root: std::env::temp_dir().join(name) };
        fake.file("dev/vfio/vfio", "");
        fake.file("sys/bus/pci/drivers_probe", "");
        fake.file("sys/bus/pci/drivers/vfio-pci/unbind", "");
        fake.file("proc/self/status", "CapEff:\t000001ffffffffff\n");
        fake.add_device(address, 0x8086, id, Some(driver), group);
        fake.file(&format!("dev/vfio/{group}"), "");
        fake
    }

    pub(crate) fn host(&self) -> Host {
        Host::at(&self.root)
    }

    fn add_device(&self, address: &str, vendor: u16, id: u16, driver: Option<&str>, group: u32) {
        let device = format!("sys/bus/pci/devices/{address}");
        self.file(&format!("{device}/vendor"), &format!("{vendor:#06x}\n"));
        self.file(&format!("{device}/device"), &format!("{id:#06x}\n"));
        self.file(&format!("{device}/driver_override"), "");
        self.file(&format!("sys/kernel/iommu_groups/{group}/devices/{address}"), "");
        let group = self.root.join(format!("sys/kernel/iommu_groups/{group}"));
        symlink(group, self.root.join(format!("{device}/iommu_group"))).unwrap();
        if let Some(driver) = driver {
            self.file(&format!("sys/bus/pci/drivers/{driver}/unbind"), "");
            let folder = self.root.join(format!("sys/bus/pci/drivers/{driver}"));
            symlink(folder, self.root.join(format!("{device}/driver"))).unwrap();
        }
    }

    pub(crate) fn file(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap()
    }

    pub(crate) fn remove(&self, path: &str) {
        let path = self.root.join(path);
        fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path)).unwrap();
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn only(fake: &FakeHost) -> DeviceInfo {
    let mut list = fake.host().list().unwrap();
    assert_eq!(list.len(), 1);
    list.remove(0)
}

#[test]
fn a_nic_ready_for_use_lacks_nothing() {
    let fake = FakeHost::with_nic("0000:01:00.0", 0x1533, "vfio-pci", 7);
    fake.file("sys/bus/pci/devices/0000:01:00.0/numa_node", "-1\n");

    let nic = only(&fake);

    assert_eq!(nic.missing, []);
    assert_eq!((nic.model, nic.id.as_str()), ("i210", "8086:1533"));
    assert_eq!((nic.iommu_group, nic.numa_node, nic.link), (Some(7), None, Link::Unknown));
}

#[test]
fn a_nic_of_the_host_shows_its_interface_and_the_way_to_bind_it() {
    let fake = FakeHost::with_nic("0000:01:00.0", 0x1533, "igb", 7);
    fake.file("sys/bus/pci/devices/0000:01:00.0/net/eth0/carrier", "1\n");

    let nic = only(&fake);

    assert_eq!((nic.interface.as_deref(), nic.link), (Some("eth0"), Link::Up));
    let text = nic.missing[0].to_string();
    assert!(text.contains("igb") && text.contains("warmspare devices bind 0000:01:00.0"), "{text}");
}

#[test]
fn other_devices_are_no_nics() {
    let fake = FakeHost::with_nic("0000:01:00.0", 0x1533, "igb", 7);
    fake.add_device("0000:02:00.0", 0x1af4, 0x1000, None, 8);

    assert_eq!(only(&fake).address.to_string(), "0000:01:00.0");
    let wrong = fake.host().info("02:00.0".parse().unwrap()).unwrap_err();
    assert!(wrong.to_string().contains("1af4:1000"), "{wrong}");
    let absent = fake.host().info("03:00.0".parse().unwrap()).unwrap_err();
    assert!(matches!(absent, Obstacle::NoDevice { .. }));
}

#[test]
fn an_unsupported_model_is_listed_and_refused() {
    let fake = FakeHost::with_nic("0000:01:00.0", 0x1537, "igb", 7);
    let nic = only(&fake);
    assert!(matches!(&nic.missing[..], [Obstacle::Unsupported { .. }]), "{:?}", nic.missing);
}

#[test]
fn a_blank_nic_says_how_it_gets_its_identity() {
    for (id, name) in [(0x1531, "i210"), (0x1532, "i211")] {
        let nic = only(&FakeHost::with_nic("0000:01:00.0", id, "igb", 7));
        assert!(matches!(&nic.missing[..], [Obstacle::Blank { .. }]), "{:?}", nic.missing);
        let text = nic.missing[0].to_string();
        assert!(text.contains(name) && text.contains("flash is empty"), "{text}");
        assert!(text.contains("8086:1533"), "{text}");
    }
}

#[test]
fn two_nics_in_one_group_are_told_of_each_other() {
    let fake = FakeHost::with_nic("0000:01:00.0", 0x1533, "vfio-pci", 7);
    fake.add_device("0000:01:00.1", 0x8086, 0x10c9, Some("vfio-pci"), 7);
    let list = fake.host().list().unwrap();
    for (nic, other) in [(&list[0], "0000:01:00.1"), (&list[1], "0000:01:00.0")] {
        assert!(matches!(&nic.missing[..], [Obstacle::GroupShared { group: 7, .. }]));
        assert!(nic.missing[0].to_string().contains(other), "{}", nic.missing[0]);
    }
}

#[test]
fn a_group_that_this_process_has_open_is_known() {
    let fake = FakeHost::with_nic("0000:01:00.0", 0x1533, "vfio-pci", 7);
    let host = fake.host();
    assert!(!host.has_open(7));
    fs::create_dir_all(host.proc.join("self/fd")).unwrap();
    symlink(host.dev.join("vfio/7"), host.proc.join("self/fd/5")).unwrap();
    assert!(host.has_open(7) && !host.has_open(8));
}

#[test]
fn a_group_with_a_device_of_the_host_is_not_viable() {
    let fake = FakeHost::with_nic("0000:01:00.0", 0x1533, "vfio-pci", 7);
    fake.add_device("0000:00:1c.0", 0x8086, 0xa190, Some("pcieport"), 7);
    fake.add_device("0000:02:00.0", 0x8086, 0x1234, None, 7);
    assert_eq!(only(&fake).missing, []);

    fake.add_device("0000:03:00.0", 0x8086, 0x1235, Some("snd_hda_intel"), 7);
    let nic = only(&fake);

    assert_eq!(nic.group_members.len(), 3);
    let text = nic.missing[0].to_string();
    assert!(text.contains("0000:03:00.0") && text.contains("snd_hda_intel"), "{text}");
}

#[test]
fn what_the_kernel_lacks_is_named() {
    let fake = FakeHost::with_nic("0000:01:00.0", 0x1533, "vfio-pci", 7);
    fake.remove("dev/vfio/vfio");
    fake.remove("sys/bus/pci/devices/0000:01:00.0/iommu_group");
    let missing = only(&fake).missing;
    assert!(matches!(&missing[..], [Obstacle::NoIommu { .. }, Obstacle::NoVfio { .. }]));
    let text = missing[1].to_string();
    assert!(text.contains("modprobe vfio-pci"), "{text}");
}

#[test]
fn a_group_without_iommu_is_none() {
    let fake = FakeHost::with_nic("0000:01:00.0", 0x1533, "vfio-pci", 7);
    fake.file("sys/kernel/iommu_groups/7/name", "vfio-noiommu\n");
    assert!(matches!(only(&fake).missing[..], [Obstacle::NoIommu { .. }]));
}

#[test]
fn the_memlock_limit_counts_only_without_the_capability() {
    let fake = FakeHost::with_nic("0000:01:00.0", 0x1533, "vfio-pci", 7);
    let limits = "Max locked memory         65536                8388608              bytes\n";
    fake.file("proc/self/limits", limits);
    assert_eq!(only(&fake).missing, []);

    fake.file("proc/self/status", "CapEff:\t0000000000000000\n");
    let missing = only(&fake).missing;
    assert_eq!(missing, [Obstacle::Memlock { need_kib: PINNED_KIB, limit_kib: 64 }]);

    let limits = "Max locked memory         unlimited            unlimited            bytes\n";
    fake.file("proc/self/limits", limits);
    assert_eq!(only(&fake).missing, []);
}
