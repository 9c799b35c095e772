//! The protocols: `smoltcp` with one UDP socket whose datagrams go back where they came from.
//!
//! ARP requests and pings are answered by the stack itself.

use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult};
use smoltcp::iface::{SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::Device;
use smoltcp::socket::udp::{self, PacketBuffer, PacketMetadata};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, Ipv4Address};

use crate::pages::Settings;

/// Datagrams that can wait to be echoed.
const DATAGRAMS_IN: usize = 64;
/// Echoes that can wait for a transmit buffer or for ARP: a whole receive queue of them.
const DATAGRAMS_OUT: usize = 256;
/// Frames taken in one turn, so that their answers go out with one notification and yet soon.
const FRAMES_A_TURN: usize = 32;
/// Payload of the longest datagram in one frame: 1500 bytes less the IPv4 and UDP headers.
const LONGEST_PAYLOAD: usize = 1472;
/// Longest frame, without check sequence.
pub const LONGEST_FRAME: usize = 1514;

/// Memory that the stack works in.
pub struct Storage<'a> {
    sockets: [SocketStorage<'a>; 1],
    in_metadata: [PacketMetadata; DATAGRAMS_IN],
    out_metadata: [PacketMetadata; DATAGRAMS_OUT],
    in_payload: &'a mut [u8],
    out_payload: &'a mut [u8],
}

impl<'a> Storage<'a> {
    /// Around two areas for the payload of datagrams.
    pub fn new(in_payload: &'a mut [u8], out_payload: &'a mut [u8]) -> Self {
        Self {
            sockets: [SocketStorage::EMPTY],
            in_metadata: [PacketMetadata::EMPTY; DATAGRAMS_IN],
            out_metadata: [PacketMetadata::EMPTY; DATAGRAMS_OUT],
            in_payload,
            out_payload,
        }
    }
}

/// What one turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Something was received or sent: look again before parking.
    pub progress: bool,
    /// Datagrams echoed.
    pub echoed: u64,
    /// Datagrams not echoed.
    pub dropped: u64,
}

/// The stack could not be set up as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetupError(pub &'static str);

/// The stack.
pub struct EchoStack<'a> {
    interface: Interface,
    sockets: SocketSet<'a>,
    socket: SocketHandle,
    scratch: [u8; LONGEST_PAYLOAD],
}

impl<'a> EchoStack<'a> {
    /// A stack on `device`.
    ///
    /// # Errors
    /// The MAC or IPv4 address is not one of a single station, or the port is 0.
    pub fn new(
        storage: &'a mut Storage<'a>,
        device: &mut impl Device,
        mac: [u8; 6],
        settings: &Settings,
        now: Instant,
    ) -> Result<Self, SetupError> {
        let mac = EthernetAddress(mac);
        let address = Ipv4Address::from_octets(settings.ipv4);
        // The stack panics on these.
        if !mac.is_unicast() {
            return Err(SetupError("the MAC address is not that of one station"));
        }
        if address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
            return Err(SetupError("the IPv4 address is not that of one station"));
        }
        let mut interface = Interface::new(Config::new(mac.into()), device, now);
        interface.update_ip_addrs(|addresses| {
            addresses.clear();
            // There is room for one: the list is empty.
            let _ = addresses.push(IpCidr::new(IpAddress::Ipv4(address), settings.prefix_len));
        });
        let incoming = PacketBuffer::new(&mut storage.in_metadata[..], &mut *storage.in_payload);
        let outgoing = PacketBuffer::new(&mut storage.out_metadata[..], &mut *storage.out_payload);
        let mut udp = udp::Socket::new(incoming, outgoing);
        udp.bind(settings.udp_port).map_err(|_| SetupError("the UDP port is 0"))?;
        let mut sockets = SocketSet::new(&mut storage.sockets[..]);
        let socket = sockets.add(udp);
        Ok(Self { interface, sockets, socket, scratch: [0; LONGEST_PAYLOAD] })
    }

    /// Takes a bounded number of frames and answers them.
    pub fn turn(&mut self, device: &mut impl Device, now: Instant) -> Turn {
        let mut turn = Turn::default();
        for _ in 0..FRAMES_A_TURN {
            match self.interface.poll_ingress_single(now, device, &mut self.sockets) {
                PollIngressSingleResult::None => break,
                PollIngressSingleResult::PacketProcessed
                | PollIngressSingleResult::SocketStateChanged => turn.progress = true,
            }
            self.echo(&mut turn);
            self.send(device, now, &mut turn);
        }
        // What had to wait for a buffer or for ARP.
        self.echo(&mut turn);
        self.send(device, now, &mut turn);
        turn
    }

    /// When the next turn is due even if nothing arrives, in microseconds from `now`.
    pub fn next_turn_us(&mut self, now: Instant) -> Option<u64> {
        self.interface.poll_delay(now, &self.sockets).map(|delay| delay.total_micros())
    }

    /// Turns received datagrams into answers.
    fn echo(&mut self, turn: &mut Turn) {
        let port = {
            let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.socket);
            if !socket.can_recv() {
                return;
            }
            socket.endpoint().port
        };
        let own = self.interface.ipv4_addr().map(IpAddress::Ipv4);
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.socket);
        while socket.can_send() {
            let Ok((len, mut from)) = socket.recv_slice(&mut self.scratch) else {
                break;
            };
            // Two echo ports would play ping-pong for ever. An answer to a broadcast is sent from
            // the guest's own address.
            from.local_address = from.local_address.filter(|to| Some(*to) == own);
            let sent =
                from.endpoint.port != port && socket.send_slice(&self.scratch[..len], from).is_ok();
            turn.echoed += u64::from(sent);
            turn.dropped += u64::from(!sent);
            turn.progress = true;
        }
    }

    fn send(&mut self, device: &mut impl Device, now: Instant, turn: &mut Turn) {
        while self.interface.poll_egress(now, device, &mut self.sockets)
            == PollResult::SocketStateChanged
        {
            turn.progress = true;
        }
    }
}

#[cfg(test)]
#[path = "echo/tests.rs"]
mod tests;
