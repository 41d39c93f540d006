//! What operators do with an account, against what its shopper can do meanwhile.

use super::*;
use crate::service::{Needs, ShopWords};
use contracts::store::{Accounts, AskReset, Credentials, NewAccount, SignedIn};
use engines::{
    clock::SteadyClock,
    mail::{Sender, files::Files},
};
use std::sync::Arc;

async fn shop() -> (Arc<Service>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let sender = Sender::parse("Shop <mail@shop.example>").unwrap();
    let needs = Needs {
        sql: engines::sqlite::open(&dir.path().join("accounts.db")).unwrap(),
        clock: Arc::new(SteadyClock::start()),
        sign: Box::new(|_, _| None),
        mail: Arc::new(Files::open(&dir.path().join("mail"), sender).unwrap()),
        shop: ShopWords { name: ["Shop".into(), "小店".into()], origin: "https://shop.example".into() },
        holds: vec![],
    };
    (Service::open(needs).await.unwrap(), dir)
}

async fn register(accounts: &Service, email: &str) -> SignedIn {
    let new = NewAccount { email: email.into(), password: "correct horse".into(), name: "Ann".into() };
    accounts.register(new).await.unwrap()
}

async fn log_in(accounts: &Service, email: &str) -> Option<SignedIn> {
    let credentials = Credentials { email: email.into(), password: "correct horse".into(), network: 1 };
    accounts.log_in(credentials).await.unwrap()
}

fn nora(reason: &str) -> Actor {
    Actor::new("nora", reason)
}

#[tokio::test]
async fn a_locked_account_has_no_session_and_gets_none() {
    let (accounts, _dir) = shop().await;
    let ann = register(&accounts, "ann@example.com").await;
    let lock = || accounts.operate(nora("fraud"), ann.account, Command::Lock);
    let first = lock().await.unwrap();
    assert!(first.locked_at.is_some());
    assert_eq!(accounts.session(ann.session.clone()).await, Ok(None));
    assert_eq!(log_in(&accounts, "ann@example.com").await, None);
    // Another one's is not touched.
    let bob = register(&accounts, "bob@example.com").await;
    assert!(accounts.session(bob.session).await.unwrap().is_some());
    assert_eq!(lock().await.unwrap().locked_at, first.locked_at, "it is since the first time");

    let open = accounts.operate(nora("it was her"), ann.account, Command::Unlock).await.unwrap();
    assert_eq!(open.locked_at, None);
    let again = log_in(&accounts, "ann@example.com").await.unwrap();
    accounts.operate(nora("lost phone"), ann.account, Command::EndSessions).await.unwrap();
    assert_eq!(accounts.session(again.session).await, Ok(None));
    assert!(log_in(&accounts, "ann@example.com").await.is_some(), "it is not locked");

    let steps = accounts.trail(Some(ann.account.to_string()), None, 10).await.unwrap();
    let did: Vec<_> = steps.iter().map(|of| (&*of.actor, &*of.did, &*of.reason)).collect();
    let want = [
        ("nora", "account.end-sessions", "lost phone"),
        ("nora", "account.unlock", "it was her"),
        ("nora", "account.lock", "fraud"),
    ];
    assert_eq!(did, want, "what changed nothing is not there");
    let older = accounts.trail(None, Some(steps[1].number), 10).await.unwrap();
    assert_eq!(older.iter().map(|of| &*of.did).collect::<Vec<_>>(), ["account.lock"]);
}

#[tokio::test]
async fn a_link_is_sent_to_the_accounts_address_five_times_and_then_not_for_a_while() {
    let (accounts, _dir) = shop().await;
    let ann = register(&accounts, "ann@example.com").await;
    let send = || accounts.operate(nora("asked on the phone"), ann.account, Command::SendReset(Language::Zh));
    for _ in 0..5 {
        send().await.unwrap();
    }
    assert!(matches!(send().await, Err(StoreError::TooMany { .. })));
    let waiting = accounts.sql.read(|tx| {
        tx.query("SELECT kind, email, language FROM letters LIMIT 10", &[], |row| {
            Ok((row.text(0)?, row.text(1)?, row.text(2)?))
        })
    });
    let waiting: Result<Vec<_>, SqlError> = waiting.await;
    let letter = ("reset".to_owned(), "ann@example.com".to_owned(), "zh".to_owned());
    assert_eq!(waiting, Ok(vec![letter; 5]));
    assert_eq!(accounts.trail(None, None, 10).await.unwrap().len(), 5);
    // The shopper's own limit is another one.
    let own = AskReset { email: "ann@example.com".into(), network: 1, language: Language::En };
    accounts.ask_reset(own).await.unwrap();
    let nobody = AccountId::from_bytes([7; 16]);
    let lost = accounts.operate(nora("x"), nobody, Command::SendReset(Language::En)).await;
    assert!(matches!(lost, Err(StoreError::NotFound(_))));
}

#[tokio::test]
async fn accounts_are_found_by_address_and_number_and_listed_newest_first() {
    let (accounts, _dir) = shop().await;
    let ann = register(&accounts, "ann@example.com").await;
    let bob = register(&accounts, "bob@example.com").await;
    let found = accounts.seen_by_email(" Ann@Example.COM").await.unwrap().unwrap();
    assert_eq!((found.profile.account, found.locked_at), (ann.account, None));
    assert_eq!(accounts.seen_by_email("eve@example.com").await, Ok(None));
    assert_eq!(accounts.seen_by_email("no address").await, Ok(None));
    let mut want = [ann.account, bob.account];
    want.sort_by(|a, b| b.cmp(a));
    let page = |before| accounts.newest(before, 1);
    let first = page(None).await.unwrap();
    let second = page(Some(first[0].profile.account)).await.unwrap();
    let third = page(Some(second[0].profile.account)).await.unwrap();
    assert_eq!([first[0].profile.account, second[0].profile.account], want);
    assert_eq!(third, []);
}
