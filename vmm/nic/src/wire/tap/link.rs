//! The state of one interface, by the kernel's own messages (rtnetlink(7), group RTNLGRP_LINK).
//!
//! A TAP that is a bridge's port is told of in two families: AF_UNSPEC for the interface, AF_BRIDGE
//! for the port. A deletion in the family AF_BRIDGE means that the port has left its bridge, and
//! the interface lives on.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Bytes for the messages of one read. An RTM_NEWLINK has some 1.5 KiB.
const BUFFER_BYTES: usize = 16 * 1024;
const HEADER_BYTES: usize = size_of::<libc::nlmsghdr>();
/// Bytes of an `ifinfomsg`, and where in it `ifi_index` and `ifi_flags` lie; its first byte is the
/// family.
const BODY_BYTES: usize = 16;
const INDEX_AT: usize = 4;
const FLAGS_AT: usize = 8;
/// Type bits of an attribute: the upper two say how it is encoded.
const ATTRIBUTE_TYPE: u16 = 0x3fff;
/// IFLA_BRPORT_STATE (linux/if_link.h).
const PORT_STATE: u16 = 1;

/// State of a port of a bridge (linux/if_bridge.h, BR_STATE_...).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortState {
    Disabled,
    Listening,
    Learning,
    Forwarding,
    Blocking,
}

impl PortState {
    fn of(number: u8) -> Option<Self> {
        let all =
            [Self::Disabled, Self::Listening, Self::Learning, Self::Forwarding, Self::Blocking];
        all.get(usize::from(number)).copied()
    }

    /// The word that `bridge link` prints.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Listening => "listening",
            Self::Learning => "learning",
            Self::Forwarding => "forwarding",
            Self::Blocking => "blocking",
        }
    }
}

/// What is known of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LinkState {
    /// It is operational: switched on, and with a carrier.
    pub(super) running: bool,
    /// The state of its port, if it is a bridge's.
    pub(super) port: Option<PortState>,
}

/// What the messages say of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// What it is now; maybe as before.
    State(LinkState),
    /// It is no more, or not in this network namespace.
    Gone,
    /// Another interface has its name now.
    Replaced,
    /// Messages were lost: ask.
    Lost,
}

/// Which interface is followed.
#[derive(Clone, Copy)]
pub(super) struct Followed<'a> {
    /// Its name in the topology.
    pub(super) name: &'a str,
    /// Its index, if there is one.
    pub(super) index: Option<u32>,
}

/// A socket that hears of every change of an interface.
pub(super) struct LinkSocket(OwnedFd);

impl LinkSocket {
    pub(super) fn open() -> io::Result<Self> {
        Self::bound_to(libc::RTMGRP_LINK as u32, libc::SOCK_NONBLOCK)
    }

    fn bound_to(groups: u32, flags: libc::c_int) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | flags;
        // SAFETY: plain integers; the result is checked.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nothing else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut address = zeroed_address();
        address.nl_family = libc::AF_NETLINK as u16;
        address.nl_groups = groups;
        let len = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: an open socket, and an address of the length it is said to have.
        let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(socket)) }
    }

    /// Takes all messages, and says what became of the interface that was `known` before.
    ///
    /// # Errors
    /// The socket is of no more use.
    pub(super) fn news_of(&self, followed: Followed<'_>, known: LinkState) -> io::Result<News> {
        let mut buffer = [0; BUFFER_BYTES];
        let mut news = News::State(known);
        let mut lost = false;
        loop {
            match self.receive(&mut buffer) {
                Ok(None) => {}
                Ok(Some(len)) => news = read_messages(&buffer[..len], followed, news),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) if lost => return Ok(News::Lost),
                    Some(libc::EAGAIN) => return Ok(news),
                    Some(libc::EINTR) => {}
                    Some(libc::ENOBUFS) => lost = true,
                    _ => return Err(error),
                },
            }
        }
    }

    /// One datagram; `None` if it is not the kernel's, or too long.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let mut from = zeroed_address();
        let mut from_len = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: buffer and address have the lengths they are said to have.
        let len = unsafe {
            libc::recvfrom(
                self.0.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_TRUNC,
                (&raw mut from).cast(),
                &mut from_len,
            )
        };
        let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
        Ok((from.nl_pid == 0 && len <= buffer.len()).then_some(len))
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        // SAFETY: the message has the length it is said to have; the kernel is the default receiver.
        let sent =
            unsafe { libc::send(self.0.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl AsFd for LinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Asks the kernel for the state of an interface. It answers while it is asked, but may have to
/// wait for others who change interfaces: not for a thread that moves frames of a link that is up.
///
/// # Errors
/// There is no such interface, or the kernel refuses.
pub(super) fn ask(index: u32) -> io::Result<LinkState> {
    let socket = LinkSocket::bound_to(0, libc::SOCK_NONBLOCK)?;
    socket.send(&request(index))?;
    match socket.news_of(Followed { name: "", index: Some(index) }, LinkState::default())? {
        News::State(state) => Ok(state),
        News::Gone | News::Replaced | News::Lost => Err(io::ErrorKind::NotFound.into()),
    }
}

/// RTM_GETLINK for one interface.
fn request(index: u32) -> [u8; HEADER_BYTES + BODY_BYTES] {
    let mut message = [0; HEADER_BYTES + BODY_BYTES];
    let len = message.len() as u32;
    message[..4].copy_from_slice(&len.to_ne_bytes());
    message[4..6].copy_from_slice(&libc::RTM_GETLINK.to_ne_bytes());
    message[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    message[HEADER_BYTES + INDEX_AT..][..4].copy_from_slice(&index.to_ne_bytes());
    message
}

fn zeroed_address() -> libc::sockaddr_nl {
    // SAFETY: all-zero bytes are a valid address.
    unsafe { std::mem::zeroed() }
}

/// What is known after the messages of one datagram.
fn read_messages(mut bytes: &[u8], followed: Followed<'_>, mut news: News) -> News {
    while let Some(len) = u32_at(bytes, 0).map(|len| len as usize) {
        let Some(message) = bytes.get(..len).filter(|_| len >= HEADER_BYTES) else { break };
        // Whoever has the name now is what matters, whatever becomes of the one that had it.
        if news != News::Replaced {
            news = read_message(message, followed, news).unwrap_or(news);
        }
        // Messages begin on multiples of four.
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    news
}

/// What is known after one message; `None` if it says nothing of the interface.
fn read_message(message: &[u8], followed: Followed<'_>, news: News) -> Option<News> {
    let kind = u16_at(message, 4)?;
    let body = message.get(HEADER_BYTES..)?;
    let family = i32::from(*body.first()?);
    let index = u32_at(body, INDEX_AT)?;
    let attributes = body.get(BODY_BYTES..)?;
    if followed.index != Some(index) {
        let named = attribute(attributes, libc::IFLA_IFNAME)
            .is_some_and(|name| name.strip_suffix(&[0]) == Some(followed.name.as_bytes()));
        let appears = kind == libc::RTM_NEWLINK && family != libc::AF_BRIDGE && named;
        return appears.then_some(News::Replaced);
    }
    let port = match (kind, family) {
        (libc::RTM_NEWLINK, libc::AF_BRIDGE) => port_of_bridge_message(attributes),
        (libc::RTM_NEWLINK, _) => port_of_interface(attributes),
        (libc::RTM_DELLINK, libc::AF_BRIDGE) => None,
        (libc::RTM_DELLINK, _) => return Some(News::Gone),
        _ => return None,
    };
    let running = match (kind, news) {
        // The flags of a port that leaves are from the middle of its leaving.
        (libc::RTM_DELLINK, News::State(known)) => known.running,
        // IFF_RUNNING is the kernel's digest of the operational state (RFC 2863).
        _ => u32_at(body, FLAGS_AT)? & libc::IFF_RUNNING as u32 != 0,
    };
    Some(News::State(LinkState { running, port }))
}

/// The port's state in a message of the family AF_BRIDGE.
fn port_of_bridge_message(attributes: &[u8]) -> Option<PortState> {
    port_state(attribute(attributes, libc::IFLA_PROTINFO)?)
}

/// The port's state in a message about the interface itself.
fn port_of_interface(attributes: &[u8]) -> Option<PortState> {
    let info = attribute(attributes, libc::IFLA_LINKINFO)?;
    let of_bridge = attribute(info, libc::IFLA_INFO_SLAVE_KIND)?.starts_with(b"bridge\0");
    of_bridge.then_some(())?;
    port_state(attribute(info, libc::IFLA_INFO_SLAVE_DATA)?)
}

fn port_state(attributes: &[u8]) -> Option<PortState> {
    PortState::of(*attribute(attributes, PORT_STATE)?.first()?)
}

/// The content of the first attribute of this type.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let len = usize::from(u16_at(attributes, 0)?);
        let content = attributes.get(4..len)?;
        if u16_at(attributes, 2)? & ATTRIBUTE_TYPE == wanted {
            return Some(content);
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: u32 = (libc::IFF_UP | libc::IFF_RUNNING) as u32;
    const DOWN: u32 = libc::IFF_UP as u32;
    const FOLLOWED: Followed<'_> = Followed { name: "tap7", index: Some(7) };
    const KNOWN: News = News::State(LinkState { running: true, port: Some(PortState::Forwarding) });

    fn with_attribute(mut to: Vec<u8>, kind: u16, content: &[u8]) -> Vec<u8> {
        to.extend((4 + content.len() as u16).to_ne_bytes());
        to.extend(kind.to_ne_bytes());
        to.extend(content);
        to.resize(to.len().next_multiple_of(4), 0);
        to
    }

    fn message(kind: u16, family: i32, index: u32, flags: u32, attributes: &[u8]) -> Vec<u8> {
        let len = HEADER_BYTES + BODY_BYTES + attributes.len();
        let mut bytes = vec![0; HEADER_BYTES + BODY_BYTES];
        bytes[..4].copy_from_slice(&(len as u32).to_ne_bytes());
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[HEADER_BYTES] = family as u8;
        bytes[HEADER_BYTES + INDEX_AT..][..4].copy_from_slice(&index.to_ne_bytes());
        bytes[HEADER_BYTES + FLAGS_AT..][..4].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend(attributes);
        bytes.resize(len.next_multiple_of(4), 0);
        bytes
    }

    fn interface(index: u32, flags: u32, name: &str) -> Vec<u8> {
        let name = with_attribute(Vec::new(), libc::IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
        message(libc::RTM_NEWLINK, libc::AF_UNSPEC, index, flags, &name)
    }

    fn state(running: bool, port: Option<PortState>) -> News {
        News::State(LinkState { running, port })
    }

    #[test]
    fn the_last_message_of_the_interface_counts() {
        let messages =
            [interface(7, UP, "tap7"), interface(7, DOWN, "tap7"), interface(8, UP, "eth0")];
        assert_eq!(read_messages(&messages.concat(), FOLLOWED, KNOWN), state(false, None));
        assert_eq!(read_messages(&interface(8, DOWN, "eth0"), FOLLOWED, KNOWN), KNOWN);
        let deleted = message(libc::RTM_DELLINK, libc::AF_UNSPEC, 7, UP, &[]);
        assert_eq!(read_messages(&deleted, FOLLOWED, KNOWN), News::Gone);
    }

    #[test]
    fn a_port_that_leaves_its_bridge_is_no_interface_that_is_deleted() {
        let left = message(libc::RTM_DELLINK, libc::AF_BRIDGE, 7, DOWN, &[]);
        assert_eq!(read_messages(&left, FOLLOWED, KNOWN), state(true, None));
    }

    #[test]
    fn the_state_of_a_port_is_read_from_both_families() {
        let port = |number: u8| with_attribute(Vec::new(), PORT_STATE, &[number]);
        let nested = with_attribute(Vec::new(), libc::IFLA_PROTINFO | 0x8000, &port(1));
        let of_port = message(libc::RTM_NEWLINK, libc::AF_BRIDGE, 7, UP, &nested);
        let listening = state(true, Some(PortState::Listening));
        assert_eq!(read_messages(&of_port, FOLLOWED, KNOWN), listening);

        let info = with_attribute(Vec::new(), libc::IFLA_INFO_SLAVE_KIND, b"bridge\0");
        let info = with_attribute(info, libc::IFLA_INFO_SLAVE_DATA, &port(4));
        let info = with_attribute(Vec::new(), libc::IFLA_LINKINFO, &info);
        let of_interface = message(libc::RTM_NEWLINK, libc::AF_UNSPEC, 7, UP, &info);
        let blocking = state(true, Some(PortState::Blocking));
        assert_eq!(read_messages(&of_interface, FOLLOWED, KNOWN), blocking);
    }

    #[test]
    fn another_interface_of_the_name_is_seen() {
        assert_eq!(read_messages(&interface(9, UP, "tap7"), FOLLOWED, KNOWN), News::Replaced);
        assert_eq!(read_messages(&interface(9, UP, "tap77"), FOLLOWED, KNOWN), KNOWN);
        let nobody = Followed { index: None, ..FOLLOWED };
        assert_eq!(read_messages(&interface(7, UP, "tap7"), nobody, News::Gone), News::Replaced);
    }

    #[test]
    fn damaged_messages_end_the_reading() {
        let good = interface(7, DOWN, "tap7");
        for damaged in [0_u32, 3, 15, 1 << 30] {
            let mut bytes = good.clone();
            bytes[..4].copy_from_slice(&damaged.to_ne_bytes());
            assert_eq!(read_messages(&bytes, FOLLOWED, KNOWN), KNOWN, "{damaged}");
        }
        for len in 0..good.len() {
            assert_eq!(read_messages(&good[..len], FOLLOWED, KNOWN), KNOWN, "{len}");
        }
        for byte in 0..=u8::MAX {
            // An attribute of any length, also one shorter than its own head.
            let attributes = [byte, 0, libc::IFLA_IFNAME as u8, 0, b't', 0];
            read_messages(&message(libc::RTM_NEWLINK, 0, 9, UP, &attributes), FOLLOWED, KNOWN);
        }
    }
}
