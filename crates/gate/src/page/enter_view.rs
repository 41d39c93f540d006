//! The pages of a shopper who is not in the sale yet: what is to be solved first, or why the shop
//! must send the shopper once more.

use super::text::Words;
use crate::challenge::{Code, Made, MadeCode, MadeProofOfWork};
use contracts::SaleSpec;
use maud::{Markup, html};
use units::TimeMs;
use web::page::{Frame, Lang};

/// Why a shopper is not in the sale yet.
pub(super) enum Why<'a> {
    Solve {
        made: &'a Made,
        was_wrong: bool,
    },
    /// The shop's token is too old, or not one.
    Token,
    /// The same form may get in later.
    Later,
}

/// What the page shows.
pub(super) struct Entrance<'a> {
    pub(super) lang: Lang,
    pub(super) sale: &'a str,
    pub(super) spec: &'a SaleSpec,
    /// The shop's token, for the form that is sent again; and the item that it named.
    pub(super) token: &'a str,
    pub(super) item: &'a str,
    pub(super) return_url: Option<&'a str>,
    pub(super) shop_url: &'a str,
    pub(super) why: Why<'a>,
    /// For developers, in English.
    pub(super) detail: &'a str,
    pub(super) now: TimeMs,
}

impl Entrance<'_> {
    pub(super) fn render(&self) -> Markup {
        let words = Words(self.lang);
        let name = words.sale_name(self.spec);
        let body = html! {
            section class="card" aria-labelledby="entrance-title" {
                p class="small" { (name) }
                @match &self.why {
                    Why::Solve { made: Made::Code(made), was_wrong } => (self.code(words, made, *was_wrong)),
                    Why::Solve { made: Made::ProofOfWork(made), .. } => (self.work(words, made)),
                    Why::Token => (self.back(words)),
                    Why::Later => (self.later(words)),
                }
            }
        };
        // The page answers a form, so it has no address that a link could lead to.
        let at_sale = format!("/sales/{}", self.sale);
        let frame = Frame {
            script: Some(super::SCRIPT.path()),
            skip: words.say("Skip to the sale", "跳到活动内容"),
            home: Some(if self.shop_url.is_empty() { &at_sale } else { self.shop_url }),
            sheet: &super::SHEET,
            ..Frame::plain(self.lang, name, &at_sale)
        };
        frame.render(&body)
    }

    /// The form of the shop's page, to be sent again with what is in `more`.
    fn again(&self, more: &Markup) -> Markup {
        html! {
            form class="enter" method="post" action={ "/sales/" (self.sale) "/enter" } {
                input type="hidden" name="token" value=(self.token);
                input type="hidden" name="lang" value=(self.lang.code());
                @if let Some(url) = self.return_url { input type="hidden" name="return_url" value=(url); }
                @if !self.item.is_empty() { input type="hidden" name="item" value=(self.item); }
                (more)
            }
        }
    }

    fn code(&self, words: Words, made: &MadeCode, was_wrong: bool) -> Markup {
        let Code { id, length, image, audio } = &made.code;
        let hint = match self.lang {
            Lang::En => format!("{length} letters or digits. Small letters are fine."),
            Lang::Zh => format!("{length} 个字母或数字，不区分大小写。"),
        };
        let fields = html! {
            input type="hidden" name="code_id" value=(id);
            // Who gets it wrong hears the next one too.
            @if image.is_none() { input type="hidden" name="media" value="audio"; }
            @if let Some(image) = image {
                p { img class="code" src=(image) width="280" height="120" alt=(words.say("A picture of the code; below you can hear one instead", "验证码图片；下方可改为收听语音")); }
            }
            @if let Some(audio) = audio {
                p { audio controls src=(audio) aria-label=(words.say("The code", "验证码")) {} }
            }
            label for="code" { (words.say("The code", "验证码")) }
            p class="hint" id="code-hint" { (hint) }
            input id="code" name="code" type="text" required maxlength="20" autocomplete="off" autocapitalize="characters" spellcheck="false"
                aria-describedby=(if was_wrong { "code-wrong code-hint" } else { "code-hint" }) aria-invalid=[was_wrong.then_some("true")] autofocus;
            button type="submit" { (words.say("Go on to the sale", "进入活动")) }
        };
        let minutes = made.expires_at.since(self.now).0.div_ceil(60_000).max(1);
        let purpose = match (self.lang, minutes) {
            (Lang::En, 1) => "It keeps programs out. You have a minute.".to_owned(),
            (Lang::En, _) => format!("It keeps programs out. You have {minutes} minutes."),
            (Lang::Zh, _) => format!("用于防止程序抢购，请在 {minutes} 分钟内完成。"),
        };
        let other = if image.is_some() { "audio" } else { "image" };
        html! {
            h1 id="entrance-title" {
                @if image.is_some() { (words.say("Type what you see", "请输入图中字符")) } @else { (words.say("Type what you hear", "请输入听到的字符")) }
            }
            @if was_wrong {
                p class="wrong" id="code-wrong" role="alert" { (words.say("That was not it. Here is another one.", "验证码不正确，请输入新的验证码。")) }
            }
            p { (purpose) }
            (self.again(&fields))
            (self.again(&html! {
                button class="quiet" type="submit" name="media" value=(other) {
                    @if image.is_some() { (words.say("Hear a code instead", "改为收听语音验证码")) } @else { (words.say("See a code instead", "改为查看图片验证码")) }
                }
            }))
        }
    }

    /// The script solves it, and sends the form.
    fn work(&self, words: Words, made: &MadeProofOfWork) -> Markup {
        let MadeProofOfWork { algorithm, challenge, maxnumber, salt, signature } = made;
        html! {
            h1 id="entrance-title" { (words.say("One moment", "请稍候")) }
            div id="work" data-algorithm=(algorithm) data-challenge=(challenge) data-maxnumber=(maxnumber) data-salt=(salt) data-signature=(signature)
                data-failed=(words.say("Your browser could not solve it. Try again, or use another browser.", "浏览器未能完成验证，请重试或更换浏览器。")) {
                p role="status" { (words.say(
                    "Your browser solves a small puzzle, which keeps programs out. It takes some seconds.",
                    "浏览器正在进行安全验证，以防止程序抢购，需要几秒钟。",
                )) }
            }
            noscript {
                p { strong { (words.say(
                    "This sale asks the browser to solve a small puzzle, and that needs JavaScript. Turn JavaScript on for this page and press the button, or use a browser that has it.",
                    "进入本活动需要浏览器完成一次安全验证，必须启用 JavaScript。请为本页启用 JavaScript 后点击按钮，或更换浏览器。",
                )) } }
            }
            (self.again(&html! { button class="quiet" type="submit" { (words.say("Try again", "重试")) } }))
        }
    }

    fn back(&self, words: Words) -> Markup {
        let to = self.return_url.unwrap_or(self.shop_url);
        html! {
            h1 id="entrance-title" { (words.say("Open the sale from the shop again", "请从商店重新进入活动")) }
            p { (words.say(
                "The shop's page that led here was open for too long, or is out of order. Load it again, and press its button once more.",
                "带您来到这里的商店页面打开时间过长或已失效，请刷新该页面后重新点击按钮。",
            )) }
            @if !to.is_empty() {
                p { a class="button" href=(to) { (words.say("Back to the shop", "返回商店")) } }
            }
            (self.developers(words))
        }
    }

    fn later(&self, words: Words) -> Markup {
        html! {
            h1 id="entrance-title" { (words.say("Not yet", "请稍后再试")) }
            p { (words.say(
                "Many shoppers come at once. Nothing is lost: press the button in a few seconds.",
                "当前访问人数较多，没有任何损失，请几秒后点击按钮重试。",
            )) }
            (self.again(&html! { button type="submit" { (words.say("Go on to the sale", "进入活动")) } }))
            (self.developers(words))
        }
    }

    fn developers(&self, words: Words) -> Markup {
        html! {
            p class="small" { (words.say("For the shop's developers:", "供商店开发人员参考：")) " " span lang="en" { (self.detail) } }
        }
    }
}
