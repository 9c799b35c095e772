//! The NICs of a topology, and the wires that emulated ones are plugged into.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::{NoNicError, SystemError};
use crate::topology::{NicSpec, Topology, WireSpec};
use nic::emulated::EmulatedNic;
use nic::vfio::VfioNic;
use nic::wire::{EthernetSwitch, Port, Tap, Wire};
use nic::{Nic, NicError};

/// The in-process switches by name, and the ports of the NICs on them.
#[derive(Default)]
pub struct Wires {
    switches: HashMap<String, Arc<EthernetSwitch>>,
    ports: HashMap<String, Arc<Port>>,
    /// A system without a NIC that can be used is an error.
    nic_required: bool,
}

impl Wires {
    /// From now on a system without a single NIC that can be used is not built. Without this, it
    /// waits for one.
    pub fn require_nic(&mut self) {
        self.nic_required = true;
    }

    /// The switch of this name, made at first use.
    pub fn switch(&mut self, name: &str) -> Arc<EthernetSwitch> {
        self.switches.entry(name.to_owned()).or_insert_with(EthernetSwitch::new).clone()
    }

    /// The switch port into which the NIC of this name is plugged, if it is in a switch.
    pub fn port_of(&self, nic: &str) -> Option<&Arc<Port>> {
        self.ports.get(nic)
    }

    /// Opens the NIC of each domain, in the topology's order. Domains that name the same NIC share
    /// it. One that is not there is waited for.
    ///
    /// # Errors
    /// A NIC or its wire can never be used as it is named, or none is there and one is required.
    pub(super) fn open_nics(
        &mut self,
        topology: &Topology,
    ) -> Result<Vec<Arc<dyn Nic>>, SystemError> {
        let mac = topology.apps[0].mac.0;
        let mut nics: Vec<Arc<dyn Nic>> = Vec::with_capacity(topology.domains.len());
        for domain in &topology.domains {
            let earlier = topology.domains.iter().take(nics.len());
            let nic = match earlier.zip(&nics).find(|(other, _)| other.nic == domain.nic) {
                Some((_, shared)) => shared.clone(),
                None => self.open_nic(&domain.nic, mac, topology.mtu)?,
            };
            nics.push(nic);
        }
        self.report_absent(&nics)?;
        Ok(nics)
    }

    /// Says which NICs are waited for.
    fn report_absent(&self, nics: &[Arc<dyn Nic>]) -> Result<(), SystemError> {
        let absent: Vec<String> = nics
            .iter()
            .filter(|nic| !nic.is_present())
            .map(|nic| format!("{}: {}", nic.name(), nic.trouble().unwrap_or_default()))
            .collect();
        let none_is_there = absent.len() == nics.len();
        if none_is_there && self.nic_required {
            return Err(NoNicError(absent.join("; ")).into());
        }
        for reason in &absent {
            tracing::warn!("waiting for a NIC that cannot be used yet: {reason}");
        }
        if none_is_there {
            tracing::warn!("no domain serves before one of these NICs can be used");
        }
        Ok(())
    }

    fn open_nic(
        &mut self,
        spec: &NicSpec,
        mac: [u8; 6],
        mtu: u16,
    ) -> Result<Arc<dyn Nic>, SystemError> {
        match spec {
            NicSpec::Emulated(emulated) => {
                let wire = self.plug(&emulated.name, &emulated.wire, mtu)?;
                Ok(EmulatedNic::new(&emulated.name, mac, wire)?)
            }
            NicSpec::Vfio(address) => Ok(VfioNic::open_or_await(*address).map_err(NicError::from)?),
        }
    }

    fn plug(&mut self, nic: &str, wire: &WireSpec, mtu: u16) -> Result<Arc<dyn Wire>, SystemError> {
        match wire {
            WireSpec::Switch(name) => {
                let port = self.switch(name).attach(nic)?;
                self.ports.insert(nic.to_owned(), port.clone());
                Ok(port)
            }
            WireSpec::Tap(name) => Ok(Tap::open_or_await(name, mtu)?),
        }
    }
}
