//! A station on the LAN that exchanges numbered frames with a test guest.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use nic::wire::{MAX_FRAME_BYTES, Port, Wire};

use super::wait;
use crate::rig::Rig;

/// The guest's MAC address in the demo's topology.
pub const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x77, 0x73, 0x01];
/// IEEE 802's Local Experimental EtherType 1.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];
/// Bytes of a numbered frame.
const FRAME_BYTES: usize = 100;

/// A station with a MAC address of its own.
pub struct Station {
    /// Its MAC address.
    pub mac: [u8; 6],
    port: Arc<Port>,
    seen: RefCell<Vec<u32>>,
}

impl Station {
    /// Connects a new station to the rig's LAN.
    ///
    /// # Panics
    /// Panics if the switch has no port left, or the topology has another guest.
    pub fn new(rig: &mut Rig) -> Self {
        assert_eq!(rig.topology.apps[0].mac.0, GUEST_MAC);
        let port = rig.lan("station");
        Self { mac: [0x02, 0x77, 0x73, 0, 0, 0x21], port, seen: RefCell::default() }
    }

    /// Sends a numbered frame to the guest.
    pub fn send(&self, number: u32) {
        self.send_to(GUEST_MAC, number);
    }

    /// Sends a numbered frame to any address.
    pub fn send_to(&self, mac: [u8; 6], number: u32) {
        self.port.send(&frame(mac, self.mac, number));
    }

    /// Sends these bytes as they are.
    pub fn send_bytes(&self, frame: &[u8]) {
        self.port.send(frame);
    }

    /// Returns how many frames were lost because this station was too slow.
    pub fn dropped(&self) -> u64 {
        self.port.counters().dropped_full
    }

    /// Returns the numbers of all frames that have arrived since the last such call.
    pub fn take_seen(&self) -> Vec<u32> {
        self.drain();
        self.seen.take()
    }

    /// Waits until the frame of this number has arrived.
    ///
    /// # Panics
    /// Panics if it does not arrive.
    pub fn expect(&self, number: u32) {
        wait(&format!("frame {number} on the LAN"), || {
            self.drain();
            self.seen.borrow().contains(&number)
        });
    }

    /// Waits, then checks that no frame has arrived.
    ///
    /// # Panics
    /// Panics if one has arrived.
    pub fn expect_silence(&self, time: Duration) {
        std::thread::sleep(time);
        assert_eq!(self.take_seen(), Vec::<u32>::new(), "frames on the LAN");
    }

    pub(super) fn drain(&self) {
        let mut bytes = vec![0; MAX_FRAME_BYTES];
        while let Some(len) = self.port.receive(&mut bytes) {
            self.seen.borrow_mut().extend(number_of(&bytes[..len]));
        }
    }
}

/// Builds a numbered frame.
pub fn frame(to: [u8; 6], from: [u8; 6], number: u32) -> Vec<u8> {
    let mut frame = vec![number as u8; FRAME_BYTES];
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    frame[12..14].copy_from_slice(&ETHERTYPE);
    frame[14..18].copy_from_slice(&number.to_le_bytes());
    frame
}

/// Returns the number of a numbered frame, or `None` if it is another frame or damaged.
pub fn number_of(frame: &[u8]) -> Option<u32> {
    if frame.len() != FRAME_BYTES || frame[12..14] != ETHERTYPE {
        return None;
    }
    let number = u32::from_le_bytes(frame[14..18].try_into().ok()?);
    frame[18..].iter().all(|byte| *byte == number as u8).then_some(number)
}
