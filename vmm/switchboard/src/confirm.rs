//! Which frames a NIC really sent.
//!
//! A domain's word frees nothing: a claimed frame is confirmed by the NIC's own count of good
//! frames, taken while its link was up. (QEMU's model counts and completes frames on a dead link;
//! what was counted between two looks of which one saw the link down is therefore sent again.)

use super::counters::Counters;
use super::transmit::TxPool;
use super::violation::Violation;
use nic::Nic;
use platform::budget::CONFIRM_TICK;

/// Frames beyond those posted that a NIC may have counted at successive looks. It counts nothing but
/// what it was given, so any is one too many; a wrong transmit tail makes it send hundreds of old
/// descriptors, while a management controller on the same NIC adds one or two now and then.
const SURPLUS_LIMIT: u32 = 8;

/// What is known of the active NIC's transmissions.
#[derive(Debug, Default)]
pub(crate) struct Confirmations {
    link_was_up: bool,
    /// Frames counted while the link was down, that were not sent again yet.
    lost: u32,
    /// Frames beyond those posted, counted at the last looks in a row.
    surplus: u32,
    due_ns: Option<u64>,
}

impl Confirmations {
    /// Begins with a NIC: what it sent before is not ours.
    pub(crate) fn begin(&mut self, nic: &dyn Nic) {
        nic.take_sent();
        *self = Self { link_was_up: true, ..Self::default() };
    }

    /// When to ask the NIC next.
    pub(crate) fn due_ns(&self) -> Option<u64> {
        self.due_ns
    }

    /// Something was claimed: makes sure that the NIC is asked, at `now_ns` plus a tick.
    pub(crate) fn schedule(&mut self, now_ns: u64) {
        if self.due_ns.is_none() {
            self.due_ns = Some(now_ns + CONFIRM_TICK.as_nanos() as u64);
        }
    }

    /// Asks the NIC.
    ///
    /// # Errors
    /// It sent more than it was given: which of the frames, nobody knows, so none is confirmed.
    pub(crate) fn ask(
        &mut self,
        nic: &dyn Nic,
        tx: &mut TxPool,
        now_ns: u64,
        counters: &Counters,
    ) -> Result<(), Violation> {
        self.due_ns = None;
        let sent = nic.take_sent();
        let up = nic.link_up();
        let was_up = std::mem::replace(&mut self.link_was_up, up);
        if up && was_up {
            let again = tx.send_again(self.lost);
            self.lost = if tx.unconfirmed() == 0 { 0 } else { self.lost - again as u32 };
            self.surplus = match tx.surplus(sent) {
                0 => 0,
                more => self.surplus.saturating_add(more),
            };
            if self.surplus >= SURPLUS_LIMIT {
                return Err(Violation::Surplus { frames: self.surplus });
            }
            counters.tx_confirmed.add(tx.confirm(sent));
        } else {
            self.lost = self.lost.saturating_add(sent);
        }
        if tx.has_claimed() {
            self.schedule(now_ns);
        }
        Ok(())
    }

    /// Asks a NIC whose domain failed, for the last time. Says how many frames that confirmed. What
    /// is counted before a driver is `attached` is another's.
    pub(crate) fn finish(
        &mut self,
        nic: &dyn Nic,
        attached: bool,
        tx: &mut TxPool,
        counters: &Counters,
    ) -> u64 {
        let sent = nic.take_sent();
        let good =
            attached && nic.link_up() && self.link_was_up && (self.lost, self.surplus) == (0, 0);
        *self = Self::default();
        let confirmed = if good { tx.confirm(sent) } else { 0 };
        counters.tx_confirmed.add(confirmed);
        confirmed
    }
}
