//! The thread that watches the service as a whole: tells when its state changes.
//!
//! Off every path: it is nudged when a role or a link changes, and looks then.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use super::event::Event;
use super::failover::Failover;

/// Tells of every change of the system's state, until the last nudger is gone.
pub(super) fn run(failover: &Arc<Failover>, nudges: &Receiver<bool>, events: &Sender<Event>) {
    let mut known = failover.system_state();
    while let Ok(true) = nudges.recv() {
        let state = failover.system_state();
        let from = std::mem::replace(&mut known, state);
        if from != state {
            // Nobody may listen.
            let _ = events.send(Event::State { from, to: state });
        }
    }
}
