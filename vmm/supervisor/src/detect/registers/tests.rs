use std::sync::Arc;

use super::*;
use nic::emulated::EmulatedNic;
use nic::registers::{RAH_AV, rctl, receive_address, tctl};
use nic::wire::EthernetSwitch;
use nic::{AddedAddresses, Nic};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 8];
const DMA_IOVA: u64 = 0x1_2000_0000;
/// Samples after which every register of two guests has been read.
const ALL_SAMPLES: usize = (IN_TURN + 2).div_ceil(EACH_SAMPLE);

/// A NIC as a driver leaves it that serves two guests.
fn attached_nic() -> (RegisterCheck, Arc<EmulatedNic>) {
    let port = EthernetSwitch::new().attach("nic").unwrap();
    let nic = EmulatedNic::new("checked", MAC, port).unwrap();
    nic.poke(reg::RXDCTL, 0);
    nic.poke(reg::TXDCTL, 0);
    let off = || (nic.peek(reg::RXDCTL) | nic.peek(reg::TXDCTL)) & queue::ENABLE == 0;
    while !off() {
        std::thread::yield_now();
    }
    for (register, bits, value) in in_turn(DMA_IOVA, 9000) {
        nic.poke(register, nic.peek(register) & !bits | value);
    }
    for (entry, mac) in [(0, MAC), (2, OTHER)] {
        let (low, high) = receive_address(mac);
        nic.poke(reg::RAL0 + 8 * entry, low);
        nic.poke(reg::RAH0 + 8 * entry, high | RAH_AV);
    }
    nic.poke(reg::CTRL, ctrl::SLU);
    nic.poke(reg::RXDCTL, queue::ENABLE);
    nic.poke(reg::TXDCTL, queue::ENABLE);
    nic.poke(reg::TCTL, attached::TCTL);
    nic.poke(reg::RCTL, attached::RCTL | attached::RCTL_FILTERS);
    nic.poke(reg::EIMS, 3);
    (RegisterCheck::new(vec![MAC, OTHER], 9000), nic)
}

/// What samples of a NIC that serves find, until every register has been read.
fn found(check: &RegisterCheck, nic: &EmulatedNic) -> Option<u32> {
    (0..ALL_SAMPLES).find_map(|_| check.serving(nic, DMA_IOVA)).map(|mismatch| mismatch.register)
}

#[test]
fn a_nic_as_its_driver_left_it_is_right() {
    let (check, nic) = attached_nic();
    assert_eq!(found(&check, &nic), None);
    assert_eq!(check.standby(&*nic, DMA_IOVA), None, "open filters are not a standby's fault");
    nic.poke(reg::RCTL, attached::RCTL);
    assert_eq!(check.standby(&*nic, DMA_IOVA), None);
    nic.poke(reg::EIMC, reg::VECTOR_QUEUES);
    assert_eq!(found(&check, &nic), Some(reg::RCTL), "but shut ones are an active domain's");
}

#[test]
fn what_no_frame_passes_without_is_found_by_the_first_sample() {
    let flips = [
        (reg::CTRL, ctrl::FRCSPD),
        (reg::CTRL, ctrl::SLU),
        (reg::RCTL, rctl::LBM_MAC << rctl::LBM_SHIFT),
        (reg::RCTL, rctl::UPE),
        (reg::RCTL, rctl::SECRC),
        (reg::TCTL, tctl::PSP),
        (reg::TCTL, 1 << 12),
        (reg::RAL0, 1 << 9),
        (reg::RAH0, RAH_AV),
    ];
    for (register, bit) in flips {
        let (check, nic) = attached_nic();
        nic.poke(register, nic.peek(register) ^ bit);
        let first = check.serving(&*nic, DMA_IOVA).map(|mismatch| mismatch.register);
        assert_eq!(first, Some(register), "bit {bit:#x} of {register:#x}");
    }
}

#[test]
fn every_other_register_is_found_in_its_turn_and_again_by_the_next_sample() {
    let second = [reg::RAL0 + 16, reg::RAH0 + 16];
    let queues =
        [reg::RDBAL, reg::RDBAH, reg::RDLEN, reg::SRRCTL, reg::TDBAL, reg::TDBAH, reg::TDLEN];
    let rest =
        [reg::RLPML, reg::IVAR0, reg::IVAR_MISC, reg::EITR, reg::EITR + 4, reg::MRQC, reg::DMACR];
    assert_eq!(queues.len() + rest.len(), IN_TURN);
    for register in rest.into_iter().chain(second) {
        let (check, nic) = attached_nic();
        nic.poke(register, !nic.peek(register));
        assert_eq!(found(&check, &nic), Some(register));
        let again = check.serving(&*nic, DMA_IOVA).map(|mismatch| mismatch.register);
        assert_eq!(again, Some(register), "two samples make a verdict");
        nic.poke(register, !nic.peek(register));
        assert_eq!(found(&check, &nic), None, "it was mended");
    }
}

#[test]
fn what_no_driver_writes_is_found_and_again_by_the_next_sample() {
    let (check, nic) = attached_nic();
    nic.poke(reg::TXPBS, nic.peek(reg::TXPBS) ^ 1 << 29);
    let first = (0..20).find_map(|_| check.serving(&*nic, DMA_IOVA));
    assert_eq!(first.map(|mismatch| mismatch.register), Some(reg::TXPBS));
    assert_eq!(check.serving(&*nic, DMA_IOVA), first, "two samples make a verdict");
}

#[test]
fn added_addresses_are_compared_and_what_they_open_is_no_fault() {
    let (check, nic) = attached_nic();
    nic.driver_opened();
    nic.set_added(&AddedAddresses::of((0..8).map(|n| [2, 0, 0, 0, 1, n])));
    assert_eq!(found(&check, &nic), None, "promiscuous on purpose");
    nic.poke(reg::RCTL, nic.peek(reg::RCTL) ^ rctl::UPE);
    assert_eq!(found(&check, &nic), Some(reg::RCTL));
    nic.set_added(&AddedAddresses::of((0..7).map(|n| [2, 0, 0, 0, 1, n])));
    assert_eq!((0..3).find_map(|_| found(&check, &nic)), None);
    let last = reg::RAH0 + 8 * 15;
    nic.poke(last, nic.peek(last) ^ RAH_AV);
    let wrong = (0..3).find_map(|_| found(&check, &nic));
    assert_eq!(wrong, Some(last));
    let again = check.serving(&*nic, DMA_IOVA).map(|mismatch| mismatch.register);
    assert_eq!(again, Some(last), "two samples make a verdict");
}

#[test]
fn rings_elsewhere_are_found() {
    let (check, nic) = attached_nic();
    let elsewhere = |iova| check.standby(&*nic, iova).map(|mismatch| mismatch.register);
    assert_eq!(elsewhere(DMA_IOVA + 0x1_0000), Some(reg::RDBAL));
    assert_eq!(elsewhere(DMA_IOVA + (1 << 32)), Some(reg::RDBAH));
}

#[test]
fn a_standby_that_was_reset_behind_our_back_is_found() {
    let (check, nic) = attached_nic();
    nic.poke(reg::CTRL, ctrl::RST);
    assert!(check.standby(&*nic, DMA_IOVA).is_some());
}

#[test]
fn a_masked_link_vector_of_a_standby_is_found() {
    let (check, nic) = attached_nic();
    nic.poke(reg::EIMC, reg::VECTOR_OTHER);
    let mismatch = check.standby(&*nic, DMA_IOVA).unwrap();
    assert_eq!((mismatch.register, mismatch.found), (reg::EIMS, 0));
}
