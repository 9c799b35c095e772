//! Tests of the machine itself.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::report::Report;
use crate::sys;

pub(super) fn modules(_: &Report) -> Result<Value> {
    let names = sys::load_modules()?;
    hold_a_machine()?;
    Ok(json!({ "modules": names }))
}

/// KVM is available, and creates a machine with a processor.
pub(super) fn kvm(_: &Report) -> Result<Value> {
    let kvm = kvm_ioctls::Kvm::new()?;
    let version = kvm.get_api_version();
    ensure!(version == 12, "KVM API version {version}");
    let vm = kvm.create_vm()?;
    vm.create_vcpu(0)?;
    Ok(json!({ "api_version": version }))
}

/// Keeps one KVM machine with a processor for as long as this machine runs. When the first one is
/// made and when the last one is gone, Linux rewrites the code of its scheduler
/// (`preempt_notifier_key`) by way of a breakpoint. An emulated processor of QEMU 10.0.2 has run
/// into such a breakpoint after Linux had stopped handling it; Linux panics then.
fn hold_a_machine() -> Result<()> {
    let vm = kvm_ioctls::Kvm::new().context("KVM")?.create_vm()?;
    let vcpu = vm.create_vcpu(0)?;
    std::mem::forget((vm, vcpu));
    Ok(())
}
