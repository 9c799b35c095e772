use super::*;
use crate::testing::{FakeClock, ModelNic, Personality, TestMemory};
use shared_ring::igb_registers::{ctrl, ctrl_ext, icr, phy, rctl, tctl};
use shared_ring::layout::{MAX_GUESTS, RX_SLOT_EMPTY};
use shared_ring::status::attach;

const BOTH: [Personality; 2] = [Personality::Hardware, Personality::Qemu];
const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];

fn plan(role: Role) -> AttachPlan {
    let dma = 0x1_1000_0000;
    AttachPlan {
        rx_ring_iova: dma,
        tx_ring_iova: dma + 0x2000,
        mac: MAC,
        other_macs: [[0; 6]; MAX_GUESTS - 1],
        mtu: 1500,
        role,
    }
}

fn attach(
    nic: &ModelNic,
    memory: &TestMemory,
    role: Role,
) -> Result<(Igb<'static, ModelNic>, Attached), DomainError> {
    let mut igb = Igb::new(nic.clone(), memory.domain.nic);
    let attached = igb.attach(&plan(role), &FakeClock::default())?;
    Ok((igb, attached))
}

fn bench(personality: Personality) -> (ModelNic, TestMemory) {
    let memory = TestMemory::new(Role::Active);
    (ModelNic::new(personality, memory.domain.nic), memory)
}

#[test]
fn a_nic_whose_link_is_up_is_attached_without_a_reset() {
    for personality in BOTH {
        let (nic, memory) = bench(personality);
        let (_, attached) = attach(&nic, &memory, Role::Active).unwrap();
        assert_eq!(attached, Attached { path: attach::REATTACH, link_up: true });
        assert_eq!(nic.resets(), 0);
        assert_eq!(nic.writes_to(reg::MDIC), [], "a good link is left alone");
        for queue in [reg::RXDCTL, reg::TXDCTL] {
            assert_eq!(nic.writes_to(queue).first(), Some(&0), "disabled before it is programmed");
            assert_ne!(nic.peek(queue) & queue::ENABLE, 0);
            assert_eq!(nic.peek(queue) >> 16 & 0x1f, 0, "each descriptor written back at once");
        }
    }
}

#[test]
fn an_active_domain_opens_its_filters() {
    let (nic, memory) = bench(Personality::Hardware);
    attach(&nic, &memory, Role::Active).unwrap();
    assert_eq!(nic.peek(reg::RAL0), 0x0100_5452);
    assert_eq!(nic.peek(reg::RAH0), reg::RAH_AV | 0x0302);
    let open = rctl::EN | rctl::BAM | rctl::MPE | rctl::SECRC | rctl::LPE;
    assert_eq!(nic.peek(reg::RCTL), open);
}

#[test]
fn further_guests_have_receive_addresses_of_their_own() {
    for (role, valid) in [(Role::Active, reg::RAH_AV), (Role::Standby, 0)] {
        let (nic, memory) = bench(Personality::Hardware);
        let mut plan = plan(role);
        plan.other_macs[..2].copy_from_slice(&[[2, 0, 0, 0, 0, 7], [2, 0, 0, 0, 0, 8]]);
        let mut igb = Igb::new(nic.clone(), memory.domain.nic);
        igb.attach(&plan, &FakeClock::default()).unwrap();
        let entry = |n: u32| [reg::RAL0, reg::RAH0].map(|half| nic.peek(half + 8 * n));
        assert_eq!(entry(1), [0, 0], "the probes' own");
        assert_eq!(entry(2), [2, 0x0700 | valid]);
        assert_eq!(entry(3), [2, 0x0800 | valid]);
        assert_eq!(entry(4), [0, 0]);
    }
}

#[test]
fn the_mtu_says_how_long_a_frame_may_be() {
    for (mtu, longest) in [(576, 606), (1500, 1530), (9216, 9246)] {
        let (nic, memory) = bench(Personality::Hardware);
        let mut igb = Igb::new(nic.clone(), memory.domain.nic);
        igb.attach(&AttachPlan { mtu, ..plan(Role::Active) }, &FakeClock::default()).unwrap();
        assert_eq!(nic.peek(reg::RLPML), longest, "a header, three tags and the check sequence");
    }
}

#[test]
fn a_standby_is_ready_but_for_its_filters() {
    for personality in BOTH {
        let (nic, memory) = bench(personality);
        attach(&nic, &memory, Role::Standby).unwrap();
        assert_eq!(nic.peek(reg::RAH0), 0x0302, "address in place, not valid");
        assert_eq!(nic.peek(reg::RCTL), rctl::EN | rctl::SECRC | rctl::LPE);
        assert_ne!(nic.peek(reg::TCTL) & tctl::EN, 0);
        assert!(nic.writes_to(reg::RAH0).iter().all(|high| high & reg::RAH_AV == 0));
    }
}

#[test]
fn what_a_dead_driver_left_is_overwritten() {
    for personality in BOTH {
        let (nic, memory) = bench(personality);
        let spoilt = [reg::RCTL, reg::RXCSUM, reg::MRQC, reg::VT_CTL, reg::TDWBAL, reg::SRRCTL];
        nic.set(reg::RLPML, 0x55);
        for register in spoilt.into_iter().chain([reg::RDT, reg::TDT, reg::RDH, reg::TDH]) {
            nic.set(register, 0x55);
        }
        nic.set(reg::CTRL, ctrl::FRCSPD | ctrl::VME | ctrl::GIO_MASTER_DISABLE);
        nic.set(reg::EIMS, 0xff);
        attach(&nic, &memory, Role::Standby).unwrap();
        let expected = [
            (reg::RXCSUM, values::RXCSUM),
            (reg::MRQC, 0),
            (reg::VT_CTL, 0),
            (reg::TDWBAL, 0),
            (reg::SRRCTL, values::SRRCTL),
            (reg::RLPML, 1530),
            (reg::RDH, 0),
            (reg::RDT, 0),
            (reg::CTRL, ctrl::SLU),
            (reg::EIMS, 3),
        ];
        for (register, value) in expected {
            assert_eq!(nic.peek(register), value, "{register:#x} on {personality:?}");
        }
    }
}

#[test]
fn a_unit_that_was_shut_gets_its_slot_time_again() {
    for left in [tctl::PSP, 0, !0] {
        let (nic, memory) = bench(Personality::Hardware);
        nic.set(reg::TCTL, left);
        attach(&nic, &memory, Role::Active).unwrap();
        assert_eq!(nic.peek(reg::TCTL) & tctl::COLD_MASK, 0x40 << 12, "after {left:#x}");
        assert_eq!(nic.peek(reg::TCTL), values::TCTL);
    }
}

#[test]
fn a_link_that_is_down_is_freed_of_what_keeps_it_down() {
    let (nic, memory) = bench(Personality::Hardware);
    let spoilt = [(reg::CTRL_EXT, ctrl_ext::LINK_MODE), (reg::PHPM, 0x2f)];
    spoilt.iter().for_each(|(register, value)| nic.set(*register, *value));
    attach(&nic, &memory, Role::Active).unwrap();
    assert_eq!(nic.writes_to(reg::PHPM), [], "a good link is left alone");

    nic.drop_link();
    attach(&nic, &memory, Role::Active).unwrap();

    assert_eq!(nic.peek(reg::CTRL_EXT) & ctrl_ext::LINK_MODE, 0);
    assert_eq!(nic.peek(reg::PHPM), 0x0f, "nothing else of it");
}

#[test]
fn vectors_are_two_and_auto_cleared_but_not_auto_masked() {
    let (nic, memory) = bench(Personality::Qemu);
    attach(&nic, &memory, Role::Active).unwrap();
    let expected = [
        (reg::GPIE, 0x8000_0011),
        (reg::IVAR0, 0x8080),
        (reg::IVAR_MISC, 0x8100),
        (reg::EIAC, 3),
        (reg::EIAM, 0),
        (reg::EIMS, 3),
        (reg::IMS, icr::LSC),
        (reg::EITR, 0),
    ];
    for (register, value) in expected {
        assert_eq!(nic.peek(register), value, "{register:#x}");
    }
}

#[test]
fn hash_tables_are_cleared_once_per_reset() {
    let (nic, memory) = bench(Personality::Hardware);
    nic.set(reg::MTA + 4 * 127, 9);
    attach(&nic, &memory, Role::Standby).unwrap();
    assert_eq!(nic.peek(reg::MTA + 4 * 127), 0);
    assert_ne!(nic.peek(reg::CTRL_EXT) & ctrl_ext::DRV_LOAD, 0);
    let first = nic.writes().len();
    attach(&nic, &memory, Role::Standby).unwrap();
    let second = nic.writes().len() - first;
    assert!(second < 60, "{second} register writes in a re-attach");
}

#[test]
fn a_link_that_is_down_is_negotiated_anew_without_pause() {
    for personality in BOTH {
        let (nic, memory) = bench(personality);
        nic.drop_link();
        let (_, attached) = attach(&nic, &memory, Role::Standby).unwrap();
        assert!(!attached.link_up);
        assert_eq!(nic.phy(phy::BMCR), 0x1200);
        assert_eq!(nic.phy(phy::ANAR), 0x01e1, "PAUSE is not advertised");
        assert_eq!(nic.peek(reg::SWSM), 0, "the semaphore is given back");
        assert_eq!(nic.peek(reg::SW_FW_SYNC), 0);
    }
}

#[test]
fn a_semaphore_that_a_dead_driver_holds_is_taken_by_force() {
    let (nic, memory) = bench(Personality::Hardware);
    nic.drop_link();
    nic.set(reg::SWSM, 3);
    attach(&nic, &memory, Role::Standby).unwrap();
    assert_eq!(nic.phy(phy::BMCR), 0x1200);
    assert_eq!(nic.peek(reg::SWSM), 0);
}

#[test]
fn a_queue_that_stays_enabled_costs_a_full_reset() {
    for personality in BOTH {
        let (nic, memory) = bench(personality);
        nic.jam_queues();
        let (_, attached) = attach(&nic, &memory, Role::Standby).unwrap();
        assert_eq!(attached.path, attach::RESET);
        assert_eq!(nic.resets(), 1);
        let restarted = nic.writes_to(reg::MDIC).len() > 1;
        assert_eq!(restarted, personality == Personality::Qemu, "the link is lost only on QEMU");
        assert_eq!(nic.peek(reg::CTRL) & ctrl::GIO_MASTER_DISABLE, 0);
    }
}

#[test]
fn a_nic_that_never_comes_up_is_an_error_not_a_hang() {
    let (nic, memory) = bench(Personality::Qemu);
    // A register file without logic: no queue ever reads disabled.
    struct Jammed(ModelNic);
    impl Registers for Jammed {
        fn read(&self, offset: u32) -> u32 {
            let value = self.0.read(offset);
            if offset == reg::RXDCTL { value | queue::ENABLE } else { value }
        }
        fn write(&self, offset: u32, value: u32) {
            self.0.write(offset, value);
        }
    }
    let clock = FakeClock::default();
    let mut igb = Igb::new(Jammed(nic), memory.domain.nic);
    let result = igb.attach(&plan(Role::Active), &clock);
    assert_eq!(result.err(), Some(DomainError::NicInit(BringUpError::QueueStuck)));
}

#[test]
fn a_nic_that_is_gone_is_said_to_be_gone() {
    let (nic, memory) = bench(Personality::Hardware);
    nic.remove();
    assert_eq!(attach(&nic, &memory, Role::Active).err(), Some(DomainError::NicGone));

    let (nic, memory) = bench(Personality::Hardware);
    let (igb, _) = attach(&nic, &memory, Role::Active).unwrap();
    assert_eq!(igb.check_presence(), Ok(()));
    nic.remove();
    assert_eq!(igb.check_presence(), Err(DomainError::NicGone));
    assert_eq!(igb.verify(), Err(DomainError::NicGone));
}

#[test]
fn verification_sees_what_changed_behind_the_driver() {
    let (nic, memory) = bench(Personality::Hardware);
    let (igb, _) = attach(&nic, &memory, Role::Standby).unwrap();
    assert_eq!(igb.verify(), Ok(true));
    nic.drop_link();
    assert_eq!(igb.verify(), Ok(false));
    nic.set(reg::RDT, 7);
    assert_eq!(igb.verify(), Err(DomainError::NicInit(BringUpError::TailMoved)));
    nic.set(reg::RXDCTL, 0);
    assert_eq!(igb.verify(), Err(DomainError::NicInit(BringUpError::QueueDead)));
}

#[test]
fn a_half_sent_packet_of_a_dead_driver_does_not_reach_the_first_frame() {
    let (nic, memory) = bench(Personality::Qemu);
    nic.leave_partial_packet(0xdead_0000, 100);
    let (mut igb, _) = attach(&nic, &memory, Role::Active).unwrap();
    nic.take_sent();
    let frame = crate::testing::VmmRings::frame(5, 60);
    assert_eq!(igb.tx_provide(&frame), Ok(true));
    igb.ring_transmit();
    assert_eq!(nic.take_sent(), [vec![(frame.iova, 60)]]);
    let mut claimed = Vec::new();
    assert!(igb.tx_return(|buffer| claimed.push(buffer)));
    assert_eq!(claimed, [5], "the null packet is claimed silently with the first frame");
}

#[test]
fn nothing_of_a_sent_frame_stays_where_a_later_store_could_be_lost() {
    let (nic, memory) = bench(Personality::Hardware);
    let (mut igb, _) = attach(&nic, &memory, Role::Active).unwrap();
    assert_eq!(igb.tx_provide(&crate::testing::VmmRings::frame(5, 60)), Ok(true));
    igb.ring_transmit();
    nic.take_sent();
    assert!(igb.tx_return(|_| ()));
    assert!(memory.domain.nic.tx_ring.iter().all(|descriptor| descriptor.words() == [0, 0]));
}

#[test]
fn no_receive_descriptor_has_a_buffer_after_the_attach() {
    let (nic, memory) = bench(Personality::Hardware);
    memory.domain.nic.rx_slots[9].store(3, Ordering::Relaxed);
    attach(&nic, &memory, Role::Active).unwrap();
    let empty = |slot: &AtomicU16| slot.load(Ordering::Relaxed) == RX_SLOT_EMPTY;
    assert!(memory.domain.nic.rx_slots.iter().all(empty));
}
