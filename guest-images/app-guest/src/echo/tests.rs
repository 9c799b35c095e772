use std::collections::VecDeque;

use smoltcp::phy::{DeviceCapabilities, Medium, RxToken, TxToken};

use super::*;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];
const PEER_MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 9];
const IP: [u8; 4] = [10, 0, 0, 2];
const PEER_IP: [u8; 4] = [10, 0, 0, 9];

/// A device in memory whose transmit queue has `room` frames.
struct Memory {
    arriving: VecDeque<Vec<u8>>,
    left: Vec<Vec<u8>>,
    room: usize,
}

struct Arrived(Vec<u8>);
struct Leaving<'a>(&'a mut Memory);

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.left.push(frame);
        result
    }
}

impl Device for Memory {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, Leaving<'_>)> {
        if self.left.len() >= self.room {
            return None;
        }
        Some((Arrived(self.arriving.pop_front()?), Leaving(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leaving<'_>> {
        (self.left.len() < self.room).then_some(Leaving(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = LONGEST_FRAME;
        capabilities
    }
}

fn device() -> Memory {
    Memory { arriving: VecDeque::new(), left: Vec::new(), room: usize::MAX }
}

fn stack(device: &mut Memory) -> EchoStack<'static> {
    let area = |bytes| Box::leak(vec![0; bytes].into_boxed_slice());
    let storage = Box::leak(Box::new(Storage::new(area(128 << 10), area(768 << 10))));
    let settings = Settings { tsc_khz: 1, ipv4: IP, prefix_len: 24, udp_port: 7 };
    EchoStack::new(storage, device, MAC, &settings, Instant::ZERO).unwrap()
}

fn ethernet(to: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &PEER_MAC[..], &kind.to_be_bytes()[..], payload].concat()
}

fn arp(operation: u16, target_mac: [u8; 6]) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation as u8];
    let body = [&head[..], &PEER_MAC, &PEER_IP, &target_mac, &IP].concat();
    ethernet([0xff; 6], 0x0806, &body)
}

fn checksum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len()) as u16;
    let mut header = vec![0x45, 0, (len >> 8) as u8, len as u8, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    header.extend(PEER_IP);
    header.extend(IP);
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    ethernet(MAC, 0x0800, &[&header[..], payload].concat())
}

fn udp_from(port: u16, payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    let mut datagram = [port.to_be_bytes(), [0, 7], len.to_be_bytes(), [0, 0]].concat();
    datagram.extend(payload);
    let pseudo = [&PEER_IP[..], &IP, &[0, 17], &len.to_be_bytes()].concat();
    let sum = checksum(&[&pseudo, &datagram]);
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    ipv4(17, &datagram)
}

/// Payload of an answer, after its addresses and both checksums were checked.
fn answered(frame: &[u8]) -> &[u8] {
    assert_eq!(frame[..6], PEER_MAC);
    assert_eq!(frame[6..12], MAC);
    let (header, datagram) = frame[14..].split_at(20);
    assert_eq!(checksum(&[header]), 0, "IPv4 header");
    assert_eq!((&header[12..16], &header[16..20]), (&IP[..], &PEER_IP[..]));
    let pseudo = [&header[12..20], &[0, 17], &datagram[4..6]].concat();
    assert_eq!(checksum(&[&pseudo, datagram]), 0, "UDP");
    assert_eq!(datagram[..2], [0, 7]);
    &datagram[8..]
}

#[test]
fn an_arp_request_is_answered() {
    let mut device = device();
    let mut stack = stack(&mut device);
    device.arriving.push_back(arp(1, [0; 6]));

    assert!(stack.turn(&mut device, Instant::ZERO).progress);

    let reply = &device.left[0];
    assert_eq!(reply[..6], PEER_MAC);
    assert_eq!(reply[20..22], [0, 2], "a reply");
    assert_eq!(reply[22..28], MAC);
}

#[test]
fn a_ping_is_answered() {
    let mut device = device();
    let mut stack = stack(&mut device);
    let mut ping = vec![8, 0, 0, 0, 1, 2, 3, 4, b'w', b's'];
    let sum = checksum(&[&ping]);
    ping[2..4].copy_from_slice(&sum.to_be_bytes());
    device.arriving.extend([arp(1, [0; 6]), ipv4(1, &ping)]);

    stack.turn(&mut device, Instant::ZERO);

    let reply = &device.left[1][34..];
    assert_eq!(reply[0], 0, "an echo reply");
    assert_eq!(reply[4..], ping[4..]);
    assert_eq!(checksum(&[reply]), 0);
}

#[test]
fn datagrams_of_every_size_come_back_unchanged() {
    let mut device = device();
    let mut stack = stack(&mut device);
    device.arriving.push_back(arp(1, [0; 6]));
    let payload: Vec<u8> = (0..LONGEST_PAYLOAD).map(|i| (i * 7) as u8).collect();
    let sizes = [0, 1, 2, 17, 512, 1471, LONGEST_PAYLOAD];
    device.arriving.extend(sizes.map(|size| udp_from(4000, &payload[..size])));

    let turn = stack.turn(&mut device, Instant::ZERO);

    assert_eq!(turn.echoed, sizes.len() as u64);
    for (frame, size) in device.left[1..].iter().zip(sizes) {
        assert_eq!(answered(frame), &payload[..size]);
    }
}

#[test]
fn a_burst_waits_for_room_and_loses_nothing() {
    let mut device = device();
    let mut stack = stack(&mut device);
    device.arriving.push_back(arp(1, [0; 6]));
    device.arriving.extend((0..256u16).map(|n| udp_from(4000, &n.to_be_bytes())));
    device.room = 100;

    while stack.turn(&mut device, Instant::ZERO).progress {}
    assert_eq!(device.left.len(), 100);
    device.room = usize::MAX;
    while stack.turn(&mut device, Instant::ZERO).progress {}

    assert_eq!(device.left.len(), 257);
    for (n, frame) in device.left[1..].iter().enumerate() {
        assert_eq!(answered(frame), (n as u16).to_be_bytes());
    }
}

#[test]
fn an_answer_waits_for_arp_with_a_deadline() {
    let mut device = device();
    let mut stack = stack(&mut device);
    device.arriving.push_back(udp_from(4000, b"who are you?"));

    stack.turn(&mut device, Instant::ZERO);
    assert_eq!(device.left[0][20..22], [0, 1], "an ARP request");
    let deadline = stack.next_turn_us(Instant::ZERO).unwrap();
    assert!(deadline > 0 && deadline <= 1_000_000);

    device.arriving.push_back(arp(2, MAC));
    stack.turn(&mut device, Instant::ZERO);
    assert_eq!(answered(&device.left[1]), b"who are you?");
    assert_eq!(stack.next_turn_us(Instant::ZERO), None, "nothing is due");
}

#[test]
fn echo_ports_do_not_play_ping_pong() {
    let mut device = device();
    let mut stack = stack(&mut device);
    device.arriving.extend([arp(1, [0; 6]), udp_from(7, b"ping")]);

    let turn = stack.turn(&mut device, Instant::ZERO);

    assert_eq!((turn.echoed, turn.dropped), (0, 1));
    assert_eq!(device.left.len(), 1, "the ARP reply only");
}

#[test]
fn damaged_frames_are_not_answered() {
    let mut device = device();
    let mut stack = stack(&mut device);
    stack.turn(&mut device, Instant::ZERO);
    let whole = udp_from(4000, b"payload");
    for len in 0..whole.len() {
        device.arriving.push_back(whole[..len].to_vec());
    }
    for place in 14..whole.len() {
        let mut frame = whole.clone();
        frame[place] ^= 0x10;
        device.arriving.push_back(frame);
    }

    let mut echoed = 0;
    while !device.arriving.is_empty() {
        echoed += stack.turn(&mut device, Instant::ZERO).echoed;
    }

    assert_eq!(echoed, 0);
}

#[test]
fn impossible_addresses_are_refused() {
    for (mac, ipv4) in [([0xff; 6], IP), (MAC, [0; 4]), (MAC, [224, 0, 0, 1]), (MAC, [255; 4])] {
        let mut device = device();
        let storage = Box::leak(Box::new(Storage::new(&mut [], &mut [])));
        let settings = Settings { tsc_khz: 1, ipv4, prefix_len: 24, udp_port: 7 };
        let stack = EchoStack::new(storage, &mut device, mac, &settings, Instant::ZERO);
        assert!(stack.is_err());
    }
}
