//! Wire → buffers.

use super::bench::*;
use crate::registers::{self as reg, queue, rctl};
use crate::wire::Wire;
use crate::{AddedAddresses, Nic};

const EOP: u64 = 2;

#[test]
fn a_frame_comes_in_and_vector_zero_tells() {
    let bench = Bench::new();
    let sent = frame(MAC, PEER, 300);

    bench.peer.send(&sent);

    let (len, status) = bench.received(0);
    assert_eq!((len, status & (DD | EOP)), (300, DD | EOP));
    assert_eq!(bench.bytes(bench.rx_offset(0), 300), sent);
    eventually("vector 0", || bench.messages(bench.nic.queue_event()) != 0);
    assert!(!bench.is_done(RX_RING, 1));
}

#[test]
fn frames_follow_each_other_round_the_ring() {
    let bench = Bench::with_ring(8);
    for number in 0..50_u32 {
        let mut sent = frame(MAC, PEER, 100);
        sent[50] = number as u8;
        bench.peer.send(&sent);
        let index = number % 8;
        assert_eq!(bench.received(index).0, 100);
        assert_eq!(bench.bytes(bench.rx_offset(index), 100), sent);
        bench.post(index, bench.rx_iova(index));
        bench.write(reg::RDT, index);
    }
}

#[test]
fn without_room_frames_are_lost_and_counted() {
    let bench = Bench::with_ring(8);
    for _ in 0..10 {
        bench.peer.send(&frame(MAC, PEER, 100));
    }
    assert_eq!(bench.received(6).0, 100);
    bench.settle();
    assert!(!bench.is_done(RX_RING, 7), "the ring is empty with one descriptor left");
    assert_eq!([0x4010, 0x40a0, 0x4074].map(|offset| bench.read(offset)), [3, 3, 7]);
}

#[test]
fn a_frame_that_fills_several_buffers_ends_with_the_last() {
    let bench = Bench::bare();
    bench.attach();
    bench.disable_queues();
    bench.write(reg::RX_QUEUE + queue::SRRCTL, 0x0200_0001);
    bench.write(reg::RXDCTL, queue::ENABLE);
    bench.post_all();
    let sent = frame(MAC, PEER, 1500);

    bench.peer.send(&sent);

    assert_eq!(bench.received(0), (1024, DD));
    assert_eq!(bench.received(1), (476, DD | EOP));
    let got = [bench.bytes(bench.rx_offset(0), 1024), bench.bytes(bench.rx_offset(1), 476)];
    assert_eq!(got.concat(), sent);
}

#[test]
fn filters_decide() {
    let bench = Bench::new();
    let group = [1, 0, 0x5e, 0, 0, 1];
    bench.peer.send(&frame(PEER, [2, 9, 9, 9, 9, 9], 60));
    bench.peer.send(&frame(group, PEER, 61));
    bench.peer.send(&frame(EVERYONE, PEER, 62));
    bench.peer.send(&frame(MAC, PEER, 63));
    assert_eq!((bench.received(0).0, bench.received(1).0), (62, 63));

    bench.write(reg::RCTL, rctl::EN | rctl::MPE | rctl::SECRC);
    bench.settle();
    bench.peer.send(&frame(EVERYONE, PEER, 64));
    bench.peer.send(&frame(group, PEER, 65));
    assert_eq!(bench.received(2).0, 65);
}

#[test]
fn a_standby_hears_nothing_until_its_filters_open() {
    let bench = Bench::new();
    bench.nic.shut_filters();
    for to in [MAC, EVERYONE, [1, 0, 0x5e, 0, 0, 1]] {
        bench.peer.send(&frame(to, PEER, 100));
    }
    bench.settle();
    assert!(!bench.is_done(RX_RING, 0));
    assert_eq!(bench.read(reg::RCTL) & rctl::EN, rctl::EN, "and yet it receives");

    bench.nic.open_filters();
    for (len, to) in [(101, MAC), (102, EVERYONE), (103, [1, 0, 0x5e, 0, 0, 1])] {
        bench.peer.send(&frame(to, PEER, len));
    }
    assert_eq!([0, 1, 2].map(|index| bench.received(index).0), [101, 102, 103]);
}

#[test]
fn further_addresses_are_heard_while_the_filters_are_open() {
    let bench = Bench::new();
    let address = |n| [2, 0, 0, 0, 7, n];
    bench.nic.shut_filters();
    bench.nic.set_added(&AddedAddresses::of((0..7).map(address)));
    bench.peer.send(&frame(address(6), PEER, 100));
    bench.settle();
    assert!(!bench.is_done(RX_RING, 0), "a standby hears nothing");

    bench.nic.open_filters();
    bench.peer.send(&frame(address(7), PEER, 101));
    bench.peer.send(&frame(address(6), PEER, 102));
    assert_eq!(bench.received(0).0, 102);

    bench.nic.set_added(&AddedAddresses::of((0..8).map(address)));
    bench.peer.send(&frame(address(7), PEER, 103));
    assert_eq!(bench.received(1).0, 103, "too many for the table");

    bench.nic.shut_filters();
    bench.peer.send(&frame(address(6), PEER, 104));
    bench.settle();
    assert!(!bench.is_done(RX_RING, 2));
}

#[test]
fn buffers_that_were_fetched_are_live_until_the_queue_is_off() {
    let bench = Bench::new();
    for index in 0..64 {
        bench.post(index, IOVA + 0x7_0000);
    }

    for number in 0..17 {
        bench.peer.send(&frame(MAC, PEER, 100 + number));
    }

    assert_eq!(bench.received(15).0, 115);
    assert_eq!(bench.bytes(bench.rx_offset(15), 14), frame(MAC, PEER, 14), "the old buffer");
    assert_eq!(bench.received(16).0, 116);
    assert_eq!(bench.bytes(0x7_0000, 14), frame(MAC, PEER, 14), "fetched after the change");

    bench.disable_queues();
    bench.memory.clear(0x7_0000, 14).unwrap();
    bench.memory.clear(RX_RING, 0x400).unwrap();
    bench.post(0, bench.rx_iova(3));
    bench.memory.clear(bench.rx_offset(3), 14).unwrap();
    bench.write(reg::RXDCTL, queue::ENABLE);
    bench.write(reg::RDT, 1);
    bench.settle();
    bench.peer.send(&frame(MAC, PEER, 200));
    assert_eq!(bench.received(0).0, 200);
    assert_eq!(bench.bytes(bench.rx_offset(3), 14), frame(MAC, PEER, 14), "nothing old is left");
    assert_eq!(bench.bytes(0x7_0000, 14), [0; 14]);
}

#[test]
fn a_queue_that_is_off_takes_nothing() {
    let bench = Bench::new();
    bench.write(reg::RXDCTL, 0);
    eventually("it stops", || !bench.is_on(reg::RXDCTL));
    bench.peer.send(&frame(MAC, PEER, 100));
    bench.write(reg::RDT, 5);
    bench.settle();
    assert!(!bench.is_done(RX_RING, 0));
    assert_eq!(bench.read(reg::RDT), 63, "the doorbell was lost");
    assert_eq!(bench.read(0x4010), 1, "missed");
}

#[test]
fn a_buffer_outside_the_window_is_not_written() {
    let bench = Bench::bare();
    bench.attach();
    let outside = [0, 0xdead_0000, READ_ONLY_IOVA, u64::MAX - 10, IOVA + READ_ONLY - 8];
    for (index, iova) in outside.into_iter().enumerate() {
        bench.post(index as u32, iova);
    }
    bench.write(reg::RDT, 5);
    bench.settle();
    let before = bench.bytes(0x8000, (MEMORY_BYTES - 0x8000) as usize);

    for _ in outside {
        bench.peer.send(&frame(MAC, PEER, 100));
    }

    assert_eq!(bench.received(4).0, 100, "as behind an IOMMU, the NIC does not know");
    assert_eq!(bench.bytes(0x8000, (MEMORY_BYTES - 0x8000) as usize), before);
    assert_eq!(bench.nic.faults().dma, 5);
}

#[test]
fn a_ring_outside_the_window_receives_nothing() {
    let bench = Bench::bare();
    bench.attach();
    bench.disable_queues();
    bench.write(reg::RX_QUEUE + queue::BASE_LOW, 0x7000_0000);
    bench.write(reg::TX_QUEUE + queue::BASE_HIGH, u32::MAX);
    bench.write(reg::RXDCTL, queue::ENABLE);
    bench.write(reg::TXDCTL, queue::ENABLE);
    bench.write(reg::RDT, 63);
    bench.write(reg::TDT, 63);
    bench.peer.send(&frame(MAC, PEER, 100));
    bench.settle();
    assert_eq!(bench.nic.faults().dma, 2, "one fetch of each");
    assert_eq!(bench.bytes(0, MEMORY_BYTES as usize), vec![0; MEMORY_BYTES as usize]);
}

#[test]
fn frames_that_are_too_long_are_dropped() {
    let bench = Bench::new();
    bench.peer.send(&frame(MAC, PEER, 1515));
    let mut tagged = frame(MAC, PEER, 1518);
    tagged[12..14].copy_from_slice(&[0x81, 0]);
    bench.peer.send(&tagged);
    assert_eq!(bench.received(0).0, 1518);
    assert_eq!(bench.read(0x40ac), 1, "ROC");

    bench.write(reg::RCTL, rctl::EN | rctl::LPE | rctl::SECRC);
    bench.settle();
    bench.peer.send(&frame(MAC, PEER, 9000));
    let lengths = [1, 2, 3, 4, 5].map(|index| bench.received(index).0);
    assert_eq!(lengths, [2048, 2048, 2048, 2048, 808]);
    assert_eq!(bench.received(5).1 & EOP, EOP);
}

#[test]
fn without_stripping_the_check_sequence_comes_along() {
    let bench = Bench::new();
    bench.write(reg::RCTL, rctl::EN | rctl::BAM);
    bench.settle();
    let sent = frame(MAC, PEER, 100);
    bench.peer.send(&sent);
    assert_eq!(bench.received(0).0, 104);
    let check = super::super::frame_check::frame_check(&sent);
    assert_eq!(bench.bytes(bench.rx_offset(0) + 100, 4), check);
}

#[test]
fn runts_arrive_padded() {
    let bench = Bench::new();
    bench.peer.send(&frame(MAC, PEER, 42));
    assert_eq!(bench.received(0).0, 60);
}

#[test]
fn masked_vectors_say_nothing() {
    let bench = Bench::new();
    bench.write(reg::EIMC, 1);
    bench.peer.send(&frame(MAC, PEER, 100));
    bench.received(0);
    bench.settle();
    assert_eq!(bench.messages(bench.nic.queue_event()), 0);
    bench.write(reg::EIMS, 1);
    assert_eq!(bench.messages(bench.nic.queue_event()), 1);
}
