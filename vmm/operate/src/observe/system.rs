//! Observing a running [`System`]: reads the atomics of the data path, and translates the
//! supervisor's events from numbers to names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use shared_ring::layout::RING_ENTRIES;
use shared_ring::status::attach;

use super::observer::Observer;
use super::received_event::{FailoverFacts, ReceivedEvent};
use super::snapshot::{AppView, DomainView, NicView, RingDepths};
use super::view::SystemView;
use microvm::domain::{DomainId, DomainSlot, ExitCounts, VcpuState};
use platform::realtime;
use supervisor::topology::{MacAddress, Policy, Topology};
use supervisor::{DomainView as RuleView, Event, Failover, FailoverReport, Health, Link};
use supervisor::{System, SystemState};
use switchboard::{FrontEnds, GuestFigures, Switchboard};

/// The parts of a system that are observed.
pub(crate) struct SystemWatch {
    name: String,
    policy: Policy,
    /// Path of each guest's socket, and whether the VMM listens there.
    sockets: Vec<(String, bool)>,
    slots: Vec<Arc<DomainSlot>>,
    failover: Arc<Failover>,
    switchboard: Arc<Switchboard>,
}

impl SystemWatch {
    /// Begins to observe a system that was built from this topology.
    pub(crate) fn observe(system: &System, topology: &Topology) -> Observer {
        Observer::new(Arc::new(Self {
            name: topology.name.clone(),
            policy: topology.policy,
            sockets: sockets(topology),
            slots: system.slots().to_vec(),
            failover: system.failover().clone(),
            switchboard: system.switchboard().clone(),
        }))
    }

    fn domain(&self, slot: &DomainSlot, view: &RuleView) -> DomainView {
        let epoch = self.failover.state(slot.id).1;
        let probe = self.failover.probe(slot.id);
        let status = slot.status();
        DomainView {
            name: slot.name.clone(),
            role: view.state,
            epoch,
            healthy: view.health() == Health::Healthy,
            aside: view.aside,
            nic: NicView {
                name: slot.nic.name().to_owned(),
                link_up: link_up(view.link),
                counters: BTreeMap::new(),
                present: slot.nic.is_present(),
                trouble: slot.nic.trouble(),
            },
            heartbeat: status.heartbeat.load(Ordering::Relaxed),
            parked: probe.as_ref().is_some_and(|probe| probe.state() == VcpuState::Parked),
            attach: attach_name(status.attach_path.load(Ordering::Relaxed)).to_owned(),
            cpu_seconds: probe.as_ref().and_then(|p| p.cpu_ns()).map(|ns| ns as f64 / 1e9),
            exits: probe.map(|probe| exits(probe.exits())).unwrap_or_default(),
            driver: driver(slot),
            rings: rings(slot),
        }
    }
}

impl SystemView for SystemWatch {
    fn name(&self) -> &str {
        &self.name
    }

    fn policy(&self) -> &str {
        self.policy.name()
    }

    fn is_realtime(&self) -> bool {
        realtime::is_realtime()
    }

    fn domains(&self) -> Vec<DomainView> {
        let views = self.failover.views();
        self.slots.iter().zip(&views).map(|(slot, view)| self.domain(slot, view)).collect()
    }

    fn apps(&self) -> Vec<AppView> {
        let front_ends = self.switchboard.front_ends();
        let guests = front_ends.into_iter().zip(self.switchboard.figures());
        self.sockets.iter().zip(guests).map(|(socket, guest)| app(socket, guest)).collect()
    }

    fn state(&self) -> SystemState {
        self.failover.system_state()
    }

    fn nic_counters(&self) -> Vec<BTreeMap<String, u64>> {
        self.slots.iter().map(|slot| nic_counters(slot)).collect()
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        let counters = self.switchboard.counters().each();
        counters.map(|(name, count)| (name.to_owned(), count)).collect()
    }
}

fn sockets(topology: &Topology) -> Vec<(String, bool)> {
    let sockets = topology.apps.iter().map(|app| &app.socket);
    sockets.map(|socket| (socket.display().to_string(), socket.connects)).collect()
}

fn app(socket: &(String, bool), (front_ends, figures): (FrontEnds, &GuestFigures)) -> AppView {
    let text = |mac| MacAddress(mac).to_string();
    let mut macs: Vec<_> = figures.macs().map(text).collect();
    macs.sort_unstable();
    AppView {
        socket: socket.0.clone(),
        connects: socket.1,
        connected: front_ends.connected,
        waiting: front_ends.waiting,
        macs,
        macs_pushed_out: figures.pushed_out(),
        refused: figures.refused().map(|(why, count)| (why.name().to_owned(), count)).collect(),
        refused_source: figures.refused_source().map(text),
    }
}

fn nic_counters(slot: &DomainSlot) -> BTreeMap<String, u64> {
    let counters = slot.nic.counters();
    let vanished = ("vanished", slot.accounts.vanished());
    counters.each().chain([vanished]).map(|(name, count)| (name.to_owned(), count)).collect()
}

fn link_up(link: Link) -> Option<bool> {
    match link {
        Link::Up => Some(true),
        Link::Down => Some(false),
        Link::Unknown => None,
    }
}

fn attach_name(path: u32) -> &'static str {
    match path {
        attach::REATTACH => "reattach",
        attach::RESET => "reset",
        // The domain writes this word, so it can hold anything.
        _ => "none",
    }
}

fn exits(counts: ExitCounts) -> BTreeMap<String, u64> {
    named([
        ("wait", counts.waits),
        ("call", counts.calls),
        ("register-load", counts.register_loads),
        ("register-store", counts.register_stores),
        ("interruption", counts.interruptions),
    ])
}

fn driver(slot: &DomainSlot) -> BTreeMap<String, u64> {
    let counters = &slot.status().counters;
    named(
        [
            ("tx_frames", &counters.tx_frames),
            ("tx_bytes", &counters.tx_bytes),
            ("rx_frames", &counters.rx_frames),
            ("rx_bytes", &counters.rx_bytes),
            ("rx_errors", &counters.rx_errors),
            ("parks", &counters.parks),
            ("notifies", &counters.notifies),
            ("doorbells", &counters.doorbells),
        ]
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed))),
    )
}

fn named<const N: usize>(pairs: [(&str, u64); N]) -> BTreeMap<String, u64> {
    pairs.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

fn rings(slot: &DomainSlot) -> RingDepths {
    let (control, status) = (slot.control(), slot.status());
    RingDepths {
        tx_post: depth(&control.tx_post_published.0, &status.tx_post_consumed.0),
        tx_done: depth(&status.tx_done_published.0, &control.tx_done_consumed.0),
        rx_provide: depth(&control.rx_provide_published.0, &status.rx_provide_consumed.0),
        rx_done: depth(&status.rx_done_published.0, &control.rx_done_consumed.0),
    }
}

/// Entries between two cursors. The domain writes one of them, so the difference can be anything;
/// and they are read one after the other, so the reader can appear to be ahead of the writer.
fn depth(published: &AtomicU32, consumed: &AtomicU32) -> u32 {
    let consumed = consumed.load(Ordering::Relaxed);
    let ahead = published.load(Ordering::Relaxed).wrapping_sub(consumed);
    if ahead > RING_ENTRIES as u32 { 0 } else { ahead }
}

/// Translates an event of this system: names instead of numbers.
pub(crate) fn received(slots: &[Arc<DomainSlot>], event: &Event) -> ReceivedEvent {
    let name = |id: DomainId| slots[id.index()].name.clone();
    match event {
        Event::Link { nic, up } => ReceivedEvent::Link { nic: nic.clone(), up: *up },
        Event::Failover(report) => ReceivedEvent::Failover(facts(report, name)),
        Event::Ready { domain, state, at_ns } => {
            ReceivedEvent::Ready { domain: name(*domain), role: *state, at_ns: *at_ns }
        }
        Event::BuildFailed { domain, reason, given_up: _ } => {
            ReceivedEvent::BuildFailed { domain: name(*domain), reason: reason.clone() }
        }
        Event::Quarantined { domain, pause } => {
            ReceivedEvent::Quarantined { domain: name(*domain), pause: *pause }
        }
        Event::Healed { domain, delayed_us, at_ns } => {
            ReceivedEvent::Healed { domain: name(*domain), delayed_us: *delayed_us, at_ns: *at_ns }
        }
        Event::Switched(report) => ReceivedEvent::Switched {
            from: name(report.from),
            to: name(report.to),
            waited_ns: report.waited_ns,
            at_ns: report.switched_ns,
        },
        Event::Drilled(report) => ReceivedEvent::Drilled {
            domain: name(report.domain),
            blame: report.blame,
            round_trip_ns: report.round_trip_ns,
            at_ns: report.at_ns,
        },
        Event::Upgraded(report) => {
            ReceivedEvent::Upgraded { serves: name(report.serves), took: report.took }
        }
        Event::UpgradeFailed { reason } => ReceivedEvent::UpgradeFailed { reason: reason.clone() },
        Event::State { from, to } => ReceivedEvent::State { from: *from, to: *to },
        Event::Dumped { domain, folder, requested } => ReceivedEvent::Dumped {
            domain: name(*domain),
            folder: folder.display().to_string(),
            requested: *requested,
        },
        Event::DumpLost { domain, reason } => {
            ReceivedEvent::DumpLost { domain: name(*domain), reason: reason.clone() }
        }
        Event::Paused { domain } => ReceivedEvent::Paused { domain: name(*domain) },
        Event::Resumed { domain } => ReceivedEvent::Resumed { domain: name(*domain) },
        Event::Debugger { domain, attached } => {
            ReceivedEvent::Debugger { domain: name(*domain), attached: *attached }
        }
    }
}

fn facts(report: &FailoverReport, name: impl Fn(DomainId) -> String) -> FailoverFacts {
    let record = &report.record;
    FailoverFacts {
        from: name(record.from),
        epoch: record.epoch,
        was_active: record.was_active,
        to: record.to.map(&name),
        cause: record.verdict.cause(),
        evidence: record.verdict.to_string(),
        entered_ns: record.entered_ns,
        felt_ns: report.felt_ns,
        verdict_ns: record.verdict_ns,
        released_ns: record.released_ns,
        first_sent_ns: report.first_sent_ns,
        resent: report.resent,
        poisoned: report.poisoned,
        salvaged: report.salvaged,
        crash_summary: report.crash_summary.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_cursors_of_a_domain_make_no_impossible_depth() {
        let depth = |published, consumed| super::depth(&published, &consumed);
        assert_eq!(depth(AtomicU32::new(5), AtomicU32::new(2)), 3);
        assert_eq!(depth(AtomicU32::new(1), AtomicU32::new(u32::MAX)), 2);
        assert_eq!(depth(AtomicU32::new(2), AtomicU32::new(5)), 0);
        assert_eq!(depth(AtomicU32::new(70_000), AtomicU32::new(0)), 0);
    }
}
