//! A drill: the standby proves its NIC while it does not serve.
//!
//! It looks at the registers, sends one probe that the VMM has written, and waits for the answer.
//! It touches no shared ring, and gives every received buffer straight back to the NIC. The VMM can
//! end a drill at any moment by giving another role: each step looks at it. Waiting is parking, so
//! a lost answer costs no CPU; the VMM decides how long.

use core::sync::atomic::Ordering;

use shared_ring::Role;
use shared_ring::layout::{BUFFER_BYTES, CLEARED_HEADER_BYTES, RX_BUFFERS};
use shared_ring::probe::{PROBE_BYTES, PROBE_HEAD_BYTES, Probe, ProbeKind};
use shared_ring::status::drill as proof;

use crate::bar::Registers;
use crate::domain::Domain;
use crate::error::{DomainError, EntryError};
use crate::hypercalls::Hypercalls;

/// Carries out the drill that the control page names, unless that was done before. Returns when it
/// has passed or is to end.
///
/// # Errors
/// The NIC is gone or no longer as it was.
pub(crate) fn run<R: Registers, H: Hypercalls>(
    domain: &mut Domain<'_, R, H>,
) -> Result<(), DomainError> {
    let (control, status) = (domain.memory.control, domain.memory.status);
    let number = control.drill.load(Ordering::Acquire);
    if number == 0 || number == status.drill.load(Ordering::Relaxed) {
        return Ok(());
    }
    let iova = control.probe_iova.load(Ordering::Relaxed);
    let sent = if iova != 0 { send(domain, number, iova)? } else { None };
    // While it is on its way: register reads take their time.
    domain.nic.verify()?;
    let answer = sent.map_or(Ok(0), |at| wait_for_answer(domain, number, at))?;
    let proved = proof::REGISTERS | answer;
    status.drill_proof.store(proved, Ordering::Relaxed);
    status.drill.store(number, Ordering::Release);
    Ok(())
}

/// Sends the probe; the index of its descriptor, if there was room for it.
fn send<R: Registers, H: Hypercalls>(
    domain: &mut Domain<'_, R, H>,
    number: u32,
    iova: u64,
) -> Result<Option<usize>, DomainError> {
    // Of earlier drills, whose answer came too late.
    take_answers(domain, number)?;
    while domain.nic.tx_return(|_| ()) {}
    let has_room = domain.nic.tx.has_room();
    Ok(has_room.then(|| domain.nic.send_probe(iova, PROBE_BYTES as u32)))
}

/// Waits for the answer, for as long as the role is [`Role::Drill`].
fn wait_for_answer<R: Registers, H: Hypercalls>(
    domain: &mut Domain<'_, R, H>,
    number: u32,
    at: usize,
) -> Result<u32, DomainError> {
    let mut answered = false;
    while domain.role() == Role::Drill {
        domain.heartbeat();
        answered |= take_answers(domain, number)?;
        if answered && domain.nic.is_probe_sent(at) {
            break;
        }
        domain.wait()?;
    }
    let mut proved = if answered { proof::ANSWERED } else { 0 };
    if domain.nic.is_probe_sent(at) {
        proved |= proof::SENT;
        // Nobody else claims it.
        domain.nic.tx_return(|_| ());
    }
    Ok(proved)
}

/// Takes all received frames and gives their buffers back to the NIC. Returns true if one of them
/// was the answer to this drill.
fn take_answers<R: Registers, H: Hypercalls>(
    domain: &mut Domain<'_, R, H>,
    number: u32,
) -> Result<bool, DomainError> {
    let wanted = Probe { number, kind: ProbeKind::Answer };
    let mut answered = false;
    while let Some(received) = domain.nic.rx_return() {
        let words = domain.memory.rx_pool.get(usize::from(received.buffer));
        let words = words.ok_or(DomainError::Entry(EntryError::Buffer))?;
        let mut head = [0; PROBE_HEAD_BYTES];
        for (bytes, word) in head.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        let is_whole = !received.error && usize::from(received.len) >= PROBE_HEAD_BYTES;
        answered |= is_whole && Probe::parse(&head) == Some(wanted);
        // As the switchboard does before it provides a buffer: nothing of this frame may look
        // received to it later.
        words[..CLEARED_HEADER_BYTES / 8].iter().for_each(|word| word.store(0, Ordering::Relaxed));
        domain.nic.rx.settle();
        domain.nic.rx_provide(buffer_iova(domain.memory.control, received.buffer), received.buffer);
    }
    let next = domain.nic.rx.settle();
    domain.memory.status.rx_next.store(next, Ordering::Release);
    domain.nic.ring_receive();
    Ok(answered)
}

fn buffer_iova(control: &shared_ring::ControlPage, buffer: u16) -> u64 {
    debug_assert!(usize::from(buffer) < RX_BUFFERS);
    control.rx_pool_iova.load(Ordering::Relaxed) + u64::from(buffer) * BUFFER_BYTES as u64
}
