//! The product itself on two real NICs: crashes, and what the sender host sees of them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use warmspare::fault::{self, Site};
use warmspare::nic::discovery;
use warmspare::observe::{Stall, Witness};
use warmspare::supervisor::{Event, FailoverReport, System, Wires};
use warmspare::topology::{NicSpec, Topology};
use warmspare::traffic::{Addresses, AppProcess, Ledger, Sender};

use crate::pump::PumpedWire;
use crate::report::Report;

const FAILOVERS: usize = 21;
const PERIOD: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(15);
/// Healthy traffic between two crashes.
const HEALTHY: Duration = Duration::from_millis(150);
/// How long after a verdict the books are searched for what the crash did to them.
const AFTERMATH_NS: u64 = 100_000_000;

/// A running system between the two NICs, with traffic through it.
struct Service {
    sender: Sender,
    _app: AppProcess,
    system: System,
}

impl Service {
    fn start() -> Result<Self> {
        let mut topology = Topology::demo(Path::new("/tmp/app.sock"));
        for (domain, nic) in topology.domains.iter_mut().zip(discovery::list()?) {
            domain.nic = NicSpec::Vfio(nic.address);
        }
        let system = System::start(&topology, &mut Wires::default())?;
        let app = &topology.apps[0];
        let net = Addresses::DEFAULT_GUEST_NET;
        let app = AppProcess::spawn(Path::new("/bin/warmspare"), &app.socket, app.mac, net)?;
        let sender = Sender::spawn(PumpedWire::start()?, Addresses::DEFAULT, PERIOD, 100_000)?;
        Ok(Self { sender, _app: app, system })
    }

    fn wait(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !holds(self) {
            if Instant::now() > end {
                let events: Vec<_> = self.system.events().try_iter().collect();
                bail!("waited in vain for {what}; events: {events:?}");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn crash(&self, site: Site) -> Result<Crash> {
        let failover = self.system.failover();
        let active = failover.active().context("no domain serves")?;
        let life = failover.life(active).context("no domain serves")?;
        let slot = &self.system.slots()[active.index()];
        let injected_ns = fault::corrupt_code(slot, life.image(), site)?;
        drop(life);
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.system.events().recv_timeout(left).context("the crash was not noticed")? {
                Event::Failover(report) => return Ok(Crash { site, injected_ns, report: *report }),
                Event::BuildFailed { reason, .. } => bail!("a domain could not be built: {reason}"),
                // Whatever else happens meanwhile is not what is waited for.
                _ => {}
            }
        }
    }
}

struct Crash {
    site: Site,
    injected_ns: u64,
    report: FailoverReport,
}

impl Crash {
    fn fault_ns(&self) -> u64 {
        self.report.record.entered_ns.max(self.injected_ns)
    }

    fn row(&self, ledger: &Ledger, stalls: &[Stall]) -> Value {
        let record = &self.report.record;
        let (from_ns, to_ns) = self.gap(ledger);
        let after_ns = record.verdict_ns + AFTERMATH_NS;
        json!({
            "site": self.site,
            "detect_us": micros(self.fault_ns(), record.verdict_ns),
            "released_us": micros(record.verdict_ns, record.released_ns),
            "interruption_us": micros(from_ns, to_ns),
            "lost": ledger.lost_between(self.fault_ns() - 5_000_000, after_ns),
            "resent": self.report.resent,
            "salvaged": self.report.salvaged,
            "stall_ms": stalls.iter().filter(|stall| stall.overlaps(from_ns, to_ns))
                .map(Stall::length_ms).sum::<f64>(),
        })
    }

    fn gap(&self, ledger: &Ledger) -> (u64, u64) {
        let until_ns = self.report.record.verdict_ns + AFTERMATH_NS;
        ledger.longest_gap(self.fault_ns(), until_ns).unwrap_or((0, 0))
    }
}

fn micros(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1000.0
}

/// What the machine stood still at other times than in an interruption.
fn beside(crashes: &[Crash], ledger: &Ledger, stalls: &[Stall]) -> f64 {
    let gaps: Vec<_> = crashes.iter().map(|crash| crash.gap(ledger)).collect();
    let is_beside =
        |stall: &&Stall| !gaps.iter().any(|(from_ns, to_ns)| stall.overlaps(*from_ns, *to_ns));
    stalls.iter().filter(is_beside).map(Stall::length_ms).sum()
}

/// Crashes in every path, to and fro between the NICs; every one is recovered from.
pub(super) fn pair(_: &Report) -> Result<Value> {
    let witness = Witness::spawn()?;
    let start = Instant::now();
    let service = Service::start()?;
    service.wait("the first echo", |s| s.sender.first_echo_ns().is_some())?;
    let first_echo_ms = super::ms(start.elapsed());
    let mut crashes = Vec::new();
    for number in 0..FAILOVERS {
        service.wait("redundancy", |s| s.system.failover().is_redundant())?;
        std::thread::sleep(HEALTHY);
        let crash = service.crash(Site::ALL[number % 3])?;
        ensure!(crash.report.record.to.is_some(), "nobody took over: {:?}", crash.report);
        crashes.push(crash);
    }
    service.wait("redundancy at the end", |s| s.system.failover().is_redundant())?;
    std::thread::sleep(HEALTHY);
    let Service { sender, system, .. } = service;
    let ledger = sender.finish();
    drop(system);
    judge(&crashes, &ledger, &witness.stalls(), first_echo_ms)
}

/// Recovery is judged, times are reported: the machine under this one may be busy, and stands
/// still for longer than a failover takes.
fn judge(
    crashes: &[Crash],
    ledger: &Ledger,
    stalls: &[Stall],
    first_echo_ms: f64,
) -> Result<Value> {
    let rows: Vec<_> = crashes.iter().map(|crash| crash.row(ledger, stalls)).collect();
    let of = |key: &str| rows.iter().filter_map(|row| row[key].as_f64()).collect::<Vec<_>>();
    let interruptions = of("interruption_us");
    let stalled = of("stall_ms");
    let running = interruptions.iter().zip(&stalled).map(|(us, ms)| (us - 1000.0 * ms).max(0.0));
    let detail = json!({
        "first_echo_ms": first_echo_ms,
        "median_interruption_us": median(interruptions.clone()),
        "median_interruption_less_stalls_us": median(running.collect()),
        "sent": ledger.total_sent(),
        "echoed": ledger.total_echoed(),
        "duplicated": ledger.total_duplicated(),
        "corrupted": ledger.total_corrupted(),
        "gap_us": ledger.gaps(),
        "stalls": stalls.len(),
        "stalls_ms": stalls.iter().map(Stall::length_ms).sum::<f64>(),
        "stalls_beside_failovers_ms": beside(crashes, ledger, stalls),
        "failovers": rows,
    });
    ensure!(ledger.total_corrupted() == 0, "corrupted frames: {detail}");
    ensure!(ledger.total_echoed() * 10 > ledger.total_sent() * 9, "too much is lost: {detail}");
    Ok(detail)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
