//! The NICs of a topology, and the wires that emulated ones are plugged into.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::SystemError;
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
}

impl Wires {
    /// The switch of this name, made at first use.
    pub fn switch(&mut self, name: &str) -> Arc<EthernetSwitch> {
        self.switches.entry(name.to_owned()).or_insert_with(EthernetSwitch::new).clone()
    }

    /// The switch port into which the NIC of this name is plugged, if it is in a switch.
    pub fn port_of(&self, nic: &str) -> Option<&Arc<Port>> {
        self.ports.get(nic)
    }

    /// Opens the NIC of each domain, in the topology's order. Domains that name the same NIC share
    /// it.
    ///
    /// # Errors
    /// A NIC or its wire is not available.
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
                None => self.open_nic(&domain.nic, mac)?,
            };
            nics.push(nic);
        }
        Ok(nics)
    }

    fn open_nic(&mut self, spec: &NicSpec, mac: [u8; 6]) -> Result<Arc<dyn Nic>, SystemError> {
        match spec {
            NicSpec::Emulated(emulated) => {
                let wire = self.plug(&emulated.name, &emulated.wire)?;
                Ok(EmulatedNic::new(&emulated.name, mac, wire)?)
            }
            NicSpec::Vfio(address) => Ok(VfioNic::open(*address).map_err(NicError::from)?),
        }
    }

    fn plug(&mut self, nic: &str, wire: &WireSpec) -> Result<Arc<dyn Wire>, SystemError> {
        match wire {
            WireSpec::Switch(name) => {
                let port = self.switch(name).attach(nic)?;
                self.ports.insert(nic.to_owned(), port.clone());
                Ok(port)
            }
            WireSpec::Tap(name) => Ok(Tap::open_or_await(name)?),
        }
    }
}
