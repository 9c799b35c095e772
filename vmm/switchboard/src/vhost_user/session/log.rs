//! The log of written pages, and what is marked in it.
//!
//! A front-end that moves its guest sends SET_LOG_BASE, then `VHOST_F_LOG_ALL` among the features
//! and `VHOST_VRING_F_LOG` with each ring's addresses, all while the rings run. Each starts the
//! rings anew as any other change does, so that when it is answered the switchboard marks in the
//! new log, and touches the one before no more.

use std::sync::Arc;

use vhost::vhost_user::VhostUserProtocolFeatures as Protocol;
use vhost::vhost_user::message::{VhostUserLog, VhostUserVringAddr, VhostUserVringAddrFlags};

use super::answer::{RequestError, refused};
use super::regions::Regions;
use crate::port::{Call, DirtyLog, GuestMemoryError, MAX_MAPPED_BYTES, MappedRegion, Marks};
use crate::vhost_user::message::{ConnectionError, Message};

/// What a front-end has said of its log.
#[derive(Default)]
pub(super) struct Log {
    base: Option<Arc<DirtyLog>>,
    call: Call,
    /// Rings that were to be marked have run without a place for it.
    missed: bool,
    /// A warning that a log is too short was given.
    warned: bool,
}

impl Log {
    /// Bytes that are mapped for it.
    pub(super) fn bytes(&self) -> u64 {
        self.base.as_ref().map_or(0, |log| log.bytes())
    }

    /// Returns true if the log was truncated, as far as marks have shown.
    pub(super) fn is_truncated(&self) -> bool {
        self.base.as_ref().is_some_and(|log| log.is_truncated())
    }

    /// What a ring's writes leave in the log: for received frames, and for its used ring, if that
    /// has an address there.
    pub(super) fn marks(&self, frames: bool, used_in_log: Option<u64>) -> Marks {
        Marks {
            frames: self.base.clone().filter(|_| frames),
            used: self.base.clone().zip(used_in_log),
            call: self.call.clone(),
        }
    }

    /// Takes the log of SET_LOG_BASE into use, for a guest with this memory. Returns it.
    pub(super) fn set_base(
        &mut self,
        protocol: u64,
        message: &mut Message,
        regions: &Regions,
    ) -> Result<Arc<DirtyLog>, RequestError> {
        if protocol & Protocol::LOG_SHMFD.bits() == 0 {
            return Err(refused("shared memory for logs was not negotiated"));
        }
        let log: VhostUserLog = message.value()?;
        let Some(file) = message.single_file()? else {
            return Err(malformed("a log without a descriptor"));
        };
        if log.mmap_size > MAX_MAPPED_BYTES - regions.mapped_bytes() {
            return Err(refused(GuestMemoryError::TooMuch));
        }
        let log = DirtyLog::map(log.mmap_size, log.mmap_offset, &file);
        let log = Arc::new(log.map_err(refused)?);
        self.warn_if_short(&log, regions.mapped());
        self.base = Some(log.clone());
        Ok(log)
    }

    /// Takes the descriptor of SET_LOG_FD, which is signalled after marks.
    pub(super) fn set_call(&mut self, message: &mut Message) -> Result<(), RequestError> {
        let Some(fd) = message.single_file()? else {
            return Err(malformed("no descriptor for the log's changes"));
        };
        self.call = Call::new(fd).unwrap_or_default();
        Ok(())
    }

    /// Notes that rings run from here on which are to be marked, and cannot be while there is no
    /// log. QEMU starts them so when its guest is reset, or its back-end restarted, in the middle
    /// of a migration.
    pub(super) fn note_marks_wanted(&mut self) {
        self.missed |= self.base.is_none();
    }

    /// Returns true if marks were missed since the last call.
    pub(super) fn take_missed(&mut self) -> bool {
        std::mem::take(&mut self.missed)
    }

    /// The vhost-user document leaves it to the front-end that its log covers the guest's memory.
    /// One that does not will move a damaged guest, so a line in our log says it.
    fn warn_if_short(&mut self, log: &DirtyLog, regions: &[Arc<MappedRegion>]) {
        let ends = regions.iter().map(|it| it.spec().guest_address + it.spec().bytes);
        let (memory_end, log_end) = (ends.max().unwrap_or(0), log.end());
        if log_end < memory_end && !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(
                log_end,
                memory_end,
                "the log of written pages ends before the guest's memory"
            );
        }
    }
}

/// The address that a used ring has in the log, if it is to be marked.
pub(super) fn used_address(address: &VhostUserVringAddr) -> Option<u64> {
    let is_marked = address.flags & VhostUserVringAddrFlags::VHOST_VRING_F_LOG.bits() != 0;
    is_marked.then_some(address.log)
}

fn malformed(what: &'static str) -> RequestError {
    RequestError::Fatal(ConnectionError::Malformed(what))
}
