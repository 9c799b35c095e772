//! A running application guest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use app_guest::layout;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::config::{self, AppConfig, StationMac};
use super::connection::{Connection, RingEvents};
use super::error::AppError;
use super::guest_pages::Status;
use super::integrity::{damaged_canary, damaged_memory};
use super::machine::{ExitCounters, Machine, Shared};
use super::mmio::{LINK_UP, NetConfig, QUEUES, Registers};
use super::reconnect::BackendLink;
use microvm::kvm::{Image, Kicker};
use platform::memory::SharedMemory;
use platform::realtime::{self, Priority};

/// What a guest has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppReport {
    /// Whether the guest serves its addresses.
    pub ready: bool,
    /// Frames received.
    pub frames_in: u64,
    /// Frames sent.
    pub frames_out: u64,
    /// Datagrams echoed.
    pub datagrams_echoed: u64,
    /// Datagrams not echoed: no room, or from an echo port.
    pub datagrams_dropped: u64,
    /// QueueNotify stores: exits to the kernel only.
    pub notifies: u64,
    /// WAIT calls: exits to this program.
    pub waits: u64,
    /// Loads and stores of device registers: exits to this program, at set-up only.
    pub register_accesses: u64,
}

/// A running application guest. Dropping it stops it.
pub struct App {
    shared: Arc<Shared>,
    ended: Arc<EventFd>,
    kicker: Kicker,
    thread: Option<JoinHandle<()>>,
    outcome: Arc<std::sync::Mutex<Option<AppError>>>,
}

impl App {
    /// Connects to the back-end, builds the machine and starts it on a thread of its own.
    ///
    /// # Errors
    /// No usable back-end, no KVM, no resources.
    pub fn start(config: &AppConfig) -> Result<Self, AppError> {
        let shared = Arc::new(Shared {
            ram: Arc::new(SharedMemory::new(c"warmspare-app", layout::RAM_BYTES)?),
            stop: Arc::new(event()?),
            stopping: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            exits: ExitCounters::default(),
        });
        let mut machine = build(config, &shared)?;
        let (kicker, ended) = (machine.kicker(), Arc::new(event()?));
        let outcome = Arc::new(std::sync::Mutex::new(None));
        let (at_end, report_to) = (NotifyAtEnd(ended.clone()), outcome.clone());
        let thread = realtime::spawn("vcpu-app", Some(Priority::Vcpu), move || {
            let _at_end = at_end;
            let result = machine.run();
            *lock(&report_to) = result.err();
        })
        .map_err(|source| AppError::System { what: "another thread", source })?;
        Ok(Self { shared, ended, kicker, thread: Some(thread), outcome })
    }

    /// Readable when the guest has ended by itself.
    pub fn ended(&self) -> &EventFd {
        &self.ended
    }

    /// Why the guest has ended by itself, if it has.
    pub fn failure(&self) -> Option<String> {
        lock(&self.outcome).as_ref().map(|error| format!("{error} ({error:?})"))
    }

    /// What the guest has done so far.
    pub fn report(&self) -> AppReport {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let exits = &self.shared.exits;
        let mut report = AppReport {
            ready: self.shared.ready.load(Ordering::Acquire),
            waits: load(&exits.waits),
            register_accesses: load(&exits.registers),
            ..Default::default()
        };
        if let Ok(status) = self.shared.ram.shape::<Status>(layout::STATUS_BASE) {
            let counters = &status.0.counters;
            report.frames_in = load(&counters.frames_in);
            report.frames_out = load(&counters.frames_out);
            report.datagrams_echoed = load(&counters.datagrams_echoed);
            report.datagrams_dropped = load(&counters.datagrams_dropped);
            report.notifies = load(&counters.notifies);
        }
        report
    }

    /// Stops the guest and returns what it has done.
    ///
    /// # Errors
    /// The guest had failed, or something wrote where nothing may write: to its canary area, its
    /// text, its constants, memory that it does not use.
    pub fn stop(mut self) -> Result<AppReport, AppError> {
        self.halt()?;
        let report = self.report();
        match lock(&self.outcome).take() {
            Some(error) => Err(error),
            None => self.check_memory().map(|()| report),
        }
    }

    /// Checks that what nothing may change is as it was: canary area, text, constants, unused memory.
    fn check_memory(&self) -> Result<(), AppError> {
        let ram = &self.shared.ram;
        if let Some(word) = damaged_canary(ram)? {
            return Err(AppError::Canary { word });
        }
        let image = Image::parse(guest_images::APP_GUEST)?;
        match damaged_memory(ram, &image)? {
            Some(address) => Err(AppError::Damaged { address }),
            None => Ok(()),
        }
    }

    /// The guest's memory, for tests that damage it.
    #[cfg(test)]
    pub(super) fn ram(&self) -> &SharedMemory {
        &self.shared.ram
    }

    fn halt(&mut self) -> Result<(), AppError> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        self.shared.stopping.store(true, Ordering::Release);
        // The counter of an eventfd with no other writer has room.
        let _ = self.shared.stop.write(1);
        self.kicker.kick();
        thread.join().map_err(|_| AppError::ThreadPanicked)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // `stop` is the place to learn of an error.
        let _ = self.halt();
    }
}

/// Signals that the thread ends, in whatever way.
struct NotifyAtEnd(Arc<EventFd>);

impl Drop for NotifyAtEnd {
    fn drop(&mut self) {
        // The counter of an eventfd with no other writer has room.
        let _ = self.0.write(1);
    }
}

fn build(config: &AppConfig, shared: &Arc<Shared>) -> Result<Machine, AppError> {
    let connection = Connection::open(&config.socket, &shared.stop)
        .map_err(|source| AppError::Socket { path: config.socket.clone(), source })?;
    let mac = connection.mac().filter(|&mac| config::is_station(mac)).unwrap_or(config.mac.0);
    let net = NetConfig { mac, status: connection.status().unwrap_or(LINK_UP) };
    let device = Registers::new(connection.offered(), net);
    let ring_events = || Ok::<_, AppError>(RingEvents { kick: event()?, call: event()? });
    let events: [RingEvents; QUEUES] = [ring_events()?, ring_events()?];
    let (stop, ram) = (shared.stop.clone(), shared.ram.clone());
    let backend = BackendLink::new(config.socket.clone(), connection, stop, ram, events);
    tracing::info!(
        "{}: guest {} at {}/{}, UDP echo on port {}",
        config.socket.display(),
        StationMac(mac),
        config.address.address,
        config.address.prefix_len,
        config.udp_port
    );
    Machine::new(shared.clone(), guest_images::APP_GUEST, device, backend, config)
}

fn event() -> Result<EventFd, AppError> {
    EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)
        .map_err(|source| AppError::System { what: "an eventfd", source })
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
