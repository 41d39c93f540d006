//! What is asked of a provider of identities over HTTP: its description with its keys, a token for
//! a code, and what it knows of a shopper. Each call has its time and its bytes, follows no
//! redirect, and runs on a thread for what blocks. It knows no account.

use super::{Settings, ticket::Ticket};
use contracts::store::Language;
use openidconnect::{
    AccessToken, AuthType, AuthenticationFlow, AuthorizationCode, ClaimsVerificationError, ClientId,
    ClientSecret, CsrfToken, EmptyAdditionalClaims, EndpointMaybeSet, EndpointNotSet, EndpointSet,
    HttpRequest, HttpResponse, IssuerUrl, LanguageTag, Nonce, OAuth2TokenResponse, PkceCodeChallenge,
    PkceCodeVerifier, ProviderMetadata, RedirectUrl, Scope, StandardClaims, SubjectIdentifier, TokenResponse,
    UserInfoClaims,
    core::{
        CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClient, CoreClientAuthMethod, CoreGenderClaim,
        CoreGrantType, CoreIdToken, CoreIdTokenClaims, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm,
        CoreJweKeyManagementAlgorithm, CoreJwsSigningAlgorithm, CoreResponseMode, CoreResponseType,
        CoreSubjectIdentifierType,
    },
    url::Url,
};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use units::TimeMs;

/// One call, from the name's look-up to the answer's last byte.
const TIMEOUT: Duration = Duration::from_secs(8);
const HEAD_BYTES_MAX: usize = 32 << 10;
/// Descriptions and sets of keys have some ten thousand.
const BODY_BYTES_MAX: u64 = 256 << 10;
/// How long a description and its keys are used.
const FRESH_FOR: Duration = Duration::from_secs(3600);
/// The shortest time between two tries to read them, and between two tries because a token is
/// signed with a key that is not known.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
const KEYS_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// A token that was made longer ago than this is no answer to a log-in of now.
const TOKEN_AGE_MAX_SECONDS: i64 = 15 * 60;
const LEEWAY_SECONDS: i64 = 30;
/// Characters of a provider's own words in the log.
const WORDS_MAX: usize = 200;
/// Keys that a provider shares with its clients are none: all of its clients could sign with them.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// Why nothing is known of a shopper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failed {
    /// The provider does not answer, or not in time.
    Away(String),
    /// It answers, and its answer is not to be believed or used.
    Refused(String),
}

/// Whom the provider has logged in.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) subject: String,
    /// The address of mail, if the provider says that it has checked it.
    pub(super) email: Option<String>,
    pub(super) name: Option<String>,
}

/// What a provider says beside what OpenID Connect Discovery lists: RFC 9207, section 3.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Additional {
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl openidconnect::AdditionalProviderMetadata for Additional {}

type Description = ProviderMetadata<
    Additional,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

type Client = CoreClient<
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// A description of the provider, and the client that was made of it.
struct Known {
    client: Client,
    /// The provider says its name when it sends a browser back.
    says_issuer: bool,
    read_at: Instant,
}

#[derive(Default)]
struct State {
    known: Option<Arc<Known>>,
    tried_at: Option<Instant>,
    tried_for_keys_at: Option<Instant>,
}

/// The provider.
pub(super) struct Remote {
    settings: Settings,
    issuer: IssuerUrl,
    redirect: RedirectUrl,
    agent: ureq::Agent,
    state: Mutex<State>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Why a call has no answer.
#[derive(Debug)]
struct NoAnswer(String);

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoAnswer {}

fn short(words: impl fmt::Display) -> String {
    words.to_string().chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect()
}

/// The error with what has caused it.
fn whole(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(of) = cause {
        words = format!("{words}: {of}");
        cause = of.source();
    }
    short(words)
}

impl Remote {
    pub(super) fn new(settings: Settings) -> Result<Self, String> {
        let issuer = IssuerUrl::new(settings.issuer.clone()).map_err(|error| error.to_string())?;
        let redirect = RedirectUrl::new(settings.redirect.clone()).map_err(|error| error.to_string())?;
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let tls = ureq::tls::TlsConfig::builder().unversioned_rustls_crypto_provider(provider).build();
        let agent = ureq::Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(TIMEOUT))
            .https_only(settings.issuer.starts_with("https://"))
            .max_redirects(0)
            .http_status_as_error(false)
            .proxy(None)
            .max_response_header_size(HEAD_BYTES_MAX)
            .build()
            .into();
        Ok(Self { settings, issuer, redirect, agent, state: Mutex::default() })
    }

    pub(super) fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    fn call(&self, request: HttpRequest) -> Result<HttpResponse, NoAnswer> {
        let no = |why: &dyn fmt::Display| NoAnswer(short(why));
        let (head, body) = request.into_parts();
        let sent = match body.is_empty() {
            true => self.agent.run(http::Request::from_parts(head, ())),
            false => self.agent.run(http::Request::from_parts(head, body)),
        };
        let (head, mut body) = sent.map_err(|error| no(&error))?.into_parts();
        if head.status.is_server_error() || head.status.is_redirection() {
            return Err(NoAnswer(format!("status {}", head.status.as_u16())));
        }
        let body = body.with_config().limit(BODY_BYTES_MAX).read_to_vec().map_err(|error| no(&error))?;
        Ok(http::Response::from_parts(head, body))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Result<Arc<Known>, Failed> {
        let read = Description::discover(&self.issuer, &|request| self.call(request));
        let description = read.map_err(|error| Failed::Away(whole(&error)))?;
        let methods = description.token_endpoint_auth_methods_supported();
        // RFC 8414, section 2: without a list it is the first one.
        let takes = |method| methods.is_none_or(|methods| methods.contains(&method));
        let auth = match takes(CoreClientAuthMethod::ClientSecretBasic) {
            true => AuthType::BasicAuth,
            false => AuthType::RequestBody,
        };
        let says_issuer = description.additional_metadata().authorization_response_iss_parameter_supported;
        let (id, secret) = (self.settings.client_id.clone(), self.settings.client_secret.clone());
        let client = CoreClient::from_provider_metadata(
            description,
            ClientId::new(id),
            Some(ClientSecret::new(secret)),
        );
        let client = client.set_redirect_uri(self.redirect.clone()).set_auth_type(auth);
        Ok(Arc::new(Known { client, says_issuer, read_at: Instant::now() }))
    }

    /// The description. An old one is used as long as there is no newer one to be had. Who asks
    /// while it is read waits.
    fn known(&self) -> Result<Arc<Known>, Failed> {
        let mut state = self.state();
        if let Some(known) = state.known.as_ref().filter(|known| known.read_at.elapsed() < FRESH_FOR) {
            return Ok(Arc::clone(known));
        }
        let away = || Failed::Away("its description was asked for a moment ago".into());
        if state.tried_at.is_some_and(|at| at.elapsed() < AGAIN_AFTER) {
            return state.known.clone().ok_or_else(away);
        }
        let read = self.read();
        // From its end: a try may take longer than the pause.
        state.tried_at = Some(Instant::now());
        match read {
            Ok(known) => Ok(Arc::clone(state.known.insert(known))),
            Err(failed) => state.known.clone().ok_or(failed),
        }
    }

    /// A description with newer keys than this one; `None` if they were asked for a moment ago.
    fn newer(&self, than: &Arc<Known>) -> Result<Option<Arc<Known>>, Failed> {
        let mut state = self.state();
        if let Some(known) = state.known.as_ref().filter(|known| !Arc::ptr_eq(known, than)) {
            return Ok(Some(Arc::clone(known)));
        }
        if state.tried_for_keys_at.is_some_and(|at| at.elapsed() < KEYS_AGAIN_AFTER) {
            return Ok(None);
        }
        let read = self.read();
        state.tried_for_keys_at = Some(Instant::now());
        let known = read?;
        state.known = Some(Arc::clone(&known));
        Ok(Some(known))
    }

    /// Where a browser goes to log in.
    pub(super) fn url(&self, ticket: &Ticket, language: Language) -> Result<String, Failed> {
        let known = self.known()?;
        let (state, nonce) = (ticket.state(), ticket.nonce());
        let challenge =
            PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(ticket.verifier()));
        let locale = match language {
            Language::En => "en",
            Language::Zh => "zh-Hans",
        };
        let flow = AuthenticationFlow::<CoreResponseType>::AuthorizationCode;
        let request = known.client.authorize_url(flow, || CsrfToken::new(state), || Nonce::new(nonce));
        let scopes = ["email", "profile"].map(|scope| Scope::new(scope.to_owned()));
        let request = request.add_scopes(scopes).set_pkce_challenge(challenge);
        let (url, ..) = request.add_ui_locale(LanguageTag::new(locale.to_owned())).url();
        self.may_ask(&url)?;
        Ok(url.into())
    }

    /// Nothing secret goes in clear, but to this machine.
    fn may_ask(&self, url: &Url) -> Result<(), Failed> {
        let is_local = self.settings.is_local() && url.scheme() == "http";
        match url.scheme() == "https" || is_local {
            true => Ok(()),
            false => Err(Failed::Refused("its description names a place without TLS".into())),
        }
    }

    /// Whom the provider has logged in, by the code that the browser has brought and by what the
    /// provider has said its name to be.
    pub(super) fn who(
        &self,
        ticket: &Ticket,
        (code, issuer): (String, Option<&str>),
        now: TimeMs,
    ) -> Result<Who, Failed> {
        let known = self.known()?;
        // RFC 9207, section 2.4: an answer of another provider.
        let is_ours = match issuer {
            Some(issuer) => issuer == self.settings.issuer,
            None => !known.says_issuer,
        };
        if !is_ours {
            return Err(Failed::Refused("the browser comes from another provider".into()));
        }
        let refused = |why: &dyn fmt::Display| Failed::Refused(short(why));
        let exchange = known.client.exchange_code(AuthorizationCode::new(code));
        let exchange = exchange.map_err(|error| refused(&error))?;
        let answer = exchange
            .set_pkce_verifier(PkceCodeVerifier::new(ticket.verifier()))
            .request(&|request| self.call(request))
            .map_err(|error| match error {
                openidconnect::RequestTokenError::Request(error) => Failed::Away(whole(&error)),
                other => refused(&whole(&other)),
            })?;
        let token = answer.id_token().ok_or_else(|| Failed::Refused("there is no ID token".into()))?;
        let nonce = Nonce::new(ticket.nonce());
        let claims = match self.check(&known, token, &nonce, now) {
            Err(ClaimsVerificationError::SignatureVerification(error)) => match self.newer(&known)? {
                Some(newer) => {
                    self.check(&newer, token, &nonce, now).map_err(|error| refused(&whole(&error)))?
                }
                None => return Err(refused(&whole(&error))),
            },
            checked => checked.map_err(|error| refused(&whole(&error)))?,
        };
        let subject = claims.subject().clone();
        let mut who = who(&subject, claims.email(), claims.email_verified(), claims.name())?;
        if who.email.is_none() && claims.email().is_none() {
            // OpenID Connect Core, section 5.4: claims of scopes may be there only.
            self.complete(&known, &mut who, answer.access_token(), subject)?;
        }
        Ok(who)
    }

    fn check<'t>(
        &self,
        known: &Known,
        token: &'t CoreIdToken,
        nonce: &Nonce,
        now: TimeMs,
    ) -> Result<&'t CoreIdTokenClaims, ClaimsVerificationError> {
        let seconds = (now.0 / 1000) as i64;
        let at = move || chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default();
        let verifier = known
            .client
            .id_token_verifier()
            .set_allowed_algs(ALGORITHMS)
            .set_time_fn(at)
            .set_issue_time_verifier_fn(move |made| {
                let age = seconds - made.timestamp();
                match (-LEEWAY_SECONDS..=TOKEN_AGE_MAX_SECONDS).contains(&age) {
                    true => Ok(()),
                    false => Err("it was made at another time".to_owned()),
                }
            });
        let claims = token.claims(&verifier, nonce)?;
        // Core, section 3.1.3.7, item 5.
        match claims.authorized_party() {
            Some(party) if **party != self.settings.client_id => {
                Err(ClaimsVerificationError::InvalidAudience("azp: it is for another client".into()))
            }
            _ => Ok(claims),
        }
    }

    fn complete(
        &self,
        known: &Known,
        who: &mut Who,
        token: &AccessToken,
        subject: SubjectIdentifier,
    ) -> Result<(), Failed> {
        let Some(place) = known.client.user_info_url() else { return Ok(()) };
        self.may_ask(place.url())?;
        // The library would panic on others.
        if !token.secret().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failed::Refused("its access token has other than visible characters".into()));
        }
        let asked = known.client.user_info(token.clone(), Some(subject));
        let asked = asked.map_err(|error| Failed::Refused(whole(&error)))?;
        let claims: Result<UserInfoClaims<EmptyAdditionalClaims, CoreGenderClaim>, _> =
            asked.request(&|request| self.call(request));
        let claims = claims.map_err(|error| match error {
            openidconnect::UserInfoError::Request(error) => Failed::Away(whole(&error)),
            other => Failed::Refused(whole(&other)),
        })?;
        let claims: &StandardClaims<CoreGenderClaim> = claims.standard_claims();
        let more = self::who(claims.subject(), claims.email(), claims.email_verified(), claims.name())?;
        who.email = more.email;
        who.name = more.name.or(who.name.take());
        Ok(())
    }
}

/// What of the claims is used.
fn who(
    subject: &SubjectIdentifier,
    email: Option<&openidconnect::EndUserEmail>,
    is_checked: Option<bool>,
    name: Option<&openidconnect::LocalizedClaim<openidconnect::EndUserName>>,
) -> Result<Who, Failed> {
    // Core, section 2: at most 255 characters of ASCII.
    let subject: &str = subject;
    if !(1..=255).contains(&subject.len()) || !subject.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failed::Refused("sub: want 1 to 255 visible characters of ASCII".into()));
    }
    let email = email.filter(|_| is_checked == Some(true)).map(|email| email.to_string());
    let name = name.and_then(|name| name.get(None).or_else(|| name.iter().next().map(|(_, name)| name)));
    Ok(Who { subject: subject.to_owned(), email, name: name.map(|name| name.to_string()) })
}
