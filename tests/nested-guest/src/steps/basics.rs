//! The machine itself.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::report::Report;
use crate::sys;

pub(super) fn modules(_: &Report) -> Result<Value> {
    let names = sys::load_modules()?;
    Ok(json!({ "modules": names }))
}

/// KVM is there, and makes a machine with a processor.
pub(super) fn kvm(_: &Report) -> Result<Value> {
    let kvm = kvm_ioctls::Kvm::new()?;
    let version = kvm.get_api_version();
    ensure!(version == 12, "KVM API version {version}");
    let vm = kvm.create_vm()?;
    vm.create_vcpu(0)?;
    Ok(json!({ "api_version": version }))
}
