//! What a service manager is told: ready when the network is redundant, and when it ends.
//!
//! The protocol of `sd_notify(3)`: datagrams of `NAME=value` lines to the socket that the
//! environment names. Without one, nothing is sent.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The service manager, if there is one.
#[derive(Debug)]
pub struct Service {
    socket: Option<(UnixDatagram, SocketAddr)>,
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
        Self { socket }
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
        let service = Service { socket: Some(Service::open(&path.clone().into()).unwrap()) };
        service.tell_redundancy(true);
        service.tell_stopping();
        let heard = || {
            let mut buffer = [0; 100];
            let len = manager.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..len].to_vec()).unwrap()
        };
        assert_eq!(heard(), "READY=1\nSTATUS=redundant");
        assert_eq!(heard(), "STOPPING=1");
        std::fs::remove_file(path).unwrap();
    }
}
