//! Files that pages load: style sheets, scripts, the icon. Their names contain the hash of their
//! content, so they may be cached for ever.

use crate::{
    brand,
    operation::{Access, Operation, get},
    problem::{NOT_FOUND, Problem},
};
use axum::{
    extract::Path,
    response::{IntoResponse, Response},
};
use http::header;
use std::sync::OnceLock;

/// The shop's mark, as browsers show it beside a title.
pub static ICON: StaticFile = StaticFile::of("icon", "svg", "image/svg+xml", Content::Icon);

/// A file that pages load.
#[derive(Debug)]
pub struct StaticFile {
    name: &'static str,
    extension: &'static str,
    media_type: &'static str,
    content: Content,
    made: OnceLock<Made>,
}

/// What is in it. What the brand has a part in is made when it is first asked for.
#[derive(Debug)]
enum Content {
    Text(&'static str),
    /// After the design tokens, which come first.
    Style(&'static [&'static str]),
    Icon,
}

#[derive(Debug)]
struct Made {
    path: String,
    content: String,
}

impl StaticFile {
    pub const fn new(
        name: &'static str,
        extension: &'static str,
        media_type: &'static str,
        content: &'static str,
    ) -> Self {
        Self::of(name, extension, media_type, Content::Text(content))
    }

    /// A style sheet: the design tokens, and these parts.
    pub const fn style(name: &'static str, parts: &'static [&'static str]) -> Self {
        Self::of(name, "css", "text/css; charset=utf-8", Content::Style(parts))
    }

    const fn of(
        name: &'static str,
        extension: &'static str,
        media_type: &'static str,
        content: Content,
    ) -> Self {
        Self { name, extension, media_type, content, made: OnceLock::new() }
    }

    /// Its path.
    pub fn path(&self) -> &str {
        &self.made().path
    }

    /// Whether it is this file with any content.
    fn has_name(&self, name: &str) -> bool {
        let hash = name.strip_prefix(self.name).and_then(|rest| rest.strip_prefix('-'));
        let hash = hash.and_then(|rest| rest.strip_suffix(self.extension)?.strip_suffix('.'));
        hash.is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }

    fn made(&self) -> &Made {
        self.made.get_or_init(|| {
            let content = match &self.content {
                Content::Text(text) => (*text).to_owned(),
                Content::Style(parts) => brand::worn().tokens() + &parts.concat(),
                Content::Icon => brand::worn().icon(),
            };
            let hash = blake3::hash(content.as_bytes()).to_hex();
            Made { path: format!("/static/{}-{}.{}", self.name, &hash[..16], self.extension), content }
        })
    }
}

/// The files that a listener's pages load, with the icon.
pub fn statics<S: Clone + Send + Sync + 'static>(files: &'static [&'static StaticFile]) -> Vec<Operation<S>> {
    let serve = move |Path(file): Path<String>| async move { serve(files, &file) };
    vec![
        get("/static/{file}", "readStaticFile", Access::Open, serve),
        get("/favicon.ico", "readIcon", Access::Open, icon),
    ]
}

fn serve(files: &[&'static StaticFile], name: &str) -> Result<Response, Problem> {
    let path = format!("/static/{name}");
    let mut known = files.iter().copied().chain([&ICON]);
    let Some(file) = known.find(|file| file.path() == path || file.has_name(name)) else {
        return Err(Problem::new(&NOT_FOUND, "no such file: load the page again"));
    };
    // A page of another process, which has another brand or build, is better with this one's than
    // with none.
    let kept = match file.path() == path {
        true => "public, max-age=31536000, immutable",
        false => "no-store",
    };
    let headers = [(header::CONTENT_TYPE, file.media_type), (header::CACHE_CONTROL, kept)];
    Ok((headers, &*file.made().content).into_response())
}

/// Where browsers look for one that no page has named.
async fn icon() -> Response {
    let headers = [(header::CONTENT_TYPE, ICON.media_type), (header::CACHE_CONTROL, "public, max-age=86400")];
    (headers, &*ICON.made().content).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    static SHEET: StaticFile = StaticFile::style("sheet", &["p { margin: 0; }\n", "b { margin: 0; }\n"]);

    #[test]
    fn a_style_sheet_begins_with_the_tokens_and_is_named_by_its_content() {
        let Made { path, content } = SHEET.made();
        assert!(content.contains("--ink: ") && content.contains("--brand: "), "{content}");
        assert!(content.ends_with("p { margin: 0; }\nb { margin: 0; }\n"), "{content}");
        let hash = &blake3::hash(content.as_bytes()).to_hex()[..16];
        assert_eq!(*path, format!("/static/sheet-{hash}.css"));
        for file in [&SHEET, &ICON] {
            let name = file.path().strip_prefix("/static/").unwrap();
            assert_eq!(serve(&[&SHEET], name).unwrap().status(), 200, "{name}");
        }
        // Of another process: there for now, and not kept.
        let other = serve(&[&SHEET], "sheet-0000000000000000.css").unwrap();
        assert_eq!(
            (other.status().as_u16(), &other.headers()["cache-control"]),
            (200, &"no-store".parse().unwrap())
        );
        for none in
            ["sheet-0000000000000000.js", "sheet-00.css", "sheet.css", "other-0000000000000000.css", ""]
        {
            assert!(serve(&[&SHEET], none).is_err(), "{none}");
        }
    }
}
