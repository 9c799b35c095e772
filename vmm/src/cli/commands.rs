//! What each command does.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use super::{AppArgs, DemoArgs, Failure, Format, ImageArgs, RunArgs, mistake};
use crate::logs::notice;
use lab::app;
use lab::demo::{self, DemoConfig, DemoError, Limits};
use microvm::domain::SlotError;
use operate::control::{Plane, Reloaded};
use operate::service::Service;
use platform::one_line::one_line;
use platform::signals::{Reload, Termination};
use supervisor::topology::{DumpSpec, Topology};
use supervisor::{Event, System, SystemError, Wires};

/// How long the main thread waits for an event before it looks at signals and redundancy.
const EVENT_WAIT: Duration = Duration::from_millis(50);

pub(super) fn demo(args: &DemoArgs, began_ns: u64) -> Result<(), Failure> {
    let config = DemoConfig {
        faults: args.faults,
        plan: args.cause,
        period: args.period(),
        policy: args.policy,
        dumps: args.dumps.as_deref().map(DumpSpec::in_dir),
        seed: args.seed,
        progress: args.format == Format::Text,
        stay: args.stay,
        plane: args.plane.clone(),
        began_ns,
    };
    let report = demo::run(&config).map_err(|error| match &error {
        DemoError::System(system) => system_failure(system),
        DemoError::Plane(_) => mistake(&error),
        _ => Failure::Run(one_line(&error)),
    })?;
    let limits = Limits {
        max_interruption_ms: args.max_interruption_ms,
        max_median_interruption_ms: args.max_median_interruption_ms,
    };
    match args.format {
        Format::Text => print!("{}", report.text(limits)),
        Format::Json => println!("{}", json(&report)?),
    }
    match report.failure(limits) {
        None => Ok(()),
        Some(why) => Err(Failure::Run(why)),
    }
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::Run(one_line(&error)))
}

/// A system that cannot be built is the user's to mend where it names a file or a right.
fn system_failure(error: &SystemError) -> Failure {
    match error {
        SystemError::Kvm(_)
        | SystemError::VhostUser(_)
        | SystemError::Tap(_)
        | SystemError::Dumps(_) => Failure::Mistake(one_line(error)),
        SystemError::Nic(nic) | SystemError::Slot(SlotError::Nic(nic)) if nic.is_usage() => {
            Failure::Mistake(one_line(error))
        }
        _ => Failure::Run(one_line(error)),
    }
}

pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    let mut topology = Topology::load(&args.topology).map_err(|error| mistake(&error))?;
    let no_signals = |error: std::io::Error| Failure::Run(one_line(&error));
    let signals = Termination::block().map_err(no_signals)?;
    let reloads = Reload::block().map_err(no_signals)?;
    let mut wires = Wires::default();
    let system = System::start(&topology, &mut wires).map_err(|error| system_failure(&error))?;
    notice!(
        "{} domains; application guests connect to {}",
        topology.domains.len(),
        sockets(&topology)
    );
    let plane = Plane::start(&args.plane, &topology, &system).map_err(|error| mistake(&error))?;
    if let Some(url) = plane.url() {
        notice!("dashboard at {url}");
    }
    let mut service = Service::from_environment();
    let mut was_redundant = false;
    while !signals.wait(Duration::ZERO) {
        if let Ok(event) = system.events().recv_timeout(EVENT_WAIT) {
            print_event(&system, &event);
            plane.record(&event);
        }
        let redundant = plane.is_redundant();
        if redundant != std::mem::replace(&mut was_redundant, redundant) {
            service.tell_redundancy(redundant);
        }
        if reloads.take() {
            reload(&args.topology, &mut topology, &plane);
        }
        service.tell_alive(system.samplings());
    }
    service.tell_stopping();
    notice!("stopping");
    Ok(())
}

/// Where application guests connect to, in the topology's order.
fn sockets(topology: &Topology) -> String {
    let paths = topology.apps.iter().map(|app| app.socket.display().to_string());
    paths.collect::<Vec<_>>().join(", ")
}

/// Reads the files again, and says what came of it.
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
        Err(reason) => notice!("not reloaded, everything is as it was: {reason}"),
    }
    plane.record_reload(&result);
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

fn print_event(system: &System, event: &Event) {
    let name = |id: microvm::domain::DomainId| system.slots()[id.index()].name.as_str();
    match event {
        Event::Link { nic, up } => {
            notice!("link of {nic} is {}", if *up { "up" } else { "down" });
        }
        Event::Failover(report) => {
            let record = &report.record;
            notice!(
                "{} failed ({}: {}): {} takes over; {}",
                name(record.from),
                record.verdict.cause(),
                record.verdict,
                record.to.map_or("nobody", name),
                report.crash_summary
            );
        }
        Event::Healed { domain, delayed_us, .. } => {
            notice!("{} had lost a wakeup, {delayed_us} µs late", name(*domain));
        }
        Event::Ready { domain, state, .. } => {
            notice!("{} is {state:?}", name(*domain));
        }
        Event::BuildFailed { domain, reason, given_up } => {
            let more = if *given_up { "; given up" } else { "" };
            notice!("{} could not be built: {reason}{more}", name(*domain));
        }
        Event::Quarantined { domain, pause } => {
            notice!(
                "{} failed too often: it is left alone for {:.1} s, or until it is needed",
                name(*domain),
                pause.as_secs_f64()
            );
        }
        Event::State { from, to } => {
            notice!("the service is {to:?}, it was {from:?}");
        }
        Event::Switched(report) => {
            notice!(
                "{} serves instead of {}; frames waited {} µs",
                name(report.to),
                name(report.from),
                report.waited_ns / 1000
            );
        }
        Event::Drilled(report) => match report.blame {
            None => notice!(
                "{} passed its drill in {} µs",
                name(report.domain),
                report.round_trip_ns / 1000
            ),
            Some(blame) => notice!(
                "the drill of {} failed, to blame: {blame:?}; {:?}",
                name(report.domain),
                report.evidence
            ),
        },
        Event::Upgraded(report) => notice!(
            "all domains run the new driver, {} serves; it took {:.1} s",
            name(report.serves),
            report.took.as_secs_f64()
        ),
        Event::UpgradeFailed { reason } => notice!("no upgrade: {reason}"),
        Event::Dumped { domain, folder, requested } => {
            let what = if *requested { "a dump" } else { "the remains" };
            notice!("{what} of {} is in {}", name(*domain), folder.display());
        }
        Event::DumpLost { domain, reason } => {
            notice!("{} leaves no dump: {reason}", name(*domain));
        }
        Event::Paused { domain } => notice!("{} is paused", name(*domain)),
        Event::Resumed { domain } => notice!("{} is resumed", name(*domain)),
        Event::Debugger { domain, attached: true } => {
            notice!("{} waits for a debugger", name(*domain));
        }
        Event::Debugger { domain, attached: false } => {
            notice!("the debugger of {} has gone", name(*domain));
        }
    }
}

pub(super) fn validate(path: &Path) -> Result<(), Failure> {
    let topology = Topology::load(path).map_err(|error| mistake(&error))?;
    println!("{}: sound, {} domains", path.display(), topology.domains.len());
    Ok(())
}

pub(super) fn image(args: &ImageArgs) -> Result<(), Failure> {
    let image = if args.driver { guest_images::DRIVER_DOMAIN } else { guest_images::SPARE_DOMAIN };
    std::fs::write(&args.out, image).map_err(|error| {
        let path = args.out.display();
        Failure::Mistake(format!("{path}: cannot be written ({error}): name a writable file"))
    })
}

pub(super) fn schema() -> Result<(), Failure> {
    let schema = schemars::schema_for!(Topology);
    let text =
        serde_json::to_string_pretty(&schema).map_err(|error| Failure::Run(one_line(&error)))?;
    println!("{text}");
    Ok(())
}

pub(super) fn app(args: &AppArgs) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    let parent = args.end_with_parent.then(|| stdin.as_fd());
    app::run(&args.config, parent).map_err(|error| match error.is_usage() {
        true => mistake(&error),
        false => Failure::Run(one_line(&error)),
    })
}
