//! One ring as a front-end described it, and the virtqueue that follows from that.

use std::sync::Arc;

use super::log::Log;
use crate::port::{Call, GuestMemory, Kick, Offloads, Vring, VringConfig};
use crate::vhost_user::request::{
    self, CSUM, EVENT_IDX, HOST_TSO4, HOST_TSO6, LOG_ALL, MRG_RXBUF, VERSION_1,
};

/// One ring as the front-end described it.
#[derive(Default)]
pub(super) struct Ring {
    pub(super) size: u32,
    /// Descriptors, available, used, in the front-end's own address space.
    pub(super) addresses: Option<[u64; 3]>,
    /// Where the used ring's marks go in the log, if there are to be any.
    pub(super) used_in_log: Option<u64>,
    pub(super) kick: Option<Kick>,
    pub(super) call: Call,
    pub(super) error: Call,
    /// As SET_VRING_ENABLE said last; forgotten if it said no before a stop.
    pub(super) enabled: Option<bool>,
    /// Between SET_VRING_KICK and GET_VRING_BASE.
    pub(super) started: bool,
    /// Position of the last stop, for GET_VRING_BASE of a ring that does not run.
    pub(super) position: u16,
}

/// What all rings of a session depend on.
pub(super) struct Common<'a> {
    pub(super) features: u64,
    pub(super) memory: Option<&'a Arc<GuestMemory>>,
    pub(super) log: &'a Log,
}

impl Ring {
    /// The virtqueue as it should run, if all of it is known and it was started.
    ///
    /// # Errors
    /// Why it cannot run, in words.
    pub(super) fn build(&self, common: &Common<'_>) -> Result<Option<Vring>, String> {
        let (true, Some(memory), Some(addresses), Some(kick)) =
            (self.started, common.memory, self.addresses, &self.kick)
        else {
            return Ok(None);
        };
        let [descriptors, available, used] = guest_addresses(memory, addresses)?;
        let has = |feature| common.features & feature != 0;
        let config = VringConfig {
            size: self.size,
            descriptors,
            available,
            used,
            memory: memory.clone(),
            kick: kick.clone(),
            call: self.call.clone(),
            error: self.error.clone(),
            enabled: self.enabled.unwrap_or(true),
            event_idx: has(EVENT_IDX),
            mergeable: has(MRG_RXBUF),
            header_bytes: if has(VERSION_1) || has(MRG_RXBUF) { 12 } else { 10 },
            offloads: Offloads { checksums: has(CSUM), tcp4: has(HOST_TSO4), tcp6: has(HOST_TSO6) },
            marks: common.log.marks(has(LOG_ALL), self.used_in_log),
        };
        let vring = Vring::new(config).map_err(|error| error.to_string())?;
        // The switchboard hears only of faults that happen while it has the ring. One that was
        // mended before would leave it with a page of zeroes that the guest does not have.
        if memory.is_truncated() || common.log.is_truncated() {
            return Err("the guest's memory or its log was truncated".to_owned());
        }
        // Without protocol features there is no SET_VRING_ENABLE: started is enabled. With them a
        // ring begins disabled, and what is in a disabled transmit ring is to be thrown away. But
        // most front-ends enable rings only after they have started them: what a guest had sent
        // when its back-end went away would be lost. So a ring runs when it is enabled first.
        let waits = self.enabled.is_none() && has(request::PROTOCOL_FEATURES);
        Ok((!waits).then_some(vring))
    }
}

fn guest_addresses(memory: &GuestMemory, addresses: [u64; 3]) -> Result<[u64; 3], String> {
    let mut guest = [0; 3];
    for (to, from) in guest.iter_mut().zip(addresses) {
        *to = memory
            .guest_address(from)
            .ok_or_else(|| format!("ring address {from:#x} lies outside the guest's memory"))?;
    }
    Ok(guest)
}
