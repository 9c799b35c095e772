//! A guest that does nothing but send and receive: everything in its rings is written once, and
//! from then on it only moves indices, so that the other side is what is measured.

use std::sync::atomic::{Ordering, fence};

use crate::frontend::{DriverRing, HEADER_BYTES, TestGuest, WRITE};

/// `VIRTQ_AVAIL_F_NO_INTERRUPT`: the guest polls.
const NO_INTERRUPT: u16 = 1;
/// `VIRTQ_USED_F_NO_NOTIFY`: the device polls too.
const NO_NOTIFY: u16 = 1;
/// Bytes of a receive buffer.
const RX_BYTES: u32 = 2048;

/// The load of one direction.
pub(super) struct Load {
    guest: TestGuest,
    /// Used index of each ring up to which chains were counted.
    seen: [u16; 2],
    /// Kicks that the device asked for.
    pub(super) kicks: u64,
}

impl Load {
    /// Creates a guest whose transmit ring is full of this frame, and whose receive ring is full of
    /// buffers; nothing is made available yet.
    pub(super) fn new(frame: &[u8]) -> Self {
        let mut guest = TestGuest::new();
        for n in 0..guest.tx.size() {
            let address = guest.tx.buffer(n);
            guest.ram.write(address, &[0; HEADER_BYTES]);
            guest.ram.write(address + HEADER_BYTES as u64, frame);
        }
        let bytes = (HEADER_BYTES + frame.len()) as u32;
        guest.tx.prepare(&[(bytes, 0)]);
        guest.rx.prepare(&[(RX_BYTES, WRITE)]);
        for ring in guest.rings() {
            guest.ram.store(ring.avail(), NO_INTERRUPT);
        }
        Self { guest, seen: [0; 2], kicks: 0 }
    }

    /// The guest's memory and rings, for a connection.
    pub(super) fn guest(&self) -> &TestGuest {
        &self.guest
    }

    /// Makes everything that has come back in the transmit ring available again, and returns the
    /// number of frames.
    pub(super) fn send(&mut self) -> u64 {
        self.turn_over(1)
    }

    /// Does the same with receive buffers.
    pub(super) fn receive(&mut self) -> u64 {
        self.turn_over(0)
    }

    fn turn_over(&mut self, index: usize) -> u64 {
        let Self { guest, seen, kicks } = self;
        let ring: &mut DriverRing = if index == 0 { &mut guest.rx } else { &mut guest.tx };
        let used = ring.used_index();
        let back = used.wrapping_sub(std::mem::replace(&mut seen[index], used));
        let room = ring.size() - ring.available().wrapping_sub(used);
        if room > 0 {
            ring.repeat(room);
            // The device requests kicks, then reads the index; the driver publishes the index, then
            // reads the request.
            fence(Ordering::SeqCst);
            if guest.ram.load(ring.used()) & NO_NOTIFY == 0 {
                ring.kick();
                *kicks += 1;
            }
        }
        u64::from(back)
    }
}
