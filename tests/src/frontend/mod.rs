//! Application guests that the tests implement: memory, hand-made virtqueues, and front-ends that
//! speak vhost-user correctly ([`Connection`]) or as incorrectly as a test wants ([`RawFrontend`]).

mod connection;
mod hanging;
mod memory;
mod raw;
mod ring;
mod station;

pub use connection::Connection;
pub use hanging::HangingFile;
pub use memory::{GUEST_BASE, GuestRam, USER_BASE, memfd};
pub use raw::{FEATURES, Fd, NEED_REPLY, RawFrontend, Reply, Request, body, open_fds};
pub use ring::{DriverRing, NEXT, WRITE};
pub use station::{GUEST_MAC, Station, frame, number_of};

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::rig::PATIENCE;

/// Bytes of the header before each frame (virtio 1.3, 5.1.6).
pub const HEADER_BYTES: usize = 12;
/// Number of receive buffers that [`TestGuest::offer_buffers`] offers.
const RX_CHAINS: u16 = 64;
/// Bytes of each receive buffer.
const RX_CHAIN_BYTES: u32 = 2048;

/// A guest with its memory and the driver's side of two virtqueues.
pub struct TestGuest {
    /// Its memory.
    pub ram: Arc<GuestRam>,
    /// Receive queue.
    pub rx: DriverRing,
    /// Transmit queue.
    pub tx: DriverRing,
    /// Its MAC address.
    pub mac: [u8; 6],
}

impl Default for TestGuest {
    fn default() -> Self {
        Self::new()
    }
}

impl TestGuest {
    /// Creates a guest with empty rings.
    pub fn new() -> Self {
        Self::with_mac(GUEST_MAC)
    }

    /// Creates a guest with empty rings and another MAC address.
    pub fn with_mac(mac: [u8; 6]) -> Self {
        let ram = Arc::new(GuestRam::new());
        let (rx, tx) = (DriverRing::new(&ram, 0), DriverRing::new(&ram, 1));
        Self { ram, rx, tx, mac }
    }

    /// Both rings, by index.
    pub fn rings(&self) -> [&DriverRing; 2] {
        [&self.rx, &self.tx]
    }

    /// Fills up the receive ring.
    pub fn offer_buffers(&mut self) {
        while self.rx.outstanding() < RX_CHAINS {
            self.rx.add(&[(RX_CHAIN_BYTES, WRITE)]);
        }
        self.rx.kick();
    }

    /// Puts a frame behind an empty header into the transmit ring, without a kick.
    pub fn queue(&mut self, frame: &[u8]) {
        let address = self.tx.buffer(self.tx.next_head());
        self.ram.write(address, &[0; HEADER_BYTES]);
        self.ram.write(address + HEADER_BYTES as u64, frame);
        // This comes last, because the device may be reading the ring already.
        self.tx.add(&[((HEADER_BYTES + frame.len()) as u32, 0)]);
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: &[u8]) {
        self.queue(frame);
        self.tx.kick();
    }

    /// The next received frame, if there is one.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        let (head, bytes) = self.rx.take_used()?;
        let whole = self.ram.read(self.rx.buffer(head), bytes as usize);
        Some(whole.get(HEADER_BYTES..).unwrap_or_default().to_vec())
    }

    /// Sends a numbered frame to the LAN, and waits until it has arrived and one has come back.
    ///
    /// # Panics
    /// Panics if a frame does not arrive within [`PATIENCE`].
    pub fn exchange(&mut self, lan: &Station, number: u32) {
        self.offer_buffers();
        // A station whose frames are not received drops new ones.
        lan.drain();
        // Frames that are already in the transmit ring are sent first.
        self.send(&frame(lan.mac, self.mac, number));
        lan.expect(number);
        while self.tx.take_used().is_some() {}
        lan.send_to(self.mac, number);
        wait("a frame for the guest", || {
            // Earlier frames may come first, sent to a guest that was connected before.
            self.offer_buffers();
            std::iter::from_fn(|| self.receive()).any(|frame| number_of(&frame) == Some(number))
        });
    }
}

/// Waits until a condition holds.
///
/// # Panics
/// Panics if it does not hold within [`PATIENCE`].
pub fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}
