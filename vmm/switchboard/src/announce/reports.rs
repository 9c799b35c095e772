//! Multicast membership reports as guests send them: IGMPv1 (RFC 1112), IGMPv2 (RFC 2236), IGMPv3
//! (RFC 3376), MLDv1 (RFC 2710), MLDv2 (RFC 3810).
//!
//! Nothing here trusts a count or a length.

use super::addresses::GLANCE_BYTES;
use super::neighbours::{ICMPV6, IPV4, IPV6, four, sixteen};

/// Bytes of a frame without tags that are looked at for reports: all that fits in 1500 bytes.
pub(super) const REPORT_BYTES: usize = 14 + 1500;

pub(super) const IGMP: u8 = 2;
pub(super) const HOP_BY_HOP: u8 = 0;
pub(super) const IGMPV1_REPORT: u8 = 0x12;
pub(super) const IGMPV2_REPORT: u8 = 0x16;
pub(super) const IGMPV2_LEAVE: u8 = 0x17;
pub(super) const IGMPV3_REPORT: u8 = 0x22;
pub(super) const MLDV1_REPORT: u8 = 131;
pub(super) const MLDV1_DONE: u8 = 132;
pub(super) const MLDV2_REPORT: u8 = 143;

/// A multicast group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl Group {
    /// The group in which neighbours ask for this address (RFC 4291, 2.7.1).
    pub(super) fn solicited_node(address: [u8; 16]) -> Self {
        let [.., a, b, c] = address;
        Self::V6([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
    }

    /// Returns true if it is a group whose members report it: not all systems of the link, and
    /// none that stays within the host (RFC 3376, 5; RFC 3810, 6).
    pub(super) fn is_reported(self) -> bool {
        match self {
            Self::V4(address) => address[0] >> 4 == 14 && address != [224, 0, 0, 1],
            Self::V6([0xff, scope, rest @ ..]) => {
                let [middle @ .., last] = rest;
                let is_all_nodes = middle == [0; 13] && last == 1;
                scope & 15 > 1 && !(scope == 2 && is_all_nodes)
            }
            Self::V6(_) => false,
        }
    }

    /// Returns true if both are of the same family.
    pub(super) fn is_alike(self, other: Self) -> bool {
        matches!(self, Self::V4(_)) == matches!(other, Self::V4(_))
    }

    /// The newest version of the protocol in which it can be reported.
    pub(super) fn newest_version(self) -> u8 {
        match self {
            Self::V4(_) => 3,
            Self::V6(_) => 2,
        }
    }
}

/// What becomes of the sources that a guest wants of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any.
    Exclude,
    /// Those named; without any, it has left.
    Include,
    /// Those named too.
    Allow,
    /// Those named no more.
    Block,
}

/// What a report says of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change<'a> {
    pub(super) group: Group,
    pub(super) version: u8,
    pub(super) kind: Kind,
    sources: &'a [u8],
}

impl Change<'_> {
    /// Returns true if it can only take away from what was wanted before.
    pub(super) fn takes_away(&self) -> bool {
        self.kind == Kind::Block || (self.kind == Kind::Include && self.sources.is_empty())
    }

    /// The sources that it names.
    pub(super) fn sources(&self) -> impl Iterator<Item = [u8; 16]> {
        let bytes = match self.group {
            Group::V4(_) => 4,
            Group::V6(_) => 16,
        };
        self.sources.chunks_exact(bytes).map(move |source| {
            let mut address = [0; 16];
            address[..bytes].copy_from_slice(source);
            address
        })
    }
}

/// Returns true if a frame may be a report, by its head without tags.
#[inline]
pub(super) fn may_be(glance: &[u8; GLANCE_BYTES]) -> bool {
    match [glance[12], glance[13]] {
        IPV4 => glance[23] == IGMP,
        IPV6 => glance[20] == HOP_BY_HOP,
        _ => false,
    }
}

/// Reads a frame without tags, and tells `each` what it says of each group. It may be padded, or
/// cut off.
pub(super) fn read(frame: &[u8], each: impl FnMut(Change<'_>)) {
    // `None` is a frame that ends before it has said anything, or is none of these.
    let _ = match frame.get(12..14) {
        Some(kind) if *kind == IPV4 => read_igmp(&frame[14..], each),
        Some(kind) if *kind == IPV6 => read_mld(&frame[14..], each),
        _ => None,
    };
}

fn read_igmp(packet: &[u8], mut each: impl FnMut(Change<'_>)) -> Option<()> {
    if packet.get(9) != Some(&IGMP) {
        return None;
    }
    let message = packet.get(usize::from(packet.first()? & 15) * 4..)?;
    let mut one = |version, kind, address: &[u8]| {
        each(Change { group: Group::V4(four(address)), version, kind, sources: &[] });
    };
    match *message.first()? {
        IGMPV1_REPORT => one(1, Kind::Exclude, message.get(4..8)?),
        IGMPV2_REPORT => one(2, Kind::Exclude, message.get(4..8)?),
        IGMPV2_LEAVE => one(2, Kind::Include, message.get(4..8)?),
        IGMPV3_REPORT => {
            let count = u16::from_be_bytes(*message.get(6..)?.first_chunk()?);
            let group = |address: &[u8]| Group::V4(four(address));
            return read_records::<4>(message.get(8..)?, (count, 3), group, each);
        }
        _ => return None,
    }
    Some(())
}

fn read_mld(packet: &[u8], mut each: impl FnMut(Change<'_>)) -> Option<()> {
    // A router alert comes first, in an option of each hop (RFC 3810, 5).
    if packet.get(6) != Some(&HOP_BY_HOP) || packet.get(40) != Some(&ICMPV6) {
        return None;
    }
    let message = packet.get(48 + 8 * usize::from(*packet.get(41)?)..)?;
    let mut one = |kind, address: &[u8]| {
        each(Change { group: Group::V6(sixteen(address)), version: 1, kind, sources: &[] });
    };
    match *message.first()? {
        MLDV1_REPORT => one(Kind::Exclude, message.get(8..24)?),
        MLDV1_DONE => one(Kind::Include, message.get(8..24)?),
        MLDV2_REPORT => {
            let count = u16::from_be_bytes(*message.get(6..)?.first_chunk()?);
            let group = |address: &[u8]| Group::V6(sixteen(address));
            return read_records::<16>(message.get(8..)?, (count, 2), group, each);
        }
        _ => return None,
    }
    Some(())
}

/// Reads group records, which IGMPv3 and MLDv2 have alike but for the bytes of an address
/// (RFC 3376, 4.2; RFC 3810, 5.2). `None` if they end before their count.
fn read_records<const ADDRESS_BYTES: usize>(
    mut records: &[u8],
    (count, version): (u16, u8),
    group: impl Fn(&[u8]) -> Group,
    mut each: impl FnMut(Change<'_>),
) -> Option<()> {
    for _ in 0..count {
        let [kind, auxiliary_words, a, b] = *records.first_chunk()?;
        let address = records.get(4..4 + ADDRESS_BYTES)?;
        let sources_end =
            4 + ADDRESS_BYTES + ADDRESS_BYTES * usize::from(u16::from_be_bytes([a, b]));
        let sources = records.get(4 + ADDRESS_BYTES..sources_end)?;
        let kind = match kind {
            1 | 3 => Some(Kind::Include),
            2 | 4 => Some(Kind::Exclude),
            5 => Some(Kind::Allow),
            6 => Some(Kind::Block),
            _ => None,
        };
        if let Some(kind) = kind {
            each(Change { group: group(address), version, kind, sources });
        }
        records = records.get(sources_end + 4 * usize::from(auxiliary_words)..)?;
    }
    Some(())
}
