//! The shop's pages and the sale's as axe-core judges them: each in both languages, light and dark,
//! on a phone's screen, a tablet's and a wide one.

use super::*;
use std::path::Path;

const SIZES: [(u32, u32); 3] = [(320, 700), (768, 1024), (1440, 900)];

#[test]
fn the_shops_pages_can_be_used_by_all_in_english() {
    judge(ENGLISH);
}

#[test]
fn the_shops_pages_can_be_used_by_all_in_chinese() {
    judge(CHINESE);
}

fn judge(visitor: Visitor) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let profile = tempfile::Builder::new().prefix("floodgate-browser-").tempdir().unwrap();
    let driver = Driver::start();
    let judged = runtime.block_on(async {
        let client = open_browser(&driver, profile.path(), true).await;
        let serve = ["--demo", "--demo-opens-in", "3600", "--demo-stock", "1"].map(str::to_owned).to_vec();
        let settings = "[store]\nlisten = \"127.0.0.1:0\"\n".into();
        let server = Server::with(Setup { serve, settings, ..Setup::default() });
        let session = client.session_id().await.unwrap().unwrap();
        let judge = Judge {
            page: Page { client: client.clone(), visitor },
            driver: format!("{}/session/{session}/goog/cdp/execute", driver.url),
            axe: axe(),
            shop: format!("http://{}", server.store),
            sale: server.shop_url("/sales/demo").replace("127.0.0.1", "localhost"),
            open_sale: server.admin_url("/api/v1/admin/sales/demo/open"),
            found: Vec::new(),
        };
        let key = server.new_key("op", "operator");
        let operator = server.client.clone();
        let at = format!("http://{}", server.store);
        let sign_in = server.output(&["key", "sign-in", "op", "--at", &at]);
        let sign_in =
            sign_in.split_whitespace().find(|word| word.starts_with(&at)).expect("a link").to_owned();
        let judged = tokio::spawn(async move { judge.all(&operator, &key, &sign_in).await }).await;
        let _ = client.close().await;
        judged
    });
    let found = judged.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The script of axe-core, from the package of Python that carries it.
fn axe() -> String {
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("python/lib");
    let versions = std::fs::read_dir(&python).into_iter().flatten().flatten();
    let places = versions.map(|of| of.path().join("site-packages/axe_playwright_python/axe.min.js"));
    let place = places.into_iter().find(|place| place.is_file());
    let place = place.unwrap_or_else(|| panic!("no axe-core in {}: {ADVICE}", python.display()));
    std::fs::read_to_string(place).unwrap()
}

const ADDRESS: [(&str, &str); 4] =
    [("#name", "Ann 安"), ("#phone", "13800138000"), ("#street", "长安街 1 号"), ("#city", "北京")];

struct Judge {
    page: Page,
    /// Where the browser takes commands of its own.
    driver: String,
    axe: String,
    shop: String,
    /// The sale's page by another name, under which the browser is no shopper of the shop.
    sale: String,
    open_sale: String,
    found: Vec<String>,
}

impl Judge {
    async fn all(mut self, operator: &harness::http::Client, key: &str, sign_in: &str) -> Vec<String> {
        let lang = self.page.visitor.lang;
        self.go(&format!("/?lang={lang}")).await;
        for path in [
            "/",
            "/c/phones",
            "/search?q=watch",
            "/search?q=nothing-of-this-name",
            "/p/brook-mini",
            "/p/flood-one",
            "/cart",
            "/account/log-in",
            "/account/register",
            "/account/forgot",
            "/no/such/page",
            "/design",
        ] {
            self.go(path).await;
            self.see(path).await;
        }
        for url in [self.shop.clone(), format!("{}/p/flood-one", self.shop), self.sale.clone()] {
            self.is_light(&url).await;
        }
        let log_in = "form[action='/account/log-in']";
        self.go("/account/log-in").await;
        self.fill(&[("#email", "nobody@example.com"), ("#password", "wrong wrong wrong")]).await;
        self.page.press(&format!("{log_in} button")).await;
        self.page.wait_for(".notice.bad").await;
        self.see("a refused log-in").await;

        self.go("/account/forgot").await;
        self.fill(&[("#email", "ann@example.com")]).await;
        self.page.press("form[action='/account/forgot'] button").await;
        self.page.wait_for(".notice").await;
        self.see("what follows when a password is forgotten").await;
        for path in ["/account/reset?link=over", "/guest/order?link=over"] {
            self.go(path).await;
            self.see(path).await;
        }
        self.as_guest().await;

        self.go("/account/register").await;
        self.fill(&[("#name", "Ann 安"), ("#email", "ann@example.com"), ("#password", "correct horse")])
            .await;
        self.page.press("form[action='/account/register'] button").await;
        self.page.wait_for(".hero").await;
        self.go("/p/brook-mini").await;
        self.page.press("form[action='/cart'] button").await;
        self.page.wait_for(".cart").await;
        self.see("/cart, full").await;
        self.go("/cart/check-out").await;
        self.see("/cart/check-out").await;
        self.fill(&ADDRESS).await;
        self.page.press("form[action='/cart/check-out'] button").await;
        self.page.wait_for("form[action$='/pay'] button").await;
        let order = self.page.client.current_url().await.unwrap().path().to_owned();
        self.see("an order").await;
        for path in ["/orders", "/account", "/account/settings", "/account/delete", "/p/flood-one"] {
            self.go(path).await;
            self.see(path).await;
        }
        self.at_the_sale(operator, key).await;
        self.go(&order).await;
        self.page.press("form[action$='/pay'] button").await;
        self.page.wait_for("button[value='pay']").await;
        self.page.press("button[value='pay']").await;
        self.page
            .wait_for_text(".notice .title", ["Paid: it is yours", "付款成功"][usize::from(lang == "zh")])
            .await;
        self.see("a paid order").await;
        let api = format!("{}/api/v1/store{order}", self.shop);
        let parcel = json!({ "carrier": "SF", "tracking": "SF1", "reason": "packed" });
        let because = json!({ "reason": "as it should be" });
        for (step, body) in [("ship", &parcel), ("deliver", &because)] {
            let start = Instant::now();
            // Its units are set aside a moment after it is paid.
            while operator.admin("POST", &format!("{api}/{step}"), key, &body.to_string()).status != 200 {
                assert!(start.elapsed() < PATIENCE, "{step}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        self.go(&format!("{order}/return")).await;
        self.see("a return").await;
        self.fill(&[("#reason", "太大 / too large")]).await;
        self.page.press("form[action$='/return'] button").await;
        self.page.wait_for("form[action$='/withdraw'] button").await;
        self.see("an order with a return").await;
        let stock = |method: &str, path: &str, body: Value| {
            let done =
                operator.admin(method, &format!("{}/api/v1/store{path}", self.shop), key, &body.to_string());
            assert_eq!(done.status, 200, "{path}: {done:?}");
        };
        let east =
            json!({ "name": "East 华东仓", "ships": true, "parcel_cost": 5, "days": 2, "reason": "new" });
        stock("PUT", "/warehouses/east", east);
        let lines = json!([{ "sku": "BROOK-MINI", "quantity": 2 }, { "sku": "FLOOD-BUDS", "quantity": 1 }]);
        let sent = json!({ "from": "main", "to": "east", "lines": lines, "reason": "for the other shop" });
        stock("PUT", "/transfers/t-1", sent);
        self.the_console(sign_in, &order).await;
        self.found
    }

    /// The pages of a shopper without an account, with a form that is refused.
    async fn as_guest(&mut self) {
        self.go("/p/brook-mini").await;
        self.page.press("form[action='/cart'] button").await;
        self.page.wait_for(".cart").await;
        self.go("/cart/check-out").await;
        self.see("a guest's check-out").await;
        self.fill(&ADDRESS).await;
        self.fill(&[("#email", "ann@nowhere")]).await;
        self.page.press("form[action='/cart/check-out'] button").await;
        self.page.wait_for("[aria-invalid='true']").await;
        self.see("a guest's check-out that is refused").await;
        self.fill(&[("#email", "guest@example.com")]).await;
        self.page.press("form[action='/cart/check-out'] button").await;
        self.page.wait_for("form[action$='/pay'] button").await;
        self.see("a guest's order").await;
        let order = self.page.client.current_url().await.unwrap().path().to_owned();
        self.go(&format!("{order}/address")).await;
        self.see("the address of an order").await;
    }

    /// The operators' pages of the store.
    async fn the_console(&mut self, sign_in: &str, order: &str) {
        self.page.client.goto(sign_in).await.unwrap();
        self.see("the page of a link that signs in").await;
        self.page.press("form[action^='/sign-in'] button").await;
        self.page.wait_for("main h1").await;
        let lang = self.page.visitor.lang;
        for path in [
            "/console",
            &format!("/console{order}"),
            "/console/returns",
            "/console/payments",
            "/console/reconciliations",
            "/console/accounts",
            "/console/products",
            "/console/products/brook-mini",
            "/console/new-product",
            "/console/stock",
            "/console/stock/BROOK-MINI",
            "/console/claims?sale=demo",
            "/console/warehouses",
            "/console/stock/BROOK-MINI/east",
            "/console/transfers",
            "/console/transfers?closed=1",
            "/console/transfers/t-1",
            "/console/trail/catalog",
            "/console/trail/stock",
            "/console/trail/accounts",
        ] {
            self.go(&format!("{path}{}lang={lang}", if path.contains('?') { "&" } else { "?" })).await;
            let now = self.page.client.current_url().await.unwrap();
            assert!(now.path().starts_with("/console"), "{path}: {now}");
            self.see(path).await;
        }
    }

    /// The sale's own page, to which the shop sends a browser without scripts: before the sale
    /// opens, after it, with what was won, and for a shopper who got none.
    async fn at_the_sale(&mut self, operator: &harness::http::Client, key: &str) {
        self.scripts(false);
        self.go("/p/flood-one").await;
        self.page.press("noscript form[action$='/enter'] button").await;
        self.page.wait_for("#sale[data-sale=demo]").await;
        let before = self.found.len();
        self.see("the sale's page, before the sale opens").await;
        // Without scripts nothing else can tell of an opening, and an event of the real world is
        // what WCAG 2.2.1 excepts.
        let seen = self.found.split_off(before);
        self.found.extend(seen.into_iter().filter(|wrong| !wrong.contains(": \"meta-refresh <meta ")));
        // The picture comes from the shop, which the page's policy allows by name.
        let width = "return document.querySelector('.hero .frame img').naturalWidth";
        let width = self.page.client.execute(width, Vec::new()).await.unwrap();
        assert!(width.as_u64() > Some(0), "the picture has not come: {width}");
        let mut at = self.page.client.current_url().await.unwrap();
        at.set_fragment(None);
        let because = json!({ "reason": "as it should be" }).to_string();
        let opened = operator.admin("POST", &self.open_sale, key, &because);
        assert_eq!(opened.status, 200, "{opened:?}");
        self.scripts(false);
        self.page.client.goto(at.as_str()).await.unwrap();
        self.page.wait_for("#item-phone form.buy button:not([disabled])").await;
        self.see("the sale's page, open").await;
        self.scripts(false);
        self.page.press("#item-phone form.buy button").await;
        self.page.wait_for("#answer section[data-outcome=granted]").await;
        self.see("the sale's page, with what was won").await;
        self.scripts(false);
        let lang = self.page.visitor.lang;
        self.page.client.goto(&format!("{}?lang={lang}", self.sale)).await.unwrap();
        // Another visitor of the demo, whose page does not know yet that the only one is gone.
        self.scripts(true);
        let enable = "document.querySelector('#item-phone form.buy button').disabled = false";
        self.page.client.execute(enable, Vec::new()).await.unwrap();
        self.page.press("#item-phone form.buy button").await;
        self.page.wait_for("#answer section[data-outcome=sold_out]").await;
        let shop = self.page.attribute("#answer .actions a", "href").await;
        assert!(shop.starts_with(&self.shop), "it leads on to the shop: {shop}");
        self.see("the sale's page, sold out").await;
    }

    /// Whether pages that are loaded from now on run their scripts. What is loaded stays.
    fn scripts(&self, run: bool) {
        self.tell("Emulation.setScriptExecutionDisabled", &json!({ "value": !run }));
    }

    /// A first view, without its pictures, is at most 100 KB for a browser that has nothing yet.
    async fn is_light(&mut self, url: &str) {
        self.tell("Network.clearBrowserCache", &json!({}));
        self.page.client.goto(url).await.unwrap();
        let sizes = "return performance.getEntriesByType('navigation').concat(
                performance.getEntriesByType('resource').filter((of) => of.initiatorType !== 'img'))
            .map((of) => [of.name, of.transferSize])";
        let sizes = self.page.client.execute(sizes, Vec::new()).await.unwrap();
        let sizes = sizes.as_array().unwrap();
        let bytes: u64 = sizes.iter().map(|of| of[1].as_u64().unwrap()).sum();
        assert!(sizes.len() > 1 && bytes > 0, "{url}: nothing was measured: {sizes:?}");
        if bytes > 100_000 {
            self.found.push(format!("{url}: {bytes} bytes: {sizes:?}"));
        }
    }

    async fn go(&self, path: &str) {
        self.page.client.goto(&format!("{}{path}", self.shop)).await.unwrap();
    }

    async fn fill(&self, fields: &[(&str, &str)]) {
        for (field, text) in fields {
            let field = self.page.client.find(Locator::Css(field)).await.unwrap();
            field.clear().await.unwrap();
            field.send_keys(text).await.unwrap();
        }
    }

    /// Notes what is wrong with the page that is shown.
    async fn see(&mut self, what: &str) {
        self.scripts(true);
        let main = self.page.client.find(Locator::Css("main h1")).await;
        assert!(main.is_ok(), "{what}: {}", self.page.client.source().await.unwrap());
        self.page.client.execute(&self.axe, Vec::new()).await.unwrap();
        for (width, height) in SIZES {
            let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
            self.tell("Emulation.setDeviceMetricsOverride", &size);
            for scheme in ["light", "dark"] {
                let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
                self.tell("Emulation.setEmulatedMedia", &features);
                let run = "const done = arguments[0];
                    axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => done(
                        violations.map((of) => of.id + ' ' + of.nodes.map((node) => node.html).join(' '))),
                        (error) => done([String(error)]))";
                let wrong = self.page.client.execute_async(run, Vec::new()).await.unwrap();
                let place = format!("{what}, {width} px, {scheme}");
                let wrong = wrong.as_array().unwrap().iter().map(|wrong| format!("{place}: {wrong}"));
                self.found.extend(wrong);
                // What scrolls by itself is no part of the page's width.
                let over = "const { scrollWidth, clientWidth } = document.documentElement;
                    const out = [...document.querySelectorAll('body *')].filter((of) => !of.closest('.scroll')
                        && (of.getBoundingClientRect().right > clientWidth + 0.5 || of.scrollWidth > clientWidth));
                    return scrollWidth > clientWidth
                        ? [scrollWidth - clientWidth + ' px wider than the window',
                            ...out.slice(-2).map((of) => of.outerHTML.slice(0, 200))] : []";
                let over = self.page.client.execute(over, Vec::new()).await.unwrap();
                let over = over.as_array().unwrap();
                if !over.is_empty() {
                    self.found.push(format!("{place}: {over:?}"));
                }
            }
        }
        self.tell("Emulation.clearDeviceMetricsOverride", &json!({}));
    }

    /// A command of the browser's own, which WebDriver does not have.
    fn tell(&self, command: &str, params: &Value) {
        let body = json!({ "cmd": command, "params": params }).to_string();
        let sent = ureq::post(&self.driver).header("content-type", "application/json").send(body);
        assert!(sent.is_ok(), "{command}: {sent:?}");
    }
}
