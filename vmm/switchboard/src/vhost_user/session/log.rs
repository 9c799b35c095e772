//! The log of written pages, and what is marked in it.
//!
//! A front-end that moves its guest sends SET_LOG_BASE, then `VHOST_F_LOG_ALL` among the features
//! and `VHOST_VRING_F_LOG` with each ring's addresses, all while the rings run. Each starts the rings
//! anew as any other change does, so that when it is answered the switchboard marks in the new log,
//! and touches the one before no more.

use std::fs::File;
use std::sync::Arc;

use vhost::vhost_user::VhostUserProtocolFeatures as Protocol;
use vhost::vhost_user::message::{VhostUserLog, VhostUserVringAddr, VhostUserVringAddrFlags};

use super::{Answer, Refusal, Ring, Session, reply};
use crate::port::{Call, DirtyLog, Marks, RINGS};
use crate::vhost_user::message::{ConnectionError, Message};
use crate::vhost_user::request::LOG_ALL;

/// What a front-end has said of its log.
#[derive(Default)]
pub(super) struct Log {
    base: Option<Arc<DirtyLog>>,
    call: Call,
    /// Rings that were to be marked have run without a place for it.
    missed: bool,
    /// It has been said that a log is too short.
    warned: bool,
}

impl Log {
    /// Whether the log was truncated, as far as marks have shown.
    pub(super) fn is_truncated(&self) -> bool {
        self.base.as_ref().is_some_and(|log| log.is_truncated())
    }
}

/// The address that a used ring has in the log, if it is to be marked.
pub(super) fn used_address(address: &VhostUserVringAddr) -> Option<u64> {
    let is_marked = address.flags & VhostUserVringAddrFlags::VHOST_VRING_F_LOG.bits() != 0;
    is_marked.then_some(address.log)
}

impl Session {
    /// Takes a log into use. Answered always: the front-end waits until the one before is free.
    pub(super) fn set_log_base(
        &mut self,
        message: &mut Message,
    ) -> Result<Result<Answer, Refusal>, ConnectionError> {
        if self.protocol & Protocol::LOG_SHMFD.bits() == 0 {
            return Ok(Err("shared memory for logs was not negotiated".into()));
        }
        let log: VhostUserLog = message.value()?;
        let Some(file) = message.single_file()? else {
            return Err(ConnectionError::Malformed("a log without a descriptor"));
        };
        Ok(self.use_log(log, &File::from(file)))
    }

    fn use_log(&mut self, log: VhostUserLog, file: &File) -> Result<Answer, Refusal> {
        let log = DirtyLog::map(log.mmap_size, log.mmap_offset, file).map_err(|e| e.to_string())?;
        let log = Arc::new(log);
        self.warn_of_short_log(&log);
        self.log.base = Some(log.clone());
        self.sync([true; RINGS])?;
        if std::mem::take(&mut self.log.missed) {
            self.mark_everything(&log);
        }
        reply(0)
    }

    pub(super) fn set_log_call(
        &mut self,
        message: &mut Message,
    ) -> Result<Result<Answer, Refusal>, ConnectionError> {
        let Some(fd) = message.single_file()? else {
            return Err(ConnectionError::Malformed("no descriptor for the log's changes"));
        };
        self.log.call = Call::new(fd).unwrap_or_default();
        Ok(self.sync([true; RINGS]))
    }

    /// What a ring's writes leave in the log.
    pub(super) fn marks(&self, ring: &Ring) -> Marks {
        let log = &self.log.base;
        Marks {
            frames: log.clone().filter(|_| self.features & LOG_ALL != 0),
            used: log.clone().zip(ring.used_in_log),
            call: self.log.call.clone(),
        }
    }

    /// Notes that rings run from here on, which may have to be marked and cannot be. QEMU starts
    /// them so when its guest is reset, or its back-end restarted, in the middle of a migration.
    pub(super) fn note_missing_marks(&mut self) {
        let wanted =
            self.features & LOG_ALL != 0 || self.rings.iter().any(|it| it.used_in_log.is_some());
        self.log.missed |= wanted && self.log.base.is_none();
    }

    /// Marks all that may have been written while there was no log.
    fn mark_everything(&self, log: &DirtyLog) {
        for region in &self.regions {
            log.mark(region.spec().guest_address, region.spec().bytes);
        }
        for ring in &self.rings {
            if let Some(address) = ring.used_in_log {
                log.mark(address, 6 + 8 * u64::from(ring.size));
            }
        }
    }

    /// The document leaves it to the front-end that its log covers the guest's memory. One that does
    /// not will move a damaged guest, which should be said by somebody.
    fn warn_of_short_log(&mut self, log: &DirtyLog) {
        let ends = self.regions.iter().map(|it| it.spec().guest_address + it.spec().bytes);
        let (memory_end, log_end) = (ends.max().unwrap_or(0), log.end());
        if log_end < memory_end && !std::mem::replace(&mut self.log.warned, true) {
            tracing::warn!(
                log_end,
                memory_end,
                "the log of written pages ends before the guest's memory"
            );
        }
    }
}
