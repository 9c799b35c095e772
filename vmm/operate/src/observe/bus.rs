//! Delivers events to any number of subscribers.
//!
//! Every subscriber can lag behind by [`QUEUE_EVENTS`]. One that is slower loses the oldest events
//! and is told how many. Publishing never waits.

use std::sync::Arc;

use tokio::sync::broadcast;

/// Events that a subscriber may lag behind: minutes of a system that fails all the time.
const QUEUE_EVENTS: usize = 1024;

/// An event that is delivered.
#[derive(Debug)]
pub(crate) struct Published {
    /// Its number.
    pub(crate) seq: u64,
    /// The value of its key `event`.
    pub(crate) kind: &'static str,
    /// The whole line, without its end.
    pub(crate) json: String,
}

/// What a subscriber receives.
#[derive(Clone, Debug)]
pub(crate) enum Delivery {
    /// The next event.
    Event(Arc<Published>),
    /// So many events were lost before the next one.
    Lost(u64),
}

/// Where events are published.
#[derive(Debug)]
pub(crate) struct EventBus {
    sender: broadcast::Sender<Arc<Published>>,
}

/// One subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    receiver: broadcast::Receiver<Arc<Published>>,
}

impl Default for EventBus {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(QUEUE_EVENTS) }
    }
}

impl EventBus {
    /// Hands an event to all subscribers.
    pub(crate) fn publish(&self, event: Arc<Published>) {
        // An error only means that there is no subscriber.
        let _ = self.sender.send(event);
    }

    /// Subscribes to all events from now on.
    pub(crate) fn subscribe(&self) -> Subscription {
        Subscription { receiver: self.sender.subscribe() }
    }
}

impl Subscription {
    /// Waits for the next event. Returns `None` once the bus is dropped and everything is read.
    pub(crate) async fn next(&mut self) -> Option<Delivery> {
        Self::delivery(self.receiver.recv().await)
    }

    /// Like [`Self::next`], for a thread without an async runtime.
    pub(crate) fn next_blocking(&mut self) -> Option<Delivery> {
        Self::delivery(self.receiver.blocking_recv())
    }

    fn delivery(received: Result<Arc<Published>, broadcast::error::RecvError>) -> Option<Delivery> {
        match received {
            Ok(event) => Some(Delivery::Event(event)),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(Delivery::Lost(count)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Delivery {
    /// The JSON line for this delivery, without its end. Lost events are told by an event of their
    /// own.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Event(event) => event.json.clone(),
            Self::Lost(count) => format!("{{\"event\":\"lost\",\"count\":{count}}}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64) -> Arc<Published> {
        Arc::new(Published { seq, kind: "link", json: format!("{{\"seq\":{seq}}}") })
    }

    #[test]
    fn a_slow_subscriber_loses_the_oldest_and_is_told_how_many() {
        let bus = EventBus::default();
        let mut slow = bus.subscribe();
        let extra = 5;
        (0..QUEUE_EVENTS as u64 + extra).for_each(|seq| bus.publish(event(seq)));
        drop(bus);
        assert!(matches!(slow.next_blocking(), Some(Delivery::Lost(n)) if n == extra));
        assert!(matches!(slow.next_blocking(), Some(Delivery::Event(e)) if e.seq == extra));
    }

    #[test]
    fn each_subscriber_receives_everything_from_its_beginning_on() {
        let bus = EventBus::default();
        let mut early = bus.subscribe();
        bus.publish(event(1));
        let mut late = bus.subscribe();
        bus.publish(event(2));
        let seq = |subscription: &mut Subscription| match subscription.next_blocking() {
            Some(Delivery::Event(event)) => event.seq,
            other => panic!("{other:?}"),
        };
        assert_eq!((seq(&mut early), seq(&mut early), seq(&mut late)), (1, 2, 2));
    }

    #[test]
    fn the_end_of_the_bus_ends_the_subscription() {
        let bus = EventBus::default();
        let mut subscription = bus.subscribe();
        drop(bus);
        assert!(subscription.next_blocking().is_none());
    }
}
