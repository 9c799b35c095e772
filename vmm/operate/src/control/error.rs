//! Errors as clients see them: a status, a stable code, one sentence.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What went wrong, for programs. Stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The query or a header is malformed.
    BadRequest,
    /// The body is not the JSON that is wanted.
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
    /// No domain stands by, so none can take over.
    NoStandby,
    /// The named domain does not stand by.
    NotStandby,
    /// The named domain is not fit to serve: its link, its last drill.
    Unhealthy,
    /// Under this policy a standby has no NIC, so it can do nothing of this.
    NotAttached,
    /// The named domain has no life that could be looked into.
    NotRunning,
    /// The named domain serves, and must not stand still.
    Serves,
    /// The named domain is not paused.
    NotPaused,
    /// A debugger is at the domain.
    Debugged,
    /// The socket for the debugger cannot be made there.
    BadSocket,
    /// The topology names no folder for dumps.
    NoDumps,
    /// There is no such dump any more.
    UnknownDump,
    /// The file is not the program of a domain.
    BadImage,
    /// The new driver was tried, and failed: all domains run the old one.
    RolledBack,
    /// A failover came in between.
    Overtaken,
    /// It was tried and did not work; the service goes on.
    Failed,
    /// What was asked for takes a token, and there is none or a wrong one.
    Token,
    /// The page was asked for under a host name: a foreign site may be behind it.
    Host,
    /// Another switch, drill or upgrade is on.
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

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// For programs.
    pub code: ErrorCode,
    /// For people, one sentence.
    pub message: String,
}

/// The body of such an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ApiError,
}

impl ApiError {
    /// An error with its sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
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
