//! The table of all endpoints. The router, access control and the OpenAPI document are made from it.

use super::access_control::Access;
use super::error::ErrorCode;

/// One endpoint's place in the code: which handler answers it, and in which shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    State,
    Domain,
    Failovers,
    Samples,
    Events,
    Live,
    Switch,
    Drill,
    Upgrade,
    Pause,
    Resume,
    Dump,
    Gdb,
    DumpFile,
    OpenApi,
    Metrics,
    Page,
    PageStyle,
    PageProgram,
    PageCharts,
}

/// One path with one method.
pub(super) struct Endpoint {
    pub(super) route: Route,
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    /// Parameters of the query.
    pub(super) query: &'static [Parameter],
    /// Media types of the answer; the first one is sent without an `Accept` header.
    pub(super) answers: &'static [&'static str],
    /// Errors beside those of every request.
    pub(super) errors: &'static [ErrorCode],
    /// How sensitive the answers are.
    pub(super) access: Access,
}

/// One parameter of a query.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// Its type in JSON Schema.
    pub(super) kind: &'static str,
    pub(super) meaning: &'static str,
}

impl Endpoint {
    const fn get(route: Route, path: &'static str, summary: &'static str) -> Self {
        Self {
            route,
            method: "get",
            path,
            summary,
            query: &[],
            answers: JSON,
            errors: &[],
            access: Access::Normal,
        }
    }

    const fn post(route: Route, path: &'static str, summary: &'static str) -> Self {
        Self { method: "post", ..Self::get(route, path, summary) }
    }

    const fn answers(mut self, answers: &'static [&'static str]) -> Self {
        self.answers = answers;
        self
    }

    const fn query(mut self, query: &'static [Parameter]) -> Self {
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

    /// Returns true if a request's path is this endpoint's. What stands in braces can be anything.
    fn is_at(&self, path: &str) -> bool {
        let fixed_start = self.path.split_once('{').map(|(start, _)| start);
        fixed_start.map_or(self.path == path, |start| path.starts_with(start))
    }
}

/// How sensitive the answers at a request's path are.
pub(super) fn access_at(path: &str) -> Access {
    let endpoint = ENDPOINTS.iter().find(|endpoint| endpoint.is_at(path));
    endpoint.map_or(Access::Normal, |endpoint| endpoint.access)
}

const JSON: &[&str] = &["application/json"];
const LINES: &[&str] = &["application/x-ndjson", SERVER_SENT_EVENTS];
const LIVE: &[&str] = &[SERVER_SENT_EVENTS];
const FILE: &[&str] = &["application/octet-stream", "application/json"];
const METRICS: &[&str] = &["text/plain", "application/openmetrics-text"];

/// Media type of server-sent events.
pub(super) const SERVER_SENT_EVENTS: &str = "text/event-stream";

const MOST: Parameter = Parameter {
    name: "most",
    kind: "integer",
    meaning: "How many failures at most; by default all that are kept, which is the newest 1000",
};
const AFTER: Parameter = Parameter {
    name: "after",
    kind: "integer",
    meaning: "Only events with a higher number than this; the newest 1000 are kept",
};
const FOLLOW: Parameter = Parameter {
    name: "follow",
    kind: "boolean",
    meaning: "`true`: the stream stays open; server-sent events always do",
};

const SWITCH_ERRORS: &[ErrorCode] = &[
    ErrorCode::UnknownDomain,
    ErrorCode::NoActive,
    ErrorCode::NoStandby,
    ErrorCode::NotStandby,
    ErrorCode::Unhealthy,
    ErrorCode::NotAttached,
    ErrorCode::Busy,
    ErrorCode::Overtaken,
    ErrorCode::Failed,
];
const DRILL_ERRORS: &[ErrorCode] = &[
    ErrorCode::UnknownDomain,
    ErrorCode::NoActive,
    ErrorCode::NoStandby,
    ErrorCode::NotAttached,
    ErrorCode::Busy,
    ErrorCode::Overtaken,
    ErrorCode::Failed,
];
const UPGRADE_ERRORS: &[ErrorCode] =
    &[ErrorCode::BadImage, ErrorCode::NoStandby, ErrorCode::Busy, ErrorCode::RolledBack];
const PAUSE_ERRORS: &[ErrorCode] = &[
    ErrorCode::UnknownDomain,
    ErrorCode::NotRunning,
    ErrorCode::Serves,
    ErrorCode::NoStandby,
    ErrorCode::Debugged,
    ErrorCode::Busy,
    ErrorCode::Overtaken,
    ErrorCode::Failed,
];
const DUMP_ERRORS: &[ErrorCode] = &[
    ErrorCode::UnknownDomain,
    ErrorCode::NotRunning,
    ErrorCode::NoDumps,
    ErrorCode::Busy,
    ErrorCode::Overtaken,
    ErrorCode::Failed,
];
const GDB_ERRORS: &[ErrorCode] = &[
    ErrorCode::UnknownDomain,
    ErrorCode::NotRunning,
    ErrorCode::NoStandby,
    ErrorCode::Debugged,
    ErrorCode::BadSocket,
    ErrorCode::Busy,
    ErrorCode::Overtaken,
    ErrorCode::Failed,
];

/// All endpoints.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get(Route::State, "/api/v1/state", "State of the whole system"),
    Endpoint::get(Route::Domain, "/api/v1/domains/{name}", "One domain")
        .errors(&[ErrorCode::UnknownDomain]),
    Endpoint::get(Route::Failovers, "/api/v1/failovers", "The newest failures, newest first")
        .query(&[MOST])
        .errors(&[ErrorCode::BadRequest]),
    Endpoint::get(Route::Samples, "/api/v1/samples", "Rates of five minutes, one sample a second"),
    Endpoint::get(Route::Events, "/api/v1/events", "Events, one JSON value a line")
        .answers(LINES)
        .query(&[AFTER, FOLLOW])
        .errors(&[ErrorCode::BadRequest]),
    Endpoint::get(Route::Live, "/api/v1/live", "States and events, for the dashboard")
        .answers(LIVE),
    Endpoint::post(Route::Switch, "/api/v1/switch", "Hand the service to a standby")
        .errors(SWITCH_ERRORS),
    Endpoint::post(Route::Drill, "/api/v1/drill", "Let a standby prove that it could take over")
        .errors(DRILL_ERRORS),
    Endpoint::post(Route::Upgrade, "/api/v1/upgrade", "Replace the driver of all domains")
        .errors(UPGRADE_ERRORS),
    Endpoint::post(Route::Pause, "/api/v1/pause", "Stop a standby until it is resumed")
        .errors(PAUSE_ERRORS),
    Endpoint::post(Route::Resume, "/api/v1/resume", "Let a paused domain run again")
        .errors(&[ErrorCode::UnknownDomain, ErrorCode::NotPaused]),
    Endpoint::post(Route::Dump, "/api/v1/dump", "Write a core file of a domain that lives on")
        .errors(DUMP_ERRORS),
    Endpoint::post(Route::Gdb, "/api/v1/gdb", "Open a GDB server for a domain").errors(GDB_ERRORS),
    Endpoint::get(Route::DumpFile, "/api/v1/dumps/{dump}/{file}", "A file of a dump")
        .answers(FILE)
        .errors(&[ErrorCode::UnknownDump])
        .secret(),
    Endpoint::get(Route::OpenApi, "/api/v1/openapi.json", "This document").free(),
    Endpoint::get(Route::Metrics, "/metrics", "Metrics for Prometheus").answers(METRICS),
    Endpoint::get(Route::Page, "/", "The dashboard").answers(&["text/html"]).free(),
    Endpoint::get(Route::PageStyle, "/page.css", "Style of the dashboard")
        .answers(&["text/css"])
        .free(),
    Endpoint::get(Route::PageProgram, "/page.js", "Program of the dashboard")
        .answers(&["text/javascript"])
        .free(),
    Endpoint::get(Route::PageCharts, "/charts.js", "Charts of the dashboard")
        .answers(&["text/javascript"])
        .free(),
];
