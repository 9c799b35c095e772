//! `warmspare run`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::event_text::event_text;
use super::exit::Failure;
use super::machine;
use crate::logs::notice;
use microvm::domain::{DomainId, SlotError};
use operate::control::{Plane, PlaneOptions, Reloaded};
use operate::service::Service;
use platform::one_line::one_line;
use platform::process_limits;
use platform::signals::{Reload, Termination};
use supervisor::topology::Topology;
use supervisor::{System, SystemError, Wires};

/// How long the main thread waits for an event before it checks signals and redundancy.
const EVENT_WAIT: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Topology file, JSON
    topology: PathBuf,
    /// End with status 2 if no NIC can be used at the start; by default it is waited for
    #[arg(long)]
    exit_if_unusable: bool,
    #[command(flatten)]
    plane: PlaneOptions,
}

/// A system that cannot be built is the user's mistake if a file or a permission is to blame.
pub(super) fn system_failure(error: &SystemError) -> Failure {
    match error {
        SystemError::Kvm(_)
        | SystemError::VhostUser(_)
        | SystemError::Tap(_)
        | SystemError::NoNic(_)
        | SystemError::Dumps(_) => Failure::mistake(error),
        SystemError::Nic(nic) | SystemError::Slot(SlotError::Nic(nic)) if nic.is_usage() => {
            Failure::mistake(error)
        }
        _ => Failure::run(error),
    }
}

/// Runs a topology until SIGINT or SIGTERM.
pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    process_limits::return_large_blocks();
    let mut topology = Topology::load(&args.topology).map_err(|error| Failure::mistake(&error))?;
    args.plane.check(&topology).map_err(|error| Failure::mistake(&error))?;
    machine::check_open_files(&topology)?;
    let signals = Termination::block().map_err(|error| Failure::run(&error))?;
    let reloads = Reload::block().map_err(|error| Failure::run(&error))?;
    let mut wires = Wires::default();
    if args.exit_if_unusable {
        wires.require_nic();
    }
    let system = System::start(&topology, &mut wires).map_err(|error| system_failure(&error))?;
    notice!(
        "{} domains; sockets of application guests: {}",
        topology.domains.len(),
        sockets(&topology)
    );
    let plane =
        Plane::start(&args.plane, &topology, &system).map_err(|error| Failure::mistake(&error))?;
    machine::lock_memory();
    machine::check_realtime_share();
    if let Some(url) = plane.url() {
        notice!("dashboard at {url}");
    }
    let mut service = Service::from_environment();
    while !signals.wait(Duration::ZERO) {
        if let Ok(event) = system.events().recv_timeout(EVENT_WAIT) {
            let name = |id: DomainId| system.slots()[id.index()].name.as_str();
            notice!("{}", event_text(&event, &name));
            plane.record(&event);
        }
        plane.watch_guests();
        service.tell_state(plane.service_state());
        if reloads.take() {
            reload(&args.topology, &mut topology, &plane);
        }
        if let Some(thread) = system.broken() {
            return Err(broken(thread));
        }
        service.tell_alive(|| system.pulse());
    }
    service.tell_stopping();
    notice!("stopping");
    Ok(())
}

/// How long a broken system may take to end: what is left of it may wait for the thread that is
/// gone, and the service manager waits for the end.
const BROKEN_END: Duration = Duration::from_secs(3);

/// A thread has ended that cannot be replaced: the process ends, so that its service manager starts
/// it anew.
fn broken(thread: &str) -> Failure {
    let why = format!("the thread {thread} has ended by a defect of this program: it stops");
    let late = why.clone();
    std::thread::spawn(move || {
        std::thread::sleep(BROKEN_END);
        crate::logs::failure(&late);
        std::process::exit(super::exit::FAILED.into());
    });
    Failure::Run(why)
}

/// The sockets of application guests, in the topology's order.
fn sockets(topology: &Topology) -> String {
    let shown = topology.apps.iter().map(|app| match app.socket.connects {
        true => format!("{} (where the VMM listens)", app.socket.display()),
        false => app.socket.display().to_string(),
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Reads the configuration files again, and tells the result.
fn reload(path: &Path, running: &mut Topology, plane: &Plane) {
    let result = match Topology::load(path) {
        Ok(new) => plane.reload(running, &new).map_err(|error| one_line(&error)),
        Err(error) => Err(one_line(&error)),
    };
    match &result {
        Ok(Reloaded { applied, ignored }) => {
            notice!("reloaded: {}", list(applied));
            notice!("takes a restart: {}", list(ignored));
        }
        Err(reason) => notice!("not reloaded, nothing has changed: {reason}"),
    }
    plane.record_reload(&result);
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}
