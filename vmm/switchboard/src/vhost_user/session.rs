//! One connection's state: what the front-end has said, and the rings that follow from it.
//!
//! A ring runs from SET_VRING_KICK to GET_VRING_BASE, as soon and as long as it has a size,
//! addresses and memory, and has been enabled once. Every change of something that a running ring
//! depends on starts it anew at a loop boundary of the switchboard, before the reply: chains are
//! used when they are copied, so nothing is in flight there, and the position is the used index
//! that stands in guest memory. A ring therefore goes on where it stopped, after a reconnect too:
//! unfinished descriptors are neither skipped nor run twice. SET_VRING_BASE has nothing to add to
//! that; it is only told back if the ring never runs.

use std::sync::Arc;

use vhost::vhost_user::message::{
    FrontendReq, VhostUserConfig as ConfigHead, VhostUserU64, VhostUserVringAddr,
    VhostUserVringState,
};
use vm_memory::ByteValued;

use super::message::{BAD_SIZE, ConnectionError, Message};
use super::request::{
    self, CSUM, EVENT_IDX, FEATURES, HOST_TSO4, HOST_TSO6, MRG_RXBUF, OFFERED_PROTOCOL, VERSION_1,
};
use crate::command::RingChange;
use crate::port::{
    Call, GuestMemory, Kick, MAX_REGIONS, MappedRegion, Offloads, RINGS, RX_RING, TX_RING, Vring,
    VringConfig,
};
use crate::port_handle::PortHandle;

/// Low bits of SET_VRING_KICK, CALL and ERR: the ring. Above: no descriptor follows.
const RING_MASK: u64 = 0xff;
const NO_DESCRIPTOR: u64 = 1 << 8;
/// `struct virtio_net_config` up to `max_virtqueue_pairs` (virtio 1.3, 5.1.4).
const CONFIG_BYTES: usize = 10;
/// `VIRTIO_NET_S_LINK_UP`.
const LINK_UP: u16 = 1;

/// What a request comes to.
enum Answer {
    /// Done; an acknowledgement if one was asked for.
    Done,
    /// This body.
    Reply(Vec<u8>),
}

/// A request that makes no sense now, in words.
type Refusal = String;

/// One ring as the front-end described it.
#[derive(Default)]
struct Ring {
    size: u32,
    /// Descriptors, available, used, in the front-end's own address space.
    addresses: Option<[u64; 3]>,
    /// Where the used ring's marks go in the log, if there are to be any.
    used_in_log: Option<u64>,
    kick: Option<Kick>,
    call: Call,
    error: Call,
    /// As SET_VRING_ENABLE said last.
    enabled: Option<bool>,
    /// Between SET_VRING_KICK and GET_VRING_BASE.
    started: bool,
    /// Position of the last stop, for GET_VRING_BASE of a ring that does not run.
    position: u16,
}

/// A front-end's session.
pub(super) struct Session {
    port: PortHandle,
    mac: [u8; 6],
    features: u64,
    protocol: u64,
    status: u64,
    regions: Vec<Arc<MappedRegion>>,
    memory: Option<Arc<GuestMemory>>,
    rings: [Ring; RINGS],
    log: log::Log,
    /// Requests that were refused.
    refusals: u32,
}

impl Session {
    pub(super) fn new(port: PortHandle, mac: [u8; 6]) -> Self {
        Self {
            port,
            mac,
            features: 0,
            protocol: 0,
            status: 0,
            regions: Vec::new(),
            memory: None,
            rings: Default::default(),
            log: log::Log::default(),
            refusals: 0,
        }
    }

    /// Carries a message out; the body of its reply, if it has one.
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
            Some(request) => self.dispatch(request, &mut message)?,
            None => Err("unknown".to_owned()),
        };
        let acknowledges = message.wants_reply
            && self.protocol & REPLY_ACK != 0
            && !request.is_some_and(request::has_own_reply);
        match outcome {
            Ok(Answer::Reply(body)) => Ok(Some(body)),
            Ok(Answer::Done) => Ok(acknowledges.then(|| u64_body(0))),
            Err(why) if acknowledges => {
                self.note_refusal(number, &why);
                Ok(Some(u64_body(1)))
            }
            Err(why) => Err(ConnectionError::Refused { request: number, why }),
        }
    }

    /// Refusals are worth a line, but not one for every request of a front-end gone wild.
    fn note_refusal(&mut self, request: u32, why: &str) {
        const LINES: u32 = 16;
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals <= LINES {
            tracing::warn!(request, why, "a vhost-user request was refused");
        }
    }

    fn dispatch(
        &mut self,
        request: FrontendReq,
        message: &mut Message,
    ) -> Result<Result<Answer, Refusal>, ConnectionError> {
        use FrontendReq as R;
        Ok(match request {
            R::GET_FEATURES => reply(FEATURES),
            R::SET_FEATURES => self.set_features(message.value::<VhostUserU64>()?.value),
            R::GET_PROTOCOL_FEATURES => reply(OFFERED_PROTOCOL.bits()),
            R::SET_PROTOCOL_FEATURES => self.set_protocol(message.value::<VhostUserU64>()?.value),
            R::GET_QUEUE_NUM => reply(1),
            R::GET_MAX_MEM_SLOTS => reply(MAX_REGIONS as u64),
            R::SET_OWNER => Ok(Answer::Done),
            R::SET_MEM_TABLE => self.set_memory(message)?,
            R::ADD_MEM_REG => self.add_region(message)?,
            R::REM_MEM_REG => self.remove_region(message)?,
            R::SET_LOG_BASE => self.set_log_base(message)?,
            R::SET_LOG_FD => self.set_log_call(message)?,
            R::SET_VRING_NUM => self.set_size(message.value()?),
            R::SET_VRING_ADDR => self.set_addresses(message.value()?),
            R::SET_VRING_BASE => self.set_base(message.value()?),
            R::GET_VRING_BASE => self.stop_ring(message.value::<VhostUserVringState>()?.index),
            R::SET_VRING_KICK | R::SET_VRING_CALL | R::SET_VRING_ERR => {
                self.set_descriptor(request, message)?
            }
            R::SET_VRING_ENABLE => self.enable(message.value()?),
            R::GET_CONFIG => self.get_config(message)?,
            R::SET_STATUS => self.set_status(message.value::<VhostUserU64>()?.value),
            R::GET_STATUS => reply(self.status),
            R::RESET_OWNER | R::RESET_DEVICE => self.reset(),
            R::SEND_RARP => self.announce(message.value::<VhostUserU64>()?.value),
            _ => Err("not offered".into()),
        })
    }

    fn set_features(&mut self, features: u64) -> Result<Answer, Refusal> {
        if features & !FEATURES != 0 {
            return Err(format!("features {features:#x} were not offered"));
        }
        self.features = features;
        // Running rings depend on them; those of a front-end in good order do not run yet.
        self.sync([true; RINGS])
    }

    /// The guest has moved here, and does not say so itself: sent after a migration. The switchboard
    /// knows more than a MAC to announce.
    fn announce(&self, mac: u64) -> Result<Answer, Refusal> {
        let [a, b, c, d, e, f, ..] = mac.to_ne_bytes();
        if [a, b, c, d, e, f] != self.mac {
            return Err("that is not the guest's MAC address".into());
        }
        self.port.announce().map_err(|error| error.to_string())?;
        Ok(Answer::Done)
    }

    fn set_protocol(&mut self, features: u64) -> Result<Answer, Refusal> {
        if features & !OFFERED_PROTOCOL.bits() != 0 {
            return Err(format!("protocol features {features:#x} were not offered"));
        }
        self.protocol = features;
        Ok(Answer::Done)
    }

    fn set_status(&mut self, status: u64) -> Result<Answer, Refusal> {
        self.status = status;
        // Zero is the driver's reset (virtio 1.3, 2.4.2).
        if status == 0 { self.reset() } else { Ok(Answer::Done) }
    }

    /// Stops both rings and forgets that they were started. Whether they are enabled stays: QEMU
    /// enables them before it sends the status.
    fn reset(&mut self) -> Result<Answer, Refusal> {
        self.rings.iter_mut().for_each(|ring| ring.started = false);
        self.sync([true; RINGS])
    }

    fn ring_index(&self, index: u32) -> Result<usize, Refusal> {
        match index as usize {
            index @ (RX_RING | TX_RING) => Ok(index),
            index => Err(format!("there is no ring {index}")),
        }
    }

    fn set_size(&mut self, state: VhostUserVringState) -> Result<Answer, Refusal> {
        let index = self.ring_index(state.index)?;
        self.rings[index].size = state.num;
        self.sync_ring(index)
    }

    /// Remembered for a ring that is asked for its position before it runs.
    fn set_base(&mut self, state: VhostUserVringState) -> Result<Answer, Refusal> {
        let index = self.ring_index(state.index)?;
        let number = state.num;
        let position = u16::try_from(number).map_err(|_| format!("{number} is no position"))?;
        self.rings[index].position = position;
        Ok(Answer::Done)
    }

    fn set_addresses(&mut self, address: VhostUserVringAddr) -> Result<Answer, Refusal> {
        let index = self.ring_index(address.index)?;
        let ring = &mut self.rings[index];
        ring.addresses = Some([address.descriptor, address.available, address.used]);
        ring.used_in_log = log::used_address(&address);
        self.sync_ring(index)
    }

    fn enable(&mut self, state: VhostUserVringState) -> Result<Answer, Refusal> {
        let index = self.ring_index(state.index)?;
        self.rings[index].enabled = Some(state.num != 0);
        self.sync_ring(index)
    }

    fn set_descriptor(
        &mut self,
        request: FrontendReq,
        message: &mut Message,
    ) -> Result<Result<Answer, Refusal>, ConnectionError> {
        let value = message.value::<VhostUserU64>()?.value;
        let fd = message.single_file()?;
        if fd.is_some() == (value & NO_DESCRIPTOR != 0) {
            return Err(ConnectionError::Malformed("a descriptor too many or too few"));
        }
        let index = match self.ring_index((value & RING_MASK) as u32) {
            Ok(index) => index,
            Err(why) => return Ok(Err(why)),
        };
        let ring = &mut self.rings[index];
        match request {
            FrontendReq::SET_VRING_KICK => {
                ring.kick = Some(fd.map_or_else(Kick::none, Kick::new));
                ring.started = true;
            }
            FrontendReq::SET_VRING_CALL => {
                ring.call = fd.and_then(Call::new).unwrap_or_default();
                // Whoever served the ring before may have owed the guest an interrupt.
                ring.call.signal();
            }
            _ => ring.error = fd.and_then(Call::new).unwrap_or_default(),
        }
        Ok(self.sync_ring(index))
    }

    fn stop_ring(&mut self, index: u32) -> Result<Answer, Refusal> {
        let index = self.ring_index(index)?;
        self.rings[index].started = false;
        self.sync_ring(index)?;
        let position = u32::from(self.rings[index].position);
        let state = VhostUserVringState::new(index as u32, position);
        Ok(Answer::Reply(state.as_slice().to_vec()))
    }

    /// The part of the configuration space that was asked for.
    fn get_config(&self, message: &Message) -> Result<Result<Answer, Refusal>, ConnectionError> {
        let head: ConfigHead = message.value_at(0).ok_or(BAD_SIZE)?;
        let (offset, size) = (head.offset as usize, head.size as usize);
        if message.body.len() != size_of::<ConfigHead>() + size {
            return Err(BAD_SIZE);
        }
        let mut config = [0; CONFIG_BYTES];
        config[..6].copy_from_slice(&self.mac);
        config[6..8].copy_from_slice(&LINK_UP.to_le_bytes());
        config[8..].copy_from_slice(&1u16.to_le_bytes());
        let mut body = head.as_slice().to_vec();
        // Fields behind ours belong to features that were not offered: zeroes.
        body.extend((offset..offset + size).map(|at| config.get(at).copied().unwrap_or(0)));
        Ok(Ok(Answer::Reply(body)))
    }

    fn sync_ring(&mut self, index: usize) -> Result<Answer, Refusal> {
        let mut which = [false; RINGS];
        which[index] = true;
        self.sync(which)
    }

    /// Makes the switchboard's rings those that were described; waits for its loop boundary.
    fn sync(&mut self, which: [bool; RINGS]) -> Result<Answer, Refusal> {
        let mut refusal = None;
        let mut changes = [RingChange::Keep, RingChange::Keep];
        for index in (0..RINGS).filter(|index| which[*index]) {
            changes[index] = match self.build(index) {
                Ok(Some(vring)) => RingChange::Start(Box::new(vring)),
                Ok(None) => RingChange::Stop,
                Err(why) => {
                    refusal = Some(why);
                    RingChange::Stop
                }
            };
        }
        self.change(changes)?;
        refusal.map_or(Ok(Answer::Done), Err)
    }

    /// Has the switchboard change its rings, and waits for its loop boundary.
    fn change(&mut self, changes: [RingChange; RINGS]) -> Result<Answer, Refusal> {
        if changes.iter().any(|change| matches!(change, RingChange::Start(_))) {
            self.note_missing_marks();
        }
        let done = self.port.set_rings(changes).map_err(|error| error.to_string())?;
        for (ring, position) in self.rings.iter_mut().zip(done.positions) {
            ring.position = position.unwrap_or(ring.position);
        }
        Ok(Answer::Done)
    }

    /// The ring as it should run, if all of it is known and it was started.
    fn build(&self, index: usize) -> Result<Option<Vring>, Refusal> {
        let ring = &self.rings[index];
        let (true, Some(memory), Some(addresses), Some(kick)) =
            (ring.started, &self.memory, ring.addresses, &ring.kick)
        else {
            return Ok(None);
        };
        let mut guest = [0; 3];
        for (to, from) in guest.iter_mut().zip(addresses) {
            *to = memory
                .from_user_address(from)
                .ok_or_else(|| format!("ring address {from:#x} lies outside the guest's memory"))?;
        }
        let [descriptors, available, used] = guest;
        let has = |feature| self.features & feature != 0;
        let config = VringConfig {
            size: ring.size,
            descriptors,
            available,
            used,
            memory: memory.clone(),
            kick: kick.clone(),
            call: ring.call.clone(),
            error: ring.error.clone(),
            enabled: ring.enabled.unwrap_or(true),
            event_idx: has(EVENT_IDX),
            mergeable: has(MRG_RXBUF),
            header_bytes: if has(VERSION_1) || has(MRG_RXBUF) { 12 } else { 10 },
            offloads: Offloads { checksums: has(CSUM), tcp4: has(HOST_TSO4), tcp6: has(HOST_TSO6) },
            marks: self.marks(ring),
        };
        let vring = Vring::new(config).map_err(|error| error.to_string())?;
        // The switchboard hears only of faults that happen while it has the ring. One that was
        // mended before would leave it with a page of zeroes that the guest does not have.
        if memory.is_truncated() || self.log.is_truncated() {
            return Err("the guest's memory or its log was truncated".to_owned());
        }
        // Without protocol features there is no SET_VRING_ENABLE: started is enabled. With them a
        // ring begins disabled, and what is in a disabled transmit ring is to be thrown away. But
        // most front-ends enable rings only after they have started them: what a guest had sent
        // when its back-end went away would be lost. So a ring runs when it is enabled first.
        let waits = ring.enabled.is_none() && has(request::PROTOCOL_FEATURES);
        Ok((!waits).then_some(vring))
    }
}

impl Drop for Session {
    /// Nothing of a front-end that is gone is touched any more.
    fn drop(&mut self) {
        if let Err(error) = self.port.set_rings([RingChange::Stop, RingChange::Stop]) {
            tracing::warn!(%error, "the rings of a front-end that is gone could not be stopped");
        }
    }
}

const REPLY_ACK: u64 = vhost::vhost_user::VhostUserProtocolFeatures::REPLY_ACK.bits();

fn u64_body(value: u64) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}

fn reply(value: u64) -> Result<Answer, Refusal> {
    Ok(Answer::Reply(u64_body(value)))
}

mod log;
mod regions;
#[cfg(test)]
mod tests;
