//! The system calls of a TAP device (the kernel's Documentation/networking/tuntap.rst).

use std::ffi::c_ulong;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use super::error::TapError;

/// Bytes of an interface's name, its final zero included.
const NAME_BYTES: usize = libc::IFNAMSIZ;
const RUNNING: i32 = libc::IFF_RUNNING;

/// A TAP that is ours as long as this lives.
pub(super) struct Device {
    pub(super) file: File,
    pub(super) index: u32,
}

impl Device {
    /// Attaches to the TAP `name`; one that is not there is created, and switched on.
    pub(super) fn open(name: &str) -> Result<Self, TapError> {
        let failed = |what| {
            let name = name.to_owned();
            move |source| TapError::System { name, what, source }
        };
        let request = request(name).ok_or_else(|| TapError::Name(name.to_owned()))?;
        let control = control_socket().map_err(failed("be asked for"))?;
        let was_there = index_of(&control, request).is_ok();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .map_err(TapError::NoTun)?;
        attach(&file, request).map_err(|source| refusal(name, was_there, source))?;
        let index = index_of(&control, request).map_err(failed("be found"))?;
        if !was_there {
            switch_on(&control, request).map_err(failed("be switched on"))?;
        }
        Ok(Self { file, index })
    }
}

/// Why TUNSETIFF failed, in words that help.
fn refusal(name: &str, was_there: bool, source: io::Error) -> TapError {
    let name = name.to_owned();
    match source.raw_os_error() {
        Some(libc::EPERM) => TapError::Forbidden { name },
        Some(libc::EBUSY) => TapError::Busy { name },
        Some(libc::EINVAL) if was_there => TapError::NoTap { name },
        _ => TapError::System { name, what: "be attached to", source },
    }
}

/// Returns true if the interface `name` is operational: on, and with a carrier.
pub(super) fn is_running(name: &str) -> io::Result<bool> {
    let mut request = request(name).ok_or(io::ErrorKind::InvalidInput)?;
    let socket = control_socket()?;
    ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as c_ulong, &mut request)?;
    // SAFETY: SIOCGIFFLAGS has filled this member, and it is a plain integer in any case.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(i32::from(flags) & RUNNING != 0)
}

/// A request that names an interface; `None` if no interface can have that name.
fn request(name: &str) -> Option<libc::ifreq> {
    let fits = (1..NAME_BYTES).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
    if !fits {
        return None;
    }
    // SAFETY: all-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Some(request)
}

/// Frames as they are on the wire: no packet information, no virtio-net header; and nothing left to
/// do for the reader, no checksum and no segmentation.
fn attach(file: &File, mut request: libc::ifreq) -> io::Result<()> {
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as i16;
    ioctl(file.as_raw_fd(), libc::TUNSETIFF as c_ulong, &mut request)?;
    // SAFETY: TUNSETOFFLOAD takes a plain integer.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD as c_ulong, 0) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn index_of(control: &OwnedFd, mut request: libc::ifreq) -> io::Result<u32> {
    ioctl(control.as_raw_fd(), libc::SIOCGIFINDEX as c_ulong, &mut request)?;
    // SAFETY: SIOCGIFINDEX has filled this member, and it is a plain integer in any case.
    Ok(unsafe { request.ifr_ifru.ifru_ifindex } as u32)
}

fn switch_on(control: &OwnedFd, mut request: libc::ifreq) -> io::Result<()> {
    ioctl(control.as_raw_fd(), libc::SIOCGIFFLAGS as c_ulong, &mut request)?;
    // SAFETY: SIOCGIFFLAGS has filled this member, and it is a plain integer in any case.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as i16;
    ioctl(control.as_raw_fd(), libc::SIOCSIFFLAGS as c_ulong, &mut request)
}

/// A socket that interface requests go through.
fn control_socket() -> io::Result<OwnedFd> {
    // SAFETY: plain integers; the result is checked.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn ioctl(fd: RawFd, number: c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: all numbers used here take an `ifreq`, which is valid for reads and writes.
    let done = unsafe { libc::ioctl(fd, number as _, std::ptr::from_mut(request)) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_interface_can_have_are_refused() {
        assert!(request("tap0").is_some());
        assert!(request("fifteen-letters").is_some());
        for bad in ["", "sixteen--letters", "with space", "ümlaut"] {
            assert!(request(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_loopback_is_known_and_is_no_tap() {
        let control = control_socket().unwrap();
        assert!(index_of(&control, request("lo").unwrap()).unwrap() > 0);
        assert!(index_of(&control, request("no-such-if").unwrap()).is_err());
    }
}
