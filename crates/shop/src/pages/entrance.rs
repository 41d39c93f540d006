//! The provider of identities as pages name it, and the button that leads there.

use crate::parts::{Provider, Shop};
use maud::{Markup, html};
use web::{
    page::Lang,
    problem::{NOT_FOUND, Problem},
};

impl Provider {
    pub(super) fn name(&self, lang: Lang) -> &str {
        lang.say(&self.name[0], &self.name[1])
    }
}

pub(super) fn provider(shop: &Shop) -> Result<&Provider, Problem> {
    let none = || Problem::new(&NOT_FOUND, "the shop has no provider of identities");
    shop.provider.as_ref().ok_or_else(none)
}

/// Log in with NAME.
pub(super) fn with(lang: Lang, name: &str) -> String {
    match lang {
        Lang::En => format!("Log in with {name}"),
        Lang::Zh => format!("使用 {name} 登录"),
    }
}

/// The way there, on the page of log-in.
pub(super) fn button(shop: &Shop, lang: Lang, next: &str) -> Markup {
    let Some(provider) = &shop.provider else { return html! {} };
    html! {
        form class="card" method="post" action="/account/provider" {
            input type="hidden" name="next" value=(next);
            button class="quiet wide" type="submit" { (with(lang, provider.name(lang))) }
        }
    }
}
