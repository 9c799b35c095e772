//! The link: brought up where it is down, never disturbed where it is up.

use shared_ring::igb_registers::{self as reg, ctrl, ctrl_ext, mdic, phpm, phy, semaphore, status};

use super::{Igb, values};
use crate::bar::Registers;
use crate::budget;
use crate::clock::Clock;
use crate::error::DomainError;

impl<R: Registers> Igb<'_, R> {
    /// Has the link come up before anything else is done with the NIC, and touches nothing that is
    /// not the link's.
    ///
    /// # Errors
    /// The NIC is gone.
    pub fn prepare_link(&self, clock: &impl Clock) -> Result<(), DomainError> {
        let forced = ctrl::FRCSPD | ctrl::FRCDPLX | ctrl::RFCE | ctrl::TFCE;
        self.modify(reg::CTRL, forced, ctrl::SLU)?;
        self.start_link(clock).map(|_| ())
    }

    /// Starts negotiation if the link is down. Returns true if it is up. Does not wait for it: on
    /// copper that takes seconds, and the VMM watches the link anyway.
    ///
    /// A restart would drop a good link, for seconds on copper and half a second on QEMU, so one
    /// that is up is left alone.
    pub(super) fn start_link(&self, clock: &impl Clock) -> Result<bool, DomainError> {
        let up = || Ok(self.read(reg::STATUS)? & status::LU != 0);
        if clock.poll(budget::LINK_GLANCE_US, up)? {
            return Ok(true);
        }
        self.rejoin_link()?;
        let locked = self.lock_phy(clock)?;
        // Without PAUSE in what we advertise the partner cannot stop our transmitter.
        if let Some(abilities) = self.read_phy(phy::ANAR, clock)? {
            self.write_phy(phy::ANAR, abilities & !phy::ANAR_PAUSE, clock)?;
        }
        self.write_phy(phy::BMCR, values::BMCR, clock)?;
        if locked {
            self.unlock_phy()?;
        }
        Ok(false)
    }

    /// Takes back what keeps a PHY off its link: a link mode other than copper, and the disconnect
    /// that a board may be delivered with (i210 datasheet §3.7.8.5). Where there is no such register,
    /// it reads 0 and the write is lost.
    fn rejoin_link(&self) -> Result<(), DomainError> {
        self.modify(reg::CTRL_EXT, ctrl_ext::LINK_MODE, 0)?;
        self.modify(reg::PHPM, phpm::GO_LINK_DISCONNECT, 0)
    }

    fn read_phy(&self, register: u32, clock: &impl Clock) -> Result<Option<u16>, DomainError> {
        let answer = self.access_phy(mdic::READ | register << mdic::REGISTER_SHIFT, clock)?;
        Ok(answer.map(|word| word as u16))
    }

    fn write_phy(&self, register: u32, v: u16, clock: &impl Clock) -> Result<(), DomainError> {
        let word = mdic::WRITE | register << mdic::REGISTER_SHIFT | u32::from(v);
        self.access_phy(word, clock).map(|_| ())
    }

    /// One access to the internal PHY; `None` if it failed or took too long. Without it the link
    /// may stay down, which the VMM sees.
    fn access_phy(&self, word: u32, clock: &impl Clock) -> Result<Option<u32>, DomainError> {
        self.bar.write(reg::MDIC, word | mdic::INTERNAL_PHY);
        let mut answer = 0;
        let ended = clock.poll(budget::MDIC_US, || {
            answer = self.read(reg::MDIC)?;
            Ok(answer & mdic::READY != 0)
        })?;
        Ok((ended && answer & mdic::ERROR == 0).then_some(answer))
    }

    /// Takes the PHY from the firmware: the two bits of SWSM guard the word in which the PHY is
    /// marked as taken. A driver that died holding them left them set, so after the deadline they
    /// are cleared by force, once. Returns true if the PHY is ours; if not we use it nevertheless,
    /// because a firmware that never answers must not keep the link down.
    fn lock_phy(&self, clock: &impl Clock) -> Result<bool, DomainError> {
        if !self.lock_semaphore(clock)? {
            self.bar.write(reg::SWSM, 0);
            self.bar.write(reg::SW_FW_SYNC, 0);
            if !self.lock_semaphore(clock)? {
                return Ok(false);
            }
        }
        let owners = self.read(reg::SW_FW_SYNC)?;
        let free = owners & semaphore::FIRMWARE_PHY == 0;
        if free {
            self.bar.write(reg::SW_FW_SYNC, owners | semaphore::SOFTWARE_PHY);
        }
        self.bar.write(reg::SWSM, 0);
        Ok(free)
    }

    fn unlock_phy(&self) -> Result<(), DomainError> {
        self.modify(reg::SW_FW_SYNC, semaphore::SOFTWARE_PHY, 0)
    }

    fn lock_semaphore(&self, clock: &impl Clock) -> Result<bool, DomainError> {
        let among_drivers = || Ok(self.read(reg::SWSM)? & semaphore::SMBI == 0);
        if !clock.poll(budget::SEMAPHORE_US, among_drivers)? {
            return Ok(false);
        }
        clock.poll(budget::SEMAPHORE_US, || {
            self.bar.write(reg::SWSM, semaphore::SMBI | semaphore::SWESMBI);
            Ok(self.read(reg::SWSM)? & semaphore::SWESMBI != 0)
        })
    }
}
