use super::*;
use crate::testing::open_filters;
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
    let mut domain = start_on(&memory, &nic, &calls).unwrap();
    assert_eq!((calls.ready_calls(), calls.waits()), (1, 0));
    let state = memory.domain.status.state.load(Ordering::Relaxed);
    assert_eq!(state, DomainState::Serving as u32);
    assert_eq!(memory.log_text(), "", "the frames come first");
    domain.park().unwrap();
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
    assert_eq!(nic.peek(shared_ring::igb_registers::RDT), 300);
    nic.arrive(64);
    nic.arrive_broadcast(64);
    assert_eq!(
        nic.peek(shared_ring::igb_registers::RDH),
        0,
        "filters shut until the VMM opens them"
    );
}

#[test]
fn an_unattached_domain_with_a_nic_of_its_own_has_its_link_up_and_touches_nothing_else() {
    use shared_ring::igb_registers::{CTRL, CTRL_EXT, MDIC, PHPM, SW_FW_SYNC, SWSM};
    let memory = TestMemory::new(Role::Unattached);
    let nic = ModelNic::new(Personality::Qemu, memory.domain.nic);
    nic.drop_link();
    let calls = FakeCalls::default();
    let (control, waiting) = (memory.domain.control, nic.clone());
    calls.on_wait(move |_| {
        let of_the_link = [CTRL, CTRL_EXT, PHPM, MDIC, SWSM, SW_FW_SYNC];
        let others = |(register, _): &(u32, u32)| !of_the_link.contains(register);
        assert!(control.role() == Role::Active || !waiting.writes().iter().any(others));
        control.role.store(Role::Active as u32, Ordering::Relaxed);
    });
    let mut domain = start_on(&memory, &nic, &calls).unwrap();
    domain.park().unwrap();
    assert_eq!(memory.log_text(), "attached by re-attach, link up\n");
}

#[test]
fn an_unattached_domain_touches_no_register_of_a_shared_nic_until_it_is_released() {
    let memory = TestMemory::new(Role::Unattached);
    memory.domain.control.nic_is_shared.store(1, Ordering::Relaxed);
    let nic = ModelNic::new(Personality::Hardware, memory.domain.nic);
    let calls = FakeCalls::default();
    let (control, untouched, said) = (memory.domain.control, nic.clone(), calls.clone());
    let status = memory.domain.status;
    memory.vmm_rings().provide(0..300);
    calls.on_wait(move |waits| {
        assert!(untouched.writes().is_empty());
        let taken = status.rx_provide_consumed.0.load(Ordering::Relaxed);
        assert_eq!(taken, 300, "what only takes memory is done");
        assert_eq!(said.ready_calls(), 1, "it runs");
        assert_eq!(status.heartbeat.load(Ordering::Relaxed), waits as u64, "each wake is a beat");
        if waits == 3 {
            control.role.store(Role::Active as u32, Ordering::Relaxed);
        }
    });
    start_on(&memory, &nic, &calls).unwrap();
    assert_eq!((calls.ready_calls(), calls.waits()), (2, 3));
    assert_eq!(nic.peek(shared_ring::igb_registers::RDT), 300);
    nic.arrive_broadcast(64);
    assert!(
        nic.peek(shared_ring::igb_registers::RCTL) & shared_ring::igb_registers::rctl::BAM != 0,
        "filters open"
    );
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
    let (spoilt, control, status) = (nic.clone(), memory.domain.control, memory.domain.status);
    control.drill.store(1, Ordering::Relaxed);
    calls.on_wait(move |waits| {
        assert_eq!(status.drill.load(Ordering::Relaxed), 1, "once for each number");
        if waits == 3 {
            spoilt.set(shared_ring::igb_registers::TXDCTL, 0);
            control.drill.store(2, Ordering::Relaxed);
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
    nic.set(shared_ring::igb_registers::RXDCTL, 0);
    vmm.post([VmmRings::frame(7, 60)]);
    let result = serve_then_verify(&mut domain, test_turn);
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
    nic.set(shared_ring::igb_registers::RXDCTL, 0);
    calls.on_wait(move |_| vmm.post([VmmRings::frame(7, 60)]));
    assert!(serve_then_verify(&mut domain, test_turn).is_err());
    assert_eq!(calls.waits(), 1);
    assert_eq!(nic.take_sent().len(), 1);
}

/// Waits of a drill, counted from its beginning.
const QUESTION_SENT: u32 = 1;

/// A standby in a drill whose test does `then` while it waits; what the drill proved, and the
/// memory.
fn drill(then: impl Fn(u32, &ModelNic, TestMemory) + 'static) -> (u32, TestMemory, ModelNic) {
    let memory = TestMemory::new(Role::Drill);
    let nic = ModelNic::new(Personality::Hardware, memory.domain.nic);
    let calls = FakeCalls::default();
    let (control, status) = (memory.domain.control, memory.domain.status);
    control.drill.store(7, Ordering::Relaxed);
    control.probe_iova.store(0x4000_0000, Ordering::Relaxed);
    memory.vmm_rings().provide(0..511);
    let (wire, domain) = (nic.clone(), memory.domain);
    calls.on_wait(move |waits| {
        if status.drill.load(Ordering::Relaxed) == 7 {
            control.role.store(Role::Active as u32, Ordering::Relaxed);
        } else {
            then(waits, &wire, TestMemory { domain });
        }
    });
    start_on(&memory, &nic, &calls).unwrap();
    (status.drill_proof.load(Ordering::Relaxed), memory, nic)
}

fn put_answer(memory: &TestMemory, buffer: usize, number: u32) {
    use shared_ring::probe::{Probe, ProbeKind};
    let frame = Probe { number, kind: ProbeKind::Answer }.frame([2; 6], [6; 6], None);
    for (bytes, word) in frame.chunks_exact(8).zip(&memory.domain.rx_pool[buffer]) {
        word.store(u64::from_le_bytes(bytes.try_into().unwrap()), Ordering::Relaxed);
    }
}

fn answer(nic: &ModelNic, memory: &TestMemory, buffer: usize, number: u32) {
    put_answer(memory, buffer, number);
    open_filters(nic);
    nic.arrive(60);
}

#[test]
fn a_drill_passes_with_its_own_answer_and_keeps_the_ring_out_of_it() {
    let (proved, memory, nic) = drill(|waits, nic, memory| match waits {
        QUESTION_SENT => answer(nic, &memory, 0, 6), // of an earlier drill
        _ => answer(nic, &memory, 1, 7),
    });
    use shared_ring::status::drill as proof;
    assert_eq!(proved, proof::REGISTERS | proof::SENT | proof::ANSWERED);
    assert_eq!(nic.take_sent().len(), 1);
    let mut vmm = memory.vmm_rings();
    assert!(vmm.take_received().is_empty() && vmm.take_sent().is_empty());
    let heads = &memory.domain.rx_pool[..2];
    assert!(heads.iter().flatten().take(8).all(|word| word.load(Ordering::Relaxed) == 0));
}

#[test]
fn a_drill_without_an_answer_ends_when_the_vmm_ends_it() {
    let (proved, memory, _) = drill(|waits, _, memory| {
        if waits == 4 {
            memory.domain.control.role.store(Role::Standby as u32, Ordering::Relaxed);
        }
    });
    use shared_ring::status::drill as proof;
    assert_eq!(proved, proof::REGISTERS | proof::SENT);
    assert_eq!(memory.domain.status.state.load(Ordering::Relaxed), DomainState::Serving as u32);
}

#[test]
fn a_drill_is_abandoned_at_once_when_the_ring_must_be_served() {
    let (_, memory, nic) = drill(|waits, _, memory| {
        assert_eq!(waits, QUESTION_SENT, "no wait between the order and serving");
        memory.domain.control.role.store(Role::Active as u32, Ordering::Relaxed);
    });
    assert_eq!(memory.domain.status.state.load(Ordering::Relaxed), DomainState::Serving as u32);
    assert_eq!(nic.take_sent().len(), 1);
}

#[test]
fn a_relieved_domain_finishes_its_work_holds_and_serves_again() {
    let memory = TestMemory::new(Role::Active);
    let nic = ModelNic::new(Personality::Hardware, memory.domain.nic);
    let calls = FakeCalls::default();
    let mut vmm = memory.vmm_rings();
    vmm.provide(0..511);
    let mut domain = start_on(&memory, &nic, &calls).unwrap();
    let (wire, control, status) = (nic.clone(), memory.domain.control, memory.domain.status);
    calls.on_wait(move |waits| match waits {
        1 => {
            vmm.post([VmmRings::frame(5, 60)]);
            wire.arrive(100);
            control.role.store(Role::Standby as u32, Ordering::Relaxed);
        }
        2 => {
            assert_eq!((vmm.take_sent(), vmm.take_received().len()), (vec![5], 1));
            assert_eq!(status.state.load(Ordering::Relaxed), DomainState::Attached as u32);
            control.role.store(Role::Active as u32, Ordering::Relaxed);
            vmm.post([VmmRings::frame(6, 60)]);
        }
        _ => {
            assert_eq!(vmm.take_sent(), [6]);
            wire.remove();
            control.wake_reason.store(wake::CHECK, Ordering::Relaxed);
        }
    });
    assert_eq!(serve(&mut domain, test_turn), DomainError::NicGone);
    assert_eq!(calls.waits(), 3);
}
