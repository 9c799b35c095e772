//! Streams: events as JSON lines or server-sent events, and the dashboard's live feed.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use tokio::sync::watch;

use crate::observe::bus::{Delivery, Published, Subscription};

/// How events are written to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrapping {
    /// One JSON value a line.
    Lines,
    /// Server-sent events.
    ServerSent,
}

impl Wrapping {
    fn content_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::ServerSent => "text/event-stream",
        }
    }

    fn event(self, delivery: &Delivery) -> Bytes {
        let line = delivery.line();
        match (self, delivery) {
            (Self::Lines, _) => format!("{line}\n"),
            (Self::ServerSent, Delivery::Event(event)) => {
                format!("event: {}\nid: {}\ndata: {line}\n\n", event.kind, event.seq)
            }
            (Self::ServerSent, Delivery::Lost(_)) => format!("event: lost\ndata: {line}\n\n"),
        }
        .into()
    }
}

fn respond(wrapping: Wrapping, body: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let body = Body::from_stream(body.map(Ok::<_, Infallible>));
    let headers =
        [(header::CONTENT_TYPE, wrapping.content_type()), (header::CACHE_CONTROL, "no-store")];
    (headers, body).into_response()
}

/// Answers with past events and then, if wanted, with those that follow.
pub(super) fn events(
    wrapping: Wrapping,
    past: Vec<Arc<Published>>,
    coming: Option<Subscription>,
) -> Response {
    let past = stream::iter(past).map(move |event| wrapping.event(&Delivery::Event(event)));
    match coming {
        None => respond(wrapping, past),
        Some(coming) => respond(wrapping, past.chain(following(wrapping, coming))),
    }
}

fn following(wrapping: Wrapping, coming: Subscription) -> impl Stream<Item = Bytes> + Send {
    stream::unfold(coming, move |mut coming| async move {
        let delivery = coming.next().await?;
        Some((wrapping.event(&delivery), coming))
    })
}

/// Answers with the dashboard's feed: the state now, each new state, and every event, as server-sent
/// events.
pub(super) fn live(
    first: Arc<str>,
    states: watch::Receiver<Arc<str>>,
    coming: Subscription,
) -> Response {
    let next_states = stream::unfold(states, |mut states| async move {
        states.changed().await.ok()?;
        let state = states.borrow_and_update().clone();
        Some((state_event(&state), states))
    });
    let events = following(Wrapping::ServerSent, coming);
    let both = stream::select(Box::pin(events), Box::pin(next_states));
    respond(Wrapping::ServerSent, stream::iter([state_event(&first)]).chain(both))
}

fn state_event(state: &str) -> Bytes {
    format!("event: state\ndata: {state}\n\n").into()
}
