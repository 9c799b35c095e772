//! The system calls of a TAP device (the kernel's Documentation/networking/tuntap.rst).

use std::ffi::c_ulong;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::error::TapError;

/// Bytes of an interface's name, its final zero included.
const NAME_BYTES: usize = libc::IFNAMSIZ;

/// Whether a TAP that is not there is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum IfAbsent {
    /// It is created, and switched on.
    Create,
    /// It is an error: somebody has deleted it, and will make it again.
    Fail,
}

/// A descriptor for one TAP, and the TAP that it is attached to, if there is one. The descriptor
/// stays the same for ever, so whoever sleeps on it need not know what is behind it; without a TAP
/// it is an eventfd that nobody writes to, and never ready.
pub(super) struct Device {
    pub(super) file: File,
    nothing: EventFd,
    /// Index of the interface; 0 if there is none.
    index: AtomicU32,
    /// MTU of the network behind it.
    mtu: u16,
}

impl Device {
    /// A descriptor that is attached to nothing, for TAPs on a network with this MTU.
    pub(super) fn detached(mtu: u16) -> io::Result<Self> {
        let nothing = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        // SAFETY: a duplicate that was just made, and that nothing else owns.
        let file = unsafe { File::from_raw_fd(nothing.try_clone()?.into_raw_fd()) };
        Ok(Self { file, nothing, index: AtomicU32::new(0), mtu })
    }

    /// Index of the interface that this is attached to.
    pub(super) fn index(&self) -> Option<u32> {
        Some(self.index.load(Ordering::Acquire)).filter(|&index| index != 0)
    }

    /// Attaches to the TAP `name`.
    pub(super) fn attach(&self, name: &str, if_absent: IfAbsent) -> Result<(), TapError> {
        let failed = |what| {
            let name = name.to_owned();
            move |source| TapError::System { name, what, source }
        };
        let request = request(name).ok_or_else(|| TapError::Name(name.to_owned()))?;
        let control = control_socket().map_err(failed("be asked for"))?;
        let found = index_of(&control, request).ok();
        let absent = || TapError::Absent { name: name.to_owned() };
        if found.is_none() && if_absent == IfAbsent::Fail {
            return Err(absent());
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .map_err(TapError::NoTun)?;
        attach(&file, request).map_err(|source| refusal(name, found.is_some(), source))?;
        let index = index_of(&control, request).map_err(failed("be found"))?;
        if found.is_none() {
            set_mtu(&control, request, self.mtu).map_err(failed("be given its MTU"))?;
            switch_on(&control, request).map_err(failed("be switched on"))?;
        } else if found != Some(index) && if_absent == IfAbsent::Fail {
            // It was deleted just now, and attaching has made another, which goes with `file`.
            return Err(absent());
        }
        self.replace(file.as_raw_fd()).map_err(failed("be attached to"))?;
        self.check_mtu(name, &control, request);
        self.index.store(index, Ordering::Release);
        Ok(())
    }

    /// Says of a TAP whose MTU is too small how to mend that: the kernel drops what is longer without
    /// a word. It is its owner's, so it is left as it is.
    fn check_mtu(&self, name: &str, control: &OwnedFd, request: libc::ifreq) {
        let needed = self.mtu;
        if let Ok(found) = mtu_of(control, request)
            && found < i32::from(needed)
        {
            tracing::warn!(
                "the TAP {name} has an MTU of {found}, the topology {needed}: longer frames do not \
                 pass; ip link set {name} mtu {needed}"
            );
        }
    }

    /// Lets go of the TAP.
    pub(super) fn detach(&self) {
        self.index.store(0, Ordering::Release);
        if let Err(error) = self.replace(self.nothing.as_raw_fd()) {
            tracing::error!(%error, "a TAP cannot be let go of");
        }
    }

    /// Has the descriptor stand for what `by` stands for. Reads and writes that are under way end
    /// on what it stood for before.
    fn replace(&self, by: RawFd) -> io::Result<()> {
        // SAFETY: both descriptors are open, and `file` owns the one that is replaced.
        let done = unsafe { libc::dup3(by, self.file.as_raw_fd(), libc::O_CLOEXEC) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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

/// The MTU of an interface.
fn mtu_of(control: &OwnedFd, mut request: libc::ifreq) -> io::Result<i32> {
    ioctl(control.as_raw_fd(), libc::SIOCGIFMTU as c_ulong, &mut request)?;
    // SAFETY: SIOCGIFMTU has filled this member, and it is a plain integer in any case.
    Ok(unsafe { request.ifr_ifru.ifru_mtu })
}

/// Gives an interface an MTU, unless it has that.
fn set_mtu(control: &OwnedFd, mut request: libc::ifreq, mtu: u16) -> io::Result<()> {
    if mtu_of(control, request)? == i32::from(mtu) {
        return Ok(());
    }
    request.ifr_ifru.ifru_mtu = i32::from(mtu);
    ioctl(control.as_raw_fd(), libc::SIOCSIFMTU as c_ulong, &mut request)
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
