//! What a frame says about who has an address: ARP and neighbour discovery.

use super::addresses::LEARN_BYTES;

pub(super) const IPV4: [u8; 2] = 0x0800u16.to_be_bytes();
pub(super) const ARP: [u8; 2] = 0x0806u16.to_be_bytes();
pub(super) const IPV6: [u8; 2] = 0x86ddu16.to_be_bytes();
pub(super) const ICMPV6: u8 = 58;
pub(super) const ROUTER_ADVERTISEMENT: u8 = 134;
pub(super) const NEIGHBOUR_SOLICITATION: u8 = 135;
pub(super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// An IP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ip {
    V4([u8; 4]),
    V6([u8; 16]),
}

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// The station that speaks.
    pub(super) by: [u8; 6],
    /// An address that it has.
    pub(super) claimed: Option<Ip>,
    /// An address that it asks for.
    pub(super) asked: Option<Ip>,
}

/// Returns true if a frame may say something; its EtherType is at `at`, and it may be cut off.
#[inline]
pub(crate) fn may_say(head: &[u8], at: usize) -> bool {
    match head.get(at..at + 2) {
        Some(kind) if *kind == ARP => true,
        Some(kind) if *kind == IPV6 => {
            let solicits = NEIGHBOUR_SOLICITATION..=NEIGHBOUR_ADVERTISEMENT;
            head.get(at + 8) == Some(&ICMPV6)
                && head.get(at + 42).is_some_and(|kind| solicits.contains(kind))
        }
        _ => false,
    }
}

impl Heard {
    /// Reads a frame without tags, zero-padded.
    pub(super) fn read(frame: &[u8; LEARN_BYTES]) -> Option<Self> {
        match [frame[12], frame[13]] {
            ARP if frame[14..20] == [0, 1, 8, 0, 6, 4] => Some(Self::arp(frame)),
            // Hop limit 255: it was not forwarded (RFC 4861, 7.1).
            IPV6 if frame[20] == ICMPV6 && frame[21] == 255 => Self::neighbour(frame),
            _ => None,
        }
    }

    fn arp(frame: &[u8; LEARN_BYTES]) -> Self {
        let by = frame[22..28].first_chunk().copied().unwrap_or_default();
        let [sender, target] = [28, 38].map(|at| four(&frame[at..at + 4]));
        let is_request = frame[20..22] == [0, 1];
        Self {
            by,
            // A probe has no sender (RFC 5227).
            claimed: (sender != [0; 4]).then_some(Ip::V4(sender)),
            asked: (is_request && target != sender).then_some(Ip::V4(target)),
        }
    }

    fn neighbour(frame: &[u8; LEARN_BYTES]) -> Option<Self> {
        let by = frame[6..12].first_chunk().copied().unwrap_or_default();
        let [source, target] = [22, 62].map(|at| sixteen(&frame[at..at + 16]));
        match frame[54] {
            NEIGHBOUR_SOLICITATION => Some(Self {
                by,
                // Duplicate address detection has no source (RFC 4862).
                claimed: (source != [0; 16]).then_some(Ip::V6(source)),
                asked: Some(Ip::V6(target)),
            }),
            NEIGHBOUR_ADVERTISEMENT => {
                Some(Self { by, claimed: Some(Ip::V6(target)), asked: None })
            }
            _ => None,
        }
    }
}

pub(super) fn four(bytes: &[u8]) -> [u8; 4] {
    bytes.first_chunk().copied().unwrap_or_default()
}

pub(super) fn sixteen(bytes: &[u8]) -> [u8; 16] {
    bytes.first_chunk().copied().unwrap_or_default()
}
