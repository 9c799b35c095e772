//! Captures made by hand; the ones of real domains are opened with gdb in the integration tests.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use object::LittleEndian;
use object::elf::{ET_CORE, PT_LOAD, PT_NOTE};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};

use super::capture::{Cursors, RingCursors};
use super::elf::{Area, flags};
use super::notes::{NOTE_BUILD_ID, NOTE_CAUSE, NOTE_NAME};
use super::*;
use crate::topology::DumpSpec;
use microvm::kvm::{FXSAVE_BYTES, Image, Registers};
use switchboard::QuarantinedFrame;

/// A folder of a test's own; removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("warmspare-dumps-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn spec(&self, keep: u32, max_mib: u32) -> DumpSpec {
        DumpSpec { dir: self.0.clone(), keep, max_mib }
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn capture(area_bytes: usize) -> Capture {
    let ring = RingCursors { published: 7, consumed: 5 };
    let mut bytes = vec![0; area_bytes];
    bytes[4096..4100].copy_from_slice(b"here");
    Capture {
        config: CaptureConfig {
            cause: "crash",
            text: "invalid opcode".into(),
            verdict_ns: 1,
            was_active: true,
            poison: vec![QuarantinedFrame { takeover: 3, bytes: vec![0xab, 0xcd] }],
        },
        domain: "a".into(),
        epoch: 9,
        registers: Some(Registers { rip: 0x1234, ..Registers::default() }),
        vector_registers: Some([0; FXSAVE_BYTES]),
        signal: libc::SIGILL,
        areas: vec![
            Area { address: 0x4_0000, rights: flags::READ | flags::EXECUTE, bytes },
            Area { address: 0x10_0000, rights: flags::READ, bytes: vec![0; 8192] },
        ],
        log: "one\ntwo\n".into(),
        cursors: Cursors {
            tx_post: ring,
            tx_done: ring,
            rx_provide: ring,
            rx_done: ring,
            rx_next: 1,
            heartbeat: 2,
            parked: 0,
        },
        image: Arc::new(Image::parse(guest_images::DRIVER_DOMAIN).unwrap()),
        captured_unix_ms: 4,
    }
}

#[test]
fn a_core_file_holds_memory_registers_and_cause() {
    let capture = capture(12_288);
    let mut file = Cursor::new(Vec::new());
    elf::write(&mut file, &capture.notes(), &capture.areas).unwrap();
    let file = file.into_inner();

    let core = ElfFile64::<LittleEndian>::parse(&file[..]).unwrap();
    let endian = core.endian();

    assert_eq!(core.elf_header().e_type(endian), ET_CORE);
    let headers = core.elf_program_headers();
    let loads: Vec<_> = headers.iter().filter(|h| h.p_type(endian) == PT_LOAD).collect();
    assert_eq!(loads.len(), 2);
    let text = loads[0].data(endian, &file[..]).unwrap();
    assert_eq!((loads[0].p_vaddr(endian), text.len()), (0x4_0000, 12_288));
    assert_eq!(&text[4096..4100], b"here");
    assert_eq!(loads[1].data(endian, &file[..]).unwrap(), [0; 8192]);
    let notes = headers.iter().find(|h| h.p_type(endian) == PT_NOTE).unwrap();
    let mut found = Vec::new();
    let mut notes = notes.notes(endian, &file[..]).unwrap().unwrap();
    while let Some(note) = notes.next().unwrap() {
        found.push((note.name().to_vec(), note.n_type(endian), note.desc().to_vec()));
    }
    let own = |kind: u32| found.iter().find(|n| n.0 == NOTE_NAME.as_bytes() && n.1.0 == kind);
    assert_eq!(own(NOTE_CAUSE).unwrap().2, b"crash: invalid opcode");
    assert_eq!(own(NOTE_BUILD_ID).unwrap().2, capture.image.build_id());
    assert_eq!(capture.image.build_id().len(), 20, "the linker makes a SHA-1");
    assert_eq!(found.iter().filter(|n| n.0 == b"CORE").count(), 3);
}

#[test]
fn a_failure_has_its_folder_and_tells_its_story() {
    let folder = Folder::new();
    let mut store = DumpStore::open(folder.spec(4, 100)).unwrap();

    let saved = store.save(&capture(8192)).unwrap();

    assert_eq!(saved, folder.0.join("000001-a-crash"));
    assert_eq!(fs::read(saved.join(IMAGE_FILE)).unwrap(), guest_images::DRIVER_DOMAIN);
    let text = fs::read_to_string(saved.join(FAILURE_FILE)).unwrap();
    let failure: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(failure["schema"], "warmspare.failure/1");
    assert_eq!(failure["registers"]["rip"], "0x1234");
    assert_eq!(failure["log"], serde_json::json!(["one", "two"]));
    assert_eq!(failure["cursors"]["tx_post"]["consumed"], 5);
    assert_eq!(failure["poison_frames"][0]["hex"], "abcd");
}

#[test]
fn the_oldest_failures_make_room_by_number_and_by_size() {
    let folder = Folder::new();
    let mut store = DumpStore::open(folder.spec(3, 100)).unwrap();
    for _ in 0..5 {
        store.save(&capture(8192)).unwrap();
    }
    assert_eq!(folder.names(), ["000003-a-crash", "000004-a-crash", "000005-a-crash"]);

    // With two kept bounds, the narrower one counts; counting goes on where it ended.
    let one = guest_images::DRIVER_DOMAIN.len() + (4 << 20) + (16 << 10);
    let fit = (10 << 20) / one;
    assert!((1..3).contains(&fit), "{one} bytes a dump: the test needs other bounds");
    let mut store = DumpStore::open(folder.spec(3, 10)).unwrap();
    for _ in 0..3 {
        store.save(&capture(4 << 20)).unwrap();
    }
    assert_eq!(folder.names(), ["000007-a-crash", "000008-a-crash"][2 - fit..]);
}

#[test]
fn nothing_of_others_is_removed_and_half_a_dump_is() {
    let folder = Folder::new();
    for name in ["notes", "000001", ".partial-x", ".partial-7", "7-a-crash"] {
        fs::create_dir(folder.0.join(name)).unwrap();
    }
    let mut store = DumpStore::open(folder.spec(1, 100)).unwrap();
    for _ in 0..2 {
        store.save(&capture(8192)).unwrap();
    }
    assert_eq!(
        folder.names(),
        [".partial-x", "000001", "000002-a-crash", "7-a-crash", "notes"],
        "only numbered failures and half-done ones are ours"
    );
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error() {
    let spec = DumpSpec { dir: Path::new("/proc/no/such").to_owned(), keep: 1, max_mib: 8 };
    let error = DumpStore::open(spec).unwrap_err();
    assert!(error.to_string().contains("/proc/no/such"), "{error}");
}

#[test]
fn a_dump_that_cannot_be_written_leaves_nothing() {
    let folder = Folder::new();
    let mut store = DumpStore::open(folder.spec(4, 100)).unwrap();
    // In place of the file that is written last: a folder.
    fs::create_dir_all(folder.0.join(".partial-1")).unwrap();
    let error = store.save(&capture(8192)).unwrap_err();
    assert!(error.to_string().contains("its folder"), "{error}");
    assert!(folder.names().is_empty());
    assert!(store.save(&capture(8192)).is_ok(), "the next one can be written");
}
