//! Which program is at the other end of a Unix socket.

use std::fmt;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// The process that has connected, as it was at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    process: Option<(i32, u32)>,
}

impl Peer {
    pub(super) fn of(stream: &UnixStream) -> Self {
        let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
        let mut bytes = size_of::<libc::ucred>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `bytes` bytes to `peer`; both outlive the call.
        let result = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERCRED,
                (&raw mut peer).cast(),
                &raw mut bytes,
            )
        };
        // A process of another PID namespace has the number 0.
        Self { process: (result == 0 && peer.pid != 0).then_some((peer.pid, peer.uid)) }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.process {
            Some((process, user)) => write!(f, "process {process} of user {user}"),
            None => f.write_str("process unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_end_is_named() {
        let (one, _other) = UnixStream::pair().unwrap();
        let shown = Peer::of(&one).to_string();
        assert!(shown.starts_with(&format!("process {} of user ", std::process::id())), "{shown}");
    }
}
