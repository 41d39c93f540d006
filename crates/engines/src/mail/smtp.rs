//! Letters by SMTP (RFC 5321), to one server that takes them all, such as the provider of the
//! shop's mail. Each letter has a connection of its own; there are few.
//!
//! With `smtps://` the connection is TLS from its first byte, with `smtp://` it must become TLS by
//! STARTTLS before anything is said. Only a server on this machine may be spoken to without.

use super::{Letter, Mail, MailError, Sender, Sent};
use lettre::{
    Address,
    transport::smtp::{
        Error,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters},
        commands::{Data, Mail as MailFrom, Rcpt},
        extension::{ClientId, Extension, MailParameter},
    },
};
use std::{fmt, net::IpAddr, time::Duration};

/// How long a connection may take to be made; all until the server is ready for the letter itself;
/// the letter with the answer after its end, which is sent again if that is not waited for; and
/// the farewell.
const CONNECT_MAX: Duration = Duration::from_secs(10);
const READY_MAX: Duration = Duration::from_secs(30);
const TAKEN_MAX: Duration = Duration::from_secs(60);
const QUIT_MAX: Duration = Duration::from_secs(2);

/// Where the server is, and who we are there.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    host: String,
    port: u16,
    user: Option<String>,
    /// TLS from the first byte.
    is_tls: bool,
}

// The user is a secret's half.
impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Place {
    /// `smtp://user@host:587` or `smtps://user@host:465`, the user and the port as needed. A
    /// password does not stand there.
    pub fn parse(url: &str) -> Option<Self> {
        let (is_tls, rest) = match url.strip_prefix("smtps://") {
            Some(rest) => (true, rest),
            None => (false, url.strip_prefix("smtp://")?),
        };
        let (user, server) = match rest.rsplit_once('@') {
            Some((user, server)) => (Some(user), server),
            None => (None, rest),
        };
        let (host, port) = match server.rsplit_once(':').filter(|_| !server.ends_with(']')) {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (server, if is_tls { 465 } else { 587 }),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_host = |host: &str| {
            (1..=253).contains(&host.len())
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:".contains(&byte))
        };
        // An address of mail is often the user.
        let is_user = |user: &str| {
            (1..=254).contains(&user.len())
                && user.bytes().all(|byte| byte.is_ascii_graphic() && !b":/".contains(&byte))
        };
        if !is_host(host) || port == 0 || !user.is_none_or(is_user) {
            return None;
        }
        Some(Self { host: host.to_owned(), port, user: user.map(str::to_owned), is_tls })
    }

    /// Whether it is a user who needs a password.
    pub fn has_user(&self) -> bool {
        self.user.is_some()
    }

    fn is_this_machine(&self) -> bool {
        let is_loopback = |address: IpAddr| address.is_loopback();
        self.host == "localhost" || self.host.parse().is_ok_and(is_loopback)
    }
}

/// A server of mail.
pub struct Smtp {
    sender: Sender,
    place: Place,
    credentials: Option<Credentials>,
    /// None for a server on this machine that is spoken to in clear.
    tls: Option<TlsParameters>,
    hello: ClientId,
}

impl fmt::Debug for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smtp").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Smtp {
    /// `roots` are certificates in PEM that are trusted in place of the system's; they make a
    /// server on this machine speak TLS too. Nothing is asked of the server yet.
    pub fn new(sender: Sender, place: Place, password: &str, roots: Option<&[u8]>) -> Result<Self, String> {
        let needs_tls = place.is_tls || roots.is_some() || !place.is_this_machine();
        let tls = match needs_tls {
            true => Some(parameters(&place.host, roots)?),
            false => None,
        };
        let credentials = place.user.clone().map(|user| Credentials::new(user, password.to_owned()));
        let hello = ClientId::Domain(sender.domain().to_owned());
        Ok(Self { sender, place, credentials, tls, hello })
    }

    async fn send_one(&self, letter: Letter) -> Result<(), MailError> {
        let message = self.sender.message(letter)?;
        let (from, to) = (message.envelope().from().cloned(), message.envelope().to().first().cloned());
        let to = to.ok_or_else(|| MailError::Refused("it has no address".into()))?;
        let slow = |_| MailError::Later("the server took too long".into());
        let ready = async {
            let mut connection = self.connect().await?;
            make_ready(&mut connection, (from, to)).await.map(|()| connection)
        };
        // A connection that is dropped is closed.
        let mut connection = tokio::time::timeout(READY_MAX, ready).await.map_err(slow)??;
        let message = message.formatted();
        let taken = tokio::time::timeout(TAKEN_MAX, connection.message(&message)).await.map_err(slow)?;
        taken.map_err(|error| later("the letter", &error))?;
        // What is taken stays so, however the farewell goes.
        let _ = tokio::time::timeout(QUIT_MAX, connection.quit()).await;
        Ok(())
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, MailError> {
        let Place { host, port, is_tls, .. } = &self.place;
        let at_once = self.tls.clone().filter(|_| *is_tls);
        let server = (host.as_str(), *port);
        let connected =
            AsyncSmtpConnection::connect_tokio1(server, Some(CONNECT_MAX), &self.hello, at_once, None).await;
        let mut connection = connected.map_err(|error| later("connect", &error))?;
        if let Some(tls) = self.tls.clone().filter(|_| !*is_tls) {
            if !connection.can_starttls() {
                connection.abort().await;
                let why = "the server has no STARTTLS: nothing is said to it in clear; is it smtps://?";
                return Err(MailError::Later(why.into()));
            }
            let secured = connection.starttls(tls, &self.hello).await;
            secured.map_err(|error| later("starttls", &error))?;
        }
        if let Some(credentials) = &self.credentials {
            let known = connection.auth(DEFAULT_MECHANISMS, credentials).await;
            known.map_err(|error| later("the user and the password", &error))?;
        }
        Ok(connection)
    }
}

/// Only what the server says to the address is said of this letter, if it is of the address; all
/// else would be said of any letter.
async fn make_ready(
    connection: &mut AsyncSmtpConnection,
    (from, to): (Option<Address>, Address),
) -> Result<(), MailError> {
    let is_ascii = |address: &Address| AsRef::<str>::as_ref(address).is_ascii();
    let is_international = !is_ascii(&to) || !from.as_ref().is_none_or(is_ascii);
    let mut parameters = Vec::new();
    if is_international {
        if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
            return Err(MailError::Refused("the server takes addresses of ASCII only".into()));
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    let taken = connection.command(MailFrom::new(from, parameters)).await;
    taken.map_err(|error| later("the sender (store.mail.from)", &error))?;
    let taken = connection.command(Rcpt::new(to, Vec::new())).await;
    taken.map_err(|error| of_address(&error))?;
    connection.command(Data).await.map_err(|error| later("the letter", &error)).map(drop)
}

fn parameters(host: &str, roots: Option<&[u8]>) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(pem) = roots {
        let roots = Certificate::from_pem(pem).map_err(|_| "want certificates in PEM".to_owned())?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(roots);
    }
    builder.build_rustls().map_err(|error| format!("TLS for {host}: {error}"))
}

/// The server's words are left out: they may have the address in them.
fn words(at: &str, error: &Error) -> String {
    match error.status() {
        Some(code) => format!("{at}: the server said {code}"),
        // An answer that cannot be read.
        None if error.is_response() => format!("{at}: the server's answer cannot be read"),
        None => format!("{at}: {error}"),
    }
}

fn later(at: &str, error: &Error) -> MailError {
    MailError::Later(words(at, error))
}

fn of_address(error: &Error) -> MailError {
    let code = error.status().map(u16::from);
    let said = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    match code.is_some_and(|code| is_of_address(code, &said)) {
        true => MailError::Refused(words("the address", error)),
        false => later("the address", error),
    }
}

/// Whether the server has refused this address for good: there is none such, or it takes no mail
/// (RFC 3463: 5.1 and 5.2). What it says of us, such as 530 or 5.7.1, may be mended within the day.
fn is_of_address(code: u16, said: &str) -> bool {
    let is_enhanced = |word: &str| {
        let parts: Vec<&str> = word.split('.').collect();
        parts.len() == 3
            && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let first = said.split_whitespace().next().filter(|word| is_enhanced(word));
    (550..=553).contains(&code)
        && first.is_none_or(|word| word.starts_with("5.1.") || word.starts_with("5.2."))
}

impl Mail for Smtp {
    fn send(&self, letter: Letter) -> Sent<'_> {
        Box::pin(self.send_one(letter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_and_a_password_does_not_stand_in_it() {
        let check = |url: &str, want: Option<(&str, u16, Option<&str>, bool)>| {
            let place = Place::parse(url);
            let place = place.as_ref().map(|p| (&*p.host, p.port, p.user.as_deref(), p.is_tls));
            assert_eq!(place, want, "{url}");
        };
        check("smtp://mail.example", Some(("mail.example", 587, None, false)));
        check("smtps://shop@mail.example", Some(("mail.example", 465, Some("shop"), true)));
        check("smtp://a@b.example@mail.example:25", Some(("mail.example", 25, Some("a@b.example"), false)));
        check("smtp://[::1]:1025", Some(("::1", 1025, None, false)));
        check("smtp://[::1]", Some(("::1", 587, None, false)));
        for wrong in [
            "",
            "mail.example",
            "http://mail.example",
            "smtp://",
            "smtp://shop:secret@mail.example",
            "smtp://mail.example:0",
            "smtp://mail.example:70000",
            "smtp://mail.example/path",
            "smtp://mail example",
            "smtp://mail.example\r\nX",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn only_a_refusal_of_the_address_itself_is_for_good() {
        for (code, said) in
            [(550, "5.1.1 no such user"), (552, "5.2.2 full"), (550, "no such user"), (553, "")]
        {
            assert!(is_of_address(code, said), "{code} {said}");
        }
        for (code, said) in [
            (550, "5.7.1 relaying denied"),
            (530, "5.7.0 log in first"),
            (535, "5.7.8 wrong password"),
            (554, "no"),
            (450, "4.2.1 later"),
            (550, "5.4.1 no route"),
        ] {
            assert!(!is_of_address(code, said), "{code} {said}");
        }
    }

    #[test]
    fn only_this_machine_is_spoken_to_in_clear() {
        let speaks_tls = |url: &str| {
            let sender = Sender::parse("mail@shop.example").unwrap();
            Smtp::new(sender, Place::parse(url).unwrap(), "", None).unwrap().tls.is_some()
        };
        assert!(!speaks_tls("smtp://127.0.0.1:25") && !speaks_tls("smtp://localhost:25"));
        assert!(!speaks_tls("smtp://[::1]:25"));
        assert!(speaks_tls("smtps://localhost") && speaks_tls("smtp://mail.example"));
        assert!(speaks_tls("smtp://localhost.example"));
    }
}
