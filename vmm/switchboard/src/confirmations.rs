//! Which frames a NIC really sent.
//!
//! A domain's word frees nothing: a claimed frame is confirmed by the NIC's own count of good
//! frames, taken while its link was up. QEMU's model counts and completes frames on a dead link;
//! frames that were counted between two samples of which one saw the link down are therefore sent
//! again.
//!
//! Invariant: every count that a NIC reports is used once, either to confirm or to send again.

use nic::Nic;
use platform::budget::CONFIRM_TICK;

use crate::counters::Counters;
use crate::tx_pool::TxLedger;
use crate::violation::Violation;

/// Frames beyond those posted that a NIC may have counted at successive samples. It should count
/// only frames that it was given; but while a wrong transmit tail makes it send hundreds of old
/// descriptors, a management controller on the same NIC adds one or two now and then.
const SURPLUS_LIMIT: u32 = 8;

/// What is known of the transmissions of the NIC that serves. Plain data; the transmit path is its
/// one writer.
#[derive(Debug, Default)]
pub(crate) struct Confirmations {
    link_was_up: bool,
    /// Frames counted while the link was down, that were not sent again yet.
    lost: u32,
    /// Frames beyond those posted, counted at the last samples in a row.
    surplus: u32,
    due_ns: Option<u64>,
}

impl Confirmations {
    /// Begins with a NIC: frames that it sent before are not the switchboard's.
    pub(crate) fn begin(&mut self, nic: &dyn Nic) {
        nic.take_sent();
        *self = Self { link_was_up: true, ..Self::default() };
    }

    /// When to ask the NIC next.
    pub(crate) fn due_ns(&self) -> Option<u64> {
        self.due_ns
    }

    /// Makes sure that the NIC is asked, because something was claimed: a tick after `now_ns`.
    pub(crate) fn schedule(&mut self, now_ns: u64) {
        if self.due_ns.is_none() {
            self.due_ns = Some(now_ns + CONFIRM_TICK.as_nanos() as u64);
        }
    }

    /// Asks the NIC.
    ///
    /// # Errors
    /// It sent more frames than it was given. Which of them were sent is not known, so none is
    /// confirmed.
    pub(crate) fn ask(
        &mut self,
        nic: &dyn Nic,
        ledger: &mut TxLedger,
        now_ns: u64,
        counters: &Counters,
    ) -> Result<(), Violation> {
        self.due_ns = None;
        let sent = nic.take_sent();
        let up = nic.link_up();
        let was_up = std::mem::replace(&mut self.link_was_up, up);
        if up && was_up {
            let again = ledger.send_again(self.lost);
            self.lost = if ledger.unconfirmed() == 0 { 0 } else { self.lost - again as u32 };
            self.surplus = match ledger.surplus(sent) {
                0 => 0,
                more => self.surplus.saturating_add(more),
            };
            if self.surplus >= SURPLUS_LIMIT {
                return Err(Violation::Surplus { frames: self.surplus });
            }
            counters.tx_confirmed.add(ledger.confirm(sent));
        } else {
            self.lost = self.lost.saturating_add(sent);
        }
        if ledger.has_claimed() {
            self.schedule(now_ns);
        }
        Ok(())
    }

    /// Ends with a NIC that is not asked any more.
    pub(crate) fn abandon(&mut self) {
        *self = Self::default();
    }

    /// Asks a NIC whose domain failed, for the last time. Returns how many frames that confirmed.
    /// Frames that were counted before the driver was `attached` are another life's.
    pub(crate) fn finish(
        &mut self,
        nic: &dyn Nic,
        attached: bool,
        ledger: &mut TxLedger,
        counters: &Counters,
    ) -> u64 {
        let sent = nic.take_sent();
        let good =
            attached && nic.link_up() && self.link_was_up && (self.lost, self.surplus) == (0, 0);
        *self = Self::default();
        let confirmed = if good { ledger.confirm(sent) } else { 0 };
        counters.tx_confirmed.add(confirmed);
        confirmed
    }
}
