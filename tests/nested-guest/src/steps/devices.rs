//! Tests of finding, refusing, binding and opening NICs.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nic::bind;
use nic::discovery::{self, DeviceInfo};
use nic::pci::PciAddress;
use nic::vfio::VfioNic;
use serde_json::{Value, json};

use super::ms;
use crate::report::Report;
use crate::sys;

/// Returns the two NICs, in the order of their root ports.
fn both() -> Result<[DeviceInfo; 2]> {
    let list = discovery::list()?;
    let found = list.len();
    list.try_into().ok().with_context(|| format!("{found} NICs instead of two"))
}

/// Opens both NICs.
pub(super) fn open_both() -> Result<[Arc<VfioNic>; 2]> {
    let [a, b] = both()?;
    Ok([VfioNic::open(a.address)?, VfioNic::open(b.address)?])
}

fn refusal(address: &str) -> Result<String> {
    let address: PciAddress = address.parse()?;
    let error = VfioNic::open(address).err().context("it was opened all the same")?;
    Ok(error.to_string())
}

/// Both NICs are listed with a group each, and a device that cannot be opened is refused with one
/// clear line.
pub(super) fn list_and_refuse(_: &Report) -> Result<Value> {
    let nics = both()?;
    for nic in &nics {
        ensure!(nic.model == "82576" && nic.driver.as_deref() == Some("igb"), "{nic:?}");
        ensure!(nic.iommu_group.is_some() && nic.group_members.is_empty(), "{nic:?}");
        let error = refusal(&nic.address.to_string())?;
        ensure!(error.contains("is bound to the driver igb: warmspare devices bind"), "{error}");
    }
    ensure!(nics[0].iommu_group != nics[1].iommu_group, "both are in one group");
    let absent = refusal("0000:77:00.0")?;
    ensure!(absent.contains("no PCI device"), "{absent}");
    let bridge = refusal("0000:00:00.0")?;
    ensure!(bridge.contains("no NIC of the igb family"), "{bridge}");
    Ok(json!({ "nics": nics, "absent": absent, "wrong": bridge }))
}

/// The NICs are bound from igb to vfio-pci; one of them is given back and bound again.
pub(super) fn bind(_: &Report) -> Result<Value> {
    let start = Instant::now();
    let nics = both()?;
    for nic in &nics {
        if let Some(interface) = &nic.interface {
            sys::set_up(interface, true)?;
            let error = bind::bind(nic.address).err().context("taken from under its interface")?;
            ensure!(error.to_string().contains("ip link set"), "{error}");
            sys::set_up(interface, false)?;
        }
        bind::bind(nic.address)?;
    }
    bind::unbind(nics[0].address)?;
    ensure!(both()?[0].driver.as_deref() == Some("igb"), "unbinding does not give it back");
    bind::bind(nics[0].address)?;
    let nics = both()?;
    for nic in &nics {
        ensure!(nic.missing.is_empty(), "something is missing: {:?}", nic.missing);
    }
    Ok(json!({ "ms": ms(start.elapsed()) }))
}

/// Both NICs can be opened, but not a second time while they are open.
pub(super) fn open(_: &Report) -> Result<Value> {
    let start = Instant::now();
    let nics = open_both()?;
    let took = start.elapsed();
    let again = refusal(nic::Nic::name(&*nics[0]))?;
    ensure!(again.contains("in use by another program"), "{again}");
    drop(nics);
    // Descriptors were closed in the right order if both NICs open again.
    drop(open_both()?);
    Ok(json!({ "open_both_ms": ms(took), "again": again }))
}
