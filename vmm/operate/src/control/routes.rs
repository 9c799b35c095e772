//! The router: each endpoint with its handler, behind access control.

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

use super::access_control::AccessControl;
use super::app_state::AppState;
use super::endpoints::{ENDPOINTS, Route, access_at};
use super::error::{ApiError, ErrorCode};
use super::{action_handlers, dumps, page, read_handlers};

/// The router for the requests of one listener.
pub(super) fn router(app: AppState, control: AccessControl) -> Router {
    let mut router = Router::new();
    for endpoint in ENDPOINTS {
        router = router.route(endpoint.path, handler(endpoint.route));
    }
    router
        .fallback(|| async { ApiError::new(ErrorCode::UnknownPath, "there is nothing here") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(ErrorCode::UnknownMethod, "this path has no such method")
        })
        .layer(middleware::from_fn_with_state(control, guard))
        .with_state(app)
}

fn handler(route: Route) -> MethodRouter<AppState> {
    match route {
        Route::State => get(read_handlers::state),
        Route::Domain => get(read_handlers::domain),
        Route::Failovers => get(read_handlers::failovers),
        Route::Samples => get(read_handlers::samples),
        Route::Events => get(read_handlers::events),
        Route::Live => get(read_handlers::live),
        Route::Switch => post(action_handlers::switch),
        Route::Drill => post(action_handlers::drill),
        Route::Upgrade => post(action_handlers::upgrade),
        Route::Pause => post(action_handlers::pause),
        Route::Resume => post(action_handlers::resume),
        Route::Dump => post(action_handlers::dump),
        Route::Gdb => post(action_handlers::gdb),
        Route::DumpFile => get(dumps::file),
        Route::OpenApi => get(read_handlers::openapi),
        Route::Metrics => get(read_handlers::metrics),
        Route::Page => get(page::html),
        Route::PageStyle => get(page::css),
        Route::PageProgram => get(page::js),
        Route::PageCharts => get(page::charts),
    }
}

async fn guard(State(control): State<AccessControl>, request: Request, next: Next) -> Response {
    let access = access_at(request.uri().path());
    match control.check(request.method(), request.headers(), access) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}
