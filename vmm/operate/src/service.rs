//! Tells the service manager that the service is ready, what state it is in, that it is alive, and
//! that it stops.
//!
//! Ready is a service whose guests have a network, with or without a spare: a service manager ends
//! what does not become ready in time, and a missing spare is no reason to take the network away.
//!
//! The protocol is that of `sd_notify(3)`: datagrams of `NAME=value` lines to the socket that the
//! environment names. Without a socket, nothing is sent.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use supervisor::Pulse;

/// The service manager, if there is one.
#[derive(Debug)]
pub struct Service {
    socket: Option<Socket>,
    watchdog: Option<Watchdog>,
    /// The state that was told last, none before the first.
    told: Option<ServiceState>,
    /// Whether the service manager knows that the service is ready.
    ready: bool,
}

/// The state of the service in one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceState {
    /// Name of the domain that serves with a NIC that is there, if one does.
    pub serving: Option<String>,
    /// Whether another domain could take over.
    pub redundant: bool,
    /// What is known to keep NICs from working, in one line; empty if nothing is.
    pub trouble: String,
}

impl fmt::Display for ServiceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.serving, self.redundant) {
            (None, _) => write!(f, "no domain serves")?,
            (Some(name), true) => write!(f, "redundant, {name} serves")?,
            (Some(name), false) => write!(f, "not redundant, {name} serves")?,
        }
        match self.trouble.is_empty() {
            true => Ok(()),
            false => write!(f, "; {}", self.trouble),
        }
    }
}

/// The socket of the service manager.
#[derive(Debug)]
struct Socket {
    own: UnixDatagram,
    manager: SocketAddr,
}

/// The watchdog of the service manager, which wants a sign of life again and again.
#[derive(Debug)]
struct Watchdog {
    every: Duration,
    /// When the last sign of life was sent.
    told: Instant,
    /// How far the vital threads had come at that moment.
    pulse: Pulse,
}

impl Service {
    /// The service manager that `NOTIFY_SOCKET` names.
    pub fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| match Self::open(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(%error, ?name, "the service manager cannot be reached");
                None
            }
        });
        let limit_us = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
        let of_another_process =
            std::env::var("WATCHDOG_PID").is_ok_and(|pid| pid.parse() != Ok(std::process::id()));
        let watchdog = limit_us.filter(|_| !of_another_process).map(|limit_us: u64| {
            // Half the limit, as sd_watchdog_enabled(3) recommends.
            let every = Duration::from_micros(limit_us / 2);
            Watchdog { every, told: Instant::now(), pulse: Pulse::default() }
        });
        Self { socket, watchdog, told: None, ready: false }
    }

    /// Sends a sign of life when it is due, if supervisor and switchboard have gone on since the
    /// last one. `pulse` tells how far they have come; a question that is not answered yet is asked
    /// again at the next call. A thread that hangs is not covered up.
    pub fn tell_alive(&mut self, pulse: impl FnOnce() -> Pulse) {
        let Some(watchdog) = &mut self.watchdog else { return };
        if watchdog.told.elapsed() < watchdog.every {
            return;
        }
        let pulse = pulse();
        if !pulse.beats_since(&watchdog.pulse) {
            return;
        }
        (watchdog.told, watchdog.pulse) = (Instant::now(), pulse);
        self.tell("WATCHDOG=1");
    }

    fn open(name: &OsString) -> io::Result<Socket> {
        let manager = match name.as_bytes() {
            [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name)?,
            path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
        };
        let own = UnixDatagram::unbound()?;
        // A service manager that does not read must not stop the service.
        own.set_nonblocking(true)?;
        Ok(Socket { own, manager })
    }

    /// Tells a state that differs from the one before. The service is ready once a domain serves.
    pub fn tell_state(&mut self, state: ServiceState) {
        if self.told.as_ref() == Some(&state) {
            return;
        }
        let ready = match state.serving.is_some() && !self.ready {
            true => "READY=1\n",
            false => "",
        };
        self.ready |= state.serving.is_some();
        self.tell(&format!("{ready}STATUS={state}"));
        self.told = Some(state);
    }

    /// Tells that the service stops.
    pub fn tell_stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, what: &str) {
        let Some(Socket { own, manager }) = &self.socket else { return };
        if let Err(error) = own.send_to_addr(what.as_bytes(), manager) {
            tracing::warn!(%error, "the service manager could not be told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_without_a_file_is_told_too() {
        let name = format!("warmspare-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let socket = Some(Service::open(&format!("@{name}").into()).unwrap());
        Service { socket, watchdog: None, told: None, ready: false }.tell_stopping();
        let mut buffer = [0; 100];
        let len = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"STOPPING=1");
    }

    #[test]
    fn the_manager_is_told_the_state_the_life_and_the_end() {
        let path = std::env::temp_dir().join(format!("warmspare-notify-{}", std::process::id()));
        let manager = UnixDatagram::bind(&path).unwrap();
        let socket = Some(Service::open(&path.clone().into()).unwrap());
        let pulse = Pulse::default();
        let watchdog = Watchdog { every: Duration::ZERO, told: Instant::now(), pulse };
        let mut service = Service { socket, watchdog: Some(watchdog), told: None, ready: false };
        let serves = |redundant| ServiceState {
            serving: Some("a".into()),
            redundant,
            trouble: String::new(),
        };
        service.tell_state(ServiceState::default());
        service.tell_state(serves(false));
        service.tell_state(serves(false));
        service.tell_state(serves(true));
        let trouble = "nic-b: gone".to_owned();
        service.tell_state(ServiceState { trouble, ..ServiceState::default() });
        service.tell_state(serves(false));
        for (samplings, turns) in [(7, 1), (7, 2), (8, 1), (8, 2)] {
            service.tell_alive(|| Pulse { samplings, turns });
        }
        service.tell_stopping();
        let received = || {
            let mut buffer = [0; 100];
            let len = manager.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..len].to_vec()).unwrap()
        };
        assert_eq!(received(), "STATUS=no domain serves");
        assert_eq!(received(), "READY=1\nSTATUS=not redundant, a serves", "ready without a spare");
        assert_eq!(received(), "STATUS=redundant, a serves", "told once, and ready once");
        assert_eq!(received(), "STATUS=no domain serves; nic-b: gone");
        assert_eq!(received(), "STATUS=not redundant, a serves");
        assert_eq!(received(), "WATCHDOG=1");
        assert_eq!(received(), "WATCHDOG=1", "not while one of the two threads stands still");
        assert_eq!(received(), "STOPPING=1");
        std::fs::remove_file(path).unwrap();
    }
}
