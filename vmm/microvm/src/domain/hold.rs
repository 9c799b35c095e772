//! Keeping a vCPU out of the guest for a while, and having its thread look at it meanwhile.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Instant;

use super::life_state::LifeState;
use super::vcpu_state::VcpuState;
use crate::kvm::MicroVm;
use platform::budget::{HELD_VCPU_DEADLINE, HELD_VCPU_RETRY};

/// Why a held vCPU could not be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// It was let go, because the service needs the domain, or its life is over.
    #[error("the domain was let go: it has to serve, or its life has ended")]
    Released,
    /// It did not stop, or its thread was not run, in time.
    #[error("the domain did not stop in time")]
    TimedOut,
}

/// Keeps a vCPU out of the guest as long as it lives, or until the domain has to serve.
#[must_use = "dropped, it lets the vCPU in again"]
pub struct Hold {
    life: Arc<LifeState>,
    generation: u32,
}

impl Hold {
    /// Has the vCPU leave the guest. Does not wait for it.
    pub(super) fn begin(life: &Arc<LifeState>) -> Self {
        let generation = life.holds.add();
        life.kicker.kick();
        Self { life: life.clone(), generation }
    }

    /// A hold that the vCPU thread has begun.
    pub(super) fn adopt(life: &Arc<LifeState>, generation: u32) -> Self {
        Self { life: life.clone(), generation }
    }

    /// Returns true if the vCPU was let go all the same: the domain has to serve, or its life is
    /// over.
    pub fn is_released(&self) -> bool {
        !self.life.holds.is_current(self.generation) || self.life.is_stopped()
    }

    /// Runs `task` on the vCPU's thread while it is held; that thread has a high priority, so `task`
    /// must be short and wait for nothing.
    ///
    /// # Errors
    /// The hold is broken, or the vCPU does not stop in time.
    pub fn on_vcpu_thread<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut MicroVm) -> T + Send + 'static,
    ) -> Result<T, HoldError> {
        let holds = &self.life.holds;
        let _turn = holds.take_turn();
        let (answer, answered) = sync_channel(1);
        holds.set_task(Box::new(move |vm| {
            // Whoever asked may have given up.
            let _ = answer.send(task(vm));
        }));
        let end = Instant::now() + HELD_VCPU_DEADLINE;
        loop {
            if self.is_released() {
                holds.withdraw_task();
                return Err(HoldError::Released);
            }
            // Again each time: a vCPU on its way out of the guest may have ignored it.
            holds.announce_task();
            match answered.recv_timeout(HELD_VCPU_RETRY) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Timeout) if Instant::now() < end => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    holds.withdraw_task();
                    return Err(HoldError::TimedOut);
                }
            }
        }
    }

    /// Waits until the vCPU stands still.
    ///
    /// # Errors
    /// As [`Self::on_vcpu_thread`].
    pub fn wait_until_held(&self) -> Result<(), HoldError> {
        if self.life.vcpu() == VcpuState::Held {
            return Ok(());
        }
        self.on_vcpu_thread(|_| ())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.life.holds.end(self.generation);
    }
}
