//! The stylesheet, the script and the mark, inside the binary. Their addresses change with what
//! they hold, so a browser may keep them.

use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Console;

struct Asset {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

static ASSETS: [Asset; 3] = [
    Asset {
        name: "console.css",
        kind: "text/css; charset=utf-8",
        text: include_str!("assets/console.css"),
    },
    Asset {
        name: "console.js",
        kind: "text/javascript; charset=utf-8",
        text: include_str!("assets/console.js"),
    },
    Asset { name: "mark.svg", kind: "image/svg+xml", text: include_str!("assets/mark.svg") },
];

/// Of what all of them hold.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hash = blake3::Hasher::new();
    for asset in &ASSETS {
        hash.update(asset.text.as_bytes());
    }
    hash.finalize().to_hex().chars().take(12).collect()
});

/// Where a browser finds an asset.
pub(super) fn address(name: &str) -> String {
    format!("/console/assets/{}/{name}", *VERSION)
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/console/assets/{version}/{name}", get(show))
}

async fn show(Path((_, name)): Path<(String, String)>) -> Response {
    match ASSETS.iter().find(|asset| asset.name == name) {
        Some(asset) => {
            let kept = "public, max-age=31536000, immutable";
            let headers = [(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, kept)];
            (headers, asset.text).into_response()
        }
        None => axum::http::StatusCode::NOT_FOUND.into_response(),
    }
}
