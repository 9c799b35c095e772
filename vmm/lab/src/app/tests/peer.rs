//! The station at the other end of the wire: makes frames, and takes answers apart.

pub(super) const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x22];
pub(super) const PEER_MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 9];
pub(super) const IP: [u8; 4] = [10, 0, 0, 2];
const PEER_IP: [u8; 4] = [10, 0, 0, 9];
const PORT: u16 = 40_000;

fn ethernet(to: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&to[..], &PEER_MAC[..], &kind.to_be_bytes()[..], payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = (20 + payload.len() as u16).to_be_bytes();
    let head = [0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    let mut header = [&head[..], &PEER_IP, &IP].concat();
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    ethernet(MAC, 0x0800, &[&header[..], payload].concat())
}

/// Who has the guest's address?
pub(super) fn arp_request() -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    ethernet([0xff; 6], 0x0806, &[&head[..], &PEER_MAC, &PEER_IP, &[0; 6], &IP].concat())
}

/// The MAC address in an ARP reply, if it is one.
pub(super) fn arp_answer(frame: &[u8]) -> Option<[u8; 6]> {
    let reply = frame.get(12..14) == Some(&[8, 6]) && frame.get(20..22) == Some(&[0, 2]);
    reply.then(|| frame[22..28].try_into().unwrap())
}

pub(super) fn ping(payload: &[u8]) -> Vec<u8> {
    let mut message = [&[8, 0, 0, 0, 0, 1, 0, 2][..], payload].concat();
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv4(1, &message)
}

/// The payload of an answer to a ping, checksums checked.
pub(super) fn ping_answer(frame: &[u8]) -> Option<&[u8]> {
    let (header, message) = addressed_to_us(frame, 1)?;
    assert_eq!(checksum(header), 0, "IPv4 header");
    assert_eq!(checksum(message), 0, "ICMP");
    (message[0] == 0).then_some(&message[8..])
}

pub(super) fn datagram(payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    let ports = [PORT.to_be_bytes(), 7u16.to_be_bytes()].concat();
    let mut datagram = [&ports[..], &len.to_be_bytes(), &[0, 0], payload].concat();
    let pseudo = [&PEER_IP[..], &IP, &[0, 17], &len.to_be_bytes()].concat();
    let sum = checksum(&[pseudo, datagram.clone()].concat());
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    ipv4(17, &datagram)
}

/// The payload of an echo, checksums checked.
pub(super) fn echo(frame: &[u8]) -> Option<&[u8]> {
    let (header, datagram) = addressed_to_us(frame, 17)?;
    assert_eq!(checksum(header), 0, "IPv4 header");
    let pseudo = [&header[12..20], &[0, 17], &datagram[4..6]].concat();
    assert_eq!(checksum(&[&pseudo, datagram].concat()), 0, "UDP");
    assert_eq!(datagram[..4], [7u16.to_be_bytes(), PORT.to_be_bytes()].concat());
    Some(&datagram[8..])
}

fn addressed_to_us(frame: &[u8], protocol: u8) -> Option<(&[u8], &[u8])> {
    if frame[..6] != PEER_MAC || frame[12..14] != [8, 0] || frame[23] != protocol {
        return None;
    }
    let len = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    Some(frame[14..14 + len].split_at(20))
}
