//! The port of mail: a letter leaves the house, or it is said why not. It knows no shop: what a
//! letter says, when it is tried again and when it is given up are its user's to decide.
//!
//! Two engines: [`files`], a directory of letters that a person or another program may read, and
//! [`smtp`], a server that takes them. Both send the same bytes.

use lettre::{
    Message,
    message::{Mailbox, MultiPart},
};
use std::{fmt, pin::Pin, time::SystemTime};

pub mod files;
pub mod smtp;

/// A letter to one address.
#[derive(Clone, PartialEq, Eq)]
pub struct Letter {
    /// The same for each try: the receiver's program may know it again by its `Message-ID`.
    pub id: [u8; 16],
    /// When it was decided to write it.
    pub at: SystemTime,
    /// The address alone, without a name.
    pub to: String,
    pub subject: String,
    /// It says the same twice: as plain text, and as a document of HTML.
    pub text: String,
    pub html: String,
}

// It has addresses, and links that open accounts.
impl fmt::Debug for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letter").finish_non_exhaustive()
    }
}

/// Why a letter did not leave. No text of these has an address or a part of the letter in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailError {
    /// It may leave later: the server is away, is busy, or does not know us.
    Later(String),
    /// This letter is not taken, and will not be: its address is none, for example.
    Refused(String),
}

impl fmt::Display for MailError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Later(why) => write!(f, "the letter waits: {why}"),
            Self::Refused(why) => write!(f, "the letter is not taken: {why}"),
        }
    }
}

impl std::error::Error for MailError {}

/// What became of a letter.
pub type Sent<'a> = Pin<Box<dyn Future<Output = Result<(), MailError>> + Send + 'a>>;

/// What takes letters.
pub trait Mail: Send + Sync {
    /// The letter is durable with whom it was handed to. It ends within 100 seconds. A letter that
    /// is sent again, because the answer was lost, may arrive twice.
    fn send(&self, letter: Letter) -> Sent<'_>;
}

/// From whom letters are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender(Mailbox);

impl Sender {
    /// An address with or without a name, such as `Shop <mail@shop.example>`.
    pub fn parse(text: &str) -> Option<Self> {
        let mailbox: Mailbox = text.parse().ok()?;
        mailbox.email.domain().is_ascii().then_some(Self(mailbox))
    }

    /// The domain of its address.
    pub fn domain(&self) -> &str {
        self.0.email.domain()
    }

    /// The letter as it goes over the wire. Headers and texts are encoded here, so that no line of
    /// a letter can end one of its headers.
    fn message(&self, letter: Letter) -> Result<Message, MailError> {
        let refused = |what: &str| MailError::Refused(what.into());
        let Letter { id, at, to, subject, text, html } = letter;
        let to = to.parse().map_err(|_| refused("its address cannot be written in a letter"))?;
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        Message::builder()
            .from(self.0.clone())
            .to(Mailbox::new(None, to))
            .date(at)
            .message_id(Some(format!("<{id}@{}>", self.domain())))
            .raw_header(automatic())
            .subject(subject)
            .multipart(MultiPart::alternative_plain_html(text, html))
            .map_err(|_| refused("it cannot be written as a letter"))
    }
}

/// So that no program answers that its owner is on holiday (RFC 3834, section 5).
fn automatic() -> lettre::message::header::HeaderValue {
    use lettre::message::header::{HeaderName, HeaderValue};
    HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> Letter {
        Letter {
            id: [7; 16],
            at: SystemTime::UNIX_EPOCH,
            to: "ann@example.com".into(),
            subject: "A letter".into(),
            text: "Hello".into(),
            html: "<p>Hello</p>".into(),
        }
    }

    fn written(letter: Letter) -> String {
        let sender = Sender::parse("Shop 店 <mail@shop.example>").unwrap();
        String::from_utf8(sender.message(letter).unwrap().formatted()).unwrap()
    }

    /// The headers of a letter, each with the lines that continue it.
    fn headers(letter: &str) -> Vec<String> {
        let (head, _) = letter.split_once("\r\n\r\n").unwrap();
        head.replace("\r\n ", " ").split("\r\n").map(str::to_owned).collect()
    }

    #[test]
    fn a_letter_has_the_headers_that_it_must_have() {
        let text = written(letter());
        let headers = headers(&text);
        for want in [
            "To: ann@example.com",
            "Subject: A letter",
            "Message-ID: <07070707070707070707070707070707@shop.example>",
            "Date: Thu, 01 Jan 1970 00:00:00 +0000",
            "Auto-Submitted: auto-generated",
            "MIME-Version: 1.0",
        ] {
            assert!(headers.iter().any(|header| header == want), "{want}: {text}");
        }
        assert!(text.contains("From: =?utf-8?b?") && text.contains("<mail@shop.example>"), "{text}");
        assert!(text.is_ascii() && text.contains("text/plain") && text.contains("text/html"), "{text}");
    }

    #[test]
    fn no_text_of_a_letter_becomes_a_header() {
        let plain = headers(&written(letter())).len();
        for evil in ["A\r\nBcc: all@example.com", "A\nBcc: all@example.com", "A\r\n\r\n<p>", "A\rBcc: x@y.z"]
        {
            let of = Letter { subject: evil.into(), text: evil.into(), html: evil.into(), ..letter() };
            let text = written(of);
            let headers = headers(&text);
            assert_eq!(headers.len(), plain, "{evil:?}: {text}");
            let is_bcc = |header: &String| header.to_lowercase().starts_with("bcc");
            assert!(!headers.iter().any(is_bcc), "{evil:?}: {text}");
        }
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        let sender = Sender::parse("mail@shop.example").unwrap();
        for to in [
            "",
            "ann",
            "ann@example.com, bob@example.com",
            "ann@example.com\r\nBcc: bob@example.com",
            "ann@example.com>\r\nDATA",
            "Ann <ann@example.com>",
        ] {
            let sent = sender.message(Letter { to: to.into(), ..letter() });
            assert!(matches!(sent, Err(MailError::Refused(_))), "{to:?}");
        }
        for from in ["", "shop", "a@b, c@d", "Shop\r\nBcc: x@y.z <mail@shop.example>", "mail@例子.中国"] {
            assert_eq!(Sender::parse(from), None, "{from:?}");
        }
    }
}
