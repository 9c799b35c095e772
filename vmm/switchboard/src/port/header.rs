//! The virtio-net header before each frame that a guest sends (virtio 1.3, 5.1.6.2).

use super::segmentation::{Cut, Internet};

/// Longest header without hash reporting, bytes.
pub(crate) const MAX_HEADER_BYTES: usize = 12;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CHECKSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_TCPV4` and `_TCPV6`.
const CUT_TCP4: u8 = 1;
const CUT_TCP6: u8 = 4;

/// What a guest may leave to be done, as offered and accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// `VIRTIO_NET_F_CSUM`: checksums to be computed.
    pub checksums: bool,
    /// `VIRTIO_NET_F_HOST_TSO4`: TCP over IPv4 to be cut into segments.
    pub tcp4: bool,
    /// `VIRTIO_NET_F_HOST_TSO6`: the same over IPv6.
    pub tcp6: bool,
}

/// What the header of a frame asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) checksum: Option<Checksum>,
    /// Only with a checksum.
    pub(crate) cut: Option<Cut>,
}

/// A header that asks for what was not offered, or points outside its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadHeader;

/// A checksum that the guest has left to be computed: over everything from `start` on, its field,
/// which holds the sum of the pseudo-header, included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checksum {
    /// Where it begins, bytes from the frame's start.
    pub(crate) start: u16,
    /// Where its field is, bytes from `start`.
    pub(crate) offset: u16,
}

impl Checksum {
    /// Field offsets of TCP and UDP, the two that a NIC knows.
    const TCP: u16 = 16;
    pub(super) const UDP: u16 = 6;
    /// Ethernet header and the shortest IP header.
    const LEAST_START: u16 = 34;
    /// Ethernet header and the longest IP header that a context descriptor can describe.
    const LAST_START: u16 = 14 + 511;

    /// Whether the NIC can compute it (i210 datasheet §7.2.4). Anything else is done in software.
    pub(crate) fn suits_nic(self) -> bool {
        matches!(self.offset, Self::TCP | Self::UDP)
            && (Self::LEAST_START..=Self::LAST_START).contains(&self.start)
    }

    /// Whether this is TCP's.
    pub(crate) fn is_tcp(self) -> bool {
        self.offset == Self::TCP
    }

    /// Whether this is UDP's, in which zero means "none".
    pub(crate) fn is_udp(self) -> bool {
        self.offset == Self::UDP
    }

    /// Where the field is, from the frame's start.
    pub(crate) fn field(self) -> usize {
        usize::from(self.start) + usize::from(self.offset)
    }
}

/// What the header of a frame of `frame_bytes` asks for, if all of it was offered and accepted.
pub(crate) fn read(
    header: &[u8; MAX_HEADER_BYTES],
    frame_bytes: usize,
    offloads: Offloads,
) -> Result<Asked, BadHeader> {
    let word = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let [flags, segmentation, ..] = *header;
    let internet = match segmentation {
        0 => None,
        CUT_TCP4 if offloads.tcp4 => Some(Internet::V4),
        CUT_TCP6 if offloads.tcp6 => Some(Internet::V6),
        _ => return Err(BadHeader),
    };
    let cut = internet.map(|internet| Cut { internet, payload_bytes: word(4) });
    if flags & NEEDS_CHECKSUM == 0 {
        return if cut.is_none() { Ok(Asked::default()) } else { Err(BadHeader) };
    }
    let checksum = Checksum { start: word(6), offset: word(8) };
    let inside = checksum.field() + 2 <= frame_bytes;
    if offloads.checksums && inside {
        Ok(Asked { checksum: Some(checksum), cut })
    } else {
        Err(BadHeader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(flags: u8, segmentation: u8, start: u16, offset: u16) -> [u8; MAX_HEADER_BYTES] {
        let mut header = [0; MAX_HEADER_BYTES];
        (header[0], header[1]) = (flags, segmentation);
        header[6..8].copy_from_slice(&start.to_le_bytes());
        header[8..10].copy_from_slice(&offset.to_le_bytes());
        header
    }

    const NOTHING: Offloads = Offloads { checksums: false, tcp4: false, tcp6: false };
    const CHECKSUMS: Offloads = Offloads { checksums: true, ..NOTHING };
    const TCP4: Offloads = Offloads { tcp4: true, ..CHECKSUMS };

    #[test]
    fn what_was_not_offered_or_lies_outside_is_refused() {
        assert_eq!(read(&header(0, 0, 9999, 9999), 60, CHECKSUMS), Ok(Asked::default()));
        let tcp = Asked { checksum: Some(Checksum { start: 34, offset: 16 }), cut: None };
        assert_eq!(read(&header(1, 0, 34, 16), 60, CHECKSUMS), Ok(tcp));
        assert_eq!(read(&header(1, 0, 34, 16), 60, NOTHING), Err(BadHeader));
        assert_eq!(read(&header(1, 0, 34, 16), 51, CHECKSUMS), Err(BadHeader));
        assert_eq!(read(&header(1, 0, u16::MAX, u16::MAX), 9000, CHECKSUMS), Err(BadHeader));
        assert_eq!(read(&header(1, 1, 34, 16), 60, CHECKSUMS), Err(BadHeader));
    }

    #[test]
    fn only_the_segmentation_that_was_accepted_is_carried_out() {
        let cut = Cut { internet: Internet::V4, payload_bytes: 0 };
        let checksum = Some(Checksum { start: 34, offset: 16 });
        let asked = Asked { checksum, cut: Some(cut) };
        assert_eq!(read(&header(1, 1, 34, 16), 60, TCP4), Ok(asked));
        for (flags, segmentation) in [(0, 1), (1, 4), (1, 0x81), (1, 3), (1, 5)] {
            assert_eq!(read(&header(flags, segmentation, 34, 16), 60, TCP4), Err(BadHeader));
        }
    }

    #[test]
    fn only_tcp_and_udp_behind_an_ip_header_suit_a_nic() {
        let suits = |start, offset| Checksum { start, offset }.suits_nic();
        assert!(suits(34, 16) && suits(54, 6) && suits(525, 16));
        assert!(!suits(33, 16) && !suits(526, 16) && !suits(34, 2));
    }
}
