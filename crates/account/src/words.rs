//! What letters say, in two languages, as text and as HTML. No letter has a name that a shopper has
//! typed: anybody can make an account with another's address, and the shop would send their words.

use contracts::store::{Language, OrderId};
use maud::{DOCTYPE, html};

/// What the shop is called, in both languages, and the origin that links lead to, such as
/// `https://shop.example`: never what a request says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShopWords {
    pub name: [String; 2],
    pub origin: String,
}

/// A letter's words.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) subject: String,
    pub(crate) text: String,
    pub(crate) html: String,
}

/// A paragraph of a letter.
enum Part {
    Says(String),
    /// A link, and the words that HTML has for it.
    Leads(String, &'static str),
}

/// Letters are read in programs that load no style sheet.
const STYLE: &str =
    "font-family: system-ui, sans-serif; line-height: 1.6; max-width: 36rem; margin: 0 auto; padding: 1rem";

/// A name within a Chinese sentence: with spaces where it begins or ends in Latin letters.
fn in_chinese(name: &str) -> String {
    let space = |is_latin: bool| if is_latin { " " } else { "" };
    let (first, last) = (name.chars().next(), name.chars().next_back());
    let is_latin = |of: Option<char>| of.is_some_and(|of| of.is_ascii_alphanumeric());
    format!("{}{name}{}", space(is_latin(first)), space(is_latin(last)))
}

impl ShopWords {
    fn name(&self, language: Language) -> &str {
        match language {
            Language::En => &self.name[0],
            Language::Zh => &self.name[1],
        }
    }

    /// The letter with a link that sets a new password.
    pub(crate) fn reset(&self, language: Language, secret: &str) -> Words {
        let (shop, lang) = (self.name(language), language.as_str());
        let zh = in_chinese(shop);
        let link = format!("{}/account/reset?link={secret}&lang={lang}", self.origin);
        match language {
            Language::En => self.letter(
                language,
                format!("Set a new password for {shop}"),
                vec![
                    Part::Says(format!(
                        "You asked to set a new password for your account at {shop}. Use this link within 30 minutes. It works once."
                    )),
                    Part::Leads(link, "Set a new password"),
                    Part::Says(
                        "If you did not ask for it, do nothing: your password stays as it is, and the link will expire.".into(),
                    ),
                ],
            ),
            Language::Zh => self.letter(
                language,
                format!("重置您在{zh}的密码"),
                vec![
                    Part::Says(format!(
                        "我们收到了重置您在{zh}的账户密码的请求。请点击以下链接设置新密码，链接 30 分钟内有效，且只能使用一次。"
                    )),
                    Part::Leads(link, "设置新密码"),
                    Part::Says("如果这不是您本人的操作，请忽略本邮件：您的密码不会改变，链接会自动失效。".into()),
                ],
            ),
        }
    }

    /// The letter that says that the password is another one now.
    pub(crate) fn password_changed(&self, language: Language) -> Words {
        let (shop, lang) = (self.name(language), language.as_str());
        let zh = in_chinese(shop);
        let link = format!("{}/account/forgot?lang={lang}", self.origin);
        match language {
            Language::En => self.letter(
                language,
                format!("Your password for {shop} was changed"),
                vec![
                    Part::Says(format!(
                        "The password of your account at {shop} was changed, and other devices were logged out."
                    )),
                    Part::Says(
                        "If it was you, there is nothing to do. If it was not, set a new password at once:".into(),
                    ),
                    Part::Leads(link, "Set a new password"),
                ],
            ),
            Language::Zh => self.letter(
                language,
                format!("您在{zh}的密码已修改"),
                vec![
                    Part::Says(format!("您在{zh}的账户密码已修改，其他设备已退出登录。")),
                    Part::Says("如果是您本人操作，无需处理；如果不是，请立即重置密码：".into()),
                    Part::Leads(link, "重置密码"),
                ],
            ),
        }
    }

    /// The letter about an order of a guest, with the link to it.
    pub(crate) fn ordered(&self, language: Language, order: OrderId, secret: &str) -> Words {
        let (shop, lang) = (self.name(language), language.as_str());
        let zh = in_chinese(shop);
        let link = format!("{}/guest/order?link={secret}&lang={lang}", self.origin);
        match language {
            Language::En => self.letter(
                language,
                format!("Your order at {shop}"),
                vec![
                    Part::Says(format!("We have your order {order} at {shop}. It waits 30 minutes for its payment.")),
                    Part::Says("See it, pay for it, change its address or send it back with this link. Whoever has the link can do the same: keep it to yourself.".into()),
                    Part::Leads(link, "See the order"),
                    Part::Says("If you did not order anything, do nothing: what is not paid is not sent.".into()),
                ],
            ),
            Language::Zh => self.letter(
                language,
                format!("您在{zh}的订单"),
                vec![
                    Part::Says(format!("我们已收到您在{zh}的订单 {order}，请在 30 分钟内付款。")),
                    Part::Says("您可以通过以下链接查看订单、付款、修改地址或申请退货。持有链接者均可操作，请勿转发。".into()),
                    Part::Leads(link, "查看订单"),
                    Part::Says("如果您没有下单，请忽略本邮件：未付款的订单不会发货。".into()),
                ],
            ),
        }
    }

    /// The letter that says that a provider's log-in opens the account now.
    pub(crate) fn connected(&self, language: Language) -> Words {
        let (shop, lang) = (self.name(language), language.as_str());
        let zh = in_chinese(shop);
        let link = format!("{}/account/forgot?lang={lang}", self.origin);
        match language {
            Language::En => self.letter(
                language,
                format!("Another way to log in to {shop}"),
                vec![
                    Part::Says(format!(
                        "Your account at {shop} was connected with a log-in of another provider, which opens it from now on."
                    )),
                    Part::Says(
                        "If it was you, there is nothing to do. If it was not, set a new password at once, and disconnect the log-in on the page “Name and password”:".into(),
                    ),
                    Part::Leads(link, "Set a new password"),
                ],
            ),
            Language::Zh => self.letter(
                language,
                format!("您在{zh}的账户新增了登录方式"),
                vec![
                    Part::Says(format!("您在{zh}的账户已绑定第三方登录，今后可使用该方式登录。")),
                    Part::Says("如果是您本人操作，无需处理；如果不是，请立即重置密码，并在“姓名与密码”页面解除绑定：".into()),
                    Part::Leads(link, "重置密码"),
                ],
            ),
        }
    }

    /// The letter that says that the account is gone, and what will be erased.
    pub(crate) fn deleted(&self, language: Language) -> Words {
        let shop = self.name(language);
        let zh = in_chinese(shop);
        match language {
            Language::En => self.letter(
                language,
                format!("Your account at {shop} is deleted"),
                vec![
                    Part::Says(format!(
                        "Your account at {shop} is deleted, as you asked. Your name and your addresses will be erased, also from your orders."
                    )),
                    Part::Says("You can create a new account with this address at any time.".into()),
                ],
            ),
            Language::Zh => self.letter(
                language,
                format!("您在{zh}的账户已注销"),
                vec![
                    Part::Says(format!("您在{zh}的账户已按您的要求注销，姓名和地址（包括订单中的）将被清除。")),
                    Part::Says("您可以随时使用此邮箱重新注册。".into()),
                ],
            ),
        }
    }

    fn letter(&self, language: Language, subject: String, parts: Vec<Part>) -> Words {
        let (hello, lang) = match language {
            Language::En => ("Hello,", "en"),
            Language::Zh => ("您好！", "zh-Hans"),
        };
        let shop = self.name(language);
        let paragraph = |part: &Part| match part {
            Part::Says(words) => words.clone(),
            Part::Leads(link, _) => link.clone(),
        };
        let paragraphs: Vec<String> = parts.iter().map(paragraph).collect();
        let text = format!("{hello}\n\n{}\n\n{shop}\n{}\n", paragraphs.join("\n\n"), self.origin);
        let html = html! {
            (DOCTYPE)
            html lang=(lang) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (subject) }
                }
                body style=(STYLE) {
                    p { (hello) }
                    @for part in &parts {
                        @match part {
                            Part::Says(words) => p { (words) },
                            Part::Leads(link, words) => {
                                p { a href=(link) { (words) } }
                                p { (link) }
                            }
                        }
                    }
                    p { (shop) br; (self.origin) }
                }
            }
        };
        Words { subject, text, html: html.into_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_says_the_same_twice_and_its_link_leads_to_the_shop() {
        let shop =
            ShopWords { name: ["Shop & <b>".into(), "小店".into()], origin: "https://shop.example".into() };
        for (language, subject, says) in [
            (Language::En, "Set a new password for Shop & <b>", "within 30 minutes"),
            (Language::Zh, "重置您在小店的密码", "30 分钟内有效"),
        ] {
            let words = shop.reset(language, "SECRET");
            assert_eq!(words.subject, subject);
            let link = format!("https://shop.example/account/reset?link=SECRET&lang={}", language.as_str());
            assert!(words.text.contains(says) && words.html.contains(says), "{}", words.text);
            assert!(words.text.contains(&format!("\n\n{link}\n\n")), "{}", words.text);
            assert!(
                words.html.contains(&format!("href=\"{}\"", link.replace('&', "&amp;"))),
                "{}",
                words.html
            );
            assert!(!words.html.contains("<b>"), "{}", words.html);
        }
        assert!(
            shop.password_changed(Language::Zh).text.contains("https://shop.example/account/forgot?lang=zh")
        );
    }
}
