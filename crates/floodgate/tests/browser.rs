//! The demo as visitors meet it: in headless Chromium, with and without JavaScript, in both languages, once by keyboard alone.

mod harness;

use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use harness::{PATIENCE, Server, Setup};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const ADVICE: &str =
    "the browser tests need chromium and chromedriver: run `cargo xtask test`, which installs them";

/// What a visitor is and reads.
#[derive(Debug, Clone, Copy)]
struct Visitor {
    lang: &'static str,
    script: bool,
    keyboard: bool,
    held: &'static str,
    paid: &'static str,
    limit: &'static str,
}

const ENGLISH: Visitor = Visitor {
    lang: "en",
    script: true,
    keyboard: false,
    held: "It is yours to pay",
    paid: "Paid: it is yours",
    limit: "Your limit is reached",
};

const CHINESE: Visitor = Visitor {
    lang: "zh",
    held: "抢购成功，请付款",
    paid: "已付款，商品归您",
    limit: "已达到限购数量",
    ..ENGLISH
};

#[test]
fn english_by_keyboard_alone() {
    visit(Visitor { keyboard: true, ..ENGLISH });
}

#[test]
fn english_without_script() {
    visit(Visitor { script: false, ..ENGLISH });
}

#[test]
fn chinese_with_script() {
    visit(CHINESE);
}

#[test]
fn chinese_without_script() {
    visit(Visitor { script: false, ..CHINESE });
}

struct Driver {
    child: Child,
    url: String,
    /// Kept open, as it goes on printing.
    _stdout: BufReader<ChildStdout>,
}

impl Driver {
    fn start() -> Self {
        let mut child = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("start chromedriver: {e}: {ADVICE}"));
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let port = loop {
            line.clear();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "chromedriver ended: {ADVICE}");
            if let Some((_, port)) = line.trim().rsplit_once("started successfully on port ") {
                break port.trim_end_matches('.').to_owned();
            }
        };
        Self { child, url: format!("http://127.0.0.1:{port}"), _stdout: stdout }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn open_browser(driver: &Driver, profile: &std::path::Path, script: bool) -> Client {
    let args = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        &format!("--user-data-dir={}", profile.display()),
    ];
    let mut options = json!({ "args": args });
    if !script {
        options["prefs"] = json!({ "profile.managed_default_content_settings.javascript": 2 });
    }
    let capabilities = json!({ "goog:chromeOptions": options });
    let capabilities = capabilities.as_object().unwrap().clone();
    let mut builder = ClientBuilder::new(HttpConnector::new());
    builder
        .capabilities(capabilities)
        .connect(&driver.url)
        .await
        .unwrap_or_else(|e| panic!("start chromium: {e}: {ADVICE}"))
}

/// A browser, a server, a visit; the browser is closed whatever happened.
fn visit(visitor: Visitor) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let profile = tempfile::Builder::new().prefix("floodgate-browser-").tempdir().unwrap();
    let driver = Driver::start();
    let visited = runtime.block_on(async {
        let client = open_browser(&driver, profile.path(), visitor.script).await;
        let serve = ["--demo", "--demo-opens-in", "2"].map(str::to_owned).to_vec();
        let server = Server::with(Setup { serve, ..Setup::default() });
        let page = Page { client: client.clone(), visitor };
        let shop = server.shop_url("/");
        let visited = tokio::spawn(async move { page.buy_and_pay(&shop).await }).await;
        let _ = client.close().await;
        visited.map(|()| server.audit())
    });
    match visited {
        Ok(report) => assert_eq!(report[0]["items"][0]["sold"], 1, "{report}"),
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

struct Page {
    client: Client,
    visitor: Visitor,
}

impl Page {
    async fn buy_and_pay(&self, shop: &str) {
        let Visitor { lang, script, held, paid, limit, .. } = self.visitor;
        self.client.goto(&format!("{shop}?lang={lang}")).await.unwrap();
        assert_eq!(self.attribute("html", "lang").await, lang);
        assert_eq!(self.attribute("#outcome", "aria-live").await, "polite", "an outcome is read aloud");
        if script {
            // Gone after a reload: with script, nothing is to reload.
            self.run("document.documentElement.dataset.visit = 'same'").await;
        }
        self.wait_for("#buy button:not([disabled])").await;
        let closes = self.text("#closes").await;
        assert_eq!(
            closes.ends_with("UTC"),
            !script,
            "the script, if any, says the visitor's own time: {closes}"
        );

        self.press("#buy button").await;
        self.wait_for("#outcome section[data-outcome=granted]").await;
        assert_eq!(self.text("#outcome-title").await, held);
        assert_eq!(self.focus().await, "outcome-title", "a screen reader goes on at the outcome");
        let attempt = self.attribute("#outcome section", "data-attempt").await;

        self.press("#outcome form.pay button").await;
        self.wait_for("#outcome section[data-final=true]").await;
        assert_eq!(self.text("#outcome-title").await, paid);
        assert_eq!(self.focus().await, "outcome-title");
        if script {
            assert_eq!(
                self.attribute("html", "data-visit").await,
                "same",
                "the page has not been loaded again"
            );
        }

        self.client.refresh().await.unwrap();
        self.wait_for("#outcome section[data-final=true]").await;
        assert_eq!(self.text("#outcome-title").await, paid, "a reload changes nothing");
        assert_eq!(self.attribute("#outcome section", "data-attempt").await, attempt);
        assert_eq!(self.attribute("html", "lang").await, lang);

        // One more is over the limit, which the page says as it is, and shows what the visitor has.
        self.press("#buy button").await;
        self.wait_for("#outcome section[data-outcome=limit_reached]").await;
        assert_eq!(self.text("#outcome-title").await, limit);
        self.press("#outcome section p > a").await;
        self.wait_for(&format!("#outcome section[data-attempt='{attempt}']")).await;
        assert_eq!(self.text("#outcome-title").await, paid);
        assert_eq!(self.attribute("html", "lang").await, lang);
    }

    async fn wait_for(&self, what: &str) {
        let found = self.client.wait().at_most(PATIENCE).every(Duration::from_millis(50));
        found.for_element(Locator::Css(what)).await.unwrap_or_else(|e| panic!("{what}: {e}"));
    }

    /// Tries again while the page is being put in another's place.
    async fn read<T, F>(&self, what: &str, mut ask: impl FnMut() -> F) -> T
    where
        F: Future<Output = Result<T, fantoccini::error::CmdError>>,
    {
        let start = Instant::now();
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(error) => assert!(start.elapsed() < PATIENCE, "{what}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn text(&self, what: &str) -> String {
        self.read(what, || async { self.client.find(Locator::Css(what)).await?.text().await }).await
    }

    async fn attribute(&self, what: &str, name: &str) -> String {
        let attribute =
            self.read(what, || async { self.client.find(Locator::Css(what)).await?.attr(name).await });
        attribute.await.unwrap_or_else(|| panic!("{what}: no attribute {name}"))
    }

    async fn run(&self, script: &str) {
        self.client.execute(script, Vec::new()).await.unwrap();
    }

    /// The id of what has the focus.
    async fn focus(&self) -> String {
        let focus = self.read("focus", || async { self.client.active_element().await?.attr("id").await });
        focus.await.unwrap_or_default()
    }

    /// By mouse, or by Tab and Enter.
    async fn press(&self, what: &str) {
        if !self.visitor.keyboard {
            return self
                .read(what, || async { self.client.find(Locator::Css(what)).await?.click().await })
                .await;
        }
        let wanted = self.client.find(Locator::Css(what)).await.unwrap().element_id();
        for _ in 0..40 {
            let focused = self.client.active_element().await.unwrap();
            if focused.element_id() == wanted {
                return focused.send_keys(&char::from(Key::Enter).to_string()).await.unwrap();
            }
            focused.send_keys(&char::from(Key::Tab).to_string()).await.unwrap();
        }
        panic!("{what}: not reached by Tab");
    }
}
