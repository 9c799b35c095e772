//! Failovers between real NICs: crashes to and fro, every other kind of failure, and the policies
//! side by side.

use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use shared_ring::status::attach;
use warmspare::fault::Cause;
use warmspare::topology::Policy;

use super::service::{Service, Setup};
use crate::report::Report;

const CRASHES: usize = 21;
/// On one shared NIC.
const SHARED_CRASHES: usize = 10;
/// Of each other cause.
const FAULTS: usize = 3;
/// Of each policy.
const POLICY_CRASHES: usize = 5;

/// Crashes in every path, to and fro between the NICs; every one is recovered from.
pub(super) fn pair(report: &Report) -> Result<Value> {
    let mut service = Service::start(report, &Setup::of(Policy::FastSpare)?)?;
    service.inject(Cause::Crash, CRASHES)?;
    service.finish()?.close(report)
}

/// Hangs, silence either way, pulled cables.
pub(super) fn causes(report: &Report) -> Result<Value> {
    let mut service = Service::start(report, &Setup::of(Policy::FastSpare)?)?;
    for cause in [Cause::Hang, Cause::SilentTx, Cause::SilentRx, Cause::Link] {
        service.inject(cause, FAULTS)?;
    }
    service.finish()?.close(report)
}

/// Both domains on one NIC: each takes it over from the other, without a reset.
pub(super) fn shared(report: &Report) -> Result<Value> {
    let mut service = Service::start(report, &Setup::shared()?)?;
    for number in 0..SHARED_CRASHES {
        service.inject(Cause::Crash, 1)?;
        let slot = service.serving_slot()?;
        let path = slot.status().attach_path.load(Ordering::Relaxed);
        ensure!(path == attach::REATTACH, "takeover {number} took a full reset");
    }
    service.finish()?.close(report)
}

/// The three policies, each with the same faults.
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
