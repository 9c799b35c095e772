use super::*;
use crate::igb::descriptor::rx;
use crate::testing::{FakeCalls, FakeClock, ModelNic, Personality, TestMemory, VmmRings};
use shared_ring::igb_registers as reg;
use shared_ring::layout::{NIC_RX_DESCRIPTORS, NIC_TX_DESCRIPTORS, RX_SLOT_EMPTY};

struct Bench {
    domain: Domain<'static, ModelNic, FakeCalls>,
    nic: ModelNic,
    vmm: VmmRings,
    calls: FakeCalls,
    memory: TestMemory,
}

impl Bench {
    /// An active domain with the first `buffers` receive buffers.
    fn new(buffers: u16) -> Self {
        let memory = TestMemory::new(Role::Active);
        let nic = ModelNic::new(Personality::Hardware, memory.domain.nic);
        let mut vmm = memory.vmm_rings();
        vmm.provide(0..buffers);
        let calls = FakeCalls::default();
        // SAFETY: fresh memory, one domain on it.
        let domain = unsafe { Domain::new(memory.domain, nic.clone(), calls.clone()) };
        let mut domain = domain.unwrap();
        domain.attach(&FakeClock::default()).unwrap();
        Self { domain, nic, vmm, calls, memory }
    }

    fn turn(&mut self) -> bool {
        crate::serve::turn(&mut self.domain, Domain::rx_return, Domain::tx_provide).unwrap()
    }

    fn error_of_turn(&mut self) -> DomainError {
        crate::serve::turn(&mut self.domain, Domain::rx_return, Domain::tx_provide).unwrap_err()
    }

    fn sent_buffers(&self) -> Vec<u16> {
        let buffer = |iova: u64| ((iova - 0x4000_0000) / BUFFER_BYTES as u64) as u16;
        self.nic.take_sent().into_iter().flatten().map(|(iova, _)| buffer(iova)).collect()
    }

    fn rx_slot(&self, descriptor: usize) -> u16 {
        self.memory.domain.nic.rx_slots[descriptor].load(Ordering::Relaxed)
    }
}

#[test]
fn a_frame_is_sent_and_claimed() {
    let mut bench = Bench::new(0);
    bench.vmm.post([VmmRings::frame(17, 60)]);
    assert!(bench.turn());
    assert_eq!(bench.sent_buffers(), [17]);
    assert_eq!(bench.vmm.take_sent(), [], "claimed only when the NIC has written back");
    assert!(bench.turn());
    assert_eq!(bench.vmm.take_sent(), [17]);
    assert!(!bench.turn());
    let counters = &bench.memory.domain.status.counters;
    assert_eq!(counters.tx_frames.load(Ordering::Relaxed), 1);
    assert_eq!(counters.tx_bytes.load(Ordering::Relaxed), 60);
}

#[test]
fn a_plain_frame_is_one_descriptor_as_the_datasheet_wants_it() {
    let mut bench = Bench::new(0);
    bench.nic.complete_transmits(false);
    bench.vmm.post([VmmRings::frame(3, 1514)]);
    bench.turn();
    let [iova, word] = bench.memory.domain.nic.tx_ring[1].words();
    assert_eq!(iova, VmmRings::frame(3, 1514).iova);
    assert_eq!(word as u32, 0x2b30_0000 | 1514);
    assert_eq!((word >> 32) as u32, 1514 << 14);
}

#[test]
fn a_burst_costs_one_doorbell() {
    let mut bench = Bench::new(0);
    let before = bench.nic.writes_to(reg::TDT).len();
    bench.vmm.post((0..40).map(|n| VmmRings::frame(n, 100)));
    bench.turn();
    assert_eq!(bench.nic.writes_to(reg::TDT).len(), before + 1);
    assert_eq!(bench.sent_buffers(), (0..40).collect::<Vec<_>>());
}

#[test]
fn an_unsent_frame_is_never_claimed() {
    let mut bench = Bench::new(0);
    bench.nic.complete_transmits(false);
    bench.vmm.post((0..10).map(|n| VmmRings::frame(n, 100)));
    while bench.turn() {}
    assert_eq!(bench.vmm.take_sent(), []);
    bench.nic.complete_transmits(true);
    assert!(bench.turn());
    assert_eq!(bench.vmm.take_sent(), (0..10).collect::<Vec<_>>());
}

#[test]
fn more_frames_than_descriptors_wait_for_their_turn() {
    let mut bench = Bench::new(0);
    bench.nic.complete_transmits(false);
    let frames = NIC_TX_DESCRIPTORS as u16 + 100;
    bench.vmm.post((0..frames).map(|n| VmmRings::frame(n, 100)));
    while bench.turn() {}
    let waiting = bench.vmm.tx_post.consumed().unwrap();
    assert!(waiting < NIC_TX_DESCRIPTORS as u32, "{waiting} frames with the NIC");
    bench.nic.complete_transmits(true);
    while bench.turn() {}
    assert_eq!(bench.sent_buffers(), (0..frames).collect::<Vec<_>>());
    assert_eq!(bench.vmm.take_sent(), (0..frames).collect::<Vec<_>>());
}

#[test]
fn the_transmit_ring_wraps_many_times() {
    let mut bench = Bench::new(0);
    for round in 0..50u16 {
        let buffers: Vec<u16> = (0..77).map(|n| (round * 77 + n) % 1024).collect();
        bench.vmm.post(buffers.iter().map(|n| VmmRings::frame(*n, 60 + n % 1000)));
        while bench.turn() {}
        assert_eq!(bench.sent_buffers(), buffers);
        assert_eq!(bench.vmm.take_sent(), buffers);
    }
}

/// A frame of 3,000 bytes in two buffers.
fn long_frame(first: u16) -> [Entry; 2] {
    let head = Entry { flags: EntryFlags::MORE, frame_len: 3000, ..VmmRings::frame(first, 2048) };
    [head, VmmRings::frame(first + 1, 952)]
}

#[test]
fn a_frame_in_several_buffers_is_one_packet_and_claimed_as_a_whole() {
    let mut bench = Bench::new(0);
    bench.nic.complete_transmits(false);
    bench.vmm.post(long_frame(8));
    bench.turn();
    let words = |at: usize| bench.memory.domain.nic.tx_ring[at].words()[1];
    assert_eq!(words(1), (3000 << 14 << 32) | 0x2230_0000 | 2048, "first: PAYLEN is the frame's");
    assert_eq!(words(2), 0x2b30_0000 | 952, "last: end of packet, report status");
    bench.nic.complete_transmits(true);
    assert_eq!(bench.nic.take_sent()[0].len(), 2);
    bench.turn();
    assert_eq!(bench.vmm.take_sent(), [8, 9]);
}

#[test]
fn half_a_frame_is_not_shown_to_the_nic() {
    let mut bench = Bench::new(0);
    let [head, tail] = long_frame(8);
    let before = bench.nic.writes_to(reg::TDT).len();
    bench.vmm.post([head]);
    while bench.turn() {}
    assert_eq!(bench.nic.writes_to(reg::TDT).len(), before);
    bench.vmm.post([tail]);
    while bench.turn() {}
    assert_eq!(bench.sent_buffers(), [8, 9]);
}

#[test]
fn a_checksum_request_gets_a_context_that_is_claimed_silently() {
    let mut bench = Bench::new(0);
    let entry = Entry {
        flags: EntryFlags::CHECKSUM,
        csum_start: 34,
        csum_offset: 6,
        ..VmmRings::frame(4, 200)
    };
    bench.vmm.post([entry, VmmRings::frame(5, 60)]);
    // Before it is claimed: then the descriptors are emptied.
    assert!(bench.turn());
    let data = bench.memory.domain.nic.tx_ring[2].words()[1];
    assert_ne!(data & (1 << 9 << 32), 0, "insert the transport checksum");
    while bench.turn() {}
    assert_eq!(bench.sent_buffers(), [4, 5]);
    assert_eq!(bench.vmm.take_sent(), [4, 5]);
}

#[test]
fn a_received_frame_is_published_with_its_buffer() {
    let mut bench = Bench::new(600);
    bench.nic.arrive(98);
    assert_eq!(bench.rx_slot(0), 0, "the VMM can tell which buffer descriptor 0 filled");
    assert!(bench.turn());
    let received = bench.vmm.take_received();
    assert_eq!(received.len(), 1);
    assert_eq!((received[0].buffer, received[0].len), (0, 98));
    assert_eq!(received[0].flags, EntryFlags::NONE);
    let status = bench.memory.domain.status;
    assert_eq!(status.rx_next.load(Ordering::Relaxed), 1);
    assert_eq!(bench.rx_slot(0), RX_SLOT_EMPTY);
    assert_eq!(status.counters.rx_frames.load(Ordering::Relaxed), 1);
}

#[test]
fn a_frame_that_spans_buffers_says_so() {
    let mut bench = Bench::new(600);
    bench.nic.arrive(5000);
    bench.turn();
    let parts: Vec<_> = bench.vmm.take_received().iter().map(|e| (e.len, e.flags.0)).collect();
    assert_eq!(parts, [(2048, EntryFlags::MORE.0), (2048, EntryFlags::MORE.0), (904, 0)]);
    let frames = bench.memory.domain.status.counters.rx_frames.load(Ordering::Relaxed);
    assert_eq!(frames, 1);
}

#[test]
fn half_a_frame_is_not_published() {
    let mut bench = Bench::new(600);
    let ring = bench.memory.domain.nic.rx_ring;
    let part = |n: usize, end: u64| ring[n].write_back(rx::DONE | end | 2048 << 32);
    bench.nic.arrive(98);
    bench.turn();
    assert_eq!(bench.vmm.take_received().len(), 1);
    part(1, 0);
    part(2, 0);
    assert!(!bench.turn(), "nothing to do: the domain may sleep until the NIC is done");
    assert_eq!(bench.vmm.take_received(), []);
    assert_eq!(bench.memory.domain.status.rx_next.load(Ordering::Relaxed), 1);
    part(3, rx::END);
    assert!(bench.turn());
    assert_eq!(bench.vmm.take_received().len(), 3);
    assert_eq!(bench.memory.domain.status.rx_next.load(Ordering::Relaxed), 4);
}

#[test]
fn a_batch_ends_between_two_frames() {
    let mut bench = Bench::new(600);
    // Five buffers each: 128, a whole batch, would end in the middle of one.
    (0..40).for_each(|_| bench.nic.arrive(9014));
    while bench.turn() {
        let received = bench.vmm.take_received();
        assert!(received.len().is_multiple_of(5), "{} entries", received.len());
    }
    assert_eq!(bench.memory.domain.status.counters.rx_frames.load(Ordering::Relaxed), 40);
}

#[test]
fn a_damaged_frame_is_marked() {
    let mut bench = Bench::new(600);
    bench.nic.arrive_damaged(64);
    bench.turn();
    assert_eq!(bench.vmm.take_received()[0].flags, EntryFlags::ERROR);
}

#[test]
fn the_receive_ring_wraps_many_times_and_every_buffer_comes_back_once() {
    let mut bench = Bench::new(1024);
    let mut owned = [true; 1024];
    for round in 0..100u32 {
        for n in 0..60 {
            bench.nic.arrive(64 + (round * 60 + n) % 1400);
        }
        while bench.turn() {}
        let received = bench.vmm.take_received();
        let lengths: Vec<u32> = received.iter().map(|e| u32::from(e.len)).collect();
        let expected: Vec<u32> = (0..60).map(|n| 64 + (round * 60 + n) % 1400).collect();
        assert_eq!(lengths, expected);
        for entry in &received {
            let was_owned = std::mem::take(&mut owned[usize::from(entry.buffer)]);
            assert!(was_owned, "buffer {} twice", entry.buffer);
        }
        for entry in &received {
            owned[usize::from(entry.buffer)] = true;
        }
        bench.vmm.provide(received.iter().map(|e| e.buffer));
    }
}

#[test]
fn the_nic_never_gets_a_full_receive_ring() {
    let bench = Bench::new(1024);
    assert_eq!(bench.nic.peek(reg::RDT), NIC_RX_DESCRIPTORS as u32 - 1);
    let taken = bench.vmm.rx_provide.consumed().unwrap();
    assert_eq!(taken, NIC_RX_DESCRIPTORS as u32 - 1);
}

#[test]
fn receive_doorbells_are_batched() {
    let mut bench = Bench::new(511);
    let before = bench.nic.writes_to(reg::RDT).len();
    for _ in 0..2 * budget::RX_DOORBELL_BATCH {
        bench.nic.arrive(64);
        bench.turn();
        let received = bench.vmm.take_received();
        bench.vmm.provide(received.iter().map(|e| e.buffer));
        bench.turn();
    }
    assert_eq!(bench.nic.writes_to(reg::RDT).len(), before + 2);
}

#[test]
fn with_few_buffers_left_each_is_worth_a_doorbell() {
    let mut bench = Bench::new(100);
    let before = bench.nic.writes_to(reg::RDT).len();
    bench.vmm.provide([100]);
    bench.turn();
    assert_eq!(bench.nic.writes_to(reg::RDT).len(), before + 1);
}

#[test]
fn what_is_completed_but_unpublished_stays_to_be_salvaged() {
    let mut bench = Bench::new(600);
    let batch = budget::BATCH_FRAMES as usize;
    for _ in 0..batch + 6 {
        bench.nic.arrive(64);
    }
    bench.turn();
    let next = bench.memory.domain.status.rx_next.load(Ordering::Relaxed) as usize;
    assert_eq!(next, batch);
    assert_eq!(bench.vmm.take_received().len(), batch);
    for descriptor in next..batch + 6 {
        assert_eq!(usize::from(bench.rx_slot(descriptor)), descriptor);
        assert_eq!(bench.memory.domain.nic.rx_ring[descriptor].status() & 3, 3);
    }
}

#[test]
fn the_switchboard_is_told_only_if_it_sleeps() {
    let mut bench = Bench::new(600);
    bench.nic.arrive(64);
    bench.turn();
    assert_eq!(bench.calls.notifies(), 0);
    bench.memory.domain.control.switchboard_asleep.0.store(1, Ordering::Relaxed);
    bench.turn();
    assert_eq!(bench.calls.notifies(), 0, "nothing new");
    bench.nic.arrive(64);
    bench.turn();
    assert_eq!(bench.calls.notifies(), 1);
}

#[test]
fn a_domain_with_nothing_to_do_parks() {
    let mut bench = Bench::new(600);
    let status = bench.memory.domain.status;
    bench.calls.on_wait(move |_| assert_eq!(status.parked.load(Ordering::Relaxed), 1));
    assert!(!bench.turn());
    bench.domain.park().unwrap();
    assert_eq!(bench.calls.waits(), 1);
    assert_eq!(status.parked.load(Ordering::Relaxed), 0);
}

#[test]
fn work_that_comes_before_the_last_look_is_not_slept_over() {
    for work in 0..4 {
        let mut bench = Bench::new(100);
        bench.nic.complete_transmits(false);
        bench.vmm.post([VmmRings::frame(1, 60)]);
        while bench.turn() {}
        match work {
            0 => bench.vmm.post([VmmRings::frame(2, 60)]),
            1 => bench.vmm.provide([101]),
            2 => bench.nic.arrive(64),
            _ => bench.nic.complete_transmits(true),
        }
        bench.domain.park().unwrap();
        assert_eq!(bench.calls.waits(), 0, "case {work}");
        assert_eq!(bench.memory.domain.status.parked.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn interrupts_are_masked_in_a_long_busy_spell_and_never_while_parked() {
    let mut bench = Bench::new(0);
    let status = bench.memory.domain.status;
    for n in 0..40 {
        bench.vmm.post([VmmRings::frame(n, 60)]);
        bench.turn();
    }
    assert_eq!(bench.nic.peek(reg::EIMS), 2, "vector 1 is the VMM's and stays");
    assert_eq!(status.interrupts_masked.load(Ordering::Relaxed), 1);
    let nic = bench.nic.clone();
    bench.calls.on_wait(move |_| {
        assert_eq!(nic.peek(reg::EIMS), 3);
        assert_eq!(status.interrupts_masked.load(Ordering::Relaxed), 0);
    });
    while bench.turn() {}
    bench.domain.park().unwrap();
    assert_eq!(bench.calls.waits(), 1);
}

#[test]
fn a_frame_at_low_rate_costs_only_its_doorbell() {
    let mut bench = Bench::new(511);
    let before = bench.nic.writes().len();
    for n in 0..10 {
        bench.vmm.post([VmmRings::frame(n, 60)]);
        while bench.turn() {}
        bench.domain.park().unwrap();
    }
    assert_eq!(bench.nic.writes().len() - before, 10);
}

#[test]
fn the_vmm_can_ask_for_a_sign_of_life() {
    let mut bench = Bench::new(0);
    let control = bench.memory.domain.control;
    control.wake_reason.store(wake::CHECK, Ordering::Relaxed);
    bench.domain.park().unwrap();
    bench.nic.remove();
    assert_eq!(bench.domain.park(), Err(DomainError::NicGone));
    control.wake_reason.store(wake::KICK, Ordering::Relaxed);
    bench.domain.park().unwrap();
}

#[test]
fn every_turn_is_a_heartbeat() {
    let mut bench = Bench::new(0);
    for _ in 0..5 {
        bench.turn();
    }
    assert_eq!(bench.memory.domain.status.heartbeat.load(Ordering::Relaxed), 5);
}

#[test]
fn a_frame_is_in_our_hand_before_it_is_touched() {
    let mut bench = Bench::new(0);
    bench.vmm.post([VmmRings::frame(1, 60), Entry { epoch: 9, ..VmmRings::frame(2, 60) }]);
    assert_eq!(bench.error_of_turn(), DomainError::Entry(EntryError::Epoch));
    assert_eq!(bench.vmm.tx_post.consumed(), Ok(2));
}

#[test]
fn impossible_transmit_entries_are_errors() {
    use EntryError::{Address, Buffer, Epoch, Flags, Length};
    let good = VmmRings::frame(1, 60);
    let [head, _] = long_frame(1);
    let cases = [
        (Entry { epoch: 1, ..good }, Epoch),
        (Entry { buffer: 1024, ..good }, Buffer),
        (Entry { iova: 0, ..good }, Address),
        (Entry { iova: good.iova | 0xfff, ..good }, Address),
        (Entry { len: 16, ..good }, Length),
        (Entry { len: 0, ..good }, Length),
        (Entry { len: 2049, ..good }, Length),
        (Entry { frame_len: 2048, ..head }, Length),
        (Entry { frame_len: 9729, ..head }, Length),
        (Entry { flags: EntryFlags(1 << 9), ..good }, Flags),
        (Entry { flags: EntryFlags::ERROR, ..good }, Flags),
    ];
    for (entry, expected) in cases {
        let mut bench = Bench::new(0);
        bench.vmm.post([entry]);
        assert_eq!(bench.error_of_turn(), DomainError::Entry(expected), "{entry:?}");
        assert_eq!(bench.sent_buffers(), []);
    }
}

#[test]
fn impossible_receive_buffers_are_errors() {
    use EntryError::{Address, Buffer, Epoch, Length};
    let good = VmmRings::empty(1);
    let cases = [
        (Entry { epoch: 1, ..good }, Epoch),
        (Entry { buffer: 1024, ..good }, Buffer),
        (Entry { iova: good.iova + 2, ..good }, Address),
        (Entry { len: 64, ..good }, Length),
    ];
    for (entry, expected) in cases {
        let mut bench = Bench::new(0);
        bench.vmm.rx_provide.push(entry).unwrap();
        bench.vmm.rx_provide.publish();
        assert_eq!(bench.error_of_turn(), DomainError::Entry(expected), "{entry:?}");
    }
}

#[test]
fn an_impossible_cursor_is_an_error() {
    let mut bench = Bench::new(0);
    bench.memory.domain.control.tx_post_published.0.store(5000, Ordering::Relaxed);
    assert!(matches!(bench.error_of_turn(), DomainError::Cursor(_)));
}

#[test]
fn only_a_control_page_of_this_abi_will_do() {
    let memory = TestMemory::new(Role::Active);
    assert!(check_control(&memory.domain).is_ok());
    memory.domain.control.tsc_khz.store(0, Ordering::Relaxed);
    assert_eq!(check_control(&memory.domain).unwrap_err(), DomainError::NoTimeBase);
    memory.domain.control.abi_version.store(ABI_VERSION + 1, Ordering::Relaxed);
    let error = check_control(&memory.domain).unwrap_err();
    assert_eq!(error, DomainError::Abi { magic: CONTROL_MAGIC, version: ABI_VERSION + 1 });
    assert_eq!(error.code(), shared_ring::hypercall::PanicCode::Abi);
}
