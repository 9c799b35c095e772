//! Front-ends that have connected while another one is served. Each gets its turn when those before
//! it have ended; most often it is a second guest that was given the socket by mistake, so that it is
//! told.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::peer::Peer;

/// Most front-ends that are accepted beforehand. Others stay in the socket's own queue.
pub(super) const MAX_WAITING: usize = 4;
/// At least this long between two log lines, so that one that comes and goes does not fill the log.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Those that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    streams: VecDeque<UnixStream>,
    told: Option<Instant>,
    untold: u64,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.streams.len() < MAX_WAITING
    }

    /// Adds one.
    pub(super) fn add(&mut self, stream: UnixStream) {
        self.streams.push_back(stream);
    }

    /// Tells of one that has connected to this socket beside the one that is served.
    pub(super) fn tell(&mut self, stream: &UnixStream, served: &UnixStream, socket: &Path) {
        if self.told.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            self.untold += 1;
            return;
        }
        self.told = Some(Instant::now());
        let untold = std::mem::take(&mut self.untold);
        tracing::warn!(
            socket = %socket.display(),
            untold,
            "a second front-end ({}) has connected, and waits until the first one ({}) ends: give \
             each guest a socket of its own",
            Peer::of(stream),
            Peer::of(served)
        );
    }

    /// The one whose turn it is.
    pub(super) fn next(&mut self) -> Option<UnixStream> {
        self.streams.pop_front()
    }

    /// Their descriptors, in order.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.streams.iter().map(AsRawFd::as_raw_fd)
    }

    /// Forgets those that have gone, by their places.
    pub(super) fn forget(&mut self, gone: &[bool]) {
        let mut places = gone.iter();
        self.streams.retain(|_| places.next() != Some(&true));
    }
}
