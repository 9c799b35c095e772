//! Descriptors → wire.

use super::bench::*;
use crate::Nic;
use crate::registers::{self as reg, queue, tctl};

#[test]
fn a_frame_goes_out_and_is_reported() {
    let bench = Bench::new();
    let sent = frame(PEER, MAC, 300);

    bench.send(0, &sent);

    assert_eq!(bench.peer_gets(), sent);
    eventually("the descriptor is done", || bench.is_done(TX_RING, 0));
    assert_eq!(bench.get(TX_RING, 0)[1] & 0xffff_ffff, WHOLE_FRAME | 300, "the rest is preserved");
    eventually("vector 0", || bench.messages(bench.nic.queue_event()) != 0);
    assert_eq!(bench.read(reg::TX_QUEUE + queue::HEAD), 1);
}

#[test]
fn a_frame_in_several_buffers_goes_out_as_one() {
    let bench = Bench::new();
    let sent = frame(PEER, MAC, 200);
    let flags = WHOLE_FRAME & !(1 << 24);
    let parts = [(0..14, flags), (14..100, flags), (100..200, WHOLE_FRAME)];
    for (index, (part, flags)) in parts.into_iter().enumerate() {
        let len = part.len() as u64;
        let iova = bench.load(index as u32, &sent[part]);
        bench.put(TX_RING, index as u32, [iova, flags | len | 200 << 46]);
    }

    bench.write(reg::TDT, 2);
    bench.settle();
    assert_eq!(bench.peer_has(), None, "the last part is not there yet");
    bench.write(reg::TDT, 3);

    assert_eq!(bench.peer_gets(), sent);
}

#[test]
fn the_ring_wraps() {
    let bench = Bench::with_ring(8);
    for number in 0..50_u32 {
        let mut sent = frame(PEER, MAC, 100);
        sent[50] = number as u8;
        bench.send(number % 8, &sent);
        assert_eq!(bench.peer_gets(), sent);
        eventually("done", || bench.read(reg::TX_QUEUE + queue::HEAD) == (number + 1) % 8);
    }
}

#[test]
fn a_full_ring_goes_out_in_order() {
    let bench = Bench::new();
    for index in 0..63 {
        let mut sent = frame(PEER, MAC, 100);
        sent[50] = index as u8;
        bench.put_frame(index, &sent);
    }
    bench.write(reg::TDT, 63);
    for index in 0..63 {
        assert_eq!(bench.peer_gets()[50], index);
    }
}

#[test]
fn short_frames_are_padded_where_asked() {
    let bench = Bench::new();
    bench.load(0, &[0xee; 100]);
    bench.send(0, &frame(PEER, MAC, 20));
    let got = bench.peer_gets();
    assert_eq!((got.len(), &got[20..]), (60, &[0; 40][..]), "zeroes, not what was in memory");

    bench.write(reg::TCTL, tctl::EN);
    bench.send(1, &frame(PEER, MAC, 20));
    bench.settle();
    bench.write(reg::TCTL, tctl::EN | tctl::PSP);
    bench.send(2, &frame(PEER, MAC, 16));
    bench.send(3, &frame(PEER, MAC, 61));

    assert_eq!(bench.peer_gets().len(), 61, "runts do not get far");
}

#[test]
fn what_hardware_would_not_send_is_not_sent() {
    let bench = Bench::new();
    let sent = frame(PEER, MAC, 100);
    let iova = bench.load(0, &sent);
    let whole = WHOLE_FRAME | 100;
    bench.put(TX_RING, 0, [iova, whole | 99 << 46]);
    bench.put(TX_RING, 1, [iova, whole & !(1 << 25) | 100 << 46]);
    bench.put(TX_RING, 2, [iova, whole & !(0xf << 20) | 0x5 << 20 | 100 << 46]);
    bench.put(TX_RING, 3, [0x6666_0000, whole | 100 << 46]);

    bench.write(reg::TDT, 4);
    eventually("all are used up", || bench.read(reg::TX_QUEUE + queue::HEAD) == 4);

    assert_eq!(bench.peer_has(), None);
    assert_eq!(bench.nic.faults().descriptors, 4, "PAYLEN, IFCS, type, address");
    assert_eq!(bench.nic.faults().dma, 1);
    assert_eq!(bench.nic.take_sent(), 0, "claimed, but not confirmed");
    assert!(bench.is_done(TX_RING, 3));
}

#[test]
fn a_check_sequence_of_the_drivers_own_is_taken() {
    let bench = Bench::new();
    let sent = frame(PEER, MAC, 100);
    let check = super::super::frame_check::frame_check(&sent);
    let iova = bench.load(0, &[&sent[..], &check].concat());
    bench.put(TX_RING, 0, [iova, WHOLE_FRAME & !(1 << 25) | 104 | 104 << 46]);
    bench.write(reg::TDT, 1);
    assert_eq!(bench.peer_gets(), sent);
}

#[test]
fn legacy_descriptors_work() {
    let bench = Bench::new();
    let sent = frame(PEER, MAC, 100);
    let iova = bench.load(0, &sent);
    bench.put(TX_RING, 0, [iova, 0x0b00_0000 | 100]);
    bench.write(reg::TDT, 1);
    assert_eq!(bench.peer_gets(), sent);
    eventually("done", || bench.is_done(TX_RING, 0));
}

#[test]
fn only_descriptors_that_ask_for_it_are_reported() {
    let bench = Bench::new();
    let sent = frame(PEER, MAC, 100);
    let iova = bench.load(0, &sent);
    bench.put(TX_RING, 0, [iova, (WHOLE_FRAME & !(1 << 27)) | 100 | 100 << 46]);
    bench.send(1, &sent);
    eventually("the second is done", || bench.is_done(TX_RING, 1));
    assert!(!bench.is_done(TX_RING, 0));
}

#[test]
fn the_head_is_written_back_in_place_of_descriptors() {
    let bench = Bench::new();
    let head_offset = 0x7000;
    bench.disable_queues();
    bench.write(reg::TX_QUEUE + queue::WRITE_BACK_LOW, (IOVA + head_offset) as u32 | 1);
    bench.write(reg::TXDCTL, queue::ENABLE);
    bench.send(0, &frame(PEER, MAC, 100));
    eventually("the head comes", || bench.bytes(head_offset, 4) == [1, 0, 0, 0]);
    assert!(!bench.is_done(TX_RING, 0));
}

#[test]
fn a_doorbell_while_the_queue_is_off_is_lost() {
    let bench = Bench::new();
    bench.disable_queues();
    bench.put_frame(0, &frame(PEER, MAC, 100));
    bench.write(reg::TDT, 1);
    bench.write(reg::TXDCTL, queue::ENABLE);
    bench.settle();
    assert_eq!(bench.read(reg::TDT), 0);
    assert_eq!(bench.peer_has(), None);

    bench.write(reg::TDT, 1);
    bench.peer_gets();
}

#[test]
fn a_unit_that_is_switched_on_sends_what_waits() {
    let bench = Bench::new();
    bench.write(reg::TCTL, tctl::PSP);
    bench.send(0, &frame(PEER, MAC, 100));
    bench.settle();
    assert_eq!(bench.peer_has(), None);
    bench.write(reg::TCTL, tctl::EN | tctl::PSP);
    bench.peer_gets();
}

#[test]
fn descriptors_that_were_fetched_are_stale_until_the_queue_is_off() {
    let bench = Bench::new();
    bench.write(reg::TCTL, tctl::PSP);
    for index in 0..30 {
        let mut sent = frame(PEER, MAC, 100);
        sent[50] = index as u8;
        bench.put_frame(index, &sent);
    }
    bench.write(reg::TDT, 30);
    bench.settle();
    let iova = bench.load(40, &[0xbb; 100]);
    for index in 0..30 {
        bench.put(TX_RING, index, [iova, WHOLE_FRAME | 100 | 100 << 46]);
    }

    bench.write(reg::TCTL, tctl::EN | tctl::PSP);

    for index in 0..24 {
        assert_eq!(bench.peer_gets()[50], index, "on the chip before it was changed");
    }
    for _ in 24..30 {
        assert_eq!(bench.peer_gets()[50], 0xbb, "fetched after");
    }
}

#[test]
fn the_first_frame_is_stamped() {
    let bench = Bench::new();
    assert_eq!(bench.nic.first_sent_ns(), None);
    let before_ns = platform::clock::monotonic_ns();
    bench.send(0, &frame(PEER, MAC, 100));
    eventually("a stamp", || bench.nic.first_sent_ns().is_some());
    let first_ns = bench.nic.first_sent_ns().unwrap();
    bench.send(1, &frame(PEER, MAC, 100));
    eventually("both are out", || bench.is_done(TX_RING, 1));

    assert!((before_ns..platform::clock::monotonic_ns()).contains(&first_ns));
    assert_eq!(bench.nic.first_sent_ns(), Some(first_ns), "the first, not the last");
    bench.nic.arm_first_sent();
    assert_eq!(bench.nic.first_sent_ns(), None);
}

#[test]
fn a_null_packet_is_used_up_and_sends_nothing() {
    let bench = Bench::new();
    bench.put(TX_RING, 0, [0, WHOLE_FRAME]);
    bench.write(reg::TDT, 1);
    eventually("done", || bench.is_done(TX_RING, 0));
    assert_eq!(bench.peer_has(), None);
    assert_eq!(bench.nic.faults(), Default::default());
}
