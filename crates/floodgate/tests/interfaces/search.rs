//! The shop's search on the real binary: its page in both languages, the same over the API, words
//! that no shopper means, and that changes of operators are found and a restart loses nothing.

use crate::{
    harness::{Server, poll},
    store::{Shopper, shop},
};
use serde_json::{Value, json};

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Waits until searches use the index and it has all changes.
fn caught_up(server: &Server, key: &str) -> Value {
    let url = format!("http://{}/api/v1/store/search", server.store);
    poll("the search's index is built", || {
        let figures = server.client.admin("GET", &url, key, "").json();
        (figures["is_built"] == true && figures["is_building"] == false && figures["behind"] == 0)
            .then_some(figures)
    })
}

#[test]
fn a_shopper_searches_in_two_languages() {
    let server = shop();
    let reader = server.new_key("reads", "read-only");
    let figures = caught_up(&server, &reader);
    assert_eq!(figures["documents"], 40, "{figures}");
    let shopper = Shopper::stranger(&server);
    let page = |words: &str, more: &str| shopper.get(&format!("/search?q={}{more}", encoded(words))).body;

    let found = page("speaker", "&lang=en");
    assert!(found.contains("Cove Speaker") && found.contains("Gulf Party Speaker"), "{found}");
    assert!(found.contains("Results for “speaker”") && found.contains("2 products"), "{found}");
    let found = page("battery", "&lang=en");
    let facets = found.split_once("<nav class=\"facets\"").expect("links to categories").1;
    let facets = facets.split_once("</nav>").unwrap().0;
    assert!(facets.starts_with(" aria-label=\"Narrow the results to a category\""), "{facets}");
    assert!(
        facets.contains("href=\"/search?q=%62") || facets.contains("href=\"/search?q=battery"),
        "{facets}"
    );
    assert!(facets.contains("category=phones\"") && facets.contains("category=wearables\""), "{facets}");
    let phones = page("battery", "&category=phones&lang=en");
    assert!(phones.contains("Flood One") && !phones.contains("Basin Watch"), "{phones}");
    assert!(phones.contains("aria-current=\"true\">Phones"), "{phones}");

    let found = page("hedphones", "&lang=en");
    assert!(
        found.contains("Showing results for “headphones”") && found.contains("Bay Headphones"),
        "{found}"
    );
    let found = page("手机", "&lang=zh");
    assert!(
        found.contains("激流 One") && found.contains("搜索：“手机”") && found.contains("件商品"),
        "{found}"
    );
    assert!(found.contains("aria-label=\"按分类筛选\""), "{found}");
    let found = page("头戴耳机", "&lang=zh");
    assert!(found.contains("海湾头戴耳机") && !found.contains("水滴耳机"), "{found}");
    let found = page("zzzzzz", "&lang=zh");
    assert!(found.contains("没有找到相关商品"), "{found}");
    let found = page("hedphones", "&lang=zh");
    assert!(found.contains("已为您显示“headphones”的结果"), "{found}");

    // The next page has what follows.
    let operator = server.new_key("op", "operator");
    let products = format!("http://{}/api/v1/store/products", server.store);
    let mut twin = server.client.get(&format!("{products}/harbour-lamp")).json();
    twin["name"]["en"] = "Twin".into();
    for number in 0..26 {
        twin["slug"] = format!("twin-{number}").into();
        twin["variants"][0]["sku"] = format!("T-{number}").into();
        let put = format!("{products}/twin-{number}");
        assert_eq!(server.client.admin("PUT", &put, &operator, &twin.to_string()).status, 200);
    }
    caught_up(&server, &reader);
    let first = page("twin", "&lang=en");
    let next = first.split_once("rel=\"next\" href=\"").expect("a link").1.split_once('"').unwrap().0;
    let second = shopper.get(&next.replace("&amp;", "&")).body;
    let links = |page: &str| -> Vec<String> {
        page.match_indices("href=\"/p/")
            .map(|(at, _)| page[at + 9..].split('"').next().unwrap().to_owned())
            .collect()
    };
    let (first, second) = (links(&first), links(&second));
    assert_eq!((first.len(), second.len()), (24, 2));
    assert!(second.iter().all(|slug| !first.contains(slug)), "{second:?}");

    // The same over the API.
    let url = products;
    let found = server.client.get(&format!("{url}?q=hedphones&limit=1")).json();
    assert_eq!(found["hits"]["total"], 2, "{found}");
    assert_eq!(found["hits"]["understood"], json!([{ "written": "hedphones", "taken_as": "headphones" }]));
    assert_eq!(found["hits"]["categories"], json!([{ "category": "audio", "count": 2 }]));
    let second =
        server.client.get(&format!("{url}?q=hedphones&limit=1&after={}", found["next"].as_str().unwrap()));
    assert_ne!(second.json()["rows"][0]["slug"], found["rows"][0]["slug"]);
    assert!(server.client.get(&format!("{url}?limit=1")).json()["hits"].is_null(), "no words were asked for");
    assert_eq!(server.client.get(&format!("{url}?q=x&after=12.phone")).status, 422);
}

#[test]
fn words_that_no_shopper_means_get_a_page() {
    let server = shop();
    caught_up(&server, &server.new_key("reads", "read-only"));
    let shopper = Shopper::stranger(&server);
    for words in [
        "\"", "'", "*", "a*", "AND", "OR", "NOT", "name:x", "x~2", "x^9", "[a TO z]", "%", "_", "\\", "(((",
        "\u{0}", "📱", "<b>",
    ] {
        let reply = shopper.get(&format!("/search?q={}&lang=en", encoded(words)));
        assert_eq!(reply.status, 200, "{words:?}");
        assert!(!reply.body.contains("<b>"), "{words:?}");
    }
    // Bytes that are no text, and too many of them.
    for (query, status) in [
        ("q=%ff%fe".to_owned(), 200),
        (format!("q={}", "x".repeat(10_000)), 431),
        (format!("q={}", "x".repeat(1_000)), 422),
        (format!("q={}", "%E6%89%8B".repeat(80)), 200),
        ("q=phone&after=-1".into(), 422),
        ("q=phone&after=99999999999999999999999".into(), 422),
        ("q=phone&after=1000".into(), 200),
        ("q=phone&category=nothing".into(), 200),
        ("q=phone&category=..%2f".into(), 404),
    ] {
        let reply = shopper.get(&format!("/search?{query}"));
        assert_eq!(reply.status, status, "{query:.60}");
    }
}

#[test]
fn changes_are_found_and_a_restart_builds_the_index_again() {
    let mut server = shop();
    let operator = server.new_key("op", "operator");
    caught_up(&server, &operator);
    let (slug, product) = {
        let url = format!("http://{}/api/v1/store/products/harbour-lamp", server.store);
        ("harbour-lamp", server.client.get(&url).json())
    };
    let find = |server: &Server, words: &str| {
        let url = format!("http://{}/api/v1/store/products?q={words}", server.store);
        server.client.get(&url).json()["rows"].as_array().unwrap().len()
    };
    let put = |server: &Server, product: &Value| {
        let url = format!("http://{}/api/v1/store/products/{slug}", server.store);
        assert_eq!(server.client.admin("PUT", &url, &operator, &product.to_string()).status, 200);
    };
    let mut renamed = product;
    renamed["name"]["en"] = "Lighthouse".into();
    put(&server, &renamed);
    poll("the new name is found", || (find(&server, "lighthouse") == 1).then_some(()));
    server.kill();
    server.restart();
    poll("the store is open", || {
        let url = format!("http://{}/api/v1/store/search", server.store);
        server
            .client
            .try_send("GET", &url, &[("authorization", &format!("Bearer {operator}"))], "")
            .ok()
            .map(drop)
    });
    assert_eq!(find(&server, "lighthouse"), 1, "the index may not be built yet");
    assert_eq!(caught_up(&server, &operator)["documents"], 40);
    assert_eq!(find(&server, "lighthouse"), 1);
    // What is unpublished is gone at once, whatever the index has.
    renamed["is_published"] = false.into();
    put(&server, &renamed);
    assert_eq!(find(&server, "lighthouse"), 0);
    let rebuild = format!("http://{}/api/v1/store/search/rebuild", server.store);
    assert_eq!(server.client.admin("POST", &rebuild, &operator, "").status, 200);
    assert_eq!(caught_up(&server, &operator)["documents"], 39);
    let metrics = format!("http://{}/metrics", server.store);
    let metrics = server.client.admin("GET", &metrics, &operator, "").body;
    assert!(metrics.contains("floodgate_store_search_documents 39\n"), "{metrics}");
    assert!(metrics.contains("floodgate_store_search_behind 0\n"), "{metrics}");
    assert!(metrics.contains("floodgate_store_cache_shared_failures_total 0\n"), "{metrics}");
    let reader = server.new_key("reads", "read-only");
    assert_eq!(server.client.admin("POST", &rebuild, &reader, "").status, 403);
}
