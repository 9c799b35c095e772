//! One connection's state: what the front-end has said, and the rings that follow from it.
//!
//! A ring runs from SET_VRING_KICK to GET_VRING_BASE, as soon and as long as it has a size,
//! addresses and memory, and has been enabled once. Every change of something that a running ring
//! depends on starts it anew at a loop boundary of the switchboard, before the reply: chains are
//! used when they are copied, so nothing is in flight there, and the position is the used index
//! that stands in guest memory. A ring therefore goes on where it stopped, after a reconnect too:
//! unfinished descriptors are neither skipped nor run twice. SET_VRING_BASE has nothing to add to
//! that; it is only told back if the ring never runs.

mod answer;
mod log;
mod regions;
mod ring;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use platform::budget::RARP_PACE;
use vhost::vhost_user::message::{
    FrontendReq, VhostUserConfig as ConfigHead, VhostUserU64, VhostUserVringAddr,
    VhostUserVringState,
};
use vm_memory::ByteValued;

use self::answer::{Answer, Outcome, RequestError, refused, reply, u64_body};
use self::log::Log;
use self::regions::Regions;
use self::ring::{Common, Ring};
use super::message::{BAD_SIZE, ConnectionError, Message};
use super::request::{self, FEATURES, LOG_ALL, OFFERED_PROTOCOL};
use crate::command::RingChange;
use crate::port::{Call, DirtyLog, GuestMemory, Kick, MAX_REGIONS, RINGS, RX_RING, TX_RING, Vring};
use crate::port_handle::PortHandle;

/// Low bits of SET_VRING_KICK, CALL and ERR: the ring. Above: no descriptor follows.
const RING_MASK: u64 = 0xff;
const NO_DESCRIPTOR: u64 = 1 << 8;
/// `struct virtio_net_config` up to `mtu` (virtio 1.3, 5.1.4).
const CONFIG_BYTES: usize = 12;
/// Least MTU that a device may tell (virtio 1.3, 5.1.4.1).
const LEAST_GUEST_MTU: u64 = 68;
/// `VIRTIO_NET_S_LINK_UP`.
const LINK_UP: u16 = 1;

/// A front-end's session.
pub(super) struct Session {
    port: PortHandle,
    mac: [u8; 6],
    features: u64,
    protocol: u64,
    status: u64,
    regions: Regions,
    memory: Option<Arc<GuestMemory>>,
    rings: [Ring; RINGS],
    log: Log,
    /// Requests that were refused.
    refusals: u32,
    /// A region that was left out was told.
    told_left_out: bool,
    /// When SEND_RARP was carried out last.
    announced: Option<Instant>,
}

impl Session {
    pub(super) fn new(port: PortHandle, mac: [u8; 6]) -> Self {
        Self {
            port,
            mac,
            features: 0,
            protocol: 0,
            status: 0,
            regions: Regions::default(),
            memory: None,
            rings: Default::default(),
            log: Log::default(),
            refusals: 0,
            told_left_out: false,
            announced: None,
        }
    }

    /// Carries a message out. Returns the body of its reply, if it has one.
    pub(super) fn handle(
        &mut self,
        mut message: Message,
    ) -> Result<Option<Vec<u8>>, ConnectionError> {
        let number = message.request;
        let request = request::by_number(number);
        let outcome = match request {
            Some(request) if message.files.len() > request::most_files(request) => {
                return Err(ConnectionError::Malformed("too many descriptors for this request"));
            }
            Some(request) => self.dispatch(request, &mut message),
            None => Err(refused("unknown")),
        };
        let acknowledges = message.wants_reply
            && self.protocol & REPLY_ACK != 0
            && !request.is_some_and(request::has_own_reply);
        match outcome {
            Ok(Answer::Reply(body)) => Ok(Some(body)),
            Ok(Answer::Done) => Ok(acknowledges.then(|| u64_body(0))),
            Err(RequestError::Refused(why)) if acknowledges => {
                self.note_refusal(number, &why);
                Ok(Some(u64_body(1)))
            }
            Err(RequestError::Refused(why)) => {
                Err(ConnectionError::Refused { request: number, why })
            }
            Err(RequestError::Fatal(error)) => Err(error),
        }
    }

    /// Logs a refusal, but not every one of a front-end that goes on and on.
    fn note_refusal(&mut self, request: u32, why: &str) {
        const LINES: u32 = 16;
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals <= LINES {
            tracing::warn!(request, why, "a vhost-user request was refused");
        }
    }

    fn dispatch(&mut self, request: FrontendReq, message: &mut Message) -> Outcome {
        use FrontendReq as R;
        match request {
            R::GET_FEATURES => reply(FEATURES),
            R::SET_FEATURES => self.set_features(message.value::<VhostUserU64>()?.value),
            R::GET_PROTOCOL_FEATURES => reply(OFFERED_PROTOCOL.bits()),
            R::SET_PROTOCOL_FEATURES => self.set_protocol(message.value::<VhostUserU64>()?.value),
            // In queues, as the document says, for front-ends that ask although MQ is not offered.
            R::GET_QUEUE_NUM => reply(RINGS as u64),
            R::GET_MAX_MEM_SLOTS => reply(MAX_REGIONS as u64),
            R::SET_OWNER => Ok(Answer::Done),
            R::SET_MEM_TABLE => self.use_regions(regions::table(message, self.log.bytes())?),
            R::ADD_MEM_REG => {
                let (before, log_bytes) = (self.regions.clone(), self.log.bytes());
                self.use_regions(regions::with(before, message, log_bytes)?)
            }
            R::REM_MEM_REG => self.use_regions(regions::without(self.regions.clone(), message)?),
            R::SET_LOG_BASE => self.set_log_base(message),
            R::SET_LOG_FD => {
                self.log.set_call(message)?;
                self.sync([true; RINGS])
            }
            R::SET_VRING_NUM => self.set_size(message.value()?),
            R::SET_VRING_ADDR => self.set_addresses(message.value()?),
            R::SET_VRING_BASE => self.set_base(message.value()?),
            R::GET_VRING_BASE => self.stop_ring(message.value::<VhostUserVringState>()?.index),
            R::SET_VRING_KICK | R::SET_VRING_CALL | R::SET_VRING_ERR => {
                self.set_descriptor(request, message)
            }
            R::SET_VRING_ENABLE => self.enable(message.value()?),
            R::GET_CONFIG => self.get_config(message),
            R::SET_STATUS => self.set_status(message.value::<VhostUserU64>()?.value),
            R::GET_STATUS => reply(self.status),
            R::RESET_OWNER | R::RESET_DEVICE => self.reset(),
            R::NET_SET_MTU => self.check_mtu(message.value::<VhostUserU64>()?.value),
            R::SEND_RARP => self.announce(message.value::<VhostUserU64>()?.value),
            _ => Err(refused("not offered")),
        }
    }

    fn set_features(&mut self, features: u64) -> Outcome {
        if features & !FEATURES != 0 {
            return Err(refused(format!("features {features:#x} were not offered")));
        }
        self.features = features;
        // Running rings depend on them; those of a well-behaved front-end do not run yet.
        self.sync([true; RINGS])
    }

    /// Announces the guest, which has moved here and does not say so itself: this is sent after a
    /// migration. The switchboard knows more than a MAC to announce.
    ///
    /// It never ends the connection: the guest works without it. One that follows too soon is left
    /// out, because the announcements of the one before are still under way.
    fn announce(&mut self, mac: u64) -> Outcome {
        let [a, b, c, d, e, f, ..] = mac.to_ne_bytes();
        if [a, b, c, d, e, f] != self.mac {
            self.note_refusal(FrontendReq::SEND_RARP as u32, "that is not the guest's MAC address");
        } else if self.announced.is_none_or(|at| at.elapsed() >= RARP_PACE) {
            self.announced = Some(Instant::now());
            if let Err(error) = self.port.announce() {
                self.note_refusal(FrontendReq::SEND_RARP as u32, &error.to_string());
            }
        }
        Ok(Answer::Done)
    }

    /// The front-end tells its guest this MTU. A smaller one than the topology's is the guest's own
    /// affair; of frames of a larger one the longest would be refused.
    fn check_mtu(&self, mtu: u64) -> Outcome {
        let most = self.port.mtu();
        match mtu {
            _ if mtu < LEAST_GUEST_MTU => Err(refused(format!("{mtu} is no MTU"))),
            _ if mtu > u64::from(most) => Err(refused(format!(
                "the guest is given an MTU of {mtu}, the topology {most}: set \"mtu\": {mtu} there, or \
                 host_mtu={most} at the VMM"
            ))),
            _ => Ok(Answer::Done),
        }
    }

    fn set_protocol(&mut self, features: u64) -> Outcome {
        if features & !OFFERED_PROTOCOL.bits() != 0 {
            return Err(refused(format!("protocol features {features:#x} were not offered")));
        }
        self.protocol = features;
        Ok(Answer::Done)
    }

    fn set_status(&mut self, status: u64) -> Outcome {
        self.status = status;
        // Zero is the driver's reset (virtio 1.3, 2.4.2).
        if status == 0 { self.reset() } else { Ok(Answer::Done) }
    }

    /// Stops both rings and forgets that they were started. Whether they are enabled stays: QEMU
    /// enables them before it sends the status.
    fn reset(&mut self) -> Outcome {
        self.rings.iter_mut().for_each(|ring| ring.started = false);
        self.sync([true; RINGS])
    }

    fn ring_index(&self, index: u32) -> Result<usize, RequestError> {
        match index as usize {
            index @ (RX_RING | TX_RING) => Ok(index),
            index => Err(refused(format!("there is no ring {index}"))),
        }
    }

    fn set_size(&mut self, state: VhostUserVringState) -> Outcome {
        let index = self.ring_index(state.index)?;
        self.rings[index].size = state.num;
        self.sync_ring(index)
    }

    /// Remembered for a ring that is asked for its position before it runs.
    fn set_base(&mut self, state: VhostUserVringState) -> Outcome {
        let index = self.ring_index(state.index)?;
        let number = state.num;
        let position = u16::try_from(number);
        let position = position.map_err(|_| refused(format!("{number} is no position")))?;
        self.rings[index].position = position;
        Ok(Answer::Done)
    }

    fn set_addresses(&mut self, address: VhostUserVringAddr) -> Outcome {
        let index = self.ring_index(address.index)?;
        let ring = &mut self.rings[index];
        ring.addresses = Some([address.descriptor, address.available, address.used]);
        ring.used_in_log = log::used_address(&address);
        self.sync_ring(index)
    }

    fn enable(&mut self, state: VhostUserVringState) -> Outcome {
        let index = self.ring_index(state.index)?;
        self.rings[index].enabled = Some(state.num != 0);
        self.sync_ring(index)
    }

    fn set_descriptor(&mut self, request: FrontendReq, message: &mut Message) -> Outcome {
        let value = message.value::<VhostUserU64>()?.value;
        let fd = message.single_file()?;
        if fd.is_some() == (value & NO_DESCRIPTOR != 0) {
            return Err(ConnectionError::Malformed("a descriptor too many or too few").into());
        }
        let index = self.ring_index((value & RING_MASK) as u32)?;
        let ring = &mut self.rings[index];
        match request {
            FrontendReq::SET_VRING_KICK => {
                ring.kick = Some(fd.map_or_else(Kick::none, Kick::new));
                ring.started = true;
            }
            FrontendReq::SET_VRING_CALL => {
                ring.call = fd.and_then(Call::new).unwrap_or_default();
                // An earlier back-end may have owed the guest an interrupt.
                ring.call.signal();
            }
            _ => ring.error = fd.and_then(Call::new).unwrap_or_default(),
        }
        self.sync_ring(index)
    }

    fn stop_ring(&mut self, index: u32) -> Outcome {
        let index = self.ring_index(index)?;
        let ring = &mut self.rings[index];
        ring.started = false;
        // Disabled only for the stop, as by a driver's reset: what the guest sends between the next
        // start and the enable that follows is not to be thrown away.
        ring.enabled = ring.enabled.filter(|enabled| *enabled);
        self.sync_ring(index)?;
        let position = u32::from(self.rings[index].position);
        let state = VhostUserVringState::new(index as u32, position);
        Ok(Answer::Reply(state.as_slice().to_vec()))
    }

    /// The part of the configuration space that was asked for.
    fn get_config(&self, message: &Message) -> Outcome {
        let head: ConfigHead = message.value_at(0).ok_or(BAD_SIZE)?;
        let (offset, size) = (head.offset as usize, head.size as usize);
        if message.body.len() != size_of::<ConfigHead>() + size {
            return Err(BAD_SIZE.into());
        }
        let mut config = [0; CONFIG_BYTES];
        config[..6].copy_from_slice(&self.mac);
        config[6..8].copy_from_slice(&LINK_UP.to_le_bytes());
        config[8..10].copy_from_slice(&1u16.to_le_bytes());
        config[10..].copy_from_slice(&self.port.mtu().to_le_bytes());
        let mut body = head.as_slice().to_vec();
        // Fields behind ours belong to features that were not offered: zeroes.
        body.extend((offset..offset + size).map(|at| config.get(at).copied().unwrap_or(0)));
        Ok(Answer::Reply(body))
    }

    fn sync_ring(&mut self, index: usize) -> Outcome {
        let mut which = [false; RINGS];
        which[index] = true;
        self.sync(which)
    }

    /// Makes the switchboard's rings those that were described; waits for its loop boundary.
    fn sync(&mut self, which: [bool; RINGS]) -> Outcome {
        let mut refusal = None;
        let mut changes = [RingChange::Keep, RingChange::Keep];
        for index in (0..RINGS).filter(|index| which[*index]) {
            changes[index] = self.build(index).unwrap_or_else(|why| {
                refusal = Some(why);
                RingChange::Stop
            });
        }
        self.change(changes)?;
        refusal.map_or(Ok(Answer::Done), |why| Err(RequestError::Refused(why)))
    }

    /// Swaps the guest's memory; rings that run are started anew in it, or stop while it lacks
    /// them. That is no refusal: a front-end may take a region away and add its successor right
    /// after.
    fn use_regions(&mut self, regions: Regions) -> Outcome {
        self.memory = match regions.mapped() {
            [] => None,
            mapped => Some(Arc::new(GuestMemory::new(mapped).map_err(refused)?)),
        };
        self.tell_left_out(&regions);
        self.regions = regions;
        let changes = [0, 1].map(|index| {
            self.build(index).unwrap_or_else(|why| {
                tracing::debug!(ring = index, why, "a virtqueue waits for its memory");
                RingChange::Stop
            })
        });
        self.change(changes)
    }

    /// Tells once of memory that cannot be used.
    fn tell_left_out(&mut self, regions: &Regions) {
        let Some(region) = regions.left_out() else { return };
        if !std::mem::replace(&mut self.told_left_out, true) {
            tracing::warn!(
                address = region.guest_address,
                bytes = region.bytes,
                "a region of the guest's memory is left out, because it is not a memfd or a file on \
                 tmpfs or hugetlbfs: frames that lie in it are lost"
            );
        }
    }

    /// Takes a log of written pages into use. This is always answered: the front-end waits until
    /// the log before is free.
    fn set_log_base(&mut self, message: &mut Message) -> Outcome {
        let log = self.log.set_base(self.protocol, message, &self.regions)?;
        self.sync([true; RINGS])?;
        if self.log.take_missed() {
            self.mark_everything(&log);
        }
        reply(0)
    }

    /// Marks all that may have been written while there was no log.
    fn mark_everything(&self, log: &DirtyLog) {
        for region in self.regions.mapped() {
            log.mark(region.spec().guest_address, region.spec().bytes);
        }
        for ring in &self.rings {
            if let Some(address) = ring.used_in_log {
                log.mark(address, 6 + 8 * u64::from(ring.size));
            }
        }
    }

    /// Has the switchboard change its rings, and waits for its loop boundary.
    fn change(&mut self, changes: [RingChange; RINGS]) -> Outcome {
        let starts = changes.iter().any(|change| matches!(change, RingChange::Start(_)));
        if starts && self.wants_marks() {
            self.log.note_marks_wanted();
        }
        let done = self.port.set_rings(changes).map_err(refused)?;
        for (ring, position) in self.rings.iter_mut().zip(done.positions) {
            ring.position = position.unwrap_or(ring.position);
        }
        Ok(Answer::Done)
    }

    /// Returns true if any write is to be marked in a log.
    fn wants_marks(&self) -> bool {
        self.features & LOG_ALL != 0 || self.rings.iter().any(|ring| ring.used_in_log.is_some())
    }

    /// The change by which a ring becomes what was described: it starts if all of it is known and
    /// it was started, and else it stops.
    fn build(&self, index: usize) -> Result<RingChange, String> {
        let (features, memory) = (self.features, self.memory.as_ref());
        let vring = self.rings[index].build(&Common { features, memory, log: &self.log })?;
        Ok(vring.map_or(RingChange::Stop, |vring: Vring| RingChange::Start(Box::new(vring))))
    }
}

impl Drop for Session {
    /// Stops the rings: nothing of a front-end that is gone is touched any more.
    fn drop(&mut self) {
        if let Err(error) = self.port.set_rings([RingChange::Stop, RingChange::Stop]) {
            tracing::warn!(%error, "the rings of a front-end that is gone are stopped late");
        }
    }
}

const REPLY_ACK: u64 = vhost::vhost_user::VhostUserProtocolFeatures::REPLY_ACK.bits();
