//! A guest's IP addresses, learned from what it sends.
//!
//! | heard | means |
//! |---|---|
//! | ARP with sender address (not a probe: that has none, RFC 5227) | *claimed* |
//! | neighbour solicitation with a source, neighbour advertisement | *claimed* |
//! | neighbour solicitation without a source (duplicate address detection, RFC 4862) | nothing: the address is tentative |
//! | source of an IP packet | *used*, until it shows that the guest forwards |
//!
//! A guest that routes sends packets with the sources of others, and announcing those would turn
//! other hosts' caches to the guest. So a guest that uses more than a few addresses which it never
//! claimed is taken for a router, and only the addresses that it claims count from then on.

use super::announcement::Announced;
use crate::limits::ADDRESSES;

/// Bytes of a frame that are enough to learn from any: up to the target of a neighbour
/// advertisement.
pub(crate) const LEARN_BYTES: usize = 78;
/// Bytes that most frames need: up to an IPv6 source, or the sender of an ARP packet.
pub(crate) const GLANCE_BYTES: usize = 42;
/// Addresses that a guest may use without claiming them before it is taken for a router.
const UNCLAIMED: usize = 2;

const IPV4: [u8; 2] = 0x0800u16.to_be_bytes();
const ARP: [u8; 2] = 0x0806u16.to_be_bytes();
const IPV6: [u8; 2] = 0x86ddu16.to_be_bytes();
const ICMPV6: u8 = 58;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// "I am a router", in the flags of a neighbour advertisement (RFC 4861, 4.4).
const ROUTER_FLAG: u8 = 0x80;

/// Addresses of one family.
#[derive(Clone, Debug)]
struct Table<A> {
    entries: [Option<Entry<A>>; ADDRESSES],
    next: usize,
    /// The address seen last, so that nearly every frame needs one comparison.
    last: Option<A>,
}

#[derive(Clone, Copy, Debug)]
struct Entry<A> {
    address: A,
    claimed: bool,
}

impl<A: Copy + PartialEq> Table<A> {
    const fn new() -> Self {
        Self { entries: [const { None }; ADDRESSES], next: 0, last: None }
    }

    /// Takes an address in. Returns the place that changed, if one did.
    fn note(&mut self, address: A, claimed: bool) -> Option<usize> {
        self.last = Some(address);
        if let Some(known) = self.entries.iter_mut().flatten().find(|e| e.address == address) {
            known.claimed |= claimed;
            return None;
        }
        let free = self.entries.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.next = (self.next + 1) % ADDRESSES;
            self.next
        });
        self.entries[place] = Some(Entry { address, claimed });
        Some(place)
    }

    fn unclaimed(&self) -> usize {
        self.entries.iter().flatten().filter(|entry| !entry.claimed).count()
    }

    fn forget_unclaimed(&mut self) {
        for entry in &mut self.entries {
            *entry = entry.filter(|entry| entry.claimed);
        }
    }
}

/// What is known of a guest's addresses: plain data, written by the transmit path. Places
/// `0..ADDRESSES` are IPv4, the next ones IPv6.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    mac: [u8; 6],
    v4: Table<[u8; 4]>,
    v6: Table<[u8; 16]>,
    /// Packets with sources that are not the guest's own pass through it.
    forwards: bool,
    /// The guest says of itself that it is a router.
    is_router: bool,
    /// Grows with every change.
    version: u32,
}

impl Addresses {
    pub(crate) fn new(mac: [u8; 6]) -> Self {
        let (v4, v6) = (Table::new(), Table::new());
        Self { mac, v4, v6, forwards: false, is_router: false, version: 1 }
    }

    /// Looks at a frame that the guest sends: `glance` is its head, zero-padded; `rest` gets more
    /// of it for the few frames that need that.
    pub(crate) fn learn(
        &mut self,
        glance: &[u8; GLANCE_BYTES],
        rest: impl FnOnce() -> [u8; LEARN_BYTES],
    ) {
        match [glance[12], glance[13]] {
            IPV4 if self.v4.last.is_none_or(|last| glance[26..30] != last) => {
                self.learn_v4(glance, four(&glance[26..30]), false);
            }
            // Requests and replies alike: both say who the sender is (RFC 826).
            ARP if glance[14..20] == [0, 1, 8, 0, 6, 4] && glance[22..28] == self.mac => {
                self.learn_v4(glance, four(&glance[28..32]), true);
            }
            IPV6 if glance[20] == ICMPV6 => self.learn_neighbour(glance, &rest()),
            IPV6 if self.v6.last.is_none_or(|last| glance[22..38] != last) => {
                self.learn_v6(glance, sixteen(&glance[22..38]), false);
            }
            _ => {}
        }
    }

    fn is_own(&self, glance: &[u8; GLANCE_BYTES]) -> bool {
        glance[6..12] == self.mac
    }

    fn learn_v4(&mut self, glance: &[u8; GLANCE_BYTES], address: [u8; 4], claimed: bool) {
        let is_station = !matches!(address[0], 0 | 127 | 224..);
        if !is_station || !self.is_own(glance) || self.forwards && !claimed {
            return;
        }
        self.version += u32::from(self.v4.note(address, claimed).is_some());
        self.judge();
    }

    fn learn_v6(&mut self, glance: &[u8; GLANCE_BYTES], address: [u8; 16], claimed: bool) {
        let is_station = address[0] != 0xff && address[..15] != [0; 15];
        if !is_station || !self.is_own(glance) || self.forwards && !claimed {
            return;
        }
        self.version += u32::from(self.v6.note(address, claimed).is_some());
        self.judge();
    }

    fn learn_neighbour(&mut self, glance: &[u8; GLANCE_BYTES], frame: &[u8; LEARN_BYTES]) {
        // Hop limit 255: it was not forwarded (RFC 4861, 7.1).
        if frame[21] != 255 || !self.is_own(glance) {
            return;
        }
        let was_router = self.is_router;
        let source = sixteen(&frame[22..38]);
        match frame[54] {
            // Without a source the guest asks about a tentative address, which the check keeps out.
            NEIGHBOUR_SOLICITATION => self.learn_v6(glance, source, true),
            NEIGHBOUR_ADVERTISEMENT => {
                self.is_router = frame[58] & ROUTER_FLAG != 0;
                self.learn_v6(glance, sixteen(&frame[62..78]), true);
            }
            ROUTER_ADVERTISEMENT => {
                self.is_router = true;
                self.learn_v6(glance, source, true);
            }
            _ => self.learn_v6(glance, source, false),
        }
        self.version += u32::from(self.is_router != was_router);
    }

    /// Takes a guest that uses many addresses which it never claimed for one that forwards.
    fn judge(&mut self) {
        // An IPv6 host uses its link-local and a few temporary addresses before it is asked for
        // one; IPv4 hosts claim theirs when they first resolve anything.
        if self.v4.unclaimed() > UNCLAIMED || self.v6.unclaimed() > 2 * UNCLAIMED {
            self.forwards = true;
            self.v4.forget_unclaimed();
            self.v6.forget_unclaimed();
            self.version += 1;
        }
    }

    /// Changes whenever something is to be announced differently.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// The address at a place.
    pub(crate) fn at(&self, place: usize) -> Option<Announced> {
        if place < ADDRESSES {
            return self.v4.entries[place].map(|entry| Announced::V4(entry.address));
        }
        let entry = (*self.v6.entries.get(place - ADDRESSES)?)?;
        Some(Announced::V6 { address: entry.address, is_router: self.is_router })
    }
}

fn four(bytes: &[u8]) -> [u8; 4] {
    bytes.first_chunk().copied().unwrap_or_default()
}

fn sixteen(bytes: &[u8]) -> [u8; 16] {
    bytes.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
