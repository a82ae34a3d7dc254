//! The page's files, as `virtctl/web/build.js` makes them.

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

/// A file of the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    /// Its path below the secret one.
    pub(super) path: &'static str,
    mime: &'static str,
    bytes: &'static [u8],
}

/// All of them. `licenses.txt` is linked from the page, for it comes with others' programs.
pub(super) const FILES: [File; 4] = [
    File {
        path: "",
        mime: "text/html; charset=utf-8",
        bytes: include_bytes!("../../web/dist/index.html"),
    },
    File {
        path: "main.js",
        mime: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../../web/dist/main.js"),
    },
    File {
        path: "style.css",
        mime: "text/css; charset=utf-8",
        bytes: include_bytes!("../../web/dist/style.css"),
    },
    File {
        path: "licenses.txt",
        mime: "text/plain; charset=utf-8",
        bytes: include_bytes!("../../web/dist/licenses.txt"),
    },
];

impl IntoResponse for File {
    fn into_response(self) -> axum::response::Response {
        ([(CONTENT_TYPE, self.mime)], self.bytes).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_nobody_else_for_anything() {
        for file in FILES.iter().filter(|file| file.path != "licenses.txt") {
            let text = std::str::from_utf8(file.bytes).unwrap();
            let links = text.match_indices("://").map(|(at, _)| {
                let from = text[..at].rfind(|c: char| !c.is_ascii_alphabetic());
                &text[from.map_or(0, |from| from + 1)..(at + 13).min(text.len())]
            });
            // Names of XML namespaces, which nobody fetches.
            let foreign: Vec<_> = links.filter(|link| *link != "http://www.w3.org").collect();
            assert!(foreign.is_empty(), "{}: {foreign:?}", file.path);
        }
    }
}
