//! vhost-user messages on the wire: a header of three words, a body, descriptors beside them.
//!
//! Requests, bodies and feature bits are the `vhost` crate's; its header and its way of reading a
//! socket are private to it, so these stand here. All numbers are in native byte order.

use std::os::fd::OwnedFd;

use vhost::vhost_user::message::{
    FrontendReq, MAX_MSG_SIZE, VhostUserConfig, VhostUserMemory, VhostUserMemoryRegion,
    VhostUserVringAddr, VhostUserVringState,
};
use vm_memory::ByteValued;

use crate::switchboard::port::memory::RegionSpec;

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 12;
/// Most bytes of a body.
pub(super) const MAX_BODY_BYTES: usize = MAX_MSG_SIZE;
/// Most descriptors beside one message.
pub(super) const MAX_FDS: usize = vhost::vhost_user::message::MAX_ATTACHED_FD_ENTRIES;

const VERSION_MASK: u32 = 0x3;
const VERSION: u32 = 0x1;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MalformedMessage {
    #[error("unknown protocol version (flags {0:#x})")]
    Version(u32),
    #[error("a reply to nothing (flags {0:#x})")]
    Reply(u32),
    #[error("{0} bytes are too long for a message")]
    Oversized(u32),
    #[error("the body is too short or too long for this request")]
    Body,
    #[error("the wrong number of descriptors came with this request")]
    Fds,
}

/// A header that checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) request: u32,
    pub(super) need_reply: bool,
    /// Bytes of the body.
    pub(super) body_bytes: usize,
}

impl Header {
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, MalformedMessage> {
        let [request, flags, size] = [0, 4, 8]
            .map(|at| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]));
        if flags & VERSION_MASK != VERSION {
            return Err(MalformedMessage::Version(flags));
        }
        if flags & REPLY != 0 {
            return Err(MalformedMessage::Reply(flags));
        }
        if size as usize > MAX_BODY_BYTES {
            return Err(MalformedMessage::Oversized(size));
        }
        Ok(Self { request, need_reply: flags & NEED_REPLY != 0, body_bytes: size as usize })
    }

    /// The bytes of a reply to `request`, body included.
    pub(super) fn reply(request: u32, body: &[u8]) -> Vec<u8> {
        let words = [request, VERSION | REPLY, body.len() as u32];
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
        bytes.extend_from_slice(body);
        bytes
    }
}

/// A whole message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) header: Header,
    pub(super) body: Vec<u8>,
    pub(super) fds: Vec<OwnedFd>,
}

impl Message {
    /// Which request, if it is a known one.
    pub(super) fn request(&self) -> Option<FrontendReq> {
        FrontendReq::try_from(self.header.request).ok()
    }

    /// A body that is exactly one `T`.
    fn body_as<T: ByteValued>(&self) -> Result<T, MalformedMessage> {
        let mut value = T::zeroed();
        if self.body.len() != size_of::<T>() {
            return Err(MalformedMessage::Body);
        }
        value.as_mut_slice().copy_from_slice(&self.body);
        Ok(value)
    }

    pub(super) fn as_u64(&self) -> Result<u64, MalformedMessage> {
        self.body_as()
    }

    pub(super) fn as_vring_state(&self) -> Result<VhostUserVringState, MalformedMessage> {
        self.body_as()
    }

    pub(super) fn as_vring_addr(&self) -> Result<VhostUserVringAddr, MalformedMessage> {
        self.body_as()
    }

    /// A ring number, and the one descriptor that comes with it unless the message says that there
    /// is none (bit 8).
    pub(super) fn take_vring_fd(&mut self) -> Result<(u32, Option<OwnedFd>), MalformedMessage> {
        let value = self.as_u64()?;
        let ring = (value & 0xff) as u32;
        match (value & 1 << 8 != 0, self.fds.len()) {
            (true, _) => Ok((ring, None)),
            (false, 1) => Ok((ring, self.fds.pop())),
            (false, _) => Err(MalformedMessage::Fds),
        }
    }

    /// The regions of SET_MEM_TABLE, one descriptor for each.
    pub(super) fn as_regions(&self) -> Result<Vec<RegionSpec>, MalformedMessage> {
        let (head, regions) = self
            .body
            .split_at_checked(size_of::<VhostUserMemory>())
            .ok_or(MalformedMessage::Body)?;
        let mut memory = VhostUserMemory::default();
        memory.as_mut_slice().copy_from_slice(head);
        let count = memory.num_regions as usize;
        let size = size_of::<VhostUserMemoryRegion>();
        if count > MAX_FDS || regions.len() != count * size {
            return Err(MalformedMessage::Body);
        }
        if self.fds.len() != count {
            return Err(MalformedMessage::Fds);
        }
        Ok(regions.chunks_exact(size).map(region).collect())
    }

    /// The region of ADD_MEM_REG or REM_MEM_REG, behind eight bytes of padding.
    pub(super) fn as_region(&self) -> Result<RegionSpec, MalformedMessage> {
        match self.body.split_at_checked(8) {
            Some((_, rest)) if rest.len() == size_of::<VhostUserMemoryRegion>() => Ok(region(rest)),
            _ => Err(MalformedMessage::Body),
        }
    }

    /// Which part of the configuration space GET_CONFIG asks for.
    pub(super) fn as_config(&self) -> Result<VhostUserConfig, MalformedMessage> {
        let size = size_of::<VhostUserConfig>();
        let head = self.body.get(..size).ok_or(MalformedMessage::Body)?;
        let mut config = VhostUserConfig::default();
        config.as_mut_slice().copy_from_slice(head);
        Ok(config)
    }
}

/// Callers hand in exactly the bytes of a region.
fn region(bytes: &[u8]) -> RegionSpec {
    let mut region = VhostUserMemoryRegion::default();
    region.as_mut_slice().copy_from_slice(bytes);
    RegionSpec {
        guest_address: region.guest_phys_addr,
        bytes: region.memory_size,
        user_address: region.user_addr,
        file_offset: region.mmap_offset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(request: u32, flags: u32, size: u32) -> [u8; HEADER_BYTES] {
        let bytes: Vec<u8> =
            [request, flags, size].into_iter().flat_map(u32::to_ne_bytes).collect();
        bytes.try_into().unwrap()
    }

    #[test]
    fn a_header_is_checked() {
        let good = Header { request: 1, need_reply: true, body_bytes: 8 };
        assert_eq!(Header::parse(&header(1, 9, 8)), Ok(good));
        assert_eq!(Header::parse(&header(1, 2, 8)), Err(MalformedMessage::Version(2)));
        assert_eq!(Header::parse(&header(1, 5, 8)), Err(MalformedMessage::Reply(5)));
        assert_eq!(Header::parse(&header(1, 1, 4097)), Err(MalformedMessage::Oversized(4097)));
    }

    #[test]
    fn a_reply_says_what_it_answers() {
        let reply = Header::reply(24, &[1, 2]);
        assert_eq!(reply[..12], header(24, 5, 2));
        assert_eq!(reply[12..], [1, 2]);
    }

    proptest! {
        #[test]
        fn no_body_panics(bytes in prop::collection::vec(any::<u8>(), 0..1100)) {
            let header = Header { request: 5, need_reply: false, body_bytes: bytes.len() };
            let mut message = Message { header, body: bytes, fds: Vec::new() };
            let _ = (message.as_u64(), message.as_regions(), message.as_region());
            let _ = (message.as_vring_addr().is_ok(), message.as_config().is_ok());
            let _ = (message.as_vring_state().is_ok(), message.take_vring_fd());
        }
    }
}
