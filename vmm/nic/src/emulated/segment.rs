//! TCP and UDP segmentation (i210 datasheet §7.2.4): one large packet of the host becomes many on
//! the wire.

use super::offload::{BadContext, Context, Transport};

/// Fewest payload bytes of a segment. A driver that asks for less could keep the engine busy with
/// one packet for milliseconds.
const LEAST_SEGMENT_BYTES: usize = 64;
const TCP_FIN_PSH: u8 = 0x09;
const TCP_CWR: u8 = 0x80;

/// Cuts `packet`, headers first, and hands each segment to `emit`, until that says `false`.
/// `scratch` holds one segment at a time.
pub(super) fn segments(
    context: &Context,
    packet: &[u8],
    insert_ip: bool,
    scratch: &mut [u8],
    mut emit: impl FnMut(&mut [u8]) -> bool,
) -> Result<(), BadContext> {
    let header_bytes = context.transport_at() + context.transport_bytes;
    check(context, header_bytes, packet, scratch)?;
    let (headers, payload) = packet.split_at(header_bytes);
    let last = payload.len().div_ceil(context.segment_bytes).saturating_sub(1);
    for (number, part) in payload.chunks(context.segment_bytes).enumerate() {
        let segment = &mut scratch[..header_bytes + part.len()];
        segment[..header_bytes].copy_from_slice(headers);
        segment[header_bytes..].copy_from_slice(part);
        fix_ip(context, segment, number);
        fix_transport(context, segment, number, number == last);
        if insert_ip && context.is_ipv4 {
            context.insert_ip(segment)?;
        }
        let transport_bytes = (segment.len() - context.transport_at()) as u16;
        context.insert_transport(segment, transport_bytes)?;
        if !emit(segment) {
            break;
        }
    }
    Ok(())
}

fn check(
    context: &Context,
    header_bytes: usize,
    packet: &[u8],
    scratch: &[u8],
) -> Result<(), BadContext> {
    let least_ip = if context.is_ipv4 { 20 } else { 40 };
    let least_transport = match context.transport {
        Transport::Tcp => 20,
        Transport::Udp => 8,
        Transport::Other => return Err(BadContext),
    };
    let fits = context.mac_bytes >= 14
        && context.ip_bytes >= least_ip
        && context.transport_bytes >= least_transport
        && context.segment_bytes >= LEAST_SEGMENT_BYTES
        && header_bytes + context.segment_bytes <= scratch.len()
        && header_bytes < packet.len();
    if fits { Ok(()) } else { Err(BadContext) }
}

/// Length, and in IPv4 an identification that counts on.
fn fix_ip(context: &Context, segment: &mut [u8], number: usize) {
    let ip_at = context.mac_bytes;
    let ip_and_more = segment.len() - ip_at;
    if context.is_ipv4 {
        put_u16(segment, ip_at + 2, ip_and_more as u16);
        let id = get_u16(segment, ip_at + 4).wrapping_add(number as u16);
        put_u16(segment, ip_at + 4, id);
    } else {
        put_u16(segment, ip_at + 4, (ip_and_more - 40) as u16);
    }
}

/// Sequence number and flags of TCP, length of UDP.
fn fix_transport(context: &Context, segment: &mut [u8], number: usize, is_last: bool) {
    let at = context.transport_at();
    if context.transport == Transport::Udp {
        let len = segment.len() - at;
        put_u16(segment, at + 4, len as u16);
        return;
    }
    let skipped = (number * context.segment_bytes) as u32;
    let first = u32::from_be_bytes([0, 1, 2, 3].map(|byte| segment[at + 4 + byte]));
    segment[at + 4..at + 8].copy_from_slice(&first.wrapping_add(skipped).to_be_bytes());
    if !is_last {
        segment[at + 13] &= !TCP_FIN_PSH;
    }
    if number != 0 {
        segment[at + 13] &= !TCP_CWR;
    }
}

fn get_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
