//! Pictures of items. Browsers load them from where they are, and the page's policy allows those
//! places and no others.

use super::text::Words;
use axum::response::Response;
use contracts::{ItemSpec, SaleSpec};
use http::{HeaderValue, header};
use maud::{Markup, html};
use web::page::{Lang, policy_with_pictures};

/// The picture of an item, in a frame that is there before it is, and without it. `is_first` is
/// what the page is about: it is loaded at once.
pub(super) fn picture(words: Words, item: &ItemSpec, is_first: bool) -> Markup {
    let Some(of) = &item.picture else { return html! {} };
    let alt = of.alt_zh.as_deref().filter(|_| words.0 == Lang::Zh).unwrap_or(&of.alt);
    html! {
        div class="frame" {
            img src=(of.url) width=(of.width) height=(of.height) alt=(alt) decoding="async" referrerpolicy="no-referrer"
                loading=(if is_first { "eager" } else { "lazy" }) fetchpriority=[is_first.then_some("high")];
        }
    }
}

/// Lets a page load the pictures that a sale names.
pub(super) fn allow(response: Response, spec: &SaleSpec) -> Response {
    allow_origins(response, &spec.picture_origins())
}

/// Lets a page load pictures of these origins.
pub(super) fn allow_origins(mut response: Response, origins: &[&str]) -> Response {
    // An origin is made of letters that a header may have.
    if !origins.is_empty()
        && let Ok(policy) = HeaderValue::try_from(policy_with_pictures(origins))
    {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}
