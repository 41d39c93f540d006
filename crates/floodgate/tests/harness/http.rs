//! A small HTTP client. Every request uses a new connection, so nothing depends on a connection to
//! a dead server.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::LazyLock;
use std::time::Duration;
use ureq::http::{HeaderMap, Request};

const JSON: (&str, &str) = ("content-type", "application/json");

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Reply {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The problem's name, after a check of the rest of the document.
    #[track_caller]
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{self:?}");
        assert!(problem["detail"].as_str().unwrap().len() > 5, "{self:?}");
        problem["type"].as_str().unwrap().strip_prefix("/problems#").unwrap().to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
}

/// The answers that the description lists for each method and path.
struct Described(Vec<(Vec<String>, Methods)>);

/// By method.
type Methods = BTreeMap<String, BTreeSet<u16>>;

impl Described {
    fn new() -> Self {
        let of_store = include_str!("../../../../openapi/store.json");
        let documents = [gate::reference().openapi(), notify::reference::reference().openapi(), of_store];
        let statuses = |operation: &Value| {
            operation["responses"].as_object().unwrap().keys().map(|status| status.parse().unwrap()).collect()
        };
        let path = |(path, item): (&String, &Value)| {
            let methods = item.as_object().unwrap().iter().filter(|(method, _)| *method != "parameters");
            let methods = methods.map(|(method, operation)| (method.to_uppercase(), statuses(operation)));
            (path.split('/').map(str::to_owned).collect(), methods.collect())
        };
        let paths = documents.iter().flat_map(|document| {
            let document: Value = serde_json::from_str(document).unwrap();
            document["paths"].as_object().unwrap().iter().map(path).collect::<Vec<_>>()
        });
        Self(paths.collect())
    }

    /// Fails on an answer that the description does not list for the request.
    #[track_caller]
    fn check(&self, method: &str, url: &str, status: u16) {
        let path = url.split_once("://").unwrap().1.split_once('/').unwrap_or_default().1;
        let path: Vec<&str> = std::iter::once("").chain(path.split('?').next().unwrap().split('/')).collect();
        let fits = |template: &[String]| {
            let same = |(part, want): (&&str, &String)| *part == want || want.starts_with('{');
            template.len() == path.len() && path.iter().zip(template).all(same)
        };
        let Some((_, methods)) = self.0.iter().find(|(template, _)| fits(template)) else { return };
        // For other methods the description says that they get 405 on all paths.
        let listed = methods.get(method).map_or(status == 405, |statuses| statuses.contains(&status));
        assert!(listed, "openapi.json does not list {status} for {method} {url}");
    }
}

static DESCRIBED: LazyLock<Described> = LazyLock::new(Described::new);

#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
    /// Every status must be one that the description lists.
    only_described: bool,
}

impl Default for Client {
    fn default() -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(0)
            .timeout_global(Some(Duration::from_secs(60)));
        Self { agent: config.build().into(), only_described: true }
    }
}

impl Client {
    /// For requests to one listener for the other's paths, which the description does not
    /// distinguish.
    pub fn undescribed() -> Self {
        Self { only_described: false, ..Self::default() }
    }

    #[track_caller]
    fn ask(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = match method {
            "GET" | "DELETE" => self.agent.run(request.body(()).unwrap()),
            _ => self.agent.run(request.body(body).unwrap()),
        }?;
        if self.only_described {
            DESCRIBED.check(method, url, response.status().as_u16());
        }
        Ok(response)
    }

    /// Returns an error if no complete answer came: the server may have been killed meanwhile.
    #[track_caller]
    pub fn try_send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Reply, ureq::Error> {
        self.try_send_bytes(method, url, headers, body.as_bytes())
    }

    /// The same, of a body that is no text.
    #[track_caller]
    pub fn try_send_bytes(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply, ureq::Error> {
        let mut response = self.ask(method, url, headers, body)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.body_mut().with_config().limit(1 << 30).read_to_string()?;
        Ok(Reply { status, headers, body })
    }

    #[track_caller]
    pub fn send(&self, method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        self.try_send(method, url, headers, body).unwrap_or_else(|e| panic!("{method} {url}: {e}"))
    }

    #[track_caller]
    pub fn get(&self, url: &str) -> Reply {
        self.send("GET", url, &[], "")
    }

    /// An operator's request in JSON.
    #[track_caller]
    pub fn admin(&self, method: &str, url: &str, key: &str, body: &str) -> Reply {
        self.send(method, url, &[JSON, ("authorization", &format!("Bearer {key}"))], body)
    }

    /// An answer that is read as it comes; or the whole one, if it is a refusal.
    #[track_caller]
    pub fn try_open(&self, url: &str, headers: &[(&str, &str)]) -> Result<impl Read + use<>, Box<Reply>> {
        let mut response = self.ask("GET", url, headers, b"").unwrap();
        if response.status() == 200 {
            return Ok(response.into_body().into_reader());
        }
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.body_mut().read_to_string().unwrap();
        Err(Box::new(Reply { status, headers, body }))
    }

    /// An answer that is read as it comes.
    #[track_caller]
    pub fn open(&self, url: &str, headers: &[(&str, &str)]) -> impl Read + use<> {
        self.try_open(url, headers).unwrap_or_else(|refused| panic!("{url}: {refused:?}"))
    }

    /// An answer that is read line by line as it comes.
    #[track_caller]
    pub fn lines(&self, url: &str, headers: &[(&str, &str)]) -> impl Iterator<Item = String> + use<> {
        let response = self.ask("GET", url, headers, b"").unwrap();
        assert_eq!(response.status(), 200, "{url}");
        BufReader::new(response.into_body().into_reader()).lines().map_while(Result::ok)
    }
}

/// A raw connection, for requests that no well-behaved client sends.
#[derive(Debug)]
pub struct Raw(pub TcpStream);

impl Raw {
    pub fn connect(to: &str) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
        Self(stream)
    }

    /// A request's head, with the length of the body that will follow.
    pub fn head(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body_len: usize) {
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {body_len}\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        self.0.write_all(text.as_bytes()).unwrap();
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// All that comes until the server closes.
    pub fn read_to_end(&mut self) -> String {
        let mut text = String::new();
        self.0.read_to_string(&mut text).unwrap();
        text
    }
}
