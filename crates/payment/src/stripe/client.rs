//! Calls of Stripe's API: one at a time on each of a few threads, each within a time and a number
//! of bytes. It knows no payment.

use contracts::store::StoreError;
use serde::{Deserialize, de::DeserializeOwned};
use std::{fmt, str::FromStr, sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// The version of the API whose objects [`wire`](super::wire) reads.
const VERSION: &str = "2024-06-20";
/// One call, from the name's look-up to the answer's last byte.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Calls that are made at once, and how long one waits for its turn.
const AT_ONCE: usize = 48;
const TURN: Duration = Duration::from_secs(5);
const HEAD_BYTES_MAX: usize = 32 << 10;
/// A list of a hundred charges with all their fields.
const BODY_BYTES_MAX: u64 = 4 << 20;
/// Characters of Stripe's own words that are passed on.
const MESSAGE_MAX: usize = 200;

/// Where Stripe's API is: `https://api.stripe.com`, or, for tests, a port of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiUrl(String);

impl FromStr for ApiUrl {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let want = "want an origin with https, such as \"https://api.stripe.com\"";
        let is_host = |host: &str| {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:".contains(&byte))
        };
        let is_local = |host: &str| host.starts_with("127.0.0.1:");
        let host = text.strip_prefix("https://").filter(|host| is_host(host));
        let local = text.strip_prefix("http://").filter(|host| is_host(host) && is_local(host));
        if host.or(local).is_some() { Ok(Self(text.to_owned())) } else { Err(want) }
    }
}

/// A call.
#[derive(Debug)]
pub(super) struct Call {
    is_post: bool,
    path: &'static str,
    fields: Vec<(&'static str, String)>,
    /// What Stripe recognises a repeat by.
    once: Option<String>,
}

impl Call {
    pub(super) fn get(path: &'static str) -> Self {
        Self { is_post: false, path, fields: Vec::new(), once: None }
    }

    pub(super) fn post(path: &'static str) -> Self {
        Self { is_post: true, ..Self::get(path) }
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.fields.push((name, value.to_owned()));
        self
    }

    pub(super) fn once(self, key: String) -> Self {
        Self { once: Some(key), ..self }
    }
}

#[derive(Debug, Deserialize)]
struct Refused {
    error: Reason,
}

#[derive(Debug, Deserialize)]
struct Reason {
    #[serde(default)]
    message: String,
    code: Option<String>,
}

/// The API, with its key.
pub(super) struct Client {
    agent: ureq::Agent,
    api: ApiUrl,
    authorization: String,
    turns: Arc<Semaphore>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("api", &self.api).finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(api: ApiUrl, secret_key: String) -> Result<Self, String> {
        let is_key = secret_key.starts_with("sk_") || secret_key.starts_with("rk_");
        if !is_key || !secret_key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the API's key: want one that begins with sk_ or rk_".into());
        }
        let provider = Arc::new(ureq_provider());
        let tls = ureq::tls::TlsConfig::builder().unversioned_rustls_crypto_provider(provider).build();
        let agent = ureq::Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(TIMEOUT))
            .https_only(api.0.starts_with("https://"))
            .max_redirects(0)
            .http_status_as_error(false)
            .proxy(None)
            .max_response_header_size(HEAD_BYTES_MAX)
            .build()
            .into();
        let authorization = format!("Bearer {secret_key}");
        Ok(Self { agent, api, authorization, turns: Arc::new(Semaphore::new(AT_ONCE)) })
    }

    /// [`Unavailable`](StoreError::Unavailable) if it may succeed later, and
    /// [`Invalid`](StoreError::Invalid) if Stripe refuses it.
    pub(super) async fn ask<T: DeserializeOwned + Send + 'static>(
        &self,
        call: Call,
    ) -> Result<T, StoreError> {
        let busy = || StoreError::Unavailable("many payments are begun at the moment".into());
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| busy())?.map_err(|_| busy())?;
        let (agent, url) = (self.agent.clone(), format!("{}{}", self.api.0, call.path));
        let (authorization, call_path) = (self.authorization.clone(), call.path);
        let asked = tokio::task::spawn_blocking(move || {
            // Also if the caller has gone away.
            let _turn = turn;
            send(&agent, &url, &authorization, call)
        });
        let (status, body) = asked.await.map_err(|_| busy())??;
        if status == 200 {
            return serde_json::from_slice(&body).map_err(|error| {
                tracing::error!(%error, path = call_path, "payments: an answer of Stripe's cannot be read");
                StoreError::Unavailable("the payment provider's answer cannot be read".into())
            });
        }
        let reason = serde_json::from_slice::<Refused>(&body).ok().map(|refused| refused.error);
        let said = reason.map_or_else(String::new, |Reason { message, code }| {
            let message: String = message.chars().take(MESSAGE_MAX).collect();
            format!(": {} {message}", code.unwrap_or_default())
        });
        let why = format!("Stripe says {status}{said}");
        // Its words are for operators. 409: the same call is under way.
        match status {
            401 | 403 => {
                tracing::error!(why, "payments: Stripe does not take the API's key: see store.stripe")
            }
            _ => tracing::warn!(why, path = call_path, "payments: a call of Stripe's was refused"),
        }
        match status {
            400 | 402 | 404 => Err(StoreError::Invalid("the payment provider does not take this".into())),
            _ => Err(StoreError::Unavailable("the payment provider does not answer now".into())),
        }
    }
}

fn ureq_provider() -> tokio_rustls::rustls::crypto::CryptoProvider {
    tokio_rustls::rustls::crypto::aws_lc_rs::default_provider()
}

fn send(
    agent: &ureq::Agent,
    url: &str,
    authorization: &str,
    call: Call,
) -> Result<(u16, Vec<u8>), StoreError> {
    let away = |error: ureq::Error| {
        tracing::warn!(%error, "payments: Stripe cannot be reached");
        StoreError::Unavailable("the payment provider cannot be reached now".into())
    };
    let mut answer = if call.is_post {
        let request = agent.post(url).header("authorization", authorization);
        let mut request = request.header("stripe-version", VERSION);
        if let Some(key) = &call.once {
            request = request.header("idempotency-key", key);
        }
        request.send_form(call.fields)
    } else {
        let request = agent.get(url).header("authorization", authorization);
        let mut request = request.header("stripe-version", VERSION);
        for (name, value) in call.fields {
            request = request.query(name, value);
        }
        request.call()
    }
    .map_err(away)?;
    let status = answer.status().as_u16();
    let body = answer.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_vec().map_err(away)?;
    Ok((status, body))
}
