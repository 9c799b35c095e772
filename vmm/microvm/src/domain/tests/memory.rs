//! A slot's memory from life to life, and which images may live in it.

use std::sync::Arc;

use shared_ring::abi::{ImageKind, ImageNote};
use shared_ring::layout::{self, IMAGE_BASE, LOG_BASE, STATUS_BASE};
use shared_ring::{ABI_VERSION, Role};

use super::super::{Fault, LifeError};
use super::{Event, Loads, MAC, NotedNic, PATIENCE, Stage, domain_image, eventually};
use crate::kvm::Image;
use crate::kvm::testing::{DATA, ElfFile, Part, R, X, guest, image_bytes};
use nic::BarPages;
use platform::memory::SharedMemory;

// Soils everything it may write, once.
guest!(
    soil,
    "mov rbx, 0xd0000000",
    "mov rax, [0x42000]",
    "mov [0x112000], rax",
    "mov rax, [0x42ff8]",
    "or rax, [0x110010]",
    "or rax, [0xe1000]",
    "or rax, [0x120000]",
    "or rax, [0x130000]",
    "or rax, [0x140000]",
    "mov [0x112008], rax",
    "not rax",
    "mov [0x42000], rax",
    "mov [0x42ff8], rax",
    "mov [0x110010], rax",
    "mov [0xe1000], rax",
    "mov [0x130000], rax",
    "mov [0x140000], rax",
    "mov dword ptr [rbx], 0",
    "2: mov dword ptr [rbx + 8], 0",
    "jmp 2b",
);

#[test]
fn every_life_finds_clean_memory() {
    let stage = Stage::new();
    for epoch in 1..=30 {
        stage.slot.ram.write(layout::TX_POST_BASE, &[0xff; 8]).unwrap();

        let life = stage.start(soil(), epoch, Role::Standby);

        assert_eq!(stage.hear(), Event::Ready(epoch));
        assert_eq!(stage.word(LOG_BASE), 0xa5a5_a5a5, "initialised data is loaded anew");
        assert_eq!((stage.word(LOG_BASE + 8), stage.word(LOG_BASE + 12)), (0, 0));
        assert_eq!(stage.word(DATA), !0);
        drop(life);
    }
}

#[test]
fn the_control_page_tells_the_domain_what_it_needs() {
    let stage = Stage::new();
    let _life = stage.start(soil(), 9, Role::Standby);
    let control = stage.slot.control();
    let relaxed = std::sync::atomic::Ordering::Relaxed;

    assert_eq!(control.magic.load(relaxed), shared_ring::control::CONTROL_MAGIC);
    assert_eq!((control.epoch.load(relaxed), control.role()), (9, Role::Standby));
    assert_eq!(control.mac(), MAC);
    assert_eq!(control.dma_iova.load(relaxed), stage.slot.dma_iova());
    assert_eq!(control.rx_pool_iova.load(relaxed), stage.slot.rx_pool_iova());
    assert!((500_000..10_000_000).contains(&control.tsc_khz.load(relaxed)), "0.5 to 10 GHz");
    assert_eq!(stage.slot.rx_slot(0).load(relaxed), layout::RX_SLOT_EMPTY);
}

#[test]
fn a_slot_must_be_prepared_for_the_life() {
    let stage = Stage::new();
    let blank = stage.try_start(domain_image(soil()), 1);
    assert!(matches!(blank, Err(LifeError::NotPrepared { prepared: 0, epoch: 1 })));

    stage.prepare(1, Role::Active);
    let late = stage.try_start(domain_image(soil()), 2);
    assert!(matches!(late, Err(LifeError::NotPrepared { prepared: 1, epoch: 2 })));
}

#[test]
fn foreign_images_are_refused() {
    let stage = Stage::new();
    stage.prepare(1, Role::Active);
    let start = |bytes: &[u8]| stage.try_start(Image::parse(bytes).unwrap(), 1).err().unwrap();

    assert!(matches!(start(&image_bytes(soil(), None)), LifeError::NoNote));

    let mut note = ImageNote::of(ImageKind::Spare);
    note.abi_version += 1;
    let error = start(&image_bytes(soil(), Some(note)));
    let (image, own) = (format!("version {}", ABI_VERSION + 1), format!("needs {ABI_VERSION}"));
    assert!(error.to_string().contains(&image) && error.to_string().contains(&own), "{error}");

    let address = IMAGE_BASE + layout::IMAGE_BYTES - 0x1000;
    let part = Part { address, memory_bytes: 0x1001, rights: R | X, data: &[0x90] };
    let note = Some(ImageNote::of(ImageKind::Driver));
    let file = ElfFile { entry: address, parts: &[part], note, functions: &[] };
    assert!(matches!(start(&file.build()), LifeError::Layout { len: 0x1001, .. }));
}

guest!(
    two_registers,
    "mov rbx, 0xe0000000",
    "mov eax, [rbx + 0x1008]",
    "inc eax",
    "mov [rbx + 0x1010], eax",
    "mov eax, [rbx + 0x0008]",
);

#[test]
fn a_mapped_bar_is_reached_without_exits_and_no_further() {
    let bar = Arc::new(SharedMemory::new(c"bar", 0x1000).unwrap());
    bar.write(8, &41u32.to_le_bytes()).unwrap();
    let pages = BarPages { offset: 0x1000, host_address: bar.host_address(), len: 0x1000 };
    let stage = Stage::with_nic(NotedNic::new(Loads::Offset, Some([pages])));

    let life = stage.start(two_registers(), 1, Role::Active);

    let fault = stage.hear_fault();
    let Fault::Exception(record) = fault else { panic!("{fault}") };
    assert_eq!(record.registers.rip, IMAGE_BASE + two_registers().len() as u64 - 3);
    let mut stored = [0; 4];
    bar.read(0x10, &mut stored).unwrap();
    assert_eq!(u32::from_le_bytes(stored), 42);
    assert_eq!((life.exits().register_loads, life.exits().register_stores), (0, 0));
}

guest!(
    talk,
    "mov rbx, 0xd0000000",
    "mov dword ptr [0x112000], 0x0a217968",
    "mov qword ptr [0x110010], 4",
    "mov dword ptr [rbx + 0x20], 0",
    "mov dword ptr [rbx + 0x10], 0",
    "mov dword ptr [rbx + 0x10], 0",
    "2: mov dword ptr [rbx + 0x08], 0",
    "inc qword ptr [0x110000]",
    "jmp 2b",
);

#[test]
fn notify_rings_the_switchboard_without_an_exit_and_log_is_kept() {
    let stage = Stage::new();
    let life = stage.start(talk(), 1, Role::Standby);

    eventually("it parks", || life.exits().waits == 1);

    assert_eq!(stage.slot.notify.read().unwrap(), 2);
    assert_eq!(life.exits().calls, 1, "LOG only");
    assert_eq!(life.log_since(0), ("hy!\n".to_owned(), 4));
    assert_eq!(life.log_since(4), (String::new(), 4));
    assert_eq!(stage.word(STATUS_BASE), 0);
}

#[test]
fn a_hundred_lives_leave_no_descriptor_behind() {
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let stage = Stage::new();
    drop(stage.start(talk(), 1, Role::Standby));
    let before = descriptors();

    for epoch in 2..=100 {
        let life = stage.start(talk(), epoch, Role::Standby);
        assert!(!life.wait_until_out(std::time::Instant::now()));
        life.force_out();
        assert!(life.wait_until_out(std::time::Instant::now() + PATIENCE));
    }

    // Other tests of this process hold some of their own at any moment, but never this many.
    assert!(descriptors() < before + 60, "{before} before, {} after", descriptors());
}
