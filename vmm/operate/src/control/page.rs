//! The dashboard: a page of four files that are built into the program. It loads nothing from
//! elsewhere.

use axum::http::header;
use axum::response::{IntoResponse, Response};

const HTML: &str = include_str!("page/index.html");
/// The style that all pages for browsers share.
pub const CSS: &str = include_str!("page/page.css");
const JS: &str = include_str!("page/page.js");
const CHARTS: &str = include_str!("page/charts.js");

/// The page may load its own files and send requests to this server, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

fn file(content_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text).into_response()
}

pub(super) async fn html() -> Response {
    file("text/html; charset=utf-8", HTML)
}

pub(super) async fn css() -> Response {
    file("text/css; charset=utf-8", CSS)
}

pub(super) async fn js() -> Response {
    file("text/javascript; charset=utf-8", JS)
}

pub(super) async fn charts() -> Response {
    file("text/javascript; charset=utf-8", CHARTS)
}
