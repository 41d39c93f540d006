//! Which servers, and how to sign in: read from a URL. Says nothing of secrets to anybody.

use std::{fmt, path::PathBuf};

const PORT: u16 = 4222;

/// The servers of a cluster, and how to sign in there.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    /// `host:port` of each.
    pub(super) servers: Vec<String>,
    pub(super) is_tls: bool,
    pub(super) sign_in: SignIn,
    /// A file with a user's JWT and seed, as `nsc` writes it.
    pub credentials_file: Option<PathBuf>,
    /// A file of certificates to trust, instead of the system's.
    pub root_certificates: Option<PathBuf>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum SignIn {
    No,
    Token(String),
    User { name: String, password: String },
}

/// Why a URL names no servers.
#[derive(Debug, PartialEq, Eq)]
pub struct PlaceError(&'static str);

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for PlaceError {}

impl Place {
    /// Reads `nats://HOST:PORT`, `nats://USER:PASSWORD@HOST`, `nats://TOKEN@HOST`, or `tls://…`.
    /// The servers of one cluster stand one after the other, with commas between them; the first
    /// says how to sign in to all.
    pub fn parse(url: &str) -> Result<Self, PlaceError> {
        let mut place = Self {
            servers: Vec::new(),
            is_tls: false,
            sign_in: SignIn::No,
            credentials_file: None,
            root_certificates: None,
        };
        for (nth, url) in url.split(',').map(str::trim).enumerate() {
            let (scheme, rest) = url.split_once("://").ok_or(PlaceError("want nats://HOST or tls://HOST"))?;
            let is_tls = match scheme {
                "nats" => false,
                "tls" => true,
                _ => return Err(PlaceError("want nats:// or tls://")),
            };
            if nth > 0 && is_tls != place.is_tls {
                return Err(PlaceError("the servers of one cluster are all nats:// or all tls://"));
            }
            place.is_tls = is_tls;
            let (user, host) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
            if let Some(user) = user {
                if nth > 0 {
                    return Err(PlaceError("the first server's user is that of all: leave out the others"));
                }
                place.sign_in = sign_in(user)?;
            }
            place.servers.push(server(host.trim_end_matches('/'))?);
        }
        Ok(place)
    }
}

fn sign_in(user: &str) -> Result<SignIn, PlaceError> {
    Ok(match user.split_once(':') {
        Some((name, password)) => SignIn::User { name: decoded(name)?, password: decoded(password)? },
        None => SignIn::Token(decoded(user)?),
    })
}

/// Text in which `%40` stands for `@`, as in every URL.
fn decoded(text: &str) -> Result<String, PlaceError> {
    const WRONG: PlaceError = PlaceError("a % in user, password or token is not followed by two hex digits");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2).ok_or(WRONG)?;
        let digits = std::str::from_utf8(digits).map_err(|_| WRONG)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| WRONG)?);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| WRONG)
}

fn server(host: &str) -> Result<String, PlaceError> {
    const WRONG: PlaceError = PlaceError("want the name or address of a host, and a port if it is not 4222");
    let (name, port) = match host.rsplit_once(':') {
        // Without brackets around it, an IPv6 address cannot be told from a port.
        Some((name, port)) if !port.ends_with(']') => (name, port.parse().map_err(|_| WRONG)?),
        _ => (host, PORT),
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte);
    let is_bare_v6 = name.contains(':') && !name.starts_with('[');
    if name.is_empty() || port == 0 || is_bare_v6 || !name.bytes().all(is_plain) {
        return Err(WRONG);
    }
    Ok(format!("{name}:{port}"))
}

/// As a URL without secrets.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "tls" } else { "nats" };
        for (nth, server) in self.servers.iter().enumerate() {
            let comma = if nth == 0 { "" } else { "," };
            write!(f, "{comma}{scheme}://{server}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_servers_and_how_to_sign_in() {
        let check = |url: &str, said: &str, sign_in: SignIn| {
            let place = Place::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(
                (place.to_string(), format!("{place:?}")),
                (said.to_owned(), format!("Place({said})"))
            );
            assert!(place.sign_in == sign_in, "{url}");
        };
        let user = |name: &str, password: &str| SignIn::User { name: name.into(), password: password.into() };
        check("nats://localhost", "nats://localhost:4222", SignIn::No);
        check("nats://10.0.0.7:4333/", "nats://10.0.0.7:4333", SignIn::No);
        check("nats://[::1]", "nats://[::1]:4222", SignIn::No);
        check("nats://[::1]:9", "nats://[::1]:9", SignIn::No);
        check("tls://u:p%40ss@a,tls://b:1", "tls://a:4222,tls://b:1", user("u", "p@ss"));
        check("nats://s3cret@a, nats://b", "nats://a:4222,nats://b:4222", SignIn::Token("s3cret".into()));
    }

    #[test]
    fn what_names_no_server_is_refused_and_never_repeated() {
        for url in [
            "",
            "localhost",
            "http://a",
            "nats://",
            "nats://a:0",
            "nats://a:x",
            "nats://a b",
            "nats://::1",
            "nats://a,tls://b",
            "nats://a,nats://u:p@b",
            "nats://s%4@a",
            "nats://s%zz@a",
            "nats://a,",
            "nats://a/stream",
        ] {
            let said = Place::parse(url).expect_err(url).to_string();
            assert!(!said.contains("s%4") && !said.contains("u:p"), "{said}");
        }
    }
}
