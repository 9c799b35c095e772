//! System calls that an init makes.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{Context, Result};

/// Mounts the file systems that programs expect.
pub(crate) fn mount_all() -> Result<()> {
    // Nothing is mounted over /tmp: the root is in memory already, and may hold a source tree
    // there.
    for (kind, target) in [(c"proc", c"/proc"), (c"sysfs", c"/sys"), (c"devtmpfs", c"/dev")] {
        mount(kind, target).with_context(|| format!("{target:?} cannot be mounted"))?;
    }
    Ok(())
}

fn mount(kind: &CStr, target: &CStr) -> io::Result<()> {
    // SAFETY: the pointers are those of C strings; there is no data.
    let done =
        unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    checked(done)
}

/// Loads all modules of the initramfs, in order.
pub(crate) fn load_modules() -> Result<Vec<String>> {
    let mut paths: Vec<_> = fs::read_dir("/modules")?.flatten().map(|e| e.path()).collect();
    paths.sort();
    let mut names = Vec::new();
    for path in paths {
        load_module(&path).with_context(|| format!("{} does not load", path.display()))?;
        names.extend(path.file_stem().and_then(|name| name.to_str()).map(str::to_owned));
    }
    Ok(names)
}

fn load_module(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    // SAFETY: an open file, an empty C string, no flags.
    let done = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
    checked(done as i32)
}

/// Switches the machine off.
pub(crate) fn power_off() {
    // SAFETY: plain integers; init has no data that a file system would lose.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
}

/// Returns the release of the running kernel.
pub(crate) fn kernel_release() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}

/// Returns the value of a word `name=value` on the kernel's command line.
pub(crate) fn boot_argument(name: &str) -> Option<String> {
    let line = fs::read_to_string("/proc/cmdline").ok()?;
    let words = line.split_whitespace();
    words
        .filter_map(|word| word.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, v)| v.into())
}

/// Switches an interface on or off.
pub(crate) fn set_up(interface: &str, up: bool) -> Result<()> {
    // The kernel itself sets IFF_RUNNING and the like.
    let flags = if up { libc::IFF_UP as libc::c_short } else { 0 };
    let mut request = request_for(interface)?;
    request.ifr_ifru.ifru_flags = flags;
    control(libc::SIOCSIFFLAGS, &request).with_context(|| format!("{interface} cannot be switched"))
}

/// Switches off GRO, with which the kernel merges received TCP segments before any program sees
/// them.
pub(crate) fn forbid_gluing(interface: &str) -> Result<()> {
    /// `struct ethtool_value` of the kernel's ethtool.h.
    #[repr(C)]
    struct EthtoolValue {
        command: u32,
        value: u32,
    }
    const ETHTOOL_SGRO: u32 = 0x2c;
    let mut off = EthtoolValue { command: ETHTOOL_SGRO, value: 0 };
    let mut request = request_for(interface)?;
    request.ifr_ifru.ifru_data = (&raw mut off).cast();
    control(libc::SIOCETHTOOL, &request).with_context(|| format!("{interface}: GRO stays on"))
}

fn request_for(interface: &str) -> Result<libc::ifreq> {
    let name = CString::new(interface)?;
    // SAFETY: all-zero bytes are a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes_with_nul()) {
        *to = *from as libc::c_char;
    }
    Ok(request)
}

/// Makes a request to the kernel's network devices. What `request` points to must outlive the call.
fn control(what: libc::Ioctl, request: &libc::ifreq) -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").or_else(|_| UdpSocket::bind("0.0.0.0:0"))?;
    // SAFETY: an open socket and a whole request, whose pointer is that of a live value.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), what, std::ptr::from_ref(request)) })
}

/// Returns what the kernel has logged so far.
pub(crate) fn kernel_log() -> String {
    const READ_ALL: i32 = 3;
    let mut bytes = vec![0u8; 1 << 20];
    // SAFETY: the buffer has the length it is said to have.
    let len = unsafe { libc::klogctl(READ_ALL, bytes.as_mut_ptr().cast(), bytes.len() as i32) };
    bytes.truncate(len.max(0) as usize);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn checked(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
