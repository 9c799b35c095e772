//! DPDK's testpmd: as a vhost back-end on a TAP, and as the load of a virtio front-end.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::flood::STATION;

const PROGRAM: &str = "dpdk-testpmd";
const PACKAGES: &str = "dpdk dpdk-dev";
/// No huge pages, no devices; rings and buffers in memory of its own.
const EAL: &str = "--no-huge -m 512 --no-pci --no-telemetry";
const APP: &str = "--auto-start --stats-period 1 --nb-cores=1 --total-num-mbufs=16384";

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

/// A back-end on a socket that hands frames to a TAP and back, polling one processor.
pub(super) fn backend(socket: &Path, tap: &str) -> Command {
    let devices = [
        format!("--vdev=net_vhost0,iface={},queues=1", socket.display()),
        format!("--vdev=net_tap0,iface={tap}"),
    ];
    testpmd("backend", 1, &devices, "--forward-mode=io")
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

/// A front-end on a socket, with frames of so many bytes, check sequence apart, polling the other
/// processor. Its figures go to standard output.
pub(super) fn frontend(socket: &Path, mac: &str, mode: Mode, bytes: usize) -> Command {
    let device = format!(
        "--vdev=net_virtio_user0,path={},queues=1,queue_size=256,mac={mac}",
        socket.display()
    );
    let forward = match mode {
        Mode::Send => format!("--forward-mode=txonly --txpkts={bytes}"),
        Mode::Receive => "--forward-mode=rxonly".to_owned(),
        Mode::Return => "--forward-mode=macswap".to_owned(),
    };
    testpmd("frontend", 0, &[device], &format!("{forward} --eth-peer=0,{STATION}"))
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
pub(super) fn received_per_second(text: &str) -> Vec<f64> {
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
    fn rates_are_read() {
        let text = "  Rx-pps:            0          Rx-bps: 0\n  Tx-pps:  5  Tx-bps: 0\n\
            Tx-pps: 9\n  Rx-pps:   1200    Rx-bps:            7\n";
        assert_eq!(received_per_second(text), [0.0, 1200.0]);
        assert_eq!(median(vec![3.0, 1.0, 2.0]).unwrap(), 2.0);
    }
}
