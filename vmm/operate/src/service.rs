//! What a service manager is told: ready when the network is redundant, and when it ends.
//!
//! The protocol of `sd_notify(3)`: datagrams of `NAME=value` lines to the socket that the
//! environment names. Without one, nothing is sent.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// The service manager, if there is one.
#[derive(Debug)]
pub struct Service {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Watchdog>,
}

/// What the service manager wants to hear again and again.
#[derive(Debug)]
struct Watchdog {
    every: Duration,
    told: Instant,
    looks: u64,
}

impl Service {
    /// The one that `NOTIFY_SOCKET` names.
    pub fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| match Self::open(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(%error, ?name, "the service manager cannot be told anything");
                None
            }
        });
        let limit_us = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
        let of_another =
            std::env::var("WATCHDOG_PID").is_ok_and(|pid| pid.parse() != Ok(std::process::id()));
        let watchdog = limit_us.filter(|_| !of_another).map(|limit_us: u64| {
            // Half the limit, as sd_watchdog_enabled(3) recommends.
            let every = Duration::from_micros(limit_us / 2);
            Watchdog { every, told: Instant::now(), looks: 0 }
        });
        Self { socket, watchdog }
    }

    /// The supervisor has looked so often: if that is more than last time, and it is time, the
    /// manager is told that the service lives. A supervisor that stands still is not covered up.
    pub fn tell_alive(&mut self, looks: u64) {
        let Some(watchdog) = &mut self.watchdog else { return };
        if watchdog.told.elapsed() < watchdog.every || looks == watchdog.looks {
            return;
        }
        (watchdog.told, watchdog.looks) = (Instant::now(), looks);
        self.tell("WATCHDOG=1");
    }

    fn open(name: &OsString) -> io::Result<(UnixDatagram, SocketAddr)> {
        let address = match name.as_bytes() {
            [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name)?,
            path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
        };
        let socket = UnixDatagram::unbound()?;
        // A service manager that does not read must not stop what it manages.
        socket.set_nonblocking(true)?;
        Ok((socket, address))
    }

    /// Redundancy is there, or gone. It is there for the first time: the service is ready.
    pub fn tell_redundancy(&self, redundant: bool) {
        self.tell(match redundant {
            true => "READY=1\nSTATUS=redundant",
            false => "STATUS=not redundant",
        });
    }

    /// It ends.
    pub fn tell_stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, what: &str) {
        let Some((socket, address)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(what.as_bytes(), address) {
            tracing::warn!(%error, "the service manager does not listen");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_hears_of_redundancy_and_of_the_end() {
        let path = std::env::temp_dir().join(format!("warmspare-notify-{}", std::process::id()));
        let manager = UnixDatagram::bind(&path).unwrap();
        let socket = Some(Service::open(&path.clone().into()).unwrap());
        let watchdog = Watchdog { every: Duration::ZERO, told: Instant::now(), looks: 0 };
        let mut service = Service { socket, watchdog: Some(watchdog) };
        service.tell_redundancy(true);
        service.tell_alive(7);
        service.tell_alive(7);
        service.tell_stopping();
        let heard = || {
            let mut buffer = [0; 100];
            let len = manager.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..len].to_vec()).unwrap()
        };
        assert_eq!(heard(), "READY=1\nSTATUS=redundant");
        assert_eq!(heard(), "WATCHDOG=1", "once: the supervisor has not looked again");
        assert_eq!(heard(), "STOPPING=1");
        std::fs::remove_file(path).unwrap();
    }
}
