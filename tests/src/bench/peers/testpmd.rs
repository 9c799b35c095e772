//! DPDK's testpmd, as a vhost back-end on a TAP and as the load through a virtio front-end.

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
/// No huge pages and no devices: rings and buffers are in testpmd's own memory.
const EAL: &str = "--no-huge -m 512 --no-pci --no-telemetry";
const APP: &str = "--auto-start --stats-period 1 --nb-cores=1 --total-num-mbufs=16384";

/// Processors that the front-end and the back-end poll on.
const FRONTEND_PROCESSOR: usize = 0;
pub(super) const BACKEND_PROCESSOR: usize = 1;

/// testpmd prints figures each second, and starts within two; on a busy machine it may wait for
/// its turn.
const LOOK_DEADLINE: Duration = Duration::from_secs(30);
/// How long a front-end may take to end after it was asked to.
const END_DEADLINE: Duration = Duration::from_secs(20);

/// Checks that testpmd is installed, and tries to install it if it is not.
///
/// # Errors
/// testpmd is missing and cannot be installed; the error says what to do.
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

/// The command of a back-end that forwards frames between a socket and a TAP, polling on
/// [`BACKEND_PROCESSOR`].
pub(super) fn backend(socket: &Path, tap: &str) -> Command {
    let devices = [
        format!("--vdev=net_vhost0,iface={},queues=1", socket.display()),
        format!("--vdev=net_tap0,iface={tap}"),
    ];
    testpmd("backend", BACKEND_PROCESSOR, &devices, "--forward-mode=io")
}

/// What a front-end does with frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Sends as fast as it can.
    Send,
    /// Receives only.
    Receive,
    /// Sends each received frame back to its sender.
    Return,
}

/// A running front-end, on [`FRONTEND_PROCESSOR`].
pub(super) struct Frontend {
    program: Program,
    log: PathBuf,
}

impl Frontend {
    /// Starts one on a socket, with frames of `bytes` bytes without check sequence, and waits for
    /// its first figures.
    ///
    /// # Errors
    /// testpmd does not run.
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

    /// Length of its output so far, in bytes.
    pub(super) fn written(&self) -> Result<usize> {
        Ok(fs::read_to_string(&self.log)?.len())
    }

    /// Waits until it has printed its figures `looks` times in its output from offset `from` on;
    /// returns the frames per second that it received each time.
    ///
    /// # Errors
    /// It does not print them in time.
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
    /// It does not end in time.
    pub(super) fn end(self) -> Result<()> {
        self.program.interrupt(END_DEADLINE)
    }

    /// Ends it as [`Self::end`] does, and returns what it has counted.
    ///
    /// # Errors
    /// It does not end in time, or its output has no totals.
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
    /// Frames put into its ring.
    pub(super) sent: u64,
    /// Frames for which its ring had no room.
    pub(super) dropped: u64,
}

/// Reads the totals at the end of its output. The figures of each second omit dropped frames.
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
    // Line-buffered, because its figures are read while it runs.
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

/// Reads the frames per second that a front-end received, one value for each time that it printed.
fn received_per_second(text: &str) -> Vec<f64> {
    let rates = text.lines().filter_map(|line| line.trim().strip_prefix("Rx-pps:"));
    rates.filter_map(|rest| rest.split_whitespace().next()?.parse().ok()).collect()
}

/// Returns the median; an error if there are no values.
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
