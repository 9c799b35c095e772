//! A server of one page that others make, behind the dashboard's door: a report, for instance.
//!
//! | path | on loopback | beyond |
//! |---|---|---|
//! | `/` | the page | an empty one that asks for the token, and then for the page |
//! | `/page.html`, `/page.json` | the page, its data | the same, with the token |

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::oneshot;

use super::door::{Access, Door, TokenCell};
use super::error::{ApiError, ErrorCode};
use super::{ControlError, DashboardConfig, listen, run, runtime};
use platform::realtime;

const OPENING: &str = include_str!("page/opening.html");

/// Nothing is loaded; the opening page asks this server.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
     script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// Makes the page anew for each request. May take its time: other threads are not kept waiting.
pub trait Pages: Send + Sync {
    /// As HTML that loads nothing.
    ///
    /// # Errors
    /// One sentence for people.
    fn html(&self) -> Result<String, String>;

    /// As JSON.
    ///
    /// # Errors
    /// One sentence for people.
    fn json(&self) -> Result<String, String>;
}

/// The running server. Dropped, it cuts all connections and ends.
#[derive(Debug)]
pub struct PageServer {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
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
        // One at a time: a page may be much work.
        let runtime = runtime(1)?;
        let entered = runtime.enter();
        let listener = listen::bind_network(config.listen)?;
        let address = listener.local_addr().unwrap_or(config.listen);
        let door = Door::at(config.listen, TokenCell::new(config.token.clone()));
        let served = Served { pages, loopback: config.listen.ip().is_loopback() };
        listen::serve_network(listener, router(served, door));
        drop(entered);
        let (stop, stopped) = oneshot::channel();
        let thread = realtime::spawn("pages", None, move || run(runtime, stopped))
            .map_err(ControlError::Thread)?;
        Ok(Self { stop: Some(stop), thread: Some(thread), address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for PageServer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn router(served: Served, door: Door) -> Router {
    Router::new()
        .route("/", get(opening))
        .route("/page.html", get(html))
        .route("/page.json", get(json))
        .fallback(|| async { ApiError::new(ErrorCode::UnknownPath, "there is nothing here") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(ErrorCode::UnknownMethod, "this path has no such method")
        })
        .layer(middleware::from_fn_with_state(door, guard))
        .with_state(served)
}

async fn guard(State(door): State<Door>, request: Request, next: Next) -> Response {
    // Beyond loopback, the opening page shows nothing of the campaign.
    let access = if request.uri().path() == "/" { Access::Free } else { Access::Normal };
    match door.check(request.method(), request.headers(), access) {
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
        Err(_) => ApiError::new(ErrorCode::Internal, "it has panicked").into_response(),
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
