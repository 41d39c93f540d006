//! The service over SQLite.

use super::*;
use contracts::store::{Localized, OfferedIn, Variant};
use engines::clock::SteadyClock;
use units::Money;

fn said(en: &str, zh: &str) -> Localized {
    Localized { en: en.into(), zh: zh.into() }
}

fn product(slug: &str, name: Localized, price_minor: u64) -> Product {
    let price = Money { amount_minor: price_minor, currency: "CNY".parse().unwrap() };
    let variant = Variant {
        sku: slug.to_uppercase().parse().unwrap(),
        name: Localized::default(),
        price,
        offered_in: vec![],
    };
    Product {
        slug: slug.parse().unwrap(),
        description: said("", ""),
        name,
        category: "all".parse().unwrap(),
        variants: vec![variant],
        pictures: vec![],
        position: 1,
        is_published: true,
    }
}

async fn catalogue() -> (Arc<Service>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let sql = engines::sqlite::open(&dir.path().join("catalog.db")).unwrap();
    let service = Service::open(sql, Arc::new(SteadyClock::start())).await.unwrap();
    let all = Category { slug: "all".parse().unwrap(), name: said("All", "全部") };
    service.put_categories(vec![all]).await.unwrap();
    (service, dir)
}

fn slugs(page: &Listings) -> Vec<&str> {
    page.rows.iter().map(|listing| listing.slug.as_str()).collect()
}

#[tokio::test]
async fn products_are_listed_page_by_page_and_found_in_both_languages() {
    let (service, _dir) = catalogue().await;
    for (slug, en, zh) in
        [("a1", "Phone 100%", "手机"), ("b2", "Ear_buds", "无线耳机"), ("c3", "Phone case", "手机壳")]
    {
        service.put(product(slug, said(en, zh), 100)).await.unwrap();
    }
    let mut first = product("z9", said("New", "新品"), 100);
    first.position = 0;
    service.put(first).await.unwrap();
    let ask = async |words: Option<&str>, after: Option<&str>, at_most| {
        let (words, after) = (words.map(str::to_owned), after.map(str::to_owned));
        service.products(ProductQuery { category: None, words, after, at_most }).await.unwrap()
    };
    let first = ask(None, None, 2).await;
    assert_eq!((slugs(&first), first.next.as_deref()), (vec!["z9", "a1"], Some("1.a1")));
    let second = ask(None, first.next.as_deref(), 2).await;
    assert_eq!((slugs(&second), second.next.as_deref()), (vec!["b2", "c3"], None));
    for (words, want) in [
        ("phone", vec!["a1", "c3"]),
        ("PHONE case", vec!["c3"]),
        ("手机", vec!["a1", "c3"]),
        ("耳机", vec!["b2"]),
        ("100%", vec!["a1"]),
        ("%", vec!["a1"]),
        ("r_b", vec!["b2"]),
        ("' OR '1'='1", vec![]),
    ] {
        assert_eq!(slugs(&ask(Some(words), None, 10).await), want, "{words}");
    }
}

#[tokio::test]
async fn a_product_is_replaced_as_a_whole_and_units_have_one_product() {
    let (service, _dir) = catalogue().await;
    let mut phone = product("phone", said("Phone", "手机"), 100);
    phone.variants[0].offered_in =
        vec![OfferedIn { sale: "launch".parse().unwrap(), item: "phone".parse().unwrap() }];
    service.put(phone.clone()).await.unwrap();
    assert_eq!(service.of_sale("launch".parse().unwrap()).await, Ok(vec![phone.clone()]));
    let asked = ["NONE", "PHONE"].map(|sku| sku.parse().unwrap()).to_vec();
    let for_sale = service.for_sale(asked).await.unwrap();
    assert_eq!(for_sale.iter().map(|of| of.product.as_str()).collect::<Vec<_>>(), ["phone"]);
    let mut other = product("other", said("Other", "其他"), 100);
    other.variants[0].sku = phone.variants[0].sku.clone();
    let taken = service.put(other.clone()).await.unwrap_err();
    assert_eq!(taken.to_string(), "sku PHONE: the product phone has it already");
    assert_eq!(service.find(other.slug.clone()).await, Ok(None), "nothing of it was stored");

    phone.variants[0].sku = "PHONE-2".parse().unwrap();
    phone.variants[0].offered_in.clear();
    phone.is_published = false;
    service.put(phone.clone()).await.unwrap();
    assert_eq!(service.of_sale("launch".parse().unwrap()).await, Ok(vec![]));
    assert_eq!(service.product(phone.slug.clone()).await, Ok(None), "it is not published");
    assert_eq!(service.for_sale(vec!["PHONE-2".parse().unwrap()]).await, Ok(vec![]));
    service.put(other).await.unwrap();
    assert_eq!(service.remove(phone.slug.clone()).await, Ok(true));
    assert_eq!(service.remove(phone.slug).await, Ok(false));
}

#[tokio::test]
async fn a_product_of_no_category_is_refused() {
    let (service, _dir) = catalogue().await;
    let mut phone = product("phone", said("Phone", "手机"), 100);
    phone.category = "nowhere".parse().unwrap();
    assert_eq!(service.put(phone).await.unwrap_err().to_string(), "category: there is no such category");
}

fn sheet_product(number: u64, slug: &str) -> SheetProduct {
    SheetProduct { line: number + 2, product: product(slug, said("Thing", "东西"), 100 + number) }
}

#[tokio::test]
async fn a_sheet_is_stored_and_keeps_what_it_does_not_say() {
    let (service, _dir) = catalogue().await;
    let mut phone = product("p7", said("Phone", "手机"), 1);
    let sale = OfferedIn { sale: "launch".parse().unwrap(), item: "phone".parse().unwrap() };
    phone.variants[0].offered_in = vec![sale.clone()];
    service.put(phone).await.unwrap();
    // More than one transaction takes.
    let all: Vec<_> = (0..250).map(|n| sheet_product(n, &format!("p{n}"))).collect();
    assert_eq!(service.import("op", all).await, Ok(250));
    let stored = service.find("p7".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((stored.name, stored.variants[0].price.amount_minor), (said("Thing", "东西"), 107));
    assert_eq!(stored.variants[0].offered_in, [sale]);
    assert!(service.find("p249".parse().unwrap()).await.unwrap().is_some());
}

/// What was told since: kind and subject of each event, in their order.
async fn told(service: &Service) -> Vec<String> {
    let take = service.sql.write(|tx| {
        let text = "SELECT body FROM outbox ORDER BY number";
        let told = tx.query(text, &[], |row| row.text(0))?;
        tx.execute("DELETE FROM outbox", &[])?;
        Ok::<_, SqlError>(told)
    });
    let line = |event: &String| {
        let event: serde_json::Value = serde_json::from_str(event).unwrap();
        let text = |of: &str| event[of].as_str().unwrap().to_owned();
        format!("{} {}", text("type").trim_start_matches("floodgate."), text("subject"))
    };
    take.await.unwrap().iter().map(line).collect()
}

#[tokio::test]
async fn each_change_is_told_once_and_what_is_as_it_was_is_not() {
    let (service, _dir) = catalogue().await;
    assert_eq!(told(&service).await, ["category.changed category/all"]);
    let all = Category { slug: "all".parse().unwrap(), name: said("All", "全部") };
    service.put_categories(vec![all]).await.unwrap();
    let mut phone = product("phone", said("Phone", "手机"), 100);
    phone.is_published = false;
    service.put(phone.clone()).await.unwrap();
    service.put(phone.clone()).await.unwrap();
    assert_eq!(told(&service).await, ["product.changed product/phone"], "once, as it is hidden");
    phone.is_published = true;
    service.put(phone.clone()).await.unwrap();
    service.put(phone.clone()).await.unwrap();
    phone.position = 7;
    service.put(phone.clone()).await.unwrap();
    phone.is_published = false;
    service.put(phone.clone()).await.unwrap();
    assert_eq!(service.remove(phone.slug.clone()).await, Ok(true));
    assert_eq!(service.remove(phone.slug.clone()).await, Ok(false));
    phone.category = "nowhere".parse().unwrap();
    assert!(service.put(phone).await.is_err());
    let want = ["published", "changed", "unpublished", "removed"];
    assert_eq!(told(&service).await, want.map(|what| format!("product.{what} product/phone")));
    let names = [("all", "All"), ("new", "New")];
    let category =
        |(slug, name): (&str, &str)| Category { slug: slug.parse().unwrap(), name: said(name, "全部") };
    service.put_categories(names.map(category).to_vec()).await.unwrap();
    assert_eq!(told(&service).await, ["category.changed category/new"]);
    let (kept, gone) = (vec![category(("all", "Everything"))], vec!["new".parse().unwrap()]);
    let seen = categories_mark(&service.categories().await.unwrap());
    service.arrange_categories("op".into(), kept, gone, seen).await.unwrap();
    assert_eq!(told(&service).await, ["category.removed category/new", "category.changed category/all"]);
    // A sheet tells of each product that it changes.
    let sheet = || (0..250).map(|n| sheet_product(n, &format!("p{n}"))).collect::<Vec<_>>();
    assert_eq!(service.import("op", sheet()).await, Ok(250));
    assert_eq!(told(&service).await.len(), 250);
    assert_eq!(service.import("op", sheet()).await, Ok(250));
    assert!(told(&service).await.is_empty());
}

#[tokio::test]
async fn a_sheet_with_a_unit_of_another_product_stores_nothing() {
    let (service, _dir) = catalogue().await;
    service.put(product("other", said("Other", "其他"), 1)).await.unwrap();
    let mut all: Vec<_> = (0..250).map(|n| sheet_product(n, &format!("p{n}"))).collect();
    all[200].product.variants[0].sku = "OTHER".parse().unwrap();
    let refused = service.import("op", all).await.unwrap_err();
    assert_eq!((refused.line, refused.stored), (202, 0));
    assert_eq!(refused.why.to_string(), "sku OTHER: the product other has it already");
    assert_eq!(service.find("p0".parse().unwrap()).await, Ok(None));
}

#[tokio::test]
async fn what_was_changed_meanwhile_is_not_overwritten() {
    let (service, _dir) = catalogue().await;
    let phone = product("phone", said("Phone", "手机"), 1);
    service.put_seen("op".into(), phone.clone(), None).await.unwrap();
    let seen = Some(mark(&phone));
    let changed = product("phone", said("Phone 2", "手机 2"), 2);
    service.put_seen("op".into(), changed.clone(), seen.clone()).await.unwrap();
    for seen in [None, seen] {
        let late = service.put_seen("op".into(), phone.clone(), seen).await;
        assert!(matches!(late, Err(StoreError::Conflict(_))), "{late:?}");
    }
    assert_eq!(service.find(phone.slug).await, Ok(Some(changed)));
}
