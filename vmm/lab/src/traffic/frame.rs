//! The sender's datagrams, which are numbered; every byte of the payload follows from the number.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

/// The sender's own addresses, and those of the application guest it talks to.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The sender's MAC address.
    pub own_mac: EthernetAddress,
    /// The sender's IPv4 address.
    pub own_ip: Ipv4Address,
    /// The guest's IPv4 address.
    pub guest_ip: Ipv4Address,
    /// The guest's UDP echo port.
    pub guest_port: u16,
}

/// UDP port that the sender sends from.
const OWN_PORT: u16 = 40_007;
/// Payload bytes of a datagram.
pub(super) const PAYLOAD_BYTES: usize = 64;
const ETHERNET_BYTES: usize = 14;
const IP_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
/// Bytes of a datagram's frame.
pub(super) const FRAME_BYTES: usize = ETHERNET_BYTES + IP_BYTES + UDP_BYTES + PAYLOAD_BYTES;
/// Bytes of an ARP frame.
pub(super) const ARP_BYTES: usize = ETHERNET_BYTES + 28;

/// What a received frame means to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// The guest's MAC address.
    GuestIs(EthernetAddress),
    /// A host asks for our MAC address.
    WhoAreYou { asker_mac: EthernetAddress, asker_ip: Ipv4Address },
    /// An echo, whole.
    Echo { number: u64 },
    /// An echo that is not what was sent, as its checksums or lengths say.
    Damaged,
    /// An echo that is not what was sent, although its checksums and lengths are right.
    Corrupted,
    /// A frame that does not concern the sender.
    Other,
}

/// The payload of datagram `number`: the number, then bytes that follow from it.
pub(super) fn payload(number: u64) -> [u8; PAYLOAD_BYTES] {
    let mut bytes = [0; PAYLOAD_BYTES];
    let mut state = number;
    for (i, chunk) in bytes.chunks_exact_mut(8).enumerate() {
        let word = if i == 0 { number } else { state };
        chunk.copy_from_slice(&word.to_be_bytes());
        // SplitMix64: neighbouring numbers give unlike payloads.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state ^= state >> 27;
    }
    bytes
}

impl Addresses {
    /// A sender at 10.77.0.1 and the built-in application guest at 10.77.0.2, echo port 7.
    pub const DEFAULT: Self = Self {
        own_mac: EthernetAddress([0x02, 0x77, 0x73, 0, 0, 0x0f]),
        own_ip: Ipv4Address::new(10, 77, 0, 1),
        guest_ip: Ipv4Address::new(10, 77, 0, 2),
        guest_port: 7,
    };
    /// The guest's address in [`Self::DEFAULT`], with its prefix length.
    pub const DEFAULT_GUEST_NET: &str = "10.77.0.2/24";

    /// Writes datagram `number` for the guest with this MAC address.
    pub(super) fn datagram(
        &self,
        guest: EthernetAddress,
        number: u64,
        into: &mut [u8; FRAME_BYTES],
    ) {
        let checksums = ChecksumCapabilities::default();
        let ethernet = EthernetRepr {
            src_addr: self.own_mac,
            dst_addr: guest,
            ethertype: EthernetProtocol::Ipv4,
        };
        let mut frame = EthernetFrame::new_unchecked(&mut into[..]);
        ethernet.emit(&mut frame);
        let ip = Ipv4Repr {
            src_addr: self.own_ip,
            dst_addr: self.guest_ip,
            next_header: IpProtocol::Udp,
            payload_len: UDP_BYTES + PAYLOAD_BYTES,
            hop_limit: 64,
        };
        let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
        ip.emit(&mut packet, &checksums);
        let udp = UdpRepr { src_port: OWN_PORT, dst_port: self.guest_port };
        udp.emit(
            &mut UdpPacket::new_unchecked(packet.payload_mut()),
            &self.own_ip.into(),
            &self.guest_ip.into(),
            PAYLOAD_BYTES,
            |bytes| bytes.copy_from_slice(&payload(number)),
            &checksums,
        );
    }

    /// Writes an ARP request for the guest.
    pub(super) fn ask(&self, into: &mut [u8; ARP_BYTES]) {
        self.arp(ArpOperation::Request, EthernetAddress::BROADCAST, self.guest_ip, into);
    }

    /// Writes the answer to an ARP request for the sender's address.
    pub(super) fn answer(
        &self,
        asker_mac: EthernetAddress,
        asker_ip: Ipv4Address,
        into: &mut [u8; ARP_BYTES],
    ) {
        self.arp(ArpOperation::Reply, asker_mac, asker_ip, into);
    }

    fn arp(
        &self,
        operation: ArpOperation,
        to: EthernetAddress,
        ip: Ipv4Address,
        into: &mut [u8; ARP_BYTES],
    ) {
        let ethernet =
            EthernetRepr { src_addr: self.own_mac, dst_addr: to, ethertype: EthernetProtocol::Arp };
        let mut frame = EthernetFrame::new_unchecked(&mut into[..]);
        ethernet.emit(&mut frame);
        let repr = ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: self.own_mac,
            source_protocol_addr: self.own_ip,
            target_hardware_addr: to,
            target_protocol_addr: ip,
        };
        repr.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    }

    /// What a frame from the wire means.
    pub(super) fn read(&self, frame: &[u8]) -> Received {
        let Ok(frame) = EthernetFrame::new_checked(frame) else { return Received::Other };
        match frame.ethertype() {
            EthernetProtocol::Arp => self.read_arp(frame.payload()),
            EthernetProtocol::Ipv4 if frame.dst_addr() == self.own_mac => {
                self.read_echo(frame.payload())
            }
            _ => Received::Other,
        }
    }

    fn read_arp(&self, bytes: &[u8]) -> Received {
        let arp = ArpPacket::new_checked(bytes).and_then(|packet| ArpRepr::parse(&packet));
        let Ok(ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        }) = arp
        else {
            return Received::Other;
        };
        match operation {
            ArpOperation::Request if target_protocol_addr == self.own_ip => Received::WhoAreYou {
                asker_mac: source_hardware_addr,
                asker_ip: source_protocol_addr,
            },
            _ if source_protocol_addr == self.guest_ip => Received::GuestIs(source_hardware_addr),
            _ => Received::Other,
        }
    }

    /// Frames for our MAC address that are not a whole echo are damaged ones: no other host sends to us.
    fn read_echo(&self, bytes: &[u8]) -> Received {
        let checksums = ChecksumCapabilities::default();
        let Ok(packet) = Ipv4Packet::new_checked(bytes) else { return Received::Damaged };
        let Ok(ip) = Ipv4Repr::parse(&packet, &checksums) else { return Received::Damaged };
        let Ok(udp) = UdpPacket::new_checked(packet.payload()) else { return Received::Damaged };
        let (src, dst) = (ip.src_addr.into(), ip.dst_addr.into());
        let Ok(ports) = UdpRepr::parse(&udp, &src, &dst, &checksums) else {
            return Received::Damaged;
        };
        if ports.dst_port != OWN_PORT || ip.src_addr != self.guest_ip {
            return Received::Corrupted;
        }
        let Some(first) = udp.payload().first_chunk::<8>() else { return Received::Corrupted };
        let number = u64::from_be_bytes(*first);
        if udp.payload() == payload(number) {
            Received::Echo { number }
        } else {
            Received::Corrupted
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 9]);

    fn addresses() -> Addresses {
        Addresses {
            own_mac: EthernetAddress([2, 0, 0, 0, 0, 1]),
            own_ip: Ipv4Address::new(10, 7, 7, 1),
            guest_ip: Ipv4Address::new(10, 7, 7, 2),
            guest_port: 7,
        }
    }

    /// The guest's answer to a datagram: addresses and ports exchanged, checksums unchanged by it.
    fn echo(number: u64) -> [u8; FRAME_BYTES] {
        let there = addresses();
        let mut frame = [0; FRAME_BYTES];
        there.datagram(GUEST, number, &mut frame);
        let mut back = frame;
        back[0..6].copy_from_slice(&frame[6..12]);
        back[6..12].copy_from_slice(&frame[0..6]);
        back[26..30].copy_from_slice(&frame[30..34]);
        back[30..34].copy_from_slice(&frame[26..30]);
        back[34..36].copy_from_slice(&frame[36..38]);
        back[36..38].copy_from_slice(&frame[34..36]);
        back
    }

    #[test]
    fn a_whole_echo_is_recognised() {
        assert_eq!(addresses().read(&echo(77)), Received::Echo { number: 77 });
    }

    #[test]
    fn any_flipped_bit_behind_the_addresses_is_noticed() {
        for byte in 14..FRAME_BYTES {
            for bit in 0..8 {
                let mut frame = echo(5);
                frame[byte] ^= 1 << bit;
                let noticed = addresses().read(&frame);
                let noticed = matches!(noticed, Received::Damaged | Received::Corrupted);
                assert!(noticed, "byte {byte} bit {bit}");
            }
        }
    }

    #[test]
    fn what_no_checksum_tells_is_told_apart() {
        let mut damaged = echo(5);
        damaged[FRAME_BYTES - 1] ^= 1;
        assert_eq!(addresses().read(&damaged), Received::Damaged);
        // The payload of another datagram, with a checksum of its own: two words exchanged.
        let mut forged = echo(5);
        let payload = FRAME_BYTES - PAYLOAD_BYTES;
        for at in payload + 8..payload + 16 {
            forged.swap(at, at + 8);
        }
        assert_eq!(addresses().read(&forged), Received::Corrupted);
    }

    #[test]
    fn arp_is_asked_and_answered() {
        let sender = addresses();
        let guest = Addresses {
            own_mac: GUEST,
            own_ip: sender.guest_ip,
            guest_ip: sender.own_ip,
            guest_port: 7,
        };
        let mut frame = [0; ARP_BYTES];
        sender.ask(&mut frame);
        let asked = guest.read(&frame);
        let expected = Received::WhoAreYou { asker_mac: sender.own_mac, asker_ip: sender.own_ip };
        assert_eq!(asked, expected);
        guest.answer(sender.own_mac, sender.own_ip, &mut frame);
        assert_eq!(sender.read(&frame), Received::GuestIs(GUEST));
    }
}
