//! What every engine of the cache port must do. `fresh` opens an empty cache each time.

use super::{Cache, Key, Looked};
use std::{sync::Arc, time::Duration};

type Opened<'a> = std::pin::Pin<Box<dyn Future<Output = Arc<dyn Cache<Vec<u8>>>> + 'a>>;

const LONG: Duration = Duration::from_secs(60);
/// Longer than a look takes, also on a machine that is busy.
const SHORT: Duration = Duration::from_secs(2);

/// Runs the whole suite.
///
/// # Panics
/// At the first promise that the engine breaks.
pub async fn check(fresh: &mut dyn FnMut() -> Opened<'static>) {
    what_was_kept_is_given_to_its_key_alone(&*fresh().await).await;
    a_value_takes_the_place_of_the_one_before(&*fresh().await).await;
    a_value_goes_when_its_time_is_over(&*fresh().await).await;
    what_was_forgotten_is_not_given_and_comes_back_with_a_new_mark_only(&*fresh().await).await;
    all_groups_are_forgotten_at_once(&*fresh().await).await;
    names_that_are_too_long_keep_nothing(&*fresh().await).await;
}

async fn look(cache: &dyn Cache<Vec<u8>>, key: &Key) -> Looked<Vec<u8>> {
    cache.look(key).await.expect("it answers")
}

async fn keep(cache: &dyn Cache<Vec<u8>>, key: &Key, value: &[u8], kept_for: Duration) {
    let mark = look(cache, key).await.mark;
    cache.keep(key, value.to_vec(), kept_for, mark).await.expect("it is kept");
}

async fn forget(cache: &dyn Cache<Vec<u8>>, group: &str) {
    cache.forget(&[group.to_owned()]).await.expect("it is forgotten");
}

async fn value(cache: &dyn Cache<Vec<u8>>, key: &Key) -> Option<Vec<u8>> {
    look(cache, key).await.value
}

async fn what_was_kept_is_given_to_its_key_alone(cache: &dyn Cache<Vec<u8>>) {
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let key = Key::new("手机:1", "a b\r\n");
    assert_eq!(value(cache, &key).await, None, "it is empty");
    keep(cache, &key, &bytes, LONG).await;
    keep(cache, &Key::new("empty", ""), b"", LONG).await;
    assert_eq!(value(cache, &key).await, Some(bytes));
    assert_eq!(value(cache, &Key::new("empty", "")).await, Some(vec![]));
    for other in [("手机", "1:a b\r\n"), ("手机:1", "a b"), ("手机:1:a b\r\n", ""), ("", "手机:1:a b\r\n")]
    {
        assert_eq!(value(cache, &Key::new(other.0, other.1)).await, None, "{other:?}");
    }
}

async fn a_value_takes_the_place_of_the_one_before(cache: &dyn Cache<Vec<u8>>) {
    let key = Key::new("group", "one");
    for value_of in [&b"first"[..], b"", b"third"] {
        keep(cache, &key, value_of, LONG).await;
        assert_eq!(value(cache, &key).await.as_deref(), Some(value_of));
    }
}

async fn a_value_goes_when_its_time_is_over(cache: &dyn Cache<Vec<u8>>) {
    let (short, long) = (Key::new("group", "short"), Key::new("group", "long"));
    keep(cache, &short, b"short", SHORT).await;
    keep(cache, &long, b"long", LONG).await;
    keep(cache, &Key::new("group", "none"), b"none", Duration::ZERO).await;
    let left = look(cache, &short).await.left;
    assert!(left > Duration::ZERO && left <= SHORT, "{left:?}");
    assert_eq!(value(cache, &short).await.as_deref(), Some(&b"short"[..]));
    assert_eq!(value(cache, &Key::new("group", "none")).await, None);
    tokio::time::sleep(SHORT + Duration::from_millis(100)).await;
    assert_eq!(value(cache, &short).await, None);
    assert_eq!(value(cache, &long).await.as_deref(), Some(&b"long"[..]));
}

async fn what_was_forgotten_is_not_given_and_comes_back_with_a_new_mark_only(cache: &dyn Cache<Vec<u8>>) {
    let (key, sibling, other) = (Key::new("group", "1"), Key::new("group", "2"), Key::new("other", "1"));
    let before = look(cache, &key).await.mark;
    for kept in [&key, &sibling, &other] {
        keep(cache, kept, b"old", LONG).await;
    }
    forget(cache, "group").await;
    assert_eq!((value(cache, &key).await, value(cache, &sibling).await), (None, None));
    assert_eq!(value(cache, &other).await.as_deref(), Some(&b"old"[..]), "its group was not forgotten");
    let after = look(cache, &key).await.mark;
    assert_ne!(before, after);
    // Somebody who has read it before it was changed is slow.
    cache.keep(&key, b"late".to_vec(), LONG, before).await.expect("it answers");
    assert_eq!(value(cache, &key).await, None);
    cache.keep(&key, b"new".to_vec(), LONG, after).await.expect("it answers");
    assert_eq!(value(cache, &key).await.as_deref(), Some(&b"new"[..]));
    cache.forget(&[]).await.expect("there is nothing to forget");
    assert_eq!(value(cache, &key).await.as_deref(), Some(&b"new"[..]));
    // It does not come back when it is forgotten as often as before.
    for _ in 0..3 {
        forget(cache, "group").await;
        assert_eq!(value(cache, &key).await, None);
    }
}

async fn all_groups_are_forgotten_at_once(cache: &dyn Cache<Vec<u8>>) {
    let keys: Vec<Key> = (0..50).map(|number| Key::new(format!("group{number}"), "one")).collect();
    let before = look(cache, &keys[7]).await.mark;
    for key in &keys {
        keep(cache, key, b"old", LONG).await;
        assert!(value(cache, key).await.is_some());
    }
    cache.forget_all().await.expect("it answers");
    cache.keep(&keys[7], b"late".to_vec(), LONG, before).await.expect("it answers");
    for key in &keys {
        assert_eq!(value(cache, key).await, None, "{key:?}");
    }
    keep(cache, &keys[7], b"new", LONG).await;
    assert_eq!(value(cache, &keys[7]).await.as_deref(), Some(&b"new"[..]));
}

async fn names_that_are_too_long_keep_nothing(cache: &dyn Cache<Vec<u8>>) {
    let (most, more) = ("x".repeat(super::NAME_BYTES_MAX), "x".repeat(super::NAME_BYTES_MAX + 1));
    keep(cache, &Key::new(&*most, &*most), b"kept", LONG).await;
    assert!(value(cache, &Key::new(&*most, &*most)).await.is_some());
    for key in [Key::new(&*more, ""), Key::new("", &*more)] {
        keep(cache, &key, b"not kept", LONG).await;
        assert_eq!(value(cache, &key).await, None);
    }
}
