//! A front-end that keeps to the protocol, based on the `vhost` crate's `Frontend`.

use std::os::fd::AsRawFd;
use std::path::Path;

use vhost::vhost_user::message::{VhostUserHeaderFlag, VhostUserProtocolFeatures as Protocol};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};

use super::memory::{GUEST_BASE, GuestRam, USER_BASE};
use super::ring::DriverRing;
use super::{TestGuest, wait};

/// `VIRTIO_F_VERSION_1`, `VIRTIO_NET_F_MRG_RXBUF` and the bit for protocol features.
const FEATURES: u64 = 1 << 32 | 1 << 15 | 1 << 30;

/// A connected front-end; dropping it closes the connection.
pub struct Connection {
    frontend: Frontend,
}

impl Connection {
    /// Connects, negotiates, and starts both rings of a guest.
    ///
    /// # Panics
    /// Panics if the back-end refuses something.
    pub fn start(socket: &Path, guest: &TestGuest) -> Self {
        let connection = Self::negotiate(socket);
        connection.start_rings(guest);
        connection
    }

    /// Connects and negotiates.
    ///
    /// # Panics
    /// Panics if the back-end refuses something.
    pub fn negotiate(socket: &Path) -> Self {
        let mut connected = None;
        wait("the vhost-user socket", || {
            connected = Frontend::connect(socket, 2).ok();
            connected.is_some()
        });
        let mut frontend = connected.expect("a connection");
        let offered = frontend.get_features().expect("GET_FEATURES");
        assert_eq!(offered & FEATURES, FEATURES, "features offered: {offered:#x}");
        let protocol = frontend.get_protocol_features().expect("GET_PROTOCOL_FEATURES");
        let wanted = Protocol::REPLY_ACK | Protocol::CONFIG;
        assert!(protocol.contains(wanted), "{protocol:?}");
        frontend.set_protocol_features(wanted).expect("SET_PROTOCOL_FEATURES");
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        frontend.set_owner().expect("SET_OWNER");
        frontend.set_features(FEATURES).expect("SET_FEATURES");
        Self { frontend }
    }

    /// Shares a guest's memory and starts both rings.
    ///
    /// # Panics
    /// Panics if the back-end refuses something.
    pub fn start_rings(&self, guest: &TestGuest) {
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: GUEST_BASE,
            memory_size: guest.ram.bytes(),
            userspace_addr: USER_BASE,
            mmap_offset: 0,
            mmap_handle: guest.ram.file().as_raw_fd(),
        };
        self.frontend.set_mem_table(&[region]).expect("SET_MEM_TABLE");
        for ring in guest.rings() {
            self.start_ring(ring);
        }
    }

    fn start_ring(&self, ring: &DriverRing) {
        let index = ring.index as usize;
        let addresses = VringConfigData {
            queue_max_size: ring.size(),
            queue_size: ring.size(),
            flags: 0,
            desc_table_addr: GuestRam::user_address(ring.descriptors()),
            used_ring_addr: GuestRam::user_address(ring.used()),
            avail_ring_addr: GuestRam::user_address(ring.avail()),
            log_addr: None,
        };
        let frontend = &self.frontend;
        frontend.set_vring_num(index, ring.size()).expect("SET_VRING_NUM");
        frontend.set_vring_base(index, ring.used_index()).expect("SET_VRING_BASE");
        frontend.set_vring_addr(index, &addresses).expect("SET_VRING_ADDR");
        frontend.set_vring_call(index, ring.call_event()).expect("SET_VRING_CALL");
        frontend.set_vring_kick(index, ring.kick_event()).expect("SET_VRING_KICK");
        self.frontend.clone().set_vring_enable(index, true).expect("SET_VRING_ENABLE");
    }

    /// Stops a ring, and returns its position.
    ///
    /// # Panics
    /// Panics if the back-end refuses.
    pub fn stop_ring(&self, index: u32) -> u32 {
        self.frontend.get_vring_base(index as usize).expect("GET_VRING_BASE")
    }
}
