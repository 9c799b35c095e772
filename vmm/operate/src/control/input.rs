//! Reads bodies and queries of requests: bounded in size and time, and only in the wanted shape.

use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::header;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::{ApiError, ErrorCode};

/// Most bytes of a body; no request needs a tenth of them.
const BODY_BYTES: usize = 4096;
/// Time for the whole body to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(5);

/// A body of JSON.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let declared = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        if declared.and_then(|kind| kind.split(';').next()) != Some("application/json") {
            let message = "declare the body with `Content-Type: application/json`";
            return Err(ApiError::new(ErrorCode::NotJson, message));
        }
        let read = to_bytes(request.into_body(), BODY_BYTES);
        let bytes = tokio::time::timeout(BODY_DEADLINE, read)
            .await
            .map_err(|_| ApiError::new(ErrorCode::Timeout, "the body did not arrive in time"))?
            .map_err(|_| {
                let message = format!("a body has at most {BODY_BYTES} bytes");
                ApiError::new(ErrorCode::TooLarge, message)
            })?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let value = serde_path_to_error::deserialize(&mut json)
            .map_err(|error| ApiError::new(ErrorCode::BadJson, one_line(&error)))?;
        json.end().map_err(|error| ApiError::new(ErrorCode::BadJson, one_line(&error)))?;
        Ok(Self(value))
    }
}

/// The query of a request's path.
pub(super) struct QueryOf<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryOf<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(query) = Query::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::new(ErrorCode::BadRequest, one_line(&error.body_text())))?;
        Ok(Self(query))
    }
}

fn one_line(text: &impl ToString) -> String {
    text.to_string().replace(char::is_control, " ")
}
