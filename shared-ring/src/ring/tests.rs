use super::*;

struct Memory {
    slots: Vec<Slot>,
    published: AtomicU32,
    consumed: AtomicU32,
}

impl Memory {
    fn new() -> Box<Self> {
        Box::new(Self {
            slots: (0..RING_ENTRIES).map(|_| Slot::default()).collect(),
            published: AtomicU32::new(0),
            consumed: AtomicU32::new(0),
        })
    }

    fn ring(&self) -> RingMemory {
        RingMemory {
            slots: NonNull::from(&self.slots[0]),
            published: NonNull::from(&self.published),
            consumed: NonNull::from(&self.consumed),
        }
    }

    fn ends(&self) -> (Producer, Consumer) {
        // SAFETY: the test keeps `self` alive longer than both ends and builds each once.
        unsafe { (Producer::new(self.ring()), Consumer::new(self.ring())) }
    }
}

fn numbered(n: u64) -> Entry {
    Entry { iova: n, frame_len: n as u32, ..Entry::default() }
}

#[cfg(not(loom))]
mod plain {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entries_appear_only_when_published() {
        let memory = Memory::new();
        let (mut producer, mut consumer) = memory.ends();
        producer.push(numbered(7)).unwrap();
        assert_eq!(consumer.pop(), Ok(None));
        producer.publish();
        assert_eq!(consumer.pop(), Ok(Some(numbered(7))));
        assert_eq!(consumer.pop(), Ok(None));
    }

    #[test]
    fn a_full_ring_refuses_and_recovers() {
        let memory = Memory::new();
        let (mut producer, mut consumer) = memory.ends();
        for n in 0..RING_ENTRIES as u64 {
            producer.push(numbered(n)).unwrap();
        }
        producer.publish();
        assert_eq!(producer.push(numbered(0)), Err(PushError::Full));
        consumer.pop().unwrap();
        assert_eq!(producer.push(numbered(0)), Err(PushError::Full), "not released yet");
        consumer.release();
        assert_eq!(producer.push(numbered(0)), Ok(()));
    }

    #[test]
    fn an_impossible_cursor_is_a_violation_not_a_panic() {
        let memory = Memory::new();
        let (mut producer, mut consumer) = memory.ends();
        memory.published.store(RING_ENTRIES as u32 + 1, Ordering::Relaxed);
        let other = RING_ENTRIES as u32 + 1;
        assert_eq!(consumer.pop(), Err(CursorViolation { own: 0, other }));
        memory.consumed.store(1, Ordering::Relaxed);
        assert_eq!(producer.free(), Err(CursorViolation { own: 0, other: 1 }));
    }

    #[test]
    fn the_others_cursor_is_read_when_the_copy_of_it_is_used_up() {
        let memory = Memory::new();
        let (mut producer, mut consumer) = memory.ends();
        for n in 0..4 {
            producer.push(numbered(n)).unwrap();
        }
        producer.publish();
        assert_eq!(consumer.pop(), Ok(Some(numbered(0))));
        // While entries are left that were counted before, nobody looks.
        memory.published.store(u32::MAX / 2, Ordering::Relaxed);
        memory.consumed.store(u32::MAX / 2, Ordering::Relaxed);
        for n in 1..4 {
            assert_eq!(consumer.pop(), Ok(Some(numbered(n))));
        }
        for n in 4..RING_ENTRIES as u64 {
            producer.push(numbered(n)).unwrap();
        }
        let other = u32::MAX / 2;
        assert_eq!(consumer.pop(), Err(CursorViolation { own: 4, other }));
        let violation = CursorViolation { own: RING_ENTRIES as u32, other };
        assert_eq!(producer.push(numbered(0)), Err(PushError::Violation(violation)));
    }

    /// A consumer that goes back behind what it has said, when the ring is full; a producer that
    /// goes back behind what was popped.
    #[test]
    fn a_cursor_that_goes_backwards_is_a_violation() {
        let memory = Memory::new();
        let (mut producer, mut consumer) = memory.ends();
        for n in 0..RING_ENTRIES as u64 {
            producer.push(numbered(n)).unwrap();
        }
        producer.publish();
        for _ in 0..3 {
            consumer.pop().unwrap();
        }
        consumer.release();
        for n in 0..3 {
            producer.push(numbered(n)).unwrap();
        }
        memory.consumed.store(2, Ordering::Relaxed);
        assert!(matches!(producer.push(numbered(9)), Err(PushError::Violation(_))));
        while consumer.pop().unwrap().is_some() {}
        memory.published.store(RING_ENTRIES as u32 - 1, Ordering::Relaxed);
        assert!(consumer.pop().is_err());
    }

    #[test]
    fn room_for_several_is_asked_for_anew_when_the_copy_promises_too_little() {
        let memory = Memory::new();
        let (mut producer, mut consumer) = memory.ends();
        let all = RING_ENTRIES as u32;
        assert_eq!((producer.has_room(all), producer.has_room(all + 1)), (Ok(true), Ok(false)));
        for n in 0..u64::from(all) {
            producer.push(numbered(n)).unwrap();
        }
        producer.publish();
        consumer.pop().unwrap();
        consumer.release();
        assert_eq!((producer.has_room(1), producer.has_room(2)), (Ok(true), Ok(false)));
    }

    /// How far one cursor is ahead of the other: on both sides of what a ring holds, and anything.
    fn ahead() -> impl Strategy<Value = u32> {
        prop_oneof![0..=2 * RING_ENTRIES as u32, any::<u32>()]
    }

    proptest! {
        /// Whatever order of pushes, publishes, pops and releases: first in, first out, no loss.
        #[test]
        fn order_is_kept(steps in prop::collection::vec(0u8..4, 0..4000)) {
            let memory = Memory::new();
            let (mut producer, mut consumer) = memory.ends();
            let (mut pushed, mut published, mut popped) = (0u64, 0u64, 0u64);
            for step in steps {
                match step {
                    0 => if producer.push(numbered(pushed)).is_ok() { pushed += 1 },
                    1 => { producer.publish(); published = pushed }
                    2 => match consumer.pop().unwrap() {
                        Some(entry) => {
                            prop_assert_eq!(entry, numbered(popped));
                            popped += 1;
                        }
                        None => prop_assert_eq!(popped, published),
                    },
                    _ => consumer.release(),
                }
            }
        }

        /// Any pair of cursors either has a length of at most a ring or is refused.
        #[test]
        fn any_cursor_pair_is_checked(consumed: u32, ahead in ahead()) {
            let published = consumed.wrapping_add(ahead);
            let fits = ahead <= RING_ENTRIES as u32;
            prop_assert_eq!(in_flight(published, consumed), fits.then_some(ahead));
        }
    }
}

/// Run with `RUSTFLAGS="--cfg loom" cargo test -p shared-ring --release loom`.
#[cfg(loom)]
mod loom_model {
    use super::*;

    /// Sends more entries than the ring has slots, so that slots are used again while the other end
    /// reads: a slot given back too early would show as a torn or repeated entry.
    #[test]
    fn the_consumer_sees_whole_entries_in_order() {
        const ENTRIES: u64 = RING_ENTRIES as u64 + 1;
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let memory = std::sync::Arc::new(Memory::new());
            let (mut producer, mut consumer) = memory.ends();
            let keep = memory.clone();
            let writer = loom::thread::spawn(move || {
                let _keep = keep;
                for n in 1..=ENTRIES {
                    while producer.push(numbered(n)) == Err(PushError::Full) {
                        loom::thread::yield_now();
                    }
                    producer.publish();
                }
            });
            for n in 1..=ENTRIES {
                let entry = loop {
                    match consumer.pop() {
                        Ok(Some(entry)) => break entry,
                        Ok(None) => loom::thread::yield_now(),
                        Err(violation) => panic!("{violation:?}"),
                    }
                };
                assert_eq!(entry, numbered(n));
                consumer.release();
            }
            writer.join().unwrap();
        });
    }

    /// The park protocol: whoever publishes looks at the flag after a fence, whoever parks looks at
    /// the ring after a fence; at least one of them sees the other.
    #[test]
    fn no_wakeup_is_lost() {
        loom::model(|| {
            let shared = std::sync::Arc::new((AtomicU32::new(0), AtomicU32::new(0)));
            let theirs = shared.clone();
            let publisher = loom::thread::spawn(move || {
                theirs.0.store(1, Ordering::Release);
                loom::sync::atomic::fence(Ordering::SeqCst);
                theirs.1.load(Ordering::Relaxed) == 1
            });
            shared.1.store(1, Ordering::Relaxed);
            loom::sync::atomic::fence(Ordering::SeqCst);
            let saw_work = shared.0.load(Ordering::Acquire) == 1;
            let kicked = publisher.join().unwrap();
            assert!(saw_work || kicked);
        });
    }
}
