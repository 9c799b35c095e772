//! The loop of a domain, and what a standby does instead of it.
//!
//! ```text
//!   attach ─► READY ─► hold (role standby: WAIT) ─► turns ─► park ─► turns ─► ...
//!                       ▲ │ ▲                        │ role standby, nothing left to do
//!                       │ └─┘ a drill                │
//!     ▲                 └────────────────────────────┘ relieved
//!     └── READY ─► WAIT (role unattached)
//! ```
//! Both images run this; the VMM decides in which role each starts.

use core::sync::atomic::Ordering;

use shared_ring::{DomainState, Role};

use crate::bar::Registers;
use crate::clock::Clock;
use crate::domain::Domain;
use crate::drill;
use crate::error::DomainError;
use crate::hypercalls::Hypercalls;
use crate::log;
use crate::memory::DomainMemory;

/// One turn: whether it found anything to do. `rx` runs when the NIC has completed receive work,
/// `tx` when there are frames to send; they are parameters so that an image can pass its own named
/// functions.
///
/// In this order, because a doorbell or a notification can cost an exit: first what costs none,
/// then wake the switchboard so that it works while we ring doorbells, receive buffers last.
///
/// # Errors
/// The domain cannot go on.
#[inline(always)]
pub fn turn<'m, R: Registers, H: Hypercalls>(
    domain: &mut Domain<'m, R, H>,
    rx: impl FnOnce(&mut Domain<'m, R, H>) -> Result<(), DomainError>,
    tx: impl FnOnce(&mut Domain<'m, R, H>) -> Result<(), DomainError>,
) -> Result<bool, DomainError> {
    domain.heartbeat();
    let received = domain.has_received();
    if received {
        rx(domain)?;
    }
    let claimed = domain.tx_return()?;
    domain.notify();
    let sending = domain.has_frames_to_send()?;
    if sending {
        tx(domain)?;
    }
    let provided = domain.rx_provide()?;
    let busy = received || claimed || sending || provided;
    if busy {
        domain.note_busy_turn();
    }
    Ok(busy)
}

/// Attaches as soon as it may, says so, and holds for as long as the role is standby.
///
/// # Errors
/// The domain cannot go on.
///
/// # Safety
/// As for [`Domain::new`].
pub unsafe fn start<'m, R: Registers, H: Hypercalls>(
    memory: DomainMemory<'m>,
    bar: R,
    calls: H,
    clock: &impl Clock,
) -> Result<Domain<'m, R, H>, DomainError> {
    // SAFETY: as the caller promises.
    let mut domain = unsafe { Domain::new(memory, bar, calls)? };
    wait_for_nic(&domain, clock)?;
    domain.attach(clock)?;
    memory.status.state.store(DomainState::Attached as u32, Ordering::Release);
    domain.calls.ready();
    stand_by(&mut domain)?;
    Ok(domain)
}

/// Leaves the NIC alone for as long as the role says so, but for what attaching would have to wait
/// for: it reads each page of registers once, and brings the link up if the domain has the NIC for
/// itself (a negotiation takes seconds). Each wake is a sign of life.
fn wait_for_nic<R: Registers, H: Hypercalls>(
    domain: &Domain<'_, R, H>,
    clock: &impl Clock,
) -> Result<(), DomainError> {
    let Domain { memory, calls, nic, .. } = domain;
    if memory.control.role() != Role::Unattached {
        return Ok(());
    }
    nic.prefault_registers()?;
    if memory.control.nic_is_shared.load(Ordering::Relaxed) == 0 {
        nic.prepare_link(clock)?;
    }
    calls.ready();
    while memory.control.role() == Role::Unattached {
        memory.status.heartbeat.fetch_add(1, Ordering::Relaxed);
        memory.status.counters.parks.fetch_add(1, Ordering::Relaxed);
        memory.status.parked.store(1, Ordering::SeqCst);
        calls.wait();
        memory.status.parked.store(0, Ordering::Release);
    }
    Ok(())
}

/// Holds while the role is not active. Each wake is a sign of life: takes the receive buffers that
/// were provided meanwhile, and waits again. A drill proves the CPU and the registers.
fn stand_by<R: Registers, H: Hypercalls>(domain: &mut Domain<'_, R, H>) -> Result<(), DomainError> {
    let state = &domain.memory.status.state;
    state.store(DomainState::Attached as u32, Ordering::Release);
    loop {
        domain.heartbeat();
        match domain.role() {
            Role::Active => break,
            // Attached, it cannot go back: it waits as a standby does.
            Role::Standby | Role::Unattached => {}
            Role::Drill => drill::run(domain)?,
        }
        domain.rx_provide()?;
        // A drill may have ended because the ring is to be served now.
        if domain.role() != Role::Active {
            domain.wait()?;
        }
    }
    state.store(DomainState::Serving as u32, Ordering::Release);
    Ok(())
}

/// Turns and parks until the domain is relieved, that is: its role is standby and nothing is left
/// to do. Then holds, and returns when it is to serve again.
///
/// # Errors
/// The domain cannot go on.
pub fn serve_until_relieved<'m, R: Registers, H: Hypercalls>(
    domain: &mut Domain<'m, R, H>,
    mut turn: impl FnMut(&mut Domain<'m, R, H>) -> Result<bool, DomainError>,
) -> Result<(), DomainError> {
    loop {
        if turn(domain)? {
            continue;
        }
        if domain.role() == Role::Active {
            domain.park()?;
        } else {
            domain.end_busy_spell();
            return stand_by(domain);
        }
    }
}

/// Serves, stands by when it is relieved, and serves again, until the domain cannot go on; returns
/// the reason.
pub fn serve<'m, R: Registers, H: Hypercalls>(
    domain: &mut Domain<'m, R, H>,
    mut turn: impl FnMut(&mut Domain<'m, R, H>) -> Result<bool, DomainError>,
) -> DomainError {
    loop {
        if let Err(error) = serve_until_relieved(domain, &mut turn) {
            return error;
        }
    }
}

/// Serves until the first work is done, then verifies that the NIC is as the driver left it. For a
/// spare that has just taken over: the frames come first, because verifying costs register reads.
///
/// # Errors
/// The domain cannot go on, or the NIC is gone or changed.
pub fn serve_then_verify<'m, R: Registers, H: Hypercalls>(
    domain: &mut Domain<'m, R, H>,
    mut turn: impl FnMut(&mut Domain<'m, R, H>) -> Result<bool, DomainError>,
) -> Result<(), DomainError> {
    let mut served = false;
    loop {
        match (turn(domain)?, served) {
            (true, _) => served = true,
            // Relieved before there was anything to do: nothing to look at either.
            (false, false) if domain.role() != Role::Active => return Ok(()),
            // Released before the switchboard has published: not yet the time to look.
            (false, false) => domain.park()?,
            (false, true) => break,
        }
    }
    let link_up = domain.nic.verify()?;
    if !link_up {
        log::line(&domain.memory, format_args!("took over with the link down"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
