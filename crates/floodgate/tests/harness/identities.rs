//! A real provider of identities on this machine: the server of examples of zitadel/oidc, whose
//! library is certified by the OpenID Foundation. It has a page with a form for its users, and new
//! keys at each start.

use super::{
    http::{Client, Reply},
    poll,
};
use serde_json::{Value, json};
use std::{
    fs,
    net::TcpListener,
    process::{Child, Command, Stdio},
};

/// The origin of the shop that it knows.
pub const SHOP: &str = "http://shop.example";
/// The password of all its users.
const PASSWORD: &str = "a password there";

/// It is killed when the test ends, however it ends.
#[derive(Debug)]
pub struct Identities {
    dir: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
    client: Client,
}

impl Identities {
    /// With these users: the name, the address of mail, and whether the provider has checked that.
    pub fn start(users: &[(&str, &str, bool)]) -> Self {
        let dir = tempfile::Builder::new().prefix("floodgate-identities-").tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let user = |(name, email, is_checked): &(&str, &str, bool)| {
            let user = json!({
                "ID": format!("id-of-{name}"), "Username": name, "Password": PASSWORD, "FirstName": name,
                "LastName": "Lee", "Email": email, "EmailVerified": is_checked, "PreferredLanguage": "en",
            });
            (format!("id-of-{name}"), user)
        };
        let users: serde_json::Map<String, Value> = users.iter().map(user).collect();
        fs::write(dir.path().join("users.json"), Value::from(users).to_string()).unwrap();
        fs::write(dir.path().join("secret"), "secret\n").unwrap();
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(dir.path().join("secret"), owner_only).unwrap();
        let mut identities = Self { dir, port, child: None, client: Client::undescribed() };
        identities.restart();
        identities
    }

    /// With other keys than before.
    pub fn restart(&mut self) {
        self.kill();
        let child = Command::new("server")
            .env("PORT", self.port.to_string())
            .env("REDIRECT_URI", format!("{SHOP}/account/provider/callback"))
            .env("USERS_FILE", self.dir.path().join("users.json"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("zitadel's server of examples: cargo xtask test installs it");
        self.child = Some(child);
        let place = format!("{}.well-known/openid-configuration", self.issuer());
        poll("the provider of identities", || self.client.try_send("GET", &place, &[], "").ok());
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn issuer(&self) -> String {
        format!("http://localhost:{}/", self.port)
    }

    /// The section `[store.oidc]` for it.
    pub fn settings(&self) -> String {
        settings(&self.issuer(), &self.dir.path().join("secret").display().to_string())
    }

    /// Logs a user in on the page at this URL; returns the query with which the browser comes back.
    #[track_caller]
    pub fn log_in(&self, url: &str, user: &str) -> String {
        let place = |of: &str| match of.starts_with('/') {
            true => format!("{}{}", self.issuer().trim_end_matches('/'), of),
            false => of.to_owned(),
        };
        let location = |reply: Reply| {
            assert_eq!(reply.status, 302, "{reply:?}");
            reply.header("location").to_owned()
        };
        let form = location(self.client.get(url));
        let (_, id) = form.split_once("authRequestID=").expect("the page of its form");
        let fields = [("content-type", "application/x-www-form-urlencoded")];
        let body = format!("id={id}&username={user}&password={}", PASSWORD.replace(' ', "+"));
        let sent = self.client.send("POST", &place("/login/username"), &fields, &body);
        let back = location(self.client.get(&place(&location(sent))));
        back.strip_prefix(&format!("{SHOP}/account/provider/callback?")).expect("it leads back").to_owned()
    }
}

impl Drop for Identities {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The section `[store.oidc]` for a provider.
pub fn settings(issuer: &str, secret_file: &str) -> String {
    format!(
        "[store.oidc]\nissuer = \"{issuer}\"\nclient_id = \"web\"\nclient_secret_file = \"{secret_file}\"\n\
         name = \"Example ID\"\nname_zh = \"示例\"\n"
    )
}
