//! Builds the running system from a topology, and takes it down again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use shared_ring::Role;

use super::detect::Sampler;
use super::event::Event;
use super::event_sink::EventSink;
use super::failover::{Failover, FailoverConfig, JOBS, Job};
use super::images::Images;
use super::monitor::Monitor;
use super::operator::Operator;
use super::periodic::PeriodicThread;
use super::probes::Probes;
use super::rebuild::Rebuilder;
use super::rebuild_context::{RebuildContext, dump_news};
use super::rules::FailBack;
use super::supervisor_thread::SupervisorThread;
use crate::coredump::{DumpStore, DumpWriter, StoreError};
use crate::topology::{AppSpec, FailBackSpec, NicSpec, Policy, Topology, WireSpec};
use microvm::domain::{DomainId, DomainSlot, SlotError};
use microvm::kvm::{Image, ImageError};
use nic::emulated::EmulatedNic;
use nic::vfio::VfioNic;
use nic::wire::{EthernetSwitch, Port, SwitchError, Tap, TapError, Wire};
use nic::{Nic, NicError};
use platform::memory::MemoryError;
use platform::realtime;
use switchboard::vhost_user::{VhostUserConfig, VhostUserError, VhostUserServer};
use switchboard::{AnnounceConfig, Switchboard, SwitchboardConfig, SwitchboardError};

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
    Kvm(#[from] microvm::kvm::VmError),
    Dumps(#[from] StoreError),
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
    switchboard: Arc<Switchboard>,
    failover: Arc<Failover>,
    periodic_threads: Vec<PeriodicThread>,
    context: Arc<RebuildContext>,
    jobs: Vec<SyncSender<Job>>,
    notices: SyncSender<bool>,
    events: Receiver<Event>,
    servers: Vec<VhostUserServer>,
    watch: Option<SupervisorThread>,
    /// The monitor's and the rebuild threads.
    threads: Vec<JoinHandle<()>>,
}

impl System {
    /// Builds everything; the domains come up on their rebuild threads while this returns.
    ///
    /// # Errors
    /// A part cannot be built.
    pub fn start(topology: &Topology, wires: &mut Wires) -> Result<Self, SystemError> {
        let mac = topology.apps[0].mac.0;
        let mut nics: Vec<Arc<dyn Nic>> = Vec::with_capacity(topology.domains.len());
        for domain in &topology.domains {
            let earlier = topology.domains.iter().take(nics.len());
            let nic = match earlier.zip(&nics).find(|(other, _)| other.nic == domain.nic) {
                Some((_, shared)) => shared.clone(),
                None => make_nic(&domain.nic, mac, wires)?,
            };
            nics.push(nic);
        }
        Self::start_on(topology, nics)
    }

    /// The same on these NICs, one for each domain.
    pub(super) fn start_on(
        topology: &Topology,
        nics: Vec<Arc<dyn Nic>>,
    ) -> Result<Self, SystemError> {
        drop(microvm::kvm::open_kvm()?);
        let macs: Vec<_> = topology.apps.iter().map(|app| app.mac.0).collect();
        let tx_pool = DomainSlot::new_tx_pool()?;
        let mut slots = Vec::with_capacity(topology.domains.len());
        for (index, (domain, nic)) in topology.domains.iter().zip(nics).enumerate() {
            let id = DomainId(index as u8);
            slots.push(Arc::new(DomainSlot::new(id, &domain.name, nic, tx_pool.clone())?));
        }
        let event_sink = EventSink::new()?;
        let switchboard = Arc::new(Switchboard::spawn(SwitchboardConfig {
            slots: slots.clone(),
            tx_pool,
            macs: macs.clone(),
            announce: AnnounceConfig {
                again: topology.announce.again_ms.iter().map(|ms| millis(*ms)).collect(),
            },
            violations: event_sink.clone(),
        })?);
        // Before anything that would go on without the rest, should a socket be taken.
        let servers = serve_apps(topology, &switchboard)?;
        let (jobs, queues): (Vec<_>, Vec<_>) =
            slots.iter().map(|_| mpsc::sync_channel(JOBS)).unzip();
        let (notices, nudged) = mpsc::sync_channel(1);
        let failover = Arc::new(Failover::new(FailoverConfig {
            slots: slots.clone(),
            switchboard: switchboard.clone(),
            jobs: jobs.clone(),
            notices: notices.clone(),
            limits: topology.limits,
            drill_limit: millis(topology.drill.answer_within_ms),
            attaches_early: topology.policy.attaches_early(),
            shares_nic: slots.iter().skip(1).any(|slot| slot.shares_nic(&slots[0])),
        })?);
        event_sink.connect(&failover);
        let (tell, events) = mpsc::channel();
        let dumps = match &topology.dumps {
            Some(spec) => {
                let store = DumpStore::open(spec.clone())?;
                Some(DumpWriter::spawn(store, dump_news(&slots, tell.clone()))?)
            }
            None => None,
        };
        let watch = SupervisorThread::spawn(
            slots.clone(),
            failover.clone(),
            event_sink.clone(),
            tell.clone(),
            (Sampler::new(switchboard.clone(), macs.clone()), topology.detect),
        )?;
        let images = [
            Arc::new(Image::parse(guest_images::DRIVER_DOMAIN)?),
            Arc::new(Image::parse(guest_images::SPARE_DOMAIN)?),
        ];
        let context = Arc::new(RebuildContext {
            slots: slots.clone(),
            switchboard: switchboard.clone(),
            failover: failover.clone(),
            event_sink,
            images: Images::new(images),
            macs,
            first_role: first_role(topology.policy),
            limits: topology.limits,
            events: tell,
            dumps,
            shared_nic: Mutex::new(()),
            abandoned: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        });
        let mut threads = start_rebuilders(&context, &jobs, queues)?;
        let monitor = Monitor::new(context.clone(), fail_back(topology));
        threads.push(realtime::spawn("monitor", None, move || monitor.run(&nudged))?);
        let periodic_threads = start_clockworks(topology, &Operator::new(context.clone()))?;
        Ok(Self {
            slots,
            switchboard,
            failover,
            periodic_threads,
            context,
            jobs,
            notices,
            events,
            servers,
            watch: Some(watch),
            threads,
        })
    }

    /// The domains, in the topology's order.
    pub fn slots(&self) -> &[Arc<DomainSlot>] {
        &self.slots
    }

    /// The two images that domains are built from, driver and spare.
    pub fn images(&self) -> [Arc<Image>; 2] {
        self.context.images.current()
    }

    /// From now on no failed domain is built anew: what a machine without recovery does, to compare
    /// with.
    pub fn abandon(&self) {
        self.context.abandoned.store(true, Ordering::Release);
    }

    /// For orders to it: switches, drills, upgrades.
    pub fn operator(&self) -> Operator {
        Operator::new(self.context.clone())
    }

    /// How often the supervisor has looked at the domains: ten times a second at least, as long as it
    /// lives.
    pub fn samplings(&self) -> u64 {
        self.context.event_sink.samplings.load(Ordering::Relaxed)
    }

    /// Roles and failovers.
    pub fn failover(&self) -> &Arc<Failover> {
        &self.failover
    }

    /// The switchboard.
    pub fn switchboard(&self) -> &Arc<Switchboard> {
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
        self.periodic_threads.clear();
        self.context.stopped.store(true, Ordering::Release);
        for jobs in &self.jobs {
            // A thread whose queue is full is awake, and looks at the flag next.
            let _ = jobs.try_send(Job::Stop);
        }
        // The monitor takes what is in its place at once.
        let _ = self.notices.send(false);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        self.watch = None;
        for life in self.failover.take_lives() {
            life.expel();
        }
    }
}

fn millis(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms))
}

/// Drills and probes by the clock, where standbys can have them.
fn start_clockworks(
    topology: &Topology,
    operator: &Operator,
) -> std::io::Result<Vec<PeriodicThread>> {
    let mut periodic_threads = Vec::new();
    if topology.policy != Policy::FastSpare {
        return Ok(periodic_threads);
    }
    let spec = &topology.drill;
    if spec.every_s > 0 {
        let (every, operator) = (Duration::from_secs(spec.every_s.into()), operator.clone());
        periodic_threads.push(PeriodicThread::spawn("drill", every, move || operator.drill_all())?);
    }
    if spec.probe_ms > 0 {
        let (every, mut probes) = (millis(spec.probe_ms), Probes::new(operator.clone()));
        periodic_threads.push(PeriodicThread::spawn("probe", every, move || probes.ask())?);
    }
    Ok(periodic_threads)
}

/// Listens for the front-ends of all application guests.
fn serve_apps(
    topology: &Topology,
    switchboard: &Switchboard,
) -> Result<Vec<VhostUserServer>, VhostUserError> {
    let ports = (0..).map_while(|guest| switchboard.port(guest));
    let serve = |(app, port): (&AppSpec, _)| {
        let config = VhostUserConfig { socket: app.socket.clone(), mac: app.mac.0 };
        VhostUserServer::spawn(config, port)
    };
    topology.apps.iter().zip(ports).map(serve).collect()
}

/// Starts a rebuild thread for each domain, and the first domain with it.
fn start_rebuilders(
    context: &Arc<RebuildContext>,
    jobs: &[SyncSender<Job>],
    queues: Vec<Receiver<Job>>,
) -> std::io::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::with_capacity(queues.len() + 1);
    for (index, queue) in queues.into_iter().enumerate() {
        let slot = context.slots[index].clone();
        let name = format!("build-{}", slot.name);
        let rebuilder = Rebuilder::new(context.clone(), slot, jobs.get(index + 1).cloned());
        threads.push(realtime::spawn(&name, None, move || rebuilder.run(&queue))?);
    }
    if let Some(first) = jobs.first() {
        // Its queue is empty.
        let _ = first.try_send(Job::Begin);
    }
    Ok(threads)
}

/// The rule of going back, if there is one.
fn fail_back(topology: &Topology) -> Option<FailBack> {
    let FailBackSpec::Prefer { domain, hold_s } = &topology.fail_back else { return None };
    let preferred = topology.domains.iter().position(|known| known.name == *domain)?;
    Some(FailBack::new(preferred, Duration::from_secs(u64::from(*hold_s))))
}

/// The role in which a life starts.
fn first_role(policy: Policy) -> Role {
    if policy.attaches_early() { Role::Standby } else { Role::Unattached }
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
