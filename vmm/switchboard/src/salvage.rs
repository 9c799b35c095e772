//! What a failed life leaves on the receive side: frames that wait, that it had published, and that
//! its NIC had completed and it had not published.
//!
//! Buffers that the domain published are not its own any more, so no frame is handed on twice,
//! whatever the domain's page says.

use std::sync::atomic::Ordering;

use microvm::domain::DomainSlot;
use shared_ring::frame::MAX_RX_PARTS;
use shared_ring::layout::{NIC_RX_DESCRIPTORS, RX_SLOT_EMPTY};

use crate::domains::{QueuePair, RxFrame, RxPart};
use crate::guest_set::GuestSet;
use crate::rx_path::Inbound;
use crate::violation::Violation;

/// Bits of [`DomainSlot::rx_write_back`].
mod descriptor {
    pub(super) const DONE: u64 = 1 << 0;
    pub(super) const END_OF_PACKET: u64 = 1 << 1;
    /// RXE: the MAC found the frame damaged.
    pub(super) const DAMAGED: u64 = 1 << 31;

    pub(super) fn len(word: u64) -> u16 {
        (word >> 32) as u16
    }
}

/// How the received frames of a failed life fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Salvaged {
    /// Frames that the domain had published.
    pub(crate) drained: u64,
    /// Frames that its NIC had completed and it had not published.
    pub(crate) salvaged: u64,
    /// Frames that could not be handed on.
    pub(crate) lost: u64,
    /// Frames that its NIC had completed and it had not published, handed on or not.
    pub(crate) found: u64,
}

/// Hands on the received frames that a failed life leaves. `inbound` is its domain's.
pub(crate) fn salvage(inbound: Inbound<'_>, slot: &DomainSlot, pair: &mut QueuePair) -> Salvaged {
    let mut salvage = Salvage { inbound, slot, pair, counts: Salvaged::default() };
    salvage.deliver_backlog();
    // Nothing more is believed of a domain that broke the protocol.
    if salvage.pair.is_trusted() {
        // A violation ends the draining; the domain has failed already.
        let _ = salvage.drain();
        salvage.take_completed();
    }
    slot.accounts.note_known(salvage.counts.found);
    salvage.counts
}

struct Salvage<'a> {
    inbound: Inbound<'a>,
    slot: &'a DomainSlot,
    pair: &'a mut QueuePair,
    counts: Salvaged,
}

impl Salvage<'_> {
    /// Frames that were checked already and wait for room in guests' rings.
    fn deliver_backlog(&mut self) {
        let [drained, lost] = self.inbound.deliver_remaining(self.pair, |_, _| ());
        self.counts.drained += drained;
        self.counts.lost += lost;
    }

    /// Frames that the domain had published.
    fn drain(&mut self) -> Result<(), Violation> {
        while let Some(frame) = self.pair.next_received(self.slot)? {
            let handed_on = self.hand_on(&frame);
            self.counts.drained += u64::from(handed_on);
        }
        Ok(())
    }

    /// Hands a frame on. Returns true if no guest would have had to wait for it; for those that
    /// would, it is lost.
    fn hand_on(&mut self, frame: &RxFrame) -> bool {
        let waiting = self.inbound.forward(frame, GuestSet::NONE);
        self.counts.lost += u64::from(waiting.count());
        waiting.is_empty()
    }

    /// Frames that its NIC had completed beyond those. One whose end is not there yet was not
    /// received.
    fn take_completed(&mut self) {
        let start = self.slot.status().rx_next.load(Ordering::Relaxed) as usize;
        let (mut parts, mut count) = ([RxPart::default(); MAX_RX_PARTS], 0);
        // What a wild store has made of the index may point into the middle of a frame.
        let mut is_cut = self.completed(start.wrapping_sub(1)).is_some_and(|part| part.more);
        for n in 0..NIC_RX_DESCRIPTORS {
            let Some(part) = self.completed(start.wrapping_add(n)) else { break };
            if let Some(place) = parts.get_mut(count) {
                *place = part;
            }
            count += 1;
            if part.more {
                continue;
            }
            if !std::mem::take(&mut is_cut) {
                self.take_frame(parts.get(..count));
            }
            count = 0;
        }
    }

    /// What a NIC's receive descriptor says, if its buffer is filled and was not settled.
    fn completed(&self, descriptor: usize) -> Option<RxPart> {
        let index = descriptor % NIC_RX_DESCRIPTORS;
        let word = self.slot.rx_write_back(index);
        let buffer = self.slot.rx_slot(index).load(Ordering::Relaxed);
        let is_filled = word & descriptor::DONE != 0 && buffer != RX_SLOT_EMPTY;
        is_filled.then(|| RxPart {
            buffer,
            len: descriptor::len(word),
            more: word & descriptor::END_OF_PACKET == 0,
            damaged: word & descriptor::DAMAGED != 0,
        })
    }

    /// Takes a whole frame, unless the domain had published it; `None` is one of too many buffers.
    fn take_frame(&mut self, parts: Option<&[RxPart]>) {
        let taken = match parts {
            Some(parts) => self.assemble(parts),
            None => Err(None),
        };
        if matches!(taken, Err(Some(Violation::NotOwned { .. }))) {
            return;
        }
        self.counts.found += 1;
        match taken {
            Ok(frame) => self.counts.salvaged += u64::from(self.hand_on(&frame)),
            Err(_) => self.counts.lost += 1,
        }
    }

    /// Puts a frame together. Only of the first buffer that is not the domain's any more it can be
    /// said that the domain had published the frame.
    fn assemble(&mut self, parts: &[RxPart]) -> Result<RxFrame, Option<Violation>> {
        let (first, rest) = parts.split_first().ok_or(None)?;
        let mut frame = self.pair.begin_frame(self.slot, *first).map_err(Some)?;
        for part in rest {
            self.pair.extend_frame(&mut frame, *part).map_err(|_| None)?;
        }
        Ok(frame)
    }
}
