//! A NIC is taken away from a running service and given back: unbound from vfio-pci by the kernel,
//! which waits until it is let go of, and bound again.

use std::fs;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nic::pci::PciAddress;
use platform::clock::monotonic_ns;
use serde_json::{Value, json};
use supervisor::topology::Policy;

use super::ms;
use super::service::{Service, Setup, nics};
use crate::report::Report;

/// How often a NIC is taken away, each time from the domain that serves.
const REMOVALS: usize = 4;
/// How long letting go of a NIC may take.
const LET_GO_WITHIN: Duration = Duration::from_secs(1);
/// How long the NIC is away: several looks for it.
const AWAY: Duration = Duration::from_millis(700);
/// Files of the driver.
const UNBIND: &str = "/sys/bus/pci/drivers/vfio-pci/unbind";
const BIND: &str = "/sys/bus/pci/drivers/vfio-pci/bind";

/// Takes a NIC away and gives it back. Returns how long the kernel waited for it.
fn remove(address: PciAddress) -> Result<Duration> {
    let began = Instant::now();
    fs::write(UNBIND, address.to_string()).context("unbinding")?;
    let waited = began.elapsed();
    std::thread::sleep(AWAY);
    fs::write(BIND, address.to_string()).context("binding")?;
    Ok(waited)
}

/// NICs are unbound under traffic: the other domain serves, the NIC is let go of in time, and its
/// domain is the spare again after the NIC is bound.
pub(super) fn removal(report: &Report) -> Result<Value> {
    let nics = nics()?;
    let mut service = Service::start(report, &Setup::of(Policy::FastSpare)?)?;
    let (waits, waited) = mpsc::channel();
    for _ in 0..REMOVALS {
        let waits = waits.clone();
        service.suffer("removal", |_, id, _| {
            let at_ns = monotonic_ns();
            std::thread::spawn(move || waits.send(remove(nics[id.index()])));
            Ok(("unbind", at_ns))
        })?;
    }
    drop(waits);
    let waited: Vec<Duration> = waited.into_iter().collect::<Result<_>>()?;
    ensure!(waited.len() == REMOVALS, "{} removals", waited.len());
    let result = service.finish()?.close(report)?;
    let longest = waited.iter().max().copied().unwrap_or_default();
    ensure!(longest <= LET_GO_WITHIN, "the kernel waited for {longest:?}");
    let waited_ms: Vec<f64> = waited.into_iter().map(ms).collect();
    Ok(json!({ "let_go_ms": waited_ms, "service": result }))
}
