//! A real server of mail on this machine, mailpit, and the ways to end it. What it took is read
//! over its HTTP interface.

use super::{http::Client, poll};
use serde_json::Value;
use std::{
    fs::{self, File},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

pub const USER: &str = "shop";
pub const PASSWORD: &str = "a-password-of-40-characters-with_signs.!";

/// It is killed when the test ends, however it ends.
#[derive(Debug)]
pub struct Mailpit {
    dir: tempfile::TempDir,
    smtp: u16,
    http: u16,
    args: Vec<String>,
    child: Option<Child>,
    client: Client,
}

impl Mailpit {
    /// Where it will be; it takes mail after [`Self::restart`]. It has a certificate for loopback,
    /// and lets in [`USER`] only.
    pub fn prepare(args: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("floodgate-mailpit-").tempdir().unwrap();
        let free = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (smtp, http) = (free(), free());
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let (smtp, http) = (port(&smtp), port(&http));
        let key = rcgen::KeyPair::generate().unwrap();
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        fs::write(dir.path().join("certificate.pem"), certificate.pem()).unwrap();
        fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
        fs::write(dir.path().join("users"), format!("{USER}:{PASSWORD}\n")).unwrap();
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Self { dir, smtp, http, args, child: None, client: Client::undescribed() }
    }

    pub fn restart(&mut self) {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let errors = File::options().create(true).append(true).open(self.dir.path().join("errors")).unwrap();
        let child = Command::new("mailpit")
            .args(["--disable-version-check", "--smtp-disable-rdns", "--database", &path("mail.db")])
            .args(["--smtp", &format!("127.0.0.1:{}", self.smtp)])
            .args(["--listen", &format!("127.0.0.1:{}", self.http)])
            .args(["--smtp-tls-cert", &path("certificate.pem"), "--smtp-tls-key", &path("key.pem")])
            .args(["--smtp-auth-file", &path("users")])
            .args(&self.args)
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap();
        self.child = Some(child);
        poll("mailpit", || self.client.try_send("GET", &self.url("/readyz"), &[], "").ok());
    }

    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The section `[store.mail]` for it, with this scheme and this password.
    pub fn settings(&self, scheme: &str, password: &str) -> String {
        let file = self.password_file(password);
        let (port, roots) = (self.smtp, self.dir.path().join("certificate.pem"));
        format!(
            "public_url = \"http://shop.example\"\n[store.mail]\nfrom = \"Shop 店 <mail@shop.example>\"\nsmtp = \"{scheme}://{USER}@127.0.0.1:{port}\"\n\
             password_file = \"{}\"\nroots_file = \"{}\"\n",
            file.display(),
            roots.display()
        )
    }

    fn password_file(&self, password: &str) -> PathBuf {
        let file = self.dir.path().join("password");
        fs::write(&file, format!("{password}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        file
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http)
    }

    /// What it has taken, the newest first.
    pub fn letters(&self) -> Vec<Value> {
        let list = self.client.get(&self.url("/api/v1/messages")).json();
        let ids = list["messages"].as_array().unwrap().iter().map(|message| message["ID"].as_str().unwrap());
        ids.map(|id| self.client.get(&self.url(&format!("/api/v1/message/{id}"))).json()).collect()
    }
}

impl Drop for Mailpit {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
