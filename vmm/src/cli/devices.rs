//! `warmspare devices`: the NICs of this machine.

use clap::{Args, Subcommand};

use super::exit::Failure;
use super::output::{Format, json, print, print_line};
use nic::bind;
use nic::discovery::{self, DeviceInfo, Link};
use nic::obstacle::Obstacle;
use nic::pci::PciAddress;

#[derive(Debug, Args)]
pub(super) struct DevicesArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// How to print the list
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Take a NIC from the host's driver and hand it to vfio-pci (needs root)
    Bind {
        /// PCI address, as 0000:01:00.0
        address: PciAddress,
    },
    /// Give a NIC back to the host's driver (needs root)
    Unbind {
        /// PCI address, as 0000:01:00.0
        address: PciAddress,
    },
}

pub(super) fn run(args: &DevicesArgs) -> Result<(), Failure> {
    match &args.action {
        Some(Action::Bind { address }) => {
            bind::bind(*address).map_err(|error| Failure::mistake(&error))
        }
        Some(Action::Unbind { address }) => {
            bind::unbind(*address).map_err(|error| Failure::mistake(&error))
        }
        None => list(args.format),
    }
}

fn list(format: Format) -> Result<(), Failure> {
    let devices = discovery::list().map_err(|error| {
        Failure::Run(format!("the PCI devices of this machine cannot be read: {error}"))
    })?;
    match format {
        Format::Json => print_line(&json(&devices)?)?,
        Format::Text if devices.is_empty() => print_line(
            "this machine has no NIC of the igb family (i210, i211, 82576); `warmspare demo` needs \
             none",
        )?,
        Format::Text => print(&devices.iter().map(text).collect::<String>())?,
    };
    Ok(())
}

fn text(device: &DeviceInfo) -> String {
    let DeviceInfo { address, model, id, .. } = device;
    let driver = device.driver.as_deref().unwrap_or("none");
    let interface = device.interface.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let group = device.iommu_group.map_or("none".into(), |group| group.to_string());
    let members: Vec<_> = device.group_members.iter().map(|m| m.address.to_string()).collect();
    let shared = match members.as_slice() {
        [] => String::new(),
        others => format!(" with {}", others.join(", ")),
    };
    let link = match device.link {
        Link::Up => "up",
        Link::Down => "down",
        Link::Unknown => "unknown (no host driver)",
    };
    let node = device.numa_node.map(|node| format!(", NUMA node {node}")).unwrap_or_default();
    let mut text = format!(
        "{address}  {model} [{id}]\n    driver {driver}{interface}, IOMMU group {group}{shared}, \
         link {link}{node}\n"
    );
    let is_note = |obstacle: &Obstacle| matches!(obstacle, Obstacle::GroupShared { .. });
    if device.missing.iter().all(is_note) {
        text += "    ready: \"nic\": {\"vfio\": \"";
        text += &format!("{address}\"}}\n");
    }
    for obstacle in &device.missing {
        let word = if is_note(obstacle) { "note" } else { "missing" };
        text += &format!("    {word}: {obstacle}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_shows_what_it_lacks_or_how_to_name_it() {
        let address: PciAddress = "01:00.0".parse().unwrap();
        let mut device = DeviceInfo {
            address,
            model: "i210",
            id: "8086:1533".into(),
            driver: Some("igb".into()),
            interface: Some("eth0".into()),
            iommu_group: Some(7),
            group_members: Vec::new(),
            link: Link::Up,
            numa_node: Some(1),
            missing: vec![Obstacle::OtherDriver { address, driver: "igb".into() }],
        };
        let shown = text(&device);
        assert!(
            shown.contains("driver igb (eth0), IOMMU group 7, link up, NUMA node 1"),
            "{shown}"
        );
        assert!(shown.contains("missing: 0000:01:00.0: it is bound to the driver igb"), "{shown}");

        let member = "01:00.1".parse().unwrap();
        device.missing = vec![Obstacle::GroupShared { address, group: 7, member }];
        let shown = text(&device);
        assert!(shown.contains("ready:") && shown.contains("note: "), "{shown}");

        device.missing.clear();
        assert!(text(&device).contains("ready: \"nic\": {\"vfio\": \"0000:01:00.0\"}"));
    }
}
