use super::*;
use crate::fakes::{foreign, memfd};
use vm_memory::Bytes;

const PAGE: u64 = 4096;

fn spec(bytes: u64, file_offset: u64) -> RegionSpec {
    RegionSpec { guest_address: 0x10_0000, bytes, user_address: 0x7000_0000, file_offset }
}

fn memory(file: &File, bytes: u64) -> GuestMemory {
    GuestMemory::new(&[Arc::new(MappedRegion::map(spec(bytes, 0), &foreign(file)).unwrap())])
        .unwrap()
}

#[test]
fn a_region_must_lie_within_its_file() {
    let file = memfd(4 * PAGE);
    assert!(MappedRegion::map(spec(4 * PAGE, 0), &foreign(&file)).is_ok());
    assert!(MappedRegion::map(spec(PAGE, 3 * PAGE), &foreign(&file)).is_ok());
    for (bytes, offset) in [(4 * PAGE + 1, 0), (PAGE + 1, 3 * PAGE), (1, 4 * PAGE)] {
        let refused = MappedRegion::map(spec(bytes, offset), &foreign(&file));
        assert!(matches!(refused, Err(GuestMemoryError::LargerThanFile { .. })));
    }
    for (bytes, offset) in [(0, 0), (PAGE, u64::MAX - 5), (u64::MAX, 0)] {
        let refused = MappedRegion::map(spec(bytes, offset), &foreign(&file));
        assert!(matches!(refused, Err(GuestMemoryError::Impossible(_))), "{bytes} {offset}");
    }
}

#[test]
fn only_files_are_memory() {
    for path in ["/dev/zero", "/proc/self"] {
        let refused = MappedRegion::map(spec(PAGE, 0), &File::open(path).unwrap().into());
        assert!(matches!(refused, Err(GuestMemoryError::NotMemory)), "{path}");
    }
    // A file that may only be read cannot be guest memory either.
    let file = memfd(PAGE);
    let read_only = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    let refused = MappedRegion::map(spec(PAGE, 0), &foreign(&read_only));
    assert!(matches!(refused, Err(GuestMemoryError::Map(_))));
}

#[test]
fn addresses_are_translated_within_regions_only() {
    let file = memfd(4 * PAGE);
    let memory = memory(&file, 2 * PAGE);
    assert_eq!(memory.guest_address(0x7000_0010), Some(0x10_0010));
    assert_eq!(memory.guest_address(0x7000_0000 + 2 * PAGE), None);
    assert_eq!(memory.guest_address(0x6fff_ffff), None);
    assert!(memory.read_obj::<u64>(GuestAddress(0x10_0000)).is_ok());
    assert!(memory.read_obj::<u64>(GuestAddress(0)).is_err());
}

#[test]
fn overlapping_and_too_many_regions_are_refused() {
    let file = memfd(64 * PAGE);
    let region = |guest_address| {
        let spec = RegionSpec { guest_address, ..spec(PAGE, 0) };
        Arc::new(MappedRegion::map(spec, &foreign(&file)).unwrap())
    };
    let table = |regions: &[Arc<MappedRegion>]| GuestMemory::new(regions).map(drop);
    assert!(table(&[region(2 * PAGE), region(0), region(PAGE)]).is_ok());
    assert!(matches!(table(&[region(0), region(10)]), Err(GuestMemoryError::Table)));
    assert!(matches!(table(&[]), Err(GuestMemoryError::Table)));
    let many: Vec<_> = (0..MAX_REGIONS as u64 + 1).map(|n| region(n * PAGE)).collect();
    assert!(matches!(table(&many), Err(GuestMemoryError::Table)));
}

#[test]
fn a_range_may_go_on_in_the_next_region_but_not_over_a_gap() {
    let file = memfd(8 * PAGE);
    let region = |page: u64| {
        let spec = RegionSpec { guest_address: page * PAGE, ..spec(PAGE, page * PAGE) };
        Arc::new(MappedRegion::map(spec, &foreign(&file)).unwrap())
    };
    let memory = GuestMemory::new(&[region(4), region(1), region(2)]).unwrap();
    let bytes: Vec<u8> = (0..=255).collect();
    memory.write_slice(&bytes, GuestAddress(2 * PAGE - 100)).unwrap();
    let mut back = [0; 256];
    memory.read_slice(&mut back, GuestAddress(2 * PAGE - 100)).unwrap();
    assert_eq!(back, bytes[..]);
    assert_eq!(memory.piece(2 * PAGE - 100, 256).unwrap().len(), 100);
    assert!(memory.holds(PAGE, 2 * PAGE as usize) && memory.holds(0, 0));
    assert!(!memory.holds(PAGE, 2 * PAGE as usize + 1) && !memory.holds(PAGE - 1, 2));
    assert!(!memory.holds(4 * PAGE, usize::MAX) && !memory.holds(u64::MAX, 2));
    assert!(memory.write_slice(&bytes, GuestAddress(3 * PAGE - 100)).is_err());
}

#[test]
fn a_region_that_begins_within_a_page_is_no_memory() {
    let file = memfd(4 * PAGE);
    let askew = Arc::new(MappedRegion::map(spec(PAGE, 512), &foreign(&file)).unwrap());
    assert!(matches!(GuestMemory::new(&[askew]), Err(GuestMemoryError::Impossible(_))));
}

#[test]
fn a_truncated_file_reads_as_zeroes_and_shows() {
    let file = memfd(4 * PAGE);
    let memory = memory(&file, 4 * PAGE);
    let at = |page: u64| GuestAddress(0x10_0000 + page * PAGE);
    memory.write_obj(7u64, at(0)).unwrap();
    memory.write_obj(7u64, at(3)).unwrap();
    file.set_len(PAGE).unwrap();
    assert!(!memory.is_truncated(), "nobody has looked yet");
    assert_eq!(memory.read_obj::<u64>(at(0)).unwrap(), 7);
    assert!(!memory.is_truncated());
    assert_eq!(memory.read_obj::<u64>(at(3)).unwrap(), 0);
    assert!(memory.is_truncated());
    memory.write_slice(&[1; 2 * PAGE as usize], at(1)).unwrap();
    assert_eq!(memory.read_obj::<u8>(at(2)).unwrap(), 1);
}

/// In a process of its own, which must die of it.
#[test]
fn a_bus_error_elsewhere_ends_the_process_as_before() {
    const ALONE: &str = "WARMSPARE_TEST_BUS_ERROR";
    if std::env::var_os(ALONE).is_some() {
        let file = memfd(PAGE);
        let _registered = memory(&file, PAGE);
        let other = memfd(PAGE);
        let mapped = map_shared(&other, 0, PAGE as usize).unwrap();
        other.set_len(0).unwrap();
        // SAFETY: mapped; the read is what is tested, it does not return.
        unsafe { mapped.as_ptr().cast::<u8>().read_volatile() };
        return;
    }
    use std::os::unix::process::ExitStatusExt;
    let module = module_path!().split_once("::").unwrap().1;
    let name = format!("{module}::a_bus_error_elsewhere_ends_the_process_as_before");
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name.as_str(), "--exact"])
        .env(ALONE, "1")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.signal(), Some(libc::SIGBUS));
}
