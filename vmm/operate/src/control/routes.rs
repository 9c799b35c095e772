//! Every path the server answers, and how. The table [`ENDPOINTS`] is what both the router and the
//! OpenAPI document are made from.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde::Deserialize;
use tokio::sync::watch;

use super::actions::{Actions, Drilled, Dumped, Opened, Paused, Resumed, Switched, Upgraded};
use super::door::{Access, Door};
use super::error::{ApiError, ErrorCode};
use super::input::{Asked, Body};
use super::requests::{
    DomainRequest, DrillRequest, GdbRequest, PauseRequest, SwitchRequest, UpgradeRequest,
};
use super::stream::{self, Wrapping};
use super::{dumps, openapi, page};
use crate::observe::event::FailoverView;
use crate::observe::openmetrics::Format;
use crate::observe::snapshot::{DomainView, Rates};
use crate::observe::{Observer, Sampler, Snapshot, metrics};

/// What every handler has.
#[derive(Clone)]
pub(super) struct App {
    pub(super) observer: Observer,
    pub(super) sampler: Arc<Sampler>,
    pub(super) actions: Arc<dyn Actions>,
    /// Folder with the remains of failed domains.
    pub(super) dumps: Option<PathBuf>,
    /// Each new state as JSON, for the live feed.
    pub(super) states: Arc<watch::Sender<Arc<str>>>,
}

impl App {
    /// The state now.
    pub(super) fn state_json(&self) -> Arc<str> {
        let state = serde_json::to_string(&self.observer.snapshot(&self.sampler));
        // Only a map with keys that are no strings could fail.
        state.unwrap_or_default().into()
    }
}

/// One path with one method.
pub(super) struct Endpoint {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    /// Names of the query's parameters, each with its meaning.
    pub(super) query: &'static [(&'static str, &'static str)],
    /// Media types of the answer; the first one is what comes without an `Accept` header.
    pub(super) answers: &'static [&'static str],
    /// Errors beside those of every request.
    pub(super) errors: &'static [ErrorCode],
    /// What is behind it.
    pub(super) access: Access,
    handler: fn() -> MethodRouter<App>,
}

impl Endpoint {
    const fn new(
        method: &'static str,
        path: &'static str,
        summary: &'static str,
        answers: &'static [&'static str],
        handler: fn() -> MethodRouter<App>,
    ) -> Self {
        Self {
            method,
            path,
            summary,
            query: &[],
            answers,
            errors: &[],
            access: Access::Normal,
            handler,
        }
    }

    const fn query(mut self, query: &'static [(&'static str, &'static str)]) -> Self {
        self.query = query;
        self
    }

    const fn errors(mut self, errors: &'static [ErrorCode]) -> Self {
        self.errors = errors;
        self
    }

    const fn free(mut self) -> Self {
        self.access = Access::Free;
        self
    }

    const fn secret(mut self) -> Self {
        self.access = Access::Secret;
        self
    }

    /// Whether a path is this one's; what stands in braces can be anything.
    fn is_at(&self, path: &str) -> bool {
        let own = self.path.split_once('{').map(|(start, _)| start);
        own.map_or(self.path == path, |start| path.starts_with(start))
    }
}

const JSON: &[&str] = &["application/json"];
const LINES: &[&str] = &["application/x-ndjson", "text/event-stream"];
const LIVE: &[&str] = &["text/event-stream"];
const FILE: &[&str] = &["application/octet-stream", "application/json"];
const METRICS: &[&str] = &["text/plain", "application/openmetrics-text"];

/// All of them.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint::new("get", "/api/v1/state", "State of the whole system", JSON, || get(state)),
    Endpoint::new("get", "/api/v1/domains/{name}", "One domain", JSON, || get(domain))
        .errors(&[ErrorCode::UnknownDomain]),
    Endpoint::new("get", "/api/v1/failovers", "The newest failures, newest first", JSON, || {
        get(failovers)
    })
    .query(&[("most", "How many at most; 1000 are kept, which is what comes by default")])
    .errors(&[ErrorCode::BadRequest]),
    Endpoint::new("get", "/api/v1/samples", "Rates, one a second for five minutes", JSON, || {
        get(samples)
    }),
    Endpoint::new("get", "/api/v1/events", "Events, one JSON value a line", LINES, || get(events))
        .query(&[
            ("after", "Only events with a higher number than this; the newest 1000 are kept"),
            ("follow", "`true`: the stream stays open; server-sent events always do"),
        ])
        .errors(&[ErrorCode::BadRequest]),
    Endpoint::new("get", "/api/v1/live", "States and events, for the dashboard", LIVE, || {
        get(live)
    }),
    Endpoint::new("post", "/api/v1/switch", "Hand the service to a standby", JSON, || post(switch))
        .errors(&[
            ErrorCode::UnknownDomain,
            ErrorCode::NoActive,
            ErrorCode::NoStandby,
            ErrorCode::NotStandby,
            ErrorCode::Unhealthy,
            ErrorCode::NotAttached,
            ErrorCode::Busy,
            ErrorCode::Overtaken,
            ErrorCode::Failed,
        ]),
    Endpoint::new("post", "/api/v1/drill", "Let a standby prove itself", JSON, || post(drill))
        .errors(&[
            ErrorCode::UnknownDomain,
            ErrorCode::NoActive,
            ErrorCode::NoStandby,
            ErrorCode::NotAttached,
            ErrorCode::Busy,
            ErrorCode::Overtaken,
            ErrorCode::Failed,
        ]),
    Endpoint::new("post", "/api/v1/upgrade", "Give all domains another driver", JSON, || {
        post(upgrade)
    })
    .errors(&[
        ErrorCode::BadImage,
        ErrorCode::NoStandby,
        ErrorCode::Busy,
        ErrorCode::RolledBack,
    ]),
    Endpoint::new("post", "/api/v1/pause", "Stop a standby until it is resumed", JSON, || {
        post(pause)
    })
    .errors(&[
        ErrorCode::UnknownDomain,
        ErrorCode::NotRunning,
        ErrorCode::Serves,
        ErrorCode::NoStandby,
        ErrorCode::Debugged,
        ErrorCode::Busy,
        ErrorCode::Overtaken,
        ErrorCode::Failed,
    ]),
    Endpoint::new("post", "/api/v1/resume", "Let a paused domain run", JSON, || post(resume))
        .errors(&[ErrorCode::UnknownDomain, ErrorCode::NotPaused]),
    Endpoint::new("post", "/api/v1/dump", "Core file of a domain that lives on", JSON, || {
        post(dump)
    })
    .errors(&[
        ErrorCode::UnknownDomain,
        ErrorCode::NotRunning,
        ErrorCode::NoDumps,
        ErrorCode::Busy,
        ErrorCode::Overtaken,
        ErrorCode::Failed,
    ]),
    Endpoint::new("post", "/api/v1/gdb", "Open a GDB server for a domain", JSON, || post(gdb))
        .errors(&[
            ErrorCode::UnknownDomain,
            ErrorCode::NotRunning,
            ErrorCode::NoStandby,
            ErrorCode::Debugged,
            ErrorCode::BadSocket,
            ErrorCode::Busy,
            ErrorCode::Overtaken,
            ErrorCode::Failed,
        ]),
    Endpoint::new("get", "/api/v1/dumps/{dump}/{file}", "A file of a dump", FILE, || {
        get(dumps::file)
    })
    .errors(&[ErrorCode::UnknownDump])
    .secret(),
    Endpoint::new("get", "/api/v1/openapi.json", "This document", JSON, || get(document)).free(),
    Endpoint::new("get", "/metrics", "Metrics for Prometheus", METRICS, || get(scrape)),
    Endpoint::new("get", "/", "The dashboard", &["text/html"], || get(page::html)).free(),
    Endpoint::new("get", "/page.css", "Its style", &["text/css"], || get(page::css)).free(),
    Endpoint::new("get", "/page.js", "Its program", &["text/javascript"], || get(page::js)).free(),
    Endpoint::new("get", "/charts.js", "Its charts", &["text/javascript"], || get(page::charts))
        .free(),
];

/// The router behind one door.
pub(super) fn router(app: App, door: Door) -> Router {
    let mut router = Router::new();
    for endpoint in ENDPOINTS {
        router = router.route(endpoint.path, (endpoint.handler)());
    }
    router
        .fallback(|| async { ApiError::new(ErrorCode::UnknownPath, "there is nothing here") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(ErrorCode::UnknownMethod, "this path has no such method")
        })
        .layer(middleware::from_fn_with_state(door, guard))
        .with_state(app)
}

async fn guard(State(door): State<Door>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let endpoint = ENDPOINTS.iter().find(|endpoint| endpoint.is_at(path));
    let access = endpoint.map_or(Access::Normal, |endpoint| endpoint.access);
    match door.check(request.method(), request.headers(), access) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

async fn state(State(app): State<App>) -> Json<Snapshot> {
    Json(app.observer.snapshot(&app.sampler))
}

async fn domain(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<DomainView>, ApiError> {
    let found = app.observer.view.domains().into_iter().find(|domain| domain.name == name);
    let missing = || ApiError::new(ErrorCode::UnknownDomain, "there is no domain of this name");
    found.map(Json).ok_or_else(missing)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FailoversQuery {
    most: Option<usize>,
}

async fn failovers(
    State(app): State<App>,
    Asked(query): Asked<FailoversQuery>,
) -> Json<Vec<FailoverView>> {
    Json(app.observer.recorder.failovers(query.most.unwrap_or(usize::MAX)))
}

async fn samples(State(app): State<App>) -> Json<Vec<Rates>> {
    Json(app.sampler.samples())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    follow: bool,
}

async fn events(
    State(app): State<App>,
    Asked(query): Asked<EventsQuery>,
    headers: HeaderMap,
) -> Response {
    let header =
        |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let server_sent = header(header::ACCEPT).is_some_and(|kinds| kinds.contains(LINES[1]));
    // A browser that connects again says how far it had come.
    let seen = header(header::HeaderName::from_static("last-event-id"));
    let after = seen.and_then(|seen| seen.parse().ok()).unwrap_or(query.after);
    let wrapping = if server_sent { Wrapping::ServerSent } else { Wrapping::Lines };
    let (past, coming) = app.observer.recorder.subscribe_after(after);
    stream::events(wrapping, past, (query.follow || server_sent).then_some(coming))
}

async fn live(State(app): State<App>) -> Response {
    let (states, coming) = (app.states.subscribe(), app.observer.recorder.subscribe());
    stream::live(app.state_json(), states, coming)
}

/// The longest probation: an hour.
const MOST_PROBATION_MS: u32 = 3_600_000;

async fn switch(
    State(app): State<App>,
    Body(request): Body<SwitchRequest>,
) -> Result<Json<Switched>, ApiError> {
    act(app, move |actions| actions.switch(request.to.as_deref())).await
}

async fn drill(
    State(app): State<App>,
    Body(request): Body<DrillRequest>,
) -> Result<Json<Drilled>, ApiError> {
    act(app, move |actions| actions.drill(request.domain.as_deref())).await
}

async fn upgrade(
    State(app): State<App>,
    Body(request): Body<UpgradeRequest>,
) -> Result<Json<Upgraded>, ApiError> {
    if request.probation_ms.is_some_and(|ms| ms > MOST_PROBATION_MS) {
        let message = "probation_ms: at most 3600000";
        return Err(ApiError::new(ErrorCode::BadJson, message));
    }
    let probation = request.probation_ms.map(|ms| Duration::from_millis(ms.into()));
    act(app, move |actions| actions.upgrade(&request.image, probation)).await
}

async fn pause(
    State(app): State<App>,
    Body(request): Body<PauseRequest>,
) -> Result<Json<Paused>, ApiError> {
    act(app, move |actions| actions.pause(&request.domain, request.switch_first)).await
}

async fn resume(
    State(app): State<App>,
    Body(request): Body<DomainRequest>,
) -> Result<Json<Resumed>, ApiError> {
    act(app, move |actions| actions.resume(&request.domain)).await
}

async fn dump(
    State(app): State<App>,
    Body(request): Body<DomainRequest>,
) -> Result<Json<Dumped>, ApiError> {
    act(app, move |actions| actions.dump(&request.domain)).await
}

async fn gdb(
    State(app): State<App>,
    Body(request): Body<GdbRequest>,
) -> Result<Json<Opened>, ApiError> {
    let open = move |actions: &dyn Actions| {
        actions.debug(&request.domain, request.switch_first, request.socket.as_deref())
    };
    act(app, open).await
}

/// Does something that may wait, on another thread: this one has others to serve.
async fn act<T: Send + 'static>(
    app: App,
    act: impl FnOnce(&dyn Actions) -> Result<T, ApiError> + Send + 'static,
) -> Result<Json<T>, ApiError> {
    let actions = app.actions;
    tokio::task::spawn_blocking(move || act(&*actions))
        .await
        .map_err(|_| ApiError::new(ErrorCode::Internal, "it has panicked"))?
        .map(Json)
}

async fn document() -> Json<serde_json::Value> {
    Json(openapi::document())
}

async fn scrape(State(app): State<App>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let format = Format::accepted(accept);
    let text = metrics::exposition(&app.observer, &app.sampler, format);
    ([(header::CONTENT_TYPE, format.content_type())], text).into_response()
}
