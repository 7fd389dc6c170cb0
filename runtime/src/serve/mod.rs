//! `nomoat serve`: the model behind OpenAI's HTTP API.

mod api;
mod check;
mod embeddings;
mod error;
mod params;
mod reply;
mod responses;
mod worker;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, Method, header, request::Parts};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use nomoat_runtime::engine::{Device, Engine};
use std::net::IpAddr;
use std::sync::Arc;
use tower_http::cors::{AllowOrigin, CorsLayer};
use worker::{Metrics, Sender};

/// Bytes of a request at most.
const MAX_BODY: usize = 16 << 20;

/// Where and for whom to serve.
#[derive(Clone, clap::Args)]
pub struct Args {
    /// Address to listen on. Anyone who can reach it can use the model: set an API key if it is not local.
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Key that clients must send as `Authorization: Bearer KEY`.
    #[arg(long, env = "NOMOAT_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// A web page that may use the model, such as https://chat.example; pages of this machine may anyway. Can
    /// be given several times.
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    origins: Vec<String>,
    /// Whole contexts in memory, 1 to 8. Answers share the room, up to 8 at once; more requests wait their
    /// turn [default: as many as fit into a 32nd of the machine's memory].
    #[arg(long)]
    pub parallel: Option<u32>,
}

/// Bytes of the machine's memory; 8 GiB where that is not known.
pub fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.strip_suffix("kB"));
    total.and_then(|kib| kib.trim().parse::<u64>().ok()).map_or(8 << 30, |kib| kib << 10)
}

/// What the handlers share.
struct Shared {
    /// The model's name, as clients see it.
    model: String,
    /// When it was loaded, in seconds since 1970.
    created: u64,
    api_key: Option<String>,
    /// Whether only this machine can reach the server.
    is_local: bool,
    requests: Sender,
    metrics: Arc<Metrics>,
    /// Items of the last responses.
    kept: responses::Kept,
}

/// Serves the model until the program is interrupted. Running answers are completed then.
pub fn run<D: Device>(engine: &mut Engine<D>, args: &Args) -> Result<()> {
    let metrics = Arc::new(Metrics::default());
    let (requests, jobs) = worker::channel();
    let shared = Shared {
        model: engine.info().name.clone(),
        created: reply::now(),
        api_key: args.api_key.clone(),
        is_local: args.host.is_loopback(),
        requests,
        metrics: metrics.clone(),
        kept: responses::Kept::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let listener =
        runtime.block_on(tokio::net::TcpListener::bind((args.host, args.port))).with_context(|| {
            format!("cannot listen on {}, port {}: choose another --port", args.host, args.port)
        })?;
    println!("http://{}/v1", listener.local_addr()?);
    let origins = args.origins.iter().map(|origin| origin.trim_end_matches('/').to_owned()).collect();
    let server = runtime.spawn(async move {
        axum::serve(listener, router(Arc::new(shared), origins)).with_graceful_shutdown(interrupted()).await
    });
    // Ends when the server does, because that drops the last sender of requests.
    worker::run(engine, jobs, &metrics);
    Ok(runtime.block_on(server)??)
}

/// Resolves when the program is asked to end. If it is asked again, it ends at once.
async fn interrupted() {
    interrupt().await;
    eprintln!("[completing the running answers; interrupt again to end now]");
    tokio::spawn(async {
        interrupt().await;
        std::process::exit(130);
    });
}

/// Resolves at Ctrl-C or, where there is one, at the signal by which services are stopped.
async fn interrupt() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate());
        let terminated = async {
            match &mut terminate {
                Ok(signal) => signal.recv().await,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated => {}
        }
    }
    #[cfg(not(unix))]
    let _ = tokio::signal::ctrl_c().await;
}

/// `origins`: pages that may use the model besides those of this machine.
fn router(shared: Arc<Shared>, origins: Vec<String>) -> Router {
    let may_ask = move |origin: &HeaderValue, _: &Parts| {
        is_local_origin(origin) || origins.iter().any(|allowed| *origin == allowed.as_str())
    };
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(may_ask))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(tower_http::cors::AllowHeaders::mirror_request())
        .expose_headers([header::CONTENT_TYPE]);
    let api = Router::new()
        .route("/chat/completions", post(api::chat))
        .route("/completions", post(api::completions))
        .route("/responses", post(api::responses))
        .route("/embeddings", post(api::embeddings))
        .route("/models", get(api::models))
        .route("/models/{*model}", get(api::model));
    Router::new()
        .nest("/v1", api)
        .route("/metrics", get(api::metrics))
        .route_layer(from_fn_with_state(shared.clone(), api::authorised))
        .route("/health", get(api::health))
        .method_not_allowed_fallback(api::wrong_method)
        .fallback(api::unknown)
        .layer(from_fn_with_state(shared.clone(), api::local_host))
        .layer(cors)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(shared)
}

/// Whether a page comes from this machine: others may not use the model by way of a visitor's browser.
fn is_local_origin(origin: &HeaderValue) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let Some((_, host)) = origin.split_once("://") else { return false };
    is_local_host(host)
}

/// Whether a host, perhaps with a port, is this machine.
fn is_local_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    name == "localhost"
        || name.ends_with(".localhost")
        || name
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_local() {
        for host in ["localhost", "localhost:8080", "127.0.0.1:3", "127.0.0.1", "[::1]:80", "a.localhost:1"] {
            assert!(is_local_host(host), "{host}");
        }
        for host in
            ["localhost.evil.org", "evil.org:8080", "10.0.0.1", "", "127.0.0.1.evil.org", "localhost:x"]
        {
            assert!(!is_local_host(host), "{host}");
        }
    }
}
