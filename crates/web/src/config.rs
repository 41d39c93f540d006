//! The sections of a configuration that concern HTTP. A context includes them in its own section;
//! names in errors are relative to that section.

use crate::net::Net;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// A section `tls`: a TLS listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    pub listen: String,
    pub certificate_file: String,
    pub key_file: String,
    pub handshake_timeout_seconds: u64,
    pub streams_max: u32,
}

/// A section `jwt`: the signer of tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JwtConfig {
    pub issuer: String,
    pub audience: String,
    pub typ: String,
    pub algorithms: Vec<JwtAlgorithm>,
    pub key_file: String,
    pub jwks_file: String,
    pub jwks_url: String,
}

/// An algorithm of RFC 7518 or RFC 8037, under its name there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JwtAlgorithm {
    HS256,
    ES256,
    RS256,
    EdDSA,
}

impl JwtAlgorithm {
    /// The algorithm that a token or a key names.
    pub fn of(name: &str) -> Option<Self> {
        [Self::HS256, Self::ES256, Self::RS256, Self::EdDSA].into_iter().find(|of| of.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::ES256 => "ES256",
            Self::RS256 => "RS256",
            Self::EdDSA => "EdDSA",
        }
    }
}

/// How many requests an address may send, and how many connections it may have. A rate of 0 is no
/// limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AddressLimits {
    pub address_per_second: u32,
    pub address_burst: u32,
    pub prefix_per_second: u32,
    pub prefix_burst: u32,
    pub address_connections_max: usize,
    pub prefix_connections_max: usize,
    pub exempt_addresses: Vec<Net>,
    pub trusted_proxies: Vec<Net>,
}

/// A section `connections`: the limits of connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionsConfig {
    pub threads: usize,
    pub open_max: usize,
    pub memory_mark_percent: u64,
    pub proxy_protocol: bool,
    pub events_max: usize,
    pub events_per_shopper_max: usize,
    pub events_per_address_max: usize,
    pub backlog: u32,
    pub header_bytes_max: usize,
    pub header_timeout_seconds: u64,
    pub body_timeout_seconds: u64,
    pub idle_timeout_seconds: u64,
    pub drain_seconds: u64,
}

impl TlsConfig {
    /// The listener's address, if there is one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listen.parse().ok()
    }

    /// A value of the right type that is not allowed: its name, and the allowed values.
    pub fn wrong(&self) -> Option<(&'static str, &'static str)> {
        if self.listen.is_empty() {
            return None;
        }
        if self.address().is_none() {
            return Some((
                "tls.listen",
                "want an address and a port, such as \"0.0.0.0:8443\", or \"\" for no TLS",
            ));
        }
        if self.certificate_file.is_empty() {
            return Some(("tls.certificate_file", "want the file of the certificate and its chain, in PEM"));
        }
        self.key_file.is_empty().then_some(("tls.key_file", "want the file of the certificate's key, in PEM"))
    }
}

impl JwtConfig {
    /// As [`TlsConfig::wrong`].
    pub fn wrong(&self) -> Option<(&'static str, &'static str)> {
        if self.algorithms.is_empty() {
            return Some(("jwt.algorithms", "want at least one of HS256, ES256, RS256 and EdDSA"));
        }
        if self.issuer.is_empty() {
            return Some(("jwt.issuer", "want the iss that the shop's tokens carry"));
        }
        if self.audience.is_empty() {
            return Some(("jwt.audience", "want the aud that the shop's tokens carry"));
        }
        if self.typ.is_empty() {
            return Some(("jwt.typ", "want \"JWT\", or the typ that the shop's tokens carry"));
        }
        let sources = [
            ("jwt.key_file", &self.key_file),
            ("jwt.jwks_file", &self.jwks_file),
            ("jwt.jwks_url", &self.jwks_url),
        ];
        let mut named = sources.iter().filter(|(_, source)| !source.is_empty());
        if let (Some(_), Some((second, _))) = (named.next(), named.next()) {
            return Some((second, "want one of key_file, jwks_file and jwks_url"));
        }
        let safe = |url: &str| {
            let url: Option<http::Uri> = url.parse().ok();
            let part = |url: http::Uri| Some((url.scheme_str()?.to_owned(), url.authority()?.clone()));
            url.and_then(part).is_some_and(|(scheme, at)| {
                let is_here = ["127.0.0.1", "localhost", "[::1]"].contains(&at.host());
                (scheme == "https" || scheme == "http" && is_here) && !at.as_str().contains('@')
            })
        };
        if !self.jwks_url.is_empty() && !safe(&self.jwks_url) {
            return Some(("jwt.jwks_url", "want https:// (http:// only to this machine)"));
        }
        None
    }
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            listen: String::new(),
            certificate_file: String::new(),
            key_file: String::new(),
            handshake_timeout_seconds: 10,
            streams_max: 32,
        }
    }
}

impl Default for JwtConfig {
    fn default() -> Self {
        Self {
            issuer: "shop".into(),
            audience: "floodgate".into(),
            typ: "JWT".into(),
            algorithms: vec![JwtAlgorithm::HS256],
            key_file: String::new(),
            jwks_file: String::new(),
            jwks_url: String::new(),
        }
    }
}

impl Default for AddressLimits {
    fn default() -> Self {
        Self {
            address_per_second: 100,
            address_burst: 400,
            prefix_per_second: 2000,
            prefix_burst: 8000,
            address_connections_max: 2000,
            prefix_connections_max: 10_000,
            exempt_addresses: Vec::new(),
            trusted_proxies: Vec::new(),
        }
    }
}

impl Default for ConnectionsConfig {
    fn default() -> Self {
        Self {
            threads: 0,
            open_max: 60_000,
            memory_mark_percent: 50,
            proxy_protocol: false,
            events_max: 4096,
            events_per_shopper_max: 4,
            events_per_address_max: 1024,
            backlog: 8192,
            header_bytes_max: 8192,
            header_timeout_seconds: 10,
            body_timeout_seconds: 10,
            idle_timeout_seconds: 300,
            drain_seconds: 10,
        }
    }
}

impl ConnectionsConfig {
    /// Threads of the shop's connections: as many as there are processors, unless configured.
    pub fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }
}
