//! A whole system under test: domains, NICs, switchboard, application guest, sender.

mod switches;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lab::app::{App, AppConfig, AppReport};
use lab::fault::{self, Site};
use lab::traffic::{Addresses, AppProcess, Ledger, Sender};
use microvm::domain::{DomainId, DomainSlot};
use nic::wire::Port;
use platform::clock::monotonic_ns;
use supervisor::topology::{Policy, Topology};
use supervisor::{Event, FailoverReport, RoleState, SwitchReport, System, SystemState, Wires};

use self::switches::Switches;
use crate::{emulation, scene};

/// How long anything may take before a test fails; this is not a promised time.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Time for several dozen datagrams.
const A_WHILE: Duration = Duration::from_millis(60);

/// Lets only one system run at a time, for as long as the guard lives: several would take the
/// machine's few cores from each other, and some tests measure time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The application guest, always at the other end of the socket.
enum Guest {
    /// In a process of its own, as users run it.
    Process(#[expect(dead_code, reason = "held for its end")] AppProcess),
    /// In this process, so that its own counters can be read.
    Inside(App),
}

impl Guest {
    fn process(topology: &Topology) -> Self {
        let app = &topology.apps[0];
        let net = Addresses::DEFAULT_GUEST_NET;
        let app = AppProcess::spawn(&crate::program(), &app.socket, app.mac, net);
        Self::Process(app.expect("the application guest"))
    }
}

/// A running system with traffic through it.
pub struct Rig {
    /// The system.
    pub system: System,
    /// The switches its NICs are plugged into.
    pub wires: Wires,
    /// The topology that it was built from.
    pub topology: Topology,
    sender: Option<Sender>,
    guest: Option<Guest>,
    folder: PathBuf,
    switches: Switches,
}

impl Rig {
    /// Starts the demo's topology with a datagram every millisecond, and waits until it is
    /// redundant and answers.
    pub fn start() -> Self {
        Self::start_with(|_| ())
    }

    /// Does the same with the guest in this process, for [`Self::guest_report`].
    pub fn start_with_guest_inside() -> Self {
        Self::start_with_guest_inside_and(|_| ())
    }

    /// Does the same with a changed topology.
    ///
    /// # Panics
    /// Panics if the system does not start.
    pub fn start_with_guest_inside_and(change: impl FnOnce(&mut Topology)) -> Self {
        let guest = |topology: &Topology| {
            let app = &topology.apps[0];
            let config = AppConfig {
                socket: app.socket.path.clone(),
                mac: app.mac.to_string().parse().expect("a MAC address"),
                address: Addresses::DEFAULT_GUEST_NET.parse().expect("an address"),
                udp_port: Addresses::DEFAULT.guest_port,
            };
            Guest::Inside(App::start(&config).expect("the application guest"))
        };
        Self::build(change, guest)
    }

    /// Starts as [`Self::start`] does, with one domain and no spare.
    pub fn start_without_spare() -> Self {
        Self::start_with(|topology| {
            topology.domains.truncate(1);
            topology.policy = Policy::Reboot;
        })
    }

    /// Starts as [`Self::start`] does, with a changed topology.
    ///
    /// # Panics
    /// Panics if the system does not start.
    pub fn start_with(change: impl FnOnce(&mut Topology)) -> Self {
        Self::build(change, Guest::process)
    }

    /// Starts a redundant system without application guest and sender; the test plays both.
    pub fn start_without_app() -> Self {
        Self::start_without_app_with(|_| ())
    }

    /// Does the same with a changed topology.
    pub fn start_without_app_with(change: impl FnOnce(&mut Topology)) -> Self {
        let rig = Self::build_system(change);
        rig.wait_whole();
        rig
    }

    fn build(
        change: impl FnOnce(&mut Topology),
        start_guest: impl FnOnce(&Topology) -> Guest,
    ) -> Self {
        let mut rig = Self::build_system(change);
        rig.guest = Some(start_guest(&rig.topology));
        let port = rig.lan("sender");
        let sender = Sender::spawn(port, Addresses::DEFAULT, Duration::from_millis(1), 100_000);
        rig.sender = Some(sender.expect("the sender"));
        rig.wait("the first echo", |rig| {
            rig.sender.as_ref().is_some_and(|sender| sender.first_echo_ns().is_some())
        });
        rig.wait_whole();
        rig
    }

    fn build_system(change: impl FnOnce(&mut Topology)) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("warmspare-rig-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder for the socket");
        let mut topology = emulation::demo(&folder.join("app.sock"));
        change(&mut topology);
        let mut wires = Wires::default();
        let system = System::start(&topology, &mut wires).expect("the system");
        let switches = Switches::default();
        Self { system, wires, topology, sender: None, guest: None, folder, switches }
    }

    /// Kills the application guest without warning, if there is one, and starts another one in a
    /// process of its own.
    pub fn restart_app(&mut self) {
        self.guest = None;
        self.guest = Some(Guest::process(&self.topology));
    }

    /// Connects another station to the LAN.
    ///
    /// # Panics
    /// Panics if the switch has no port left.
    pub fn lan(&mut self, name: &str) -> Arc<Port> {
        self.wires.switch("lan").attach(name).expect("a port on the LAN")
    }

    /// The vhost-user socket.
    pub fn socket(&self) -> &Path {
        &self.topology.apps[0].socket
    }

    /// Waits until every domain has its role: one serves, the others stand by.
    pub fn wait_whole(&self) {
        match self.topology.policy {
            Policy::FastSpare | Policy::Spare => self.wait("redundancy", |rig| {
                let views = rig.system.failover().views();
                let count = |state| views.iter().filter(|view| view.state == state).count();
                count(RoleState::Active) == 1 && count(RoleState::Standby) == views.len() - 1
            }),
            Policy::Reboot => {
                self.wait("service", |rig| rig.system.failover().active().is_some());
            }
        }
    }

    /// Waits until a condition holds.
    ///
    /// # Panics
    /// Panics if it does not hold within [`PATIENCE`].
    pub fn wait(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds(self) {
            if Instant::now() >= end {
                panic!("waited in vain for {what}; {}", self.scene());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Returns what the guest itself has counted.
    ///
    /// # Panics
    /// Panics if the guest is not in this process.
    pub fn guest_report(&self) -> AppReport {
        match &self.guest {
            Some(Guest::Inside(app)) => app.report(),
            Some(Guest::Process(_)) | None => panic!("only a guest inside can be asked"),
        }
    }

    /// Waits for the next failover.
    ///
    /// # Panics
    /// Panics if there is none within [`PATIENCE`].
    pub fn wait_failover(&self) -> FailoverReport {
        let failover = self.failover_within(PATIENCE);
        failover.unwrap_or_else(|| panic!("waited in vain for a failover; {}", self.scene()))
    }

    fn scene(&self) -> String {
        scene::twice(|| scene::look(&self.system))
    }

    /// Waits for the next failover; `None` if there is none in time.
    ///
    /// # Panics
    /// Panics if a domain could not be built.
    pub fn failover_within(&self, time: Duration) -> Option<FailoverReport> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.system.events().recv_timeout(left).ok()? {
                Event::Failover(report) => return Some(*report),
                Event::BuildFailed { reason, .. } => {
                    panic!("a domain could not be built: {reason}")
                }
                _ => {}
            }
        }
    }

    /// Waits for the first event for which `pick` returns a value.
    ///
    /// # Panics
    /// Panics if there is none within [`PATIENCE`].
    pub fn wait_event<T>(&self, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let event = self.system.events().recv_timeout(left).expect("an event");
            if let Some(picked) = pick(event) {
                return picked;
            }
        }
    }

    /// Disconnects the cable of a domain's NIC, or connects it again.
    ///
    /// # Panics
    /// Panics if the NIC has no port of our switch.
    pub fn set_link(&self, id: DomainId, up: bool) {
        let nic = self.slot(id).nic.name();
        self.wires.port_of(nic).expect("a port of our switch").set_link(up);
    }

    /// Makes the switch port of a domain's NIC die with its link up, or work again.
    ///
    /// # Panics
    /// Panics if the NIC has no port of our switch.
    pub fn set_port_dead(&self, id: DomainId, dead: bool) {
        let nic = self.slot(id).nic.name();
        self.wires.port_of(nic).expect("a port of our switch").set_dead(dead);
    }

    /// Returns the domain that serves.
    ///
    /// # Panics
    /// Panics if none serves.
    pub fn active(&self) -> DomainId {
        self.system.failover().active().expect("a domain that serves")
    }

    /// Returns the slot of a domain.
    pub fn slot(&self, id: DomainId) -> &DomainSlot {
        &self.system.slots()[id.index()]
    }

    /// Waits for an echo that arrives after this call.
    ///
    /// # Panics
    /// Panics if there is none within [`PATIENCE`].
    pub fn wait_echo(&self) {
        let now_ns = monotonic_ns();
        let last_echo = |rig: &Self| rig.sender.as_ref().and_then(Sender::last_echo_ns);
        self.wait("echoes", |rig| last_echo(rig) > Some(now_ns));
    }

    /// Lets traffic run for a while.
    pub fn run_for(&self, time: Duration) {
        std::thread::sleep(time);
    }

    /// Checks that the service goes on: no datagram came back damaged, and those sent from now on
    /// come back.
    ///
    /// # Panics
    /// Panics if it does not.
    pub fn assert_service_whole(mut self) {
        self.wait("a service in order", |rig| {
            rig.system.failover().system_state() == SystemState::Normal
        });
        let from_ns = monotonic_ns();
        self.run_for(A_WHILE);
        let until_ns = monotonic_ns();
        self.wait_echo();
        let ledger = self.finish_traffic();
        assert_eq!(ledger.total_corrupted(), 0);
        assert_eq!(ledger.lost_between(from_ns, until_ns), 0, "sent after all was over, and lost");
    }

    /// Hands the ring to the other domain. While processors stand still, the serving domain may
    /// fail to send its frames in time, and keep the ring; or the other may fail to answer in time,
    /// and be rebuilt. Then nothing has happened: the refusal is counted, and the switch is
    /// requested again.
    ///
    /// # Panics
    /// Panics if the switch is impossible, or if more are refused than [`Switches`] allows.
    pub fn switch(&self) -> SwitchReport {
        loop {
            self.wait_whole();
            let switched = self.switches.watch(|| self.system.operator().switch_to(None));
            if let Some(report) = switched {
                return report;
            }
        }
    }

    /// Corrupts the loop of the domain that serves, so that it crashes at the loop's next turn.
    /// Returns that domain.
    ///
    /// # Panics
    /// Panics if none serves.
    pub fn crash_active(&self) -> DomainId {
        let active = self.active();
        let life = self.system.failover().life(active).expect("its life");
        fault::corrupt_code(self.slot(active), life.image(), Site::Loop).expect("its text");
        active
    }

    /// Crashes the domain that serves at once, and waits until another one has its ring. Returns the
    /// failed domain.
    ///
    /// # Panics
    /// Panics if none serves, or if another domain fails.
    pub fn fail_active(&self) -> DomainId {
        let failed = self.crash_active();
        self.slot(failed).kick.write(1).expect("its event");
        assert_eq!(self.wait_failover().record.from, failed);
        failed
    }

    /// Stops the sender, and returns its ledger.
    ///
    /// # Panics
    /// Panics if the ledger was taken before.
    pub fn finish_traffic(&mut self) -> Ledger {
        self.sender.take().expect("a running sender").finish()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            sender.finish();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Stops a companion thread when the test is over, even if it panics.
pub struct StopAtEnd<'a>(pub &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Checks that no datagram that was sent is missing, came twice or was damaged.
///
/// # Panics
/// Panics if one is or was.
pub fn assert_nothing_happened(ledger: &Ledger) {
    let lost = ledger.total_sent() - ledger.total_echoed();
    assert_eq!((lost, ledger.total_duplicated(), ledger.total_corrupted()), (0, 0, 0));
    assert!(ledger.total_sent() > 0);
}
