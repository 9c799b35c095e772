//! DPDK's testpmd: as a vhost back-end on a TAP, and as the load of a virtio front-end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::flood::STATION;
use crate::realguest::lan::Namespace;
use crate::realguest::service::Program;

const PROGRAM: &str = "dpdk-testpmd";
const PACKAGES: &str = "dpdk dpdk-dev";
/// No huge pages, no devices; rings and buffers in memory of its own.
const EAL: &str = "--no-huge -m 512 --no-pci --no-telemetry";
const APP: &str = "--auto-start --stats-period 1 --nb-cores=1 --total-num-mbufs=16384";

/// Where a front-end polls, and where what it polls does.
const FRONTEND_PROCESSOR: usize = 0;
pub(super) const BACKEND_PROCESSOR: usize = 1;

/// testpmd looks each second, and starts within two; on a busy machine it may wait for its turn.
const LOOK_DEADLINE: Duration = Duration::from_secs(30);
/// For a front-end that has been asked to end.
const END_DEADLINE: Duration = Duration::from_secs(20);

/// Whether it is there; installed if that is permitted.
///
/// # Errors
/// It is missing: what to do.
pub(super) fn find_or_install() -> Result<()> {
    if is_there() {
        return Ok(());
    }
    let mut apt = Command::new("apt-get");
    apt.args(["-qq", "-y", "--no-install-recommends", "install"]).args(PACKAGES.split(' '));
    let output = apt.env("DEBIAN_FRONTEND", "noninteractive").output();
    let said = match output {
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
        Err(error) => error.to_string(),
    };
    ensure!(is_there(), "{PROGRAM} is missing (apt-get install {PACKAGES}): {said}");
    Ok(())
}

fn is_there() -> bool {
    let mut command = Command::new(PROGRAM);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// A back-end on a socket that hands frames to a TAP and back, polling [`BACKEND_PROCESSOR`].
pub(super) fn backend(socket: &Path, tap: &str) -> Command {
    let devices = [
        format!("--vdev=net_vhost0,iface={},queues=1", socket.display()),
        format!("--vdev=net_tap0,iface={tap}"),
    ];
    testpmd("backend", BACKEND_PROCESSOR, &devices, "--forward-mode=io")
}

/// What a front-end does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Sends as fast as it can.
    Send,
    /// Takes what comes.
    Receive,
    /// Sends back what comes, to whom it came from.
    Return,
}

/// A front-end that runs, on [`FRONTEND_PROCESSOR`].
pub(super) struct Frontend {
    program: Program,
    log: PathBuf,
}

impl Frontend {
    /// Starts one on a socket, with frames of so many bytes, check sequence apart, and waits for its
    /// first figures.
    ///
    /// # Errors
    /// It does not run.
    pub(super) fn start(
        namespace: &Namespace,
        socket: &Path,
        mac: &str,
        mode: Mode,
        bytes: usize,
    ) -> Result<Self> {
        let log = socket.with_extension("testpmd.log");
        let mut command = frontend(socket, mac, mode, bytes);
        command.stdout(Stdio::from(File::create(&log)?));
        let this = Self { program: Program::spawn(namespace, &mut command)?, log };
        this.wait_for_looks(0, 1)?;
        Ok(this)
    }

    /// Bytes that it has written so far.
    pub(super) fn written(&self) -> Result<usize> {
        Ok(fs::read_to_string(&self.log)?.len())
    }

    /// Waits until it has looked at its figures so often from a place in what it wrote on: what it
    /// received each time, frames per second.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn wait_for_looks(&self, from: usize, looks: usize) -> Result<Vec<f64>> {
        let end = Instant::now() + LOOK_DEADLINE;
        loop {
            let text = fs::read_to_string(&self.log)?;
            let seen = received_per_second(text.get(from..).unwrap_or_default());
            if seen.len() >= looks {
                return Ok(seen);
            }
            ensure!(Instant::now() < end, "testpmd does not run: {}", last_line(&text));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn end(self) -> Result<()> {
        self.program.interrupt(END_DEADLINE)
    }

    /// The same, and what it has counted.
    ///
    /// # Errors
    /// It does not end, or say so.
    pub(super) fn end_and_count(self) -> Result<Totals> {
        let log = self.log.clone();
        self.end()?;
        totals(&fs::read_to_string(log)?).context("testpmd does not say what it has forwarded")
    }
}

/// Frames that a front-end has handled from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) received: u64,
    /// Put into its ring.
    pub(super) sent: u64,
    /// For which there was no room in it.
    pub(super) dropped: u64,
}

/// From its last words. Its figures of each second do not speak of dropped frames.
fn totals(text: &str) -> Option<Totals> {
    let number = |line: &str, name: &str| -> Option<u64> {
        line.split_once(name)?.1.split_whitespace().next()?.parse().ok()
    };
    let last = |name: &str| {
        text.lines().rev().find(|line| line.contains(name) && line.contains("-dropped:"))
    };
    let (rx, tx) = (last("RX-packets:")?, last("TX-packets:")?);
    Some(Totals {
        received: number(rx, "RX-packets:")?,
        sent: number(tx, "TX-packets:")?,
        dropped: number(tx, "TX-dropped:")?,
    })
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().last().unwrap_or("it says nothing")
}

fn frontend(socket: &Path, mac: &str, mode: Mode, bytes: usize) -> Command {
    let device = format!(
        "--vdev=net_virtio_user0,path={},queues=1,queue_size=256,mac={mac}",
        socket.display()
    );
    let forward = match mode {
        Mode::Send => format!("--forward-mode=txonly --txpkts={bytes}"),
        Mode::Receive => "--forward-mode=rxonly".to_owned(),
        Mode::Return => "--forward-mode=macswap".to_owned(),
    };
    let forward = format!("{forward} --eth-peer=0,{STATION}");
    testpmd("frontend", FRONTEND_PROCESSOR, &[device], &forward)
}

fn testpmd(name: &str, processor: usize, devices: &[String], forward: &str) -> Command {
    // Its figures are wanted as they come.
    let mut command = Command::new("stdbuf");
    command
        .args(["--output=L", PROGRAM])
        .arg(format!("--lcores=0@{processor},1@{processor}"))
        .args(EAL.split(' '))
        .arg(format!("--file-prefix=warmspare-{}-{name}", std::process::id()))
        .args(devices)
        .arg("--")
        .args(forward.split(' '))
        .args(APP.split(' '));
    command
}

/// Frames per second that a front-end received, each from one look to the next, from what it wrote.
fn received_per_second(text: &str) -> Vec<f64> {
    let rates = text.lines().filter_map(|line| line.trim().strip_prefix("Rx-pps:"));
    rates.filter_map(|rest| rest.split_whitespace().next()?.parse().ok()).collect()
}

/// A median.
pub(super) fn median(mut values: Vec<f64>) -> Result<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().context("nothing was measured")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read() {
        let text = "  RX-packets: 7   RX-missed: 0   RX-bytes:  9\n\
            ---- Forward statistics for port 0  ----\n\
            RX-packets: 12  RX-dropped: 0  RX-total: 12\n\
            TX-packets: 10  TX-dropped: 2  TX-total: 12\n";
        assert_eq!(totals(text), Some(Totals { received: 12, sent: 10, dropped: 2 }));
        assert_eq!(totals("RX-packets: 7   RX-missed: 0\n"), None);
    }

    #[test]
    fn rates_are_read() {
        let text = "  Rx-pps:            0          Rx-bps: 0\n  Tx-pps:  5  Tx-bps: 0\n\
            Tx-pps: 9\n  Rx-pps:   1200    Rx-bps:            7\n";
        assert_eq!(received_per_second(text), [0.0, 1200.0]);
        assert_eq!(median(vec![3.0, 1.0, 2.0]).unwrap(), 2.0);
    }
}
