//! The queue of a rebuild thread: what it is asked for, by threads that never wait for it.
//!
//! Its room is bounded, because a verdict sends into it and must not allocate. So that a failure
//! always finds room, a call that is waiting already is not sent again: however often nobody
//! serves, [`Job::Needed`] stands in the queue once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::Duration;

use super::verdict::FailoverRecord;

/// What a domain's rebuild thread is asked for. Not boxed: it is sent from the failover path, which
/// does not allocate.
#[expect(clippy::large_enum_variant, reason = "sent without allocating, a few in all")]
pub(super) enum Job {
    /// Bring the domain up for the first time, or again after it was stopped to be replaced.
    Begin,
    /// The domain has failed: record that, and build it anew.
    Failure(FailoverRecord),
    /// No domain serves, so a quarantine has to end.
    Needed,
    /// The system ends.
    Stop,
}

/// Room for jobs: one failure of the life that served, one of the life that is being built (a
/// thread empties its queue before it starts another), one call, and some to spare.
const JOBS: usize = 8;

/// The end that threads send to.
#[derive(Clone)]
pub(super) struct JobSender {
    queue: SyncSender<Job>,
    /// [`Job::Needed`] is in the queue.
    needed: Arc<AtomicBool>,
}

/// The rebuild thread's end.
pub(super) struct JobReceiver {
    queue: Receiver<Job>,
    needed: Arc<AtomicBool>,
}

/// The queue of one rebuild thread.
pub(super) fn job_queue() -> (JobSender, JobReceiver) {
    let (sender, receiver) = mpsc::sync_channel(JOBS);
    let needed = Arc::new(AtomicBool::new(false));
    (JobSender { queue: sender, needed: needed.clone() }, JobReceiver { queue: receiver, needed })
}

impl JobSender {
    /// Sends a job, without waiting and without allocating. Returns false if there is no room for
    /// it. Without a rebuild thread the whole system is ending, and nothing is missing.
    pub(super) fn send(&self, job: Job) -> bool {
        !matches!(self.queue.try_send(job), Err(TrySendError::Full(_)))
    }

    /// Tells the thread that its domain is needed, unless it has yet to hear that.
    pub(super) fn call(&self) {
        if !self.needed.swap(true, Ordering::AcqRel) && !self.send(Job::Needed) {
            // A thread whose queue is full is awake.
            self.needed.store(false, Ordering::Release);
        }
    }
}

impl JobReceiver {
    /// The next job; waits for it as long as this.
    ///
    /// # Errors
    /// The time is over, or there are no senders left.
    pub(super) fn next(&self, patience: Duration) -> Result<Job, RecvTimeoutError> {
        let job = self.queue.recv_timeout(patience)?;
        if matches!(job, Job::Needed) {
            self.needed.store(false, Ordering::Release);
        }
        Ok(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_never_take_the_room_of_a_failure() {
        let (sender, receiver) = job_queue();
        (0..100).for_each(|_| sender.call());
        assert!(sender.send(Job::Begin), "there is room");
        assert!(matches!(receiver.next(Duration::ZERO), Ok(Job::Needed)));
        assert!(matches!(receiver.next(Duration::ZERO), Ok(Job::Begin)));
        assert!(receiver.next(Duration::ZERO).is_err(), "one call stood for all");
        sender.call();
        assert!(matches!(receiver.next(Duration::ZERO), Ok(Job::Needed)), "a later one is heard");
    }
}
