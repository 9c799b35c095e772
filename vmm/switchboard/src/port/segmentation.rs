//! TCP segmentation: one long frame of a guest becomes as many as its peer takes (virtio 1.3,
//! 5.1.6.2: `VIRTIO_NET_HDR_GSO_TCPV4`, `_TCPV6`).
//!
//! It is done here and not by the NIC, which could: a NIC that cuts counts what it has sent in
//! segments, so its count would not tell which of the guest's frames it confirms, and after a
//! failover the whole of a frame half sent would go out again. Cut here, each segment is a frame
//! like any other: confirmed by itself, and sent again by itself. The guest saves what it wants to
//! save, a walk through its stack and a descriptor for each segment; the NIC still does the
//! checksums, and a byte is copied as often as before.

use nic::wire::MAX_FRAME_BYTES;
use platform::checksum;

use super::offloads::{Checksum, Cut, Internet};

/// Most bytes of a frame that is cut: the longest IP packet, behind an Ethernet header with two
/// tags.
pub(crate) const MAX_UNCUT_BYTES: usize = 65_535 + 22;

/// Most bytes of headers that are repeated before each segment: two VLAN tags, IPv6 with extension
/// headers, the longest TCP header.
pub(crate) const MAX_HEADERS_BYTES: usize = 256;

const ETHERNET_BYTES: usize = 14;
const TAG_BYTES: usize = 4;
const TAGS: [u16; 2] = [0x8100, 0x88a8];
const IPV6_BYTES: usize = 40;
const TCP: u8 = 6;
/// TCP flags that only the last segment may have: FIN and PSH.
const LAST_ONLY: u8 = 0x01 | 0x08;
/// That only the first may have: CWR (RFC 3168, 6.1.2).
const FIRST_ONLY: u8 = 0x80;

/// Headers or sizes that do not belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Uncuttable;

/// Cuts one frame after the other. Each segment is its header, from here, and the next payload.
pub(crate) struct Segmenter {
    headers: [u8; MAX_HEADERS_BYTES],
    headers_bytes: usize,
    internet: Internet,
    /// Where the IP header begins, and the TCP header.
    network: usize,
    transport: usize,
    each_bytes: usize,
    left_bytes: usize,
    /// The sum of the pseudo-header, the length taken out of it.
    pseudo_sum: u64,
    /// Of the whole frame.
    flags: u8,
    is_first: bool,
}

impl Segmenter {
    pub(crate) fn new() -> Self {
        Self {
            headers: [0; MAX_HEADERS_BYTES],
            headers_bytes: 0,
            internet: Internet::V4,
            network: 0,
            transport: 0,
            each_bytes: 0,
            left_bytes: 0,
            pseudo_sum: 0,
            flags: 0,
            is_first: true,
        }
    }

    /// Begins with a frame of `frame_bytes`, whose first bytes, as many as fit, are `start`.
    ///
    /// # Errors
    /// It is not TCP over the IP that it is said to be, or the sizes are impossible.
    pub(crate) fn begin(
        &mut self,
        cut: Cut,
        tcp: Checksum,
        start: &[u8],
        frame_bytes: usize,
    ) -> Result<(), Uncuttable> {
        let network = network_offset(start, cut.internet)?;
        let transport = usize::from(tcp.start);
        check_network(start, network, transport, cut.internet)?;
        let header = start.get(transport..).and_then(|rest| rest.first_chunk::<20>());
        let header = header.filter(|_| tcp.is_tcp()).ok_or(Uncuttable)?;
        let tcp_bytes = usize::from(header[12] >> 4) * 4;
        let headers_bytes = transport + tcp_bytes;
        let each_bytes = usize::from(cut.payload_bytes);
        let sound = tcp_bytes >= header.len()
            && headers_bytes <= start.len().min(MAX_HEADERS_BYTES)
            && headers_bytes < frame_bytes
            && each_bytes > 0
            && headers_bytes + each_bytes <= MAX_FRAME_BYTES;
        if !sound {
            return Err(Uncuttable);
        }
        self.headers[..headers_bytes].copy_from_slice(&start[..headers_bytes]);
        let whole_bytes = (frame_bytes - transport) as u64;
        let given = u64::from(u16::from_be_bytes([header[16], header[17]]));
        *self = Self {
            headers: self.headers,
            headers_bytes,
            internet: cut.internet,
            network,
            transport,
            each_bytes,
            left_bytes: frame_bytes - headers_bytes,
            pseudo_sum: given + u64::from(!checksum::fold(whole_bytes)),
            flags: header[13],
            is_first: true,
        };
        Ok(())
    }

    /// Segments that are left.
    pub(crate) fn left(&self) -> usize {
        self.left_bytes.div_ceil(self.each_bytes.max(1))
    }

    /// Bytes of a segment of full size.
    pub(crate) fn segment_bytes(&self) -> usize {
        self.headers_bytes + self.each_bytes.min(self.left_bytes)
    }

    /// Makes the next segment's headers; `None` if there is none. Returns how many bytes of payload
    /// go behind them.
    pub(crate) fn advance(&mut self) -> Option<usize> {
        if self.left_bytes == 0 {
            return None;
        }
        if !std::mem::replace(&mut self.is_first, false) {
            self.step();
        }
        let payload_bytes = self.each_bytes.min(self.left_bytes);
        self.left_bytes -= payload_bytes;
        self.set_lengths(payload_bytes);
        self.set_flags();
        Some(payload_bytes)
    }

    /// The headers of the current segment.
    pub(crate) fn headers(&self) -> &[u8] {
        &self.headers[..self.headers_bytes]
    }

    /// From one segment to the next: IPv4's identification and TCP's sequence number.
    fn step(&mut self) {
        if self.internet == Internet::V4 {
            let at = self.network + 4;
            self.set_u16(at, self.u16_at(at).wrapping_add(1));
        }
        let at = self.transport + 4;
        let before = u32::from(self.u16_at(at)) << 16 | u32::from(self.u16_at(at + 2));
        // Only the last segment is shorter, and none comes behind it.
        let sequence = before.wrapping_add(self.each_bytes as u32);
        self.set_u16(at, (sequence >> 16) as u16);
        self.set_u16(at + 2, sequence as u16);
        self.flags &= !FIRST_ONLY;
    }

    fn set_lengths(&mut self, payload_bytes: usize) {
        let end = self.headers_bytes + payload_bytes;
        let (network, transport) = (self.network, self.transport);
        match self.internet {
            Internet::V4 => {
                self.set_u16(network + 2, (end - network) as u16);
                self.set_u16(network + 10, 0);
                let sum = checksum::sum(&self.headers[network..transport]);
                self.set_u16(network + 10, !checksum::fold(sum));
            }
            Internet::V6 => self.set_u16(network + 4, (end - network - IPV6_BYTES) as u16),
        }
        let sum = self.pseudo_sum + (end - transport) as u64;
        self.set_u16(transport + 16, checksum::fold(sum));
    }

    fn set_flags(&mut self) {
        let is_last = self.left_bytes == 0;
        let flags = if is_last { self.flags } else { self.flags & !LAST_ONLY };
        self.headers[self.transport + 13] = flags;
    }

    fn u16_at(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.headers[at], self.headers[at + 1]])
    }

    fn set_u16(&mut self, at: usize, value: u16) {
        self.headers[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }
}

/// Where the IP header begins: behind the addresses, at most two tags and the EtherType that fits.
fn network_offset(start: &[u8], internet: Internet) -> Result<usize, Uncuttable> {
    let expected = match internet {
        Internet::V4 => 0x0800,
        Internet::V6 => 0x86dd,
    };
    let mut at = ETHERNET_BYTES - 2;
    for _ in 0..=TAGS.len() {
        let kind = start.get(at..at + 2).ok_or(Uncuttable)?;
        let kind = u16::from_be_bytes([kind[0], kind[1]]);
        if kind == expected {
            return Ok(at + 2);
        }
        if !TAGS.contains(&kind) {
            return Err(Uncuttable);
        }
        at += TAG_BYTES;
    }
    Err(Uncuttable)
}

/// Checks that there is an IP header from `network` to `transport`, as far as cutting changes it.
fn check_network(
    start: &[u8],
    network: usize,
    transport: usize,
    internet: Internet,
) -> Result<(), Uncuttable> {
    let ip = start.get(network..transport).ok_or(Uncuttable)?;
    let first = *ip.first().ok_or(Uncuttable)?;
    let sound = match internet {
        Internet::V4 => {
            first >> 4 == 4
                && ip.len() >= 20
                && usize::from(first & 15) * 4 == ip.len()
                && ip[9] == TCP
        }
        // Extension headers may stand between.
        Internet::V6 => first >> 4 == 6 && ip.len() >= IPV6_BYTES,
    };
    if sound { Ok(()) } else { Err(Uncuttable) }
}

#[cfg(test)]
mod tests;
