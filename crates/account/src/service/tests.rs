//! Accounts over a database and a directory of letters.

use super::*;
use contracts::store::{Guests, InTheWay, Language, NewGuest, OrderId};
use engines::{
    clock::SteadyClock,
    mail::{Sender, files::Files},
};
use std::fs;

struct Shop {
    accounts: Arc<Service>,
    dir: tempfile::TempDir,
}

async fn shop() -> Shop {
    let dir = tempfile::tempdir().unwrap();
    let accounts = open(&dir).await;
    Shop { accounts, dir }
}

async fn open(dir: &tempfile::TempDir) -> Arc<Service> {
    open_with(dir, vec![]).await
}

async fn open_with(dir: &tempfile::TempDir, holds: Vec<Arc<dyn HoldsPersonalData>>) -> Arc<Service> {
    let sender = Sender::parse("Shop <mail@shop.example>").unwrap();
    let shop = ShopWords { name: ["Shop".into(), "小店".into()], origin: "https://shop.example".into() };
    let needs = Needs {
        sql: engines::sqlite::open(&dir.path().join("accounts.db")).unwrap(),
        clock: Arc::new(SteadyClock::start()),
        sign: Box::new(|account, _| Some(format!("token of {account}"))),
        mail: Arc::new(Files::open(&dir.path().join("mail"), sender).unwrap()),
        shop,
        holds,
    };
    Service::open(needs).await.unwrap()
}

fn ann(email: &str) -> NewAccount {
    NewAccount { email: email.into(), password: "correct horse".into(), name: " Ann 安 ".into() }
}

fn with(email: &str, password: &str) -> Credentials {
    Credentials { email: email.into(), password: password.into(), network: 1 }
}

#[tokio::test]
async fn a_shopper_registers_logs_out_and_in_again() {
    let shop = shop().await;
    let accounts = &shop.accounts;
    let first = accounts.register(ann("Ann@Example.com")).await.unwrap();
    assert_eq!(first.name, "Ann 安");
    let seen = accounts.session(first.session.clone()).await.unwrap().unwrap();
    assert_eq!((seen.account, &seen.csrf), (first.account, &first.csrf));
    assert!(seen.seconds > 29 * 86_400);
    accounts.log_out(first.session.clone()).await.unwrap();
    assert_eq!(accounts.session(first.session.clone()).await, Ok(None));

    let again = accounts.log_in(with("ann@example.COM", "correct horse")).await.unwrap().unwrap();
    assert_eq!(again.account, first.account);
    assert!(again.session != first.session && again.csrf != first.csrf);
    let profile = accounts.profile(first.account).await.unwrap().unwrap();
    assert_eq!(profile.email, "ann@example.com");
    assert_eq!(accounts.sale_token(first.account).await, Ok(format!("token of {}", first.account)));
}

/// What was told: the kinds of events in their order, and all their text.
async fn told(accounts: &Service) -> (Vec<String>, String) {
    let text = "SELECT body FROM outbox ORDER BY number";
    let read: Result<Vec<String>, SqlError> =
        accounts.sql.read(|tx| tx.query(text, &[], |row| row.text(0))).await;
    let all = read.unwrap();
    let kind = |event: &String| {
        let event: serde_json::Value = serde_json::from_str(event).unwrap();
        assert_eq!(event["subject"], event["data"]["account"], "{event}");
        event["type"].as_str().unwrap().strip_prefix("floodgate.account.").unwrap().to_owned()
    };
    (all.iter().map(kind).collect(), all.concat())
}

#[tokio::test]
async fn each_change_of_an_account_is_told_once_and_without_the_person() {
    let shop = shop().await;
    let accounts = &shop.accounts;
    let first = accounts.register(ann("ann@example.com")).await.unwrap();
    assert!(accounts.register(ann("ann@example.com")).await.is_err());
    accounts.rename(first.account, "Ann 安".into()).await.unwrap();
    assert_eq!(told(accounts).await.0, ["registered"], "that is the name already");
    accounts.rename(first.account, "Bob".into()).await.unwrap();
    accounts.rename(AccountId::new(TimeMs(1), [9; 16]), "Cleo".into()).await.unwrap();
    let own = own_of(&first, "wrong horse");
    assert_eq!(accounts.delete(own).await, Ok(Deleted::WrongPassword));
    assert_eq!(told(accounts).await.0, ["registered", "renamed"]);
    assert_eq!(accounts.delete(own_of(&first, "correct horse")).await, Ok(Deleted::Yes));
    let (kinds, text) = told(accounts).await;
    assert_eq!(kinds, ["registered", "renamed", "deleted"]);
    for of_person in ["example.com", "Ann", "安", "Bob"] {
        assert!(!text.contains(of_person), "{of_person}: {text}");
    }
}

#[tokio::test]
async fn wrong_passwords_are_refused_and_many_of_them_have_to_wait() {
    let shop = shop().await;
    let accounts = &shop.accounts;
    accounts.register(ann("ann@example.com")).await.unwrap();
    for password in ["", "correct horsf", "CORRECT HORSE", &"x".repeat(1000)] {
        assert_eq!(accounts.log_in(with("ann@example.com", password)).await, Ok(None), "{password:?}");
    }
    assert_eq!(accounts.log_in(with("bob@example.com", "correct horse")).await, Ok(None));
    let mut waits = None;
    for _ in 0..WRONG_BURST {
        if let Err(StoreError::TooMany { wait_seconds }) =
            accounts.log_in(with("ann@example.com", "guess guess")).await
        {
            waits = Some(wait_seconds);
        }
    }
    assert!(waits.is_some_and(|seconds| (1..=30).contains(&seconds)), "{waits:?}");
    // The right password from elsewhere is let in, and another account is not slowed down.
    let elsewhere = Credentials { network: 2, ..with("ann@example.com", "correct horse") };
    assert!(accounts.log_in(elsewhere).await.unwrap().is_some());
    assert_eq!(accounts.log_in(with("bob@example.com", "guess guess")).await, Ok(None));
}

#[tokio::test]
async fn what_is_no_account_is_refused_with_the_field() {
    let shop = shop().await;
    let accounts = &shop.accounts;
    let check = async |new: NewAccount, want: &str| {
        let refused = accounts.register(new).await.unwrap_err().to_string();
        assert!(refused.starts_with(want), "{refused}");
    };
    check(ann("ann"), "email:").await;
    check(NewAccount { name: " \n ".into(), ..ann("a@example.com") }, "name:").await;
    check(NewAccount { name: "x\u{7}".into(), ..ann("a@example.com") }, "name:").await;
    check(NewAccount { password: "short".into(), ..ann("a@example.com") }, "password:").await;
    accounts.register(ann("a@example.com")).await.unwrap();
    let twice = accounts.register(ann("A@EXAMPLE.com")).await;
    assert!(matches!(twice, Err(StoreError::Conflict(_))), "{twice:?}");
}

#[tokio::test]
async fn a_session_that_is_made_up_is_nobodys() {
    let shop = shop().await;
    for session in ["", "a", "AAAA", &"A".repeat(43), "' OR 1=1 --", &"A".repeat(10_000)] {
        assert_eq!(shop.accounts.session(session.to_owned()).await, Ok(None), "{session:?}");
        assert_eq!(shop.accounts.log_out(session.to_owned()).await, Ok(()));
    }
}

#[tokio::test]
async fn a_session_whose_time_is_over_is_nobodys() {
    let shop = shop().await;
    let accounts = &shop.accounts;
    let first = accounts.register(ann("ann@example.com")).await.unwrap();
    let ends = async |at: u64| {
        let text = "UPDATE sessions SET ends_at = ?";
        let set = accounts.sql.write(move |tx| tx.execute(text, engines::params![at])).await;
        assert_eq!(set.map_err(|error: SqlError| error), Ok(1));
    };
    let now = accounts.clock.now().0;
    ends(now + 60_000).await;
    assert!(accounts.session(first.session.clone()).await.unwrap().is_some());
    ends(now).await;
    assert_eq!(accounts.session(first.session.clone()).await, Ok(None));
    let again = accounts.log_in(with("ann@example.com", "correct horse")).await.unwrap().unwrap();
    assert!(accounts.session(again.session).await.unwrap().is_some());
    assert_eq!(accounts.session(first.session).await, Ok(None), "it does not come back");
}

#[tokio::test]
async fn the_oldest_of_too_many_sessions_ends() {
    let shop = shop().await;
    let first = shop.accounts.register(ann("ann@example.com")).await.unwrap();
    let mut last = first.clone();
    for _ in 0..20 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        last = shop.accounts.log_in(with("ann@example.com", "correct horse")).await.unwrap().unwrap();
    }
    assert_eq!(shop.accounts.session(first.session).await, Ok(None));
    assert!(shop.accounts.session(last.session).await.unwrap().is_some());
}

fn own_of(who: &SignedIn, password: &str) -> OwnPassword {
    OwnPassword {
        account: who.account,
        session: who.session.clone(),
        password: password.into(),
        network: 1,
        language: Language::En,
    }
}

impl Shop {
    /// The letters that were sent, oldest first.
    fn letters(&self) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(self.dir.path().join("mail")).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names.iter().map(|path| plain(&fs::read_to_string(path).unwrap())).collect()
    }

    async fn ask_reset(&self, email: &str) -> Result<(), StoreError> {
        let ask = AskReset { email: email.into(), network: 1, language: Language::En };
        self.accounts.ask_reset(ask).await?;
        Arc::clone(&self.accounts).send_due().await.unwrap();
        Ok(())
    }

    async fn reset(&self, link: &str, password: &str) -> Result<bool, StoreError> {
        let reset = ResetPassword { link: link.into(), password: password.into(), language: Language::Zh };
        let done = self.accounts.reset_password(reset).await;
        Arc::clone(&self.accounts).send_due().await.unwrap();
        done
    }
}

/// A letter with the lines that quoted-printable has broken put together again.
fn plain(letter: &str) -> String {
    letter.replace("=\r\n", "").replace("=3D", "=")
}

/// The secret of the link in a letter.
fn link_in(letter: &str) -> String {
    letter.split_once("/account/reset?link=").unwrap().1[..43].to_owned()
}

#[tokio::test]
async fn a_forgotten_password_is_set_by_a_link_that_works_once() {
    let shop = shop().await;
    let before = shop.accounts.register(ann("ann@example.com")).await.unwrap();
    shop.ask_reset("Ann@Example.com").await.unwrap();
    shop.ask_reset("ann@example.com").await.unwrap();
    let letters = shop.letters();
    assert_eq!(letters.len(), 2);
    assert!(letters.iter().all(|letter| letter.contains("To: ann@example.com\r\n")), "{letters:?}");
    let links = [link_in(&letters[0]), link_in(&letters[1])];
    assert_ne!(links[0], links[1]);
    for link in &links {
        assert_eq!(shop.accounts.reset_link_is_good(link.clone()).await, Ok(true), "to look uses nothing up");
    }
    assert!(matches!(shop.reset(&links[0], "short").await, Err(StoreError::Invalid(_))));
    assert_eq!(shop.reset(&links[0], "another horse").await, Ok(true));
    for link in &links {
        assert_eq!(shop.reset(link, "a third horse").await, Ok(false), "all links are used up");
        assert_eq!(shop.accounts.reset_link_is_good(link.clone()).await, Ok(false));
    }
    assert_eq!(shop.accounts.session(before.session).await, Ok(None), "sessions are over");
    let old = shop.accounts.log_in(with("ann@example.com", "correct horse")).await;
    assert_eq!(old, Ok(None));
    let new = shop.accounts.log_in(with("ann@example.com", "another horse")).await.unwrap();
    assert_eq!(new.unwrap().account, before.account);
    let letters = shop.letters();
    assert_eq!(letters.len(), 3, "the change is told");
}

#[tokio::test]
async fn nothing_tells_whether_an_address_has_an_account() {
    let shop = shop().await;
    shop.accounts.register(ann("ann@example.com")).await.unwrap();
    let mut said = Vec::new();
    for email in ["ann@example.com", "bob@example.com"] {
        let mut of_email = Vec::new();
        for _ in 0..6 {
            of_email.push(shop.ask_reset(email).await.is_ok());
        }
        said.push(of_email);
    }
    assert_eq!(said, [[true, true, true, true, true, false], [true, true, true, true, true, false]]);
    assert_eq!(shop.letters().len(), 5, "only who has an account gets letters, five at once");
    assert!(matches!(shop.ask_reset("nobody").await, Err(StoreError::Invalid(_))));
    let waiting = shop.accounts.sql.read(|tx| crate::letters::due(tx, TimeMs(u64::MAX >> 1), 10)).await;
    assert!(waiting.unwrap().is_empty(), "nothing waits");
}

#[tokio::test]
async fn a_link_that_is_made_up_or_over_sets_nothing() {
    let shop = shop().await;
    shop.accounts.register(ann("ann@example.com")).await.unwrap();
    shop.ask_reset("ann@example.com").await.unwrap();
    let link = link_in(&shop.letters()[0]);
    for wrong in ["", "a", &"A".repeat(43), &"A".repeat(10_000), "' OR 1=1 --", &link[1..]] {
        assert_eq!(shop.reset(wrong, "another horse").await, Ok(false), "{wrong:?}");
    }
    let over = "UPDATE reset_links SET ends_at = 1";
    let made: Result<u64, SqlError> = shop.accounts.sql.write(|tx| tx.execute(over, &[])).await;
    assert_eq!(made, Ok(1));
    assert_eq!(shop.reset(&link, "another horse").await, Ok(false));
    assert!(shop.accounts.log_in(with("ann@example.com", "correct horse")).await.unwrap().is_some());
}

#[tokio::test]
async fn of_two_who_use_a_link_at_once_one_sets_the_password() {
    let shop = shop().await;
    shop.accounts.register(ann("ann@example.com")).await.unwrap();
    shop.ask_reset("ann@example.com").await.unwrap();
    let link = link_in(&shop.letters()[0]);
    let (first, second) = tokio::join!(shop.reset(&link, "first horse"), shop.reset(&link, "second horse"));
    assert!(first.unwrap() ^ second.unwrap());
}

#[tokio::test]
async fn letters_wait_for_a_directory_that_is_away_and_outlive_the_process() {
    let shop = shop().await;
    shop.accounts.register(ann("ann@example.com")).await.unwrap();
    let mail = shop.dir.path().join("mail");
    fs::remove_dir(&mail).unwrap();
    shop.ask_reset("ann@example.com").await.unwrap();
    // Another process finds it, and sends it when it can.
    let Shop { dir, accounts } = shop;
    drop(accounts);
    let shop = Shop { accounts: open(&dir).await, dir };
    assert!(shop.letters().is_empty());
    let soon: Result<u64, SqlError> =
        shop.accounts.sql.write(|tx| tx.execute("UPDATE letters SET due_at = 1", &[])).await;
    assert_eq!(soon, Ok(1));
    Arc::clone(&shop.accounts).send_due().await.unwrap();
    let link = link_in(&shop.letters()[0]);
    assert_eq!(shop.accounts.reset_link_is_good(link).await, Ok(true));
}

#[tokio::test]
async fn who_knows_the_password_changes_it_and_ends_other_sessions() {
    let shop = shop().await;
    let first = shop.accounts.register(ann("ann@example.com")).await.unwrap();
    let other = shop.accounts.log_in(with("ann@example.com", "correct horse")).await.unwrap().unwrap();
    let own = |password: &str| own_of(&first, password);
    let seen = shop.accounts.sessions(first.account, first.session.clone()).await.unwrap();
    assert_eq!(seen.iter().filter(|session| session.is_this).count(), 1);
    assert_eq!(seen.len(), 2);
    let changed = shop.accounts.change_password(own("wrong horse"), "another horse".into()).await;
    assert_eq!(changed, Ok(None));
    let short = shop.accounts.change_password(own("correct horse"), "short".into()).await;
    assert!(matches!(short, Err(StoreError::Invalid(_))), "{short:?}");
    assert!(shop.accounts.session(other.session.clone()).await.unwrap().is_some());
    let changed = shop.accounts.change_password(own("correct horse"), "another horse".into()).await;
    let own_session = changed.unwrap().unwrap().session;
    assert_eq!(shop.accounts.session(other.session).await, Ok(None));
    assert_eq!(shop.accounts.session(first.session.clone()).await, Ok(None), "its secret is a new one");
    assert!(shop.accounts.session(own_session.clone()).await.unwrap().is_some(), "its own goes on");
    let other = shop.accounts.log_in(with("ann@example.com", "another horse")).await.unwrap().unwrap();
    assert_eq!(shop.accounts.log_out_elsewhere(own("correct horse")).await, Ok(None));
    let anew = shop.accounts.log_out_elsewhere(own("another horse")).await.unwrap().unwrap();
    assert!(shop.accounts.session(anew.session).await.unwrap().is_some());
    assert_eq!(shop.accounts.session(own_session).await, Ok(None));
    assert_eq!(shop.accounts.session(other.session).await, Ok(None));
    assert_eq!(shop.accounts.rename(first.account, " Ann Lee ".into()).await, Ok(()));
    assert_eq!(shop.accounts.profile(first.account).await.unwrap().unwrap().name, "Ann Lee");
    let evil = shop.accounts.rename(first.account, "Ann\r\nBcc: all@example.com".into()).await;
    assert!(matches!(evil, Err(StoreError::Invalid(_))), "{evil:?}");
}

/// A context that has something of each shopper, and is away, or not done, as often as it is told.
#[derive(Default)]
struct Holder {
    open: Mutex<Option<InTheWay>>,
    not_done: AtomicUsize,
    away: AtomicUsize,
    erased: Mutex<Vec<AccountId>>,
}

fn counted_down(count: &AtomicUsize) -> bool {
    count.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
}

impl HoldsPersonalData for Holder {
    fn in_the_way(&self, _: AccountId) -> Asked<'_, Option<InTheWay>> {
        let open = *self.open.lock().unwrap();
        Box::pin(async move { Ok(open) })
    }

    fn erase(&self, shopper: AccountId) -> Asked<'_, bool> {
        let said = if counted_down(&self.away) {
            Err(StoreError::Unavailable("away".into()))
        } else if counted_down(&self.not_done) {
            Ok(false)
        } else {
            self.erased.lock().unwrap().push(shopper);
            Ok(true)
        };
        Box::pin(async move { said })
    }
}

/// As if so many milliseconds had passed for deletions.
async fn pass_time(accounts: &Service) {
    let text = "UPDATE deletions SET due_at = 0, asked_at = 0";
    let passed: Result<u64, SqlError> = accounts.sql.write(|tx| tx.execute(text, &[])).await;
    passed.unwrap();
}

async fn unfinished(accounts: &Service) -> usize {
    let text = "SELECT account FROM deletions LIMIT 10";
    let found: Result<Vec<[u8; 16]>, SqlError> =
        accounts.sql.read(|tx| tx.query(text, &[], |row| row.array(0))).await;
    found.unwrap().len()
}

#[tokio::test]
async fn an_account_is_deleted_everywhere_whatever_stops_in_between() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (Arc::new(Holder::default()), Arc::new(Holder::default()));
    let holds = || vec![Arc::clone(&first) as _, Arc::clone(&second) as _];
    let accounts = open_with(&dir, holds()).await;
    let ann_is = accounts.register(ann("ann@example.com")).await.unwrap();
    let own = |password: &str| OwnPassword {
        account: ann_is.account,
        session: ann_is.session.clone(),
        password: password.into(),
        network: 1,
        language: Language::En,
    };
    let order = InTheWay::Order("01kb8y3n6t8ptejtn3zj8d1q2v".parse().unwrap());
    *second.open.lock().unwrap() = Some(order);
    assert_eq!(accounts.delete(own("wrong horse")).await, Ok(Deleted::WrongPassword));
    assert_eq!(accounts.delete(own("correct horse")).await, Ok(Deleted::Not(order)));
    assert!(accounts.session(ann_is.session.clone()).await.unwrap().is_some(), "nothing has changed");
    *second.open.lock().unwrap() = None;
    first.away.store(1, Relaxed);
    second.not_done.store(1, Relaxed);
    assert_eq!(accounts.delete(own("correct horse")).await, Ok(Deleted::Yes));
    // The account is gone at once, and its address is free.
    assert_eq!(accounts.session(ann_is.session.clone()).await, Ok(None));
    assert_eq!(accounts.log_in(with("ann@example.com", "correct horse")).await, Ok(None));
    let again = accounts.register(ann("ann@example.com")).await.unwrap();
    assert_ne!(again.account, ann_is.account);
    // The process ends before anybody was asked; and then after one was away and one not done.
    drop(accounts);
    let accounts = open_with(&dir, holds()).await;
    pass_time(&accounts).await;
    accounts.erase_due().await.unwrap();
    assert_eq!((first.erased.lock().unwrap().len(), second.erased.lock().unwrap().len()), (0, 0));
    drop(accounts);
    let accounts = open_with(&dir, holds()).await;
    assert_eq!(unfinished(&accounts).await, 1);
    // One has erased, the other is away: both are asked again.
    second.away.store(1, Relaxed);
    pass_time(&accounts).await;
    accounts.erase_due().await.unwrap();
    assert_eq!((first.erased.lock().unwrap().len(), second.erased.lock().unwrap().len()), (1, 0));
    drop(accounts);
    let accounts = open_with(&dir, holds()).await;
    // All have, but soon after the beginning: they are asked once more later.
    let text = "UPDATE deletions SET due_at = 0, asked_at = ?";
    let now = accounts.clock.now().0;
    let set: Result<u64, SqlError> =
        accounts.sql.write(move |tx| tx.execute(text, engines::params![now])).await;
    set.unwrap();
    accounts.erase_due().await.unwrap();
    assert_eq!(unfinished(&accounts).await, 1);
    pass_time(&accounts).await;
    accounts.erase_due().await.unwrap();
    assert_eq!(unfinished(&accounts).await, 0);
    let (first, second) = (first.erased.lock().unwrap().clone(), second.erased.lock().unwrap().clone());
    assert_eq!((first.len(), second.len()), (3, 2));
    assert!(first.iter().chain(&second).all(|account| *account == ann_is.account));
    assert!(accounts.session(again.session).await.unwrap().is_some(), "the new account has its own");
}

#[tokio::test]
async fn a_guest_whose_checkout_was_cut_off_is_written_to_or_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let orders = Arc::new(Holder::default());
    let accounts = open_with(&dir, vec![Arc::clone(&orders) as _]).await;
    let order: OrderId = "01kb8y3n6t8ptejtn3zj8d1q2v".parse().unwrap();
    let kept = async || {
        let (secret, shopper) = accounts.new_secret().await.unwrap();
        let new = NewGuest {
            secret: secret.clone(),
            email: "ann@example.com".into(),
            order,
            language: Language::En,
        };
        assert_eq!(accounts.keep(new).await, Ok(shopper));
        secret
    };
    let an_hour_ago = async || {
        let before = accounts.clock.now().0 - 3_600_001;
        let text = "UPDATE guests SET made_at = ? WHERE letter_at IS NULL";
        let set = accounts.sql.write(move |tx| tx.execute(text, engines::params![before])).await;
        set.map(|_: u64| ()).map_err(|error: SqlError| error).unwrap();
    };
    let letters = async || {
        let text = "SELECT email FROM letters LIMIT 10";
        let found: Result<Vec<String>, SqlError> =
            accounts.sql.read(|tx| tx.query(text, &[], |row| row.text(0))).await;
        found.unwrap().len()
    };
    // One that may still be under way.
    let secret = kept().await;
    accounts.settle_cut_off().await.unwrap();
    assert!(accounts.guest(secret.clone()).await.unwrap().is_some());
    assert_eq!((unfinished(&accounts).await, letters().await), (0, 0));
    // One that has made an order; once.
    *orders.open.lock().unwrap() = Some(InTheWay::Order(order));
    an_hour_ago().await;
    for _ in 0..2 {
        accounts.settle_cut_off().await.unwrap();
        assert!(accounts.guest(secret.clone()).await.unwrap().is_some());
        assert_eq!((unfinished(&accounts).await, letters().await), (0, 1));
    }
    // One that has made none.
    *orders.open.lock().unwrap() = None;
    let other = kept().await;
    an_hour_ago().await;
    accounts.settle_cut_off().await.unwrap();
    assert!(accounts.guest(other).await.unwrap().is_none());
    assert!(accounts.guest(secret).await.unwrap().is_some());
    assert_eq!((unfinished(&accounts).await, letters().await), (1, 1));
}

#[tokio::test]
async fn a_password_that_was_right_does_nothing_once_a_reset_has_set_another() {
    let shop = shop().await;
    let first = shop.accounts.register(ann("ann@example.com")).await.unwrap();
    let checked = shop.accounts.checked(own_of(&first, "correct horse")).await.unwrap().unwrap();
    shop.ask_reset("ann@example.com").await.unwrap();
    assert_eq!(shop.reset(&link_in(&shop.letters()[0]), "another horse").await, Ok(true));
    // What comes after the check of a log-in, a change, and a deletion, each with the old hash.
    let begun = shop.accounts.begin(first.account, "Ann".into(), checked.hash.clone()).await;
    assert_eq!(begun, Ok(None));
    let (account, hash) = (first.account, checked.hash);
    let found: Result<_, SqlError> =
        shop.accounts.sql.write(move |tx| store::locked_with(tx, account, &hash)).await;
    assert_eq!(found, Ok(None), "of which changes, deletions and new sessions are made");
    assert!(shop.accounts.log_in(with("ann@example.com", "another horse")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_letter_is_sent_by_who_claims_it_and_one_that_is_too_old_is_not() {
    let shop = shop().await;
    shop.accounts.register(ann("ann@example.com")).await.unwrap();
    let ask = AskReset { email: "ann@example.com".into(), network: 1, language: Language::En };
    shop.accounts.ask_reset(ask.clone()).await.unwrap();
    let now = shop.accounts.clock.now();
    let due = |now: TimeMs| {
        let found = shop.accounts.sql.read(move |tx| crate::letters::due(tx, now, 10));
        async move { found.await.map_err(|error: SqlError| error.to_string()).unwrap() }
    };
    let letter = due(now).await.remove(0);
    for is_first in [true, false] {
        let of = letter.clone();
        let claimed: Result<bool, SqlError> =
            shop.accounts.sql.write(move |tx| crate::letters::claim(tx, now, &of)).await;
        assert_eq!(claimed, Ok(is_first));
    }
    assert!(due(now).await.is_empty(), "it is another's");
    assert_eq!(due(now.plus(DurationMs(120_001))).await.len(), 1, "who claimed it has ended");
    // The clock was years ahead when it was put off; and it is too old.
    let set = |text: &'static str| {
        let written = shop.accounts.sql.write(move |tx| tx.execute(text, &[]));
        async move { written.await.map_err(|error: SqlError| error.to_string()).unwrap() }
    };
    set("UPDATE letters SET due_at = due_at + 100000000000").await;
    assert_eq!(due(now).await.len(), 1);
    set("UPDATE letters SET written_at = written_at - 3600001").await;
    Arc::clone(&shop.accounts).send_due().await.unwrap();
    assert!(shop.letters().is_empty() && due(TimeMs(u64::MAX >> 1)).await.is_empty());
}

#[tokio::test]
async fn the_link_of_a_letter_that_is_sent_again_is_the_same_and_works_once() {
    let shop = shop().await;
    shop.accounts.register(ann("ann@example.com")).await.unwrap();
    let mail = shop.dir.path().join("mail");
    fs::remove_dir(&mail).unwrap();
    shop.ask_reset("ann@example.com").await.unwrap();
    let first = *shop.accounts.secrets.lock().unwrap().values().next().unwrap();
    fs::create_dir(&mail).unwrap();
    let soon: Result<u64, SqlError> =
        shop.accounts.sql.write(|tx| tx.execute("UPDATE letters SET due_at = 1", &[])).await;
    assert_eq!(soon, Ok(1));
    Arc::clone(&shop.accounts).send_due().await.unwrap();
    let link = link_in(&shop.letters()[0]);
    assert_eq!(secret_of(&link), Some(first));
    assert!(shop.accounts.secrets.lock().unwrap().is_empty());
    assert_eq!(shop.reset(&link, "another horse").await, Ok(true));
    assert_eq!(shop.reset(&link, "a third horse").await, Ok(false));
}

#[tokio::test]
async fn changes_of_one_account_are_limited_for_each_writes_a_letter() {
    let shop = shop().await;
    let mut who = shop.accounts.register(ann("ann@example.com")).await.unwrap();
    for _ in 0..5 {
        let changed = shop.accounts.change_password(own_of(&who, "correct horse"), "correct horse".into());
        who = changed.await.unwrap().unwrap();
    }
    let changed = shop.accounts.change_password(own_of(&who, "correct horse"), "correct horse".into()).await;
    assert!(matches!(changed, Err(StoreError::TooMany { .. })), "{changed:?}");
    let deleted = shop.accounts.delete(own_of(&who, "correct horse")).await;
    assert!(matches!(deleted, Err(StoreError::TooMany { .. })), "{deleted:?}");
    assert!(shop.accounts.session(who.session).await.unwrap().is_some());
}
