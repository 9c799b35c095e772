//! What only a spare does: it stands by with everything programmed and its filters shut, takes over
//! at one word of the VMM, sends what is waiting, and only then verifies that its NIC is still as
//! it left it. The driver, the hold and the loop are those of `driver-domain`.

#![cfg_attr(not(test), no_std)]

use driver_domain::serve::{serve_then_verify, serve_until_relieved};
use driver_domain::{Domain, DomainError, Hypercalls, Registers};

/// Runs a domain that has been released: takes over, serves, stands by when it is relieved, and so
/// on until it cannot go on; returns the reason.
pub fn take_over<'m, R: Registers, H: Hypercalls>(
    domain: &mut Domain<'m, R, H>,
    mut turn: impl FnMut(&mut Domain<'m, R, H>) -> Result<bool, DomainError>,
) -> DomainError {
    loop {
        let served = serve_then_verify(domain, &mut turn);
        if let Err(error) = served.and_then(|()| serve_until_relieved(domain, &mut turn)) {
            return error;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driver_domain::serve::{start, turn};
    use driver_domain::testing::{FakeCalls, FakeClock, ModelNic, Personality, TestMemory};
    use driver_domain::testing::{VmmRings, open_filters};
    use shared_ring::Role;
    use shared_ring::igb_registers as reg;
    use std::sync::atomic::Ordering;

    /// A standby that is released at its second WAIT, with frames waiting on both sides, and whose
    /// NIC is unplugged at `unplugged`.
    fn released_spare(unplugged: u32) -> (DomainError, ModelNic, VmmRings) {
        let memory = TestMemory::new(Role::Standby);
        let nic = ModelNic::new(Personality::Hardware, memory.domain.nic);
        let calls = FakeCalls::default();
        let mut vmm = memory.vmm_rings();
        vmm.provide(0..511);
        vmm.post([3, 4, 5].map(|buffer| VmmRings::frame(buffer, 60)));
        let (control, wire) = (memory.domain.control, nic.clone());
        calls.on_wait(move |waits| {
            if waits == 2 {
                assert!(wire.take_sent().is_empty(), "a standby sends nothing");
                control.role.store(Role::Active as u32, Ordering::Release);
                open_filters(&wire);
                wire.arrive(100);
            }
            if waits == unplugged {
                control.wake_reason.store(shared_ring::control::wake::CHECK, Ordering::Relaxed);
                wire.remove();
            }
        });
        let clock = FakeClock::default();
        // SAFETY: fresh memory, one domain on it.
        let started = unsafe { start(memory.domain, nic.clone(), calls, &clock) };
        let mut domain = started.unwrap();
        let end = take_over(&mut domain, |d| turn(d, Domain::rx_return, Domain::tx_provide));
        // Ends made anew start at cursor zero, and so see everything since the attach.
        (end, nic, memory.vmm_rings())
    }

    #[test]
    fn a_released_spare_serves_what_was_waiting_on_both_sides() {
        let (end, nic, mut vmm) = released_spare(3);
        assert_eq!(end, DomainError::NicGone, "the way this test ends the loop");
        assert_eq!(nic.take_sent().len(), 3);
        assert_eq!(vmm.take_sent(), [3, 4, 5]);
        assert_eq!(vmm.take_received().len(), 1);
    }

    #[test]
    fn the_doorbell_rings_before_any_other_register_is_touched() {
        let (_, nic, _) = released_spare(3);
        let writes = nic.writes();
        let opened = writes.iter().rposition(|(at, _)| *at == reg::RCTL).unwrap();
        let after: Vec<u32> = writes[opened + 1..].iter().map(|(at, _)| *at).collect();
        assert_eq!(after, [reg::TDT], "nothing but the doorbell after the filters opened");
    }
}
