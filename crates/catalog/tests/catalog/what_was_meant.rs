//! Words as shoppers write them: plurals, beginnings, mistakes, SKUs, both languages; and which hit
//! comes first.

use crate::harness::{Shop, on_sqlite, product, said, search, slugs};
use contracts::store::{Localized, Understood};

async fn fill(shop: &Shop) {
    let none = Localized::default;
    let all = [
        product(
            "brook-mini",
            "phones",
            said("Brook Mini", "小溪 Mini"),
            said("A small phone.", "小屏手机。"),
        ),
        product("brook-case", "home", said("Case for Brook", "小溪保护壳"), none()),
        product(
            "bay",
            "audio",
            said("Bay Headphones", "海湾头戴耳机"),
            said("For the brook, too.", "安静。"),
        ),
        product("batteries", "home", said("Two Batteries 67W", "两节电池"), none()),
        product("broke", "home", said("Broke", "破产"), none()),
    ];
    for product in all {
        shop.services[0].put(product).await.unwrap();
    }
    shop.caught_up().await;
}

#[test]
fn shoppers_find_what_they_mean() {
    on_sqlite(async |shop: &Shop| {
        fill(shop).await;
        let service = &shop.services[0];
        for (words, want, understood) in [
            // A name comes before a description.
            ("brook", vec!["brook-mini", "brook-case", "bay"], None),
            ("BROOK mini", vec!["brook-mini"], None),
            ("headphone", vec!["bay"], None),
            ("battery", vec!["batteries"], None),
            ("67w", vec!["batteries"], None),
            ("67 w", vec!["batteries"], None),
            ("head", vec!["bay"], None),
            ("phones", vec!["brook-mini"], None),
            ("手机", vec!["brook-mini"], None),
            ("小溪", vec!["brook-mini", "brook-case"], None),
            ("小溪保护壳", vec!["brook-case"], None),
            ("小溪 case", vec!["brook-case"], None),
            ("壳", vec!["brook-case"], None),
            ("ＢＲＯＯＫ　ｍｉｎｉ", vec!["brook-mini"], None),
            ("BROOK-MINI", vec!["brook-mini"], None),
            ("耳机 brook", vec!["bay"], None),
            ("headphnoes", vec!["bay"], Some(("headphnoes", "headphones"))),
            ("haedphnoes", vec!["bay"], Some(("haedphnoes", "headphones"))),
            // Of the words that are as near, the one that goes with the others.
            ("brokk mini", vec!["brook-mini"], Some(("brokk", "brook"))),
            ("mini brokk", vec!["brook-mini"], Some(("brokk", "brook"))),
            ("brokk", vec!["brook-mini", "brook-case", "bay"], Some(("brokk", "brook"))),
            // Too short, too far, or no word.
            ("bok", vec![], None),
            ("zzzzzzzzz", vec![], None),
            ("手鸡", vec![], None),
            ("68w", vec![], None),
            ("brook lamp", vec![], None),
            ("%", vec![], None),
        ] {
            let found = search(service, words).await;
            let hits = found.hits.clone().expect("the index answers");
            assert_eq!(slugs(&found), want, "{words}");
            let said: Vec<Understood> = understood
                .map(|(written, taken_as)| Understood {
                    written: written.to_owned(),
                    taken_as: taken_as.to_owned(),
                })
                .into_iter()
                .collect();
            assert_eq!(hits.understood, said, "{words}");
        }
    });
}

/// A product that is not published lends its words to no search.
#[test]
fn words_of_what_is_not_published_are_not_told() {
    on_sqlite(async |shop: &Shop| {
        let service = &shop.services[0];
        let mut secret = product("secret", "phones", said("Moonshine", "月光"), Localized::default());
        secret.is_published = false;
        service.put(secret.clone()).await.unwrap();
        shop.caught_up().await;
        let found = search(service, "moonshime").await;
        assert_eq!((found.rows.len(), found.hits.unwrap().understood), (0, vec![]));
        secret.is_published = true;
        service.put(secret.clone()).await.unwrap();
        shop.caught_up().await;
        assert_eq!(search(service, "moonshime").await.hits.unwrap().understood[0].taken_as, "moonshine");
        secret.is_published = false;
        service.put(secret).await.unwrap();
        shop.caught_up().await;
        assert_eq!(search(service, "moonshime").await.hits.unwrap().understood, vec![]);
    });
}
