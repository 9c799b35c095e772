use super::*;
use crate::switchboard::RingName;
use crate::switchboard::fakes::rig::{Rig, is_announcement, numbers};
use crate::switchboard::fakes::{FakeGuest, MAC, QUEUE, frame};
use shared_ring::layout::{BUFFER_BYTES, RX_BUFFERS};
use shared_ring::{Entry, EntryFlags};
use std::sync::atomic::Ordering;

mod transmit {
    use super::*;

    #[test]
    fn a_frame_reaches_the_domain_and_its_chain_comes_back_at_once() {
        let (mut rig, mut domain) = Rig::new();
        let sent = frame(true, 7, 300);
        rig.guest.tx.send(&sent);
        rig.turn();
        assert_eq!(rig.guest.tx.drain_used(), 1);
        assert_eq!(domain.take_posted(10), [sent]);
        rig.assert_no_violation();
    }

    #[test]
    fn a_short_frame_is_padded_with_zeroes() {
        let (mut rig, mut domain) = Rig::new();
        // The buffer is used twice: what was in it before must not leak into the padding.
        rig.send(0..1);
        domain.take_posted(1);
        domain.claim(1);
        rig.nics[0].send(1);
        rig.tick();
        rig.guest.tx.send(&frame(true, 3, 20));
        rig.turn();
        let frames = domain.take_posted(1);
        assert_eq!(frames[0].len(), 60);
        assert_eq!(frames[0][20..], [0; 40]);
    }

    #[test]
    fn a_long_frame_takes_several_entries() {
        let (mut rig, mut domain) = Rig::new();
        let sent = frame(true, 1, 2 * BUFFER_BYTES + 100);
        let parts = rig.guest.tx.add(&[(12, false), (3000, false), (1196, false)]);
        let [header, first, second] = [0, 1, 2].map(|n| rig.guest.tx.buffer(parts[n]));
        use vm_memory::{Bytes, GuestAddress};
        rig.guest.memory.write_slice(&[0; 12], GuestAddress(header)).unwrap();
        rig.guest.memory.write_slice(&sent[..3000], GuestAddress(first)).unwrap();
        rig.guest.memory.write_slice(&sent[3000..], GuestAddress(second)).unwrap();
        rig.turn();
        assert_eq!(domain.take_posted(3), [sent]);
        assert_eq!(domain.in_hand.len(), 3);
        assert_eq!(domain.in_hand[0].frame_len as usize, 2 * BUFFER_BYTES + 100);
        assert_eq!(domain.in_hand[1].frame_len, 0);
    }

    #[test]
    fn a_claimed_frame_is_confirmed_only_by_the_nic_and_its_link() {
        let (mut rig, mut domain) = Rig::new();
        rig.send(0..3);
        domain.take_posted(3);
        domain.claim(3);
        rig.turn();
        let counters = &rig.shared.counters;
        assert_eq!((counters.tx_claimed.get(), counters.tx_confirmed.get()), (3, 0));
        rig.nics[0].send(2);
        rig.tick();
        assert_eq!(rig.shared.counters.tx_confirmed.get(), 2);
        assert_eq!(rig.shared.counters.tx_unconfirmed.get(), 1);
        rig.nics[0].send(1);
        rig.tick();
        assert_eq!(rig.shared.counters.tx_unconfirmed.get(), 0);
        assert_eq!(rig.engine.deadline_ns(rig.now), None, "nothing left to wake up for");
    }

    #[test]
    fn frames_counted_on_a_dead_link_are_sent_again() {
        let (mut rig, mut domain) = Rig::new();
        rig.send(0..2);
        domain.take_posted(2);
        domain.claim(2);
        rig.nics[0].link.store(false, Ordering::Relaxed);
        rig.nics[0].send(2);
        rig.turn();
        rig.tick();
        assert_eq!(rig.shared.counters.tx_confirmed.get(), 0);
        rig.nics[0].link.store(true, Ordering::Relaxed);
        rig.tick();
        rig.tick();
        assert_eq!(numbers(&domain.take_posted(2)), [0, 1]);
        domain.claim(2);
        rig.turn();
        rig.nics[0].send(2);
        rig.tick();
        assert_eq!(rig.shared.counters.tx_unconfirmed.get(), 0);
    }

    #[test]
    fn without_free_buffers_frames_wait_in_the_guests_ring_and_none_is_lost() {
        let (mut rig, mut domain) = Rig::new();
        let mut sent = 0;
        let mut got = Vec::new();
        // More than the pool holds, in portions that the guest's ring holds.
        for _ in 0..8 {
            rig.send(sent..sent + 200);
            sent += 200;
            rig.guest.tx.drain_used();
            if rig.shared.counters.tx_backpressure.get() > 0 {
                break;
            }
        }
        assert_eq!(rig.shared.counters.tx_backpressure.get(), 1);
        assert!(rig.shared.counters.tx_frames.get() < u64::from(sent));
        while got.len() < sent as usize {
            let frames = domain.take_posted(100);
            assert!(!frames.is_empty(), "stuck after {}", got.len());
            rig.nics[0].send(frames.len() as u32);
            domain.claim(frames.len());
            got.extend(numbers(&frames));
            rig.tick();
        }
        assert_eq!(got, (0..sent).collect::<Vec<_>>());
    }

    #[test]
    fn without_an_active_domain_frames_wait_in_the_guests_ring() {
        let mut rig = Rig::bare(FakeGuest::new());
        rig.connect();
        rig.send(0..5);
        assert_eq!(rig.guest.tx.drain_used(), 0);
        let mut domain = rig.install(1, 4);
        rig.engine.activate(1, 4).unwrap();
        rig.turn();
        assert_eq!(numbers(&domain.take_posted(9)), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_parked_domain_is_kicked_and_a_running_one_is_not() {
        let (mut rig, domain) = Rig::new();
        rig.send(0..1);
        assert!(rig.slots[0].kick.read().is_err());
        domain.slot.status().parked.store(1, Ordering::SeqCst);
        rig.send(1..2);
        assert_eq!(rig.slots[0].kick.read().unwrap(), 1);
    }

    #[test]
    fn chains_without_sense_come_back_and_nothing_is_sent() {
        let (mut rig, mut domain) = Rig::new();
        rig.guest.tx.add(&[(12 + 13, false)]); // shorter than an Ethernet header
        rig.guest.tx.add(&[(12, false), (60, true)]); // for the device to write
        rig.guest.tx.add(&[(3, false)]); // not even a header
        rig.guest.tx.add(&[(4096, false), (4096, false), (4096, false)]); // too long
        let n = rig.guest.tx.add(&[(100, false)])[0];
        rig.guest.tx.set_descriptor(n, 0xffff_0000_0000, 100, 0, 0); // outside memory
        let n = rig.guest.tx.add(&[(100, false)])[0];
        rig.guest.tx.set_descriptor(n, u64::MAX - 10, 100, 0, 0); // wraps around
        let n = rig.guest.tx.add(&[(100, false)])[0];
        rig.guest.tx.set_descriptor(n, rig.guest.tx.buffer(n), 100, 1, n); // a loop
        let n = rig.guest.tx.add(&[(100, false)])[0];
        rig.guest.tx.set_descriptor(n, rig.guest.tx.buffer(n), 100, 1, QUEUE); // no such next
        let n = rig.guest.tx.add(&[(100, false)])[0];
        rig.guest.tx.set_descriptor(n, rig.guest.tx.buffer(n), 16, 4, 0); // bad indirect table
        rig.turn();
        assert_eq!(rig.guest.tx.drain_used(), 9);
        assert_eq!(rig.shared.counters.tx_malformed.get(), 9);
        assert_eq!(domain.take_posted(10).len(), 0);
        // The next good one goes through.
        rig.send(5..6);
        assert_eq!(numbers(&domain.take_posted(10)), [5]);
    }

    #[test]
    fn an_offload_that_was_not_offered_is_refused() {
        use vm_memory::{Bytes, GuestAddress};
        let (mut rig, mut domain) = Rig::new();
        for header in [[1u8, 0], [0, 1], [0, 4]] {
            rig.guest.tx.send(&frame(true, 1, 100));
            let last = rig.guest.tx.available.wrapping_sub(1) % QUEUE;
            let address = GuestAddress(rig.guest.tx.buffer(last));
            rig.guest.memory.write_slice(&header, address).unwrap();
        }
        rig.turn();
        assert_eq!(rig.shared.counters.tx_malformed.get(), 3);
        assert!(domain.take_posted(3).is_empty());
    }

    #[test]
    fn an_indirect_chain_works() {
        use vm_memory::{Bytes, GuestAddress};
        let (mut rig, mut domain) = Rig::new();
        let sent = frame(true, 9, 80);
        let n = rig.guest.tx.add(&[(32, false)])[0];
        let table = rig.guest.tx.buffer(n);
        let data = table + 0x200;
        rig.guest.memory.write_slice(&[0; 12], GuestAddress(data)).unwrap();
        rig.guest.memory.write_slice(&sent, GuestAddress(data + 12)).unwrap();
        let words = [data, 12 | 1 << 32 | 1 << 48, data + 12, 80];
        rig.guest.memory.write_obj(words, GuestAddress(table)).unwrap();
        rig.guest.tx.set_descriptor(n, table, 32, 4, 0);
        rig.turn();
        assert_eq!(domain.take_posted(1), [sent]);
    }

    #[test]
    fn impossible_indices_stop_the_ring_and_nothing_else() {
        use vm_memory::{Bytes, GuestAddress};
        let (mut rig, mut domain) = Rig::new();
        let index = GuestAddress(rig.guest.tx.avail() + 2);
        rig.guest.memory.store(QUEUE + 5, index, Ordering::SeqCst).unwrap();
        rig.turn();
        assert_eq!(rig.shared.counters.guest_rings_broken.get(), 1);
        assert_eq!(rig.shared.port_events.event.read().unwrap(), 1);
        domain.receive(&frame(false, 1, 100));
        rig.turn();
        assert_eq!(rig.guest.rx.take_received().unwrap().1, frame(false, 1, 100));
        assert!(rig.engine.arm(), "a broken ring must not keep the loop awake");
    }

    #[test]
    fn what_a_disabled_ring_holds_is_thrown_away() {
        let (mut rig, mut domain) = Rig::new();
        let memory = rig.guest.shared();
        let mut config = rig.guest.config(&rig.guest.tx, &memory);
        config.enabled = false;
        let ring = Box::new(Vring::new(config).unwrap());
        rig.engine.set_rings([RingChange::Keep, RingChange::Start(ring)]);
        rig.send(0..3);
        assert_eq!(rig.guest.tx.drain_used(), 3);
        assert!(domain.take_posted(3).is_empty());
        assert_eq!(rig.shared.counters.tx_discarded.get(), 3);
    }
}

mod receive {
    use super::*;

    #[test]
    fn a_frame_reaches_the_guest_behind_an_honest_header() {
        let (mut rig, mut domain) = Rig::new();
        for len in [14, 60, 64, 65, 1514, 2000] {
            domain.receive(&frame(false, len, len as usize));
        }
        rig.turn();
        for len in [14, 60, 64, 65, 1514, 2000] {
            let (header, body) = rig.guest.rx.take_received().unwrap();
            assert_eq!(body, frame(false, len, len as usize));
            assert_eq!(header, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], "no checksum vouched for");
        }
        rig.assert_no_violation();
    }

    #[test]
    fn buffers_go_round_for_ever() {
        let (mut rig, mut domain) = Rig::new();
        for number in 0..3 * RX_BUFFERS as u32 {
            domain.receive(&frame(false, number, 100));
            rig.turn();
            assert_eq!(rig.guest.rx.take_received().unwrap().1, frame(false, number, 100));
            rig.guest.rx.add(&[(2048, true)]);
        }
        rig.assert_no_violation();
    }

    #[test]
    fn a_frame_is_merged_from_small_chains_and_appears_whole() {
        let mut rig = Rig::bare(FakeGuest::new());
        rig.connect();
        let mut domain = rig.install(0, 1);
        rig.engine.activate(0, 1).unwrap();
        for _ in 0..3 {
            rig.guest.rx.add(&[(512, true)]);
        }
        domain.receive(&frame(false, 1, 1800));
        rig.turn();
        assert_eq!(rig.guest.rx.take_used(), None, "1812 bytes do not fit into three of 512");
        assert!(rig.engine.arm(), "waits for a chain without keeping the loop awake");
        rig.engine.disarm();
        rig.guest.rx.add(&[(512, true)]);
        rig.turn();
        let (header, body) = rig.guest.rx.take_received().unwrap();
        assert_eq!(body, frame(false, 1, 1800));
        assert_eq!(header[10], 4);
    }

    #[test]
    fn without_merging_a_frame_that_does_not_fit_is_dropped() {
        let mut guest = FakeGuest::new();
        guest.mergeable = false;
        let mut rig = Rig::bare(guest);
        rig.connect();
        let mut domain = rig.install(0, 1);
        rig.engine.activate(0, 1).unwrap();
        rig.guest.rx.add(&[(512, true)]);
        rig.guest.rx.add(&[(12, true), (1600, true)]);
        domain.receive(&frame(false, 1, 1514));
        domain.receive(&frame(false, 2, 1514));
        rig.turn();
        assert_eq!(rig.guest.rx.take_used(), Some((0, 0)));
        assert_eq!(rig.guest.rx.take_used(), Some((1, 1526)));
        assert_eq!(rig.shared.counters.rx_too_large.get(), 1);
        assert_eq!(rig.guest.rx.read(rig.guest.rx.buffer(2), 1514), frame(false, 2, 1514));
    }

    #[test]
    fn without_chains_frames_wait_in_the_domains_ring_and_transmission_goes_on() {
        let (mut rig, mut domain) = Rig::new();
        for number in 0..100 {
            domain.receive(&frame(false, number, 100));
        }
        rig.turn();
        assert_eq!(rig.shared.counters.rx_frames.get(), 64);
        assert_eq!(rig.shared.counters.rx_backpressure.get(), 1);
        rig.send(0..10);
        assert_eq!(domain.take_posted(10).len(), 10);
        assert!(rig.engine.arm());
        rig.engine.disarm();
        for _ in 64..100 {
            rig.guest.rx.add(&[(2048, true)]);
        }
        rig.turn();
        let got: Vec<_> = std::iter::from_fn(|| rig.guest.rx.take_received()).collect();
        let frames: Vec<_> = got.into_iter().map(|(_, frame)| frame).collect();
        assert_eq!(numbers(&frames), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn without_a_guest_frames_are_dropped_and_buffers_go_back() {
        let mut rig = Rig::bare(FakeGuest::new());
        let mut domain = rig.install(0, 1);
        rig.engine.activate(0, 1).unwrap();
        for number in 0..2 * RX_BUFFERS as u32 {
            domain.receive(&frame(false, number, 100));
            rig.turn();
        }
        assert_eq!(rig.shared.counters.rx_no_guest.get(), 2 * RX_BUFFERS as u64);
    }

    #[test]
    fn the_guests_own_frames_and_damaged_ones_are_dropped() {
        let (mut rig, mut domain) = Rig::new();
        domain.receive(&frame(true, 1, 100));
        let buffer = domain.dma(&frame(false, 2, 100));
        let damaged = Entry { buffer, len: 100, flags: EntryFlags::ERROR, ..domain.entry() };
        domain.receive_raw(damaged);
        rig.turn();
        assert_eq!(rig.guest.rx.take_used(), None);
        assert_eq!(rig.shared.counters.rx_own.get(), 1);
        assert_eq!(rig.shared.counters.rx_damaged.get(), 1);
        rig.assert_no_violation();
    }

    #[test]
    fn malformed_chains_come_back_unused_and_the_frame_takes_the_next() {
        let (mut rig, mut domain) = Rig::new();
        for number in 0..64 {
            domain.receive(&frame(false, number, 100));
        }
        rig.turn();
        rig.guest.rx.drain_used();
        let bad = rig.guest.rx.add(&[(2048, false)])[0];
        let outside = rig.guest.rx.add(&[(2048, true)])[0];
        rig.guest.rx.set_descriptor(outside, 0x10, 2048, 2, 0);
        let good = rig.guest.rx.add(&[(2048, true)])[0];
        domain.receive(&frame(false, 99, 100));
        rig.turn();
        assert_eq!(rig.guest.rx.take_used(), Some((bad, 0)));
        assert_eq!(rig.guest.rx.take_used(), Some((outside, 0)));
        assert_eq!(rig.guest.rx.take_used(), Some((good, 112)));
        assert_eq!(rig.shared.counters.rx_malformed.get(), 2);
    }

    #[test]
    fn a_ring_of_nothing_but_malformed_chains_does_not_stall() {
        let mut rig = Rig::bare(FakeGuest::new());
        rig.connect();
        let mut domain = rig.install(0, 1);
        rig.engine.activate(0, 1).unwrap();
        for _ in 0..QUEUE {
            rig.guest.rx.add(&[(2048, false)]);
        }
        for number in 0..8 {
            domain.receive(&frame(false, number, 100));
        }
        rig.turn();
        assert_eq!(rig.guest.rx.drain_used(), usize::from(QUEUE));
    }
}

mod notifications {
    use super::*;

    fn with_event_idx() -> (Rig, crate::switchboard::fakes::FakeDomain) {
        let mut guest = FakeGuest::new();
        guest.event_idx = true;
        let mut rig = Rig::bare(guest);
        rig.connect();
        let domain = rig.install(0, 1);
        rig.engine.activate(0, 1).unwrap();
        rig.turn();
        (rig, domain)
    }

    #[test]
    fn a_guest_that_waits_for_the_fourth_frame_is_interrupted_once() {
        let (mut rig, mut domain) = with_event_idx();
        for _ in 0..8 {
            rig.guest.rx.add(&[(2048, true)]);
        }
        rig.guest.rx.set_used_event(3);
        let mut calls = Vec::new();
        for number in 0..6 {
            domain.receive(&frame(false, number, 100));
            rig.turn();
            calls.push(rig.guest.rx.calls());
        }
        assert_eq!(calls, [0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_batch_interrupts_once() {
        let (mut rig, mut domain) = with_event_idx();
        for _ in 0..8 {
            rig.guest.rx.add(&[(2048, true)]);
        }
        for number in 0..6 {
            domain.receive(&frame(false, number, 100));
        }
        rig.turn();
        assert_eq!(rig.guest.rx.calls(), 1);
    }

    #[test]
    fn kicks_are_asked_for_only_before_a_sleep_and_from_where_it_was_looked() {
        let (mut rig, _domain) = with_event_idx();
        rig.send(0..5);
        assert_eq!(rig.guest.tx.avail_event(), 0);
        assert!(rig.engine.arm());
        assert_eq!(rig.guest.tx.avail_event(), 5);
    }

    #[test]
    fn a_frame_that_comes_while_arming_is_not_slept_over() {
        let (mut rig, _domain) = with_event_idx();
        rig.guest.tx.send(&frame(true, 0, 100));
        assert!(!rig.engine.arm());
    }

    #[test]
    fn without_event_idx_the_flags_are_honoured() {
        use vm_memory::{Bytes, GuestAddress};
        let (mut rig, mut domain) = Rig::new();
        let flags = GuestAddress(rig.guest.rx.avail());
        rig.guest.memory.store(1u16, flags, Ordering::SeqCst).unwrap();
        domain.receive(&frame(false, 1, 100));
        rig.turn();
        assert_eq!(rig.guest.rx.calls(), 0);
        rig.guest.memory.store(0u16, flags, Ordering::SeqCst).unwrap();
        domain.receive(&frame(false, 2, 100));
        rig.turn();
        assert_eq!(rig.guest.rx.calls(), 1);
    }

    #[test]
    fn a_domain_notifies_only_while_the_switchboard_sleeps() {
        let (mut rig, mut domain) = Rig::new();
        let asleep = &domain.slot.clone();
        assert_eq!(asleep.control().switchboard_asleep.0.load(Ordering::SeqCst), 0);
        assert!(rig.engine.arm());
        assert_eq!(asleep.control().switchboard_asleep.0.load(Ordering::SeqCst), 1);
        domain.receive(&frame(false, 1, 100));
        assert!(!rig.engine.arm(), "published just before the sleep");
        rig.engine.disarm();
        assert_eq!(asleep.control().switchboard_asleep.0.load(Ordering::SeqCst), 0);
    }
}

/// Each malformed entry is a violation, reported once, and costs the guest nothing.
mod violations {
    use super::*;
    use crate::switchboard::Violation;
    use crate::switchboard::fakes::FakeDomain;

    fn after(act: impl FnOnce(&mut Rig, &mut FakeDomain)) -> (Rig, Violation) {
        let (mut rig, mut domain) = Rig::new();
        domain.receive(&frame(false, 1, 100));
        rig.turn();
        act(&mut rig, &mut domain);
        rig.turn();
        // Whatever it publishes now is not looked at.
        domain.receive(&frame(false, 2, 100));
        rig.turn();
        assert_eq!(rig.guest.rx.take_received().unwrap().1, frame(false, 1, 100));
        assert_eq!(rig.guest.rx.take_received(), None);
        assert!(rig.engine.arm(), "an ignored domain does not keep the loop awake");
        let violation = rig.violation();
        (rig, violation)
    }

    fn received(edit: impl FnOnce(&mut Entry)) -> Violation {
        after(|_, domain| {
            let buffer = domain.dma(&frame(false, 3, 100));
            let mut entry = Entry { buffer, len: 100, ..domain.entry() };
            edit(&mut entry);
            domain.receive_raw(entry);
        })
        .1
    }

    #[test]
    fn a_buffer_beyond_the_pool() {
        let expected = Violation::UnknownBuffer { ring: RingName::RxDone, buffer: 1024 };
        assert_eq!(received(|entry| entry.buffer = 1024), expected);
    }

    #[test]
    fn a_length_out_of_range() {
        for bad in [0, 13, 2049, u16::MAX] {
            let Violation::BadLength { len, .. } = received(|entry| entry.len = bad) else {
                panic!()
            };
            assert_eq!(len, bad);
        }
    }

    #[test]
    fn flags_without_meaning_on_this_ring() {
        for bad in [0x8000, EntryFlags::TSO4.0, EntryFlags::MORE.0] {
            let expected = Violation::UnknownFlags { ring: RingName::RxDone, flags: bad };
            assert_eq!(received(|entry| entry.flags = EntryFlags(bad)), expected);
        }
    }

    #[test]
    fn another_epoch() {
        let found = received(|entry| entry.epoch = 9);
        let expected = Violation::WrongEpoch { ring: RingName::RxDone, found: 9, expected: 1 };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_buffer_returned_twice() {
        let (_, violation) = after(|_, domain| {
            let buffer = domain.dma(&frame(false, 1, 100));
            for _ in 0..2 {
                domain.receive_raw(Entry { buffer, len: 5, ..domain.entry() });
            }
        });
        assert!(matches!(violation, Violation::BadLength { .. }), "the first is checked first");
        let (mut rig, mut domain) = Rig::new();
        let buffer = domain.dma(&frame(false, 1, 100));
        for _ in 0..2 {
            domain.receive_raw(Entry { buffer, len: 100, ..domain.entry() });
        }
        rig.turn();
        // Returned once and provided again: the second return finds the cleared header.
        assert_eq!(rig.violation(), Violation::StaleHeader { buffer });
    }

    #[test]
    fn a_buffer_whose_header_nobody_wrote() {
        let (_, violation) = after(|_, domain| {
            let buffer = domain.take_buffer().buffer;
            domain.receive_raw(Entry { buffer, len: 100, ..domain.entry() });
        });
        assert!(matches!(violation, Violation::StaleHeader { .. }));
    }

    #[test]
    fn an_impossible_cursor() {
        let (_, violation) = after(|_, domain| {
            let published = &domain.slot.status().rx_done_published.0;
            published.store(5000, Ordering::SeqCst);
        });
        let cursor = Violation::Cursor { ring: RingName::RxDone, own: 1, other: 5000 };
        assert_eq!(violation, cursor);
        let (_, violation) = after(|rig, domain| {
            domain.slot.status().tx_post_consumed.0.store(77, Ordering::SeqCst);
            rig.send(0..1);
        });
        assert_eq!(violation, Violation::Cursor { ring: RingName::TxPost, own: 0, other: 77 });
        let (_, violation) = after(|_, domain| {
            domain.slot.status().tx_done_published.0.store(u32::MAX, Ordering::SeqCst);
        });
        assert!(matches!(violation, Violation::Cursor { ring: RingName::TxDone, .. }));
    }

    #[test]
    fn a_claim_that_was_not_posted() {
        let (_, violation) = after(|_, domain| {
            domain.claim_raw(Entry { buffer: 3, ..domain.entry() });
        });
        assert_eq!(violation, Violation::NotPosted { buffer: 3 });
        let (_, violation) = after(|_, domain| {
            domain.claim_raw(Entry { buffer: 1024, ..domain.entry() });
        });
        let unknown = Violation::UnknownBuffer { ring: RingName::TxDone, buffer: 1024 };
        assert_eq!(violation, unknown);
    }

    #[test]
    fn a_claim_made_twice() {
        let (mut rig, mut domain) = Rig::new();
        rig.send(0..1);
        domain.take_posted(1);
        let buffer = domain.in_hand[0].buffer;
        domain.claim(1);
        domain.claim_raw(Entry { buffer, ..domain.entry() });
        rig.turn();
        assert_eq!(rig.violation(), Violation::NotPosted { buffer });
    }

    #[test]
    fn anything_that_a_standby_publishes() {
        let (mut rig, mut domain) = Rig::new();
        let mut standby = rig.install(1, 2);
        rig.turn();
        rig.assert_no_violation();
        standby.receive(&frame(false, 1, 100));
        rig.turn();
        let expected = Violation::NotActive { ring: RingName::RxDone, entries: 1 };
        assert_eq!(rig.violation(), expected);
        domain.receive(&frame(false, 2, 100));
        rig.turn();
        assert_eq!(rig.guest.rx.take_received().unwrap().1, frame(false, 2, 100));
    }

    #[test]
    fn the_guests_frames_wait_for_a_takeover() {
        let (mut rig, _domain) = Rig::new();
        let mut standby = rig.install(1, 2);
        rig.slots[0].status().rx_done_published.0.store(5000, Ordering::SeqCst);
        rig.turn();
        rig.send(0..3);
        let report = rig.take_over(1, 2);
        assert_eq!((report.refused, report.lost), (0, 0));
        rig.turn();
        let frames = standby.take_posted(9);
        assert!(is_announcement(&frames[0]));
        assert_eq!(numbers(&frames[1..]), [0, 1, 2]);
        assert_eq!(rig.engine.mac, MAC);
    }
}
