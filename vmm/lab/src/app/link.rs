//! The vhost-user front-end: one connection to a back-end, from the handshake to the running rings.
//!
//! ```text
//! connect ── GET/SET_FEATURES, protocol features, SET_OWNER, GET_CONFIG ── (driver is ready)
//!   ── SET_FEATURES, SET_MEM_TABLE ── per ring: NUM, BASE, ADDR, CALL, KICK, ENABLE ── running
//! ```
//! The crate's front-end waits for replies without a deadline, so every exchange runs under a
//! [`Guard`] that shuts the connection down when its time is over or the program is to stop.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::EventFd;

use super::mmio::{EVENT_IDX, MAC, MRG_RXBUF, NetConfig, QUEUES, STATUS, VERSION_1};
use super::wait::{self, Waited};
use platform::budget::BACKEND_DEADLINE;
use platform::memory::SharedMemory;

/// Ring and network features that pass between driver and back-end without this program's help.
const PASSED: u64 = VERSION_1 | EVENT_IDX | MRG_RXBUF | MAC | STATUS;

/// Protocol features that this front-end uses.
const PROTOCOL: VhostUserProtocolFeatures =
    VhostUserProtocolFeatures::REPLY_ACK.union(VhostUserProtocolFeatures::CONFIG);

/// Why a back-end cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The path is too long for a socket address.
    #[error("the path is longer than the 107 bytes a socket address can hold")]
    PathTooLong,
    /// There is nothing to connect to.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// A request failed.
    #[error("the back-end refuses {what}")]
    Request {
        /// The vhost-user request.
        what: &'static str,
        /// How it failed.
        source: vhost::Error,
    },
    /// The back-end did not answer.
    #[error("the back-end does not answer within {} ms", BACKEND_DEADLINE.as_millis())]
    NoAnswer,
    /// Feature bits are missing that the guest needs or already uses.
    #[error("the back-end does not offer feature bits {missing:#x}")]
    Features {
        /// Which.
        missing: u64,
    },
    /// No descriptors or threads.
    #[error("the operating system refuses what a connection needs")]
    System(#[source] io::Error),
}

/// One ring as the back-end is to see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ring {
    /// Entries, a power of two.
    pub(super) entries: u16,
    /// Guest-physical address of the descriptor table.
    pub(super) descriptors: u64,
    /// Of the available ring.
    pub(super) available: u64,
    /// Of the used ring.
    pub(super) used: u64,
}

/// The eventfds of one ring. They live as long as the machine, whatever becomes of back-ends.
#[derive(Debug)]
pub(super) struct RingEvents {
    /// Rung by the guest.
    pub(super) kick: EventFd,
    /// Rung by the back-end.
    pub(super) call: EventFd,
}

/// All that a back-end is told when the rings start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attachment<'a> {
    /// The guest's RAM, from guest-physical 0.
    pub(super) ram: &'a SharedMemory,
    /// Features that the driver accepted.
    pub(super) features: u64,
    /// The rings.
    pub(super) rings: &'a [Ring; QUEUES],
    /// Their eventfds.
    pub(super) events: &'a [RingEvents; QUEUES],
}

/// A connection to a back-end.
pub(super) struct Link {
    frontend: Frontend,
    /// The same socket, to watch it and to shut it down.
    socket: UnixStream,
    features: u64,
    protocol: VhostUserProtocolFeatures,
    config: Option<NetConfig>,
}

impl Link {
    /// Connects and negotiates all that is settled before a driver is there.
    ///
    /// # Errors
    /// No back-end, or not one that serves virtio 1 network devices.
    pub(super) fn connect(path: &Path, stop: &EventFd) -> Result<Self, LinkError> {
        let socket = connect(path)?;
        let watched = socket.try_clone().map_err(LinkError::System)?;
        let frontend = Frontend::from_stream(socket, QUEUES as u64);
        let protocol = VhostUserProtocolFeatures::empty();
        let mut link = Self { frontend, socket: watched, features: 0, protocol, config: None };
        Guard::run(link.socket.try_clone().map_err(LinkError::System)?, stop, || link.greet())?;
        let missing = VERSION_1 & !link.features;
        if missing != 0 { Err(LinkError::Features { missing }) } else { Ok(link) }
    }

    fn greet(&mut self) -> Result<(), LinkError> {
        let frontend = &mut self.frontend;
        self.features = frontend.get_features().map_err(refused("GET_FEATURES"))?;
        if self.features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() != 0 {
            let offered = frontend.get_protocol_features();
            self.protocol = offered.map_err(refused("GET_PROTOCOL_FEATURES"))? & PROTOCOL;
            let set = frontend.set_protocol_features(self.protocol);
            set.map_err(refused("SET_PROTOCOL_FEATURES"))?;
            if self.protocol.contains(VhostUserProtocolFeatures::REPLY_ACK) {
                frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
            }
        }
        frontend.set_owner().map_err(refused("SET_OWNER"))?;
        if self.protocol.contains(VhostUserProtocolFeatures::CONFIG) {
            let (len, flags) = (NetConfig::BYTES as u32, VhostUserConfigFlags::empty());
            let answer = frontend.get_config(0, len, flags, &[0; NetConfig::BYTES]);
            let (_, bytes) = answer.map_err(refused("GET_CONFIG"))?;
            self.config = NetConfig::parse(&bytes);
        }
        Ok(())
    }

    /// Features to offer to a driver. MAC and STATUS are the front-end's own to serve.
    pub(super) fn offered(&self) -> u64 {
        self.features & PASSED | MAC | STATUS
    }

    /// The back-end's configuration space, if it has one; each field counts only where the feature
    /// of that name is offered.
    pub(super) fn mac(&self) -> Option<[u8; 6]> {
        self.config.filter(|_| self.features & MAC != 0).map(|config| config.mac)
    }

    /// Link status, likewise.
    pub(super) fn status(&self) -> Option<u16> {
        self.config.filter(|_| self.features & STATUS != 0).map(|config| config.status)
    }

    /// Starts the rings where the guest's used indices say that they stand.
    ///
    /// # Errors
    /// The back-end refuses or went away, or lacks a feature that the driver already uses.
    pub(super) fn attach(&mut self, to: &Attachment<'_>, stop: &EventFd) -> Result<(), LinkError> {
        let missing = to.features & !self.offered();
        if missing != 0 {
            return Err(LinkError::Features { missing });
        }
        let socket = self.socket.try_clone().map_err(LinkError::System)?;
        Guard::run(socket, stop, || self.start_rings(to))
    }

    fn start_rings(&mut self, to: &Attachment<'_>) -> Result<(), LinkError> {
        let bit_30 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        let features = to.features & self.features | self.features & bit_30;
        self.frontend.set_features(features).map_err(refused("SET_FEATURES"))?;
        let ram = VhostUserMemoryRegionInfo {
            guest_phys_addr: 0,
            memory_size: to.ram.len(),
            userspace_addr: to.ram.host_address(),
            mmap_offset: 0,
            mmap_handle: to.ram.file().as_raw_fd(),
        };
        self.frontend.set_mem_table(&[ram]).map_err(refused("SET_MEM_TABLE"))?;
        for (index, (ring, events)) in to.rings.iter().zip(to.events).enumerate() {
            self.start_ring(index, ring, events, to.ram)?;
        }
        // A kick that the back-end before this one took may have been for something it never did.
        for events in to.events {
            // Fails only where the counter is full: then the kick is pending anyway.
            let _ = events.kick.write(1);
        }
        Ok(())
    }

    fn start_ring(
        &mut self,
        index: usize,
        ring: &Ring,
        events: &RingEvents,
        ram: &SharedMemory,
    ) -> Result<(), LinkError> {
        let frontend = &mut self.frontend;
        let base = used_index(ram, ring)?;
        let addresses = VringConfigData {
            queue_max_size: ring.entries,
            queue_size: ring.entries,
            flags: 0,
            desc_table_addr: ram.host_address() + ring.descriptors,
            used_ring_addr: ram.host_address() + ring.used,
            avail_ring_addr: ram.host_address() + ring.available,
            log_addr: None,
        };
        frontend.set_vring_num(index, ring.entries).map_err(refused("SET_VRING_NUM"))?;
        frontend.set_vring_base(index, base).map_err(refused("SET_VRING_BASE"))?;
        frontend.set_vring_addr(index, &addresses).map_err(refused("SET_VRING_ADDR"))?;
        frontend.set_vring_call(index, &events.call).map_err(refused("SET_VRING_CALL"))?;
        frontend.set_vring_kick(index, &events.kick).map_err(refused("SET_VRING_KICK"))?;
        if self.features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() != 0 {
            frontend.set_vring_enable(index, true).map_err(refused("SET_VRING_ENABLE"))?;
        }
        Ok(())
    }

    /// Stops the rings, for a driver that resets the device.
    ///
    /// # Errors
    /// The back-end went away.
    pub(super) fn detach(&mut self, stop: &EventFd) -> Result<(), LinkError> {
        let socket = self.socket.try_clone().map_err(LinkError::System)?;
        Guard::run(socket, stop, || {
            for index in 0..QUEUES {
                self.frontend.get_vring_base(index).map_err(refused("GET_VRING_BASE"))?;
            }
            Ok(())
        })
    }
}

impl AsRawFd for Link {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn refused(what: &'static str) -> impl FnOnce(vhost::Error) -> LinkError {
    move |source| LinkError::Request { what, source }
}

/// Where a ring stands: everything up to its used index is done, everything after it is not.
fn used_index(ram: &SharedMemory, ring: &Ring) -> Result<u16, LinkError> {
    /// `idx` follows `flags` (virtio 1.3 §2.7.8).
    const INDEX_OFFSET: u64 = 2;
    let index = ram.shape::<AtomicU16>(ring.used + INDEX_OFFSET);
    let index = index.map_err(|error| LinkError::System(io::Error::other(error)))?;
    Ok(index.load(Ordering::Acquire))
}

/// Connects without waiting: a back-end whose backlog is full is not there.
fn connect(path: &Path) -> Result<UnixStream, LinkError> {
    let bytes = path.as_os_str().as_bytes();
    // SAFETY: all-zero bytes are a valid address of no family.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    if bytes.len() >= address.sun_path.len() {
        return Err(LinkError::PathTooLong);
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: plain integers; the result is checked.
    let socket = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
    if socket < 0 {
        return Err(LinkError::System(io::Error::last_os_error()));
    }
    // SAFETY: a fresh descriptor that nothing else owns.
    let socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(socket) });
    let len = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: `address` is a socket address of that many bytes.
    if unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), len) } != 0 {
        return Err(LinkError::Connect(io::Error::last_os_error()));
    }
    socket.set_nonblocking(false).map_err(LinkError::System)?;
    Ok(socket)
}

/// Watches over an exchange with the back-end.
struct Guard;

impl Guard {
    /// Runs `exchange`; shuts `socket` down, so that it fails, when [`BACKEND_DEADLINE`] is over or
    /// `stop` is rung.
    fn run<T>(
        socket: UnixStream,
        stop: &EventFd,
        exchange: impl FnOnce() -> Result<T, LinkError>,
    ) -> Result<T, LinkError> {
        let done = EventFd::new(libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
        let done = done.map_err(LinkError::System)?;
        let late = AtomicBool::new(false);
        let watch = || {
            let fds = [done.as_raw_fd(), stop.as_raw_fd()];
            match wait::readable(fds, Some(BACKEND_DEADLINE)) {
                Ok(Waited::Ready([true, _])) => return,
                Ok(Waited::Ready(_)) => {}
                Ok(Waited::TimedOut) | Err(_) => late.store(true, Ordering::Relaxed),
            }
            // Fails only where the connection is down already.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("app-guard".to_owned());
            thread.spawn_scoped(scope, watch).map_err(LinkError::System)?;
            let result = exchange();
            // The counter of an eventfd this young has room.
            let _ = done.write(1);
            result
        })
        .map_err(|error| if late.load(Ordering::Relaxed) { LinkError::NoAnswer } else { error })
    }
}
