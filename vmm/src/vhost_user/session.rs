//! One front-end's session: what it has said so far, and what each further message changes.
//!
//! A virtqueue runs from its kick descriptor (SET_VRING_KICK), or the first SET_VRING_ENABLE if that
//! comes later, until GET_VRING_BASE, a reset or the
//! end of the connection. Any other change to a running virtqueue starts it anew, in one step at a
//! loop boundary of the switchboard; since nothing is in flight between turns, it goes on exactly
//! where it was. All changes are acknowledged by the switchboard before the front-end gets a reply.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use vhost::vhost_user::message::{
    FrontendReq, VHOST_USER_CONFIG_SIZE, VhostUserConfig, VhostUserProtocolFeatures as Protocol,
    VhostUserVirtioFeatures, VhostUserVringState,
};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_net::{VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_STATUS};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vm_memory::ByteValued;

use super::message::{MAX_BODY_BYTES, MalformedMessage, Message};
use crate::switchboard::port::RINGS;
use crate::switchboard::port::doorbell::{Call, Kick};
use crate::switchboard::port::memory::{
    GuestMemory, GuestMemoryError, MAX_REGIONS, MappedRegion, RegionSpec,
};
use crate::switchboard::port::vring::{Vring, VringConfig, VringError};
use crate::switchboard::{PortHandle, RingChange, RingsDone, SwitchboardError};

const PROTOCOL_FEATURES: u64 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();

/// Virtio features offered.
pub(super) const FEATURES: u64 = 1 << VIRTIO_F_VERSION_1
    | 1 << VIRTIO_NET_F_MAC
    | 1 << VIRTIO_NET_F_STATUS
    | 1 << VIRTIO_NET_F_MRG_RXBUF
    | 1 << VIRTIO_RING_F_EVENT_IDX
    | 1 << VIRTIO_RING_F_INDIRECT_DESC
    | PROTOCOL_FEATURES;

/// Protocol features offered.
pub(super) const PROTOCOL: Protocol = Protocol::MQ
    .union(Protocol::REPLY_ACK)
    .union(Protocol::CONFIGURE_MEM_SLOTS)
    .union(Protocol::STATUS)
    .union(Protocol::CONFIG)
    .union(Protocol::RESET_DEVICE)
    .union(Protocol::BACKEND_REQ);

/// Most bytes of the configuration space in one reply.
const MAX_CONFIG_BYTES: usize = MAX_BODY_BYTES - size_of::<VhostUserConfig>();

/// `VIRTIO_NET_S_LINK_UP`.
const LINK_UP: u16 = 1;

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("unknown request {0}")]
    Unknown(u32),
    #[error("{0:?} is not supported")]
    Unsupported(FrontendReq),
    #[error("features {0:#x} were not offered")]
    Features(u64),
    #[error("there is no virtqueue {0}")]
    NoRing(u32),
    #[error("there is no such memory region")]
    NoRegion,
    #[error("call and error descriptors must be eventfds")]
    NotAnEventFd,
    #[error("a virtqueue was started without addresses or memory")]
    Unconfigured,
    #[error(transparent)]
    Malformed(#[from] MalformedMessage),
    #[error(transparent)]
    Memory(#[from] GuestMemoryError),
    #[error(transparent)]
    Vring(#[from] VringError),
    #[error(transparent)]
    Switchboard(#[from] SwitchboardError),
}

/// What goes back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// An acknowledgement, if one was asked for.
    Done,
    /// The reply that belongs to the request.
    Reply(Vec<u8>),
}

fn reply_u64(value: u64) -> Result<Answer, Refusal> {
    Ok(Answer::Reply(value.to_ne_bytes().to_vec()))
}

/// Addresses of a virtqueue, in the front-end's own address space.
#[derive(Clone, Copy, Debug)]
struct UserAddresses {
    descriptors: u64,
    available: u64,
    used: u64,
}

/// What a front-end has said of a virtqueue.
#[derive(Debug, Default)]
struct RingState {
    size: u32,
    /// What the front-end believes to be the next index.
    base: u32,
    addresses: Option<UserAddresses>,
    /// Present while the virtqueue is to run.
    kick: Option<Kick>,
    call: Call,
    error: Call,
    /// What was said last; before that it depends on the negotiated features.
    enabled: Option<bool>,
}

/// A session.
pub(super) struct Session {
    port: PortHandle,
    mac: [u8; 6],
    features: u64,
    protocol: Protocol,
    status: u8,
    rings: [RingState; RINGS],
    running: [bool; RINGS],
    regions: Vec<Arc<MappedRegion>>,
    memory: Option<Arc<GuestMemory>>,
    /// The channel for requests to the front-end. Kept open, never used: there is nothing to ask.
    _back_channel: Option<OwnedFd>,
}

impl Session {
    pub(super) fn new(port: PortHandle, mac: [u8; 6]) -> Self {
        Self {
            port,
            mac,
            features: 0,
            protocol: Protocol::empty(),
            status: 0,
            rings: Default::default(),
            running: [false; RINGS],
            regions: Vec::new(),
            memory: None,
            _back_channel: None,
        }
    }

    /// Whether acknowledgements were negotiated.
    pub(super) fn acknowledges(&self) -> bool {
        self.protocol.contains(Protocol::REPLY_ACK)
    }

    /// Carries a request out.
    pub(super) fn handle(&mut self, message: &mut Message) -> Result<Answer, Refusal> {
        let request = message.request().ok_or(Refusal::Unknown(message.header.request))?;
        match request {
            FrontendReq::GET_FEATURES => return reply_u64(FEATURES),
            FrontendReq::GET_PROTOCOL_FEATURES => return reply_u64(PROTOCOL.bits()),
            // Virtqueues, as the rust-vmm front-ends count; QEMU counts pairs and asks for one.
            FrontendReq::GET_QUEUE_NUM => return reply_u64(RINGS as u64),
            FrontendReq::GET_MAX_MEM_SLOTS => return reply_u64(MAX_REGIONS as u64),
            FrontendReq::GET_STATUS => return reply_u64(u64::from(self.status)),
            FrontendReq::GET_CONFIG => return self.get_config(message),
            FrontendReq::GET_VRING_BASE => return self.get_base(message),
            FrontendReq::SET_FEATURES => self.set_features(message.as_u64()?)?,
            FrontendReq::SET_PROTOCOL_FEATURES => self.set_protocol_features(message.as_u64()?)?,
            FrontendReq::SET_STATUS => self.set_status(message.as_u64()?)?,
            FrontendReq::SET_OWNER => {}
            FrontendReq::RESET_OWNER | FrontendReq::RESET_DEVICE => self.reset()?,
            FrontendReq::SET_MEM_TABLE => self.set_regions(message)?,
            FrontendReq::ADD_MEM_REG => self.add_region(message)?,
            FrontendReq::REM_MEM_REG => self.remove_region(message)?,
            FrontendReq::SET_VRING_NUM => self.set_size(message)?,
            FrontendReq::SET_VRING_ADDR => self.set_addresses(message)?,
            FrontendReq::SET_VRING_BASE => self.set_base(message)?,
            FrontendReq::SET_VRING_ENABLE => self.set_enabled(message)?,
            FrontendReq::SET_VRING_KICK => self.set_kick(message)?,
            FrontendReq::SET_VRING_CALL => self.set_call(message)?,
            FrontendReq::SET_VRING_ERR => self.set_error(message)?,
            FrontendReq::SET_BACKEND_REQ_FD => {
                self._back_channel = message.fds.pop();
            }
            other => return Err(Refusal::Unsupported(other)),
        }
        Ok(Answer::Done)
    }

    /// Stops everything; nothing of the guest's memory is touched afterwards.
    ///
    /// # Errors
    /// The switchboard does not answer.
    pub(super) fn stop(&mut self) -> Result<(), SwitchboardError> {
        self.rings.iter_mut().for_each(|ring| ring.kick = None);
        self.running = [false; RINGS];
        self.port.set_rings([RingChange::Stop, RingChange::Stop]).map(drop)
    }

    fn set_features(&mut self, features: u64) -> Result<(), Refusal> {
        if features & !FEATURES != 0 {
            return Err(Refusal::Features(features & !FEATURES));
        }
        self.features = features;
        self.refresh_running()
    }

    fn set_protocol_features(&mut self, features: u64) -> Result<(), Refusal> {
        let unknown = features & !PROTOCOL.bits();
        if unknown != 0 {
            return Err(Refusal::Features(unknown));
        }
        self.protocol = Protocol::from_bits_truncate(features);
        Ok(())
    }

    fn set_status(&mut self, status: u64) -> Result<(), Refusal> {
        self.status = status as u8;
        // Zero is a reset of the device (virtio 1.3, 2.4.2).
        if self.status == 0 { Ok(self.stop()?) } else { Ok(()) }
    }

    fn reset(&mut self) -> Result<(), Refusal> {
        self.stop()?;
        self.status = 0;
        for ring in &mut self.rings {
            ring.base = 0;
            ring.enabled = None;
        }
        Ok(())
    }

    /// The configuration space: MAC, link status, then zeroes.
    fn get_config(&self, message: &Message) -> Result<Answer, Refusal> {
        let asked = message.as_config()?;
        let mut fields = [0; 8];
        fields[..6].copy_from_slice(&self.mac);
        fields[6..].copy_from_slice(&LINK_UP.to_le_bytes());
        let end = u64::from(asked.offset) + u64::from(asked.size);
        if end > u64::from(VHOST_USER_CONFIG_SIZE) || asked.size as usize > MAX_CONFIG_BYTES {
            return Err(MalformedMessage::Body.into());
        }
        let bytes = fields.into_iter().chain(std::iter::repeat(0));
        let part = bytes.skip(asked.offset as usize).take(asked.size as usize);
        Ok(Answer::Reply(asked.as_slice().iter().copied().chain(part).collect()))
    }

    fn ring(&mut self, index: u32) -> Result<(usize, &mut RingState), Refusal> {
        let ring = self.rings.get_mut(index as usize).ok_or(Refusal::NoRing(index))?;
        Ok((index as usize, ring))
    }

    /// Stops a virtqueue and tells where.
    fn get_base(&mut self, message: &Message) -> Result<Answer, Refusal> {
        let (index, ring) = self.ring(message.as_vring_state()?.index)?;
        ring.kick = None;
        let mut changes = [RingChange::Keep, RingChange::Keep];
        changes[index] = RingChange::Stop;
        let done = self.port.set_rings(changes)?;
        self.running[index] = false;
        let ring = &mut self.rings[index];
        ring.base = done.positions[index].map_or(ring.base, u32::from);
        let state = VhostUserVringState::new(index as u32, ring.base);
        Ok(Answer::Reply(state.as_slice().to_vec()))
    }

    fn set_size(&mut self, message: &Message) -> Result<(), Refusal> {
        let state = message.as_vring_state()?;
        let (index, ring) = self.ring(state.index)?;
        ring.size = state.num;
        self.refresh_if_running(index)
    }

    fn set_base(&mut self, message: &Message) -> Result<(), Refusal> {
        let state = message.as_vring_state()?;
        let (_, ring) = self.ring(state.index)?;
        ring.base = state.num;
        Ok(())
    }

    fn set_addresses(&mut self, message: &Message) -> Result<(), Refusal> {
        let addresses = message.as_vring_addr()?;
        let (index, ring) = self.ring(addresses.index)?;
        ring.addresses = Some(UserAddresses {
            descriptors: addresses.descriptor,
            available: addresses.available,
            used: addresses.used,
        });
        self.refresh_if_running(index)
    }

    /// Comes early from QEMU: before SET_FEATURES, at every reset of the device.
    fn set_enabled(&mut self, message: &Message) -> Result<(), Refusal> {
        let state = message.as_vring_state()?;
        let (index, ring) = self.ring(state.index)?;
        ring.enabled = Some(state.num != 0);
        if ring.kick.is_some() { self.refresh([index == 0, index == 1]) } else { Ok(()) }
    }

    fn set_kick(&mut self, message: &mut Message) -> Result<(), Refusal> {
        let (index, fd) = message.take_vring_fd()?;
        let (index, ring) = self.ring(index)?;
        let kick = fd.map_or_else(Kick::none, Kick::new);
        if kick.is_deaf() {
            tracing::info!("virtqueue {index} cannot be kicked: it is looked at every millisecond");
        }
        ring.kick = Some(kick);
        let started = self.refresh([index == 0, index == 1]);
        if started.is_err() {
            self.rings[index].kick = None;
        }
        started
    }

    /// The call is signalled at once, whatever it is for: after a reconnect a guest may wait for
    /// an interrupt that the back-end before did not send any more.
    fn set_call(&mut self, message: &mut Message) -> Result<(), Refusal> {
        let (index, fd) = message.take_vring_fd()?;
        let (index, ring) = self.ring(index)?;
        ring.call = match fd {
            None => Call::default(),
            Some(fd) => Call::new(fd).ok_or(Refusal::NotAnEventFd)?,
        };
        ring.call.signal();
        self.refresh_if_running(index)
    }

    fn set_error(&mut self, message: &mut Message) -> Result<(), Refusal> {
        let (index, fd) = message.take_vring_fd()?;
        let (index, ring) = self.ring(index)?;
        ring.error = match fd {
            None => Call::default(),
            Some(fd) => Call::new(fd).ok_or(Refusal::NotAnEventFd)?,
        };
        self.refresh_if_running(index)
    }

    fn set_regions(&mut self, message: &mut Message) -> Result<(), Refusal> {
        let specs = message.as_regions()?;
        let files = message.fds.drain(..).map(File::from);
        let regions = specs
            .into_iter()
            .zip(files)
            .map(|(spec, file)| MappedRegion::map(spec, &file).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        self.change_memory(regions)
    }

    fn add_region(&mut self, message: &mut Message) -> Result<(), Refusal> {
        let spec = message.as_region()?;
        let [fd] = <[OwnedFd; 1]>::try_from(std::mem::take(&mut message.fds))
            .map_err(|_| MalformedMessage::Fds)?;
        let mut regions = self.regions.clone();
        regions.push(Arc::new(MappedRegion::map(spec, &File::from(fd))?));
        self.change_memory(regions)
    }

    /// A descriptor may come with it, which nobody needs: it is closed with the message.
    fn remove_region(&mut self, message: &Message) -> Result<(), Refusal> {
        let spec = message.as_region()?;
        let same = |other: &RegionSpec| {
            (other.guest_address, other.user_address, other.bytes)
                == (spec.guest_address, spec.user_address, spec.bytes)
        };
        let mut regions = self.regions.clone();
        let place = regions.iter().position(|region| same(region.spec()));
        regions.remove(place.ok_or(Refusal::NoRegion)?);
        self.change_memory(regions)
    }

    /// Swaps the guest's memory at a loop boundary. Virtqueues that it no longer holds stop.
    fn change_memory(&mut self, regions: Vec<Arc<MappedRegion>>) -> Result<(), Refusal> {
        let memory =
            if regions.is_empty() { None } else { Some(Arc::new(GuestMemory::new(&regions)?)) };
        // What was before is kept until the switchboard has let go of it.
        let before = (std::mem::replace(&mut self.memory, memory), &mut self.regions);
        let before = (before.0, std::mem::replace(before.1, regions));
        for index in 0..RINGS {
            if self.running[index] && self.build(index).is_err() {
                tracing::warn!("virtqueue {index} lies outside the guest's new memory and stops");
                self.rings[index].kick = None;
                self.refresh([index == 0, index == 1])?;
            }
        }
        let done = self.refresh_running();
        drop(before);
        done
    }

    fn refresh_if_running(&mut self, index: usize) -> Result<(), Refusal> {
        if self.running[index] { self.refresh([index == 0, index == 1]) } else { Ok(()) }
    }

    fn refresh_running(&mut self) -> Result<(), Refusal> {
        if self.running.contains(&true) { self.refresh(self.running) } else { Ok(()) }
    }

    /// Starts these virtqueues anew, or stops those that are not to run, all at one loop boundary.
    fn refresh(&mut self, which: [bool; RINGS]) -> Result<(), Refusal> {
        let mut changes = [RingChange::Keep, RingChange::Keep];
        let mut failure = None;
        for index in (0..RINGS).filter(|index| which[*index]) {
            // Built, and so checked, also where it is held back.
            changes[index] = match self.rings[index].kick.is_some().then(|| self.build(index)) {
                None => RingChange::Stop,
                Some(Ok(_)) if self.is_held(index) => RingChange::Stop,
                Some(Ok(vring)) => RingChange::Start(Box::new(vring)),
                Some(Err(refusal)) => {
                    failure = Some(refusal);
                    RingChange::Stop
                }
            };
            self.running[index] = matches!(changes[index], RingChange::Start(_));
        }
        let done = self.port.set_rings(changes)?;
        self.note_positions(which, &done);
        failure.map_or(Ok(()), Err)
    }

    fn note_positions(&mut self, which: [bool; RINGS], done: &RingsDone) {
        for index in (0..RINGS).filter(|index| which[*index] && self.running[*index]) {
            let Some(position) = done.positions[index].map(u32::from) else { continue };
            let base = std::mem::replace(&mut self.rings[index].base, position);
            if base != position {
                tracing::debug!(
                    "virtqueue {index} goes on at {position}, where the guest's memory says, not at {base}"
                );
            }
        }
    }

    /// Whether a virtqueue with a kick must wait for the front-end's word. With protocol features it
    /// begins disabled, and what a disabled transmit ring holds is thrown away; but front-ends send
    /// the kick first, and after a reconnect the ring holds frames that nobody has sent yet. So until
    /// SET_VRING_ENABLE says one or the other, nothing of it is touched.
    fn is_held(&self, index: usize) -> bool {
        self.rings[index].enabled.is_none() && self.features & PROTOCOL_FEATURES != 0
    }

    /// The virtqueue as the front-end described it.
    fn build(&self, index: usize) -> Result<Vring, Refusal> {
        let ring = &self.rings[index];
        let (Some(kick), Some(addresses), Some(memory)) =
            (&ring.kick, ring.addresses, &self.memory)
        else {
            return Err(Refusal::Unconfigured);
        };
        let guest = |address| memory.from_user_address(address).ok_or(VringError::Address);
        let has = |bit: u32| self.features & 1 << bit != 0;
        let mergeable = has(VIRTIO_NET_F_MRG_RXBUF);
        Ok(Vring::new(VringConfig {
            size: ring.size,
            descriptors: guest(addresses.descriptors)?,
            available: guest(addresses.available)?,
            used: guest(addresses.used)?,
            memory: memory.clone(),
            kick: kick.clone(),
            call: ring.call.clone(),
            error: ring.error.clone(),
            // Without protocol features there is no message to enable a virtqueue; with them it
            // does not run before that message.
            enabled: ring.enabled.unwrap_or(true),
            event_idx: has(VIRTIO_RING_F_EVENT_IDX),
            mergeable,
            header_bytes: if mergeable || has(VIRTIO_F_VERSION_1) { 12 } else { 10 },
        })?)
    }
}
