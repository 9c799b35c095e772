//! The IP addresses of one station, learned from what it sends: one MAC address in one VLAN.
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
//!
//! An address that has gone elsewhere must not be announced. So it is forgotten when another
//! station claims it, and it is not announced while a question for it that came over the wire is
//! unanswered, nor when the guest has not used it for long.

use platform::budget::{ADDRESS_AGE, ADDRESS_ANSWER};

use super::announcement::Announced;
use super::neighbours::{ARP, ICMPV6, IPV4, IPV6, Ip, four, sixteen};
use super::neighbours::{NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, ROUTER_ADVERTISEMENT};
use crate::limits::ADDRESSES;

/// Bytes of a frame without tags that are enough to learn an address from any: up to the target of
/// a neighbour advertisement.
pub(crate) const LEARN_BYTES: usize = 78;
/// Bytes that most frames need: up to an IPv6 source, or the sender of an ARP packet.
pub(crate) const GLANCE_BYTES: usize = 42;
/// Addresses that a guest may use without claiming them before it is taken for a router.
const UNCLAIMED: usize = 2;

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
    /// When the guest used or claimed it last, seconds.
    seen_s: u32,
    /// When somebody asked for it first since then.
    asked_s: Option<u32>,
}

impl<A> Entry<A> {
    /// Returns true if the guest still seems to have the address.
    fn is_held(&self, now_s: u32) -> bool {
        let is_answered = |asked_s| now_s.saturating_sub(asked_s) < ADDRESS_ANSWER.as_secs() as u32;
        let age_s = now_s.saturating_sub(self.seen_s);
        self.asked_s.is_none_or(is_answered) && age_s < ADDRESS_AGE.as_secs() as u32
    }
}

impl<A: Copy + PartialEq> Table<A> {
    const fn new() -> Self {
        Self { entries: [const { None }; ADDRESSES], next: 0, last: None }
    }

    /// Takes an address in. Returns true if it is new.
    fn note(&mut self, address: A, claimed: bool, now_s: u32) -> bool {
        self.last = Some(address);
        if let Some(known) = self.entries.iter_mut().flatten().find(|e| e.address == address) {
            known.claimed |= claimed;
            (known.seen_s, known.asked_s) = (now_s, None);
            return false;
        }
        let free = self.entries.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.next = (self.next + 1) % ADDRESSES;
            self.next
        });
        self.entries[place] = Some(Entry { address, claimed, seen_s: now_s, asked_s: None });
        true
    }

    /// Somebody asks for an address.
    fn ask(&mut self, address: A, now_s: u32) {
        // The answer may be what was sent last anyway.
        if let Some(known) = self.entries.iter_mut().flatten().find(|e| e.address == address) {
            known.asked_s = known.asked_s.or(Some(now_s));
            self.last = self.last.filter(|last| *last != address);
        }
    }

    fn forget(&mut self, address: A) {
        self.last = self.last.filter(|last| *last != address);
        for entry in &mut self.entries {
            *entry = entry.filter(|entry| entry.address != address);
        }
    }

    fn unclaimed(&self, now_s: u32) -> usize {
        let is_counted = |entry: &&Entry<A>| !entry.claimed && entry.is_held(now_s);
        self.entries.iter().flatten().filter(is_counted).count()
    }

    fn forget_unclaimed(&mut self) {
        for entry in &mut self.entries {
            *entry = entry.filter(|entry| entry.claimed);
        }
    }

    fn held(&self, place: usize, now_s: u32) -> Option<A> {
        let entry = self.entries.get(place).copied().flatten();
        entry.filter(|entry| entry.is_held(now_s)).map(|entry| entry.address)
    }
}

/// What is known of a station's addresses: plain data, written by the transmit path. Places
/// `0..ADDRESSES` are IPv4, the next ones IPv6.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    v4: Table<[u8; 4]>,
    v6: Table<[u8; 16]>,
    /// Packets with sources that are not the guest's own pass through it.
    forwards: bool,
    /// The guest says of itself that it is a router.
    is_router: bool,
}

impl Addresses {
    pub(super) const fn new() -> Self {
        Self { v4: Table::new(), v6: Table::new(), forwards: false, is_router: false }
    }

    /// Looks at a frame that the station sends: `glance` is its head without tags, zero-padded;
    /// `rest` gets more of it for the few frames that need that. Returns an address that is new.
    #[inline]
    pub(super) fn learn(
        &mut self,
        glance: &[u8; GLANCE_BYTES],
        now_s: u32,
        rest: impl FnOnce() -> [u8; LEARN_BYTES],
    ) -> Option<Ip> {
        match [glance[12], glance[13]] {
            IPV4 if self.v4.last.is_none_or(|last| glance[26..30] != last) => {
                self.learn_v4(four(&glance[26..30]), false, now_s)
            }
            // Requests and replies alike: both say who the sender is (RFC 826).
            ARP if glance[14..20] == [0, 1, 8, 0, 6, 4] && glance[22..28] == glance[6..12] => {
                self.learn_v4(four(&glance[28..32]), true, now_s)
            }
            IPV6 if glance[20] == ICMPV6 => self.learn_neighbour(&rest(), now_s),
            IPV6 if self.v6.last.is_none_or(|last| glance[22..38] != last) => {
                self.learn_v6(sixteen(&glance[22..38]), false, now_s)
            }
            _ => None,
        }
    }

    fn learn_v4(&mut self, address: [u8; 4], claimed: bool, now_s: u32) -> Option<Ip> {
        let is_host = !matches!(address[0], 0 | 127 | 224..);
        if !is_host || self.forwards && !claimed {
            return None;
        }
        let is_new = self.v4.note(address, claimed, now_s);
        self.judge(now_s);
        is_new.then_some(Ip::V4(address))
    }

    fn learn_v6(&mut self, address: [u8; 16], claimed: bool, now_s: u32) -> Option<Ip> {
        let is_host = address[0] != 0xff && address[..15] != [0; 15];
        if !is_host || self.forwards && !claimed {
            return None;
        }
        let is_new = self.v6.note(address, claimed, now_s);
        self.judge(now_s);
        is_new.then_some(Ip::V6(address))
    }

    fn learn_neighbour(&mut self, frame: &[u8; LEARN_BYTES], now_s: u32) -> Option<Ip> {
        let source = sixteen(&frame[22..38]);
        // Hop limit 255: it was not forwarded (RFC 4861, 7.1).
        if frame[21] != 255 {
            return self.learn_v6(source, false, now_s);
        }
        match frame[54] {
            // Without a source the guest asks about a tentative address, which the check keeps out.
            NEIGHBOUR_SOLICITATION => self.learn_v6(source, true, now_s),
            NEIGHBOUR_ADVERTISEMENT => {
                self.is_router = frame[58] & ROUTER_FLAG != 0;
                self.learn_v6(sixteen(&frame[62..78]), true, now_s)
            }
            ROUTER_ADVERTISEMENT => {
                self.is_router = true;
                self.learn_v6(source, true, now_s)
            }
            _ => self.learn_v6(source, false, now_s),
        }
    }

    /// Takes a guest that uses many addresses which it never claimed for one that forwards.
    fn judge(&mut self, now_s: u32) {
        // An IPv6 host uses its link-local and a few temporary addresses before it is asked for
        // one; IPv4 hosts claim theirs when they first resolve anything.
        if self.v4.unclaimed(now_s) > UNCLAIMED || self.v6.unclaimed(now_s) > 2 * UNCLAIMED {
            self.forwards = true;
            self.v4.forget_unclaimed();
            self.v6.forget_unclaimed();
        }
    }

    /// The next frame is looked at closely even if it has the source of the one before, so that
    /// its address does not age.
    pub(super) fn look_again(&mut self) {
        (self.v4.last, self.v6.last) = (None, None);
    }

    /// Another station has this address.
    pub(super) fn forget(&mut self, address: Ip) {
        match address {
            Ip::V4(address) => self.v4.forget(address),
            Ip::V6(address) => self.v6.forget(address),
        }
    }

    /// Somebody asks who has this address: the guest, if it answers.
    pub(super) fn ask(&mut self, address: Ip, now_s: u32) {
        match address {
            Ip::V4(address) => self.v4.ask(address, now_s),
            Ip::V6(address) => self.v6.ask(address, now_s),
        }
    }

    /// The address at a place, if the guest still seems to have it.
    pub(super) fn at(&self, place: usize, now_s: u32) -> Option<Announced> {
        if place < ADDRESSES {
            return self.v4.held(place, now_s).map(Announced::V4);
        }
        let address = self.v6.held(place - ADDRESSES, now_s)?;
        Some(Announced::V6 { address, is_router: self.is_router })
    }

    /// An IPv4 address, for the source of a report.
    pub(super) fn any_v4(&self, now_s: u32) -> Option<[u8; 4]> {
        (0..ADDRESSES).find_map(|place| self.v4.held(place, now_s))
    }

    /// A link-local IPv6 address, for the source of a report.
    pub(super) fn link_local(&self, now_s: u32) -> Option<[u8; 16]> {
        let is_local = |address: &[u8; 16]| address[0] == 0xfe && address[1] & 0xc0 == 0x80;
        (0..ADDRESSES).filter_map(|place| self.v6.held(place, now_s)).find(is_local)
    }
}

#[cfg(test)]
mod tests;
