//! READY, WAIT, and what wakes a parked domain.

use shared_ring::Role;
use shared_ring::control::wake;
use shared_ring::layout::{LOG_BASE, STATUS_BASE};

use super::super::{Life, VcpuState};
use super::{Event, PATIENCE, QUIET, Stage, eventually};
use crate::kvm::testing::guest;

// Notes wake reason and role in the log area, then adds to its heartbeat.
guest!(
    service,
    "mov rbx, 0xd0000000",
    "mov dword ptr [rbx], 0",
    "2: mov dword ptr [rbx + 0x08], 0",
    "mov eax, [0x100030]",
    "mov [0x112000], eax",
    "mov eax, [0x10000c]",
    "mov [0x112004], eax",
    "inc qword ptr [0x110000]",
    "jmp 2b",
);

fn parked_service(stage: &Stage, role: Role) -> Life {
    let life = stage.start(service(), 1, role);
    assert_eq!(stage.hear(), Event::Ready(1));
    eventually("the domain parks", || life.state() == VcpuState::Parked);
    assert!(life.is_ready());
    life
}

fn wakes(stage: &Stage) -> u32 {
    stage.word(STATUS_BASE)
}

/// Waits for the `n`th wake; gives its reason and the role that the domain saw.
fn woken(stage: &Stage, n: u32) -> (u32, u32) {
    eventually("the domain wakes", || wakes(stage) >= n);
    assert_eq!(wakes(stage), n);
    (stage.word(LOG_BASE), stage.word(LOG_BASE + 4))
}

#[test]
fn an_active_domain_wakes_for_kick_nic_and_check() {
    let stage = Stage::new();
    let life = parked_service(&stage, Role::Active);
    let active = Role::Active as u32;

    stage.slot.kick.write(1).unwrap();
    assert_eq!(woken(&stage, 1), (wake::KICK, active));
    stage.nic.queue.write(1).unwrap();
    assert_eq!(woken(&stage, 2), (wake::NIC, active));
    life.check();
    assert_eq!(woken(&stage, 3), (wake::CHECK | wake::KICK, active));

    std::thread::sleep(QUIET);
    assert_eq!(wakes(&stage), 3, "each event wakes once");
    assert_eq!((life.exits().calls, life.exits().waits), (1, 4));
}

#[test]
fn an_event_before_the_wait_is_not_lost() {
    let stage = Stage::new();
    stage.slot.kick.write(3).unwrap();

    let _life = stage.start(service(), 1, Role::Active);

    assert_eq!(woken(&stage, 1).0, wake::KICK);
}

#[test]
fn a_standby_sleeps_through_its_nic_and_uses_no_cpu() {
    let stage = Stage::new();
    let life = parked_service(&stage, Role::Standby);
    let cpu_ns = life.cpu_clock().now_ns().unwrap();

    stage.nic.queue.write(1).unwrap();
    std::thread::sleep(QUIET);

    assert_eq!(wakes(&stage), 0);
    assert_eq!(life.state(), VcpuState::Parked);
    assert!(life.cpu_clock().now_ns().unwrap() - cpu_ns < QUIET.as_nanos() as u64 / 10);
}

#[test]
fn a_released_standby_is_active_and_hears_its_nic() {
    let stage = Stage::new();
    let life = parked_service(&stage, Role::Standby);
    stage.nic.queue.write(1).unwrap();

    life.release();

    // Asleep as a standby it watched no NIC, so that the kick may come first and alone.
    eventually("it hears its NIC", || stage.word(LOG_BASE) & wake::NIC != 0);
    assert_eq!(stage.word(LOG_BASE + 4), Role::Active as u32);
    assert!(wakes(&stage) <= 2);
}

#[test]
fn a_parked_domain_can_be_expelled() {
    let stage = Stage::new();
    let life = parked_service(&stage, Role::Standby);

    life.force_out();

    assert!(life.wait_until_out(std::time::Instant::now() + PATIENCE));
    assert_eq!((life.state(), wakes(&stage)), (VcpuState::Out, 0));
    assert!(stage.heard.try_recv().is_err());
}
