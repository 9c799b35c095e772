//! Builds the running system from a topology.
//!
//! ```text
//!  NICs ─▶ slots ─▶ switchboard ─▶ sockets ─▶ failover ─▶ supervisor thread
//!                                                  └─▶ rebuild threads ─▶ monitor, drills
//! ```
//! What may fail for a reason outside comes before anything that would go on without the rest.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use shared_ring::Role;

use super::domain::Domain;
use super::drill_schedule::DrillSchedule;
use super::error::SystemError;
use super::event::Event;
use super::event_sink::EventSink;
use super::failover::{Failover, FailoverConfig, Notice};
use super::guest_link::GuestLinkThread;
use super::images::Images;
use super::job_queue::{Job, JobReceiver, JobSender, job_queue};
use super::monitor::Monitor;
use super::operator::Operator;
use super::periodic::PeriodicThread;
use super::probes::Probes;
use super::rebuild::Rebuilder;
use super::rebuild_context::{RebuildContext, dump_reporter};
use super::rules::FailBack;
use super::sampling::Sampling;
use super::supervisor_thread::SupervisorThread;
use super::system::System;
use super::wires::Wires;
use crate::coredump::{DumpStore, DumpWriter};
use crate::detect::Sampler;
use crate::topology::{AppSpec, FailBackSpec, Policy, QmpSpec, Topology};
use microvm::domain::{DomainId, DomainSlot};
use microvm::kvm::Image;
use nic::Nic;
use platform::accounts;
use platform::memory::SharedMemory;
use platform::realtime::{self, Priority};
use switchboard::vhost_user::{
    SocketConfig, SocketRights, VhostUserConfig, VhostUserError, VhostUserServer,
};
use switchboard::{AnnounceConfig, Switchboard, SwitchboardConfig};

/// The queues between the threads: what is sent, and to whom.
struct Queues {
    jobs: Vec<JobSender>,
    notices: SyncSender<Notice>,
    drill_notices: SyncSender<Notice>,
    events: Sender<Event>,
}

/// The receiving ends of [`Queues`].
struct Receivers {
    /// For each domain, the rebuild thread's.
    jobs: Vec<JobReceiver>,
    /// The monitor's.
    notices: Receiver<Notice>,
    /// The drill thread's.
    drill_notices: Receiver<Notice>,
    /// The user's of the system.
    events: Receiver<Event>,
}

fn make_queues(domains: usize) -> (Queues, Receivers) {
    let (jobs, job_receivers) = (0..domains).map(|_| job_queue()).unzip();
    let (notices, notice_receiver) = mpsc::sync_channel(1);
    let (drill_notices, drill_receiver) = mpsc::sync_channel(1);
    let (events, event_receiver) = mpsc::channel();
    let receivers = Receivers {
        jobs: job_receivers,
        notices: notice_receiver,
        drill_notices: drill_receiver,
        events: event_receiver,
    };
    (Queues { jobs, notices, drill_notices, events }, receivers)
}

impl System {
    /// Builds everything. The domains come up on their rebuild threads after this has returned.
    ///
    /// # Errors
    /// A part cannot be built.
    pub fn start(topology: &Topology, wires: &mut Wires) -> Result<Self, SystemError> {
        let nics = wires.open_nics(topology)?;
        Self::start_on(topology, nics)
    }

    /// Builds everything on these NICs, one for each domain.
    pub(super) fn start_on(
        topology: &Topology,
        nics: Vec<Arc<dyn Nic>>,
    ) -> Result<Self, SystemError> {
        drop(microvm::kvm::open_kvm()?);
        let tx_pool = DomainSlot::new_tx_pool()?;
        let slots = make_slots(topology, nics, &tx_pool)?;
        let event_sink = EventSink::new()?;
        let switchboard = spawn_switchboard(topology, &slots, tx_pool, &event_sink)?;
        let servers = serve_apps(topology, &switchboard)?;
        let (queues, receivers) = make_queues(slots.len());
        let failover = make_failover(topology, &slots, &switchboard, &queues)?;
        event_sink.connect(&failover);
        let context =
            make_context(topology, switchboard, failover.clone(), event_sink.clone(), &queues)?;
        let sampler = Sampler::new(context.switchboard.clone(), context.macs.clone());
        let sampling =
            Sampling::new(sampler, topology.detect, failover.clone(), event_sink.clone())?;
        let supervisor = SupervisorThread::spawn(failover, event_sink, queues.events, sampling)?;
        let mut threads = start_rebuilders(&context, &queues.jobs, receivers.jobs)?;
        let monitor = Monitor::new(context.clone(), fail_back(topology));
        let notices = receivers.notices;
        threads.push(realtime::spawn("monitor", None, move || monitor.run(&notices))?);
        let operator = Operator::new(context.clone());
        threads.extend(start_drills(topology, &operator, receivers.drill_notices)?);
        let probes = start_probes(topology, &operator)?;
        let guest_links = start_guest_links(topology, &context)?;
        Ok(Self {
            slots,
            probes,
            context,
            jobs: queues.jobs,
            notices: [queues.notices, queues.drill_notices],
            events: receivers.events,
            servers,
            guest_links,
            supervisor: Some(supervisor),
            threads,
        })
    }
}

fn make_slots(
    topology: &Topology,
    nics: Vec<Arc<dyn Nic>>,
    tx_pool: &Arc<SharedMemory>,
) -> Result<Vec<Arc<DomainSlot>>, SystemError> {
    let mut slots = Vec::with_capacity(topology.domains.len());
    for (index, (domain, nic)) in topology.domains.iter().zip(nics).enumerate() {
        let id = DomainId(index as u8);
        slots.push(Arc::new(DomainSlot::new(id, &domain.name, nic, tx_pool.clone())?));
    }
    Ok(slots)
}

/// MAC addresses of the application guests.
fn macs(topology: &Topology) -> Vec<[u8; 6]> {
    topology.apps.iter().map(|app| app.mac.0).collect()
}

fn millis(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms))
}

fn spawn_switchboard(
    topology: &Topology,
    slots: &[Arc<DomainSlot>],
    tx_pool: Arc<SharedMemory>,
    event_sink: &Arc<EventSink>,
) -> Result<Arc<Switchboard>, SystemError> {
    let again = topology.announce.again_ms.iter().map(|ms| millis(*ms)).collect();
    Ok(Arc::new(Switchboard::spawn(SwitchboardConfig {
        slots: slots.to_vec(),
        tx_pool,
        macs: macs(topology),
        mtu: topology.mtu,
        rules: topology.apps.iter().map(AppSpec::rules).collect(),
        announce: AnnounceConfig { again, probe_vlan: topology.drill.vlan },
        violations: event_sink.clone(),
    })?))
}

/// Listens for the front-ends of all application guests, or connects to them.
fn serve_apps(
    topology: &Topology,
    switchboard: &Switchboard,
) -> Result<Vec<VhostUserServer>, VhostUserError> {
    let ports = (0..).map_while(|guest| switchboard.port(guest));
    let serve = |(app, port): (&AppSpec, _)| {
        let path = app.socket.path.clone();
        let socket = match app.socket.connects {
            true => SocketConfig::Connect(path),
            false => {
                let rights = socket_rights(app).map_err(VhostUserError::Start)?;
                SocketConfig::Listen { path, rights }
            }
        };
        VhostUserServer::spawn(VhostUserConfig { socket, mac: app.mac.0 }, port)
    };
    topology.apps.iter().zip(ports).map(serve).collect()
}

/// Whose a guest's socket is. The topology was checked, so a name that is not found now has gone
/// since.
fn socket_rights(app: &AppSpec) -> io::Result<SocketRights> {
    let gone = || io::Error::new(io::ErrorKind::NotFound, "the socket's owner or group has gone");
    let number = |name: &Option<String>, id: fn(&str) -> io::Result<Option<u32>>| {
        name.as_ref().map(|name| id(name)?.ok_or_else(gone)).transpose()
    };
    Ok(SocketRights {
        owner: number(&app.owner, accounts::user_id)?,
        group: number(&app.group, accounts::group_id)?,
        mode: app.mode.map_or(SocketRights::OWNER_ONLY.mode, |mode| mode.0),
    })
}

fn make_failover(
    topology: &Topology,
    slots: &[Arc<DomainSlot>],
    switchboard: &Arc<Switchboard>,
    queues: &Queues,
) -> Result<Arc<Failover>, SystemError> {
    Ok(Arc::new(Failover::new(FailoverConfig {
        domains: slots.iter().cloned().map(Domain::new).collect(),
        switchboard: switchboard.clone(),
        jobs: queues.jobs.clone(),
        notices: queues.notices.clone(),
        drill_notices: queues.drill_notices.clone(),
        drills: topology.policy == Policy::FastSpare && topology.drill.every_s > 0,
        limits: topology.limits,
        drill_limit: millis(topology.drill.answer_within_ms),
        attaches_early: topology.policy.attaches_early(),
        shares_nic: slots.iter().skip(1).any(|slot| slot.shares_nic(&slots[0])),
    })?))
}

fn make_context(
    topology: &Topology,
    switchboard: Arc<Switchboard>,
    failover: Arc<Failover>,
    event_sink: Arc<EventSink>,
    queues: &Queues,
) -> Result<Arc<RebuildContext>, SystemError> {
    let dumps = open_dumps(topology, &failover, &queues.events)?;
    let images = [
        Arc::new(Image::parse(guest_images::DRIVER_DOMAIN)?),
        Arc::new(Image::parse(guest_images::SPARE_DOMAIN)?),
    ];
    Ok(Arc::new(RebuildContext {
        switchboard,
        failover,
        event_sink,
        images: Images::new(images),
        macs: macs(topology),
        first_role: first_role(topology.policy),
        limits: topology.limits,
        events: queues.events.clone(),
        dumps,
        shared_nic: Mutex::new(()),
        abandoned: AtomicBool::new(false),
        stopped: AtomicBool::new(false),
    }))
}

/// Starts the thread that writes dumps, if the topology names a folder for them.
fn open_dumps(
    topology: &Topology,
    failover: &Failover,
    events: &Sender<Event>,
) -> Result<Option<DumpWriter>, SystemError> {
    let Some(spec) = &topology.dumps else { return Ok(None) };
    let store = DumpStore::open(spec.clone())?;
    let domains = failover.domains.iter();
    let names = domains.map(|domain| (domain.name().to_owned(), domain.id())).collect();
    Ok(Some(DumpWriter::spawn(store, dump_reporter(names, events.clone()))?))
}

/// The role in which a life starts.
fn first_role(policy: Policy) -> Role {
    if policy.attaches_early() { Role::Standby } else { Role::Unattached }
}

/// Starts a rebuild thread for each domain, and has the first domain built.
fn start_rebuilders(
    context: &Arc<RebuildContext>,
    jobs: &[JobSender],
    receivers: Vec<JobReceiver>,
) -> std::io::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::with_capacity(receivers.len() + 1);
    for (index, receiver) in receivers.into_iter().enumerate() {
        let domain = context.failover.domains[index].clone();
        let name = format!("build-{}", domain.name());
        let rebuilder = Rebuilder::new(context.clone(), domain, jobs.get(index + 1).cloned());
        threads.push(realtime::spawn(&name, None, move || rebuilder.run(&receiver))?);
    }
    if let Some(first) = jobs.first() {
        // Its queue is empty.
        first.send(Job::Begin);
    }
    Ok(threads)
}

/// The rule for going back to a preferred domain, if there is one.
fn fail_back(topology: &Topology) -> Option<FailBack> {
    let FailBackSpec::Prefer { domain, hold_s } = &topology.fail_back else { return None };
    let preferred = topology.domains.iter().position(|known| known.name == *domain)?;
    Some(FailBack::new(preferred, Duration::from_secs(u64::from(*hold_s))))
}

/// Starts the thread that drills, where standbys can be drilled.
fn start_drills(
    topology: &Topology,
    operator: &Operator,
    notices: Receiver<Notice>,
) -> std::io::Result<Option<JoinHandle<()>>> {
    if topology.policy != Policy::FastSpare {
        return Ok(None);
    }
    let every_s = Some(topology.drill.every_s).filter(|every_s| *every_s > 0);
    let every = every_s.map(|every_s| Duration::from_secs(every_s.into()));
    let schedule = DrillSchedule::new(operator.clone(), every);
    // The priority is below every thread of the data path. It is not the normal one, because a
    // drill that waits for a processor would keep its standby released for longer than it should.
    realtime::spawn("drill", Some(Priority::Nic), move || schedule.run(&notices)).map(Some)
}

/// Starts the probes, if the topology asks for them and standbys can have them.
fn start_probes(
    topology: &Topology,
    operator: &Operator,
) -> std::io::Result<Option<PeriodicThread>> {
    let probe_ms = topology.drill.probe_ms;
    if topology.policy != Policy::FastSpare || probe_ms == 0 {
        return Ok(None);
    }
    let mut probes = Probes::new(operator.clone());
    PeriodicThread::spawn("probe", millis(probe_ms), move || probes.ask()).map(Some)
}

/// Starts the threads that tell guests of a network that is gone, where the topology asks for that.
fn start_guest_links(
    topology: &Topology,
    context: &RebuildContext,
) -> std::io::Result<Vec<GuestLinkThread>> {
    let apps = topology.apps.iter().enumerate();
    let monitors = apps.filter_map(|(guest, app)| Some((guest, app.qmp.clone()?)));
    let start = |(guest, QmpSpec { socket, name }): (usize, QmpSpec)| {
        let (failover, switchboard) = (&context.failover, &context.switchboard);
        GuestLinkThread::spawn(guest, (socket, name), failover, switchboard)
    };
    monitors.map(start).collect()
}
