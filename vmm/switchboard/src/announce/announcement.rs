//! The frames of announcements.

use platform::checksum::{fold, sum};

use crate::limits::MIN_FRAME_BYTES;
use crate::vlan::{TAGS_BYTES, Tags};

/// Longest announcement without tags, bytes.
pub(super) const ANNOUNCEMENT_BYTES: usize = 512;

/// What an announcement says beside "here is this MAC".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Announced {
    /// Nothing: for a guest whose addresses are not known.
    Nothing,
    /// An IPv4 address.
    V4([u8; 4]),
    /// An IPv6 address.
    V6 {
        address: [u8; 16],
        /// The guest is a router; saying otherwise would take it out of its neighbours' lists of
        /// default routers (RFC 4861, 7.2.5).
        is_router: bool,
    },
}

/// A frame, ready to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announcement {
    bytes: [u8; ANNOUNCEMENT_BYTES + TAGS_BYTES],
    len: usize,
}

impl Announcement {
    /// From a guest's station: this address in this VLAN.
    pub(crate) fn new((mac, tags): ([u8; 6], Tags), what: Announced) -> Self {
        Self::write((mac, tags), |frame| match what {
            Announced::Nothing => arp(frame, 0x8035, 3, mac, [0; 4]),
            Announced::V4(address) => arp(frame, 0x0806, 1, mac, address),
            Announced::V6 { address, is_router } => advertisement(frame, address, is_router),
        })
    }

    /// From a guest's station: `write` gets the frame without tags, with the source in place, and
    /// returns how many bytes it has.
    pub(super) fn write(
        (mac, tags): ([u8; 6], Tags),
        write: impl FnOnce(&mut [u8; ANNOUNCEMENT_BYTES]) -> usize,
    ) -> Self {
        let mut frame = [0; ANNOUNCEMENT_BYTES];
        frame[6..12].copy_from_slice(&mac);
        let len = write(&mut frame).max(MIN_FRAME_BYTES);
        let mut bytes = [0; ANNOUNCEMENT_BYTES + TAGS_BYTES];
        bytes[..len].copy_from_slice(&frame[..len]);
        let len = tags.insert(&mut bytes, len);
        Self { bytes, len }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// An ARP announcement (RFC 5227, 3: a request in which sender and target are the same address), or
/// a reverse ARP request (RFC 903), which carries no address and so disturbs no tables but those of
/// switches. Both are broadcasts.
fn arp(
    frame: &mut [u8; ANNOUNCEMENT_BYTES],
    ethertype: u16,
    operation: u16,
    mac: [u8; 6],
    address: [u8; 4],
) -> usize {
    frame[..6].fill(0xff);
    frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
    frame[14..20].copy_from_slice(&[0, 1, 8, 0, 6, 4]); // Ethernet, IPv4, their lengths
    frame[20..22].copy_from_slice(&operation.to_be_bytes());
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&address);
    if operation == 3 {
        frame[32..38].copy_from_slice(&mac);
    }
    frame[38..42].copy_from_slice(&address);
    MIN_FRAME_BYTES
}

/// An unsolicited neighbour advertisement (RFC 4861, 7.2.6) to all nodes, with the override flag
/// and the link-layer address.
fn advertisement(
    frame: &mut [u8; ANNOUNCEMENT_BYTES],
    address: [u8; 16],
    is_router: bool,
) -> usize {
    const ICMP_BYTES: u16 = 32;
    const OVERRIDE: u8 = 0x20;
    const ROUTER: u8 = 0x80;
    let mut mac = [0; 6];
    mac.copy_from_slice(&frame[6..12]);
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    frame[12..14].copy_from_slice(&0x86ddu16.to_be_bytes());
    frame[14] = 0x60; // version 6
    frame[18..20].copy_from_slice(&ICMP_BYTES.to_be_bytes());
    frame[20] = 58; // ICMPv6
    frame[21] = 255; // hop limit: a forwarded one is refused
    frame[22..38].copy_from_slice(&address);
    frame[38..54].copy_from_slice(&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    frame[54] = 136; // neighbour advertisement
    frame[58] = OVERRIDE | if is_router { ROUTER } else { 0 };
    frame[62..78].copy_from_slice(&address);
    frame[78..80].copy_from_slice(&[2, 1]); // target's link-layer address, eight bytes
    frame[80..86].copy_from_slice(&mac);
    let checksum = icmp_checksum(&frame[22..86]);
    frame[56..58].copy_from_slice(&checksum.to_be_bytes());
    86
}

/// Checksum of an ICMPv6 message behind its addresses (RFC 8200, 8.1): the pseudo-header is these,
/// the length and the protocol.
fn icmp_checksum(addresses_and_message: &[u8]) -> u16 {
    let (addresses, message) = addresses_and_message.split_at(32);
    icmpv6_checksum(addresses, message)
}

/// The same where something stands between both.
pub(super) fn icmpv6_checksum(addresses: &[u8], message: &[u8]) -> u16 {
    !fold(sum(addresses) + sum(message) + message.len() as u64 + 58)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 9];

    #[test]
    fn without_an_address_it_is_a_reverse_arp_request() {
        let announcement = Announcement::new((MAC, Tags::NONE), Announced::Nothing);
        let frame = announcement.bytes();
        assert_eq!((frame.len(), &frame[..6], &frame[6..12]), (60, &[0xff; 6][..], &MAC[..]));
        assert_eq!((&frame[12..14], &frame[20..22]), (&[0x80, 0x35][..], &[0, 3][..]));
        assert_eq!(frame[32..38], MAC);
    }

    #[test]
    fn in_a_vlan_it_is_tagged_and_longer() {
        let plain = Announcement::new((MAC, Tags::NONE), Announced::V4([10, 0, 0, 7]));
        let tagged = Announcement::new((MAC, Tags::customer(100)), Announced::V4([10, 0, 0, 7]));
        assert_eq!(tagged.bytes().len(), 64);
        assert_eq!(tagged.bytes()[12..16], [0x81, 0, 0, 100]);
        assert_eq!(tagged.bytes()[16..], plain.bytes()[12..]);
    }

    #[test]
    fn an_ipv4_address_is_announced_by_arp() {
        use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame};
        let announcement = Announcement::new((MAC, Tags::NONE), Announced::V4([10, 0, 0, 7]));
        let frame = EthernetFrame::new_checked(announcement.bytes()).unwrap();
        let arp = ArpRepr::parse(&ArpPacket::new_checked(frame.payload()).unwrap()).unwrap();
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_hardware_addr,
            target_protocol_addr,
        } = arp
        else {
            panic!("{arp:?}")
        };
        assert_eq!(operation, ArpOperation::Request);
        assert_eq!(source_hardware_addr, EthernetAddress(MAC));
        assert_eq!(target_hardware_addr, EthernetAddress([0; 6]));
        assert_eq!(source_protocol_addr.octets(), [10, 0, 0, 7]);
        assert_eq!(target_protocol_addr.octets(), [10, 0, 0, 7]);
    }

    #[test]
    fn an_ipv6_address_is_announced_by_an_advertisement_that_checks() {
        let address = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        for is_router in [false, true] {
            let announcement =
                Announcement::new((MAC, Tags::NONE), Announced::V6 { address, is_router });
            let frame = announcement.bytes();
            assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
            assert_eq!((frame[14], frame[20], frame[21], frame[54]), (0x60, 58, 255, 136));
            assert_eq!(frame[58] & 0x80 != 0, is_router);
            assert_eq!(frame[58] & 0x60, 0x20, "override, not solicited");
            assert_eq!(frame[62..78], address);
            assert_eq!(frame[80..86], MAC);
            assert_eq!(icmp_checksum(&frame[22..86]), 0, "the sum with its checksum is zero");
        }
    }
}
