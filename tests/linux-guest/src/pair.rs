//! Two NICs and one address: how a Linux user protects against a failing NIC today. This is either
//! the kernel's bonding, or a program that polls the link and moves the address and the route to
//! the other NIC.

use std::ffi::CString;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use warmspare_linux_guest::groups::FrameSocket;

use crate::sys;

const DRIVER: &str = "igb";
/// Name of the bond. The kernel creates the first bond itself when the module is loaded.
const BOND: &str = "bond0";
const BONDS: &str = "/sys/class/net/bonding_masters";
/// The gateway of the default route: the host of the test.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// The two NICs.
pub(crate) struct Pair {
    nics: [String; 2],
    address: Ipv4Addr,
    watcher: Option<Watcher>,
}

impl Pair {
    /// Waits until both NICs are there; neither is used yet.
    pub(crate) fn new(address: Ipv4Addr) -> io::Result<Self> {
        Ok(Self { nics: sys::wait_interfaces(DRIVER)?, address, watcher: None })
    }

    /// Carries out a request: `bond MS`, `unbond`, `watch MS`, `unwatch`, `carriers` (how many NICs
    /// have a carrier) or `active` (which NIC is active).
    pub(crate) fn obey(&mut self, request: &str) -> io::Result<String> {
        let (verb, number) = request.split_once(' ').unwrap_or((request, ""));
        let millis = || number.parse().map_err(|_| io::Error::other("how many milliseconds?"));
        match verb {
            "carriers" => {
                let with = self.nics.iter().filter(|nic| has_carrier(nic));
                return Ok(with.count().to_string());
            }
            "active" => return self.active().map(|active| active.to_string()),
            "bond" => self.bond(millis()?)?,
            "unbond" => self.unbond()?,
            "watch" => self.watch(Duration::from_millis(millis()?))?,
            "unwatch" => self.watcher.take().map_or(Ok(()), |watcher| watcher.end())?,
            other => return Err(io::Error::other(format!("`{other}` is unknown"))),
        }
        Ok(String::new())
    }

    fn active(&self) -> io::Result<usize> {
        if let Some(watcher) = &self.watcher {
            return Ok(watcher.active.load(Ordering::Relaxed));
        }
        let name = fs::read_to_string(format!("/sys/class/net/{BOND}/bonding/active_slave"))?;
        let place = self.nics.iter().position(|nic| nic == name.trim());
        place.ok_or_else(|| io::Error::other("neither NIC is active"))
    }

    fn bond(&self, miimon_ms: u64) -> io::Result<()> {
        if !fs::exists(format!("/sys/class/net/{BOND}"))? {
            fs::write(BONDS, format!("+{BOND}"))?;
        }
        set("mode", "active-backup")?;
        set("miimon", &miimon_ms.to_string())?;
        for nic in &self.nics {
            sys::switch(nic, false)?;
            set("slaves", &format!("+{nic}"))?;
        }
        sys::configure(BOND, self.address)
    }

    fn unbond(&self) -> io::Result<()> {
        fs::write(BONDS, format!("-{BOND}"))
    }

    fn watch(&mut self, period: Duration) -> io::Result<()> {
        // Both NICs are on one network, so each must answer ARP requests only for its own address.
        fs::write("/proc/sys/net/ipv4/conf/all/arp_ignore", "1")?;
        for nic in &self.nics {
            sys::switch(nic, true)?;
        }
        self.watcher = Some(Watcher::start(self.nics.clone(), self.address, period)?);
        Ok(())
    }
}

fn set(option: &str, value: &str) -> io::Result<()> {
    fs::write(format!("/sys/class/net/{BOND}/bonding/{option}"), value)
}

fn has_carrier(nic: &str) -> bool {
    let text = fs::read_to_string(format!("/sys/class/net/{nic}/carrier"));
    text.is_ok_and(|text| text.trim() == "1")
}

/// A thread that polls the active NIC's carrier, and moves the address when the carrier is lost.
struct Watcher {
    active: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<()>>,
}

impl Watcher {
    fn start(nics: [String; 2], address: Ipv4Addr, period: Duration) -> io::Result<Self> {
        bind(&nics[0], address)?;
        let stop = Arc::new(AtomicBool::new(false));
        let active = Arc::new(AtomicUsize::new(0));
        let (theirs, shown) = (stop.clone(), active.clone());
        let thread = std::thread::Builder::new().name("watcher".into()).spawn(move || {
            let mut active = 0;
            while !theirs.load(Ordering::Relaxed) {
                std::thread::sleep(period);
                let other = 1 - active;
                if !has_carrier(&nics[active]) && has_carrier(&nics[other]) {
                    sys::take_address(&nics[active])?;
                    bind(&nics[other], address)?;
                    active = other;
                    shown.store(active, Ordering::Relaxed);
                }
            }
            sys::take_address(&nics[active])
        })?;
        Ok(Self { active, stop, thread })
    }

    fn end(self) -> io::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| io::Error::other("the watcher has panicked"))?
    }
}

/// Gives a NIC the address and the default route, and announces this to the network.
fn bind(nic: &str, address: Ipv4Addr) -> io::Result<()> {
    sys::configure(nic, address)?;
    sys::set_default_route(GATEWAY)?;
    let name = CString::new(nic)?;
    FrameSocket::sender(&name)?.send(&announcement(&sys::mac_of(nic)?, address))
}

/// Builds an ARP announcement (RFC 5227, 3): a request for the sender's own address.
fn announcement(mac: &[u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let ip = address.octets();
    let head: [&[u8]; 4] = [&[0xff; 6], mac, &[0x08, 0x06], &[0, 1, 8, 0, 6, 4, 0, 1]];
    let body: [&[u8]; 4] = [mac, &ip, &[0; 6], &ip];
    [head.concat(), body.concat()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_asks_for_its_own_address() {
        let frame = announcement(&[2, 0, 0, 0, 0, 1], [10, 0, 0, 9].into());
        assert_eq!(frame.len(), 42);
        assert_eq!((&frame[..6], &frame[6..12]), (&[0xff; 6][..], &[2, 0, 0, 0, 0, 1][..]));
        assert_eq!((&frame[28..32], &frame[38..42]), (&[10, 0, 0, 9][..], &[10, 0, 0, 9][..]));
    }
}
