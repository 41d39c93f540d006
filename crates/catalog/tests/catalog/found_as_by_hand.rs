//! Products and changes at random: what the index finds, and counts in each category, is what a
//! comparison of each text with each word finds.

use crate::harness::{CATEGORIES, Shop, on_mariadb, on_sqlite, product, said, search};
use contracts::store::{Catalog as _, CategoryHits, Product, ProductQuery};
use std::collections::{BTreeMap, BTreeSet};
use units::Prng;

const WORDS: [&str; 12] = [
    "flood",
    "brook",
    "canal",
    "delta",
    "phone",
    "phonograph",
    "kettle",
    "lamp",
    "quiet",
    "bright",
    "pro",
    "mini",
];
const HAN: [&str; 6] = ["手", "机", "壳", "音", "箱", "灯"];

fn text(random: &mut Prng, words: u64) -> (String, String) {
    let count = random.below(words + 1);
    let en: Vec<&str> = (0..count).map(|_| *random.pick(&WORDS)).collect();
    let count = random.below(words + 1);
    let zh: String =
        (0..count).map(|_| *random.pick(&[HAN[0], HAN[1], HAN[2], HAN[3], HAN[4], HAN[5], "，"])).collect();
    (en.join(if random.percent(50) { " " } else { ", " }), zh)
}

fn any_product(random: &mut Prng) -> Product {
    let slug = format!("p{}", random.below(40));
    let (en, zh) = text(random, 3);
    let (about_en, about_zh) = text(random, 5);
    let category = random.pick(&CATEGORIES).0;
    let name = said(&format!("Q {en}"), &format!("Q{zh}"));
    let mut product = product(&slug, category, name, said(&about_en.to_uppercase(), &about_zh));
    product.is_published = random.percent(80);
    product.position = random.below(3) as u32;
    product
}

/// Whether it has all words, by comparing texts.
fn has_all(product: &Product, query: &[String]) -> bool {
    let category = CATEGORIES.iter().find(|(slug, ..)| *slug == product.category.as_str()).unwrap();
    let all = [
        &product.name.en,
        &product.name.zh,
        &product.description.en,
        &product.description.zh,
        category.1,
        category.2,
    ];
    let all: Vec<String> = all.iter().map(|text| text.to_lowercase()).collect();
    let words: BTreeSet<&str> = all.iter().flat_map(|text| text.split([' ', ','])).collect();
    (0..).zip(query).all(|(at, word)| {
        let is_last = at + 1 == query.len();
        if word.is_ascii() {
            // The plural of a category's name is found by the singular.
            return words.contains(word.as_str())
                || (word == "phone" && words.contains("phones"))
                || (is_last && word.len() > 1 && words.iter().any(|known| known.starts_with(word.as_str())));
        }
        let characters: Vec<char> = word.chars().collect();
        let pairs = characters.windows(2).map(|pair| pair.iter().collect::<String>());
        let pairs: Vec<String> = if characters.len() == 1 { vec![word.clone()] } else { pairs.collect() };
        pairs.iter().all(|pair| all.iter().any(|text| text.contains(pair.as_str())))
    })
}

fn any_query(random: &mut Prng) -> Vec<String> {
    let count = 1 + random.below(3);
    let mut words: Vec<String> = Vec::new();
    for _ in 0..count {
        words.push(match random.below(4) {
            0 => (0..1 + random.below(3)).map(|_| *random.pick(&HAN)).collect(),
            _ => (*random.pick(&WORDS)).to_owned(),
        });
    }
    // The beginning of a word, short enough that it is not taken for another one.
    if random.percent(30) {
        let word = *random.pick(&WORDS);
        words.push(word[..2 + random.below(2) as usize].to_owned());
    }
    words
}

async fn random_changes(shop: &Shop, seed: u64, rounds: usize) {
    let mut random = Prng::new(seed);
    let mut stored = BTreeMap::<String, Product>::new();
    let mut seen_hits = 0;
    for round in 0..rounds {
        for _ in 0..15 {
            let service = random.pick(&shop.services);
            let product = any_product(&mut random);
            let slug = product.slug.to_string();
            if random.percent(25) {
                let was_there = service.remove(product.slug.clone()).await.unwrap();
                assert_eq!(was_there, stored.remove(&slug).is_some());
            } else {
                service.put(product.clone()).await.unwrap();
                stored.insert(slug, product);
            }
        }
        if random.percent(20) {
            random.pick(&shop.services).rebuild_search().await.unwrap();
        }
        shop.caught_up().await;
        for _ in 0..25 {
            let query = any_query(&mut random);
            let published = stored.values().filter(|product| product.is_published);
            let want: Vec<&Product> = published.filter(|product| has_all(product, &query)).collect();
            let mut categories = BTreeMap::<String, u64>::new();
            for product in &want {
                *categories.entry(product.category.to_string()).or_default() += 1;
            }
            let want_slugs: BTreeSet<&str> = want.iter().map(|product| product.slug.as_str()).collect();
            for service in &shop.services {
                let what = format!("seed {seed}, round {round}, {query:?}");
                let found = search(service, &query.join(" ")).await;
                let hits = found.hits.expect("the index answers");
                if !hits.understood.is_empty() {
                    // No product has the word at the moment, and another one was taken.
                    assert_eq!(want.len(), 0, "{what}");
                    continue;
                }
                let slugs: BTreeSet<&str> = found.rows.iter().map(|row| row.slug.as_str()).collect();
                assert_eq!(slugs.len(), found.rows.len(), "{what}: one comes twice");
                assert_eq!(slugs, want_slugs, "{what}");
                assert_eq!(hits.total, want.len() as u64, "{what}");
                let counted: BTreeMap<String, u64> = hits
                    .categories
                    .into_iter()
                    .map(|CategoryHits { category, count }| (category.to_string(), count))
                    .collect();
                assert_eq!(counted, categories, "{what}");
                let phones = ProductQuery {
                    words: Some(query.join(" ")),
                    category: Some("phones".parse().unwrap()),
                    at_most: 100,
                    after: None,
                };
                let phones = service.products(phones).await.unwrap().rows.len() as u64;
                assert_eq!(phones, categories.get("phones").copied().unwrap_or(0), "{what}");
            }
            seen_hits += want.len();
        }
    }
    assert!(seen_hits > 50 * rounds / 10, "{seen_hits} hits prove little");
}

#[test]
fn searches_find_what_a_comparison_finds() {
    for seed in [1, 2, 3] {
        on_sqlite(async |shop: &Shop| random_changes(shop, seed, 12).await);
    }
}

#[test]
fn two_processes_on_mariadb_find_the_same() {
    on_mariadb(async |shop: &Shop| random_changes(shop, 4, 8).await);
}
