//! A station behind the bridge that sends frames as fast as its processor allows.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Error, Result};
use warmspare::topology::MacAddress;

use crate::realguest::lan::{HOST_INTERFACE, Namespace};

/// Its address.
pub(super) const STATION: &str = "02:77:73:00:00:21";
/// A protocol for experiments (IEEE 802, local experimental EtherType 1).
const ETHER_TYPE: [u8; 2] = [0x88, 0xb5];

/// The flood; ends when dropped.
pub(super) struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Starts to send frames of so many bytes to an address, from inside a namespace.
    pub(super) fn start(namespace: &Namespace, to: &str, bytes: usize) -> Result<Self> {
        let address = |text: &str| text.parse::<MacAddress>().map(|mac| mac.0).map_err(Error::msg);
        let mut frame = [&address(to)?[..], &address(STATION)?, &ETHER_TYPE].concat();
        frame.resize(bytes, 0x5a);
        let mut socket = namespace.run(packet_socket)?.context("no packet socket")?;
        let stop = Arc::new(AtomicBool::new(false));
        let ended = stop.clone();
        let thread = std::thread::Builder::new().name("flood".into()).spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                // Full queues on the way: the next frame.
                let _ = socket.write(&frame);
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One that is bound to the host's interface and receives nothing.
fn packet_socket() -> io::Result<File> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: plain integers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that has just been opened, and is nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: a C string.
    let index = unsafe { libc::if_nametoindex(HOST_INTERFACE.as_ptr()) };
    // SAFETY: all-zero bytes are a valid address.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = index as i32;
    let (to, len) = (std::ptr::from_ref(&address).cast(), size_of_val(&address));
    // SAFETY: an open socket and an address of the length that it is said to have.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), to, len as libc::socklen_t) };
    if bound < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(File::from(socket))
}
