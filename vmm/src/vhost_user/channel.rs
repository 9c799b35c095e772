//! A connected socket: messages in, replies out, never waiting longer than a deadline.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use super::message::{HEADER_BYTES, Header, MAX_FDS, MalformedMessage, Message};
use crate::budget::MESSAGE_DEADLINE;
use crate::clock::monotonic_ns;

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChannelError {
    /// Between two messages: a front-end's right.
    #[error("the front-end has disconnected")]
    Closed,
    #[error("the front-end has disconnected within a message")]
    Truncated,
    #[error("the front-end did not finish a message, or take a reply, in time")]
    Deadline,
    #[error("more descriptors than a message can have")]
    TooManyFds,
    #[error(transparent)]
    Malformed(#[from] MalformedMessage),
    #[error("socket error")]
    Socket(#[source] io::Error),
}

/// Room for the control data of [`MAX_FDS`] descriptors and some more, aligned for its header.
const CONTROL_WORDS: usize = 32;

/// A front-end's connection, and the message that is being received.
///
/// Exactly the bytes of one header, then of one body are asked for, so descriptors, which travel
/// with the first byte they were sent with, belong to the message in hand.
pub(super) struct Channel {
    stream: UnixStream,
    head: [u8; HEADER_BYTES],
    body: Vec<u8>,
    /// Bytes received of head and body together.
    got: usize,
    fds: Vec<OwnedFd>,
    /// Until when the message in hand must be whole.
    due_ns: Option<u64>,
}

impl Channel {
    pub(super) fn new(stream: UnixStream) -> Self {
        let fds = Vec::new();
        Self { stream, head: [0; HEADER_BYTES], body: Vec::new(), got: 0, fds, due_ns: None }
    }

    /// Until when the rest of a message that has begun must come.
    pub(super) fn due_ns(&self) -> Option<u64> {
        self.due_ns
    }

    /// Takes what has arrived. `None`: there is no whole message yet.
    pub(super) fn receive(&mut self) -> Result<Option<Message>, ChannelError> {
        loop {
            let body_bytes = match self.got {
                ..HEADER_BYTES => 0,
                _ => Header::parse(&self.head)?.body_bytes,
            };
            if self.got == HEADER_BYTES {
                self.body.resize(body_bytes, 0);
            }
            if self.got >= HEADER_BYTES && self.got == HEADER_BYTES + body_bytes {
                return self.finish().map(Some);
            }
            let target = match self.got {
                got @ ..HEADER_BYTES => &mut self.head[got..],
                got => &mut self.body[got - HEADER_BYTES..],
            };
            match receive_some(&self.stream, target, &mut self.fds) {
                Ok(0) if self.got == 0 => return Err(ChannelError::Closed),
                Ok(0) => return Err(ChannelError::Truncated),
                Ok(bytes) => self.got += bytes,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::WouldBlock => return self.not_yet(),
                    io::ErrorKind::ConnectionReset => return Err(ChannelError::Closed),
                    _ => return Err(ChannelError::Socket(error)),
                },
            }
            if self.fds.len() > MAX_FDS {
                return Err(ChannelError::TooManyFds);
            }
        }
    }

    fn not_yet(&mut self) -> Result<Option<Message>, ChannelError> {
        let now_ns = monotonic_ns();
        if self.got == 0 {
            self.due_ns = None;
        } else {
            let due_ns = now_ns + MESSAGE_DEADLINE.as_nanos() as u64;
            if now_ns >= *self.due_ns.get_or_insert(due_ns) {
                return Err(ChannelError::Deadline);
            }
        }
        Ok(None)
    }

    fn finish(&mut self) -> Result<Message, ChannelError> {
        let header = Header::parse(&self.head)?;
        self.got = 0;
        self.due_ns = None;
        let (body, fds) = (std::mem::take(&mut self.body), std::mem::take(&mut self.fds));
        Ok(Message { header, body, fds })
    }

    /// Sends a reply, a few hundred bytes at most.
    pub(super) fn send(&mut self, mut bytes: &[u8]) -> Result<(), ChannelError> {
        let due_ns = monotonic_ns() + MESSAGE_DEADLINE.as_nanos() as u64;
        while !bytes.is_empty() {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: pointer and length of one slice that outlives the call.
            let sent =
                unsafe { libc::send(self.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
            if sent >= 0 {
                bytes = &bytes[sent as usize..];
                continue;
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => self.wait_writable(due_ns)?,
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                    return Err(ChannelError::Closed);
                }
                _ => return Err(ChannelError::Socket(error)),
            }
        }
        Ok(())
    }

    fn wait_writable(&self, due_ns: u64) -> Result<(), ChannelError> {
        let left_ms = due_ns.saturating_sub(monotonic_ns()) / 1_000_000;
        let mut poll = libc::pollfd { fd: self.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
        // SAFETY: one pollfd that outlives the call.
        let ready = unsafe { libc::poll(&mut poll, 1, left_ms as i32) };
        if ready > 0 { Ok(()) } else { Err(ChannelError::Deadline) }
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

/// One recvmsg(2) that does not wait. All descriptors that arrive end up in `fds`, also where the
/// call then fails because there were more than fit.
fn receive_some(stream: &UnixStream, into: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut control = [0u64; CONTROL_WORDS];
    let mut data = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: an all-zero msghdr is valid: no name, no data, no control.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &mut data;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the message points to `data` and `control`, which outlive the call.
    let received = unsafe { libc::recvmsg(stream.as_raw_fd(), &mut message, flags) };
    if received < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: filled in by the successful call above.
    unsafe { collect_fds(&message, fds) };
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(io::Error::other("too many descriptors"));
    }
    Ok(received as usize)
}

/// Takes the descriptors out of control data.
///
/// # Safety
/// `message` must be as a successful recvmsg(2) left it, its control buffer alive, and its
/// descriptors must not have been taken before.
unsafe fn collect_fds(message: &libc::msghdr, fds: &mut Vec<OwnedFd>) {
    // SAFETY: the kernel wrote whole control messages into the buffer; the macros stay within it.
    // Each descriptor is fresh and taken once.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(message);
        while let Some(header) = next.as_ref() {
            if header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_RIGHTS {
                let bytes = header.cmsg_len - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(next).cast::<RawFd>();
                for n in 0..bytes / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(data.add(n).read_unaligned()));
                }
            }
            next = libc::CMSG_NXTHDR(message, next);
        }
    }
}
