//! Serves the test's requests: each request is one line, and so is each reply.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::Ipv4Addr;

use crate::listener::Listener;
use crate::pair::Pair;
use crate::{VIRTIO, sys};

const DRIVER: &str = "/sys/bus/virtio/drivers/virtio_net";

/// Serves requests for ever.
pub(crate) fn serve(path: &str, address: Ipv4Addr, mut pair: Option<Pair>) -> io::Result<()> {
    let port = OpenOptions::new().read(true).write(true).open(path)?;
    sys::make_raw(&port)?;
    let mut replies = port.try_clone()?;
    writeln!(replies, "ready {}", sys::kernel_release())?;
    let mut listener = None;
    for line in BufReader::new(port).lines() {
        let line = line?;
        let done = match &mut pair {
            Some(pair) => pair.obey(line.trim()),
            None => obey(line.trim(), address, &mut listener),
        };
        let reply = match done {
            Ok(text) => format!("ok {text}"),
            Err(error) => format!("failed {error}"),
        };
        writeln!(replies, "{}", reply.replace('\n', "; "))?;
    }
    Ok(())
}

fn obey(request: &str, address: Ipv4Addr, listener: &mut Option<Listener>) -> io::Result<String> {
    let with = || {
        let mut all = sys::interfaces(VIRTIO);
        all.pop().ok_or_else(|| io::Error::other("there is no interface"))
    };
    match request {
        "status" => status(&with()?),
        "errors" => Ok(kernel_errors()),
        "identity" => identity(&with()?),
        "groups start" => {
            *listener = Some(Listener::start(&with()?)?);
            Ok(String::new())
        }
        "groups stop" => {
            let listener = listener.take().ok_or_else(|| io::Error::other("no listener"))?;
            Ok(listener.finish())
        }
        "link down" => sys::switch(&with()?, false).map(|()| String::new()),
        "link up" => sys::configure(&with()?, address).map(|()| String::new()),
        "unbind" => bind("unbind", &device()?).map(|()| String::new()),
        "bind" => {
            bind("bind", &unbound_device()?)?;
            let [interface] = sys::wait_interfaces(VIRTIO)?;
            sys::configure(&interface, address).map(|()| String::new())
        }
        "reboot" => sys::reboot().map(|()| String::new()),
        other => Err(io::Error::other(format!("`{other}` is unknown"))),
    }
}

/// Reports the carrier, how often it changed, and the counters of frames, errors and drops.
fn status(interface: &str) -> io::Result<String> {
    let folder = format!("/sys/class/net/{interface}");
    let names = [
        "carrier",
        "carrier_changes",
        "statistics/rx_packets",
        "statistics/rx_errors",
        "statistics/tx_errors",
        "statistics/rx_dropped",
    ];
    let mut words = Vec::new();
    for name in names {
        let value = fs::read_to_string(format!("{folder}/{name}"))?;
        let name = name.rsplit('/').next().unwrap_or(name);
        words.push(format!("{name}={}", value.trim()));
    }
    let overflows = full_sockets(&fs::read_to_string("/proc/net/snmp")?);
    words.push(format!("udp_overflows={}", overflows.unwrap_or_default()));
    Ok(words.join(" "))
}

/// How many datagrams were dropped because a socket's receive buffer was full: a column of the UDP
/// table in `/proc/net/snmp`.
fn full_sockets(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Udp:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|name| name == "RcvbufErrors")?;
    values.split_whitespace().nth(place)?.parse().ok()
}

/// Reports the guest's boot ID and MAC address, which stay the same as long as it runs, even if it
/// is migrated, and its uptime.
fn identity(interface: &str) -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let mac = fs::read_to_string(format!("/sys/class/net/{interface}/address"))?;
    let uptime = fs::read_to_string("/proc/uptime")?;
    let seconds = uptime.split('.').next().unwrap_or_default();
    Ok(format!("boot={} mac={} uptime={seconds}", boot.trim(), mac.trim()))
}

/// Reports how many lines of the kernel's log have severity error or worse, and the last of them.
fn kernel_errors() -> String {
    let log = sys::kernel_log();
    let is_error = |line: &&str| ["<0>", "<1>", "<2>", "<3>"].iter().any(|l| line.starts_with(l));
    let errors: Vec<_> = log.lines().filter(is_error).collect();
    format!("{} {}", errors.len(), errors.last().copied().unwrap_or_default())
}

fn bind(what: &str, device: &str) -> io::Result<()> {
    fs::write(format!("{DRIVER}/{what}"), device)
}

/// Name of the virtio device that the driver is bound to.
fn device() -> io::Result<String> {
    virtio_devices(DRIVER)?.pop().ok_or_else(|| io::Error::other("the driver has no device"))
}

/// Name of a virtio network device without a driver.
fn unbound_device() -> io::Result<String> {
    let all = virtio_devices("/sys/bus/virtio/devices")?;
    let is_free = |name: &String| {
        let folder = format!("/sys/bus/virtio/devices/{name}");
        let kind = fs::read_to_string(format!("{folder}/device")).unwrap_or_default();
        kind.trim() == "0x0001" && fs::symlink_metadata(format!("{folder}/driver")).is_err()
    };
    all.into_iter().find(is_free).ok_or_else(|| io::Error::other("no device without a driver"))
}

fn virtio_devices(folder: &str) -> io::Result<Vec<String>> {
    let names = fs::read_dir(folder)?.flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("virtio")).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_sockets_are_found() {
        let text = "Ip: Forwarding\nIp: 1\nUdp: InDatagrams NoPorts RcvbufErrors SndbufErrors\n\
            Udp: 10 2 7 0\n";
        assert_eq!((full_sockets(text), full_sockets("")), (Some(7), None));
    }
}
