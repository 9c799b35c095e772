//! What the NIC computes for the host: checksums of frames to send, by the context that the driver
//! set (i210 datasheet §7.2.4), and the verdict on those of received ones (§7.1.9).

use crate::registers::rxcsum;
use platform::checksum::{fold, sum};

/// Transport protocol of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
    /// SCTP, or the reserved code: not modelled.
    Other,
}

/// A transmit context: where the headers are, and how to cut what follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Context {
    pub(super) mac_bytes: usize,
    pub(super) ip_bytes: usize,
    pub(super) transport_bytes: usize,
    pub(super) is_ipv4: bool,
    pub(super) transport: Transport,
    /// Payload bytes of a segment.
    pub(super) segment_bytes: usize,
}

/// Headers that do not fit the frame or each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadContext;

impl Context {
    /// From a context descriptor.
    pub(super) fn new(descriptor: [u64; 2]) -> Self {
        let headers = descriptor[0] as usize;
        let [kinds, sizes] = [descriptor[1] as u32, (descriptor[1] >> 32) as u32];
        let transport = match kinds >> 11 & 3 {
            0 => Transport::Udp,
            1 => Transport::Tcp,
            _ => Transport::Other,
        };
        Self {
            ip_bytes: headers & 0x1ff,
            mac_bytes: headers >> 9 & 0x7f,
            is_ipv4: kinds >> 10 & 1 != 0,
            transport,
            transport_bytes: (sizes >> 8 & 0xff) as usize,
            segment_bytes: (sizes >> 16) as usize,
        }
    }

    /// Where the transport header starts.
    pub(super) fn transport_at(&self) -> usize {
        self.mac_bytes + self.ip_bytes
    }

    /// Computes the checksum of the IPv4 header.
    pub(super) fn insert_ip(&self, frame: &mut [u8]) -> Result<(), BadContext> {
        let header = frame.get_mut(self.mac_bytes..self.transport_at()).ok_or(BadContext)?;
        if !self.is_ipv4 || header.len() < 20 {
            return Err(BadContext);
        }
        header[10..12].fill(0);
        let checksum = !fold(sum(header));
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        Ok(())
    }

    /// Completes the checksum of the transport header, which the driver seeded with the sum of the
    /// pseudo-header; `extra` is what the seed leaves out (the length, when cutting segments).
    pub(super) fn insert_transport(&self, frame: &mut [u8], extra: u16) -> Result<(), BadContext> {
        let at = match self.transport {
            Transport::Udp => 6,
            Transport::Tcp => 16,
            Transport::Other => return Err(BadContext),
        };
        let packet = frame.get_mut(self.transport_at()..).ok_or(BadContext)?;
        let total = sum(packet) + u64::from(extra);
        let field = packet.get_mut(at..at + 2).ok_or(BadContext)?;
        let checksum = !fold(total);
        // In UDP zero means "none", so the other zero stands for it (RFC 768).
        let is_udp_zero = checksum == 0 && self.transport == Transport::Udp;
        let checksum = if is_udp_zero { 0xffff } else { checksum };
        field.copy_from_slice(&checksum.to_be_bytes());
        Ok(())
    }
}

/// Bits of a receive descriptor that is written back: packet type, status, errors.
pub(super) mod report {
    pub(in super::super) const IPV4: u32 = 1 << 4;
    pub(in super::super) const IPV6: u32 = 1 << 6;
    pub(in super::super) const TCP: u32 = 1 << 8;
    pub(in super::super) const UDP: u32 = 1 << 9;
    pub(in super::super) const UDPCS: u32 = 1 << 4;
    pub(in super::super) const L4CS: u32 = 1 << 5;
    pub(in super::super) const IPCS: u32 = 1 << 6;
    pub(in super::super) const L4E: u32 = 1 << 29;
    pub(in super::super) const IPE: u32 = 1 << 30;
}

/// What the NIC says of a received frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// First word of the descriptor: packet type.
    pub(super) kind: u32,
    /// Third word: status and error bits.
    pub(super) status: u32,
}

/// Looks at headers and checksums of a received frame, as far as RXCSUM asks for it.
pub(super) fn examine(frame: &[u8], receive_checksum: u32) -> Report {
    let Some((header, packet)) = frame.split_at_checked(14) else { return Report::default() };
    let report = match [header[12], header[13]] {
        [0x08, 0x00] => examine_ipv4(packet, receive_checksum),
        [0x86, 0xdd] => examine_ipv6(packet, receive_checksum),
        _ => None,
    };
    report.unwrap_or_default()
}

fn examine_ipv4(packet: &[u8], asked: u32) -> Option<Report> {
    let header_bytes = usize::from(packet.first()? & 0xf) * 4;
    let header = packet.get(..header_bytes).filter(|header| header.len() >= 20)?;
    let total_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let mut report = Report { kind: report::IPV4, status: 0 };
    if asked & rxcsum::IPOFL != 0 {
        let good = fold(sum(header)) == 0xffff;
        report.status |= report::IPCS | if good { 0 } else { report::IPE };
    }
    let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    if let Some(transport) = packet.get(header_bytes..total_bytes).filter(|_| !is_fragment) {
        examine_transport(&mut report, header[9], sum(&header[12..20]), transport, asked);
    }
    Some(report)
}

fn examine_ipv6(packet: &[u8], asked: u32) -> Option<Report> {
    let (header, rest) = packet.split_at_checked(40)?;
    let payload_bytes = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let mut report = Report { kind: report::IPV6, status: 0 };
    if let Some(transport) = rest.get(..payload_bytes) {
        examine_transport(&mut report, header[6], sum(&header[8..40]), transport, asked);
    }
    Some(report)
}

fn examine_transport(report: &mut Report, protocol: u8, addresses: u64, data: &[u8], asked: u32) {
    let (kind, checked, has_checksum) = match protocol {
        6 if data.len() >= 20 => (report::TCP, report::L4CS, true),
        17 if data.len() >= 8 => (report::UDP, report::L4CS | report::UDPCS, data[6..8] != [0, 0]),
        _ => return,
    };
    report.kind |= kind;
    if asked & rxcsum::TUOFL != 0 && has_checksum {
        let pseudo_header = addresses + u64::from(protocol) + data.len() as u64;
        let good = fold(pseudo_header + sum(data)) == 0xffff;
        report.status |= checked | if good { 0 } else { report::L4E };
    }
}
