//! The page and what it calls.

mod api;
mod files;
mod guard;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower_weir::response::RateLimitHeaders;
use tower_weir::{ConfigError, RateLimitLayer};

use self::guard::Origins;
use crate::servers::Redis;
use crate::settings::Settings;

/// The most open streams of snapshots.
const MOST_STREAMS: usize = 16;
/// The largest body of a request, in bytes.
const MOST_BODY: usize = 4_096;
/// The limit of the route that visitors try.
const TRY_QUOTA: &str = "5/10s";

/// The state that the routes share.
#[derive(Clone)]
struct Shared {
    settings: watch::Sender<Settings>,
    snapshots: watch::Sender<Arc<str>>,
    redis: Arc<Redis>,
    streams: Arc<Semaphore>,
}

pub(crate) struct App(Router);

impl App {
    pub(crate) fn new(
        settings: watch::Sender<Settings>,
        snapshots: watch::Sender<Arc<str>>,
        redis: Arc<Redis>,
        port: u16,
    ) -> Result<Self, ConfigError> {
        let limit = RateLimitLayer::builder().quota(TRY_QUOTA.parse()?).headers(RateLimitHeaders::Draft8).build()?;
        let shared = Shared { settings, snapshots, redis, streams: Arc::new(Semaphore::new(MOST_STREAMS)) };
        let router = Router::new()
            .route("/limited", get(async || "Admitted.\n"))
            .route_layer(limit)
            .route("/events", get(api::events))
            .route("/settings", post(api::change_settings))
            .route("/redis", post(api::switch_redis))
            .with_state(shared)
            .merge(files::router())
            .layer(DefaultBodyLimit::max(MOST_BODY))
            .layer(from_fn_with_state(Arc::new(Origins::new(port)), guard::check_origin))
            .layer(from_fn(guard::add_headers));
        Ok(Self(router))
    }
}

/// Serves the page until an error occurs.
pub(crate) async fn serve(listener: TcpListener, app: App) -> std::io::Result<()> {
    axum::serve(listener, app.0.into_make_service_with_connect_info::<SocketAddr>()).await
}
