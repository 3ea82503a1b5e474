//! The files of the page, which are part of the program.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::routing::get;

/// The paths, types and contents.
const FILES: [(&str, &str, &str); 8] = [
    ("/", "text/html; charset=utf-8", include_str!("../page/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_str!("../page/style.css")),
    ("/icon.svg", "image/svg+xml", include_str!("../page/icon.svg")),
    ("/app.js", JAVASCRIPT, include_str!("../page/app.js")),
    ("/plot.js", JAVASCRIPT, include_str!("../page/plot.js")),
    ("/plots.js", JAVASCRIPT, include_str!("../page/plots.js")),
    ("/figures.js", JAVASCRIPT, include_str!("../page/figures.js")),
    ("/controls.js", JAVASCRIPT, include_str!("../page/controls.js")),
];

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

pub(crate) fn router() -> Router {
    FILES.into_iter().fold(Router::new(), |router, (path, content_type, content)| {
        // A newer version of the program may have other files.
        let headers = [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-cache")];
        router.route(path, get(move || async move { (headers, content) }))
    })
}
