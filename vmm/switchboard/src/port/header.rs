//! The virtio-net header before each frame that a guest sends (virtio 1.3, 5.1.6.2).

use super::offloads::{Checksum, Cut, Internet, Offloads};

/// Longest header without hash reporting, bytes.
pub(crate) const MAX_HEADER_BYTES: usize = 12;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CHECKSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_TCPV4` and `_TCPV6`.
const CUT_TCP4: u8 = 1;
const CUT_TCP6: u8 = 4;

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
