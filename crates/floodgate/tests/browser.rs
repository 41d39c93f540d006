//! The demo as visitors meet it: in headless Chromium, with and without JavaScript, in both
//! languages, once by keyboard alone.

#[path = "browser/accessibility.rs"]
mod accessibility;
#[path = "browser/brand.rs"]
mod brand;
#[path = "browser/entering.rs"]
mod entering;
mod harness;

use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use harness::{PATIENCE, Server, Setup, shop};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const ADVICE: &str =
    "the browser tests need chromium and chromedriver: run `cargo xtask test`, which installs them";

/// A visitor's settings and the texts that they read.
#[derive(Debug, Clone, Copy)]
struct Visitor {
    lang: &'static str,
    script: bool,
    keyboard: bool,
    held: &'static str,
    paid: &'static str,
    /// The button of somebody who has all that one shopper may have.
    all: &'static str,
}

const ENGLISH: Visitor = Visitor {
    lang: "en",
    script: true,
    keyboard: false,
    held: "It is yours to pay",
    paid: "Paid: it is yours",
    all: "You have as many as you may have",
};

const CHINESE: Visitor = Visitor {
    lang: "zh",
    held: "抢购成功，请付款",
    paid: "已付款，商品归您",
    all: "您已达到限购数量",
    ..ENGLISH
};

#[test]
fn a_visitor_buys_in_english_by_keyboard_alone() {
    visit(Visitor { keyboard: true, ..ENGLISH });
}

#[test]
fn a_visitor_buys_in_english_without_javascript() {
    visit(Visitor { script: false, ..ENGLISH });
}

#[test]
fn a_visitor_buys_in_chinese_with_javascript() {
    visit(CHINESE);
}

#[test]
fn a_visitor_buys_in_chinese_without_javascript() {
    visit(Visitor { script: false, ..CHINESE });
}

#[test]
fn a_shopper_makes_an_account_wins_and_pays_in_the_shop() {
    shop_and_pay(Visitor { held: "You got it. Pay now", ..ENGLISH });
}

#[test]
fn a_shopper_makes_an_account_wins_and_pays_in_the_shop_in_chinese() {
    shop_and_pay(Visitor { held: "抢购成功，请付款", paid: "付款成功", ..CHINESE });
}

/// From the shop's home page to an order that is paid.
fn shop_and_pay(visitor: Visitor) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let profile = tempfile::Builder::new().prefix("floodgate-browser-").tempdir().unwrap();
    let driver = Driver::start();
    let visited = runtime.block_on(async {
        let client = open_browser(&driver, profile.path(), true).await;
        let serve = ["--demo", "--demo-opens-in", "2"].map(str::to_owned).to_vec();
        let settings = "[store]\nlisten = \"127.0.0.1:0\"\n".into();
        let server = Server::with(Setup { serve, settings, ..Setup::default() });
        let page = Page { client: client.clone(), visitor };
        let (store, key) = (format!("http://{}/", server.store), server.new_key("op", "operator"));
        let operator = server.client.clone();
        let api = format!("http://{}/api/v1/store", server.store);
        let visited = tokio::spawn(async move {
            let order = page.shop_and_pay(&store).await;
            let operate = |step: &str, body: &Value| {
                let url = format!("{api}{order}/{step}");
                let start = Instant::now();
                loop {
                    let reply = operator.admin("POST", &url, &key, &body.to_string());
                    // Its units are set aside a moment after it is paid.
                    if reply.status == 200 {
                        return;
                    }
                    assert!(reply.status == 409 && start.elapsed() < PATIENCE, "{step}: {reply:?}");
                    std::thread::sleep(Duration::from_millis(50));
                }
            };
            let because = json!({ "reason": "as it should be" });
            operate("ship", &json!({ "carrier": "SF", "tracking": "SF1", "reason": "packed" }));
            operate("deliver", &because);
            page.ask_for_return(&store, &order).await;
            operate("returns/1/approve", &because);
            operate("returns/1/receive", &json!({ "units": "restock", "reason": "as new" }));
            page.wait_for_refund(&store, &order).await;
        });
        let visited = visited.await;
        let _ = client.close().await;
        visited.map(|()| server.audit())
    });
    match visited {
        Ok(report) => assert_eq!(report[0]["items"][0]["sold"], 1, "{report}"),
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

/// A page of the shop, at another origin, that sells with `/floodgate.js`. Its path is its
/// language; `/signed-out` fetches its token from a URL that answers with a page.
fn serve_own_page(listener: TcpListener, gate: &str, token: String) {
    let page = format!(
        "<body><script>window.heard = []; for (const name of ['state', 'outcome', 'problem'])
         document.addEventListener('floodgate:' + name, (event) => heard.push([name, event.detail]))</script>
         <script src=\"http://{gate}/floodgate.js\" data-sale=\"launch\" TOKEN></script>
         <noscript><a id=\"plain\" href=\"http://{gate}/sales/launch\">Buy</a></noscript>
         <form method=\"post\" action=\"http://{gate}/sales/launch/enter\"><input type=\"hidden\" name=\"token\" value=\"{token}\">
         <button id=\"enter\">To the sale</button></form>"
    );
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|read| read > 0) {}
            let lang = if head.starts_with("GET /zh ") { "zh" } else { "en" };
            let signed_out = head.starts_with("GET /signed-out ");
            let token =
                if signed_out { "data-token-url=\"/\"".into() } else { format!("data-token=\"{token}\"") };
            let page = page.replace("TOKEN", &token);
            let body = format!("<!doctype html><html lang=\"{lang}\"><meta charset=\"utf-8\">{page}");
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length";
            let _ = write!(stream, "{head}: {}\r\n\r\n{body}", body.len());
        }
    });
}

/// The shop's page, a gate that knows it, a browser.
fn visit_own_page<F: Future<Output = ()>>(script: bool, see: impl FnOnce(Page, Server, String) -> F) {
    visit_own_page_of(&shop::spec(&[("phone", 1)]), script, see);
}

/// The same before the sale opens.
fn visit_page_of_scheduled<F: Future<Output = ()>>(spec: &Value, see: impl FnOnce(Page, String) -> F) {
    let define = |server: &Server| server.define("launch", spec);
    visit_with(define, true, |page, server, origin| async move {
        see(page, origin).await;
        drop(server);
    });
}

fn visit_own_page_of<F: Future<Output = ()>>(
    spec: &Value,
    script: bool,
    see: impl FnOnce(Page, Server, String) -> F,
) {
    visit_with(|server| drop(server.open_sale("launch", spec)), script, see);
}

fn visit_with<F: Future<Output = ()>>(
    set_up: impl FnOnce(&Server),
    script: bool,
    see: impl FnOnce(Page, Server, String) -> F,
) {
    visit_with_tables("", set_up, script, see);
}

/// The same with tables of configuration.
fn visit_with_tables<F: Future<Output = ()>>(
    settings: &str,
    set_up: impl FnOnce(&Server),
    script: bool,
    see: impl FnOnce(Page, Server, String) -> F,
) {
    visit_configured("", settings, set_up, script, see);
}

/// The same with settings of the gate too.
fn visit_configured<F: Future<Output = ()>>(
    of_gate: &str,
    settings: &str,
    set_up: impl FnOnce(&Server),
    script: bool,
    see: impl FnOnce(Page, Server, String) -> F,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let profile = tempfile::Builder::new().prefix("floodgate-browser-").tempdir().unwrap();
    let driver = Driver::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let gate = format!("allowed_origins = [\"{origin}\"]\n{of_gate}");
    let server = Server::with(Setup { gate, settings: settings.into(), ..Setup::default() });
    set_up(&server);
    let token = server.output(&["token", "--shopper", "alice"]);
    serve_own_page(listener, &server.shop, token.trim().to_owned());
    runtime.block_on(async {
        let client = open_browser(&driver, profile.path(), script).await;
        let seen = std::panic::AssertUnwindSafe(see(
            Page { client: client.clone(), visitor: ENGLISH },
            server,
            origin,
        ));
        let seen = futures_util::FutureExt::catch_unwind(seen).await;
        let _ = client.close().await;
        seen.unwrap_or_else(|failed| std::panic::resume_unwind(failed));
    });
}

#[test]
fn a_page_of_an_allowed_origin_buys_through_a_server_restart() {
    visit_own_page(true, async |page, mut server, origin| {
        page.client.goto(&origin).await.unwrap();
        page.wait_for(".floodgate button:not([disabled])").await;
        assert_eq!(page.text(".floodgate p").await, "Open");
        // The server is down when the button is pressed: the script retries, and there is one
        // purchase.
        server.kill();
        page.press(".floodgate button").await;
        page.wait_for_text(".floodgate p[role=status]", "No answer yet: asking again").await;
        server.restart();
        page.wait_for_text(".floodgate p[role=status]", "It is yours to pay").await;
        let attempt = page.heard("outcome").await["attempt"].clone();

        // After a reload the page has the same key, so it is the same purchase again.
        page.client.goto(&format!("{origin}/zh")).await.unwrap();
        page.wait_for(".floodgate button:not([disabled])").await;
        page.press(".floodgate button").await;
        page.wait_for_text(".floodgate p[role=status]", "抢购成功，请付款").await;
        let again = page.heard("outcome").await;
        assert_eq!((&again["attempt"], &again["outcome"]), (&attempt, &json!("granted")));
        assert!(again["hold"]["ticket"].is_string(), "the page can pass it on: {again}");
        // A page may call `buy` itself, and gets the answer: another basket is another purchase,
        // here of more than the stock.
        let script = "const [done] = arguments; document.querySelector('script[data-sale]').buy('phone', 2).then(done, done)";
        let refused = page.client.execute_async(script, Vec::new()).await.unwrap();
        assert!(["sold_out", "limit_reached"].contains(&refused["outcome"].as_str().unwrap()), "{refused}");
        assert_eq!(page.heard("problem").await, Value::Null);
        assert_eq!(server.audit()[0]["items"][0]["held"], 1);
    });
}

#[test]
fn a_page_tells_what_becomes_of_a_place_and_of_a_hold() {
    let spec = json!({ "waitlist": { "places": 5 } });
    visit_own_page_of(&shop::with(shop::spec(&[("phone", 1)]), spec), true, async |page, server, origin| {
        let his = server.sale("launch").buy(&server.pass("launch", "bob"), "k", "phone");
        let release = |outcome: &Value| server.admin("POST", &shop::hold(outcome, "release"), &json!({}));
        let status = ".floodgate p[role=status]";
        page.client.goto(&origin).await.unwrap();
        page.wait_for_text(".floodgate button", "Sold out: join the waitlist").await;
        page.press(".floodgate button").await;
        page.wait_for_text(status, "On the waitlist").await;
        // Bob gives his back, so it is her turn; then hers is given back too.
        release(&his);
        page.wait_for_text(status, "It is yours to pay").await;
        let promoted = page.wait_for_outcome("held").await;
        assert!(promoted["hold"]["ticket"].is_string(), "the page can pass it on: {promoted}");
        release(&promoted);
        page.wait_for_text(status, "Given back").await;
        page.wait_for_text(".floodgate button", "Buy now").await;
        page.press(".floodgate button").await;
        page.wait_for_text(status, "It is yours to pay").await;
        assert_ne!(page.heard("outcome").await["attempt"], promoted["attempt"], "another purchase");
    });
}

#[test]
fn a_page_that_is_loaded_again_goes_on_telling_what_becomes_of_a_place_and_of_a_hold() {
    let spec = json!({ "waitlist": { "places": 5 }, "hold_seconds": 8 });
    visit_own_page_of(&shop::with(shop::spec(&[("phone", 1)]), spec), true, async |page, server, origin| {
        let his = server.sale("launch").buy(&server.pass("launch", "bob"), "k", "phone");
        server.admin("POST", &shop::hold(&his, "confirm"), &json!({ "payment": "p" }));
        let status = ".floodgate p[role=status]";
        page.client.goto(&origin).await.unwrap();
        page.wait_for_text(".floodgate button", "Sold out: join the waitlist").await;
        page.press(".floodgate button").await;
        page.wait_for_text(status, "On the waitlist").await;
        let place = page.heard("outcome").await["attempt"].clone();
        page.client.refresh().await.unwrap();
        page.wait_for_text(status, "On the waitlist").await;
        assert_eq!(page.heard("outcome").await, Value::Null, "what the page was told already is no news");
        let void = json!({ "attempts": [his["attempt"]], "reason": "refunded" });
        server.admin("POST", "/sales/launch/void", &void);
        page.wait_for_text(status, "It is yours to pay").await;
        let promoted = page.wait_for_outcome("held").await;
        assert_eq!(promoted["attempt"], place);
        assert!(promoted["hold"]["ticket"].is_string(), "the page can pass it on: {promoted}");
        page.client.refresh().await.unwrap();
        page.wait_for_text(status, "It is yours to pay").await;
        // Nobody pays, and the time is over.
        page.wait_for_text(status, "The time to pay is over").await;
        assert_eq!(page.wait_for_outcome("expired").await["attempt"], place);
        page.wait_for_text(".floodgate button", "Buy now").await;
        page.client.refresh().await.unwrap();
        page.wait_for_text(".floodgate button", "Buy now").await;
        assert_eq!(page.text(status).await, "", "it is over, and forgotten");
    });
}

#[test]
fn a_second_purchase_does_not_end_the_watch_of_the_first() {
    let spec = json!({ "waitlist": { "places": 5 } });
    let spec = shop::with(shop::spec(&[("phone", 1), ("case", 5)]), spec);
    visit_own_page_of(&spec, true, async |page, server, origin| {
        let his = server.sale("launch").buy(&server.pass("launch", "bob"), "k", "phone");
        page.client.goto(&origin).await.unwrap();
        page.wait_for_text(".floodgate button", "Sold out: join the waitlist").await;
        page.press(".floodgate button").await;
        page.wait_for_text(".floodgate p[role=status]", "On the waitlist").await;
        let place = page.heard("outcome").await["attempt"].clone();
        let buy = "const [done] = arguments; document.querySelector('script[data-sale]').buy('case', 1).then(done, done)";
        let case = page.client.execute_async(buy, Vec::new()).await.unwrap();
        assert_eq!(case["outcome"], "granted");
        server.admin("POST", &shop::hold(&his, "release"), &json!({}));
        let start = Instant::now();
        while page.heard("outcome").await["attempt"] != place {
            assert!(start.elapsed() < PATIENCE, "the first is not told: {}", page.heard("outcome").await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(page.heard("outcome").await["hold"]["state"], "held");
    });
}

#[test]
fn a_countdown_of_days_has_days() {
    let (day, hour) = (86_400_000, 3_600_000);
    let spec = |opens_in: u64| {
        let mut spec = shop::spec(&[("phone", 1)]);
        spec["rounds"][0]["opens_at"] = shop::in_ms(opens_in).into();
        spec["rounds"][0]["closes_at"] = shop::in_ms(opens_in + hour).into();
        spec
    };
    for (opens_in, first, clock) in [(2 * day + 3 * hour, "Opens in 2 d 0", 21), (3 * hour, "Opens in 0", 17)]
    {
        visit_page_of_scheduled(&spec(opens_in), async |page, origin| {
            page.client.goto(&origin).await.unwrap();
            page.wait_for(".floodgate button[disabled]").await;
            let said = page.text(".floodgate p").await;
            assert!(said.starts_with(first) && said.len() == clock, "{said}");
        });
    }
}

#[test]
fn a_token_url_that_answers_with_a_page_is_said_at_once() {
    visit_own_page(true, async |page, _server, origin| {
        page.client.goto(&format!("{origin}/signed-out")).await.unwrap();
        page.wait_for(".floodgate button:not([disabled])").await;
        page.press(".floodgate button").await;
        page.wait_for_text(".floodgate p[role=status]", "Sign in to the shop again").await;
        page.wait_for(".floodgate button:not([disabled])").await;
        assert_eq!(page.heard("problem").await["type"], "no-token");
    });
}

#[test]
fn a_page_of_an_unlisted_origin_only_shows_a_link() {
    visit_own_page(true, async |page, server, origin| {
        // The same page under another name is another origin.
        page.client.goto(&origin.replace("127.0.0.1", "localhost")).await.unwrap();
        page.wait_for(".floodgate a").await;
        let asked = "return performance.getEntriesByType('resource').filter((r) => r.name.endsWith('/api/v1/sales/launch')).length";
        let start = Instant::now();
        while page.client.execute(asked, Vec::new()).await.unwrap() == json!(0) {
            assert!(start.elapsed() < PATIENCE, "the script asks for the sale");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(page.client.execute("return heard.length", Vec::new()).await.unwrap(), json!(0));
        assert_eq!(page.attribute(".floodgate a", "href").await, server.shop_url("/sales/launch"));
    });
}

#[test]
fn a_shops_page_without_javascript_links_to_the_sale() {
    visit_own_page(false, async |page, _server, origin| {
        page.client.goto(&origin).await.unwrap();
        page.press("#plain").await;
        page.wait_for("#sale[data-sale=launch]").await;
    });
}

struct Driver {
    child: Child,
    url: String,
    /// Kept open, because the program goes on printing.
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

/// A browser, a server, a visit; the browser is closed in every case.
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
        let Visitor { lang, script, held, paid, all, .. } = self.visitor;
        self.client.goto(&format!("{shop}?lang={lang}")).await.unwrap();
        assert!(self.attribute("html", "lang").await.starts_with(lang));
        assert_eq!(self.attribute("#answer", "aria-live").await, "polite", "an outcome is read aloud");
        if script {
            // Gone after a reload: with JavaScript the page does not reload itself.
            self.run("document.documentElement.dataset.visit = 'same'").await;
        }
        self.wait_for("form.buy button:not([disabled])").await;
        let closes = self.text("#closes").await;
        assert_eq!(
            closes.ends_with("UTC"),
            !script,
            "the script, if any, shows the visitor's local time: {closes}"
        );

        self.press("form.buy button").await;
        self.wait_for("#answer section[data-outcome=granted]").await;
        assert_eq!(self.text("#answer-title").await, held);
        assert_eq!(self.focus().await, "answer-title", "a screen reader continues at the answer");
        let attempt = self.attribute("#answer section", "data-attempt").await;
        let row = format!("#yours li[data-attempt='{attempt}']");
        self.wait_for_text("form.buy .does", all).await;
        self.wait_for("form.buy button[disabled]").await;

        self.press("#answer form.pay button").await;
        self.wait_for("#answer section[data-final=true]").await;
        assert_eq!(self.text("#answer-title").await, paid);
        assert_eq!(self.focus().await, "answer-title");
        if script {
            assert_eq!(self.attribute("html", "data-visit").await, "same", "the page was not reloaded");
        }

        self.client.goto(&format!("{shop}sales/demo?lang={lang}")).await.unwrap();
        self.wait_for(&format!("{row}[data-final=true]")).await;
        assert_eq!(self.text(&format!("{row} .tag")).await, paid, "a closed tab loses nothing");
        assert!(self.attribute("html", "lang").await.starts_with(lang));
        self.wait_for_text("form.buy .does", all).await;
    }

    /// Returns the path of the order.
    async fn shop_and_pay(&self, store: &str) -> String {
        let Visitor { lang, held, paid, .. } = self.visitor;
        self.client.goto(&format!("{store}?lang={lang}")).await.unwrap();
        assert!(self.attribute("html", "lang").await.starts_with(lang));
        // The language stays without being named again.
        self.press(".hero .button").await;
        self.wait_for("article.two").await;
        self.press(".sale a.button").await;
        self.wait_for("form[action='/account/log-in']").await;
        self.press("a[href^='/account/register']").await;
        self.wait_for("form[action='/account/register']").await;
        for (field, text) in
            [("#name", "Ann 安"), ("#email", "ann@example.com"), ("#password", "correct horse")]
        {
            self.client.find(Locator::Css(field)).await.unwrap().send_keys(text).await.unwrap();
        }
        self.press("form[action='/account/register'] button").await;
        // Back at the product, where the sale's script counts down.
        self.wait_for(".floodgate button:not([disabled])").await;
        assert!(self.attribute("html", "lang").await.starts_with(lang));
        self.press(".floodgate button").await;
        self.wait_for("form[action$='/pay'] button").await;
        assert_eq!(self.text(".notice .title").await, held);
        for (field, text) in
            [("#name", "Ann 安"), ("#phone", "13800138000"), ("#street", "长安街 1 号"), ("#city", "北京")]
        {
            self.client.find(Locator::Css(field)).await.unwrap().send_keys(text).await.unwrap();
        }
        self.press("form[action$='/pay'] button").await;
        self.wait_for("button[value='pay']").await;
        self.press("button[value='pay']").await;
        // The page looks again by itself until the provider and the sale have answered.
        self.wait_for_text(".notice .title", paid).await;
        let order = self.client.current_url().await.unwrap();
        assert!(order.path().starts_with("/orders/"), "{order}");
        self.client.goto(&format!("{store}orders")).await.unwrap();
        self.wait_for(".orders li").await;
        order.path().to_owned()
    }

    async fn ask_for_return(&self, store: &str, order: &str) {
        self.client.goto(&format!("{store}{}/return", order.trim_start_matches('/'))).await.unwrap();
        self.wait_for("form[action$='/return'] button").await;
        self.client.find(Locator::Css("#reason")).await.unwrap().send_keys("太大 / too large").await.unwrap();
        self.press("form[action$='/return'] button").await;
        self.wait_for("form[action$='/withdraw'] button").await;
    }

    /// The page of the order says that the money is back.
    async fn wait_for_refund(&self, store: &str, order: &str) {
        let start = Instant::now();
        loop {
            self.client.goto(&format!("{store}{}", order.trim_start_matches('/'))).await.unwrap();
            let title = self.text(".notice .title").await;
            if title == ["Refunded", "已退款"][usize::from(self.visitor.lang == "zh")] {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{title}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn wait_for(&self, what: &str) {
        let found = self.client.wait().at_most(PATIENCE).every(Duration::from_millis(50));
        found.for_element(Locator::Css(what)).await.unwrap_or_else(|e| panic!("{what}: {e}"));
    }

    /// Tries again while the page is being replaced.
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

    async fn wait_for_text(&self, what: &str, want: &str) {
        let start = Instant::now();
        while self.text(what).await != want {
            assert!(start.elapsed() < PATIENCE, "{what}: want {want}, is {}", self.text(what).await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The outcome of a hold in this state, once the page has received it: it is told after the
    /// page's own text has changed.
    async fn wait_for_outcome(&self, state: &str) -> Value {
        let start = Instant::now();
        loop {
            let newest = self.heard("outcome").await;
            if newest["hold"]["state"] == state {
                return newest;
            }
            assert!(start.elapsed() < PATIENCE, "want a hold that is {state}, is {newest}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The newest event of a kind that the shop's page has received.
    async fn heard(&self, name: &str) -> Value {
        let newest = format!("return (heard.filter((event) => event[0] === '{name}').pop() || [])[1]");
        self.client.execute(&newest, Vec::new()).await.unwrap()
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

    /// The id of the element with the focus.
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
