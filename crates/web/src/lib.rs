//! The HTTP server of every context: listeners in clear and over TLS, connection loops, HTTP/1.1
//! and HTTP/2, limits by address, a memory mark, drain, problem documents, API keys, tokens, CORS,
//! metrics, and the frame of pages.
//!
//! It knows no context. A context composes a [`Protection`](protection::Protection), declares its
//! problems with [`kinds!`], puts its handlers into a table of
//! [`Operation`](operation::Operation)s, and serves its hot routes inside the loops with
//! [`Hot`](wire::Hot).

pub mod api_keys;
pub mod body;
pub mod brand;
pub mod command_key;
pub mod config;
pub mod cors;
pub mod form;
pub mod health;
pub mod json;
pub mod jwt;
mod lang;
pub mod limits;
pub mod metrics;
pub mod multipart;
pub mod net;
pub mod openapi;
pub mod operation;
pub mod orders;
pub mod page;
pub mod parts;
pub mod precondition;
pub mod pressure;
pub mod problem;
pub mod protection;
pub mod query;
pub mod reason;
pub mod reference;
pub mod secret;
pub mod server;
pub mod sheet;
pub mod sign_in;
pub mod sse;
mod statics;
pub mod tenants;
pub mod trail;
pub mod warning;
pub mod wire;
pub mod words;
