//! A server of one page that the caller makes, such as a report, with the access control of the
//! dashboard.
//!
//! | path | on loopback | beyond loopback |
//! |---|---|---|
//! | `/` | the page | a page without data, which asks for the token and then for the page |
//! | `/page.html`, `/page.json` | the page, its data | the same, with the token |

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::access_control::{Access, AccessControl};
use super::config::{ControlError, DashboardConfig};
use super::error::{ApiError, ErrorCode};
use super::listen;
use super::server_thread::{ServerThread, runtime};
use super::token::TokenCell;

const OPENING: &str = include_str!("page/opening.html");

/// The pages load nothing. The opening page sends requests to this server.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
     script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// Most connections at a time.
const MOST_CONNECTIONS: usize = 128;

/// Makes the page anew for each request. It may take long: no other thread waits for it.
pub trait Pages: Send + Sync {
    /// The page as HTML that loads nothing.
    ///
    /// # Errors
    /// One sentence that says why there is no page.
    fn html(&self) -> Result<String, String>;

    /// The page's data as JSON.
    ///
    /// # Errors
    /// One sentence that says why there is no page.
    fn json(&self) -> Result<String, String>;
}

/// The running server. Dropped, it cuts all connections and ends.
#[derive(Debug)]
pub struct PageServer {
    _thread: ServerThread,
    address: SocketAddr,
}

#[derive(Clone)]
struct Served {
    pages: Arc<dyn Pages>,
    loopback: bool,
}

impl PageServer {
    /// Listens, and starts the thread `pages`.
    ///
    /// # Errors
    /// The address cannot be used, or the operating system refuses another thread.
    pub fn spawn(config: &DashboardConfig, pages: Arc<dyn Pages>) -> Result<Self, ControlError> {
        // One page at a time, because making one can be much work.
        let runtime = runtime(1)?;
        let entered = runtime.enter();
        let listener = listen::bind_network(config.listen)?;
        let address = listener.local_addr().unwrap_or(config.listen);
        let control = AccessControl::at(
            config.listen,
            TokenCell::new(config.token.clone()),
            config.hosts.clone(),
        );
        let served = Served { pages, loopback: config.listen.ip().is_loopback() };
        listen::serve_network(listener, router(served, control), MOST_CONNECTIONS);
        drop(entered);
        Ok(Self { _thread: ServerThread::spawn("pages", runtime, ())?, address })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn router(served: Served, control: AccessControl) -> Router {
    Router::new()
        .route("/", get(opening))
        .route("/page.html", get(html))
        .route("/page.json", get(json))
        .fallback(|| async { ApiError::new(ErrorCode::UnknownPath, "there is nothing here") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(ErrorCode::UnknownMethod, "this path has no such method")
        })
        .layer(middleware::from_fn_with_state(control, guard))
        .with_state(served)
}

async fn guard(State(control): State<AccessControl>, request: Request, next: Next) -> Response {
    // Beyond loopback, the opening page shows no data.
    let access = if request.uri().path() == "/" { Access::Free } else { Access::Normal };
    match control.check(request.method(), request.headers(), access) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

async fn opening(state: State<Served>) -> Response {
    match state.loopback {
        true => html(state).await,
        false => page("text/html; charset=utf-8", OPENING.into()),
    }
}

async fn html(State(served): State<Served>) -> Response {
    make(served, "text/html; charset=utf-8", |pages| pages.html()).await
}

async fn json(State(served): State<Served>) -> Response {
    make(served, "application/json", |pages| pages.json()).await
}

async fn make(
    served: Served,
    content_type: &'static str,
    make: impl FnOnce(&dyn Pages) -> Result<String, String> + Send + 'static,
) -> Response {
    match tokio::task::spawn_blocking(move || make(&*served.pages)).await {
        Ok(Ok(text)) => page(content_type, text),
        Ok(Err(why)) => ApiError::new(ErrorCode::Failed, why).into_response(),
        Err(_) => {
            ApiError::new(ErrorCode::Internal, "making the page has panicked").into_response()
        }
    }
}

fn page(content_type: &'static str, text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text).into_response()
}
