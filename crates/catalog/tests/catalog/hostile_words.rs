//! Words that no shopper means: they are answered, by the index and without it, and cost little.

use crate::harness::{Shop, on_sqlite, product, said, search};
use contracts::store::{Catalog as _, Localized, ProductQuery, StoreError};
use tokio::task::JoinSet;

fn words() -> Vec<String> {
    let mut all: Vec<String> = [
        "\"",
        "'",
        "*",
        "a*",
        "AND",
        "OR NOT",
        "name:phone",
        "phone~2",
        "phone^9",
        "[a TO z]",
        "%",
        "_",
        "!",
        "\\",
        "(((",
        "' OR '1'='1",
        "; DROP TABLE products--",
        "\u{0}\u{1}\u{1b}",
        "\u{202e}phone",
        "📱",
        "e\u{301}\u{301}\u{301}",
        "ﷺ",
        "ß",
        "İ",
        "手\u{fe0f}机",
        "--",
        "-phone",
        "+phone",
        "<script>alert(1)</script>",
        "../../etc/passwd",
    ]
    .map(str::to_owned)
    .into();
    all.push("x".repeat(10_000));
    all.push("手".repeat(10_000));
    all.push("\u{301}".repeat(10_000));
    all.push("ﷺ".repeat(3_000));
    all.push((0..2_000).map(|number| format!("wrongword{number} ")).collect());
    all.push("phone-".repeat(2_000));
    all
}

#[test]
fn whatever_is_asked_is_answered() {
    on_sqlite(async |shop: &Shop| {
        let service = &shop.services[0];
        service.put(product("phone", "phones", said("Phone", "手机"), Localized::default())).await.unwrap();
        shop.caught_up().await;
        let other = shop.another().await;
        for words in words() {
            let found = search(service, &words).await;
            assert!(found.rows.len() <= 1);
            let compared = search(&other, &words).await;
            assert_eq!(compared.hits, None);
        }
        for (words, count) in
            [("+phone", 1), ("\u{202e}phone", 1), ("手\u{fe0f}机", 1), ("phone AND 手机", 0)]
        {
            assert_eq!(search(service, words).await.rows.len(), count, "{words:?}");
        }
    });
}

#[test]
fn more_searches_than_can_wait_are_refused_and_the_next_one_is_served() {
    on_sqlite(async |shop: &Shop| {
        let service = &shop.services[0];
        service.put(product("phone", "phones", said("Phone", "手机"), Localized::default())).await.unwrap();
        shop.caught_up().await;
        let mut asked = JoinSet::new();
        for _ in 0..500 {
            let service = service.clone();
            let query = ProductQuery { words: Some("phonr".into()), at_most: 10, ..ProductQuery::default() };
            asked.spawn(async move { service.products(query).await });
        }
        let mut answered = 0;
        for answer in asked.join_all().await {
            match answer {
                Ok(found) => answered += found.rows.len(),
                Err(StoreError::Unavailable(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert!(answered >= 66, "{answered} were answered, and so many may wait");
        assert_eq!(search(service, "phone").await.rows.len(), 1);
    });
}
