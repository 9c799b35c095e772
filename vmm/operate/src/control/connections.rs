//! The open connections of one socket: how many there may be, and which one goes when there is no
//! room for another.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

/// At least this long between two log lines about connections that were cut.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No request has arrived, or the last one is answered.
    Idle = 0,
    /// A stream is sent.
    Streaming = 1,
    /// A request is carried out.
    Busy = 2,
}

/// The phase of one connection, as its task sets it.
#[derive(Clone, Debug, Default)]
pub(super) struct PhaseCell(Arc<AtomicU8>);

impl PhaseCell {
    pub(super) fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    fn is(&self, phase: Phase) -> bool {
        self.0.load(Ordering::Relaxed) == phase as u8
    }
}

/// One connection.
#[derive(Debug)]
struct Open {
    phase: PhaseCell,
    task: AbortHandle,
}

/// The connections, oldest first.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: VecDeque<Open>,
    told: Option<Instant>,
    /// When it was told last that none can be accepted.
    refused: Option<Instant>,
    /// Connections that were cut since the last log line.
    cut: u64,
}

impl Connections {
    /// At most so many at a time.
    pub(super) fn new(most: usize) -> Self {
        Self { most, state: Mutex::default() }
    }

    /// Makes room for one more: where there is none, the oldest idle connection is cut, or else the
    /// oldest stream. Returns false if a request is carried out on each.
    ///
    /// Whoever holds all connections and does nothing with them therefore keeps nobody out.
    pub(super) fn make_room(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.open.retain(|connection| !connection.task.is_finished());
        if state.open.len() < self.most {
            return true;
        }
        let oldest = |phase| state.open.iter().position(|it| it.phase.is(phase));
        let victim = oldest(Phase::Idle).or_else(|| oldest(Phase::Streaming));
        let victim = victim.and_then(|place| state.open.remove(place));
        if let Some(victim) = &victim {
            victim.task.abort();
        }
        state.tell_cut();
        victim.is_some()
    }

    /// Tells that a connection cannot be accepted, not too often.
    pub(super) fn tell_refused(&self, error: &std::io::Error) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.refused.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            state.refused = Some(Instant::now());
            tracing::warn!(%error, "connections cannot be accepted");
        }
    }

    /// Adds a connection that a task serves.
    pub(super) fn add(&self, phase: PhaseCell, task: AbortHandle) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.open.push_back(Open { phase, task });
    }
}

impl State {
    fn tell_cut(&mut self) {
        self.cut += 1;
        if self.told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            self.told = Some(Instant::now());
            let cut = std::mem::take(&mut self.cut);
            tracing::warn!(cut, "too many connections: the oldest idle ones are cut");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection in this phase, and whether its task still runs.
    fn add(connections: &Connections, phase: Phase) -> tokio::task::JoinHandle<()> {
        assert!(connections.make_room());
        let cell = PhaseCell::default();
        cell.set(phase);
        let task = tokio::spawn(std::future::pending());
        connections.add(cell, task.abort_handle());
        task
    }

    async fn cut(task: tokio::task::JoinHandle<()>) -> bool {
        let waited = tokio::time::timeout(Duration::from_millis(50), task).await;
        matches!(waited, Ok(Err(_)))
    }

    #[test]
    fn idle_ones_go_before_streams_and_busy_ones_stay() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let connections = Connections::new(3);
            let stream = add(&connections, Phase::Streaming);
            let busy = add(&connections, Phase::Busy);
            let idle = add(&connections, Phase::Idle);
            let next = add(&connections, Phase::Busy);
            assert!(cut(idle).await, "the idle one goes first");
            let last = add(&connections, Phase::Busy);
            assert!(cut(stream).await, "then the stream");
            assert!(!connections.make_room(), "none of these may go");
            for task in [busy, next, last] {
                assert!(!cut(task).await);
            }
        });
    }
}
