//! Where a vCPU thread sleeps: parked because its domain called WAIT, or held by somebody.

use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

use shared_ring::control::wake;
use vmm_sys_util::eventfd::EventFd;

use super::life_state::LifeState;
use super::vcpu_state::VcpuState;
use crate::kvm::MicroVm;
use platform::budget::PARK_RECHECK;
use platform::readiness::wait_readable;

/// What ended a sleep; all false after a signal or when the time was over.
#[derive(Default)]
struct Woken {
    stop: bool,
    task: bool,
    kick: bool,
    nic: bool,
}

impl Woken {
    /// Sleeps until one of them is set.
    fn wait(life: &LifeState) -> Self {
        let slot = &life.slot;
        // The role is read before every sleep; who changes it kicks afterwards.
        let nic = life.watches_nic().then(|| slot.nic.queue_event().as_raw_fd());
        let (stop, task) = (life.events.stop.as_raw_fd(), life.holds.task_fd());
        let watched = [Some(stop), Some(task), Some(slot.kick.as_raw_fd()), nic];
        let readable = wait_readable(watched, PARK_RECHECK);
        readable.map_or_else(
            |_| Self::default(),
            |[stop, task, kick, nic]| Self { stop, task, kick, nic },
        )
    }
}

/// Sleeps until the domain may have work, which ends the WAIT, or is to stop or be looked at, which
/// does not. Events are consumed only here, on waking; one that came while the domain was busy makes
/// this return at once.
pub(super) fn park(life: &LifeState) -> ControlFlow<()> {
    life.set_vcpu(VcpuState::Parked);
    let reason = loop {
        let woken = Woken::wait(life);
        if woken.stop || life.is_stopped() || woken.task && life.holds.any() {
            return ControlFlow::Continue(());
        }
        if woken.task {
            life.holds.ignore_task();
        }
        let reason = take_reason(life, &woken);
        if reason != 0 {
            break reason;
        }
    };
    life.slot.control().wake_reason.store(reason, Ordering::Release);
    life.listener.woke(life.slot.id);
    ControlFlow::Break(())
}

/// Consumes the events that ended the sleep, and says which bits of [`wake`] they stand for.
fn take_reason(life: &LifeState, woken: &Woken) -> u32 {
    let consume = |event: &EventFd, is_set: bool, bit| {
        if !is_set {
            return 0;
        }
        // Somebody else may have emptied it in between: then there was an event all the same.
        let _ = event.read();
        bit
    };
    consume(&life.slot.kick, woken.kick, wake::KICK)
        | consume(life.slot.nic.queue_event(), woken.nic, wake::NIC)
        | life.pending_wake.swap(0, Ordering::AcqRel)
}

/// Waits for a task, or the end of the hold or of the life. A hold that follows another at once
/// may find the event of the first and go round once more.
pub(super) fn stay_held(vm: &mut MicroVm, life: &LifeState) {
    life.set_vcpu(VcpuState::Held);
    let (stop, holds) = (life.events.stop.as_raw_fd(), &life.holds);
    let watched = [stop, holds.resume_fd(), holds.task_fd()].map(Some);
    let Ok([_, resumed, task]) = wait_readable(watched, PARK_RECHECK) else { return };
    if resumed {
        holds.take_resume();
    }
    if task {
        holds.carry_out_task(vm);
    }
}
