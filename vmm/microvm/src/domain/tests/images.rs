//! The real images, as far as they come with a NIC that has registers and no engine.

use shared_ring::Role;
use shared_ring::abi::ImageKind;
use shared_ring::hypercall::PanicCode;

use super::super::{Fault, Life, VcpuState, check_image};
use super::{Event, Loads, NotedNic, Stage, eventually};
use crate::kvm::Image;

const IMAGES: [(&[u8], ImageKind); 2] = [
    (guest_images::DRIVER_DOMAIN, ImageKind::Driver),
    (guest_images::SPARE_DOMAIN, ImageKind::Spare),
];

fn start(stage: &Stage, image: &[u8], epoch: u32, role: Role) -> Life {
    stage.prepare(epoch, role);
    stage.try_start(Image::parse(image).unwrap(), epoch).unwrap()
}

/// Starts the image as a standby and waits until it holds.
fn held(stage: &Stage, image: &[u8]) -> Life {
    let life = start(stage, image, 1, Role::Standby);
    let ready = stage.hear();
    assert_eq!(ready, Event::Ready(1), "{:?}", life.outcome());
    eventually("the standby parks", || life.state() == VcpuState::Parked);
    life
}

#[test]
fn our_images_fit_and_can_be_hurt_where_they_must() {
    for (bytes, kind) in IMAGES {
        let image = Image::parse(bytes).unwrap();

        check_image(&image).unwrap();

        assert_eq!(image.note().unwrap().kind, kind as u32);
        for name in ["domain_rx_path", "domain_tx_path", "domain_loop_turn"] {
            let symbol = image.symbol(name).unwrap_or_else(|| panic!("no {name}"));
            assert_eq!(image.symbol_at(symbol.address + 1), Some((name, 1)));
        }
    }
}

#[test]
fn each_image_stands_by_and_takes_over() {
    for (bytes, _) in IMAGES {
        let stage = Stage::with_nic(NotedNic::new(Loads::Stored, None));
        let life = held(&stage, bytes);
        let (text, _) = life.log_since(0);
        assert!(text.contains("link up"), "{text:?}");
        let waits = life.exits().waits;

        life.release();

        eventually("it serves", || life.exits().waits > waits && life.state() == VcpuState::Parked);
        assert!(!life.is_stopped());
    }
}

#[test]
fn a_nic_that_is_gone_ends_the_domain_with_a_word() {
    for (bytes, _) in IMAGES {
        let stage = Stage::with_nic(NotedNic::new(Loads::Gone, None));
        let life = start(&stage, bytes, 1, Role::Active);

        assert_eq!(stage.hear_fault(), Fault::Panic { code: PanicCode::NicGone as u32 });

        eventually("the outcome is there", || life.outcome().is_some());
        assert!(life.outcome().unwrap().panic_text.is_some());
    }
}

#[test]
fn a_crash_names_the_function_that_was_hurt() {
    let image = Image::parse(guest_images::SPARE_DOMAIN).unwrap();
    let turn = image.symbol("domain_loop_turn").unwrap();
    let stage = Stage::with_nic(NotedNic::new(Loads::Stored, None));
    let life = held(&stage, guest_images::SPARE_DOMAIN);

    life.inject(turn.address, &[0x0f, 0x0b]).unwrap();
    life.release();

    let fault = stage.hear_fault();
    let Fault::Exception(record) = fault else { panic!("{fault}") };
    assert_eq!(image.symbol_at(record.registers.rip), Some(("domain_loop_turn", 0)), "{fault}");
}
