//! A test guest's memory: a memfd that, unlike a real guest's, can be truncated.

use std::fs::File;
use std::os::fd::FromRawFd;
use std::sync::atomic::Ordering;

use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

/// Guest-physical address of the first byte; not zero, so that a forgotten offset has an effect.
pub const GUEST_BASE: u64 = 0x10_0000;
/// Address of the same byte in the front-end's own address space, as the back-end is told.
pub const USER_BASE: u64 = 0x7f12_0000_0000;
/// Size of the memory in bytes.
const BYTES: u64 = 4 << 20;

/// Memory of a test guest, addressed by guest-physical addresses.
pub struct GuestRam {
    file: File,
    map: GuestMemoryMmap<()>,
}

impl Default for GuestRam {
    fn default() -> Self {
        Self::new()
    }
}

impl GuestRam {
    /// Creates memory full of zeroes.
    ///
    /// # Panics
    /// Panics if the operating system refuses.
    pub fn new() -> Self {
        let file = memfd(BYTES);
        let offset = FileOffset::new(file.try_clone().expect("a descriptor"), 0);
        let range = (GuestAddress(GUEST_BASE), BYTES as usize, Some(offset));
        let map = GuestMemoryMmap::from_ranges_with_files([range]).expect("a mapping");
        Self { file, map }
    }

    /// The memfd.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Length in bytes.
    pub fn bytes(&self) -> u64 {
        BYTES
    }

    /// The address in the front-end's address space that stands for a guest-physical one.
    pub fn user_address(address: u64) -> u64 {
        address - GUEST_BASE + USER_BASE
    }

    /// Copies bytes in.
    ///
    /// # Panics
    /// Panics if this is outside the memory.
    pub fn write(&self, address: u64, bytes: &[u8]) {
        self.map.write_slice(bytes, GuestAddress(address)).expect("an address in guest memory");
    }

    /// Copies bytes out.
    ///
    /// # Panics
    /// Panics if this is outside the memory.
    pub fn read(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.map.read_slice(&mut bytes, GuestAddress(address)).expect("an address in guest memory");
        bytes
    }

    /// Stores an index that the device reads.
    ///
    /// # Panics
    /// Panics if this is outside the memory.
    pub fn store(&self, address: u64, value: u16) {
        self.map
            .store(value, GuestAddress(address), Ordering::SeqCst)
            .expect("an address in guest memory");
    }

    /// Loads an index that the device writes.
    ///
    /// # Panics
    /// Panics if this is outside the memory.
    pub fn load(&self, address: u64) -> u16 {
        self.map.load(GuestAddress(address), Ordering::SeqCst).expect("an address in guest memory")
    }
}

/// Creates a memfd of `bytes` bytes, without seals.
///
/// # Panics
/// Panics if the operating system refuses.
pub fn memfd(bytes: u64) -> File {
    // SAFETY: the name is a C string; the result is checked, and the new descriptor has one owner.
    let file = unsafe {
        let fd = libc::memfd_create(c"test-guest".as_ptr(), libc::MFD_CLOEXEC);
        assert!(fd >= 0, "no memfd");
        File::from_raw_fd(fd)
    };
    file.set_len(bytes).expect("room for the guest's memory");
    file
}
