//! The state of one interface, by the kernel's own messages (rtnetlink(7), group RTNLGRP_LINK).

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Bytes for the messages of one read. An RTM_NEWLINK has some 1.5 KiB.
const BUFFER_BYTES: usize = 16 * 1024;
const HEADER_BYTES: usize = size_of::<libc::nlmsghdr>();
/// Offset of `ifi_index` in an `ifinfomsg`, and of `ifi_flags`.
const INDEX_AT: usize = 4;
const FLAGS_AT: usize = 8;

/// What the messages say of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing.
    None,
    /// Whether it is operational now.
    Running(bool),
    /// It is no more, or not in this network namespace.
    Gone,
    /// Messages were lost: ask.
    Lost,
}

/// A socket that hears of every change of an interface.
pub(super) struct LinkSocket(OwnedFd);

impl LinkSocket {
    pub(super) fn open() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: plain integers; the result is checked.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nothing else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut address = zeroed_address();
        address.nl_family = libc::AF_NETLINK as u16;
        address.nl_groups = libc::RTMGRP_LINK as u32;
        let len = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: an open socket, and an address of the length it is said to have.
        let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(socket)) }
    }

    /// Takes all messages, and says what became of the interface `index`.
    ///
    /// # Errors
    /// The socket is of no more use.
    pub(super) fn news_of(&self, index: u32) -> io::Result<News> {
        let mut buffer = [0; BUFFER_BYTES];
        let mut news = News::None;
        loop {
            match self.receive(&mut buffer) {
                Ok(None) => {}
                Ok(Some(len)) => news = read_messages(&buffer[..len], index).unwrap_or(news),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return Ok(news),
                    Some(libc::EINTR) => {}
                    Some(libc::ENOBUFS) => news = News::Lost,
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
}

impl AsFd for LinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn zeroed_address() -> libc::sockaddr_nl {
    // SAFETY: all-zero bytes are a valid address.
    unsafe { std::mem::zeroed() }
}

/// The last word on `index` in one datagram, if there is any.
fn read_messages(mut bytes: &[u8], index: u32) -> Option<News> {
    let mut news = None;
    while let Some(len) = u32_at(bytes, 0).map(|len| len as usize) {
        let Some(message) = bytes.get(..len).filter(|_| len >= HEADER_BYTES) else { break };
        news = read_message(message, index).or(news);
        // Messages begin on multiples of four.
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    news
}

fn read_message(message: &[u8], index: u32) -> Option<News> {
    let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
    let body = message.get(HEADER_BYTES..)?;
    if u32_at(body, INDEX_AT)? != index {
        return None;
    }
    // IFF_RUNNING is the kernel's digest of the operational state (RFC 2863).
    let running = u32_at(body, FLAGS_AT)? & libc::IFF_RUNNING as u32 != 0;
    match kind {
        libc::RTM_NEWLINK => Some(News::Running(running)),
        libc::RTM_DELLINK => Some(News::Gone),
        _ => None,
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, index: u32, flags: u32, tail: usize) -> Vec<u8> {
        let len = HEADER_BYTES + 16 + tail;
        let mut bytes = vec![0; len.next_multiple_of(4)];
        bytes[..4].copy_from_slice(&(len as u32).to_ne_bytes());
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[HEADER_BYTES + INDEX_AT..][..4].copy_from_slice(&index.to_ne_bytes());
        bytes[HEADER_BYTES + FLAGS_AT..][..4].copy_from_slice(&flags.to_ne_bytes());
        bytes
    }

    #[test]
    fn the_last_message_of_the_interface_counts() {
        let up = libc::IFF_UP as u32 | libc::IFF_RUNNING as u32;
        let messages = [
            message(libc::RTM_NEWLINK, 7, up, 3),
            message(libc::RTM_NEWLINK, 7, libc::IFF_UP as u32, 0),
            message(libc::RTM_NEWLINK, 8, up, 9),
        ];
        assert_eq!(read_messages(&messages.concat(), 7), Some(News::Running(false)));
        assert_eq!(read_messages(&messages.concat(), 8), Some(News::Running(true)));
        assert_eq!(read_messages(&messages.concat(), 9), None);
        assert_eq!(read_messages(&message(libc::RTM_DELLINK, 7, up, 0), 7), Some(News::Gone));
    }

    #[test]
    fn damaged_messages_end_the_reading() {
        let good = message(libc::RTM_NEWLINK, 7, libc::IFF_RUNNING as u32, 0);
        for damaged in [0_u32, 3, 15, 1 << 30] {
            let mut bytes = good.clone();
            bytes[..4].copy_from_slice(&damaged.to_ne_bytes());
            assert_eq!(read_messages(&bytes, 7), None, "{damaged}");
        }
        for len in 0..good.len() {
            assert_eq!(read_messages(&good[..len], 7), None, "{len}");
        }
    }
}
