//! Failovers between real NICs: crashes back and forth, every other kind of failure, and the
//! policies side by side.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail, ensure};
use lab::fault::{Cause, Victim};
use microvm::domain::Life;
use nic::registers::{RXDCTL, queue};
use serde_json::{Value, json};
use shared_ring::status::attach;
use supervisor::topology::Policy;
use warmspare_tests::gates::{NESTED_PAIR, NESTED_SHARED};

use super::service::{Service, Setup};
use crate::report::Report;

/// Number of crashes between two NICs.
const CRASHES: usize = 21;
/// Number of crashes on one shared NIC.
const SHARED_CRASHES: usize = 10;
/// Number of faults of each other cause.
const FAULTS: usize = 3;
/// Number of crashes under each policy.
const POLICY_CRASHES: usize = 5;

/// Crashes in every path, back and forth between the NICs, are all recovered from.
pub(super) fn pair(report: &Report) -> Result<Value> {
    let mut service = Service::start(report, &Setup::of(Policy::FastSpare)?)?;
    service.inject(Cause::Crash, CRASHES)?;
    service.finish()?.close_within(report, &NESTED_PAIR)
}

/// Hangs, silence in either direction and pulled cables are recovered from.
pub(super) fn causes(report: &Report) -> Result<Value> {
    let mut service = Service::start(report, &Setup::of(Policy::FastSpare)?)?;
    for cause in [Cause::Hang, Cause::SilentTx, Cause::SilentRx, Cause::Link] {
        service.inject(cause, FAULTS)?;
    }
    service.finish()?.close_within(report, &NESTED_PAIR)
}

/// With both domains on one NIC, each takes it over from the other without a reset. If the NIC's
/// queues do not come up, the takeover does a reset.
pub(super) fn shared(report: &Report) -> Result<Value> {
    let mut service = Service::start(report, &Setup::shared()?)?;
    for number in 0..SHARED_CRASHES {
        service.inject(Cause::Crash, 1)?;
        let slot = service.serving_slot()?;
        let path = slot.status().attach_path.load(Ordering::Relaxed);
        ensure!(path == attach::REATTACH, "takeover {number} took a full reset");
    }
    refuse_once(&mut service)?;
    let slot = service.serving_slot()?;
    let path = slot.status().attach_path.load(Ordering::Relaxed);
    ensure!(path == attach::RESET, "queues that did not come up were no reason for a reset");
    service.finish()?.close_within(report, &NESTED_SHARED)
}

/// Crashes the domain that serves, and keeps the NIC's receive queue from coming up when the other
/// domain attaches it: right after the driver has enabled the queue, it is disabled again, once.
fn refuse_once(service: &mut Service<'_>) -> Result<()> {
    service.suffer("refusal", |service, id, life| {
        let slot = service.system.slots()[1 - id.index()].clone();
        let successor = service.system.failover().life(slot.id).context("no domain stands by")?;
        let behind = behind_enable(&successor)?;
        let mut code = [0];
        slot.ram.read(behind, &mut code)?;
        let nic = slot.nic.clone();
        successor.inject_registers(behind, &code, Box::new(move |_| nic.poke(RXDCTL, 0)))?;
        let failed = Victim { slot: &service.system.slots()[id.index()], life, port: None };
        let injected = failed.inject(Cause::Crash, 0)?;
        Ok((injected.site, injected.at_ns))
    })?;
    Ok(())
}

/// Returns the address of the instruction behind the one that enables the receive queue, which ends
/// with the value it writes.
fn behind_enable(life: &Life) -> Result<u64> {
    const VALUE: u32 = queue::ENABLE | 8 << 8 | 8;
    let mut found = Vec::new();
    for segment in life.image().segments() {
        let places = (0u64..).zip(segment.data.windows(4));
        let places = places.filter(|(_, word)| **word == VALUE.to_le_bytes());
        found.extend(places.map(|(offset, word)| segment.address + offset + word.len() as u64));
    }
    match found[..] {
        [behind] => Ok(behind),
        _ => {
            bail!("the driver enables its receive queue with {VALUE:#x} in {} places", found.len())
        }
    }
}

/// Runs the three policies, each with the same faults.
pub(super) fn policies(report: &Report) -> Result<Value> {
    let (mut summary, mut details) = (Vec::new(), Vec::new());
    for policy in [Policy::FastSpare, Policy::Spare, Policy::Reboot] {
        let mut service = Service::start(report, &Setup::of(policy)?)?;
        service.inject(Cause::Crash, POLICY_CRASHES)?;
        let mut detail = service.finish()?.close(report)?;
        if let Some(Value::Array(rows)) = detail.get_mut("summary").map(Value::take) {
            summary.extend(rows);
        }
        details.push(detail);
    }
    Ok(json!({ "summary": summary, "runs": details }))
}
