//! Steps about the network: broadcast and multicast frames, many pulled cables, and bridge ports
//! that stop forwarding.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::fault::Cause;
use lab::traffic::Ledger;
use platform::clock::monotonic_ns;
use serde_json::{Map, Value, json};
use supervisor::Verdict;
use warmspare_linux_guest::groups::{FrameSocket, Kind, MOST, Tally};

use super::judge;
use super::lan::{HOST_INTERFACE, Namespace, TAPS};
use super::service::InProcess;
use super::steps::{Bench, Failure, PATIENCE, SETTLE, traffic_figures};
use crate::gates::{self, Relative};
use crate::rig::StopAtEnd;

/// Time between two frames of each kind.
const GROUP_EVERY: Duration = Duration::from_millis(2);
/// How many failures the step `groups` injects: two of each cause.
const GROUP_FAULTS: usize = 6;
/// A frame that was sent up to this long before a fault may still be in the failed NIC, and be
/// lost.
const BEFORE_NS: u64 = 5_000_000;
/// A frame that is sent up to this long after the release may be lost too, until the successor's
/// filters are open and frames that waited in between have arrived.
const AFTER_NS: u64 = 5_000_000;
/// The experiment of the VxWorks article: this many pulled cables over this many datagrams.
const PULLS: usize = 9;
const DATAGRAMS: u64 = 100_000;
/// How many times a port stops forwarding, one after the other.
const DEAD_PORTS: usize = 4;
/// Time between two probes in the step `dead-ports`.
const PROBE_MS: u32 = 5;

/// The time at which frame `n` of each kind was sent, for each `n`.
type Sent = Vec<u64>;

/// Sends frames of each kind from the host until `stop` is set.
fn send_groups(host: &Namespace, stop: &AtomicBool) -> Result<Sent> {
    host.run(|| -> Result<Sent> {
        let socket = FrameSocket::sender(HOST_INTERFACE)?;
        let source = [0x02, 0x77, 0x73, 0, 0, 0x99];
        let mut sent = Sent::new();
        while !stop.load(Ordering::Acquire) && sent.len() < MOST as usize {
            let number = sent.len() as u32;
            sent.push(monotonic_ns());
            for kind in Kind::ALL {
                socket.send(&kind.frame(source, number))?;
            }
            std::thread::sleep(GROUP_EVERY);
        }
        Ok(sent)
    })?
}

impl Bench<'_> {
    /// Sends broadcasts, multicasts, ARP requests and neighbour solicitations during failovers.
    /// Each frame must arrive once, or be lost during a failover. The guest's own broadcasts must
    /// not come back to it.
    pub(super) fn groups(&mut self) -> Result<Value> {
        self.guest()?.ask("groups start")?;
        let (host, causes) = (self.lan.host(), judge::causes());
        let stop = AtomicBool::new(false);
        let (sent, failures) = std::thread::scope(|scope| -> Result<_> {
            let sender = scope.spawn(|| send_groups(host, &stop));
            let at_end = StopAtEnd(&stop);
            std::thread::sleep(SETTLE);
            let mac = self.parts.mac();
            let failures = (0..GROUP_FAULTS)
                .map(|n| self.fail_once(&mac, causes[n % causes.len()], n))
                .collect::<Result<Vec<_>>>()?;
            std::thread::sleep(SETTLE);
            drop(at_end);
            let sent = sender.join().ok().context("the sender of frames has panicked")??;
            Ok((sent, failures))
        })?;
        std::thread::sleep(SETTLE);
        let heard = self.guest()?.ask("groups stop")?;
        let word = |name: &str| {
            let mut words = heard.split(' ').filter_map(|word| word.split_once('='));
            let found = words.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
            found.with_context(|| format!("no {name} in `{heard}`"))
        };
        let mut figures = Map::new();
        for kind in Kind::ALL {
            let tally = Tally::from_word(&word(kind.name())?).context("no tally")?;
            let missing = tally.missing(sent.len() as u32);
            let outside: Vec<_> =
                missing.iter().filter(|&&n| !in_a_gap(sent[n as usize], &failures)).collect();
            ensure!(tally.doubled() == 0, "{}: {} came twice", kind.name(), tally.doubled());
            let (some, all) = (&outside[..outside.len().min(8)], outside.len());
            ensure!(all == 0, "{}: {all} lost outside of gaps, {some:?} first", kind.name());
            figures
                .insert(kind.name().into(), json!({ "sent": sent.len(), "lost": missing.len() }));
        }
        let own = word("own")?;
        ensure!(own == "0", "{own} of the guest's own broadcasts came back to it");
        figures.insert("failovers".into(), failures.len().into());
        Ok(figures.into())
    }

    /// Pulls nine cables while 100,000 datagrams are sent, one each millisecond.
    pub(super) fn pulls(&mut self) -> Result<Value> {
        self.guest()?.put_first(true)?;
        let ping = self.ping()?;
        let mac = self.parts.mac();
        let start = Instant::now();
        let whole = Duration::from_millis(DATAGRAMS);
        let mut failures = Vec::new();
        for n in 0..PULLS {
            let due = whole * (n as u32 + 1) / (PULLS as u32 + 1);
            std::thread::sleep(due.saturating_sub(start.elapsed()));
            failures.push(self.fail_once(&mac, Cause::Link, n)?);
        }
        while ping.sent() < DATAGRAMS {
            std::thread::sleep(SETTLE);
        }
        let ledger = ping.finish()?;
        self.guest()?.put_first(false)?;
        ensure!(ledger.total_corrupted() == 0, "damaged datagrams");
        self.judge_all("pulls", &failures, &ledger, gates::PULLS)
    }

    /// Makes ports of the bridge stop forwarding while their carrier stays up.
    pub(super) fn dead_ports(&mut self) -> Result<Value> {
        self.service = None;
        let mut topology = self.parts.topology.clone();
        topology.drill.probe_ms = PROBE_MS;
        self.service = Some(InProcess::start(self.lan.bridge(), &topology)?);
        self.guest()?.put_first(true)?;
        let ping = self.ping()?;
        std::thread::sleep(SETTLE);
        let mut failures = Vec::new();
        for _ in 0..DEAD_PORTS {
            failures.push(self.kill_port()?);
        }
        let ledger = ping.finish()?;
        self.guest()?.put_first(false)?;
        ensure!(ledger.total_corrupted() == 0, "damaged datagrams");
        self.judge_all("dead ports", &failures, &ledger, gates::DEAD_PORTS)
    }

    /// Judges failures of one kind by one gate.
    fn judge_all(
        &self,
        what: &str,
        failures: &[Failure],
        ledger: &Ledger,
        gate: Relative,
    ) -> Result<Value> {
        let failures: Vec<_> = failures.iter().collect();
        let (mut figures, over) = self.judge_kind(what, &failures, ledger, gate)?;
        figures["traffic"] = traffic_figures(ledger);
        judge::verdict(figures, over.as_slice())
    }

    fn kill_port(&self) -> Result<Failure> {
        let service = self.service()?;
        let failed = service.active()?;
        let injected_ns = monotonic_ns();
        self.lan.set_port_dead(TAPS[failed], true)?;
        let report = service.wait_failover_of(failed)?;
        let verdict = report.record.verdict;
        ensure!(matches!(verdict, Verdict::Port), "found as something else: {verdict:?}");
        let end = Instant::now() + PATIENCE;
        while service.active()? == failed {
            ensure!(Instant::now() < end, "no domain took over");
        }
        std::thread::sleep(SETTLE);
        self.lan.set_port_dead(TAPS[failed], false)?;
        service.wait_redundant()?;
        std::thread::sleep(SETTLE);
        Ok(Failure { cause: Cause::Link, injected_ns, report })
    }
}

/// Returns true if a frame sent at this time may be lost, because a failover was in progress.
fn in_a_gap(sent_ns: u64, failures: &[Failure]) -> bool {
    failures.iter().any(|failure| {
        let from_ns = failure.injected_ns.saturating_sub(BEFORE_NS);
        (from_ns..failure.report.record.released_ns + AFTER_NS).contains(&sent_ns)
    })
}
