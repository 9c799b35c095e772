//! Handlers of requests that act on the system.

use std::time::Duration;

use axum::Json;
use axum::extract::State;

use super::actions::Actions;
use super::app_state::AppState;
use super::error::{ApiError, ErrorCode};
use super::input::Body;
use super::requests::{
    DomainRequest, DrillRequest, GdbRequest, PauseRequest, SwitchRequest, UpgradeRequest,
};
use super::responses::{Drilled, Dumped, Opened, Paused, Resumed, Switched, Upgraded};

/// The longest probation: an hour.
const MOST_PROBATION_MS: u32 = 3_600_000;

pub(super) async fn switch(
    State(app): State<AppState>,
    Body(request): Body<SwitchRequest>,
) -> Result<Json<Switched>, ApiError> {
    act(app, move |actions| actions.switch(request.to.as_deref())).await
}

pub(super) async fn drill(
    State(app): State<AppState>,
    Body(request): Body<DrillRequest>,
) -> Result<Json<Drilled>, ApiError> {
    act(app, move |actions| actions.drill(request.domain.as_deref())).await
}

pub(super) async fn upgrade(
    State(app): State<AppState>,
    Body(request): Body<UpgradeRequest>,
) -> Result<Json<Upgraded>, ApiError> {
    if request.probation_ms.is_some_and(|ms| ms > MOST_PROBATION_MS) {
        let message = "probation_ms: at most 3600000";
        return Err(ApiError::new(ErrorCode::BadJson, message));
    }
    let probation = request.probation_ms.map(|ms| Duration::from_millis(ms.into()));
    act(app, move |actions| actions.upgrade(&request.image, probation)).await
}

pub(super) async fn pause(
    State(app): State<AppState>,
    Body(request): Body<PauseRequest>,
) -> Result<Json<Paused>, ApiError> {
    act(app, move |actions| actions.pause(&request.domain, request.switch_first)).await
}

pub(super) async fn resume(
    State(app): State<AppState>,
    Body(request): Body<DomainRequest>,
) -> Result<Json<Resumed>, ApiError> {
    act(app, move |actions| actions.resume(&request.domain)).await
}

pub(super) async fn dump(
    State(app): State<AppState>,
    Body(request): Body<DomainRequest>,
) -> Result<Json<Dumped>, ApiError> {
    act(app, move |actions| actions.dump(&request.domain)).await
}

pub(super) async fn gdb(
    State(app): State<AppState>,
    Body(request): Body<GdbRequest>,
) -> Result<Json<Opened>, ApiError> {
    let open = move |actions: &dyn Actions| {
        actions.debug(&request.domain, request.switch_first, request.socket.as_deref())
    };
    act(app, open).await
}

/// Performs an operation that may wait on another thread, because this one serves all connections.
async fn act<T: Send + 'static>(
    app: AppState,
    act: impl FnOnce(&dyn Actions) -> Result<T, ApiError> + Send + 'static,
) -> Result<Json<T>, ApiError> {
    let actions = app.actions;
    tokio::task::spawn_blocking(move || act(&*actions))
        .await
        .map_err(|_| ApiError::new(ErrorCode::Internal, "the operation has panicked"))?
        .map(Json)
}
