//! Messages as they cross the socket (vhost-user document, "Message Specification").
//!
//! ```text
//! request u32 | flags u32 | size u32 | body, `size` bytes        (native byte order)
//! ```
//! Descriptors come with a message's first byte. Never more is read than the message at hand needs,
//! so that descriptors cannot be taken for those of a neighbour.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use vm_memory::ByteValued;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

/// Bytes before the body.
const HEADER_BYTES: usize = 12;
/// Longest body: the `vhost` crate's limit, far above what any request needs.
const MAX_BODY_BYTES: usize = 4096;
/// Most descriptors with one message: one for each memory region.
const MAX_DESCRIPTORS: usize = 32;

const VERSION: u32 = 1;
const VERSION_MASK: u32 = 3;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;

/// How long a front-end may take to read a reply of a few bytes.
const REPLY_DEADLINE: Duration = Duration::from_secs(1);

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
    /// The guest's memory has become shorter than the front-end said.
    #[error("the guest's memory was truncated")]
    Truncated,
}

/// A received message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) request: u32,
    pub(super) wants_reply: bool,
    pub(super) body: Vec<u8>,
    pub(super) files: Vec<File>,
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

    /// The one descriptor, or none; more are a malformed message.
    pub(super) fn single_file(&mut self) -> Result<Option<OwnedFd>, ConnectionError> {
        if self.files.len() > 1 {
            return Err(ConnectionError::Malformed("too many descriptors"));
        }
        Ok(self.files.pop().map(OwnedFd::from))
    }
}

/// A body of the wrong size.
pub(super) const BAD_SIZE: ConnectionError = ConnectionError::Malformed("body of the wrong size");

/// The message that is being received.
#[derive(Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    files: Vec<File>,
}

impl Inbox {
    /// Reads what there is; a whole message, or `None` if it is not whole yet.
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

    /// Reads up to `missing` bytes; whether there were any.
    fn read(&mut self, stream: &UnixStream, missing: usize) -> Result<bool, ConnectionError> {
        let mut bytes = [0u8; HEADER_BYTES + MAX_BODY_BYTES];
        let mut fds: [RawFd; MAX_DESCRIPTORS] = [-1; MAX_DESCRIPTORS];
        let mut to = [libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: missing.min(bytes.len()),
        }];
        // SAFETY: the vector describes `bytes`, which outlives the call; any bytes are valid there.
        let (count, received) = match unsafe { stream.recv_with_fds(&mut to, &mut fds) } {
            Ok(got) => got,
            Err(error) => {
                let error = io::Error::from_raw_os_error(error.errno());
                return match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(false),
                    io::ErrorKind::ConnectionReset => Err(ConnectionError::Closed),
                    _ => Err(ConnectionError::Socket(error)),
                };
            }
        };
        // SAFETY: the kernel has just made these descriptors for us, and nothing else owns them.
        self.files.extend(fds[..received].iter().map(|fd| unsafe { File::from_raw_fd(*fd) }));
        if self.files.len() > MAX_DESCRIPTORS {
            return Err(ConnectionError::Malformed("too many descriptors"));
        }
        if count == 0 {
            return Err(ConnectionError::Closed);
        }
        self.bytes.extend_from_slice(&bytes[..count]);
        Ok(true)
    }

    fn take(&mut self) -> Result<Message, ConnectionError> {
        let flags = self.word(4);
        if flags & VERSION_MASK != VERSION || flags & REPLY != 0 {
            return Err(ConnectionError::Malformed("not a request of version 1"));
        }
        let request = self.word(0);
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
    let end = Instant::now() + REPLY_DEADLINE;
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(ConnectionError::Socket(error)),
        }
    }
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
