//! A front-end that can send anything, valid or not.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

pub use vhost::vhost_user::message::FrontendReq as Request;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::memory::{GUEST_BASE, GuestRam, USER_BASE};
use super::ring::DriverRing;
use super::{TestGuest, wait};
use crate::rig::PATIENCE;

/// Version 1 of the protocol, in the flags of every message.
const VERSION: u32 = 1;
/// Flag of a request: the front-end waits for an acknowledgement.
pub const NEED_REPLY: u32 = 1 << 3;
/// Flag in SET_VRING_KICK, CALL and ERR: no descriptor follows.
const NO_DESCRIPTOR: u64 = 1 << 8;
/// Virtio features: VERSION_1, EVENT_IDX, INDIRECT_DESC, MRG_RXBUF and the protocol features' bit.
pub const FEATURES: u64 = 1 << 32 | 1 << 29 | 1 << 28 | 1 << 15 | 1 << 30;

/// A file descriptor to send along with a message.
pub type Fd = RawFd;

/// A reply of the back-end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The request it answers.
    pub request: u32,
    /// Flags in the header.
    pub flags: u32,
    /// The bytes after the header.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as a number.
    ///
    /// # Panics
    /// Panics if it is not one of eight bytes.
    pub fn number(&self) -> u64 {
        u64::from_ne_bytes(self.body[..].try_into().expect("a reply of eight bytes"))
    }
}

/// Bodies of requests.
pub mod body {
    use super::*;

    /// A number.
    pub fn number(value: u64) -> Vec<u8> {
        value.to_ne_bytes().to_vec()
    }

    /// A ring's index and a number.
    pub fn state(ring: u32, value: u32) -> Vec<u8> {
        [ring, value].iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// A ring's addresses, in the front-end's own address space.
    pub fn addresses(ring: &DriverRing) -> Vec<u8> {
        let mut bytes = state(ring.index, 0);
        let user = GuestRam::user_address;
        for address in [user(ring.descriptors()), user(ring.used()), user(ring.avail()), 0] {
            bytes.extend(address.to_ne_bytes());
        }
        bytes
    }

    /// A memory region: guest address, size in bytes, user address, offset in the file.
    pub fn region(guest: u64, bytes: u64, user: u64, offset: u64) -> Vec<u8> {
        [guest, bytes, user, offset].iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// A table of regions.
    pub fn table(regions: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = state(regions.len() as u32, 0);
        regions.iter().for_each(|region| bytes.extend(region));
        bytes
    }

    /// The region that covers all of a test guest's memory.
    pub fn whole(guest: &TestGuest) -> Vec<u8> {
        region(GUEST_BASE, guest.ram.bytes(), USER_BASE, 0)
    }

    /// A single region, as in ADD_MEM_REG.
    pub fn single(region: &[u8]) -> Vec<u8> {
        [&[0; 8][..], region].concat()
    }
}

/// A connected front-end that lets tests violate the protocol.
pub struct RawFrontend {
    stream: UnixStream,
}

impl RawFrontend {
    /// Connects.
    ///
    /// # Panics
    /// Panics if nothing listens on the socket.
    pub fn connect(socket: &Path) -> Self {
        Self::over(UnixStream::connect(socket).expect("the vhost-user socket"))
    }

    /// Speaks on a connection that the back-end has made.
    ///
    /// # Panics
    /// Panics if the operating system refuses.
    pub fn over(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self { stream }
    }

    /// Connects and negotiates all protocol features that the back-end offers.
    ///
    /// # Panics
    /// Panics if the back-end does not answer.
    pub fn negotiate(socket: &Path) -> Self {
        Self::connect(socket).negotiated()
    }

    /// The same on a connection that is there.
    ///
    /// # Panics
    /// Panics if the back-end does not answer.
    pub fn negotiated(self) -> Self {
        let this = self;
        let offered = this.get(Request::GET_PROTOCOL_FEATURES, &[]).number();
        this.send(Request::SET_PROTOCOL_FEATURES, &body::number(offered), &[]);
        this.ask(Request::SET_OWNER, &[], &[]);
        this.ask(Request::SET_FEATURES, &body::number(FEATURES), &[]);
        this
    }

    /// Negotiates, shares a guest's memory and starts both rings.
    ///
    /// # Panics
    /// Panics if the back-end refuses something.
    pub fn start(socket: &Path, guest: &TestGuest) -> Self {
        Self::negotiate(socket).started(guest)
    }

    /// Shares a guest's memory and starts both rings.
    ///
    /// # Panics
    /// Panics if the back-end refuses something.
    pub fn started(self, guest: &TestGuest) -> Self {
        self.share(guest);
        for ring in guest.rings() {
            self.start_ring(ring, Some(ring.kick_event().as_raw_fd()));
        }
        self
    }

    /// Shares all of a guest's memory.
    ///
    /// # Panics
    /// Panics if the back-end refuses.
    pub fn share(&self, guest: &TestGuest) {
        let table = body::table(&[body::whole(guest)]);
        assert_eq!(self.ask(Request::SET_MEM_TABLE, &table, &[guest.ram.file().as_raw_fd()]), 0);
    }

    /// Describes a ring, sets its own call descriptor, and starts it with any kick descriptor, or
    /// none.
    ///
    /// # Panics
    /// Panics if the back-end refuses.
    pub fn start_ring(&self, ring: &DriverRing, kick: Option<Fd>) {
        self.describe_ring(ring);
        let call = u64::from(ring.index);
        let fd = ring.call_event().as_raw_fd();
        assert_eq!(self.ask(Request::SET_VRING_CALL, &body::number(call), &[fd]), 0);
        assert_eq!(self.kick(ring.index, kick), 0);
        assert_eq!(self.ask(Request::SET_VRING_ENABLE, &body::state(ring.index, 1), &[]), 0);
    }

    /// Sets size, position and addresses of a ring.
    ///
    /// # Panics
    /// Panics if the back-end refuses.
    pub fn describe_ring(&self, ring: &DriverRing) {
        let base = u32::from(ring.used_index());
        let requests = [
            (Request::SET_VRING_NUM, body::state(ring.index, u32::from(ring.size()))),
            (Request::SET_VRING_BASE, body::state(ring.index, base)),
            (Request::SET_VRING_ADDR, body::addresses(ring)),
        ];
        for (request, body) in requests {
            assert_eq!(self.ask(request, &body, &[]), 0, "{request:?}");
        }
    }

    /// Sends SET_VRING_KICK, and returns the number that acknowledges it.
    pub fn kick(&self, ring: u32, fd: Option<Fd>) -> u64 {
        let none = if fd.is_none() { NO_DESCRIPTOR } else { 0 };
        let fds: Vec<_> = fd.into_iter().collect();
        self.ask(Request::SET_VRING_KICK, &body::number(u64::from(ring) | none), &fds)
    }

    /// Sends a request that needs no reply.
    pub fn send(&self, request: Request, body: &[u8], fds: &[Fd]) {
        self.send_raw(request as u32, VERSION, body, fds);
    }

    /// Sends a message with any header and body, valid or not. It is no error here if the
    /// connection has ended.
    pub fn send_raw(&self, request: u32, flags: u32, body: &[u8], fds: &[Fd]) {
        let mut bytes: Vec<u8> =
            [request, flags, body.len() as u32].iter().flat_map(|w| w.to_ne_bytes()).collect();
        bytes.extend(body);
        let _ = self.stream.send_with_fds(&[&bytes[..]], fds);
    }

    /// Sends bytes that need not be a message.
    pub fn send_bytes(&self, bytes: &[u8]) {
        let _ = (&self.stream).write_all(bytes);
    }

    /// Sends a request, and returns the number that acknowledges it.
    ///
    /// # Panics
    /// Panics if there is no acknowledgement.
    pub fn ask(&self, request: Request, body: &[u8], fds: &[Fd]) -> u64 {
        self.send_raw(request as u32, VERSION | NEED_REPLY, body, fds);
        let reply = self.reply().unwrap_or_else(|| panic!("the connection ended at {request:?}"));
        assert_eq!(reply.request, request as u32);
        reply.number()
    }

    /// Sends a request that has a reply of its own, and returns that.
    ///
    /// # Panics
    /// Panics if there is no reply.
    pub fn get(&self, request: Request, body: &[u8]) -> Reply {
        self.send(request, body, &[]);
        let reply = self.reply().unwrap_or_else(|| panic!("the connection ended at {request:?}"));
        assert_eq!(reply.request, request as u32);
        reply
    }

    /// Returns the next reply, or `None` if the connection has ended.
    ///
    /// # Panics
    /// Panics if neither happens within [`PATIENCE`].
    pub fn reply(&self) -> Option<Reply> {
        let mut header = [0; 12];
        if !self.read(&mut header) {
            return None;
        }
        let word = |n: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|i| header[4 * n + i]));
        let mut body = vec![0; word(2) as usize];
        self.read(&mut body).then(|| Reply { request: word(0), flags: word(1), body })
    }

    fn read(&self, into: &mut [u8]) -> bool {
        match (&self.stream).read_exact(into) {
            Ok(()) => true,
            Err(error) => {
                let kinds = [ErrorKind::WouldBlock, ErrorKind::TimedOut];
                assert!(!kinds.contains(&error.kind()), "waited in vain for a reply");
                false
            }
        }
    }

    /// Waits for the end of the connection; replies before it are discarded.
    ///
    /// # Panics
    /// Panics if it does not end within [`PATIENCE`].
    pub fn expect_end(&self) {
        while self.reply().is_some() {}
    }

    /// Returns true if the back-end still answers.
    pub fn is_alive(&self) -> bool {
        self.send(Request::GET_FEATURES, &[], &[]);
        self.reply().is_some()
    }

    /// The socket.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }
}

/// Returns the number of this process's open descriptors once it no longer changes: threads that
/// have just ended may still be closing theirs.
pub fn open_fds() -> usize {
    let count = || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let mut last = (count(), 0);
    wait("the number of descriptors to come to rest", || {
        std::thread::sleep(std::time::Duration::from_millis(5));
        let now = count();
        last = if now == last.0 { (now, last.1 + 1) } else { (now, 0) };
        last.1 >= 4
    });
    last.0
}
