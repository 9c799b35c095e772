//! The virtio-net header before each frame that a guest sends (virtio 1.3, 5.1.6.2).

/// Longest header without hash reporting, bytes.
pub(crate) const MAX_HEADER_BYTES: usize = 12;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CHECKSUM: u8 = 1;

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

    /// Whether this is UDP's, in which zero means "none".
    pub(crate) fn is_udp(self) -> bool {
        self.offset == Self::UDP
    }

    /// Where the field is, from the frame's start.
    pub(crate) fn field(self) -> usize {
        usize::from(self.start) + usize::from(self.offset)
    }
}

/// What the header of a frame of `frame_bytes` asks for. `checksums` says whether they were offered
/// and accepted; segmentation never was.
pub(crate) fn read(
    header: &[u8; MAX_HEADER_BYTES],
    frame_bytes: usize,
    checksums: bool,
) -> Result<Option<Checksum>, BadHeader> {
    let word = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let [flags, segmentation, ..] = *header;
    if segmentation != 0 {
        return Err(BadHeader);
    }
    if flags & NEEDS_CHECKSUM == 0 {
        return Ok(None);
    }
    let checksum = Checksum { start: word(6), offset: word(8) };
    let inside = checksum.field() + 2 <= frame_bytes;
    if checksums && inside { Ok(Some(checksum)) } else { Err(BadHeader) }
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

    #[test]
    fn what_was_not_offered_or_lies_outside_is_refused() {
        assert_eq!(read(&header(0, 0, 9999, 9999), 60, true), Ok(None));
        let tcp = Checksum { start: 34, offset: 16 };
        assert_eq!(read(&header(1, 0, 34, 16), 60, true), Ok(Some(tcp)));
        assert_eq!(read(&header(1, 0, 34, 16), 60, false), Err(BadHeader));
        assert_eq!(read(&header(1, 0, 34, 16), 51, true), Err(BadHeader));
        assert_eq!(read(&header(1, 0, u16::MAX, u16::MAX), 9000, true), Err(BadHeader));
        assert_eq!(read(&header(1, 1, 34, 16), 60, true), Err(BadHeader));
    }

    #[test]
    fn only_tcp_and_udp_behind_an_ip_header_suit_a_nic() {
        let suits = |start, offset| Checksum { start, offset }.suits_nic();
        assert!(suits(34, 16) && suits(54, 6) && suits(525, 16));
        assert!(!suits(33, 16) && !suits(526, 16) && !suits(34, 2));
    }
}
