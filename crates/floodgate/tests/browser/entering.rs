//! Shoppers whom a shop sends to the sale's own page, by the form of its page: from the store, and
//! from anybody's shop, without JavaScript and with it.

use super::*;

#[test]
fn a_shopper_without_javascript_wins_in_the_sale_and_pays_in_the_shop() {
    go_and_come_back(Visitor { script: false, paid: "Paid: it is yours", ..ENGLISH });
}

#[test]
fn a_shopper_without_javascript_wins_in_the_sale_and_pays_in_the_shop_in_chinese() {
    go_and_come_back(Visitor { script: false, paid: "付款成功", ..CHINESE });
}

fn go_and_come_back(visitor: Visitor) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let profile = tempfile::Builder::new().prefix("floodgate-browser-").tempdir().unwrap();
    let driver = Driver::start();
    let report = runtime.block_on(async {
        let client = open_browser(&driver, profile.path(), visitor.script).await;
        let serve = ["--demo", "--demo-opens-in", "5"].map(str::to_owned).to_vec();
        let settings = "[store]\nlisten = \"127.0.0.1:0\"\n".into();
        let server = Server::with(Setup { serve, settings, ..Setup::default() });
        let page = Page { client: client.clone(), visitor };
        let store = format!("http://{}/", server.store);
        let visited = tokio::spawn(async move { page.go_and_come_back(&store).await }).await;
        let _ = client.close().await;
        visited.map(|()| server.audit())
    });
    match report {
        Ok(report) => assert_eq!(report[0]["items"][0]["sold"], 1, "{report}"),
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

impl Page {
    async fn fill(&self, fields: &[(&str, &str)]) {
        for (field, text) in fields {
            self.client.find(Locator::Css(field)).await.unwrap().send_keys(text).await.unwrap();
        }
    }

    async fn go_and_come_back(&self, store: &str) {
        let Visitor { lang, held, paid, all, .. } = self.visitor;
        self.client.goto(&format!("{store}account/register?next=/p/flood-one&lang={lang}")).await.unwrap();
        self.fill(&[("#name", "Ann 安"), ("#email", "ann@example.com"), ("#password", "correct horse")])
            .await;
        self.press("form[action='/account/register'] button").await;
        self.wait_for("noscript form[action$='/enter'] button").await;
        assert_eq!(self.attribute("html", "lang").await.split('-').next(), Some(lang));
        self.press("noscript form[action$='/enter'] button").await;
        // At the sale, whose page reloads itself until it opens.
        self.wait_for("#sale[data-sale=demo]").await;
        assert!(self.attribute("html", "lang").await.starts_with(lang));
        let at = self.client.current_url().await.unwrap();
        assert!(!at.as_str().contains("token"), "{at}");
        self.wait_for("form.buy button:not([disabled])").await;
        self.press("#item-phone form.buy button").await;
        self.wait_for("#answer section[data-outcome=granted]").await;
        assert_eq!(self.text("#answer-title").await, held);
        self.wait_for_text("#item-phone .does", all).await;
        self.press("#answer a.back").await;
        // At the shop, whose page reloads itself until the order is there.
        self.wait_for("form[action$='/pay'] button").await;
        let order = self.client.current_url().await.unwrap();
        assert!(order.path().starts_with("/orders/") && order.query().is_none(), "{order}");
        self.fill(&[
            ("#name", "Ann 安"),
            ("#phone", "13800138000"),
            ("#street", "长安街 1 号"),
            ("#city", "北京"),
        ])
        .await;
        self.press("form[action$='/pay'] button").await;
        self.wait_for("button[value='pay']").await;
        self.press("button[value='pay']").await;
        self.wait_for_text(".notice .title", paid).await;
    }
}

#[test]
fn a_form_of_anybodys_page_lets_a_shopper_buy_without_javascript() {
    visit_own_page(false, async |page, server, origin| {
        page.client.goto(&origin).await.unwrap();
        page.press("#enter").await;
        page.wait_for("form.buy button:not([disabled])").await;
        page.press("form.buy button").await;
        page.wait_for_text("#answer-title", "It is yours to pay").await;
        assert_eq!(server.audit()[0]["items"][0]["held"], 1);
    });
}

#[test]
fn a_page_of_an_unlisted_origin_lets_no_shopper_in() {
    visit_own_page(false, async |page, server, origin| {
        // The same page under another name is another origin.
        page.client.goto(&origin.replace("127.0.0.1", "localhost")).await.unwrap();
        page.press("#enter").await;
        page.wait_for_text("#outcome-title", "Please try again").await;
        page.client.goto(&server.shop_url("/sales/launch")).await.unwrap();
        page.wait_for("#sale[data-sale=launch]").await;
        assert!(page.client.find(Locator::Css("form")).await.is_err(), "no shopper is known");
    });
}

#[test]
fn the_script_of_the_sales_page_solves_what_a_sale_asks_for_and_leaves() {
    let tables = "[gate.challenge]\nmode = \"proof_of_work\"\nmaxnumber = 5000\n";
    let set_up = |server: &Server| drop(server.open_sale("launch", &shop::spec(&[("phone", 1)])));
    visit_with_tables(tables, set_up, true, async |page, server, origin| {
        page.client.goto(&origin).await.unwrap();
        page.press("#enter").await;
        page.wait_for("form.buy button:not([disabled])").await;
        page.press("form.buy button").await;
        page.wait_for_text("#answer-title", "It is yours to pay").await;
        assert_eq!(server.audit()[0]["items"][0]["held"], 1);
        // What comes later is told without a reload.
        let attempt = page.attribute("#answer section", "data-attempt").await;
        server.admin("POST", &format!("/holds/{attempt}/release"), &json!({}));
        page.wait_for_text("#answer-title", "Given back").await;
        page.press("form.leave button").await;
        page.wait_for("#sale[data-sale=launch]").await;
        let start = Instant::now();
        while page.client.find(Locator::Css("form")).await.is_ok() {
            assert!(start.elapsed() < PATIENCE, "the browser has not forgotten the shopper");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}

#[test]
fn with_the_script_a_page_whose_shopper_is_no_longer_known_says_so() {
    visit_own_page(true, async |page, server, origin| {
        page.client.goto(&origin).await.unwrap();
        page.press("#enter").await;
        page.wait_for("form.buy button:not([disabled])").await;
        page.client.delete_all_cookies().await.unwrap();
        page.press("form.buy button").await;
        page.says_that_it_knows_no_shopper().await;
        assert_eq!(server.audit()[0]["items"][0]["held"], 0);
    });
}

#[test]
fn with_the_script_a_page_does_not_outlive_its_cookie() {
    let set_up = |server: &Server| drop(server.open_sale("launch", &shop::spec(&[("phone", 1)])));
    let of_gate = "pass_ttl_seconds = 8\n";
    visit_configured(of_gate, "", set_up, true, async |page, _server, origin| {
        page.client.goto(&origin).await.unwrap();
        page.press("#enter").await;
        page.wait_for("form.buy button:not([disabled])").await;
        page.says_that_it_knows_no_shopper().await;
    });
}

impl Page {
    async fn says_that_it_knows_no_shopper(&self) {
        let start = Instant::now();
        loop {
            let shown = self.client.source().await.unwrap_or_default();
            if shown.contains("does not know you any more") {
                assert!(!shown.contains("<form"), "{shown}");
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{shown}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
