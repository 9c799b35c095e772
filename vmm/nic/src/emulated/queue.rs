//! The registers of a descriptor queue, and what the engine and the driver tell each other by them
//! (i210 datasheet §7.1.4, §7.2.2, §8.10, §8.12).
//!
//! ```text
//!            ENABLE written 1 (heads and tail := 0)
//!   Disabled ───────────────────────────────────────▶ Enabled ◀── reset
//!      ▲                                                 │
//!      │ the engine has let go of every                  │ ENABLE written 0
//!      │ descriptor it had fetched                       ▼
//!      └──────────────────────────────────────────── Draining   (ENABLE still reads 1)
//! ```
//!
//! As on the real part, the ring cannot be moved while the queue is on, a tail written while it is
//! off is lost, the head is the NIC's alone, and writing ENABLE while it drains does nothing.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::registers::queue;

const DESCRIPTOR_BYTES: u32 = 16;

/// State of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Off; the ring may be programmed.
    Disabled,
    /// On.
    Enabled,
    /// Told to stop; descriptors that were fetched are still in use.
    Draining,
}

/// Where a queue stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// Grows whenever the queue starts anew: what was fetched before is void.
    pub(super) generation: u32,
    pub(super) phase: Phase,
    /// Index of the descriptor that the NIC finishes next.
    pub(super) head: u16,
}

impl Position {
    fn pack(self) -> u64 {
        let phase = match self.phase {
            Phase::Disabled => 0,
            Phase::Enabled => 1,
            Phase::Draining => 2,
        };
        u64::from(self.generation) << 32 | phase << 16 | u64::from(self.head)
    }

    fn unpack(word: u64) -> Self {
        let phase = match word >> 16 & 0xff {
            0 => Phase::Disabled,
            1 => Phase::Enabled,
            _ => Phase::Draining,
        };
        Self { generation: (word >> 32) as u32, phase, head: word as u16 }
    }

    fn restarted(self, phase: Phase) -> Self {
        Self { generation: self.generation.wrapping_add(1), phase, head: 0 }
    }
}

/// A ring as the registers describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ring {
    pub(super) base: u64,
    /// Descriptors in it; 0 if it was not programmed.
    pub(super) entries: u32,
    /// First descriptor that is not the NIC's.
    pub(super) tail: u32,
}

impl Ring {
    /// I/O address of a descriptor.
    pub(super) fn address(&self, index: u32) -> u64 {
        // An address that wraps is no different from any other outside the window.
        self.base.wrapping_add(u64::from(index) * u64::from(DESCRIPTOR_BYTES))
    }

    /// How many descriptors from `from` up to the tail; none if either lies outside the ring.
    pub(super) fn available(&self, from: u32) -> u32 {
        if from >= self.entries || self.tail >= self.entries {
            return 0;
        }
        (self.tail + self.entries - from) % self.entries
    }
}

/// Registers of one queue. Any thread may write them; only the engine moves the head.
#[derive(Default)]
pub(super) struct Queue {
    base_low: AtomicU32,
    base_high: AtomicU32,
    length: AtomicU32,
    split: AtomicU32,
    control: AtomicU32,
    tail: AtomicU32,
    write_back_low: AtomicU32,
    write_back_high: AtomicU32,
    position: AtomicU64,
}

impl Queue {
    /// Puts every register to what a reset leaves: on, without a ring (igb: queue 0 starts on).
    /// The engine forgets what it had fetched.
    pub(super) fn reset(&self, control: u32) {
        for register in [
            &self.base_low,
            &self.base_high,
            &self.length,
            &self.split,
            &self.tail,
            &self.write_back_low,
            &self.write_back_high,
        ] {
            register.store(0, Ordering::Release);
        }
        self.control.store(control, Ordering::Release);
        self.update(|position| Some(position.restarted(Phase::Enabled)));
    }

    /// Stops the queue without draining: what a function does whose bus access was taken away.
    pub(super) fn force_off(&self) {
        self.update(|position| {
            (position.phase != Phase::Disabled).then(|| position.restarted(Phase::Disabled))
        });
    }

    /// A load of the register at `offset` of the block.
    pub(super) fn read(&self, offset: u32) -> u32 {
        match offset {
            queue::HEAD => u32::from(self.position().head),
            queue::CONTROL => {
                let off = self.position().phase == Phase::Disabled;
                let control = self.control.load(Ordering::Acquire) & !queue::ENABLE;
                if off { control } else { control | queue::ENABLE }
            }
            queue::TAIL => self.tail.load(Ordering::Acquire),
            _ => {
                self.programmed(offset).map_or(0, |(register, _)| register.load(Ordering::Acquire))
            }
        }
    }

    /// A store to the register at `offset` of the block; says whether the engine must look.
    pub(super) fn write(&self, offset: u32, value: u32) -> bool {
        match offset {
            queue::CONTROL => self.write_control(value),
            queue::TAIL => {
                let on = self.position().phase == Phase::Enabled;
                if on {
                    self.tail.store(value & 0xffff, Ordering::Release);
                }
                on
            }
            _ => {
                if let Some((register, mask)) = self.programmed(offset)
                    && self.position().phase == Phase::Disabled
                {
                    register.store(value & mask, Ordering::Release);
                }
                false
            }
        }
    }

    fn write_control(&self, value: u32) -> bool {
        self.control.store(value, Ordering::Release);
        let enable = value & queue::ENABLE != 0;
        if enable && self.position().phase == Phase::Disabled {
            self.tail.store(0, Ordering::Release);
        }
        self.update(|position| match (position.phase, enable) {
            (Phase::Disabled, true) => Some(position.restarted(Phase::Enabled)),
            (Phase::Enabled, false) => Some(Position { phase: Phase::Draining, ..position }),
            _ => None,
        })
    }

    /// Registers that may change only while the queue is off, with the bits that count.
    fn programmed(&self, offset: u32) -> Option<(&AtomicU32, u32)> {
        match offset {
            queue::BASE_LOW => Some((&self.base_low, queue::BASE_MASK)),
            queue::BASE_HIGH => Some((&self.base_high, u32::MAX)),
            queue::LENGTH => Some((&self.length, queue::LENGTH_MASK)),
            queue::SRRCTL => Some((&self.split, u32::MAX)),
            queue::WRITE_BACK_LOW => Some((&self.write_back_low, !2)),
            queue::WRITE_BACK_HIGH => Some((&self.write_back_high, u32::MAX)),
            _ => None,
        }
    }

    /// Returns true if it was switched off and the engine has not finished with it.
    pub(super) fn is_draining(&self) -> bool {
        self.position().phase == Phase::Draining
    }

    pub(super) fn position(&self) -> Position {
        Position::unpack(self.position.load(Ordering::Acquire))
    }

    pub(super) fn ring(&self) -> Ring {
        Ring {
            base: wide(&self.base_high, &self.base_low),
            entries: self.length.load(Ordering::Acquire) / DESCRIPTOR_BYTES,
            tail: self.tail.load(Ordering::Acquire),
        }
    }

    /// SRRCTL.
    pub(super) fn split(&self) -> u32 {
        self.split.load(Ordering::Acquire)
    }

    /// Where the head is written back, if it is.
    pub(super) fn head_write_back(&self) -> Option<u64> {
        let on = self.write_back_low.load(Ordering::Acquire) & queue::WRITE_BACK_ENABLE != 0;
        on.then(|| wide(&self.write_back_high, &self.write_back_low) & !3)
    }

    /// Engine: moves the head on to `head`. `false` if the queue started anew meanwhile: then
    /// nothing of what was fetched from it counts any more.
    pub(super) fn advance(&self, generation: u32, head: u32) -> bool {
        let head = head as u16;
        self.update(|now| (now.generation == generation).then_some(Position { head, ..now }))
    }

    /// Engine: nothing is fetched and nothing in use any more.
    pub(super) fn drained(&self, generation: u32) {
        self.update(|now| {
            let draining = now.generation == generation && now.phase == Phase::Draining;
            draining.then_some(Position { phase: Phase::Disabled, ..now })
        });
    }

    fn update(&self, change: impl Fn(Position) -> Option<Position>) -> bool {
        let change = |word| change(Position::unpack(word)).map(Position::pack);
        self.position.fetch_update(Ordering::AcqRel, Ordering::Acquire, change).is_ok()
    }
}

fn wide(high: &AtomicU32, low: &AtomicU32) -> u64 {
    u64::from(high.load(Ordering::Acquire)) << 32 | u64::from(low.load(Ordering::Acquire))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: u32 = queue::ENABLE;

    fn disabled() -> Queue {
        let queue = Queue::default();
        queue.write(queue::LENGTH, 128);
        queue
    }

    #[test]
    fn heads_and_tails_start_at_zero_with_the_queue() {
        let queue = disabled();
        queue.write(queue::CONTROL, ON);
        queue.write(queue::TAIL, 5);
        assert!(queue.advance(queue.position().generation, 3));
        queue.write(queue::CONTROL, 0);
        queue.drained(queue.position().generation);
        assert_eq!((queue.read(queue::HEAD), queue.read(queue::TAIL)), (3, 5));

        queue.write(queue::CONTROL, ON);

        assert_eq!((queue.read(queue::HEAD), queue.read(queue::TAIL)), (0, 0));
    }

    #[test]
    fn enable_reads_one_until_the_engine_has_drained() {
        let queue = disabled();
        queue.write(queue::CONTROL, ON);
        let generation = queue.position().generation;
        queue.write(queue::CONTROL, 0);
        assert_eq!(queue.read(queue::CONTROL), ON);
        queue.write(queue::CONTROL, ON);
        assert_eq!(queue.position().phase, Phase::Draining, "too late to change one's mind");
        queue.drained(generation.wrapping_add(1));
        assert_eq!(queue.read(queue::CONTROL), ON, "another life of the queue");
        queue.drained(generation);
        assert_eq!(queue.read(queue::CONTROL), 0);
    }

    #[test]
    fn a_tail_written_while_off_is_lost() {
        let queue = disabled();
        assert!(!queue.write(queue::TAIL, 5));
        assert_eq!(queue.read(queue::TAIL), 0);
    }

    #[test]
    fn the_ring_cannot_be_moved_while_on() {
        let queue = disabled();
        queue.write(queue::BASE_LOW, 0x1234_5678);
        queue.write(queue::CONTROL, ON);
        queue.write(queue::BASE_LOW, 0x8000_0000);
        queue.write(queue::HEAD, 7);
        assert_eq!(queue.read(queue::BASE_LOW), 0x1234_5600);
        assert_eq!(queue.read(queue::HEAD), 0);
    }

    #[test]
    fn an_engine_of_an_earlier_life_cannot_move_the_head() {
        let queue = disabled();
        queue.write(queue::CONTROL, ON);
        let generation = queue.position().generation;
        queue.reset(ON);
        assert!(!queue.advance(generation, 3));
        assert_eq!(queue.read(queue::HEAD), 0);
    }

    #[test]
    fn tails_outside_the_ring_make_nothing_available() {
        let ring = Ring { base: 0, entries: 8, tail: 3 };
        assert_eq!(ring.available(6), 5);
        assert_eq!(ring.available(3), 0);
        assert_eq!(ring.available(8), 0);
        assert_eq!(Ring { tail: 8, ..ring }.available(0), 0);
        assert_eq!(Ring { entries: 0, ..ring }.available(0), 0);
    }
}
