use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Interrupts;
use crate::emulated::doorbell::Doorbell;
use crate::registers::{eitr, gpie, icr};
use platform::clock::monotonic_ns;

/// As the driver sets them up: queues on vector 0, the rest on vector 1, link changes only.
fn interrupts(general: u32) -> Interrupts {
    let interrupts = Interrupts::new(Arc::new(Doorbell::new().unwrap())).unwrap();
    interrupts.messages.general.store(general | gpie::MULTIPLE_MSIX, Ordering::SeqCst);
    interrupts.queue_vectors.store(0x8080, Ordering::SeqCst);
    interrupts.other_vectors.store(0x8100, Ordering::SeqCst);
    interrupts.messages.auto_clear.store(3, Ordering::SeqCst);
    interrupts.messages.auto_mask.store(3, Ordering::SeqCst);
    interrupts.unmask_other(icr::LSC);
    interrupts.messages.unmask(3);
    interrupts.messages.allow(true);
    interrupts
}

fn messages(interrupts: &Interrupts) -> [u64; 2] {
    [0, 1].map(|vector| interrupts.messages.event(vector).read().unwrap_or(0))
}

#[test]
fn causes_come_on_their_vectors_and_clear_themselves() {
    let interrupts = interrupts(0);
    interrupts.raise_receive();
    assert_eq!(messages(&interrupts), [1, 0]);
    interrupts.raise_other(icr::LSC);
    assert_eq!(messages(&interrupts), [0, 1]);
    assert_eq!(interrupts.messages.read_eicr(), 0, "EIAC");
    interrupts.raise_transmit();
    assert_eq!(messages(&interrupts), [1, 0]);
}

#[test]
fn auto_mask_holds_until_unmasked() {
    let interrupts = interrupts(gpie::EIAME);
    interrupts.raise_receive();
    interrupts.raise_receive();
    assert_eq!(messages(&interrupts), [1, 0]);
    assert_eq!(interrupts.messages.eims(), 2);
    interrupts.messages.unmask(1);
    assert_eq!(messages(&interrupts), [1, 0], "the one that was pending");
}

#[test]
fn reading_eicr_clears_nothing_in_msix_mode() {
    let interrupts = interrupts(0);
    interrupts.messages.mask(3);
    interrupts.messages.raise(1);
    assert_eq!((interrupts.messages.read_eicr(), interrupts.messages.read_eicr()), (1, 1));
    interrupts.messages.clear_eicr(1);
    interrupts.messages.unmask(1);
    assert_eq!(messages(&interrupts), [0, 0]);
}

#[test]
fn a_masked_cause_of_icr_comes_when_it_is_unmasked() {
    let interrupts = interrupts(0);
    interrupts.mask_other(u32::MAX);
    interrupts.raise_other(icr::LSC);
    assert_eq!(messages(&interrupts), [0, 0]);
    interrupts.unmask_other(icr::LSC);
    assert_eq!(messages(&interrupts), [0, 1]);
}

#[test]
fn icr_reads_clear_as_the_datasheet_says() {
    let interrupts = interrupts(0);
    interrupts.raise_other(icr::RX_MISS);
    assert_eq!(interrupts.read_icr(), icr::RX_MISS);
    assert_eq!(interrupts.read_icr(), icr::RX_MISS, "IMS is not 0 and nothing was asserted");
    interrupts.raise_other(icr::LSC);
    assert_eq!(interrupts.read_icr(), icr::RX_MISS | icr::LSC | icr::INTA);
    assert_eq!(interrupts.read_icr(), 0);
    interrupts.messages.general.fetch_or(gpie::NSICR, Ordering::SeqCst);
    interrupts.raise_other(icr::RX_MISS);
    interrupts.read_icr();
    assert_eq!(interrupts.read_icr(), 0);
}

#[test]
fn without_bus_mastering_messages_wait() {
    let interrupts = interrupts(0);
    interrupts.messages.allow(false);
    interrupts.raise_receive();
    assert_eq!(messages(&interrupts), [0, 0]);
    interrupts.messages.allow(true);
    assert_eq!(messages(&interrupts), [1, 0]);
}

#[test]
fn moderation_defers_the_second_message() {
    let interrupts = interrupts(0);
    interrupts.messages.moderation[0].store(2000 << eitr::INTERVAL_SHIFT, Ordering::SeqCst);
    interrupts.raise_receive();
    interrupts.raise_receive();
    assert_eq!(messages(&interrupts), [1, 0]);
    while let Some(due_ns) = interrupts.messages.fire_deferred() {
        let wait_ns = due_ns.saturating_sub(monotonic_ns());
        std::thread::sleep(std::time::Duration::from_nanos(wait_ns));
    }
    assert_eq!(messages(&interrupts), [1, 0]);
}

#[test]
fn without_msix_mode_all_comes_on_vector_zero() {
    let interrupts = interrupts(0);
    interrupts.messages.general.store(0, Ordering::SeqCst);
    interrupts.raise_other(icr::LSC);
    interrupts.raise_receive();
    assert_eq!(messages(&interrupts), [1, 0], "RXDW is not unmasked in IMS");
}

#[test]
fn causes_without_a_valid_route_go_nowhere() {
    let interrupts = interrupts(0);
    for route in [0, 0x8000, 0x01, 0x9f] {
        interrupts.queue_vectors.store(route, Ordering::SeqCst);
        interrupts.raise_receive();
    }
    assert_eq!(messages(&interrupts), [0, 0]);
}
