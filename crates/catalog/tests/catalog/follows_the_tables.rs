//! The index is a function of the tables: it follows changes of all processes, comes back after a
//! restart, and is built anew when it is told to or has missed something. What is not published is
//! not shown, also before the index knows.

use crate::harness::{Shop, caught_up, on_mariadb, on_sqlite, product, said, search, slugs};
use catalog::sheet::SheetProduct;
use contracts::store::{Catalog as _, Category, Localized, ProductQuery};
use engines::sql::SqlError;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::task::JoinSet;

#[test]
fn changes_are_followed() {
    on_sqlite(async |shop: &Shop| {
        let [service] = &shop.services[..] else { panic!("one service") };
        let mut phone = product("phone", "phones", said("Flood One", "激流"), Localized::default());
        service.put(phone.clone()).await.unwrap();
        shop.caught_up().await;
        assert_eq!(slugs(&search(service, "flood").await), ["phone"]);
        // A new name.
        phone.name = said("Brook", "小溪");
        service
            .put_seen(
                "op".into(),
                phone.clone(),
                Some(catalog::service::mark(&service.find(phone.slug.clone()).await.unwrap().unwrap())),
            )
            .await
            .unwrap();
        shop.caught_up().await;
        assert_eq!(slugs(&search(service, "flood").await), [] as [&str; 0]);
        assert_eq!(slugs(&search(service, "小溪").await), ["phone"]);
        // A sheet.
        let lamp = product("lamp", "home", said("Lamp", "台灯"), Localized::default());
        service.import("op", vec![SheetProduct { line: 2, product: lamp }]).await.unwrap();
        shop.caught_up().await;
        assert_eq!(slugs(&search(service, "lamp").await), ["lamp"]);
        // A category's name.
        assert_eq!(slugs(&search(service, "home").await), ["lamp"]);
        let garden = Category { slug: "home".parse().unwrap(), name: said("Garden", "花园") };
        service.put_categories(vec![garden]).await.unwrap();
        shop.caught_up().await;
        assert_eq!(slugs(&search(service, "garden").await), ["lamp"]);
        assert_eq!(slugs(&search(service, "花园").await), ["lamp"]);
        assert_eq!(slugs(&search(service, "家居").await), [] as [&str; 0]);
        // Gone.
        service.remove("lamp".parse().unwrap()).await.unwrap();
        shop.caught_up().await;
        let found = search(service, "lamp").await;
        assert_eq!((found.rows.len(), found.hits.unwrap().total), (0, 0));
    });
}

#[test]
fn what_was_just_unpublished_or_deleted_is_not_shown() {
    on_sqlite(async |shop: &Shop| {
        let [service] = &shop.services[..] else { panic!("one service") };
        let of = |slug: &str| product(slug, "phones", said("Phone", "手机"), Localized::default());
        for slug in ["a", "b", "c"] {
            service.put(of(slug)).await.unwrap();
        }
        shop.caught_up().await;
        shop.stop_following().await;
        let mut hidden = of("b");
        hidden.is_published = false;
        service.put(hidden).await.unwrap();
        service.remove("c".parse().unwrap()).await.unwrap();
        let found = search(service, "phone").await;
        assert_eq!(slugs(&found), ["a"]);
        assert_eq!(found.hits.unwrap().total, 3, "it was answered by the index, which does not know yet");
        assert_eq!(service.search_figures().await.unwrap().behind, 2);
        shop.follow();
        shop.caught_up().await;
        let found = search(service, "phone").await;
        assert_eq!((slugs(&found), found.hits.clone().unwrap().total), (vec!["a"], 1));
    });
}

#[test]
fn more_changes_than_one_step_reads_are_followed() {
    on_sqlite(async |shop: &Shop| {
        let [service] = &shop.services[..] else { panic!("one service") };
        shop.caught_up().await;
        shop.stop_following().await;
        for number in 0..250 {
            let slug = format!("p{number:03}");
            service.put(product(&slug, "phones", said("Phone", "手机"), Localized::default())).await.unwrap();
        }
        shop.follow();
        shop.caught_up().await;
        assert_eq!(service.search_figures().await.unwrap().documents, 250);
    });
}

#[test]
fn a_start_builds_the_index_and_searches_compare_texts_until_then() {
    on_sqlite(async |shop: &Shop| {
        let [service] = &shop.services[..] else { panic!("one service") };
        // More than one step reads.
        for number in 0..250 {
            let slug = format!("p{number:03}");
            service.put(product(&slug, "phones", said("Phone", "手机"), Localized::default())).await.unwrap();
        }
        let other = shop.another().await;
        assert!(!other.search_figures().await.unwrap().is_built);
        let page = |after: Option<String>| ProductQuery {
            words: Some("phone".into()),
            after,
            at_most: 100,
            category: None,
        };
        // The pages of a search go on, whichever way answers.
        let first = other.products(page(None)).await.unwrap();
        assert_eq!((first.rows.len(), first.next.as_deref(), first.hits), (100, Some("100"), None));
        let _following = other.start();
        caught_up(&other).await;
        assert_eq!(other.search_figures().await.unwrap().documents, 250);
        let second = other.products(page(first.next)).await.unwrap();
        assert_eq!((slugs(&second)[0], second.next.as_deref()), ("p100", Some("200")));
        let third = other.products(page(second.next)).await.unwrap();
        assert_eq!((third.rows.len(), third.next, third.hits.unwrap().total), (50, None, 250));
        for wrong in ["-1", "1001", "x", "1.p1"] {
            assert!(other.products(page(Some(wrong.into()))).await.is_err(), "{wrong}");
        }
    });
}

#[test]
fn a_process_that_has_missed_what_was_forgotten_builds_its_index_anew() {
    const EIGHT_DAYS_MS: u64 = 8 * 24 * 3600 * 1000;
    on_sqlite(async |shop: &Shop| {
        let [service] = &shop.services[..] else { panic!("one service") };
        let of = |slug: &str, name: &str| product(slug, "phones", said(name, "机"), Localized::default());
        service.put(of("a", "Old")).await.unwrap();
        shop.caught_up().await;
        shop.stop_following().await;
        service.put(of("a", "New")).await.unwrap();
        service.put(of("b", "Phone")).await.unwrap();
        shop.clock.advance(EIGHT_DAYS_MS);
        // Another process forgets what is that old.
        let other = shop.another().await;
        let following = other.start();
        caught_up(&other).await;
        drop(following);
        service.put(of("c", "Later")).await.unwrap();
        assert_eq!(slugs(&search(service, "old").await), ["a"], "this one has not followed");
        shop.follow();
        shop.caught_up().await;
        for (words, want) in
            [("old", vec![]), ("new", vec!["a"]), ("phone", vec!["b", "a", "c"]), ("later", vec!["c"])]
        {
            let mut found: Vec<String> =
                slugs(&search(service, words).await).iter().map(ToString::to_string).collect();
            found.sort();
            let mut want = want;
            want.sort_unstable();
            // All are in the category of phones.
            assert_eq!(found, want, "{words}");
        }
    });
}

/// Numbers are given in the order of commits: otherwise a process that has seen the second of two
/// changes would never look for the first.
#[test]
fn a_change_waits_until_the_one_before_it_is_committed() {
    on_mariadb(async |shop: &Shop| {
        let (begun, is_over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (began, ends) = (Arc::clone(&begun), Arc::clone(&is_over));
        let first = shop.sql[1].clone();
        let first = tokio::spawn(async move {
            let slow = first.write(move |tx| {
                let number = "UPDATE catalog_state SET number = number + 1 WHERE id = 1";
                tx.execute(number, &[])?;
                began.store(true, SeqCst);
                std::thread::sleep(Duration::from_millis(700));
                ends.store(true, SeqCst);
                Ok::<_, SqlError>(())
            });
            slow.await.unwrap();
        });
        while !begun.load(SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let phone = product("phone", "phones", said("Phone", "手机"), Localized::default());
        shop.services[0].put(phone).await.unwrap();
        assert!(is_over.load(SeqCst), "the second change was stored while the first was not");
        first.await.unwrap();
        shop.caught_up().await;
    });
}

#[test]
fn two_processes_that_change_at_once_miss_nothing() {
    on_mariadb(async |shop: &Shop| {
        let mut changes = JoinSet::new();
        for number in 0..400 {
            let service = shop.services[number % 2].clone();
            changes.spawn(async move {
                // Each is changed twice, by both.
                let slug = format!("p{:03}", number / 2);
                let of = product(&slug, "phones", said("Phone", "手机"), Localized::default());
                service.put(of).await.unwrap();
            });
        }
        changes.join_all().await;
        shop.caught_up().await;
        for service in &shop.services {
            assert_eq!(service.search_figures().await.unwrap().documents, 200);
            assert_eq!(search(service, "手机").await.hits.unwrap().total, 200);
        }
        // Both build theirs anew.
        shop.services[0].rebuild_search().await.unwrap();
        shop.caught_up().await;
        for service in &shop.services {
            assert_eq!(service.search_figures().await.unwrap().documents, 200);
        }
    });
}
