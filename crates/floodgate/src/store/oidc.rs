//! The section `[store.oidc]`: the provider of identities at which shoppers may log in.

use account::{
    provider::{Provider, Settings},
    service::Service,
};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, sync::Arc};

/// Where the provider sends browsers back to, after the shop's origin.
const BACK: &str = shop::PROVIDER_CALLBACK;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    issuer: String,
    client_id: String,
    client_secret_file: PathBuf,
    name: String,
    name_zh: String,
}

impl Config {
    /// Why the section cannot be used, with the key.
    pub(crate) fn wrong(&self, public_url: &str) -> Option<(&'static str, String)> {
        let say = |key, want: &str| Some((key, want.to_owned()));
        if self.issuer.is_empty() {
            return None;
        }
        if !Settings::is_issuer(&self.issuer) {
            let want = "want the provider's URL with https, such as \"https://id.example\", letter for letter as it says it itself";
            return say("oidc.issuer", want);
        }
        if public_url.is_empty() {
            return say("public_url", "the provider sends browsers back to it: want the shop's origin");
        }
        let is_id = (1..=255).contains(&self.client_id.len())
            && self.client_id.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_id {
            return say("oidc.client_id", "want the id under which the provider knows the shop");
        }
        if self.client_secret_file.as_os_str().is_empty() {
            return say(
                "oidc.client_secret_file",
                "want a file with the secret that the provider has given the shop",
            );
        }
        for (key, name) in [("oidc.name", &self.name), ("oidc.name_zh", &self.name_zh)] {
            if !(1..=40).contains(&name.chars().count()) || name.chars().any(char::is_control) {
                return say(key, "want what shoppers call the provider, in 1 to 40 characters");
            }
        }
        None
    }

    /// Whether there is a provider.
    pub(crate) fn is_set(&self) -> bool {
        !self.issuer.is_empty()
    }

    /// What shoppers call the provider, in both languages.
    pub(crate) fn names(&self) -> [String; 2] {
        [self.name.clone(), self.name_zh.clone()]
    }

    /// The provider, if there is one. It reads the file. `origin` is the shop's.
    pub(crate) fn open(
        &self,
        origin: &str,
        accounts: &Arc<Service>,
    ) -> Result<Option<Arc<Provider>>, String> {
        if self.issuer.is_empty() {
            return Ok(None);
        }
        let wrong = |why: String| format!("store.oidc.client_secret_file: {why}");
        let secret =
            web::secret::read_secret(&self.client_secret_file).map_err(|error| wrong(error.to_string()))?;
        let secret = String::from_utf8(secret).map_err(|_| wrong("it is no text".into()))?;
        let settings = Settings {
            issuer: self.issuer.clone(),
            client_id: self.client_id.clone(),
            client_secret: secret.trim().to_owned(),
            redirect: format!("{origin}{BACK}"),
        };
        Provider::new(Arc::clone(accounts), settings).map(Some).map_err(|why| format!("store.oidc: {why}"))
    }
}
