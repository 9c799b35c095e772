//! Holding a vCPU out of the guest, and kicking it out once.

use std::sync::atomic::Ordering;

use shared_ring::Role;
use shared_ring::layout::STATUS_BASE;

use super::super::{Life, VcpuState};
use super::{Event, QUIET, Stage, eventually};
use crate::kvm::testing::guest;

// Says that it is ready and adds to its heartbeat without end.
guest!(
    busy,
    "mov rbx, 0xd0000000",
    "mov dword ptr [rbx], 0",
    "2: inc qword ptr [0x110000]",
    "jmp 2b",
);

// Says that it is ready and parks; each wake adds to its heartbeat.
guest!(
    sleepy,
    "mov rbx, 0xd0000000",
    "mov dword ptr [rbx], 0",
    "2: mov dword ptr [rbx + 0x08], 0",
    "inc qword ptr [0x110000]",
    "jmp 2b",
);

fn started(stage: &Stage, code: &[u8]) -> Life {
    let life = stage.start(code, 1, Role::Active);
    assert_eq!(stage.hear(), Event::Ready(1));
    life
}

#[test]
fn a_held_vcpu_stands_still_visibly_and_goes_on_afterwards() {
    let stage = Stage::new();
    let life = started(&stage, busy());
    for _ in 0..3 {
        let held = life.hold();
        eventually("the vCPU is held", || life.state() == VcpuState::Held);
        let before = stage.word(STATUS_BASE);
        std::thread::sleep(QUIET);
        assert_eq!(stage.word(STATUS_BASE), before);
        drop(held);
        eventually("the vCPU goes on", || stage.word(STATUS_BASE) != before);
    }
}

#[test]
fn a_parked_vcpu_is_held_too_and_no_wakeup_is_lost() {
    let stage = Stage::new();
    let life = started(&stage, sleepy());
    eventually("the domain parks", || life.state() == VcpuState::Parked);
    let held = life.hold();
    assert_eq!(life.state(), VcpuState::Held);
    stage.slot.kick.write(1).unwrap();
    std::thread::sleep(QUIET);
    assert_eq!(stage.word(STATUS_BASE), 0);
    drop(held);
    eventually("the domain has woken", || stage.word(STATUS_BASE) == 1);
}

#[test]
fn a_held_vcpu_can_be_expelled() {
    let stage = Stage::new();
    let life = started(&stage, busy());
    let _held = life.hold();
    eventually("the vCPU is held", || life.state() == VcpuState::Held);
    life.force_out();
    eventually("the vCPU is out", || life.is_out());
}

#[test]
fn a_nudge_is_an_exit_and_nothing_else() {
    let stage = Stage::new();
    let life = started(&stage, busy());
    let before = life.exits().interruptions;
    life.interrupt();
    eventually("the vCPU left the guest", || life.exits().interruptions > before);
    let beat = stage.word(STATUS_BASE);
    eventually("the vCPU goes on", || stage.word(STATUS_BASE) != beat);
    assert!(!life.is_stopped());
}

#[test]
fn an_event_that_the_vcpu_thread_has_not_taken_is_signalled() {
    let stage = Stage::new();
    let life = started(&stage, busy());
    // It does not park, so that it takes no event.
    let _held = life.hold();
    eventually("the vCPU is held", || life.state() == VcpuState::Held);
    assert!(!life.is_signalled());
    stage.nic.queue.write(1).unwrap();
    assert!(life.is_signalled());
    let control = stage.slot.control();
    control.role.store(Role::Standby as u32, Ordering::SeqCst);
    assert!(!life.is_signalled(), "a standby does not wait for its NIC");
    stage.slot.kick.write(1).unwrap();
    assert!(life.is_signalled());
}
