//! The vCPU thread of one life.
//!
//! ```text
//!  Starting ─► InGuest ─► Serving ─► InGuest ...
//!                            │ ▲ WAIT
//!                            ▼ │
//!                          Parked
//!  before each entry: Held, for as long as a debugger or an injector wants it
//!  any of them ─► Out: forced out, or failed
//! ```
//! The thread looks whether it is to stop after every exit, before anything is done for the domain:
//! what a domain says after the verdict is not carried out.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use shared_ring::hypercall::offset;

use super::eventfd::{is_set_within, signal};
use super::exits::carry_out;
use super::fault::Fault;
use super::life_state::{FinalState, LifeState};
use super::park::{park, stay_held};
use super::vcpu_state::VcpuState;
use crate::kvm::{CrashRecord, Exit, MicroVm};
use platform::budget::PARK_RECHECK;
use platform::clock::monotonic_ns;

/// How the loop ended.
enum End {
    ForcedOut,
    Fault(Fault),
}

/// Body of the vCPU thread.
pub(super) fn run(mut vm: MicroVm, life: &LifeState) {
    let turns = AssertUnwindSafe(|| live(&mut vm, life));
    let end = catch_unwind(turns).unwrap_or(End::Fault(Fault::VcpuThread));
    life.set_vcpu(VcpuState::Out);
    let fault = match end {
        End::ForcedOut => None,
        End::Fault(fault) => Some(fault),
    };
    if let Some(fault) = &fault
        && life.fail()
    {
        report(life, fault);
    }
    signal(&life.events.out);
    keep(vm, life, fault);
    // Ending a thread is work for the kernel; it can wait until the failover is over.
    while !is_set_within(&life.events.retire, PARK_RECHECK) {}
}

fn report(life: &LifeState, fault: &Fault) {
    let entered_ns = life.last_entry_ns.load(Ordering::Relaxed);
    let tell = || life.listener.failed(life.slot.id, life.epoch, fault, entered_ns);
    if catch_unwind(AssertUnwindSafe(tell)).is_err() {
        tracing::error!(domain = life.slot.name, "whoever hears of faults panicked");
    }
}

/// Stores the outcome and the machine for later.
fn keep(vm: MicroVm, life: &LifeState, mut fault: Option<Fault>) {
    if let Some(Fault::Exception(record)) = &mut fault
        && let Err(error) = vm.complete_record(record)
    {
        tracing::warn!(domain = life.slot.name, %error, "crash record without all registers");
    }
    let registers = vm.registers().ok();
    *life.final_state() = FinalState { vm: Some(vm), fault, registers, complete: true };
}

fn live(vm: &mut MicroVm, life: &LifeState) -> End {
    // It has called WAIT, and there was no reason yet to let it go on.
    let mut waits = false;
    while !life.is_stopped() {
        if life.holds.any() {
            stay_held(vm, life);
            continue;
        }
        if waits {
            waits = park(life).is_continue();
            continue;
        }
        life.last_entry_ns.store(monotonic_ns(), Ordering::Relaxed);
        life.set_vcpu(VcpuState::InGuest);
        let exit = vm.run();
        life.set_vcpu(VcpuState::Serving);
        if life.is_stopped() {
            break;
        }
        let interrupted = matches!(exit, Ok(Exit::Interrupted));
        let outcome = match exit {
            Ok(Exit::Hypercall { offset: offset::WAIT, .. }) => {
                life.exits.waits.increment();
                waits = true;
                continue;
            }
            Ok(exit) => carry_out(exit, life),
            Err(error) => ControlFlow::Break(Fault::Kvm { errno: error.errno() }),
        };
        match outcome {
            ControlFlow::Continue(()) if interrupted => life.samples.take(vm),
            ControlFlow::Continue(()) => {}
            ControlFlow::Break(Fault::Exception(record)) if is_ours(vm, life, record) => {}
            ControlFlow::Break(fault) => return End::Fault(fault),
        }
    }
    End::ForcedOut
}

/// Deals with an exception that an injection or a breakpoint caused. Returns true if it was one,
/// and the program can run on.
fn is_ours(vm: &mut MicroVm, life: &LifeState, record: CrashRecord) -> bool {
    let injected = life.injection.is_reached(&record) && inject(vm, life, record);
    injected || life.breakpoints.meet(vm, &life.slot.ram, &life.holds, record)
}

/// Puts an injected fault in; meanwhile the injector holds the vCPU.
fn inject(vm: &mut MicroVm, life: &LifeState, record: CrashRecord) -> bool {
    life.set_vcpu(VcpuState::Held);
    life.injection.carry_out(vm, &life.slot.ram, record)
}
