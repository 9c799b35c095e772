//! Bring-up, the same on hardware and model, in the order of i210 datasheet §4.5.
//!
//! ```text
//!   mask, units off ─► queues off ─► general, link, filters ─► queues on ─► units on ─► vectors
//!                          │                                      │
//!                          └───────── not in time ────────────────┘──► CTRL.RST, once more
//! ```
//! Nothing that an earlier driver left is relied on: every register that matters is written. Only
//! the link is kept if it is up, and the hash tables if a driver of ours owned the port since the
//! last reset.

use shared_ring::Role;
use shared_ring::frame::longest_on_wire;
use shared_ring::igb_registers::{
    self as reg, ctrl, ctrl_ext, dvmolr, eecd, guest_entries, icr, queue, receive_address, rfctl,
    status, tctl,
};
use shared_ring::layout::{NIC_RX_DESCRIPTORS, NIC_TX_DESCRIPTORS};
use shared_ring::status::attach;

use super::descriptor::DESCRIPTOR_BYTES;
use super::{AttachPlan, Attached, Igb, values};
use crate::bar::Registers;
use crate::budget;
use crate::clock::Clock;
use crate::error::{BringUpError, DomainError};

impl<R: Registers> Igb<'_, R> {
    /// Brings the NIC up: by re-attaching, which keeps the link, or where that fails by a full
    /// reset. Once.
    ///
    /// # Errors
    /// The NIC is gone, or does not come up even after a reset.
    pub fn attach(
        &mut self,
        plan: &AttachPlan,
        clock: &impl Clock,
    ) -> Result<Attached, DomainError> {
        match self.reattach(plan, clock) {
            Ok(link_up) => Ok(Attached { path: attach::REATTACH, link_up }),
            Err(DomainError::NicInit(_)) => {
                self.reset(clock)?;
                let link_up = self.reattach(plan, clock)?;
                Ok(Attached { path: attach::RESET, link_up })
            }
            Err(error) => Err(error),
        }
    }

    /// Reads a register of each page that attaching uses; none of them changes by that. A first access
    /// to a page has to be resolved by the hypervisor, and that is not for a takeover.
    ///
    /// # Errors
    /// The NIC is gone.
    pub fn prefault_registers(&self) -> Result<(), DomainError> {
        let pages = [reg::STATUS, reg::EIMS, reg::RXCSUM, reg::RXDCTL, reg::TXDCTL];
        pages.into_iter().try_for_each(|register| self.read(register).map(|_| ()))
    }

    fn reattach(&mut self, plan: &AttachPlan, clock: &impl Clock) -> Result<bool, DomainError> {
        self.read(reg::STATUS)?;
        self.mask_all();
        self.stop_units();
        self.disable_queues(clock)?;
        self.program_general()?;
        let link_up = self.start_link(clock)?;
        self.program_receive_addresses(plan);
        // Before the receive unit is on: how long a frame may be.
        self.bar.write(reg::RLPML, longest_on_wire(plan.mtu));
        self.program_queues(plan);
        self.enable_queues(clock)?;
        self.start_units(plan.role);
        let tail = self.tx.push_null_packet();
        self.ring(reg::TDT, tail);
        self.program_vectors();
        Ok(link_up)
    }

    fn mask_all(&self) {
        self.bar.write(reg::IMC, reg::ALL_ONES);
        self.bar.write(reg::EIMC, reg::ALL_ONES);
    }

    /// Receive and transmit units off, every receive filter shut.
    fn stop_units(&self) {
        self.bar.write(reg::RCTL, 0);
        self.bar.write(reg::TCTL, tctl::RESET);
    }

    /// Both queues off. They read enabled until the descriptors that the NIC had cached are done
    /// with; until then it may still write to old buffers.
    fn disable_queues(&self, clock: &impl Clock) -> Result<(), DomainError> {
        self.bar.write(reg::RXDCTL, 0);
        self.bar.write(reg::TXDCTL, 0);
        let off = clock.poll(budget::QUEUE_DISABLE_US, || {
            Ok(self.read(reg::RXDCTL)? & queue::ENABLE == 0
                && self.read(reg::TXDCTL)? & queue::ENABLE == 0)
        })?;
        if off { Ok(()) } else { Err(DomainError::NicInit(BringUpError::QueueStuck)) }
    }

    fn program_general(&self) -> Result<(), DomainError> {
        let clear = ctrl::GIO_MASTER_DISABLE
            | ctrl::FRCSPD
            | ctrl::FRCDPLX
            | ctrl::RST
            | ctrl::PHY_RST
            | ctrl::RFCE
            | ctrl::TFCE
            | ctrl::VME;
        self.modify(reg::CTRL, clear, ctrl::SLU)?;
        let owned = self.read(reg::CTRL_EXT)?;
        if owned & ctrl_ext::DRV_LOAD == 0 {
            self.clear_hash_tables();
            self.bar.write(reg::CTRL_EXT, owned | ctrl_ext::DRV_LOAD);
        }
        self.bar.write(reg::MRQC, 0);
        self.bar.write(reg::VT_CTL, 0);
        self.bar.write(reg::RXCSUM, values::RXCSUM);
        self.modify(reg::RFCTL, 0, rfctl::IPV6_EX_DIS)?;
        self.bar.write(reg::TIPG, values::TIPG);
        self.modify(reg::DVMOLR, 0, dvmolr::STRCRC)
    }

    /// Empties what may hold anything after power-up: 271 writes, so only on a port that no driver
    /// of ours owned since its last reset (any reset clears DRV_LOAD).
    fn clear_hash_tables(&self) {
        for word in 0..reg::HASH_TABLE_WORDS {
            self.bar.write(reg::MTA + 4 * word, 0);
            self.bar.write(reg::UTA + 4 * word, 0);
        }
        for entry in 1..reg::RECEIVE_ADDRESSES {
            self.bar.write(reg::RAH0 + 8 * entry, 0);
        }
    }

    /// The guests' addresses; valid, and so filters that are open, only in the active role. The
    /// first stands in entry 0 and the others from entry 2 on: entry 1 is for drills. An empty entry
    /// ends them, for the VMM, which opens and shuts them later.
    fn program_receive_addresses(&self, plan: &AttachPlan) {
        let open = if plan.role == Role::Active { reg::RAH_AV } else { 0 };
        let macs = core::iter::once(plan.mac).chain(plan.other_macs);
        for (place, (entry, mac)) in guest_entries().zip(macs).enumerate() {
            let is_empty = place > 0 && mac == [0; 6];
            self.program_receive_address(entry as u32, mac, if is_empty { 0 } else { open });
            if is_empty {
                break;
            }
        }
    }

    fn program_receive_address(&self, entry: u32, mac: [u8; 6], valid: u32) {
        let (low, high) = receive_address(mac);
        let high_register = reg::RAH0 + 8 * entry;
        // Invalid while it changes: no address of old and new halves passes.
        self.bar.write(high_register, 0);
        self.bar.write(reg::RAL0 + 8 * entry, low);
        self.bar.write(high_register, high | valid);
    }

    /// Bases, lengths and heads, while both queues are off: hardware ignores or forbids them
    /// otherwise, and QEMU keeps old heads across a disable.
    fn program_queues(&self, plan: &AttachPlan) {
        let write64 = |low, high, v: u64| {
            self.bar.write(low, v as u32);
            self.bar.write(high, (v >> 32) as u32);
        };
        write64(reg::RDBAL, reg::RDBAH, plan.rx_ring_iova);
        self.bar.write(reg::RDLEN, NIC_RX_DESCRIPTORS as u32 * DESCRIPTOR_BYTES);
        self.bar.write(reg::SRRCTL, values::SRRCTL);
        self.bar.write(reg::RDH, 0);
        self.bar.write(reg::RDT, 0);
        write64(reg::TDBAL, reg::TDBAH, plan.tx_ring_iova);
        self.bar.write(reg::TDLEN, NIC_TX_DESCRIPTORS as u32 * DESCRIPTOR_BYTES);
        write64(reg::TDWBAL, reg::TDWBAH, 0);
        self.bar.write(reg::TDH, 0);
        self.bar.write(reg::TDT, 0);
    }

    fn enable_queues(&self, clock: &impl Clock) -> Result<(), DomainError> {
        self.bar.write(reg::RXDCTL, values::RXDCTL);
        self.bar.write(reg::TXDCTL, values::TXDCTL);
        let on = clock.poll(budget::QUEUE_ENABLE_US, || {
            Ok(self.read(reg::RXDCTL)? & queue::ENABLE != 0
                && self.read(reg::TXDCTL)? & queue::ENABLE != 0)
        })?;
        if !on {
            return Err(DomainError::NicInit(BringUpError::QueueDead));
        }
        let at_start = self.read(reg::RDH)? == 0 && self.read(reg::TDH)? == 0;
        if at_start { Ok(()) } else { Err(DomainError::NicInit(BringUpError::HeadNotZero)) }
    }

    /// Units on. A standby's filters stay shut, so that taking over is nothing but opening them.
    /// Whole values: nothing that an earlier driver or the VMM left in them stays.
    fn start_units(&self, role: Role) {
        self.bar.write(reg::TCTL, values::TCTL);
        let filters = if role == Role::Active { values::RCTL_FILTERS } else { 0 };
        self.bar.write(reg::RCTL, values::RCTL | filters);
    }

    /// GPIE first: QEMU drops writes to EIAC before MSI-X mode. No auto-mask: a message clears its
    /// cause (EIAC) and the next event sends another, without a register write in between.
    fn program_vectors(&self) {
        let both = reg::VECTOR_QUEUES | reg::VECTOR_OTHER;
        self.bar.write(reg::GPIE, values::GPIE);
        self.bar.write(reg::IVAR0, values::IVAR0);
        self.bar.write(reg::IVAR_MISC, values::IVAR_MISC);
        self.bar.write(reg::EIAC, both);
        self.bar.write(reg::EIAM, 0);
        self.bar.write(reg::IAM, 0);
        self.bar.write(reg::EITR, 0);
        self.bar.write(reg::EITR + 4, 0);
        // A link change that was latched before blocks the edge of the next one.
        let _ = self.bar.read(reg::ICR);
        self.bar.write(reg::EICR, reg::ALL_ONES);
        self.bar.write(reg::IMS, icr::LSC);
        self.bar.write(reg::EIMS, both);
    }

    /// Full reset. The link survives on hardware; on QEMU it is lost, and `start_link` restarts it.
    fn reset(&mut self, clock: &impl Clock) -> Result<(), DomainError> {
        self.mask_all();
        self.stop_units();
        self.modify(reg::CTRL, 0, ctrl::GIO_MASTER_DISABLE)?;
        // Requests that never end are ended by the reset.
        let _ = clock.poll(budget::MASTER_DISABLE_US, || {
            Ok(self.read(reg::STATUS)? & status::GIO_MASTER == 0)
        })?;
        self.modify(reg::CTRL, 0, ctrl::RST)?;
        clock.pause(budget::RESET_SETTLE_US);
        // QEMU never says that it has read its NVM, so the answer does not matter.
        let _ =
            clock.poll(budget::NVM_RELOAD_US, || Ok(self.read(reg::EECD)? & eecd::AUTO_RD != 0))?;
        self.mask_all();
        let _ = self.bar.read(reg::ICR);
        Ok(())
    }
}
