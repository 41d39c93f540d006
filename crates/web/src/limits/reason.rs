//! Why a client was refused before its request was handled.

/// The most reasons of one server: the bytes of a row in [`super::Refusals`].
pub const REASONS_MAX: usize = 16;

/// Why a request or a connection was refused. The first are [`Reason::OWN`]; a context adds its own
/// after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// Its index among all reasons of the server, below [`REASONS_MAX`].
    pub at: u8,
    /// Its name in metrics and in the API.
    pub label: &'static str,
    /// What happened, and what an operator can do about it.
    pub advice: &'static str,
}

impl Reason {
    pub const DENIED: Self = Self {
        at: 0,
        label: "denied",
        advice: "the address is in a network that an operator has denied; GET /api/v1/admin/denied-networks says who and \
                 why, DELETE lets it in again",
    };
    pub const CONNECTIONS: Self = Self {
        at: 1,
        label: "connections",
        advice: "more connections than limits.address_connections_max, or its network than \
                 prefix_connections_max; many people with one address: raise it, or name the address in \
                 exempt_addresses; a balancer: name it in trusted_proxies",
    };
    pub const ADDRESS_RATE: Self = Self {
        at: 2,
        label: "address_rate",
        advice: "more requests than limits.address_per_second; many people with one address: raise it, or name \
                 the address in exempt_addresses; a balancer: name it in trusted_proxies",
    };
    pub const PREFIX_RATE: Self = Self {
        at: 3,
        label: "prefix_rate",
        advice: "the network (a /24, or a /48 of IPv6), with all who share it, sent more requests than \
                 limits.prefix_per_second; many people in it: raise it, or name the network in exempt_addresses",
    };
    /// The reasons of every server.
    pub const OWN: [Self; 4] = [Self::DENIED, Self::CONNECTIONS, Self::ADDRESS_RATE, Self::PREFIX_RATE];
}
