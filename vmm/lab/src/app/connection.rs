//! The vhost-user front-end: one connection to a back-end, from the handshake to the running rings.
//!
//! ```text
//! connect ── GET/SET_FEATURES, protocol features, SET_OWNER, GET_CONFIG ── (driver is ready)
//!   ── SET_FEATURES, SET_MEM_TABLE ── per ring: NUM, BASE, ADDR, CALL, KICK, ENABLE ── running
//! ```
//! The front-end of the `vhost` crate waits for replies without a deadline, so every exchange runs
//! under one of ours ([`with_deadline`]).

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};

use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::EventFd;

use super::deadline::with_deadline;
use super::error::ConnectionError;
use super::mmio::{EVENT_IDX, MAC, MRG_RXBUF, NetConfig, QUEUES, STATUS, VERSION_1};
use super::socket::connect;
use platform::memory::SharedMemory;

/// Ring and network features that driver and back-end negotiate without this program's help.
const PASSED: u64 = VERSION_1 | EVENT_IDX | MRG_RXBUF | MAC | STATUS;

/// Protocol features that this front-end uses.
const PROTOCOL: VhostUserProtocolFeatures =
    VhostUserProtocolFeatures::REPLY_ACK.union(VhostUserProtocolFeatures::CONFIG);

/// One ring as the back-end is to see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ring {
    /// Entries, a power of two.
    pub(super) entries: u16,
    /// Guest-physical address of the descriptor table.
    pub(super) descriptors: u64,
    /// Guest-physical address of the available ring.
    pub(super) available: u64,
    /// Guest-physical address of the used ring.
    pub(super) used: u64,
}

/// The eventfds of one ring. They live as long as the machine, whatever becomes of back-ends.
#[derive(Debug)]
pub(super) struct RingEvents {
    /// Signalled by the guest.
    pub(super) kick: EventFd,
    /// Signalled by the back-end.
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
pub(super) struct Connection {
    frontend: Frontend,
    /// The same socket, to watch it and to shut it down.
    socket: UnixStream,
    features: u64,
    protocol: VhostUserProtocolFeatures,
    config: Option<NetConfig>,
}

impl Connection {
    /// Connects and negotiates everything that does not need a driver.
    ///
    /// # Errors
    /// There is no back-end, or it does not serve virtio 1 network devices.
    pub(super) fn open(path: &Path, stop: &EventFd) -> Result<Self, ConnectionError> {
        let socket = connect(path)?;
        let watched = socket.try_clone().map_err(ConnectionError::System)?;
        let frontend = Frontend::from_stream(socket, QUEUES as u64);
        let protocol = VhostUserProtocolFeatures::empty();
        let mut new = Self { frontend, socket: watched, features: 0, protocol, config: None };
        with_deadline(new.socket.try_clone().map_err(ConnectionError::System)?, stop, || {
            new.greet()
        })?;
        let missing = VERSION_1 & !new.features;
        if missing != 0 { Err(ConnectionError::Features { missing }) } else { Ok(new) }
    }

    fn greet(&mut self) -> Result<(), ConnectionError> {
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

    /// Features to offer to a driver. The front-end itself serves MAC and STATUS.
    pub(super) fn offered(&self) -> u64 {
        self.features & PASSED | MAC | STATUS
    }

    /// The MAC address in the back-end's configuration space, if the back-end offers one.
    pub(super) fn mac(&self) -> Option<[u8; 6]> {
        self.config.filter(|_| self.features & MAC != 0).map(|config| config.mac)
    }

    /// The link status in the back-end's configuration space, if the back-end offers one.
    pub(super) fn status(&self) -> Option<u16> {
        self.config.filter(|_| self.features & STATUS != 0).map(|config| config.status)
    }

    /// Starts the rings where the guest's used indices say that they stand.
    ///
    /// # Errors
    /// The back-end refuses or went away, or lacks a feature that the driver already uses.
    pub(super) fn attach(
        &mut self,
        to: &Attachment<'_>,
        stop: &EventFd,
    ) -> Result<(), ConnectionError> {
        let missing = to.features & !self.offered();
        if missing != 0 {
            return Err(ConnectionError::Features { missing });
        }
        let socket = self.socket.try_clone().map_err(ConnectionError::System)?;
        with_deadline(socket, stop, || self.start_rings(to))
    }

    fn start_rings(&mut self, to: &Attachment<'_>) -> Result<(), ConnectionError> {
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
    ) -> Result<(), ConnectionError> {
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
    pub(super) fn detach(&mut self, stop: &EventFd) -> Result<(), ConnectionError> {
        let socket = self.socket.try_clone().map_err(ConnectionError::System)?;
        with_deadline(socket, stop, || {
            for index in 0..QUEUES {
                self.frontend.get_vring_base(index).map_err(refused("GET_VRING_BASE"))?;
            }
            Ok(())
        })
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn refused(what: &'static str) -> impl FnOnce(vhost::Error) -> ConnectionError {
    move |source| ConnectionError::Request { what, source }
}

/// Where a ring stands: everything up to its used index is done, everything after it is not.
fn used_index(ram: &SharedMemory, ring: &Ring) -> Result<u16, ConnectionError> {
    /// `idx` follows `flags` (virtio 1.3 §2.7.8).
    const INDEX_OFFSET: u64 = 2;
    let index = ram.shape::<AtomicU16>(ring.used + INDEX_OFFSET);
    let index = index.map_err(|error| ConnectionError::System(io::Error::other(error)))?;
    Ok(index.load(Ordering::Acquire))
}
