use super::*;
use crate::testing::{FakeCalls, FakeClock, ModelNic, Personality, TestMemory, VmmRings};
use shared_ring::control::wake;

type TestDomain = Domain<'static, ModelNic, FakeCalls>;

fn start_on(
    memory: &TestMemory,
    nic: &ModelNic,
    calls: &FakeCalls,
) -> Result<TestDomain, DomainError> {
    let clock = FakeClock::default();
    // SAFETY: each test has fresh memory and starts one domain on it.
    unsafe { start(memory.domain, nic.clone(), calls.clone(), &clock) }
}

fn test_turn(domain: &mut TestDomain) -> Result<bool, DomainError> {
    turn(domain, Domain::rx_return, Domain::tx_provide)
}

#[test]
fn an_active_domain_is_ready_and_does_not_hold() {
    let memory = TestMemory::new(Role::Active);
    let nic = ModelNic::new(Personality::Hardware, memory.domain.nic);
    let calls = FakeCalls::default();
    start_on(&memory, &nic, &calls).unwrap();
    assert_eq!((calls.ready_calls(), calls.waits()), (1, 0));
    let state = memory.domain.status.state.load(Ordering::Relaxed);
    assert_eq!(state, DomainState::Serving as u32);
    assert_eq!(memory.log_text(), "attached by re-attach, link up\n");
}

#[test]
fn a_standby_holds_until_it_is_released_and_takes_buffers_meanwhile() {
    let memory = TestMemory::new(Role::Standby);
    let nic = ModelNic::new(Personality::Hardware, memory.domain.nic);
    let calls = FakeCalls::default();
    let mut vmm = memory.vmm_rings();
    let (control, status) = (memory.domain.control, memory.domain.status);
    calls.on_wait(move |waits| {
        assert_eq!(status.state.load(Ordering::Relaxed), DomainState::Attached as u32);
        assert_eq!(status.parked.load(Ordering::Relaxed), 1);
        match waits {
            1 => vmm.provide(0..300),
            2 => {}
            _ => control.role.store(Role::Active as u32, Ordering::Relaxed),
        }
    });
    start_on(&memory, &nic, &calls).unwrap();
    assert_eq!(calls.waits(), 3);
    assert_eq!(nic.peek(crate::registers::RDT), 300);
    nic.arrive(64);
    nic.arrive_broadcast(64);
    assert_eq!(nic.peek(crate::registers::RDH), 0, "filters shut until the VMM opens them");
}

#[test]
fn a_standby_whose_nic_is_gone_says_so_when_asked() {
    let memory = TestMemory::new(Role::Standby);
    let nic = ModelNic::new(Personality::Hardware, memory.domain.nic);
    let calls = FakeCalls::default();
    let control = memory.domain.control;
    let removed = nic.clone();
    calls.on_wait(move |_| {
        removed.remove();
        control.wake_reason.store(wake::CHECK, Ordering::Relaxed);
    });
    let error = start_on(&memory, &nic, &calls).err();
    assert_eq!(error, Some(DomainError::NicGone));
}

#[test]
fn a_drill_finds_a_queue_that_was_disabled() {
    let memory = TestMemory::new(Role::Drill);
    let nic = ModelNic::new(Personality::Hardware, memory.domain.nic);
    let calls = FakeCalls::default();
    let spoilt = nic.clone();
    calls.on_wait(move |waits| {
        if waits == 3 {
            spoilt.set(crate::registers::TXDCTL, 0);
        }
    });
    let error = start_on(&memory, &nic, &calls).err();
    assert!(matches!(error, Some(DomainError::NicInit(_))));
    assert_eq!(calls.waits(), 3);
}

#[test]
fn the_loop_serves_between_waits_and_ends_with_its_reason() {
    let memory = TestMemory::new(Role::Active);
    let nic = ModelNic::new(Personality::Qemu, memory.domain.nic);
    let calls = FakeCalls::default();
    let mut vmm = memory.vmm_rings();
    vmm.provide(0..511);
    let mut domain = start_on(&memory, &nic, &calls).unwrap();
    let (wire, control) = (nic.clone(), memory.domain.control);
    calls.on_wait(move |waits| {
        // Each wake brings a frame in each direction; what the one before brought is done.
        if waits > 1 {
            assert_eq!(vmm.take_received().len(), 1);
            assert_eq!(vmm.take_sent(), [waits as u16 - 1]);
            assert_eq!(wire.take_sent().len(), 1);
        }
        if waits == 10 {
            wire.remove();
            control.wake_reason.store(wake::CHECK, Ordering::Relaxed);
        }
        wire.arrive(100);
        vmm.post([VmmRings::frame(waits as u16, 60)]);
    });
    assert_eq!(serve(&mut domain, test_turn), DomainError::NicGone);
    assert_eq!(calls.waits(), 10);
}

#[test]
fn a_spare_sends_first_and_looks_afterwards() {
    let memory = TestMemory::new(Role::Active);
    let nic = ModelNic::new(Personality::Hardware, memory.domain.nic);
    let calls = FakeCalls::default();
    let mut vmm = memory.vmm_rings();
    let mut domain = start_on(&memory, &nic, &calls).unwrap();
    nic.set(crate::registers::RXDCTL, 0);
    vmm.post([VmmRings::frame(7, 60)]);
    let result = settle_in(&mut domain, test_turn);
    assert_eq!(nic.take_sent().len(), 1);
    assert_eq!(vmm.take_sent(), [7]);
    assert!(matches!(result, Err(DomainError::NicInit(_))));
}

#[test]
fn a_spare_that_is_released_early_parks_and_looks_after_its_first_frame() {
    let memory = TestMemory::new(Role::Active);
    let nic = ModelNic::new(Personality::Hardware, memory.domain.nic);
    let calls = FakeCalls::default();
    let mut vmm = memory.vmm_rings();
    let mut domain = start_on(&memory, &nic, &calls).unwrap();
    // What a look would find wrong, were it too early.
    nic.set(crate::registers::RXDCTL, 0);
    calls.on_wait(move |_| vmm.post([VmmRings::frame(7, 60)]));
    assert!(settle_in(&mut domain, test_turn).is_err());
    assert_eq!(calls.waits(), 1);
    assert_eq!(nic.take_sent().len(), 1);
}
