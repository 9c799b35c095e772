//! What the thread of a socket sleeps on.

use std::os::fd::RawFd;
use std::time::Instant;

use super::waiting::MAX_WAITING;

/// Most descriptors: stop, damage, connection, listener, and those that wait.
const ENTRIES: usize = 4 + MAX_WAITING;

/// Place of the connection among them.
const CONNECTION: usize = 2;

/// The descriptors to sleep on.
pub(super) struct Sources {
    entries: [libc::pollfd; ENTRIES],
    used: usize,
}

/// What ended a sleep.
pub(super) struct Woken {
    pub(super) stop: bool,
    pub(super) damage: bool,
    pub(super) connection: bool,
    /// Whether the front-end that is served has gone; what it sent before is still to be read.
    pub(super) hung_up: bool,
    pub(super) listener: bool,
    /// For each front-end that waits, whether it has gone.
    pub(super) gone: [bool; MAX_WAITING],
}

impl Sources {
    /// Sources without a descriptor that ends the sleep. An absent one is left out.
    pub(super) fn new(
        stop: RawFd,
        damage: RawFd,
        connection: Option<RawFd>,
        listener: Option<RawFd>,
    ) -> Self {
        // poll(2) skips negative descriptors.
        let fds = [stop, damage, connection.unwrap_or(-1), listener.unwrap_or(-1)];
        let nothing = libc::pollfd { fd: -1, events: 0, revents: 0 };
        let mut sources = Self { entries: [nothing; ENTRIES], used: 0 };
        fds.into_iter().for_each(|fd| sources.add(fd, libc::POLLIN));
        sources
    }

    /// Adds a front-end that waits; what it sends does not end the sleep, but its end does.
    pub(super) fn add_waiting(&mut self, fd: RawFd) {
        self.add(fd, libc::POLLRDHUP);
    }

    fn add(&mut self, fd: RawFd, events: i16) {
        if let Some(entry) = self.entries.get_mut(self.used) {
            *entry = libc::pollfd { fd, events, revents: 0 };
            self.used += 1;
        }
    }

    /// Sleeps until one of them has something, or the deadline.
    pub(super) fn wait(mut self, deadline: Option<Instant>) -> Woken {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // Rounded up, so that the deadline is over afterwards.
        let timeout_ms = left.map_or(-1, |left| left.as_millis() as libc::c_int + 1);
        // SAFETY: as many entries as said, which outlive the call.
        let count =
            unsafe { libc::poll(self.entries.as_mut_ptr(), self.used as libc::nfds_t, timeout_ms) };
        let [stop, damage, connection, listener, gone @ ..] =
            self.entries.map(|entry| count > 0 && entry.revents != 0);
        let hung_up = connection && self.entries[CONNECTION].revents & libc::POLLHUP != 0;
        Woken { stop, damage, connection, hung_up, listener, gone }
    }
}
