//! The last step of a received frame: into the guest's memory, or dropped and counted.

use shared_ring::probe::{PROBE_ETHERTYPE, PROBE_HEAD_BYTES, Probe, ProbeKind, probe_mac};

use super::counters::Counters;
use super::lane::{RxFrame, body};
use super::port::{Delivery, GuestPort};
use super::twice::Twice;
use crate::domain::DomainSlot;

/// Hands checked frames of one lane to the guest.
pub(super) struct Forwarder<'a> {
    pub(super) port: &'a mut GuestPort,
    pub(super) twice: &'a mut Twice,
    pub(super) mac: [u8; 6],
    pub(super) counters: &'a Counters,
    pub(super) lane: usize,
    /// Number of the last drill's question that came in here.
    pub(super) question: &'a mut Option<u32>,
}

impl Forwarder<'_> {
    /// Whether a frame would find no room now, but may later.
    pub(super) fn must_wait(&mut self) -> bool {
        self.port.receives() && !self.port.has_room()
    }

    /// Disposes of a frame, in the guest's memory or otherwise. `false` if it must wait for room.
    pub(super) fn forward(&mut self, slot: &DomainSlot, frame: &RxFrame) -> bool {
        let counters = self.counters;
        if frame.damaged {
            counters.rx_damaged.add(1);
            return true;
        }
        if frame.source() == self.mac {
            counters.rx_own.add(1);
            return true;
        }
        if frame.head[12..14] == PROBE_ETHERTYPE.to_be_bytes() && self.take_probe(frame) {
            return true;
        }
        let key = self.twice.key(self.lane, slot, frame);
        if self.twice.is_second(key) {
            counters.rx_twice.add(1);
            return true;
        }
        let mut malformed = 0;
        let delivery = self.port.deliver(frame, body(slot, frame), &mut malformed);
        counters.rx_malformed.add(malformed);
        match delivery {
            Delivery::Done => {
                counters.rx_frames.add(1);
                counters.rx_bytes.add(frame.len as u64);
                counters.rx_groups.add(u64::from(frame.head[0] & 1));
                self.twice.remember(key);
            }
            Delivery::NoGuest => counters.rx_no_guest.add(1),
            Delivery::TooLarge => counters.rx_too_large.add(1),
            Delivery::NoRoom => return false,
        }
        true
    }

    /// Takes a drill's frame out of the stream: it is not the guest's. Other frames of this
    /// EtherType are.
    fn take_probe(&mut self, frame: &RxFrame) -> bool {
        let Some(head) = frame.head.first_chunk::<PROBE_HEAD_BYTES>() else { return false };
        let own = probe_mac(self.mac, self.lane as u8);
        let Some(probe) = Probe::parse(head).filter(|_| head[..6] == own) else { return false };
        self.counters.rx_probes.add(1);
        if probe.kind == ProbeKind::Question {
            *self.question = Some(probe.number);
        }
        true
    }
}
