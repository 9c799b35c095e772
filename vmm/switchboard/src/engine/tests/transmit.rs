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

/// A wrong tail: old descriptors go out again, and none of the frames is known to be among them.
#[test]
fn a_nic_that_sends_more_than_it_was_given_is_found_and_confirms_nothing() {
    let (mut rig, mut domain) = Rig::new();
    rig.send(0..3);
    domain.take_posted(3);
    domain.claim(3);
    rig.turn();
    rig.nics[0].send(300);
    rig.tick();
    assert_eq!(rig.violation(), Violation::Surplus { frames: 297 });
    assert_eq!(rig.shared.counters.tx_confirmed.get(), 0);
    assert_eq!(rig.engine.deadline_ns(rig.now), None, "it is not asked again");
    let mut spare = rig.install(1, 2);
    rig.nics[0].send(100);
    rig.take_over(1, 2);
    let posted = spare.take_posted(4);
    assert!(is_announcement(&posted[0]));
    assert_eq!(numbers(&posted[1..]), [0, 1, 2], "all go out again");
}

/// As a management controller's on the same NIC would be.
#[test]
fn a_frame_of_somebody_elses_now_and_then_is_no_failure() {
    let (mut rig, mut domain) = Rig::new();
    for n in 0..100 {
        rig.send(n..n + 1);
        domain.take_posted(1);
        domain.claim(1);
        rig.turn();
        rig.nics[0].send(if n % 2 == 0 { 3 } else { 1 });
        rig.tick();
    }
    assert_eq!(rig.shared.counters.tx_confirmed.get(), 100);
    rig.assert_no_violation();
}

#[test]
fn frames_counted_on_a_dead_link_are_sent_again() {
    let (mut rig, mut domain) = Rig::new();
    rig.send(0..2);
    domain.take_posted(2);
    domain.claim(2);
    rig.nics[0].set_link(false);
    rig.nics[0].send(2);
    rig.turn();
    rig.tick();
    assert_eq!(rig.shared.counters.tx_confirmed.get(), 0);
    rig.nics[0].set_link(true);
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
fn frames_counted_after_the_last_look_at_a_dead_link_are_sent_again_too() {
    let (mut rig, mut domain) = Rig::new();
    rig.send(0..2);
    domain.take_posted(2);
    domain.claim(2);
    rig.nics[0].set_link(false);
    rig.turn();
    rig.tick();
    rig.nics[0].send(2);
    rig.nics[0].set_link(true);
    rig.tick();
    assert_eq!(rig.shared.counters.tx_confirmed.get(), 0);
    rig.tick();
    assert_eq!(numbers(&domain.take_posted(2)), [0, 1]);
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
    let counters = &rig.shared.counters;
    assert_eq!((counters.tx_malformed.get(), counters.tx_too_long.get()), (8, 1));
    assert_eq!(domain.take_posted(10).len(), 0);
    // The next good one goes through.
    rig.send(5..6);
    assert_eq!(numbers(&domain.take_posted(10)), [5]);
}

#[test]
fn an_offload_that_was_not_offered_is_refused() {
    use vm_memory::{Bytes, GuestAddress};
    let (mut rig, mut domain) = Rig::new();
    // UDP, TCP with ECN, UDP by the newer way; and TCP without its checksum.
    for header in [[1u8, 3], [1, 0x81], [1, 5], [0, 1]] {
        rig.guest.tx.send(&frame(true, 1, 100));
        let last = rig.guest.tx.available.wrapping_sub(1) % QUEUE;
        let address = GuestAddress(rig.guest.tx.buffer(last));
        rig.guest.memory.write_slice(&header, address).unwrap();
    }
    rig.turn();
    assert_eq!(rig.shared.counters.tx_malformed.get(), 4);
    assert!(domain.take_posted(4).is_empty());
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
    assert_eq!(rig.shared.port_events[0].event.read().unwrap(), 1);
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
    rig.engine.set_rings(0, [RingChange::Keep, RingChange::Start(ring)]);
    rig.send(0..3);
    assert_eq!(rig.guest.tx.drain_used(), 3);
    assert!(domain.take_posted(3).is_empty());
    assert_eq!(rig.shared.counters.tx_discarded.get(), 3);
}

#[test]
fn a_domain_that_claims_before_it_says_what_it_took_delays_nothing_for_ever() {
    let (mut rig, mut domain) = Rig::new();
    let mut got = 0;
    for round in 0..20 {
        rig.send(round * 100..round * 100 + 100);
        rig.guest.tx.drain_used();
        // Takes entries without publishing its cursor.
        while let Some(entry) = domain.rings.tx_post.pop().unwrap() {
            domain.claim_raw(Entry { buffer: entry.buffer, ..domain.entry() });
            rig.nics[0].send(1);
            got += 1;
        }
        rig.tick();
    }
    assert!(got < 2000, "the ring is full");
    assert!(rig.engine.arm());
    rig.engine.disarm();
    assert!(rig.engine.deadline_ns(rig.now).is_some(), "nobody else wakes the loop");
    domain.rings.tx_post.release();
    rig.tick();
    got += domain.take_posted(2000).len();
    rig.tick();
    got += domain.take_posted(2000).len();
    assert_eq!(got, rig.shared.counters.tx_frames.get() as usize);
    rig.assert_no_violation();
}

/// A header that leaves a checksum to be computed.
fn needs_checksum(start: u16, offset: u16) -> [u8; 12] {
    let mut header = [0; 12];
    header[0] = 1;
    header[6..8].copy_from_slice(&start.to_le_bytes());
    header[8..10].copy_from_slice(&offset.to_le_bytes());
    header
}

/// Chains of a hundred descriptors, nearly all of them empty, as many as the ring takes.
#[test]
fn a_turn_reads_only_so_many_descriptors_of_a_ring() {
    let (mut rig, mut domain) = Rig::new();
    let mut parts = vec![(0, false); 100];
    parts[0].0 = 12 + 60;
    let head = rig.guest.tx.chain(&parts)[0];
    let bytes = [&[0; 12][..], &frame(true, 1, 60)].concat();
    let address = vm_memory::GuestAddress(rig.guest.tx.buffer(head));
    vm_memory::Bytes::write_slice(&*rig.guest.memory, &bytes, address).unwrap();
    (0..QUEUE).for_each(|_| rig.guest.tx.offer(head));
    assert!(rig.engine.turn(rig.now));
    let first = rig.guest.tx.drain_used();
    assert!((1..64).contains(&first), "{first} chains in one turn");
    assert!(!rig.engine.arm(), "the rest is not forgotten");
    rig.engine.disarm();
    rig.turn();
    assert_eq!(first + rig.guest.tx.drain_used(), usize::from(QUEUE));
    assert_eq!(domain.take_posted(2000).len(), usize::from(QUEUE));
}

/// Frames as long as the wire takes count their buffers.
#[test]
fn a_turn_copies_only_so_many_bytes() {
    let (mut rig, _domain) = Rig::new();
    let turn_bytes = TURN_FRAMES * BUFFER_BYTES;
    let parts = [(4096, false), (4096, false), (1000, false)];
    for _ in 0..80 {
        let head = rig.guest.tx.chain(&parts)[0];
        let bytes = [&[0; 12][..], &frame(true, 1, 60)].concat();
        let address = vm_memory::GuestAddress(rig.guest.tx.buffer(head));
        vm_memory::Bytes::write_slice(&*rig.guest.memory, &bytes, address).unwrap();
        rig.guest.tx.offer(head);
    }
    assert!(rig.engine.turn(rig.now));
    let bytes = rig.shared.counters.tx_bytes.get() as usize;
    assert!(bytes > 0 && bytes <= turn_bytes + MAX_FRAME_BYTES, "{bytes} of {turn_bytes}");
    rig.turn();
    assert_eq!(rig.guest.tx.drain_used(), 80);
}

#[test]
fn a_ring_of_malformed_chains_is_stopped() {
    let (mut rig, mut domain) = Rig::new();
    let bad = rig.guest.tx.chain(&[(100, true)])[0];
    // Not by some among good ones.
    for n in 0..5 {
        (0..200).for_each(|_| rig.guest.tx.offer(bad));
        rig.send(n..n + 1);
        assert_eq!(rig.guest.tx.drain_used(), 201);
    }
    assert_eq!(domain.take_posted(9).len(), 5);
    assert_eq!(rig.shared.counters.guest_rings_broken.get(), 0);
    for _ in 0..2 {
        (0..200).for_each(|_| rig.guest.tx.offer(bad));
        rig.turn();
    }
    assert_eq!(rig.shared.counters.guest_rings_broken.get(), 1);
    assert!(rig.shared.port_events[0].broken[TX_RING].load(Ordering::Relaxed));
    assert!(rig.engine.arm(), "it keeps nobody awake");
    rig.engine.disarm();
    // The other ring goes on, and so does this one when it is started anew.
    domain.receive(&frame(false, 1, 100));
    rig.turn();
    assert_eq!(rig.guest.rx.drain_used(), 1);
}

#[test]
fn the_nic_is_asked_once_in_a_turn() {
    let (mut rig, mut domain) = Rig::new();
    rig.install(1, 2);
    for n in 0..5 {
        rig.send(n * 180..n * 180 + 180);
        rig.guest.tx.drain_used();
    }
    rig.engine.overlap(1, 2).unwrap();
    let (reply, _answer) = std::sync::mpsc::sync_channel(1);
    rig.engine.hand_over(rig.now, reply);
    domain.take_posted(2000);
    domain.claim(100);
    let before = rig.nics[0].asked();
    rig.now += MS;
    rig.engine.turn(rig.now);
    assert_eq!(rig.nics[0].asked() - before, 1, "draining, due, and low on buffers at once");
}

#[test]
fn a_tcp_checksum_is_left_to_the_nic_and_again_after_a_failure() {
    let (mut rig, mut domain) = Rig::new();
    rig.guest.tx.send_behind(&needs_checksum(34, 16), &frame(true, 1, 100));
    rig.turn();
    domain.take_posted(1);
    let first = domain.in_hand[0];
    assert!(first.flags.contains(EntryFlags::CHECKSUM));
    assert_eq!((first.csum_start, first.csum_offset), (34, 16));
    let mut spare = rig.install(1, 2);
    rig.take_over(1, 2);
    rig.turn();
    spare.take_posted(2);
    let again = spare.in_hand[1];
    assert_eq!((again.flags, again.csum_start), (first.flags, 34));
}

#[test]
fn a_checksum_that_no_nic_knows_is_computed_here() {
    let (mut rig, mut domain) = Rig::new();
    // ICMPv6 has its field at 2; the field's seed is zero here.
    let mut sent = frame(true, 1, 3001);
    sent[40..42].fill(0);
    rig.guest.tx.send_behind(&needs_checksum(38, 2), &sent);
    rig.turn();
    let posted = domain.take_posted(2);
    assert_eq!(domain.in_hand[0].flags, EntryFlags::MORE);
    let words = posted[0][38..]
        .chunks(2)
        .map(|word| u64::from(word[0]) << 8 | word.get(1).map_or(0, |low| u64::from(*low)));
    assert_eq!(words.sum::<u64>() % 0xffff, 0, "the sum over all is zero");
}

#[test]
fn a_checksum_outside_its_frame_is_malformed() {
    let (mut rig, mut domain) = Rig::new();
    rig.guest.tx.send_behind(&needs_checksum(90, 16), &frame(true, 1, 100));
    rig.turn();
    assert_eq!(rig.guest.tx.drain_used(), 1, "its chain comes back all the same");
    assert_eq!(rig.shared.counters.tx_malformed.get(), 1);
    assert!(domain.take_posted(1).is_empty());
}
