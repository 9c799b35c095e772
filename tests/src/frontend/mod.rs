//! Application guests played by tests: memory, hand-made virtqueues, and front-ends that speak
//! vhost-user in good order ([`Connection`]) or in any disorder ([`RawFrontend`]).

mod connection;
mod memory;
mod raw;
mod ring;
mod station;

pub use connection::Connection;
pub use memory::{GUEST_BASE, GuestRam, USER_BASE, memfd};
pub use raw::{FEATURES, Fd, NEED_REPLY, RawFrontend, Reply, Request, body, open_fds};
pub use ring::{DriverRing, NEXT, WRITE};
pub use station::{GUEST_MAC, Station, frame, number_of};

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::rig::PATIENCE;

/// Header before each frame (virtio 1.3, 5.1.6), bytes.
pub const HEADER_BYTES: usize = 12;
/// Receive buffers that [`TestGuest::offer_buffers`] offers.
const RX_CHAINS: u16 = 64;
/// Bytes of each.
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
    /// A guest with empty rings.
    pub fn new() -> Self {
        Self::with_mac(GUEST_MAC)
    }

    /// The same with another address.
    pub fn with_mac(mac: [u8; 6]) -> Self {
        let ram = Arc::new(GuestRam::new());
        let (rx, tx) = (DriverRing::new(&ram, 0), DriverRing::new(&ram, 1));
        Self { ram, rx, tx, mac }
    }

    /// Both rings, by index.
    pub fn rings(&self) -> [&DriverRing; 2] {
        [&self.rx, &self.tx]
    }

    /// Fills the receive ring up.
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
        // Last: the device may be looking at the ring right now.
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

    /// Sends a numbered frame to the LAN and has one come back, with patience.
    ///
    /// # Panics
    /// A frame does not arrive.
    pub fn exchange(&mut self, lan: &Station, number: u32) {
        self.offer_buffers();
        // A station that nobody listens to drops frames.
        lan.drain();
        // Whatever is in the transmit ring already goes first.
        self.send(&frame(lan.mac, self.mac, number));
        lan.expect(number);
        while self.tx.take_used().is_some() {}
        lan.send_to(self.mac, number);
        wait("a frame for the guest", || {
            // Others may be ahead of it, sent to whoever was connected before.
            self.offer_buffers();
            std::iter::from_fn(|| self.receive()).any(|frame| number_of(&frame) == Some(number))
        });
    }
}

/// Waits until something holds.
///
/// # Panics
/// It does not, within [`PATIENCE`].
pub fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}
