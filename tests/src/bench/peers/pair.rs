//! Two igb NICs in the Linux guest, and something in the guest that chooses between them: the
//! kernel's bonding, or a program that watches the links. The fault is a pulled cable, the only one
//! that either can detect. The cable is pulled at both ends: QEMU's igb keeps frames that arrive
//! while a link is down, and delivers them when the link returns.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::felt::Event;
use crate::realguest::guest::LinuxGuest;
use crate::realguest::lan::{Lan, TAPS};
use crate::realguest::network::PAIR;

/// How long links may take to come up: QEMU's igb negotiates for half a second, and Linux's driver
/// checks the link every two seconds.
const CARRIER_DEADLINE: Duration = Duration::from_secs(15);

/// The event that the cable of the NIC in use is pulled.
pub(super) struct Pulled<'a> {
    guest: &'a mut LinuxGuest,
    lan: &'a Lan,
    active: usize,
}

impl<'a> Pulled<'a> {
    /// Waits until both NICs are up, and prepares the event.
    pub(super) fn new(guest: &'a mut LinuxGuest, lan: &'a Lan) -> Result<Self> {
        wait_carriers(guest)?;
        let active = active(guest)?;
        Ok(Self { guest, lan, active })
    }
}

impl Event for Pulled<'_> {
    fn strike(&mut self) -> Result<()> {
        self.guest.set_link(PAIR[self.active], false)?;
        self.lan.bridge().ip(&format!("link set {} down", TAPS[self.active]))
    }

    fn mend(&mut self) -> Result<()> {
        let failed = std::mem::replace(&mut self.active, active(self.guest)?);
        ensure!(self.active != failed, "the guest still uses the NIC without a cable");
        self.lan.bridge().ip(&format!("link set {} up", TAPS[failed]))?;
        self.guest.set_link(PAIR[failed], true)?;
        wait_carriers(self.guest)
    }
}

fn active(guest: &mut LinuxGuest) -> Result<usize> {
    let active: usize = guest.ask("active")?.parse()?;
    ensure!(active < PAIR.len(), "no such NIC: {active}");
    Ok(active)
}

fn wait_carriers(guest: &mut LinuxGuest) -> Result<()> {
    let end = Instant::now() + CARRIER_DEADLINE;
    while guest.ask("carriers")? != "2" {
        ensure!(Instant::now() < end, "a link of the guest does not come back");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
