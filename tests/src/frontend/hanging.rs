//! A file whose file system has stopped answering: a FUSE daemon that serves its open, and then
//! nothing more. Every further question to it waits until the daemon ends.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// `FUSE_GETATTR`, `FUSE_OPEN`, `FUSE_INIT` of linux/fuse.h.
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const INIT: u32 = 26;
/// Mode of the one file that there is: the root itself.
const MODE: u32 = 0o100_644;

/// The file, its daemon, and the place where it is mounted.
pub struct HangingFile {
    device: Arc<Mutex<Option<File>>>,
    place: PathBuf,
    file: Option<File>,
}

impl HangingFile {
    /// Mounts it; after `patience` the daemon ends, so that a test that waits for it fails instead
    /// of waiting for ever.
    ///
    /// # Panics
    /// Panics without the rights to mount.
    pub fn new(name: &str, patience: Duration) -> Self {
        let place = std::env::temp_dir().join(format!("warmspare-{name}-{}", std::process::id()));
        File::create(&place).expect("a place to mount at");
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let device = device.expect("/dev/fuse: run this test as root");
        mount(&place, &device);
        let daemon = device.try_clone().expect("a descriptor");
        let daemon = std::thread::spawn(move || serve_open(daemon));
        let file = OpenOptions::new().read(true).write(true).open(&place).expect("the file");
        daemon.join().expect("a daemon");
        let device = Arc::new(Mutex::new(Some(device)));
        let end = device.clone();
        std::thread::spawn(move || {
            std::thread::sleep(patience);
            drop(end.lock().map(|mut device| device.take()));
        });
        Self { device, place, file: Some(file) }
    }

    /// The file.
    ///
    /// # Panics
    /// Never, as long as this lives.
    pub fn file(&self) -> &File {
        self.file.as_ref().expect("a file until it is dropped")
    }

    /// Ends the daemon: whatever waits for it gets an error.
    pub fn end(&self) {
        drop(self.device.lock().map(|mut device| device.take()));
    }
}

impl Drop for HangingFile {
    fn drop(&mut self) {
        // The daemon first: the file's close would wait for it.
        self.end();
        self.file = None;
        let place = CString::new(self.place.as_os_str().as_bytes()).unwrap_or_default();
        // SAFETY: a C string.
        unsafe { libc::umount2(place.as_ptr(), libc::MNT_DETACH) };
        let _ = std::fs::remove_file(&self.place);
    }
}

fn mount(place: &Path, device: &File) {
    let options = format!("fd={},rootmode={MODE:o},user_id=0,group_id=0", device.as_raw_fd());
    let options = CString::new(options).expect("no zero");
    let place = CString::new(place.as_os_str().as_bytes()).expect("no zero");
    let (source, flags) = (c"warmspare-test", libc::MS_NOSUID | libc::MS_NODEV);
    // SAFETY: four C strings that outlive the call.
    let result = unsafe {
        let kind = c"fuse".as_ptr();
        libc::mount(source.as_ptr(), place.as_ptr(), kind, flags, options.as_ptr().cast())
    };
    assert_eq!(result, 0, "this test mounts a file system: run it as root");
}

/// Answers until the file is open.
fn serve_open(mut device: File) {
    let mut request = vec![0; 1 << 20];
    loop {
        let bytes = device.read(&mut request).expect("a request");
        let word = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|i| request[at + i]));
        let (opcode, unique) = (word(4), request[8..16].to_vec());
        assert!(bytes >= 40, "a whole header");
        let body = match opcode {
            INIT => words(&[7, 31, 0, 0, 0, 4096, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            // Good for no time, so that it is asked for again.
            GETATTR => attributes(),
            OPEN => words(&[1, 0, 0, 0]),
            other => panic!("request {other} before the file is open"),
        };
        let mut reply = words(&[16 + body.len() as u32, 0]);
        reply.extend(unique);
        reply.extend(body);
        device.write_all(&reply).expect("an answer");
        if opcode == OPEN {
            return;
        }
    }
}

/// `struct fuse_attr_out`.
fn attributes() -> Vec<u8> {
    let mut bytes = words(&[0; 26]);
    bytes[16..24].copy_from_slice(&1u64.to_ne_bytes());
    bytes[24..32].copy_from_slice(&(1u64 << 30).to_ne_bytes());
    bytes[76..80].copy_from_slice(&MODE.to_ne_bytes());
    bytes[80..84].copy_from_slice(&1u32.to_ne_bytes());
    bytes
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
