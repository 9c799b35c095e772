//! The sender host: a raw socket on the third NIC.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nic::wire::MAX_FRAME_BYTES;

use crate::sys;

const ETH_P_ALL: u16 = 3;

/// Returns the name of the interface that a driver has made.
pub(crate) fn interface_of(driver: &str) -> Result<String> {
    for entry in fs::read_dir("/sys/class/net")?.flatten() {
        let link = fs::read_link(entry.path().join("device/driver"));
        if link.is_ok_and(|link| link.ends_with(driver)) {
            return Ok(entry.file_name().to_string_lossy().into_owned());
        }
    }
    bail!("no interface has the driver {driver}")
}

/// A raw socket that sends and receives all frames of one interface, as they are on the wire.
pub(crate) struct RawWire {
    socket: OwnedFd,
    interface: String,
}

/// How long a frame may take to leave the sender's host: QEMU's main thread takes it from there,
/// and may not get to run for long.
const DEPARTURE: Duration = Duration::from_secs(2);

impl RawWire {
    /// Opens the wire of the third NIC.
    pub(crate) fn open() -> Result<Self> {
        let interface = interface_of("virtio_net")?;
        sys::set_up(&interface, true)?;
        sys::forbid_gluing(&interface)?;
        let index = fs::read_to_string(format!("/sys/class/net/{interface}/ifindex"))?;
        let index = index.trim().parse().context("no interface index")?;
        Self::on(index, interface).context("no raw socket")
    }

    fn on(index: i32, interface: String) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let protocol = i32::from(ETH_P_ALL.to_be());
        // SAFETY: plain integers; the result is checked.
        let socket = unsafe { libc::socket(libc::AF_PACKET, kind, protocol) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nothing else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        // SAFETY: all-zero bytes are a valid address.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ETH_P_ALL.to_be();
        address.sll_ifindex = index;
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: an open socket, and an address of the length it is said to have.
        let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        let wire = Self { socket, interface };
        wire.make_room()?;
        wire.hear_everything(index)?;
        Ok(wire)
    }

    /// Makes the receive buffer large enough for all frames that a NIC without a link holds back
    /// and then releases at once: a frame that the sender's host drops would be taken for one lost
    /// on the way.
    fn make_room(&self) -> io::Result<()> {
        let bytes: libc::c_int = 16 << 20;
        // SAFETY: an open socket, and a value of the length it is said to have.
        let done = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                (&raw const bytes).cast(),
                size_of_val(&bytes) as libc::socklen_t,
            )
        };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Switches to promiscuous mode for as long as the socket lives.
    fn hear_everything(&self, index: i32) -> io::Result<()> {
        let request = libc::packet_mreq {
            mr_ifindex: index,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        // SAFETY: an open socket, and a request of the length it is said to have.
        let done = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_ADD_MEMBERSHIP,
                (&raw const request).cast(),
                size_of_val(&request) as libc::socklen_t,
            )
        };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Puts a frame on the wire.
    pub(crate) fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: the buffer has the length it is said to have.
        let sent =
            unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent != frame.len() as isize {
            bail!("a frame was not sent: {}", io::Error::last_os_error());
        }
        Ok(())
    }

    /// Puts a frame on the wire and waits until it has passed every NIC on it that takes frames.
    pub(crate) fn pass(&self, frame: &[u8]) -> Result<()> {
        let before = self.departed()?;
        self.send(frame)?;
        if !self.wait_departed(before + 1, DEPARTURE)? {
            bail!("a frame does not leave the sender's host");
        }
        Ok(())
    }

    /// Returns the number of frames that have left the sender's host. It does not include frames
    /// that QEMU holds back because no NIC on the wire takes frames.
    pub(crate) fn departed(&self) -> Result<u64> {
        let path = format!("/sys/class/net/{}/statistics/tx_packets", self.interface);
        fs::read_to_string(path)?.trim().parse().context("no number of frames")
    }

    /// Waits until `count` frames have left. Returns false if they have not within the given time.
    pub(crate) fn wait_departed(&self, count: u64, within: Duration) -> Result<bool> {
        let end = Instant::now() + within;
        while self.departed()? < count {
            if Instant::now() > end {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(true)
    }

    /// Returns the next frame, if there is one. Frames from stations that are not the tests' are
    /// skipped.
    pub(crate) fn receive(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; MAX_FRAME_BYTES];
        let len = self.receive_into(&mut bytes)?;
        bytes.truncate(len);
        Some(bytes)
    }

    /// Like [`Self::receive`], into a buffer of [`MAX_FRAME_BYTES`] or more. Returns the frame's
    /// length.
    pub(crate) fn receive_into(&self, bytes: &mut [u8]) -> Option<usize> {
        loop {
            // SAFETY: all-zero bytes are a valid address, and it is written by the call.
            let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            let mut from_len = size_of_val(&from) as libc::socklen_t;
            // SAFETY: buffer and address have the lengths they are said to have.
            let len = unsafe {
                libc::recvfrom(
                    self.socket.as_raw_fd(),
                    bytes.as_mut_ptr().cast(),
                    bytes.len(),
                    0,
                    (&raw mut from).cast(),
                    &mut from_len,
                )
            };
            let len = usize::try_from(len).ok()?;
            if from.sll_pkttype != libc::PACKET_OUTGOING && is_test_frame(&bytes[..len]) {
                return Some(len);
            }
        }
    }

    /// Returns the next frame if one arrives within the deadline.
    pub(crate) fn receive_within(&self, deadline: Duration) -> Option<Vec<u8>> {
        let end = Instant::now() + deadline;
        loop {
            let frame = self.receive();
            if frame.is_some() || Instant::now() >= end {
                return frame;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Discards all frames that have arrived.
    pub(crate) fn clear(&self) {
        while self.receive().is_some() {}
    }
}

impl AsFd for RawWire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Ethertype of test frames: one for local experiments (IEEE 802, EtherType assignments).
const TEST_ETHERTYPE: [u8; 2] = [0x88, 0xb5];

/// The tests' stations have addresses that begin with these bytes, and a last byte below 16.
pub(crate) const STATIONS: [u8; 5] = [0x52, 0x54, 0, 0x77, 0x73];

fn is_test_frame(frame: &[u8]) -> bool {
    frame.len() >= 14 && frame[6..11] == STATIONS && frame[11] < 0x10
}

/// Makes a test frame of `len` bytes whose payload shows its number.
pub(crate) fn test_frame(to: [u8; 6], from: [u8; 6], number: u8, len: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(len);
    frame.extend_from_slice(&to);
    frame.extend_from_slice(&from);
    frame.extend_from_slice(&TEST_ETHERTYPE);
    while frame.len() < len {
        frame.push(number.wrapping_add(frame.len() as u8));
    }
    frame
}
