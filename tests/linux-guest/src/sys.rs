//! The system calls that the init makes.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a driver may take to create its interfaces.
const INTERFACE_DEADLINE: Duration = Duration::from_secs(20);

/// Mounts the file systems that programs expect.
pub(crate) fn mount_all() -> io::Result<()> {
    let points = [(c"proc", c"/proc"), (c"sysfs", c"/sys"), (c"devtmpfs", c"/dev")];
    points.into_iter().try_for_each(|(kind, target)| mount(kind, target))
}

fn mount(kind: &CStr, target: &CStr) -> io::Result<()> {
    // SAFETY: the strings are C strings, and there is no data.
    let done =
        unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    checked(done)
}

/// Loads all modules of the initramfs, in order.
pub(crate) fn load_modules() -> io::Result<()> {
    let mut paths: Vec<_> = fs::read_dir("/modules")?.flatten().map(|e| e.path()).collect();
    paths.sort();
    paths.iter().try_for_each(|path| load_module(path))
}

fn load_module(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    // SAFETY: the file is open, the parameters are an empty C string, and there are no flags.
    let done = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
    checked(done as i32)
}

/// Returns the value of a word `name=value` on the kernel's command line.
pub(crate) fn boot_argument(name: &str) -> Option<String> {
    let line = fs::read_to_string("/proc/cmdline").ok()?;
    let mut words = line.split_whitespace().filter_map(|word| word.split_once('='));
    words.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

/// Release of the running kernel.
pub(crate) fn kernel_release() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}

/// Returns the interfaces that a driver has created, in the order of their places on the bus.
pub(crate) fn interfaces(driver: &str) -> Vec<String> {
    let Ok(all) = fs::read_dir("/sys/class/net") else { return Vec::new() };
    let mut made: Vec<_> = all
        .flatten()
        .filter_map(|entry| {
            let of = fs::read_link(entry.path().join("device/driver")).ok()?;
            let place = fs::read_link(entry.path().join("device")).ok()?;
            of.ends_with(driver).then_some((place, entry.file_name().into_string().ok()?))
        })
        .collect();
    made.sort();
    made.into_iter().map(|(_, name)| name).collect()
}

/// Waits until a driver has created `N` interfaces, and returns them.
pub(crate) fn wait_interfaces<const N: usize>(driver: &str) -> io::Result<[String; N]> {
    let end = Instant::now() + INTERFACE_DEADLINE;
    loop {
        if let Ok(names) = interfaces(driver).try_into() {
            return Ok(names);
        }
        if Instant::now() > end {
            return Err(io::Error::other(format!("{driver} does not make {N} interfaces")));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Gives an interface its address, with a 24-bit netmask, and switches it on.
pub(crate) fn configure(interface: &str, address: Ipv4Addr) -> io::Result<()> {
    let mut request = request_for(interface);
    request.ifr_ifru.ifru_addr = socket_address(address);
    control(libc::SIOCSIFADDR, &request)?;
    request.ifr_ifru.ifru_addr = socket_address(Ipv4Addr::new(255, 255, 255, 0));
    control(libc::SIOCSIFNETMASK, &request)?;
    switch(interface, true)
}

/// Switches an interface on or off.
pub(crate) fn switch(interface: &str, on: bool) -> io::Result<()> {
    let mut request = request_for(interface);
    request.ifr_ifru.ifru_flags = if on { libc::IFF_UP as libc::c_short } else { 0 };
    control(libc::SIOCSIFFLAGS, &request)
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut bytes = [0; 14];
    bytes[2..6].copy_from_slice(&address.octets());
    let sa_data = bytes.map(|byte| byte as libc::c_char);
    libc::sockaddr { sa_family: libc::AF_INET as u16, sa_data }
}

fn request_for(interface: &str) -> libc::ifreq {
    // SAFETY: all-zero bytes are a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let last = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..last].iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn control<T>(what: libc::Ioctl, request: &T) -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: the socket is open, and the request is complete and of the type that `what` requires.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), what, std::ptr::from_ref(request)) })
}

/// Removes an interface's address; the kernel removes the routes through it too.
pub(crate) fn take_address(interface: &str) -> io::Result<()> {
    let mut request = request_for(interface);
    request.ifr_ifru.ifru_addr = socket_address(Ipv4Addr::UNSPECIFIED);
    control(libc::SIOCSIFADDR, &request)
}

/// Routes everything through a gateway.
pub(crate) fn set_default_route(gateway: Ipv4Addr) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid route.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = socket_address(gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    control(libc::SIOCADDRT, &route)
}

/// Hardware address of an interface.
pub(crate) fn mac_of(nic: &str) -> io::Result<[u8; 6]> {
    let text = fs::read_to_string(format!("/sys/class/net/{nic}/address"))?;
    let bytes = text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16));
    let bytes: Vec<u8> = bytes.collect::<Result<_, _>>().map_err(io::Error::other)?;
    bytes.try_into().map_err(|_| io::Error::other("no MAC address"))
}

/// Puts a terminal in raw mode, so that bytes pass through unchanged.
pub(crate) fn make_raw(terminal: &File) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid `termios`, which is then filled.
    let mut settings: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, and `settings` is a `termios` to fill.
    checked(unsafe { libc::tcgetattr(terminal.as_raw_fd(), &mut settings) })?;
    // SAFETY: `settings` is a filled `termios`.
    unsafe { libc::cfmakeraw(&mut settings) };
    // SAFETY: the descriptor is open, and `settings` is a filled `termios`.
    checked(unsafe { libc::tcsetattr(terminal.as_raw_fd(), libc::TCSANOW, &settings) })
}

/// Returns what the kernel has logged so far.
pub(crate) fn kernel_log() -> String {
    const READ_ALL: i32 = 3;
    let mut bytes = vec![0_u8; 1 << 20];
    // SAFETY: the buffer has the length it is said to have.
    let len = unsafe { libc::klogctl(READ_ALL, bytes.as_mut_ptr().cast(), bytes.len() as i32) };
    bytes.truncate(len.max(0) as usize);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reboots the machine.
pub(crate) fn reboot() -> io::Result<()> {
    // SAFETY: a plain integer; init has nothing that a file system would lose.
    checked(unsafe { libc::reboot(libc::RB_AUTOBOOT) })
}

/// Switches the machine off.
pub(crate) fn power_off() {
    // SAFETY: a plain integer; init has nothing that a file system would lose.
    let _ = unsafe { libc::reboot(libc::RB_POWER_OFF) };
}

fn checked(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
