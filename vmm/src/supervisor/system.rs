//! Builds the running system from a topology, and takes it down again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;

use super::event::Event;
use super::failover::{Failover, Job};
use super::hub::Hub;
use super::rebuild::Rebuilder;
use super::watch::WatchThread;
use crate::domain::{DomainId, DomainSlot, SlotError};
use crate::kvm::{Image, ImageError};
use crate::memory::MemoryError;
use crate::nic::emulated::EmulatedNic;
use crate::nic::vfio::VfioNic;
use crate::nic::{Nic, NicError};
use crate::realtime;
use crate::switchboard::{Switchboard, SwitchboardConfig, SwitchboardError};
use crate::topology::{MAX_DOMAINS, NicSpec, Topology, WireSpec};
use crate::vhost_user::{VhostUserConfig, VhostUserError, VhostUserServer};
use crate::wire::{EthernetSwitch, Port, SwitchError, Tap, TapError, Wire};

/// Why a system could not be built.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
#[allow(missing_docs, reason = "each variant is the error of the part it names")]
pub enum SystemError {
    Memory(#[from] MemoryError),
    Slot(#[from] SlotError),
    Nic(#[from] NicError),
    Image(#[from] ImageError),
    Switch(#[from] SwitchError),
    Tap(#[from] TapError),
    Switchboard(#[from] SwitchboardError),
    VhostUser(#[from] VhostUserError),
    Kvm(#[from] crate::kvm::VmError),
    System(#[from] std::io::Error),
}

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

    /// The switch port that the NIC of this name is plugged into, if it is one.
    pub fn port_of(&self, nic: &str) -> Option<&Arc<Port>> {
        self.ports.get(nic)
    }

    fn plug(&mut self, nic: &str, wire: &WireSpec) -> Result<Arc<dyn Wire>, SystemError> {
        match wire {
            WireSpec::Switch(name) => {
                let port = self.switch(name).attach(nic)?;
                self.ports.insert(nic.to_owned(), port.clone());
                Ok(port)
            }
            WireSpec::Tap(name) => Ok(Tap::open(name)?),
        }
    }
}

/// A running system. Dropping it stops everything.
pub struct System {
    slots: Vec<Arc<DomainSlot>>,
    images: [Arc<Image>; 2],
    switchboard: Arc<Switchboard>,
    failover: Arc<Failover>,
    jobs: SyncSender<Job>,
    events: Receiver<Event>,
    servers: Vec<VhostUserServer>,
    watch: Option<WatchThread>,
    rebuild: Option<JoinHandle<()>>,
}

impl System {
    /// Builds everything; the domains come up on the rebuild thread while this returns.
    ///
    /// # Errors
    /// A part cannot be built.
    pub fn start(topology: &Topology, wires: &mut Wires) -> Result<Self, SystemError> {
        drop(crate::kvm::open_kvm()?);
        let app = &topology.apps[0];
        let tx_pool = DomainSlot::new_tx_pool()?;
        let mut slots = Vec::with_capacity(topology.domains.len());
        for (index, domain) in topology.domains.iter().enumerate() {
            let nic = make_nic(&domain.nic, app.mac.0, wires)?;
            let id = DomainId(index as u8);
            slots.push(Arc::new(DomainSlot::new(id, &domain.name, nic, tx_pool.clone())?));
        }
        let hub = Hub::new()?;
        let switchboard = Arc::new(Switchboard::spawn(SwitchboardConfig {
            slots: slots.clone(),
            tx_pool,
            mac: app.mac.0,
            violations: hub.clone(),
        })?);
        let (jobs, job_queue) = mpsc::sync_channel(2 * MAX_DOMAINS + 1);
        let failover = Arc::new(Failover::new(slots.clone(), switchboard.clone(), jobs.clone()));
        hub.connect(&failover);
        let (tell, events) = mpsc::channel();
        let watch = WatchThread::spawn(slots.clone(), failover.clone(), hub.clone(), tell.clone())?;
        let images = [
            Arc::new(Image::parse(guest_images::DRIVER_DOMAIN)?),
            Arc::new(Image::parse(guest_images::SPARE_DOMAIN)?),
        ];
        let rebuilder = Rebuilder {
            slots: slots.clone(),
            switchboard: switchboard.clone(),
            failover: failover.clone(),
            hub,
            images: images.clone(),
            mac: app.mac,
            events: tell,
            ready_epochs: vec![0; slots.len()],
        };
        let rebuild = realtime::spawn("rebuild", None, move || rebuilder.run(&job_queue))?;
        let server = VhostUserServer::spawn(
            VhostUserConfig { socket: app.socket.clone(), mac: app.mac.0 },
            switchboard.port(),
        )?;
        Ok(Self {
            slots,
            images,
            switchboard,
            failover,
            jobs,
            events,
            servers: vec![server],
            watch: Some(watch),
            rebuild: Some(rebuild),
        })
    }

    /// The domains, in the topology's order.
    pub fn slots(&self) -> &[Arc<DomainSlot>] {
        &self.slots
    }

    /// The two images that domains are built from, driver and spare.
    pub fn images(&self) -> &[Arc<Image>; 2] {
        &self.images
    }

    /// Roles and failovers.
    pub fn failover(&self) -> &Arc<Failover> {
        &self.failover
    }

    /// The switchboard.
    pub fn switchboard(&self) -> &Switchboard {
        &self.switchboard
    }

    /// What has happened, in order.
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.servers.clear();
        // Without a free place the thread is busy and finds the sender gone; it cannot be full,
        // since each domain fails once a life.
        let _ = self.jobs.send(Job::Stop);
        if let Some(rebuild) = self.rebuild.take() {
            let _ = rebuild.join();
        }
        self.watch = None;
        for life in self.failover.take_lives() {
            life.expel();
        }
    }
}

fn make_nic(spec: &NicSpec, mac: [u8; 6], wires: &mut Wires) -> Result<Arc<dyn Nic>, SystemError> {
    match spec {
        NicSpec::Emulated(emulated) => {
            let port = wires.plug(&emulated.name, &emulated.wire)?;
            Ok(EmulatedNic::new(&emulated.name, mac, port)?)
        }
        NicSpec::Vfio(address) => Ok(VfioNic::open(*address).map_err(NicError::from)?),
    }
}
