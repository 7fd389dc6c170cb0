//! The server of `cargo xtask chat`: the built page, a mirror of the hub with the catalogue's models, and
//! local files, with the headers that a production server should send.

use crate::{model, tools};
use anyhow::{Context, Result};
use axum::Router;
use axum::http::{HeaderName, HeaderValue, Request, header};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use std::path::{Path, PathBuf};
use tower_http::services::{ServeDir, ServeFile};

/// Scripts and wasm only from this server. Connections to any server, because users can add models by their
/// URL. Nothing else from elsewhere.
const POLICY: &str = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; \
    style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self' https: http:; \
    worker-src 'self' blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'";

/// The models that are served with the page.
struct Models {
    /// `/config.json`, by which the page knows them.
    config: serde_json::Value,
    /// (URL path, file)
    files: Vec<(String, PathBuf)>,
}

/// Fetches the model and serves the page until the program is interrupted.
pub fn chat(model: &str, port: Option<u16>, open: bool) -> Result<()> {
    let models = models(model)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = listen(port).await?;
        let url = format!("http://localhost:{}/", listener.local_addr()?.port());
        println!("Nomoat is at {url}");
        if open {
            open_browser(&url);
        }
        Ok(axum::serve(listener, router(&tools::root().join("web/dist"), models)).await?)
    })
}

/// A model of the catalogue is served under its path on the hub, a local file under `/models`.
fn models(model: &str) -> Result<Models> {
    let path = Path::new(model);
    if path.extension().is_none_or(|extension| extension != "gguf") {
        let files = model::fetch(model)?;
        let entry =
            model::catalogue()?.into_iter().find(|entry| entry.id == model).context("unknown model")?;
        let url =
            |file: &model::ModelFile| format!("/hub/{}/resolve/{}/{}", entry.repo, entry.revision, file.path);
        return Ok(Models {
            config: serde_json::json!({ "hub_endpoint": "/hub", "models": [], "default_model": model }),
            files: entry.files.iter().map(url).zip(files).collect(),
        });
    }
    let paths = split_files(path)?;
    let mut files = Vec::new();
    let mut size = 0;
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        size += std::fs::metadata(&path).with_context(|| path.display().to_string())?.len();
        files.push((format!("/models/{name}"), path));
    }
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let urls: Vec<&str> = files.iter().map(|(url, _)| url.as_str()).collect();
    let entry = serde_json::json!({ "id": name, "name": name, "url": urls, "size": size });
    Ok(Models { config: serde_json::json!({ "models": [entry], "default_model": name }), files })
}

/// All files of a split model, given its first one; otherwise only the given file.
fn split_files(path: &Path) -> Result<Vec<PathBuf>> {
    let name = path.to_string_lossy();
    let Some((stem, count)) = name.strip_suffix(".gguf").and_then(|name| name.split_once("-00001-of-"))
    else {
        return Ok(vec![path.to_path_buf()]);
    };
    let n: u32 = count
        .parse()
        .with_context(|| format!("{name}: the name of a split model ends in -00001-of-NNNNN.gguf"))?;
    Ok((1..=n).map(|i| PathBuf::from(format!("{stem}-{i:05}-of-{count}.gguf"))).collect())
}

async fn listen(port: Option<u16>) -> Result<tokio::net::TcpListener> {
    let bind = |port: u16| tokio::net::TcpListener::bind(("127.0.0.1", port));
    if let Some(port) = port {
        return bind(port)
            .await
            .with_context(|| format!("port {port} cannot be used; choose another with --port"));
    }
    for port in 8080..8100 {
        if let Ok(listener) = bind(port).await {
            return Ok(listener);
        }
    }
    Ok(bind(0).await?)
}

fn router(page: &Path, models: Models) -> Router {
    let config = models.config.to_string();
    let mut router = Router::new().route(
        "/config.json",
        axum::routing::get(move || async move { ([(header::CONTENT_TYPE, "application/json")], config) }),
    );
    for (url, file) in models.files {
        router = router.route_service(&url, ServeFile::new(file));
    }
    router.fallback_service(ServeDir::new(page)).layer(from_fn(add_headers))
}

async fn add_headers(request: Request<axum::body::Body>, next: Next) -> Response {
    let path = request.uri().path();
    // These paths contain a hash or a revision, so their content never changes.
    let is_immutable = path.starts_with("/assets/") || path.starts_with("/hub/");
    let mut response = next.run(request).await;
    let is_ok = response.status().is_success();
    let cache = if is_immutable && is_ok { "public, max-age=31536000, immutable" } else { "no-cache" };
    let headers = response.headers_mut();
    for (name, value) in [
        ("cache-control", cache),
        ("content-security-policy", POLICY),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-embedder-policy", "require-corp"),
        ("cross-origin-resource-policy", "same-origin"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

fn open_browser(url: &str) {
    let opened = match std::env::consts::OS {
        "macos" => tools::run("open", &[url]),
        "windows" => tools::run("cmd", &["/C", "start", url]),
        _ => tools::run("xdg-open", &[url]),
    };
    if opened.is_err() {
        eprintln!("could not open a browser: open {url} yourself");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::StatusCode;
    use tower::ServiceExt;

    /// A site with a page, an asset and a model of 1000 bytes.
    fn site() -> (tempfile::TempDir, Router) {
        let kept = tempfile::tempdir().unwrap();
        let folder = kept.path();
        std::fs::create_dir_all(folder.join("page/assets")).unwrap();
        std::fs::write(folder.join("secret"), "secret").unwrap();
        std::fs::write(folder.join("page/index.html"), "<p>").unwrap();
        std::fs::write(folder.join("page/assets/a-1.wasm"), "wasm").unwrap();
        let model: Vec<u8> = (0..1000).map(|i| i as u8).collect();
        std::fs::write(folder.join("m.gguf"), model).unwrap();
        let files = vec![("/hub/a/b/resolve/c/m.gguf".to_string(), folder.join("m.gguf"))];
        let config = serde_json::json!({ "hub_endpoint": "/hub" });
        let router = router(&folder.join("page"), Models { config, files });
        (kept, router)
    }

    fn get(
        router: &Router,
        path: &str,
        extra: &[(&str, &str)],
    ) -> (StatusCode, axum::http::HeaderMap, Vec<u8>) {
        let mut request = Request::get(path);
        for (name, value) in extra {
            request = request.header(*name, *value);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            let (parts, body) = response.into_parts();
            (parts.status, parts.headers, axum::body::to_bytes(body, 1 << 20).await.unwrap().to_vec())
        })
    }

    const MODEL: &str = "/hub/a/b/resolve/c/m.gguf";

    #[test]
    fn ranges() {
        let (_kept, router) = site();
        let (status, headers, body) = get(&router, MODEL, &[("range", "bytes=10-19")]);
        assert_eq!(
            (status, headers["content-range"].to_str().unwrap()),
            (StatusCode::PARTIAL_CONTENT, "bytes 10-19/1000")
        );
        assert_eq!(body, (10..20).collect::<Vec<u8>>());
        assert_eq!(get(&router, MODEL, &[("range", "bytes=1000-")]).0, StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(get(&router, MODEL, &[]).2.len(), 1000);
    }

    #[test]
    fn entity_tags_save_transfers() {
        let (_kept, router) = site();
        let (_, headers, _) = get(&router, MODEL, &[]);
        let etag = headers["etag"].to_str().unwrap();
        assert!(!etag.starts_with("W/"));
        assert_eq!(get(&router, MODEL, &[("if-none-match", etag)]).0, StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn types_caching_and_isolation() {
        let (_kept, router) = site();
        let (status, headers, _) = get(&router, "/", &[]);
        assert_eq!((status, headers["content-type"].to_str().unwrap()), (StatusCode::OK, "text/html"));
        assert_eq!(headers["cache-control"], "no-cache");
        assert_eq!(headers["cross-origin-opener-policy"], "same-origin");
        assert_eq!(headers["cross-origin-embedder-policy"], "require-corp");
        assert!(headers["content-security-policy"].to_str().unwrap().contains("default-src 'self'"));
        let (_, headers, _) = get(&router, "/assets/a-1.wasm", &[]);
        assert_eq!(headers["content-type"], "application/wasm");
        assert!(headers["cache-control"].to_str().unwrap().contains("immutable"));
        let (status, headers, _) = get(&router, "/assets/none.js", &[]);
        assert_eq!((status, headers["cache-control"].to_str().unwrap()), (StatusCode::NOT_FOUND, "no-cache"));
        assert_eq!(get(&router, "/config.json", &[]).2, br#"{"hub_endpoint":"/hub"}"#);
    }

    #[test]
    fn files_outside_the_page_are_not_served() {
        let (_kept, router) = site();
        for path in ["/../secret", "/..%2fsecret", "/%2e%2e/secret", "/assets/../../secret", "/hub/secret"] {
            let (status, _, body) = get(&router, path, &[]);
            assert!(!status.is_success() && body != b"secret", "{path}: {status}");
        }
    }

    #[test]
    fn all_files_of_a_split_model_are_served() {
        let files = split_files(Path::new("/x/m-00001-of-00003.gguf")).unwrap();
        assert_eq!(files[2], Path::new("/x/m-00003-of-00003.gguf"));
        assert_eq!(split_files(Path::new("/x/m.gguf")).unwrap().len(), 1);
    }
}
