//! Errors as clients see them: an HTTP status, a stable code, and one sentence.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kind of an error, for programs. Stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The query or a header is malformed.
    BadRequest,
    /// The body is not JSON of the wanted shape.
    BadJson,
    /// The body is not declared as JSON.
    NotJson,
    /// The body is larger than any request needs to be.
    TooLarge,
    /// The body did not arrive in time.
    Timeout,
    /// There is nothing under this path.
    UnknownPath,
    /// The path has no such method.
    UnknownMethod,
    /// The topology has no domain of this name.
    UnknownDomain,
    /// No domain serves.
    NoActive,
    /// No domain is standby, so none can take over.
    NoStandby,
    /// The named domain is not a standby.
    NotStandby,
    /// The named domain is not fit to serve, because of its link or its last drill.
    Unhealthy,
    /// Under this policy a standby is not attached to its NIC, so it cannot do this.
    NotAttached,
    /// The named domain is not running.
    NotRunning,
    /// The named domain serves, so it must not be stopped.
    Serves,
    /// The named domain is not paused.
    NotPaused,
    /// The named domain is open to a debugger.
    Debugged,
    /// The socket for the debugger cannot be created there.
    BadSocket,
    /// The topology names no folder for dumps.
    NoDumps,
    /// There is no such dump, or it has been removed.
    UnknownDump,
    /// The file is not the program of a domain.
    BadImage,
    /// The new driver was tried and failed. All domains run the old one.
    RolledBack,
    /// A failover happened meanwhile.
    Overtaken,
    /// The operation was tried and failed. The service goes on.
    Failed,
    /// The request takes a token, and has none or a wrong one.
    Token,
    /// The request names a host that may belong to a foreign site.
    Host,
    /// Another switch, drill or upgrade is in progress.
    Busy,
    /// A defect of this program.
    Internal,
}

impl ErrorCode {
    fn status(self) -> StatusCode {
        match self {
            Self::BadRequest | Self::BadJson => StatusCode::BAD_REQUEST,
            Self::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::UnknownPath | Self::UnknownDomain | Self::UnknownDump => StatusCode::NOT_FOUND,
            Self::UnknownMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::BadImage | Self::BadSocket => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NoActive
            | Self::NoStandby
            | Self::NotStandby
            | Self::Unhealthy
            | Self::NotAttached
            | Self::NotRunning
            | Self::Serves
            | Self::NotPaused
            | Self::Debugged
            | Self::NoDumps
            | Self::RolledBack
            | Self::Overtaken
            | Self::Failed => StatusCode::CONFLICT,
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::Host => StatusCode::FORBIDDEN,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// An error as it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The kind, for programs.
    pub code: ErrorCode,
    /// One sentence for people.
    pub message: String,
}

/// The body of an answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ApiError,
}

impl ApiError {
    /// An error of this kind, with its sentence.
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let mut response = (status, Json(ErrorBody { error: self })).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}
