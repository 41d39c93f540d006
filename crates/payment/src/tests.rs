//! Payments on a database, with the sandbox: what providers tell twice counts once, and what no
//! webhook told is found in the books.

use crate::{
    core::Said,
    provider::{Event, Provider},
    reconcile,
    report::{Day, Kind, Report, Summary, Totals},
    sandbox::{self, Choice, Sandbox},
    service::{self, NotTaken, Service},
    store::{self, Followed, Source},
};
use contracts::store::{
    OrderId, PaymentState, PaymentView, Payments, StartPayment, StartedPayment, StoreError,
};
use engines::{
    chance::SystemChance,
    clock::Clock,
    params,
    sql::{Sql, SqlError},
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use units::{DurationMs, Money, TimeMs};

const DAY: u64 = 86_400_000;
/// 2026-11-11T10:00:00Z.
const OPENING: u64 = 1_794_391_200_000;

/// A clock that stands, until a test sets it.
#[derive(Debug)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> TimeMs {
        TimeMs(self.0.load(Relaxed))
    }
}

fn chance() -> Arc<SystemChance> {
    Arc::new(SystemChance)
}

struct Till {
    payments: Arc<Service>,
    sandbox: Arc<Sandbox>,
    sql: Sql,
    clock: Arc<Hand>,
    _dir: tempfile::TempDir,
}

fn yuan(amount_minor: u64) -> Money {
    Money { amount_minor, currency: "CNY".parse().unwrap() }
}

impl Till {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sql = engines::sqlite::open(&dir.path().join("payments.db")).unwrap();
        service::migrate(&sql).await.unwrap();
        let clock = Arc::new(Hand(AtomicU64::new(OPENING)));
        let sandbox = Sandbox::new(sql.clone(), Arc::clone(&clock) as _, b"secret");
        let payments =
            Service::new(sql.clone(), Arc::clone(&clock) as _, chance(), Arc::clone(&sandbox) as _);
        Self { payments, sandbox, sql, clock, _dir: dir }
    }

    async fn start(&self, order: u8) -> StartedPayment {
        let start = StartPayment {
            order: OrderId::from_bytes([order; 16]),
            shopper: contracts::store::AccountId::new(TimeMs(OPENING), [order; 16]),
            amount: yuan(1_000),
            return_path: "/orders".into(),
        };
        Payments::start(&*self.payments, start).await.unwrap()
    }

    /// What the sandbox has, by its books up to now.
    async fn ledger_minor(&self) -> i64 {
        let (mut sum, mut after) = (0, None);
        loop {
            let to = self.clock.now().plus(DurationMs(1));
            let page = self.sandbox.ledger(TimeMs(0), to, after).await.unwrap();
            for (_, event) in page.movements {
                let amount = event.amount.amount_minor as i64;
                sum += if event.said == Said::Succeeded { amount } else { -amount };
            }
            after = page.next;
            if after.is_none() {
                return sum;
            }
        }
    }

    async fn choose(&self, started: &StartedPayment, choice: Choice) {
        let reference = started.url.strip_prefix("/sandbox/").unwrap().to_owned();
        self.sandbox.choose(reference, choice).await.unwrap().unwrap();
    }

    async fn of_order(&self, order: u8) -> Vec<PaymentView> {
        self.payments.of_order(OrderId::from_bytes([order; 16])).await.unwrap()
    }

    async fn told(&self) -> u64 {
        let text = "SELECT COUNT(*) FROM outbox";
        self.sql.read(move |tx| tx.query_first(text, &[], |row| row.count(0))).await.unwrap().unwrap()
    }

    async fn follow(&self, event: Event) -> Followed {
        let now = self.clock.now();
        let followed =
            self.sql.write(move |tx| store::follow(tx, now, "sandbox", &event, Source::Webhook)).await;
        followed.unwrap()
    }
}

fn event(id: &str, started: &StartedPayment, said: Said, movement: &str, amount: Money) -> Event {
    let reference = started.url.strip_prefix("/sandbox/").unwrap().to_owned();
    let (id, movement) = (id.to_owned(), movement.to_owned());
    Event { id, payment: None, reference, said, movement, amount, refund_key: None }
}

#[tokio::test]
async fn money_of_which_no_webhook_told_is_found_in_the_books_once() {
    let till = Till::open().await;
    let started = till.start(1).await;
    till.choose(&started, Choice::TellNever).await;
    assert_eq!(till.of_order(1).await[0].state, PaymentState::Pending);
    till.clock.0.fetch_add(60_000, Relaxed);
    assert_eq!(till.payments.read_books().await, Ok(1));
    assert_eq!(till.of_order(1).await[0].state, PaymentState::Succeeded);
    assert_eq!((till.payments.read_books().await, till.told().await), (Ok(0), 1));
    // The webhook comes after all.
    let late = event("late", &started, Said::Succeeded, &started.url[9..], yuan(1_000));
    assert_eq!(till.follow(late).await, Followed::Known);
    assert_eq!(till.told().await, 1);

    let day: Day = "2026-11-11".parse().unwrap();
    let report = till.payments.compare(day.clone()).await.unwrap();
    let totals = Totals { ours_received_minor: 1_000, theirs_received_minor: 1_000, ..Totals::default() };
    assert_eq!((report.different, report.found_in_books, report.totals["CNY"]), (0, 1, totals));
    assert_eq!(till.payments.report(day.clone()).await, Ok(Some(report.clone())));
    let Report { made_at, different, found_in_books, refunds_open, .. } = report;
    let summary = Summary { day: day.clone(), made_at, different, found_in_books, refunds_open };
    assert_eq!(till.payments.reports(None, 10).await, Ok(vec![summary]));
    assert_eq!(till.payments.reports(Some(day), 10).await, Ok(vec![]));
}

#[tokio::test]
async fn the_report_says_each_difference_by_its_number() {
    let till = Till::open().await;
    let mut numbers = Vec::new();
    for order in 1..=4 {
        let started = till.start(order).await;
        till.choose(&started, Choice::TellNever).await;
        numbers.push(started.url[9..].to_owned());
    }
    till.payments.read_books().await.unwrap();
    let changes = [
        ("UPDATE movements SET amount_minor = 999 WHERE id = ?", 0),
        ("DELETE FROM provider_ledger WHERE id = ?", 1),
        ("DELETE FROM movements WHERE id = ?", 2),
    ];
    for (text, at) in changes {
        let number = numbers[at].clone();
        let changed = till.sql.write(move |tx| tx.execute(text, params![&number])).await;
        assert_eq!(changed, Ok::<u64, SqlError>(1));
    }
    let Report { different, differences, .. } =
        till.payments.compare("2026-11-11".parse().unwrap()).await.unwrap();
    let mut said: Vec<_> = differences
        .iter()
        .map(|of| {
            let minor = |side: Option<crate::report::Movement>| side.map(|side| side.amount.amount_minor);
            (of.movement.clone(), minor(of.ours), minor(of.theirs))
        })
        .collect();
    let [less, only_ours, only_theirs, _] = numbers.try_into().unwrap();
    let mut want = vec![
        (less, Some(999), Some(1_000)),
        (only_ours, Some(1_000), None),
        (only_theirs, None, Some(1_000)),
    ];
    said.sort();
    want.sort();
    assert_eq!((different, said), (3, want));
    assert_eq!(differences[0].ours.or(differences[0].theirs).unwrap().kind, Kind::Received);
}

#[tokio::test]
async fn a_refund_that_is_told_of_by_two_events_counts_once() {
    let till = Till::open().await;
    let started = till.start(1).await;
    use Followed::{Known, New};
    let paid = event("1", &started, Said::Succeeded, "paid", yuan(1_000));
    assert_eq!(till.follow(paid).await, New);
    for (id, movement, want) in
        [("2", "back-1", New), ("2", "back-1", Known), ("3", "back-1", Known), ("4", "back-2", New)]
    {
        assert_eq!(till.follow(event(id, &started, Said::Refunded, movement, yuan(300))).await, want);
    }
    let view = till.of_order(1).await.remove(0);
    assert_eq!((view.state, view.refunded_minor), (PaymentState::Succeeded, 600));
    assert_eq!(till.told().await, 3);
}

#[tokio::test]
async fn refunds_stand_in_the_books_page_by_page() {
    let till = Till::open().await;
    let started = till.start(1).await;
    till.choose(&started, Choice::TellNever).await;
    till.payments.read_books().await.unwrap();
    let payment = started.payment;
    for part in 0..250 {
        till.payments.refund_part(payment, format!("part-{part}"), 2, "r".into()).await.unwrap();
    }
    till.payments.refund(payment, "the rest".into()).await.unwrap();
    let mut asked = 0;
    while asked < 251 {
        let now = till.payments.refund_due().await.unwrap();
        assert!(now > 0, "{asked} were due");
        asked += now;
    }
    assert_eq!(till.payments.read_books().await, Ok(251));
    let view = till.of_order(1).await.remove(0);
    assert_eq!((view.state, view.refunded_minor), (PaymentState::Refunded, 1_000));
    let report = till.payments.compare("2026-11-11".parse().unwrap()).await.unwrap();
    assert_eq!((report.different, report.totals["CNY"].theirs_given_back_minor), (0, 1_000));
}

#[tokio::test]
async fn after_a_time_away_every_part_of_it_is_read() {
    let till = Till::open().await;
    assert_eq!(till.payments.read_books().await, Ok(0));
    for order in 1..=9 {
        let started = till.start(order).await;
        till.choose(&started, Choice::TellNever).await;
        till.clock.0.fetch_add(DAY, Relaxed);
    }
    assert_eq!(till.payments.read_books().await, Ok(9));
    // A clock that was ahead for a while does not skip what comes next.
    till.clock.0.fetch_add(30 * DAY, Relaxed);
    assert_eq!(till.payments.read_books().await, Ok(0));
    till.clock.0.fetch_sub(30 * DAY, Relaxed);
    let started = till.start(10).await;
    till.choose(&started, Choice::TellNever).await;
    till.clock.0.fetch_add(1_000, Relaxed);
    assert_eq!(till.payments.read_books().await, Ok(1));
}

/// A provider whose pages are good for an hour, and which knows each payment by the shop's number
/// and calls it otherwise once it is paid.
#[derive(Debug)]
struct Hourly;

impl Provider for Hourly {
    fn name(&self) -> &'static str {
        "hourly"
    }
    fn names_payments(&self) -> bool {
        true
    }
    fn good_for(&self) -> DurationMs {
        DurationMs(3_600_000)
    }
    fn start(
        &self,
        intent: crate::provider::Intent,
    ) -> contracts::store::Asked<'_, crate::provider::Started> {
        let reference = format!("page-{}", intent.payment);
        Box::pin(
            async move { Ok(crate::provider::Started { url: format!("https://{reference}"), reference }) },
        )
    }
    fn refund(&self, _: crate::provider::RefundAsked) -> contracts::store::Asked<'_, Option<Event>> {
        Box::pin(async { Ok(None) })
    }
    fn read(&self, _: &http::HeaderMap, body: &[u8]) -> Result<Vec<Event>, crate::provider::WebhookError> {
        let payment = std::str::from_utf8(body).unwrap();
        Ok(vec![Event {
            id: format!("event-{payment}"),
            payment: payment.parse().ok(),
            reference: format!("money-{payment}"),
            said: Said::Succeeded,
            movement: format!("money-{payment}"),
            amount: yuan(1_000),
            refund_key: None,
        }])
    }
    fn ledger(
        &self,
        _: TimeMs,
        _: TimeMs,
        _: Option<String>,
    ) -> contracts::store::Asked<'_, crate::provider::LedgerPage> {
        Box::pin(async { Ok(crate::provider::LedgerPage::default()) })
    }
}

#[tokio::test]
async fn a_page_that_is_over_is_not_offered_again_and_counts_if_it_was_paid() {
    let mut till = Till::open().await;
    till.payments = Service::new(till.sql.clone(), Arc::clone(&till.clock) as _, chance(), Arc::new(Hourly));
    let first = till.start(1).await;
    till.clock.0.fetch_add(3_600_000, Relaxed);
    assert_eq!(till.start(1).await, first);
    till.clock.0.fetch_add(1, Relaxed);
    let second = till.start(1).await;
    assert_ne!(second, first);
    let webhook =
        async |of: &str| till.payments.webhook("hourly", &http::HeaderMap::new(), of.as_bytes()).await;
    for started in [&first, &second] {
        assert_eq!(webhook(&started.payment.to_string()).await, Ok(()));
    }
    let views = till.of_order(1).await;
    let seen: Vec<_> = views.iter().map(|view| (view.state, view.provider_reference.clone())).collect();
    let paid = |of: &StartedPayment| (PaymentState::Succeeded, format!("money-{}", of.payment));
    assert_eq!(seen, [paid(&first), paid(&second)]);
    // Of no payment of ours, and of one that is not known.
    assert_eq!(webhook("another shop's").await, Ok(()));
    let unknown = webhook("00000000000000000000000000").await;
    assert!(matches!(unknown, Err(NotTaken::Unknown(_))), "{unknown:?}");
}

#[tokio::test]
async fn a_refund_that_did_not_reach_the_shopper_is_asked_for_again() {
    let till = Till::open().await;
    let started = till.start(1).await;
    till.choose(&started, Choice::TellNever).await;
    till.payments.read_books().await.unwrap();
    till.payments.refund(started.payment, "late".into()).await.unwrap();
    assert_eq!(till.payments.refund_due().await, Ok(1));
    assert_eq!(till.payments.refund_due().await, Ok(0));
    till.clock.0.fetch_add(1_000, Relaxed);
    till.payments.read_books().await.unwrap();
    let state = async || {
        let view = till.of_order(1).await.remove(0);
        (view.state, view.refunded_minor)
    };
    assert_eq!(state().await, (PaymentState::Refunded, 1_000));
    // The bank sends it back.
    let number = format!("{}-whole", &started.url[9..]);
    let failed = Event {
        refund_key: Some("whole".into()),
        ..event("failed", &started, Said::RefundFailed, &number, yuan(1_000))
    };
    assert_eq!(till.follow(failed.clone()).await, Followed::New);
    assert_eq!(till.follow(failed).await, Followed::Known);
    assert_eq!(state().await, (PaymentState::Refunding, 0));
    assert_eq!(till.payments.refund_due().await, Ok(0), "a little later");
    till.clock.0.fetch_add(600_000, Relaxed);
    assert_eq!(till.payments.refund_due().await, Ok(1));
    // The second one has a number of its own.
    let again = Event {
        refund_key: Some("whole".into()),
        ..event("again", &started, Said::Refunded, "another", yuan(1_000))
    };
    assert_eq!(till.follow(again).await, Followed::New);
    assert_eq!(state().await, (PaymentState::Refunded, 1_000));
}

/// A provider whose list of refunds a test writes, and which notes what it is asked to give back.
#[derive(Debug, Default)]
struct Lists {
    refunds: std::sync::Mutex<Vec<(TimeMs, Event)>>,
    asked: std::sync::Mutex<Vec<(String, u64)>>,
    /// Of what money that was, in the same order.
    references: std::sync::Mutex<Vec<String>>,
}

impl Provider for Lists {
    fn name(&self) -> &'static str {
        "lists"
    }
    fn start(
        &self,
        intent: crate::provider::Intent,
    ) -> contracts::store::Asked<'_, crate::provider::Started> {
        let reference = format!("money-{}", intent.payment);
        Box::pin(async move { Ok(crate::provider::Started { url: reference.clone(), reference }) })
    }
    fn refund(&self, of: crate::provider::RefundAsked) -> contracts::store::Asked<'_, Option<Event>> {
        self.asked.lock().unwrap().push((of.key, of.amount.amount_minor));
        self.references.lock().unwrap().push(of.reference);
        Box::pin(async { Ok(None) })
    }
    fn read(&self, _: &http::HeaderMap, _: &[u8]) -> Result<Vec<Event>, crate::provider::WebhookError> {
        Ok(vec![])
    }
    fn ledger(
        &self,
        _: TimeMs,
        _: TimeMs,
        _: Option<String>,
    ) -> contracts::store::Asked<'_, crate::provider::LedgerPage> {
        Box::pin(async { Ok(crate::provider::LedgerPage::default()) })
    }
    fn refunds(
        &self,
        from: TimeMs,
        to: TimeMs,
        _: Option<String>,
    ) -> contracts::store::Asked<'_, crate::provider::LedgerPage> {
        let all = self.refunds.lock().unwrap().clone();
        let movements = all.into_iter().filter(|(at, _)| from <= *at && *at < to).collect();
        Box::pin(async move { Ok(crate::provider::LedgerPage { movements, next: None }) })
    }
}

/// With a payment of 10.00 that was received, and what events of it are like.
async fn till_of_lists() -> (Till, Arc<Lists>, StartedPayment) {
    let (mut till, lists) = (Till::open().await, Arc::new(Lists::default()));
    let provider = Arc::clone(&lists) as Arc<dyn Provider>;
    till.payments = Service::new(till.sql.clone(), Arc::clone(&till.clock) as _, chance(), provider);
    let started = till.start(1).await;
    assert_eq!(till.told_of(&started, "paid", Said::Succeeded, 1_000, None).await, Followed::New);
    (till, lists, started)
}

impl Till {
    /// Of a payment at the provider with lists.
    async fn told_of(
        &self,
        started: &StartedPayment,
        movement: &str,
        said: Said,
        amount_minor: u64,
        key: Option<&str>,
    ) -> Followed {
        let event = of_lists(started, movement, said, amount_minor, key);
        let now = self.clock.now();
        let followed =
            self.sql.write(move |tx| store::follow(tx, now, "lists", &event, Source::Webhook)).await;
        followed.unwrap()
    }

    async fn stands(&self) -> (PaymentState, u64) {
        let view = self.of_order(1).await.remove(0);
        (view.state, view.refunded_minor)
    }
}

fn of_lists(
    started: &StartedPayment,
    movement: &str,
    said: Said,
    amount_minor: u64,
    key: Option<&str>,
) -> Event {
    Event {
        id: format!("{movement}-{said:?}"),
        payment: None,
        reference: started.url.clone(),
        said,
        movement: movement.to_owned(),
        amount: yuan(amount_minor),
        refund_key: key.map(str::to_owned),
    }
}

#[tokio::test]
async fn a_refund_that_fails_unheard_is_found_in_the_list_and_asked_for_again() {
    let (till, lists, started) = till_of_lists().await;
    till.payments.books_once().await.unwrap();
    till.payments.refund(started.payment, "late".into()).await.unwrap();
    assert_eq!(till.payments.refund_due().await, Ok(1));
    let key = Some("whole");
    assert_eq!(till.told_of(&started, "refund-1", Said::Refunded, 1_000, key).await, Followed::New);
    // Twenty days later the bank has sent it back, and no webhook came.
    let asked_at = till.clock.now();
    till.clock.0.fetch_add(20 * DAY, Relaxed);
    till.payments.books_once().await.unwrap();
    assert_eq!(till.stands().await, (PaymentState::Refunded, 1_000));
    let failed = of_lists(&started, "refund-1", Said::RefundFailed, 1_000, key);
    lists.refunds.lock().unwrap().push((asked_at, failed));
    till.clock.0.fetch_add(DAY, Relaxed);
    till.payments.books_once().await.unwrap();
    assert_eq!(till.stands().await, (PaymentState::Refunding, 0));
    let report = till.payments.reconcile(Day::of(till.clock.now())).await.unwrap();
    assert_eq!((report.refunds_failed, report.different), (1, 0), "{report:?}");
    // What is listed on each of the days after that counts once.
    till.clock.0.fetch_add(DAY, Relaxed);
    assert_eq!(till.payments.refund_due().await, Ok(1));
    assert_eq!(till.told_of(&started, "refund-2", Said::Refunded, 1_000, key).await, Followed::New);
    till.payments.books_once().await.unwrap();
    assert_eq!(till.stands().await, (PaymentState::Refunded, 1_000));
    assert_eq!(*lists.asked.lock().unwrap(), vec![("whole".to_owned(), 1_000); 2]);
}

#[tokio::test]
async fn a_refund_by_hand_that_fails_is_asked_for_a_day_later_unless_people_give_it_again() {
    for is_given_again in [false, true] {
        let (till, lists, started) = till_of_lists().await;
        let told = async |movement: &str, said| till.told_of(&started, movement, said, 300, None).await;
        assert_eq!(told("by-hand", Said::Refunded).await, Followed::New);
        assert_eq!(told("by-hand", Said::RefundFailed).await, Followed::New);
        assert_eq!(till.stands().await, (PaymentState::Succeeded, 0));
        // What is owed is not given for something else.
        let too_much = till.payments.refund_part(started.payment, "return-1".into(), 800, "r".into()).await;
        assert!(matches!(too_much, Err(StoreError::Conflict(_))), "{too_much:?}");
        if is_given_again {
            assert_eq!(told("again", Said::Refunded).await, Followed::New);
            assert_eq!(till.stands().await, (PaymentState::Succeeded, 300));
        }
        assert_eq!(till.payments.refund_due().await, Ok(0));
        till.clock.0.fetch_add(DAY, Relaxed);
        let want = if is_given_again { vec![] } else { vec![("hand-1".to_owned(), 300)] };
        assert_eq!(till.payments.refund_due().await, Ok(want.len()));
        assert_eq!(*lists.asked.lock().unwrap(), want);
    }
    // One that was called off before it was made is not owed.
    let (till, _, started) = till_of_lists().await;
    assert_eq!(till.told_of(&started, "off", Said::RefundFailed, 300, None).await, Followed::New);
    till.clock.0.fetch_add(2 * DAY, Relaxed);
    assert_eq!(till.payments.refund_due().await, Ok(0));
}

/// What a payer can choose on the sandbox's page, as money: it comes late, and it comes twice.
#[tokio::test]
async fn the_sandbox_takes_money_late_and_twice_and_what_is_too_much_goes_back() {
    let till = Till::open().await;
    let twice = till.start(1).await;
    till.choose(&twice, Choice::PayTwice).await;
    let taken = till.ledger_minor().await;
    assert_eq!(taken, 2_000, "the books have both");
    assert_eq!(till.sandbox.tell(&till.payments).await, 2);
    assert_eq!((till.stands().await, till.told().await), ((PaymentState::Succeeded, 0), 1));
    assert_eq!(till.payments.refund_due().await, Ok(1));
    assert_eq!(till.payments.refund_due().await, Ok(0));
    assert_eq!(till.sandbox.tell(&till.payments).await, 1, "that it went back");
    assert_eq!(till.ledger_minor().await, 1_000);
    assert_eq!((till.stands().await, till.told().await), ((PaymentState::Succeeded, 0), 1));

    let late = till.start(2).await;
    till.choose(&late, Choice::PayLate).await;
    assert_eq!(till.sandbox.tell(&till.payments).await, 0, "nothing has come yet");
    assert_eq!(till.ledger_minor().await, 1_000);
    till.clock.0.fetch_add(60_000, Relaxed);
    assert_eq!(till.sandbox.tell(&till.payments).await, 1);
    assert_eq!(till.ledger_minor().await, 2_000);
    assert_eq!(till.told().await, 2);
}

#[tokio::test]
async fn what_is_received_twice_for_one_payment_goes_back_once_and_is_nothing_of_the_order() {
    let (till, lists, started) = till_of_lists().await;
    let told = till.told().await;
    for want in [Followed::New, Followed::Known] {
        assert_eq!(till.told_of(&started, "paid-again", Said::Succeeded, 1_000, None).await, want);
    }
    assert_eq!(till.payments.refund_due().await, Ok(1));
    assert_eq!(*lists.asked.lock().unwrap(), [("extra-1".to_owned(), 1_000)]);
    let key = Some("extra-1");
    assert_eq!(till.told_of(&started, "refund-1", Said::Refunded, 1_000, key).await, Followed::New);
    assert_eq!(till.told_of(&started, "refund-1", Said::RefundFailed, 1_000, key).await, Followed::New);
    till.clock.0.fetch_add(600_000, Relaxed);
    assert_eq!(till.payments.refund_due().await, Ok(1), "it is still owed");
    assert_eq!((till.stands().await, till.told().await), ((PaymentState::Succeeded, 0), told));
    // From where it came, which may be another thing of the provider's than the payment is.
    assert_eq!(*lists.references.lock().unwrap(), vec![started.url.clone(); 2]);
    let other = Event {
        payment: Some(started.payment),
        reference: "other-money".to_owned(),
        ..of_lists(&started, "paid-elsewhere", Said::Succeeded, 1_000, None)
    };
    let now = till.clock.now();
    let follow = till.sql.write(move |tx| store::follow(tx, now, "lists", &other, Source::Webhook));
    assert_eq!(follow.await.unwrap(), Followed::New);
    assert_eq!(till.payments.refund_due().await, Ok(1));
    assert_eq!(lists.asked.lock().unwrap()[2], ("extra-2".to_owned(), 1_000));
    assert_eq!(lists.references.lock().unwrap()[2], "other-money");
    // All of the payment can go back as well.
    assert_eq!(
        till.payments.refund_part(started.payment, "return-1".into(), 1_000, "r".into()).await,
        Ok(())
    );
    // That all went back may be told before the success: that is received once.
    let early = till.start(2).await;
    for said in [Said::Refunded, Said::Succeeded] {
        let movement = format!("{said:?}-of-2");
        assert_eq!(till.told_of(&early, &movement, said, 1_000, None).await, Followed::New);
    }
    assert_eq!(till.payments.refund_due().await, Ok(1), "of the return alone");
}

#[tokio::test]
async fn what_went_back_elsewhere_is_not_asked_for_any_more() {
    let (till, lists, started) = till_of_lists().await;
    let part = |amount| till.payments.refund_part(started.payment, "return-1".into(), amount, "r".into());
    let forgo = |amount| till.payments.forgo_part(started.payment, "return-1".into(), amount);
    assert!(matches!(forgo(600).await, Err(StoreError::Conflict(_))), "so much is left");
    assert_eq!(part(600).await, Ok(()));
    assert!(matches!(forgo(600).await, Err(StoreError::Conflict(_))), "it goes back by itself");
    // The provider's people were faster.
    assert_eq!(till.told_of(&started, "by-hand", Said::Refunded, 500, None).await, Followed::New);
    assert_eq!((forgo(600).await, forgo(600).await, part(600).await), (Ok(()), Ok(()), Ok(())));
    // What they have given comes back: there would be enough again.
    assert_eq!(till.told_of(&started, "by-hand", Said::RefundFailed, 500, None).await, Followed::New);
    till.clock.0.fetch_add(2 * DAY, Relaxed);
    assert_eq!(till.payments.refund_due().await, Ok(1));
    assert_eq!(*lists.asked.lock().unwrap(), [("hand-1".to_owned(), 500)]);
}

#[tokio::test]
async fn that_a_refund_was_made_is_old_news_after_it_has_failed() {
    let till = Till::open().await;
    let started = till.start(1).await;
    till.choose(&started, Choice::TellNever).await;
    till.payments.read_books().await.unwrap();
    till.payments.refund(started.payment, "late".into()).await.unwrap();
    // The provider's word that it has failed is faster than that it was made, which comes by a
    // webhook, and in a page of the books that was read before.
    let key = Some("whole".to_owned());
    let told = |id: &str, said| event(id, &started, said, "refund-1", yuan(1_000));
    let failed = Event { refund_key: key.clone(), ..told("failed", Said::RefundFailed) };
    let made = Event { refund_key: key, ..told("made", Said::Refunded) };
    assert_eq!(till.follow(failed).await, Followed::New);
    assert_eq!(till.follow(made.clone()).await, Followed::Known);
    let now = till.clock.now();
    let kept = till.sql.write(move |tx| reconcile::take(tx, (now, now), sandbox::NAME, &made)).await;
    assert_eq!(kept, Ok(false));
    let view = till.of_order(1).await.remove(0);
    assert_eq!((view.state, view.refunded_minor), (PaymentState::Refunding, 0));
    let report = till.payments.compare(Day::of(now)).await.unwrap();
    assert_eq!(report.different, 0, "{report:?}");
    till.clock.0.fetch_add(600_000, Relaxed);
    assert_eq!(till.payments.refund_due().await, Ok(1), "it is asked for again");
}

#[tokio::test]
async fn late_news_of_a_refund_that_failed_do_not_keep_the_one_after_it_open() {
    let till = Till::open().await;
    let started = till.start(1).await;
    till.choose(&started, Choice::TellNever).await;
    till.payments.read_books().await.unwrap();
    till.payments.refund(started.payment, "late".into()).await.unwrap();
    let key = Some("whole".to_owned());
    let told = |id: &str, said, number: &str| event(id, &started, said, number, yuan(1_000));
    let made = Event { refund_key: key.clone(), ..told("made", Said::Refunded, "refund-2") };
    let failed = Event { refund_key: key, ..told("failed", Said::RefundFailed, "refund-1") };
    assert_eq!(till.follow(made.clone()).await, Followed::New);
    assert_eq!(till.follow(failed).await, Followed::New);
    // It is asked about again, and the provider says that it was made.
    assert_eq!(till.follow(made).await, Followed::Known);
    till.clock.0.fetch_add(DAY, Relaxed);
    assert_eq!(till.payments.refund_due().await, Ok(0));
    assert_eq!(till.of_order(1).await[0].state, PaymentState::Refunded);
}

#[tokio::test]
async fn what_went_back_by_hand_at_the_provider_does_not_go_back_again() {
    let till = Till::open().await;
    let started = till.start(1).await;
    till.choose(&started, Choice::TellNever).await;
    till.payments.read_books().await.unwrap();
    till.payments.refund(started.payment, "late".into()).await.unwrap();
    let by_hand = event("hand", &started, Said::Refunded, "by-hand", yuan(300));
    assert_eq!(till.follow(by_hand).await, Followed::New);
    assert_eq!(till.payments.refund_due().await, Ok(1));
    let text = "SELECT amount_minor FROM sandbox_refunds";
    let given = till.sql.read(move |tx| tx.query(text, &[], |row| row.count(0))).await;
    assert_eq!(given, Ok::<_, SqlError>(vec![700]));
}

#[tokio::test]
async fn one_event_that_cannot_be_so_stops_no_other() {
    let till = Till::open().await;
    let (first, second) = (till.start(1).await, till.start(2).await);
    for started in [&first, &second] {
        till.choose(started, Choice::TellNever).await;
    }
    let number = first.url[9..].to_owned();
    let changed = till.sql.write(move |tx| {
        tx.execute("UPDATE sandbox_charges SET currency = 'EUR' WHERE reference = ?", params![&number])
    });
    assert_eq!(changed.await, Ok::<u64, SqlError>(1));
    assert_eq!(till.payments.read_books().await, Ok(1));
    assert_eq!(till.of_order(1).await[0].state, PaymentState::Pending);
    assert_eq!(till.of_order(2).await[0].state, PaymentState::Succeeded);
    let long = event("1", &first, Said::Succeeded, &"x".repeat(101), yuan(1_000));
    assert_eq!(till.follow(long).await, Followed::Refused);
    // The report says it.
    let report = till.payments.compare("2026-11-11".parse().unwrap()).await.unwrap();
    assert_eq!((report.different, report.differences[0].ours), (1, None));
    assert_eq!(report.differences[0].movement, first.url[9..]);
}

#[tokio::test]
async fn a_report_that_was_made_too_early_is_made_again() {
    let till = Till::open().await;
    let day: Day = "2026-11-12".parse().unwrap();
    assert!(matches!(till.payments.reconcile(day.clone()).await, Err(StoreError::Invalid(_))));
    till.payments.books_once().await.unwrap();
    assert_eq!(till.payments.reports(None, 10).await, Ok(vec![]), "no whole day was kept yet");
    till.clock.0.store(day.begins_at().0 + 3_600_000, Relaxed);
    let early = till.payments.reconcile(day.clone()).await.unwrap();
    assert!(!early.is_whole());
    till.clock.0.store(day.ends_at().0 + 3_599_999, Relaxed);
    till.payments.books_once().await.unwrap();
    assert_eq!(till.payments.report(day.clone()).await, Ok(Some(early)));
    till.clock.0.fetch_add(1, Relaxed);
    till.payments.books_once().await.unwrap();
    let whole = till.payments.report(day).await.unwrap().unwrap();
    assert!(whole.is_whole());
    assert_eq!(till.payments.reports(None, 10).await.unwrap().len(), 1);
    // After some days away each has its report.
    till.clock.0.fetch_add(5 * DAY, Relaxed);
    till.payments.books_once().await.unwrap();
    assert_eq!(till.payments.reports(None, 10).await.unwrap().len(), 6);
}
