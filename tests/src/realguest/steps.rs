//! The steps, in order. Each step leaves a guest that answers, for the next step.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::fault::Cause;
use lab::traffic::{Ledger, percentile};
use operate::observe::Witness;
use platform::clock::monotonic_ns;
use serde_json::{Value, json};
use supervisor::FailoverReport;

use super::guest::{GUEST, LinuxGuest};
use super::lan::{Lan, TAPS};
use super::ping::Ping;
use super::service::{InProcess, Program};
use super::stream::{self, Typing};
use super::{Parts, judge};

const PERIOD: Duration = Duration::from_millis(1);
/// How long a step waits for service to come back before it fails. This is not a promise to users.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// The period before a fault, and after its verdict, in which echoes are examined.
const AROUND: Duration = Duration::from_millis(60);
/// How long a step waits after it has asked the guest for something new.
pub(super) const SETTLE: Duration = Duration::from_millis(500);
/// How long the guest's link stays down: some hundred datagrams.
const LINK_DOWN: Duration = Duration::from_millis(200);
/// Traffic between two faults.
const PAUSE: Duration = Duration::from_millis(150);

/// 100 MB, in the guest's blocks of 64 KiB.
const BLOCKS: u64 = 1526;
/// How many blocks are sent to measure a rate without faults.
const QUIET_BLOCKS: u64 = 400;

/// A guest, a LAN, and the service between them.
pub(super) struct Bench<'a> {
    pub(super) lan: &'a Lan,
    pub(super) parts: &'a Parts,
    failovers: u32,
    pub(super) service: Option<InProcess>,
    pub(super) guest: Option<LinuxGuest>,
    boot: Duration,
    pub(super) witness: Witness,
}

/// Steps that run only if they are named: one takes too long for every run, the other fetches
/// libvirt.
pub(super) const ONLY_BY_NAME: [&str; 2] = ["pulls", "libvirt"];

/// A step's name and its function.
type Step<'a> = (&'static str, fn(&mut Bench<'a>) -> Result<Value>);

pub(super) fn all<'a>() -> Vec<Step<'a>> {
    vec![
        ("boot", Bench::booted),
        ("jitter", Bench::jitter),
        ("failovers", Bench::failovers),
        ("transfer", Bench::transfer),
        ("groups", Bench::groups),
        ("pulls", Bench::pulls),
        ("link", Bench::link_down_and_up),
        ("rebind", Bench::rebind),
        ("reboot", Bench::reboot),
        ("front-end", Bench::front_end_again),
        ("migrate", Bench::migrate),
        ("dead-ports", Bench::dead_ports),
        ("libvirt", Bench::libvirt),
        ("restart", Bench::restart),
    ]
}

impl<'a> Bench<'a> {
    /// Starts the service and boots the guest. Waits until the service is redundant and the guest
    /// is ready.
    pub(super) fn start(lan: &'a Lan, parts: &'a Parts, failovers: u32) -> Result<Self> {
        let service = InProcess::start(lan.bridge(), &parts.topology)?;
        let start = Instant::now();
        let guest = parts.boot()?;
        guest.wait_ready()?;
        Ok(Self {
            lan,
            parts,
            failovers,
            service: Some(service),
            guest: Some(guest),
            boot: start.elapsed(),
            witness: Witness::spawn()?,
        })
    }

    pub(super) fn service(&self) -> Result<&InProcess> {
        self.service.as_ref().context("the service runs elsewhere")
    }

    pub(super) fn guest(&mut self) -> Result<&mut LinuxGuest> {
        self.guest.as_mut().context("there is no guest")
    }

    pub(super) fn ping(&self) -> Result<Ping> {
        let ping = Ping::start(self.lan.host(), GUEST, PERIOD)?;
        ping.wait_answers(PATIENCE)?;
        Ok(ping)
    }

    /// Checks that no domain has failed since the last fault.
    pub(super) fn expect_no_uncaused_failover(&self) -> Result<()> {
        self.service.as_ref().map_or(Ok(()), InProcess::expect_no_uncaused_failover)
    }

    fn booted(&mut self) -> Result<Value> {
        let start = Instant::now();
        let ledger = self.ping()?.finish()?;
        ensure!(ledger.total_corrupted() == 0, "damaged datagrams");
        let answered = start.elapsed();
        Ok(json!({ "boot_ms": millis(self.boot), "answers_after_ms": millis(answered) }))
    }

    /// Measures the guest's own jitter, without faults.
    fn jitter(&mut self) -> Result<Value> {
        self.guest()?.put_first(true)?;
        let ping = self.ping()?;
        std::thread::sleep(Duration::from_secs(5));
        let ledger = ping.finish()?;
        self.guest()?.put_first(false)?;
        ensure!(ledger.total_corrupted() == 0, "damaged datagrams");
        Ok(traffic_figures(&ledger))
    }

    fn failovers(&mut self) -> Result<Value> {
        let mac = self.parts.mac();
        let before = self.guest()?.figure("carrier_changes")?;
        let errors_before = self.guest()?.ask("errors")?;
        self.guest()?.put_first(true)?;
        let ping = self.ping()?;
        let typing = Typing::start(self.lan.host(), GUEST)?;
        // An emulated processor needs some 20 ms for code that it runs for the first time, such as
        // the code for a new connection.
        std::thread::sleep(SETTLE);
        let (causes, mut reports) = (judge::causes(), Vec::new());
        for number in 0..self.failovers {
            let number = number as usize;
            reports.push(self.fail_once(&mac, causes[number % causes.len()], number)?);
        }
        ping.wait_answers(PATIENCE)?;
        let typed = typing.finish()?;
        let ledger = ping.finish()?;
        self.guest()?.put_first(false)?;
        ensure!(ledger.total_corrupted() == 0, "damaged datagrams");
        let after = self.guest()?.figure("carrier_changes")?;
        ensure!(after == before, "the guest has seen its carrier change");
        let errors = self.guest()?.ask("errors")?;
        ensure!(errors == errors_before, "the guest's kernel complains: {errors}");
        let (by_cause, over) = self.judge_causes(&reports, &ledger)?;
        let figures = json!({
            "failovers": reports.len(),
            "by_cause": by_cause,
            "traffic": traffic_figures(&ledger),
            "session": { "lines": typed.lines, "slowest_ms": millis(typed.slowest) },
        });
        judge::verdict(figures, &over)
    }

    /// 100 MB each way over TCP, every byte checked, while the driver crashes.
    fn transfer(&mut self) -> Result<Value> {
        let mac = self.parts.mac();
        let host = self.lan.host();
        let quiet =
            [stream::send(host, GUEST, QUIET_BLOCKS)?, stream::receive(host, GUEST, QUIET_BLOCKS)?];
        let cut = self.service()?.counters().tx_cut.get();
        ensure!(cut > 0, "the guest leaves no segmentation to us");
        let mut crashes = 0;
        let rates = std::thread::scope(|scope| -> Result<[f64; 2]> {
            let streams = scope.spawn(|| -> Result<[f64; 2]> {
                let to_guest = stream::send(host, GUEST, BLOCKS)?;
                Ok([to_guest, stream::receive(host, GUEST, BLOCKS)?])
            });
            while !streams.is_finished() {
                self.fail_once(&mac, Cause::Crash, crashes)?;
                crashes += 1;
            }
            streams.join().ok().context("a stream has panicked")?
        })?;
        Ok(json!({
            "quiet_mb_s": { "to_guest": quiet[0], "from_guest": quiet[1] },
            "cut_frames": cut,
            "crashes": crashes,
            "crashing_mb_s": { "to_guest": rates[0], "from_guest": rates[1] },
        }))
    }

    /// Injects one fault. Service and redundancy must come back, and the bridge must have learned
    /// the guest's address at the other port.
    pub(super) fn fail_once(&self, mac: &str, cause: Cause, variant: usize) -> Result<Failure> {
        let service = self.service()?;
        service.settle()?;
        let failed = service.active()?;
        let tap = TAPS[failed];
        let injected_ns = monotonic_ns();
        if cause == Cause::Link {
            self.lan.bridge().ip(&format!("link set {tap} down"))?;
        } else {
            service.inject(cause, variant)?;
        }
        let report = service.wait_failover_of(failed)?;
        let active = service.active()?;
        let (from, verdict) = (report.record.from.index(), report.record.verdict);
        let is_answer = from == failed && verdict.cause() == cause.name();
        ensure!(is_answer, "a fault ({}) was found as {verdict:?}", cause.name());
        ensure!(active != failed, "no domain took over: {verdict:?}");
        let end = Instant::now() + PATIENCE;
        while self.lan.port_of(mac)?.as_deref() != Some(TAPS[active]) {
            ensure!(
                Instant::now() < end,
                "the bridge does not learn the guest at {}",
                TAPS[active]
            );
        }
        if cause == Cause::Link {
            self.lan.bridge().ip(&format!("link set {tap} up"))?;
        }
        service.wait_redundant()?;
        std::thread::sleep(PAUSE);
        Ok(Failure { cause, injected_ns, report })
    }

    fn link_down_and_up(&mut self) -> Result<Value> {
        let ping = self.ping()?;
        let guest = self.guest()?;
        guest.ask("link down")?;
        // Echoes that were already on their way still arrive.
        std::thread::sleep(PAUSE);
        let (last_echo_ns, sent) = (ping.last_echo_ns(), ping.sent());
        std::thread::sleep(LINK_DOWN);
        ensure!(ping.last_echo_ns() == last_echo_ns, "the guest answers though its link is down");
        ensure!(ping.sent() > sent, "the guest was asked nothing while its link was down");
        guest.ask("link up")?;
        let back = ping.wait_answers(PATIENCE)?;
        ping.finish()?;
        Ok(json!({ "back_ms": millis(back) }))
    }

    fn rebind(&mut self) -> Result<Value> {
        let ping = self.ping()?;
        let guest = self.guest()?;
        guest.ask("unbind")?;
        guest.ask("bind")?;
        let back = ping.wait_answers(PATIENCE)?;
        ping.finish()?;
        Ok(json!({ "back_ms": millis(back) }))
    }

    fn reboot(&mut self) -> Result<Value> {
        let ping = self.ping()?;
        let start = Instant::now();
        let guest = self.guest()?;
        guest.tell("reboot")?;
        guest.wait_ready()?;
        ping.wait_answers(PATIENCE)?;
        ping.finish()?;
        Ok(json!({ "back_ms": millis(start.elapsed()) }))
    }

    /// QEMU is killed, and a new one connects.
    fn front_end_again(&mut self) -> Result<Value> {
        self.guest = None;
        let start = Instant::now();
        let guest = self.parts.boot()?;
        guest.wait_ready()?;
        self.guest = Some(guest);
        self.ping()?.finish()?;
        Ok(json!({ "back_ms": millis(start.elapsed()) }))
    }

    /// The VMM's whole process is killed without warning and started again, several times. Here the
    /// VMM is the separate program, with the example's topology. The guest must reconnect by
    /// itself.
    fn restart(&mut self) -> Result<Value> {
        let ping = self.ping()?;
        self.service = None;
        let mut back_ms = Vec::new();
        for _ in 0..4 {
            let program = Program::start(self.lan.bridge(), &self.parts.topology_file)?;
            let back = ping.wait_answers(PATIENCE)?;
            back_ms.push(millis(back));
            std::thread::sleep(PAUSE);
            drop(program);
        }
        let ledger = ping.finish()?;
        ensure!(ledger.total_corrupted() == 0, "damaged datagrams");
        Ok(json!({ "back_ms": back_ms, "duplicated": ledger.total_duplicated() }))
    }
}

pub(super) fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 100.0
}

/// A fault and the failover that it caused.
pub(super) struct Failure {
    pub(super) cause: Cause,
    pub(super) injected_ns: u64,
    pub(super) report: FailoverReport,
}

impl Failure {
    /// The longest time between two echoes after the fault. A fault in the receive path takes
    /// effect with the next frame; a hang is detected after some milliseconds.
    pub(super) fn silence(&self, ledger: &Ledger) -> Option<(u64, u64)> {
        let around_ns = AROUND.as_nanos() as u64;
        let gap = ledger.longest_gap(self.injected_ns, self.report.record.verdict_ns + around_ns);
        gap.map(|gap| (gap.from_ns, gap.to_ns))
    }

    /// The longest time between two echoes without a fault: in a period of `AROUND` right before
    /// it, milliseconds.
    pub(super) fn healthy_ms(&self, ledger: &Ledger) -> f64 {
        let around_ns = AROUND.as_nanos() as u64;
        // The silence that the fault causes begins with the last echo before it.
        let at_fault = ledger.longest_gap(self.injected_ns, self.injected_ns + 1);
        let last_ns = at_fault.map_or(self.injected_ns, |gap| gap.from_ns);
        let before = ledger.longest_gap(last_ns.saturating_sub(around_ns), last_ns - 1);
        before.map_or(0.0, |gap| gap.length_ns() as f64 / 1e6)
    }

    /// From the verdict to the spare's first frame, milliseconds.
    pub(super) fn switch_ms(&self) -> Option<f64> {
        let sent_ns = self.report.first_sent_ns?.checked_sub(self.report.record.verdict_ns)?;
        Some(sent_ns as f64 / 1e6)
    }
}

pub(super) fn spread(mut values: Vec<f64>) -> Value {
    values.sort_by(f64::total_cmp);
    let at = |share| percentile(&values, share);
    json!({ "min": at(0.0), "median": at(0.5), "p90": at(0.9), "max": at(1.0) })
}

pub(super) fn traffic_figures(ledger: &Ledger) -> Value {
    let gaps = ledger.gaps();
    json!({
        "sent": ledger.total_sent(),
        "lost": ledger.total_sent() - ledger.total_echoed(),
        "duplicated": ledger.total_duplicated(),
        "gap_us": gaps,
    })
}
