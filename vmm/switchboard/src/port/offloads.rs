//! What a guest may leave to others: checksums, and the cutting of long frames.

/// What a guest may leave to be done, as offered and accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offloads {
    /// `VIRTIO_NET_F_CSUM`: checksums to be computed.
    pub(crate) checksums: bool,
    /// `VIRTIO_NET_F_HOST_TSO4`: TCP over IPv4 to be cut into segments.
    pub tcp4: bool,
    /// `VIRTIO_NET_F_HOST_TSO6`: the same over IPv6.
    pub tcp6: bool,
}

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

    /// Returns true if the NIC can compute it (i210 datasheet §7.2.4). Any other is computed in
    /// software.
    pub(crate) fn suits_nic(self) -> bool {
        matches!(self.offset, Self::TCP | Self::UDP)
            && (Self::LEAST_START..=Self::LAST_START).contains(&self.start)
    }

    /// Returns true if this is TCP's.
    pub(crate) fn is_tcp(self) -> bool {
        self.offset == Self::TCP
    }

    /// Returns true if this is UDP's, in which zero means "none".
    pub(crate) fn is_udp(self) -> bool {
        self.offset == Self::UDP
    }

    /// Where the field is, from the frame's start.
    pub(crate) fn field(self) -> usize {
        usize::from(self.start) + usize::from(self.offset)
    }
}

/// The Internet protocol of a frame that is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Internet {
    V4,
    V6,
}

/// How a guest wants a frame cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) internet: Internet,
    /// Bytes of TCP payload in each segment but the last.
    pub(crate) payload_bytes: u16,
}
