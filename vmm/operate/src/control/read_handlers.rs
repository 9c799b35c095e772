//! Handlers of requests that only read.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::app_state::AppState;
use super::endpoints::SERVER_SENT_EVENTS;
use super::error::{ApiError, ErrorCode};
use super::input::QueryOf;
use super::openapi::document;
use super::stream::{self, Wrapping};
use crate::observe::openmetrics::Format;
use crate::observe::{DomainView, FailoverView, Rates, Snapshot, metrics as exposed};

pub(super) async fn state(State(app): State<AppState>) -> Json<Snapshot> {
    Json(app.observer.snapshot(&app.sampler))
}

pub(super) async fn domain(
    State(app): State<AppState>,
    Path(name): Path<String>,
) -> Result<Json<DomainView>, ApiError> {
    let found = app.observer.view.domains().into_iter().find(|domain| domain.name == name);
    let missing = || ApiError::new(ErrorCode::UnknownDomain, "there is no domain of this name");
    found.map(Json).ok_or_else(missing)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FailoversQuery {
    most: Option<usize>,
}

pub(super) async fn failovers(
    State(app): State<AppState>,
    QueryOf(query): QueryOf<FailoversQuery>,
) -> Json<Vec<FailoverView>> {
    Json(app.observer.recorder.failovers(query.most.unwrap_or(usize::MAX)))
}

pub(super) async fn samples(State(app): State<AppState>) -> Json<Vec<Rates>> {
    Json(app.sampler.samples())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    follow: bool,
}

pub(super) async fn events(
    State(app): State<AppState>,
    QueryOf(query): QueryOf<EventsQuery>,
    headers: HeaderMap,
) -> Response {
    let header =
        |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let server_sent =
        header(header::ACCEPT).is_some_and(|kinds| kinds.contains(SERVER_SENT_EVENTS));
    // A browser that connects again sends the number of the last event that it received.
    let last_seen = header(header::HeaderName::from_static("last-event-id"));
    let after = last_seen.and_then(|seq| seq.parse().ok()).unwrap_or(query.after);
    let wrapping = if server_sent { Wrapping::ServerSent } else { Wrapping::Lines };
    let (past, coming) = app.observer.recorder.subscribe_after(after);
    stream::events(wrapping, past, (query.follow || server_sent).then_some(coming))
}

pub(super) async fn live(State(app): State<AppState>) -> Response {
    let (states, coming) = (app.states.subscribe(), app.observer.recorder.subscribe());
    stream::live(app.state_json(), states, coming)
}

pub(super) async fn openapi() -> Json<serde_json::Value> {
    Json(document())
}

pub(super) async fn metrics(State(app): State<AppState>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let format = Format::accepted(accept);
    let text = exposed::exposition(&app.observer, &app.sampler, format);
    ([(header::CONTENT_TYPE, format.content_type())], text).into_response()
}
