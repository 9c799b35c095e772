//! A driver that does anything at all.

use proptest::prelude::*;

use super::bench::*;
use crate::Nic;
use crate::registers::{self as reg, queue, rctl, tctl};
use crate::wire::Wire;

/// What a mad driver does next.
#[derive(Clone, Debug)]
enum Step {
    Write(u32, u32),
    Read(u32),
    Memory(u64, u64),
    Frame(Vec<u8>),
    Link(bool),
}

fn registers() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => prop::sample::select(vec![
            reg::CTRL, reg::STATUS, reg::MDIC, reg::ICR, reg::ICS, reg::IMS, reg::IMC, reg::RCTL,
            reg::TCTL, reg::GPIE, reg::EICS, reg::EIMS, reg::EIMC, reg::EIAC, reg::EIAM, reg::EICR,
            reg::EITR, reg::IVAR0, reg::IVAR_MISC, reg::RXCSUM, reg::RLPML, reg::RAL0, reg::RAH0,
            reg::SWSM, reg::EERD, reg::CTRL_EXT,
        ]),
        4 => (0..16_u32).prop_map(|register| reg::RX_QUEUE + register * 4),
        4 => (0..16_u32).prop_map(|register| reg::TX_QUEUE + register * 4),
        1 => (0..0x8000_u32).prop_map(|register| register * 4),
        1 => any::<u32>(),
    ]
}

fn values() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        0..100_u32,
        Just(u32::MAX),
        Just(queue::ENABLE),
        Just(rctl::EN | rctl::UPE | rctl::MPE | rctl::BAM | tctl::PSP),
        (0..64_u32).prop_map(|page| IOVA as u32 + page * 128),
        Just(0x0200_0001),
    ]
}

/// Descriptor-like words in the rings: plausible addresses, types, and plain noise.
fn words() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0..0x8_0000_u64).prop_map(|offset| IOVA + offset),
        (any::<u32>(), any::<u16>())
            .prop_map(|(high, len)| { u64::from(high) << 32 | WHOLE_FRAME | u64::from(len) }),
        (any::<u32>(), any::<u16>())
            .prop_map(|(high, low)| { u64::from(high) << 32 | 0x2020_0000 | u64::from(low) }),
        (any::<u32>(), any::<u16>())
            .prop_map(|(high, low)| { u64::from(high) << 32 | 0xab30_0000 | u64::from(low) }),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (registers(), values()).prop_map(|(register, value)| Step::Write(register, value)),
        1 => registers().prop_map(Step::Read),
        4 => (0..0x1000_u64, words()).prop_map(|(at, word)| Step::Memory(at * 8, word)),
        2 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Step::Frame),
        1 => any::<bool>().prop_map(Step::Link),
    ]
}

fn carry_out(bench: &Bench, step: Step) {
    match step {
        Step::Write(register, value) => bench.write(register, value),
        Step::Read(register) => drop(bench.read(register)),
        Step::Memory(at, word) => bench.memory.write(at, &word.to_le_bytes()).unwrap(),
        Step::Frame(frame) => bench.peer.send(&frame),
        Step::Link(up) => bench.port.set_link(up),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever was done, the engine answers, the memory that it may not write is as it was, and
    /// the next driver finds a NIC that works.
    #[test]
    fn nothing_a_driver_does_breaks_the_nic(steps in prop::collection::vec(steps(), 1..400)) {
        let bench = Bench::new();
        let read_only = bench.bytes(READ_ONLY, (MEMORY_BYTES - READ_ONLY) as usize);

        for step in steps {
            carry_out(&bench, step);
        }

        bench.settle();
        prop_assert_eq!(bench.read(reg::STATUS) >> 31, 1);
        prop_assert_ne!(bench.read(reg::STATUS), reg::ALL_ONES);
        let after = bench.bytes(READ_ONLY, (MEMORY_BYTES - READ_ONLY) as usize);
        prop_assert!(read_only == after);
        assert_works_for_the_next(&bench);
    }

    /// Rings full of noise, told to the NIC by an otherwise sober driver.
    #[test]
    fn garbage_descriptors_are_used_up(words in prop::collection::vec(words(), 256), tail: u16) {
        let bench = Bench::new();
        for (index, word) in words.iter().enumerate() {
            bench.memory.write(TX_RING + index as u64 * 8, &word.to_le_bytes()).unwrap();
            bench.memory.write(RX_RING + index as u64 * 8, &word.to_le_bytes()).unwrap();
        }
        bench.write(reg::TDT, u32::from(tail));
        bench.write(reg::RDT, u32::from(tail));
        for _ in 0..100 {
            bench.peer.send(&frame(EVERYONE, PEER, 1514));
        }
        bench.write(reg::TDT, 63);
        eventually("used up", || bench.read(reg::TX_QUEUE + queue::HEAD) == 63);
        assert_works_for_the_next(&bench);
    }
}

fn assert_works_for_the_next(bench: &Bench) {
    bench.port.set_link(true);
    bench.nic.shut_units();
    bench.nic.quiesce().unwrap();
    bench.nic.reset().unwrap();
    bench.nic.enable_bus_master().unwrap();
    // As a driver does that finds its link down.
    eventually("the link is up", || {
        if !bench.nic.link_up() {
            bench.write(reg::MDIC, 0x1000 | 1 << 21 | 1 << 26);
        }
        bench.nic.link_up()
    });
    bench.attach();
    bench.post_all();
    while bench.peer_has().is_some() {}
    bench.send(0, &frame(PEER, MAC, 345));
    assert_eq!(bench.peer_gets().len(), 345);
    bench.peer.send(&frame(MAC, PEER, 346));
    assert_eq!(bench.received(0).0, 346);
}

#[test]
fn tails_and_lengths_out_of_bounds_do_nothing() {
    let bench = Bench::new();
    for tail in [64, 65, 0xffff] {
        bench.write(reg::TDT, tail);
        bench.settle();
        assert_eq!(bench.read(reg::TX_QUEUE + queue::HEAD), 0);
    }
    for length in [0, 1, 127, u32::MAX] {
        bench.disable_queues();
        bench.write(reg::TX_QUEUE + queue::LENGTH, length);
        bench.write(reg::TXDCTL, queue::ENABLE);
        bench.write(reg::TDT, 0xfff0);
        bench.settle();
    }
    assert_eq!(bench.peer_has(), None);
}

#[test]
fn a_packet_without_end_is_bounded() {
    let bench = Bench::new();
    let iova = bench.load(0, &[0; 2048]);
    for lap in 0..20_u32 {
        for index in 0..63 {
            let at = (lap * 63 + index) % 64;
            bench.put(TX_RING, at, [iova, (WHOLE_FRAME & !(1 << 24)) | 2048 | 5 << 46]);
        }
        bench.write(reg::TDT, (lap * 63 + 63) % 64);
        eventually("used up", || bench.read(reg::TX_QUEUE + queue::HEAD) == (lap * 63 + 63) % 64);
    }
    assert_eq!(bench.peer_has(), None);
}
