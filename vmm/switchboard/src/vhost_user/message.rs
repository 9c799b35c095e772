//! Messages as they cross the socket (vhost-user document, "Message Specification").
//!
//! ```text
//! request u32 | flags u32 | size u32 | body, `size` bytes        (native byte order)
//! ```
//! Descriptors come with a message's first byte. Never more is read than the message at hand needs,
//! so that descriptors cannot be taken for those of a neighbour.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use platform::budget::MESSAGE_DEADLINE;
use vm_memory::ByteValued;

use super::ancillary::{self, MAX_DESCRIPTORS};
use crate::port::{Closer, Foreign};

/// Bytes before the body.
const HEADER_BYTES: usize = 12;
/// Longest body: the `vhost` crate's limit, far above what any request needs.
const MAX_BODY_BYTES: usize = 4096;
const VERSION: u32 = 1;
const VERSION_MASK: u32 = 3;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    /// The front-end has closed it.
    #[error("the front-end has closed the connection")]
    Closed,
    /// The socket fails.
    #[error("the socket fails")]
    Socket(#[source] io::Error),
    /// A message that cannot be understood.
    #[error("malformed message: {0}")]
    Malformed(&'static str),
    /// A request that cannot be carried out, and no reply was asked for.
    #[error("request {request} cannot be carried out: {why}")]
    Refused { request: u32, why: String },
    /// Half a message has come, and then nothing; or the front-end does not read replies.
    #[error("the front-end is too slow in the middle of a message or reply")]
    Slow,
    /// Descriptors of the front-end's file system, which hangs, cannot be closed.
    #[error("the front-end passed descriptors whose file system does not answer")]
    Unclosed,
    /// The guest's memory, or the log of its written pages, has become shorter than the front-end
    /// said.
    #[error("the guest's memory or its log was truncated")]
    Truncated,
}

/// A received message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) request: u32,
    pub(super) wants_reply: bool,
    pub(super) body: Vec<u8>,
    pub(super) files: Vec<Foreign>,
}

impl Message {
    /// The body as one value.
    pub(super) fn value<T: ByteValued + Default>(&self) -> Result<T, ConnectionError> {
        self.value_at(0).filter(|_| self.body.len() == size_of::<T>()).ok_or(BAD_SIZE)
    }

    /// The value at an offset in the body.
    pub(super) fn value_at<T: ByteValued + Default>(&self, offset: usize) -> Option<T> {
        let bytes = self.body.get(offset..offset.checked_add(size_of::<T>())?)?;
        let mut value = T::default();
        value.as_mut_slice().copy_from_slice(bytes);
        Some(value)
    }

    /// The one descriptor, or none; a message with more is malformed.
    pub(super) fn single_file(&mut self) -> Result<Option<Foreign>, ConnectionError> {
        if self.files.len() > 1 {
            return Err(TOO_MANY);
        }
        Ok(self.files.pop())
    }
}

/// A body of the wrong size.
pub(super) const BAD_SIZE: ConnectionError = ConnectionError::Malformed("body of the wrong size");

/// Descriptors beyond what a request can have, or beyond what this process can open.
const TOO_MANY: ConnectionError = ConnectionError::Malformed("too many descriptors");

/// The message that is being received.
#[derive(Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    files: Vec<Foreign>,
    closer: Closer,
    /// When its first byte came.
    begun: Option<Instant>,
}

impl Inbox {
    /// An empty one; what comes is closed by `closer`.
    pub(super) fn new(closer: Closer) -> Self {
        Self { closer, ..Self::default() }
    }

    /// Reads what there is. Returns a whole message, or `None` if it is not whole yet.
    pub(super) fn receive(
        &mut self,
        stream: &UnixStream,
    ) -> Result<Option<Message>, ConnectionError> {
        loop {
            let missing = self.missing()?;
            if missing == 0 {
                return self.take().map(Some);
            }
            if !self.read(stream, missing)? {
                return Ok(None);
            }
        }
    }

    /// When the rest of a message that has begun must be there.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.begun.map(|begun| begun + MESSAGE_DEADLINE)
    }

    /// Bytes that the message at hand still lacks.
    fn missing(&self) -> Result<usize, ConnectionError> {
        if self.bytes.len() < HEADER_BYTES {
            return Ok(HEADER_BYTES - self.bytes.len());
        }
        let body = self.word(8) as usize;
        if body > MAX_BODY_BYTES {
            return Err(ConnectionError::Malformed("body too long"));
        }
        Ok(HEADER_BYTES + body - self.bytes.len())
    }

    fn word(&self, offset: usize) -> u32 {
        let mut word = [0; 4];
        if let Some(bytes) = self.bytes.get(offset..offset + 4) {
            word.copy_from_slice(bytes);
        }
        u32::from_ne_bytes(word)
    }

    /// Reads up to `missing` bytes. Returns true if there were any.
    fn read(&mut self, stream: &UnixStream, missing: usize) -> Result<bool, ConnectionError> {
        let mut bytes = [0u8; HEADER_BYTES + MAX_BODY_BYTES];
        let missing = missing.min(bytes.len());
        let mut files = Vec::new();
        let received = ancillary::receive(stream, &mut bytes[..missing], &mut files);
        self.files.extend(files.into_iter().map(|file| Foreign::new(file, &self.closer)));
        let received = match received {
            Ok(received) => received,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(false),
                    io::ErrorKind::ConnectionReset => Err(ConnectionError::Closed),
                    _ => Err(ConnectionError::Socket(error)),
                };
            }
        };
        if received.truncated || self.files.len() > MAX_DESCRIPTORS {
            return Err(TOO_MANY);
        }
        if received.bytes == 0 {
            return Err(ConnectionError::Closed);
        }
        self.begun.get_or_insert_with(Instant::now);
        self.bytes.extend_from_slice(&bytes[..received.bytes]);
        Ok(true)
    }

    fn take(&mut self) -> Result<Message, ConnectionError> {
        let flags = self.word(4);
        if flags & VERSION_MASK != VERSION || flags & REPLY != 0 {
            return Err(ConnectionError::Malformed("not a request of version 1"));
        }
        let request = self.word(0);
        self.begun = None;
        let bytes = std::mem::take(&mut self.bytes);
        Ok(Message {
            request,
            wants_reply: flags & NEED_REPLY != 0,
            body: bytes[HEADER_BYTES..].to_vec(),
            files: std::mem::take(&mut self.files),
        })
    }
}

/// Sends the reply to a request.
pub(super) fn reply(
    mut stream: &UnixStream,
    request: u32,
    body: &[u8],
) -> Result<(), ConnectionError> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    for word in [request, VERSION | REPLY, body.len() as u32] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes.extend_from_slice(body);
    let end = Instant::now() + MESSAGE_DEADLINE;
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_writable(stream, end)?,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Err(ConnectionError::Closed);
            }
            Err(error) => return Err(ConnectionError::Socket(error)),
        }
    }
    Ok(())
}

/// Waits until the socket takes more, or has failed.
fn wait_writable(stream: &UnixStream, end: Instant) -> Result<(), ConnectionError> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ConnectionError::Slow);
    }
    let mut entry = libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // Rounded up: a rest of less than a millisecond must not become a busy loop.
    let left_ms = left.as_millis() as libc::c_int + 1;
    // SAFETY: one entry, which outlives the call. However it ends, the write is tried again.
    unsafe { libc::poll(&raw mut entry, 1, left_ms) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair() -> (UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (ours, theirs)
    }

    fn bytes(request: u32, flags: u32, body: &[u8]) -> Vec<u8> {
        let words = [request, flags, body.len() as u32];
        words.iter().flat_map(|w| w.to_ne_bytes()).chain(body.iter().copied()).collect()
    }

    #[test]
    fn a_message_may_come_byte_by_byte_and_its_neighbour_at_once() {
        let (ours, mut theirs) = pair();
        let mut inbox = Inbox::default();
        for byte in bytes(17, VERSION | NEED_REPLY, &[1, 2, 3]) {
            assert!(inbox.receive(&ours).unwrap().is_none());
            theirs.write_all(&[byte]).unwrap();
        }
        theirs.write_all(&bytes(18, VERSION, &[])).unwrap();
        let first = inbox.receive(&ours).unwrap().unwrap();
        assert_eq!((first.request, first.wants_reply, first.body), (17, true, vec![1, 2, 3]));
        let second = inbox.receive(&ours).unwrap().unwrap();
        assert_eq!((second.request, second.wants_reply), (18, false));
    }

    #[test]
    fn long_bodies_replies_and_ends_are_errors() {
        for (sent, closed) in [
            (bytes(1, VERSION | REPLY, &[]), false),
            (bytes(1, 0, &[]), false),
            (bytes(1, VERSION, &[0; 5000])[..HEADER_BYTES].to_vec(), false),
            (vec![1], true),
        ] {
            let (ours, mut theirs) = pair();
            theirs.write_all(&sent).unwrap();
            drop(theirs);
            let mut inbox = Inbox::default();
            let error = inbox.receive(&ours).unwrap_err();
            assert_eq!(matches!(error, ConnectionError::Closed), closed, "{error}");
        }
    }

    #[test]
    fn only_a_message_that_has_begun_has_a_deadline() {
        let (ours, mut theirs) = pair();
        let mut inbox = Inbox::default();
        let message = bytes(1, VERSION, &[]);
        assert!(inbox.receive(&ours).unwrap().is_none());
        assert!(inbox.deadline().is_none());
        theirs.write_all(&message[..5]).unwrap();
        assert!(inbox.receive(&ours).unwrap().is_none());
        assert!(inbox.deadline().is_some());
        theirs.write_all(&message[5..]).unwrap();
        assert!(inbox.receive(&ours).unwrap().is_some());
        assert!(inbox.deadline().is_none());
    }

    #[test]
    fn replies_that_nobody_reads_end_the_connection() {
        let (ours, _theirs) = pair();
        let start = Instant::now();
        let error = loop {
            if let Err(error) = reply(&ours, 1, &[0; 8]) {
                break error;
            }
        };
        assert!(matches!(error, ConnectionError::Slow), "{error}");
        assert!(start.elapsed() >= MESSAGE_DEADLINE);
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_messages_or_an_error(sent in prop::collection::vec(any::<u8>(), 0..200)) {
            let (ours, mut theirs) = pair();
            theirs.write_all(&sent).unwrap();
            drop(theirs);
            let mut inbox = Inbox::default();
            while let Ok(Some(_)) = inbox.receive(&ours) {}
        }
    }
}
