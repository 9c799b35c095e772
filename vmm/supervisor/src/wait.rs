//! Waiting by polling, for threads on which no failover depends.

use std::time::{Duration, Instant};

use platform::budget::REBUILD_POLL;

/// Time between two checks of [`wait_until`].
const SHORT: Duration = Duration::from_micros(50);

/// Checks every 50 µs until `holds` is true or the time is over; returns whether it became true.
/// For planned operations only.
pub(super) fn wait_until(deadline: Duration, mut holds: impl FnMut() -> bool) -> bool {
    poll_every(SHORT, deadline, || holds().then_some(())).is_some()
}

/// Asks every [`REBUILD_POLL`] until there is an answer or the time is over. For rebuild threads
/// only, whose results nobody waits for.
pub(super) fn poll<T>(deadline: Duration, ask: impl FnMut() -> Option<T>) -> Option<T> {
    poll_every(REBUILD_POLL, deadline, ask)
}

fn poll_every<T>(
    pause: Duration,
    deadline: Duration,
    mut ask: impl FnMut() -> Option<T>,
) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        let late = Instant::now() >= end;
        // Asked after the clock was read: this thread may have been preempted in between.
        let answer = ask();
        if answer.is_some() || late {
            return answer;
        }
        std::thread::sleep(pause);
    }
}
