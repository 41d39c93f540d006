//! Payments in tables: what is read and written within one transaction.

use crate::{
    core::{Account, Said, Told},
    ledger,
    provider::{Event, Intent, RefundAsked, Started},
};
use contracts::store::{OrderId, PaymentId, PaymentState, PaymentView};
use engines::{
    params,
    sql::{Migration, Row, SqlError, Tx, outbox, unexpected},
};
use serde_json::json;
use units::{DurationMs, Money, TimeMs};

pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "payments, providers' events, refunds that are due, and the outbox",
        statements: &[
            "CREATE TABLE payments (
                id BINARY(16) PRIMARY KEY, order_id BINARY(16) NOT NULL, shopper VARCHAR(64) NOT NULL,
                provider VARCHAR(20) NOT NULL, reference VARCHAR(100), url VARCHAR(500),
                return_path VARCHAR(500) NOT NULL, state VARCHAR(20) NOT NULL,
                currency VARCHAR(3) NOT NULL, amount_minor BIGINT NOT NULL, received_minor BIGINT,
                created_at BIGINT NOT NULL, version BIGINT NOT NULL)",
            "CREATE UNIQUE INDEX payments_by_reference ON payments (provider, reference)",
            "CREATE INDEX payments_of_orders ON payments (order_id, id)",
            "CREATE TABLE provider_events (
                provider VARCHAR(20) NOT NULL, id VARCHAR(100) NOT NULL, at BIGINT NOT NULL,
                PRIMARY KEY (provider, id))",
            "CREATE TABLE refunds (
                payment BINARY(16) PRIMARY KEY, reason VARCHAR(200) NOT NULL,
                due_at BIGINT NOT NULL, tries BIGINT NOT NULL)",
            outbox::TABLE,
        ],
    },
    Migration {
        name: "the sandbox's charges and webhooks",
        statements: &[
            "CREATE TABLE sandbox_charges (
                reference VARCHAR(40) PRIMARY KEY, payment BINARY(16) NOT NULL,
                order_id BINARY(16) NOT NULL, currency VARCHAR(3) NOT NULL, amount_minor BIGINT NOT NULL,
                return_path VARCHAR(500) NOT NULL, state VARCHAR(20) NOT NULL)",
            "CREATE UNIQUE INDEX sandbox_charges_once ON sandbox_charges (payment)",
            "CREATE TABLE sandbox_webhooks (
                number {serial}, reference VARCHAR(40) NOT NULL, event VARCHAR(60) NOT NULL,
                said VARCHAR(20) NOT NULL, due_at BIGINT NOT NULL, tries BIGINT NOT NULL)",
            "CREATE INDEX sandbox_webhooks_by_time ON sandbox_webhooks (due_at)",
        ],
    },
    // One of its statements after another, where changing tables is no transaction: each may be
    // made again. The table `refunds` is not used any more.
    Migration {
        name: "refunds of a part, and what went back of each payment",
        statements: &[
            "ALTER TABLE payments ADD COLUMN refunded_minor BIGINT NOT NULL DEFAULT 0",
            "UPDATE payments SET refunded_minor = COALESCE(received_minor, amount_minor) WHERE state = 'refunded'",
            "CREATE TABLE refund_parts (
                payment BINARY(16) NOT NULL, refund_key VARCHAR(40) NOT NULL, amount_minor BIGINT NOT NULL,
                reason VARCHAR(200) NOT NULL, state VARCHAR(10) NOT NULL,
                due_at BIGINT NOT NULL, tries BIGINT NOT NULL, PRIMARY KEY (payment, refund_key))",
            "CREATE INDEX refund_parts_by_time ON refund_parts (state, due_at)",
            "INSERT INTO refund_parts (payment, refund_key, amount_minor, reason, state, due_at, tries)
                SELECT r.payment, 'whole', COALESCE(p.received_minor, p.amount_minor), r.reason, 'due', r.due_at,
                r.tries FROM refunds r JOIN payments p ON p.id = r.payment
                WHERE NOT EXISTS (SELECT 1 FROM refund_parts x WHERE x.payment = r.payment)",
            "CREATE TABLE sandbox_refunds (
                reference VARCHAR(40) NOT NULL, refund_key VARCHAR(40) NOT NULL, amount_minor BIGINT NOT NULL,
                PRIMARY KEY (reference, refund_key))",
            "ALTER TABLE sandbox_webhooks ADD COLUMN amount_minor BIGINT",
            "ALTER TABLE sandbox_webhooks ADD COLUMN refund_key VARCHAR(40)",
        ],
    },
    // What was received before is put into the books under the payment's reference; refunds of
    // before are only in `refund_parts`.
    Migration {
        name: "books: the shop's own and the provider's, and what they differ in",
        statements: &[
            "ALTER TABLE payments ADD COLUMN long_url VARCHAR(2000)",
            "CREATE TABLE movements (
                provider VARCHAR(20) NOT NULL, id VARCHAR(100) NOT NULL, payment BINARY(16) NOT NULL,
                kind VARCHAR(10) NOT NULL, currency VARCHAR(3) NOT NULL, amount_minor BIGINT NOT NULL,
                at BIGINT NOT NULL, is_from_books BIGINT NOT NULL, PRIMARY KEY (provider, id))",
            "CREATE INDEX movements_by_time ON movements (provider, at)",
            "INSERT INTO movements (provider, id, payment, kind, currency, amount_minor, at, is_from_books)
                SELECT p.provider, p.reference, p.id, 'received', p.currency,
                COALESCE(p.received_minor, p.amount_minor), p.created_at, 0 FROM payments p
                WHERE p.reference IS NOT NULL AND p.state IN ('succeeded', 'refunding', 'refunded')
                AND NOT EXISTS (SELECT 1 FROM movements m WHERE m.provider = p.provider AND m.id = p.reference)",
            "CREATE TABLE provider_ledger (
                provider VARCHAR(20) NOT NULL, id VARCHAR(100) NOT NULL, payment BINARY(16),
                reference VARCHAR(100) NOT NULL, kind VARCHAR(10) NOT NULL, currency VARCHAR(3) NOT NULL,
                amount_minor BIGINT NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (provider, id))",
            "CREATE INDEX provider_ledger_by_time ON provider_ledger (provider, at)",
            "CREATE TABLE provider_books (
                provider VARCHAR(20) PRIMARY KEY, since BIGINT NOT NULL, read_until BIGINT NOT NULL)",
            "CREATE TABLE reconciliations (
                provider VARCHAR(20) NOT NULL, day VARCHAR(10) NOT NULL, made_at BIGINT NOT NULL,
                different BIGINT NOT NULL, found_in_books BIGINT NOT NULL, refunds_open BIGINT NOT NULL,
                document MEDIUMTEXT NOT NULL, PRIMARY KEY (provider, day))",
            "ALTER TABLE refund_parts ADD COLUMN wanted_at BIGINT NOT NULL DEFAULT 0",
            "UPDATE refund_parts SET wanted_at = due_at WHERE wanted_at = 0",
            "ALTER TABLE sandbox_charges ADD COLUMN paid_at BIGINT NOT NULL DEFAULT 0",
            "ALTER TABLE sandbox_refunds ADD COLUMN at BIGINT NOT NULL DEFAULT 0",
        ],
    },
    Migration {
        name: "refunds that have failed: that they were made is old news",
        statements: &["CREATE TABLE failed_refunds (
                provider VARCHAR(20) NOT NULL, id VARCHAR(100) NOT NULL, at BIGINT NOT NULL,
                PRIMARY KEY (provider, id))"],
    },
    Migration {
        name: "money that moved, by its payment",
        statements: &["CREATE INDEX movements_of_payments ON movements (payment, kind)"],
    },
    Migration {
        name: "refunds of money that the provider has under another reference than the payment's",
        statements: &["ALTER TABLE refund_parts ADD COLUMN reference VARCHAR(100)"],
    },
    Migration {
        name: "charges of the sandbox that took the money twice",
        statements: &["ALTER TABLE sandbox_charges ADD COLUMN is_twice TINYINT NOT NULL DEFAULT 0"],
    },
];

/// The key of the refund that gives all back that is left.
pub(crate) const WHOLE: &str = "whole";
/// How far a refund is: to be asked for at the provider, asked for, and back with the shopper.
const DUE: &str = "due";
const ASKED: &str = "asked";
const BACK: &str = "back";
/// It went back elsewhere: the provider is not asked for it, also if it is wanted later.
const FORGONE: &str = "forgone";
/// How the keys begin of what was received once more, and of what people gave back at the provider
/// and did not reach the shopper. No other part has such a key.
const EXTRA: &str = "extra-";
const BY_HAND: &str = "hand-";

/// Whether a refund's key is one that payments give themselves.
pub(crate) fn is_own_key(key: &str) -> bool {
    key == WHOLE || key.starts_with(EXTRA) || key.starts_with(BY_HAND)
}

/// A row of `payments`.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) id: PaymentId,
    pub(crate) order: OrderId,
    pub(crate) provider: String,
    /// What the provider calls it, once that is known.
    pub(crate) reference: Option<String>,
    pub(crate) started: Option<Started>,
    pub(crate) return_path: String,
    pub(crate) state: PaymentState,
    pub(crate) amount: Money,
    /// What the provider said that it took; what was asked for, until it has.
    pub(crate) received: Money,
    pub(crate) refunded_minor: u64,
    pub(crate) created_at: TimeMs,
    pub(crate) version: u64,
}

impl Stored {
    fn account(&self) -> Account {
        let (received_minor, refunded_minor) = (self.received.amount_minor, self.refunded_minor);
        Account { state: self.state, received_minor, refunded_minor }
    }

    fn set(&mut self, account: Account) {
        self.state = account.state;
        self.received.amount_minor = account.received_minor;
        self.refunded_minor = account.refunded_minor;
    }

    fn shown_refunded_minor(&self) -> u64 {
        self.refunded_minor.min(self.received.amount_minor)
    }

    pub(crate) fn view(&self) -> PaymentView {
        PaymentView {
            id: self.id,
            order: self.order,
            state: self.state,
            amount: self.amount,
            refunded_minor: self.shown_refunded_minor(),
            provider_reference: self.reference.clone().unwrap_or_default(),
            created_at: self.created_at,
        }
    }

    pub(crate) fn intent(&self) -> Intent {
        Intent {
            payment: self.id,
            order: self.order,
            amount: self.amount,
            return_path: self.return_path.clone(),
        }
    }
}

const COLUMNS: &str = "id, order_id, provider, reference, url, return_path, state, currency, amount_minor, \
    received_minor, created_at, version, refunded_minor, long_url";

fn stored(row: &Row<'_>) -> Result<Stored, SqlError> {
    let reference = row.maybe_text(3)?;
    let started = match (reference.clone(), row.maybe_text(13)?.or(row.maybe_text(4)?)) {
        (Some(reference), Some(url)) => Some(Started { reference, url }),
        _ => None,
    };
    let currency = row.parsed(7, "a currency")?;
    let amount = Money { amount_minor: row.count(8)?, currency };
    let received = row.maybe_count(9)?.map_or(amount, |amount_minor| Money { amount_minor, currency });
    Ok(Stored {
        id: PaymentId::from_bytes(row.array(0)?),
        order: OrderId::from_bytes(row.array(1)?),
        provider: row.text(2)?,
        reference,
        started,
        return_path: row.text(5)?,
        state: PaymentState::from_name(&row.text(6)?).ok_or_else(|| unexpected(6, "a state"))?,
        amount,
        received,
        refunded_minor: row.count(12)?,
        created_at: TimeMs(row.count(10)?),
        version: row.count(11)?,
    })
}

/// Payments of one order, at the most: a sale remembers the answers to as many of one hold.
const PAYMENTS_MAX: usize = 10;

/// A payment that was to be begun.
#[derive(Debug, Clone)]
pub(crate) enum Begun {
    Pending(Box<Stored>),
    /// One of this order has succeeded.
    Paid,
    TooMany,
}

/// Stores a new payment, or returns the pending one of the same order, sum and provider, if it was
/// begun at `good_since` or later.
pub(crate) fn begin(
    tx: &mut Tx<'_>,
    (at, good_since): (TimeMs, TimeMs),
    id: PaymentId,
    shopper: &str,
    provider: &str,
    intent: &Intent,
) -> Result<Begun, SqlError> {
    let pending = tx.query_locked(
        &format!(
            "SELECT {COLUMNS} FROM payments WHERE order_id = ? AND state = ? AND provider = ? \
             AND currency = ? AND amount_minor = ? ORDER BY id LIMIT 1"
        ),
        params![
            &intent.order.to_bytes(),
            PaymentState::Pending.as_str(),
            provider,
            intent.amount.currency.as_str(),
            intent.amount.amount_minor
        ],
        stored,
    )?;
    if let Some(mut pending) = pending.into_iter().next() {
        if pending.created_at >= good_since {
            return Ok(Begun::Pending(Box::new(pending)));
        }
        // If it is paid all the same, that is received.
        pending.state = PaymentState::Failed;
        save(tx, &mut pending)?;
    }
    let count = of_order(tx, intent.order)?;
    if count.iter().any(|payment| payment.state == PaymentState::Succeeded) {
        return Ok(Begun::Paid);
    }
    if count.len() >= PAYMENTS_MAX {
        return Ok(Begun::TooMany);
    }
    tx.execute(
        "INSERT INTO payments (id, order_id, shopper, provider, return_path, state, currency, amount_minor, \
         created_at, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1)",
        params![
            &id.to_bytes(),
            &intent.order.to_bytes(),
            shopper,
            provider,
            &intent.return_path,
            PaymentState::Pending.as_str(),
            intent.amount.currency.as_str(),
            intent.amount.amount_minor,
            at.0
        ],
    )?;
    Ok(Begun::Pending(Box::new(Stored {
        id,
        order: intent.order,
        provider: provider.to_owned(),
        reference: None,
        started: None,
        return_path: intent.return_path.clone(),
        state: PaymentState::Pending,
        amount: intent.amount,
        received: intent.amount,
        refunded_minor: 0,
        created_at: at,
        version: 1,
    })))
}

/// The provider has it now.
pub(crate) fn is_started(tx: &mut Tx<'_>, id: PaymentId, started: &Started) -> Result<(), SqlError> {
    // The news that it was paid may have been faster.
    tx.execute(
        "UPDATE payments SET reference = COALESCE(reference, ?), long_url = ? WHERE id = ?",
        params![&started.reference, &started.url, &id.to_bytes()],
    )?;
    Ok(())
}

pub(crate) fn find(tx: &mut Tx<'_>, id: PaymentId) -> Result<Option<Stored>, SqlError> {
    let text = format!("SELECT {COLUMNS} FROM payments WHERE id = ?");
    Ok(tx.query_locked(&text, params![&id.to_bytes()], stored)?.into_iter().next())
}

pub(crate) fn of_order(tx: &mut Tx<'_>, order: OrderId) -> Result<Vec<Stored>, SqlError> {
    let text = format!("SELECT {COLUMNS} FROM payments WHERE order_id = ? ORDER BY id LIMIT 100");
    tx.query(&text, params![&order.to_bytes()], stored)
}

/// Newest first, older than `before`.
pub(crate) fn newest(
    tx: &mut Tx<'_>,
    before: Option<PaymentId>,
    at_most: usize,
) -> Result<Vec<Stored>, SqlError> {
    let before = before.map_or([0xff; 16], PaymentId::to_bytes);
    let text = format!("SELECT {COLUMNS} FROM payments WHERE id < ? ORDER BY id DESC LIMIT ?");
    tx.query(&text, params![&before, at_most], stored)
}

/// The payment that a provider tells of.
fn meant(tx: &mut Tx<'_>, provider: &str, event: &Event) -> Result<Option<Stored>, SqlError> {
    if let Some(id) = event.payment {
        return Ok(find(tx, id)?.filter(|payment| payment.provider == provider));
    }
    let text = format!("SELECT {COLUMNS} FROM payments WHERE provider = ? AND reference = ?");
    Ok(tx.query_locked(&text, params![provider, &event.reference], stored)?.into_iter().next())
}

/// Where it was learnt from that money moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Webhook,
    /// The provider's books: no webhook told of it.
    Books,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Followed {
    /// It is known from now on.
    New,
    /// It was known.
    Known,
    /// It tells of a payment that is not known (yet).
    NotKnown,
    /// It cannot be so: people have to look. The books of its day differ.
    Refused,
}

/// Bytes of the texts that a provider sends, at the most.
const NUMBER_MAX: usize = 100;
const REFUND_KEY_MAX: usize = 40;

/// Why an event cannot be of this payment.
fn contradiction(event: &Event, payment: &Stored) -> Option<&'static str> {
    let is_long = [&event.id, &event.reference, &event.movement].iter().any(|of| of.len() > NUMBER_MAX)
        || event.refund_key.as_ref().is_some_and(|key| key.len() > REFUND_KEY_MAX);
    if is_long {
        return Some("a number of the provider's is too long");
    }
    let is_other = event.amount.currency != payment.amount.currency && event.said != Said::Failed;
    is_other.then_some("the provider says another currency")
}

/// Follows what a provider told.
pub(crate) fn follow(
    tx: &mut Tx<'_>,
    at: TimeMs,
    provider: &str,
    event: &Event,
    source: Source,
) -> Result<Followed, SqlError> {
    let Some(mut payment) = meant(tx, provider, event)? else { return Ok(Followed::NotKnown) };
    if let Some(why) = contradiction(event, &payment) {
        tracing::error!(payment = %payment.id, why, movement = event.movement, "payments: an event is not followed");
        return Ok(Followed::Refused);
    }
    // The news that it was made may be slower than that it has failed.
    if event.said == Said::Refunded && ledger::has_failed(tx, provider, &event.movement)? {
        return Ok(Followed::Known);
    }
    let is_of_extra = event.refund_key.as_ref().is_some_and(|key| key.starts_with(EXTRA));
    // Also if it is known: late news of an earlier one that has failed may have asked for it again.
    if let Some(key) = event.refund_key.as_ref().filter(|_| event.said == Said::Refunded) {
        tx.execute(
            "UPDATE refund_parts SET state = ? WHERE payment = ? AND refund_key = ?",
            params![BACK, &payment.id.to_bytes(), key],
        )?;
    }
    let is_new = tx.insert_new(
        "INSERT INTO provider_events (provider, id, at) VALUES (?, ?, ?)",
        params![provider, &event.id, at.0],
    )?;
    if !is_new {
        return Ok(Followed::Known);
    }
    if event.said == Said::RefundFailed {
        refund_failed(tx, at, &mut payment, event)?;
        return Ok(Followed::New);
    }
    if matches!(event.said, Said::Succeeded | Said::Refunded) {
        let is_from_books = source == Source::Books;
        let is_new = ledger::note_movement(tx, at, provider, payment.id, event, is_from_books)?;
        if !is_new {
            return Ok(Followed::Known);
        }
    }
    // What was received once more, and goes back, is nothing of the payment's own money.
    if event.said == Said::Refunded && (is_of_extra || is_given_by_hand(tx, &payment, event)?) {
        return Ok(Followed::New);
    }
    let mut account = payment.account();
    let is_second = event.said == Said::Succeeded && ledger::times_received(tx, payment.id)? > 1;
    let told = match is_second {
        true => None,
        false => account.follow(event.said, event.amount.amount_minor),
    };
    // Some providers call it otherwise once it is paid.
    if event.said == Said::Succeeded && !is_second {
        tx.execute(
            "UPDATE payments SET reference = ? WHERE id = ?",
            params![&event.reference, &payment.id.to_bytes()],
        )?;
    }
    if account != payment.account() {
        payment.set(account);
        save(tx, &mut payment)?;
    }
    match told {
        Some(told) => tell(tx, &payment, at, told, event.refund_key.as_deref())?,
        None if is_second => {
            let movement = &event.movement;
            tracing::warn!(payment = %payment.id, movement, "payments: one payment was received twice: the second goes back");
            add_part(tx, (at, at), &payment, (EXTRA, event), "it was received twice")?;
        }
        None => {}
    }
    Ok(Followed::New)
}

/// Money has come back to the provider that was to go to the shopper: it is asked for again. What
/// people have given back at the provider is too, but later: they may do so themselves.
fn refund_failed(tx: &mut Tx<'_>, at: TimeMs, payment: &mut Stored, event: &Event) -> Result<(), SqlError> {
    let was_made = ledger::forget_movement(tx, at, &payment.provider, &event.movement)?;
    if was_made && !event.refund_key.as_ref().is_some_and(|key| key.starts_with(EXTRA)) {
        let mut account = payment.account();
        let told = account.follow(Said::RefundFailed, event.amount.amount_minor);
        payment.set(account);
        save(tx, payment)?;
        if let Some(told) = told {
            tell(tx, payment, at, told, event.refund_key.as_deref())?;
        }
    }
    match &event.refund_key {
        Some(key) => {
            tx.execute(
                "UPDATE refund_parts SET state = ?, due_at = ? WHERE payment = ? AND refund_key = ? \
                 AND state <> ?",
                params![DUE, at.plus(AFTER_FAILURE).0, &payment.id.to_bytes(), key, FORGONE],
            )?;
        }
        None if was_made => {
            tracing::error!(payment = %payment.id, movement = event.movement, "payments: a refund by hand did not reach the shopper: it is asked for again in a day");
            let due_at = at.plus(BY_HAND_AFTER_FAILURE);
            add_part(tx, (at, due_at), payment, (BY_HAND, event), "a refund by hand has failed")?;
        }
        // It was called off before it was made: nothing is owed.
        None => {}
    }
    Ok(())
}

/// Another part that is to go back, under the next key that begins so: what the provider has told
/// of, from the money that it was.
fn add_part(
    tx: &mut Tx<'_>,
    (at, due_at): (TimeMs, TimeMs),
    payment: &Stored,
    (prefix, of): (&str, &Event),
    reason: &str,
) -> Result<(), SqlError> {
    let id = payment.id.to_bytes();
    let text = "SELECT COUNT(*) FROM refund_parts WHERE payment = ? AND refund_key LIKE ?";
    let count = tx.query_first(text, params![&id, &format!("{prefix}%")], |row| row.count(0))?;
    let key = format!("{prefix}{}", count.unwrap_or_default() + 1);
    tx.execute(
        "INSERT INTO refund_parts (payment, refund_key, amount_minor, reason, state, due_at, tries, wanted_at, \
         reference) VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?)",
        params![&id, &key, of.amount.amount_minor, reason, DUE, due_at.0, at.0, &of.reference],
    )?;
    Ok(())
}

/// People have given back at the provider what is owed and was not asked for yet: the same sum is
/// taken for it, so that it does not go back twice. Returns whether it was received once more.
fn is_given_by_hand(tx: &mut Tx<'_>, payment: &Stored, event: &Event) -> Result<bool, SqlError> {
    if event.refund_key.is_some() {
        return Ok(false);
    }
    let id = payment.id.to_bytes();
    let text = "SELECT refund_key FROM refund_parts WHERE payment = ? AND state = ? AND tries = 0 \
                AND amount_minor = ? AND (refund_key LIKE ? OR refund_key LIKE ?) ORDER BY refund_key LIMIT 1";
    let (extra, by_hand) = (format!("{EXTRA}%"), format!("{BY_HAND}%"));
    let key = params![&id, DUE, event.amount.amount_minor, &extra, &by_hand];
    let Some(key) = tx.query_first(text, key, |row| row.text(0))? else { return Ok(false) };
    tx.execute(
        "UPDATE refund_parts SET state = ? WHERE payment = ? AND refund_key = ?",
        params![BACK, &id, &key],
    )?;
    Ok(key.starts_with(EXTRA))
}

/// A part went back elsewhere: the provider is not asked for it any more, whatever comes. Returns
/// false if it goes back by the provider: so much is left, or it was taken there. `None` if there
/// is no such payment.
pub(crate) fn forgo(
    tx: &mut Tx<'_>,
    at: TimeMs,
    payment: PaymentId,
    (key, amount_minor): (&str, u64),
) -> Result<Option<bool>, SqlError> {
    let Some(found) = find(tx, payment)? else { return Ok(None) };
    let left_minor = found.received.amount_minor.saturating_sub(found.refunded_minor);
    let id = payment.to_bytes();
    let text = "SELECT state FROM refund_parts WHERE payment = ? AND refund_key = ?";
    let state = tx.query_first(text, params![&id, key], |row| row.text(0))?;
    match state.as_deref() {
        Some(FORGONE) => return Ok(Some(true)),
        _ if amount_minor <= left_minor => return Ok(Some(false)),
        Some(DUE) => {
            tx.execute(
                "UPDATE refund_parts SET state = ? WHERE payment = ? AND refund_key = ?",
                params![FORGONE, &id, key],
            )?;
        }
        Some(_) => return Ok(Some(false)),
        None => {
            tx.execute(
                "INSERT INTO refund_parts (payment, refund_key, amount_minor, reason, state, due_at, tries, wanted_at) \
                 VALUES (?, ?, ?, 'it went back elsewhere', ?, ?, 0, ?)",
                params![&id, key, amount_minor, FORGONE, at.0, at.0],
            )?;
        }
    }
    Ok(Some(true))
}

/// Money that is to go back.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) payment: PaymentId,
    pub(crate) key: String,
    /// All that is left, if none.
    pub(crate) amount_minor: Option<u64>,
    pub(crate) reason: String,
}

/// Money is to go back. Returns false if there is not so much.
pub(crate) fn refund(tx: &mut Tx<'_>, at: TimeMs, wanted: &Wanted) -> Result<Option<bool>, SqlError> {
    let Some(mut payment) = find(tx, wanted.payment)? else { return Ok(None) };
    let id = wanted.payment.to_bytes();
    let text = "SELECT amount_minor, state FROM refund_parts WHERE payment = ? AND refund_key = ?";
    let known = tx.query_first(text, params![&id, &wanted.key], |row| Ok((row.count(0)?, row.text(1)?)))?;
    if let Some((known, state)) = known {
        let is_same = wanted.amount_minor.is_none_or(|amount| amount == known);
        return Ok(Some(is_same || state == FORGONE));
    }
    // Those that are not back yet; of one payment there are some tens at the most.
    let text = "SELECT amount_minor FROM refund_parts WHERE payment = ? AND state IN (?, ?) \
                AND refund_key NOT LIKE ?";
    let extra = format!("{EXTRA}%");
    let asked = tx.query(text, params![&id, DUE, ASKED, &extra], |row| row.count(0))?;
    let asked: u64 = asked.into_iter().sum();
    let mut account = payment.account();
    let Some(amount) = account.refund(wanted.amount_minor, asked) else { return Ok(Some(false)) };
    if account != payment.account() {
        payment.set(account);
        save(tx, &mut payment)?;
    }
    if amount > 0 {
        tx.execute(
            "INSERT INTO refund_parts (payment, refund_key, amount_minor, reason, state, due_at, tries, wanted_at) \
             VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
            params![&id, &wanted.key, amount, &wanted.reason, DUE, at.0, at.0],
        )?;
    }
    Ok(Some(true))
}

fn save(tx: &mut Tx<'_>, payment: &mut Stored) -> Result<(), SqlError> {
    payment.version += 1;
    tx.execute(
        "UPDATE payments SET state = ?, received_minor = ?, refunded_minor = ?, version = ? WHERE id = ?",
        params![
            payment.state.as_str(),
            payment.received.amount_minor,
            payment.refunded_minor,
            payment.version,
            &payment.id.to_bytes()
        ],
    )?;
    Ok(())
}

/// Puts an event into the outbox.
fn tell(
    tx: &mut Tx<'_>,
    payment: &Stored,
    at: TimeMs,
    told: Told,
    refund_key: Option<&str>,
) -> Result<(), SqlError> {
    let kind = match told {
        Told::Succeeded => "succeeded",
        Told::Failed => "failed",
        Told::PartRefunded => "part_refunded",
        Told::Refunded => "refunded",
        Told::RefundFailed => "refund_failed",
    };
    let event = json!({
        "specversion": "1.0",
        "id": format!("{}-{}", payment.id, payment.version),
        "source": "/payments",
        "type": format!("floodgate.payment.{kind}"),
        "subject": payment.order,
        "time": at,
        "datacontenttype": "application/json",
        "data": {
            "payment": payment.id,
            "order": payment.order,
            "version": payment.version,
            "amount_minor": payment.received.amount_minor,
            "refunded_minor": payment.shown_refunded_minor(),
            "refund": refund_key,
            "currency": payment.received.currency,
            "provider": payment.provider,
        },
    });
    outbox::put(tx, &event.to_string())
}

/// When it is asked what became of a refund that the provider has taken.
const ASKED_AGAIN: DurationMs = DurationMs(6 * 3_600_000);
/// When a refund is asked for again that did not reach the shopper.
const AFTER_FAILURE: DurationMs = DurationMs(600_000);
/// The same of one that people made at the provider.
const BY_HAND_AFTER_FAILURE: DurationMs = DurationMs(24 * 3_600_000);

/// Longer than any pause: what is due later was written while the clock was ahead.
pub(crate) const AHEAD: DurationMs = DurationMs(3_600_000);

/// Refunds that this provider is to be asked for, or asked about, with how often they were tried.
pub(crate) fn due_refunds(
    tx: &mut Tx<'_>,
    now: TimeMs,
    provider: &str,
    at_most: usize,
) -> Result<Vec<(RefundAsked, u64)>, SqlError> {
    let read = |row: &Row<'_>| {
        let amount = Money { amount_minor: row.count(2)?, currency: row.parsed(4, "a currency")? };
        let (payment, key) = (PaymentId::from_bytes(row.array(0)?), row.text(1)?);
        let reference = row.text(5)?;
        let left = row.count(6)?.saturating_sub(row.count(7)?);
        Ok((RefundAsked { payment, reference, key, amount }, row.count(3)?, left))
    };
    let mut due = Vec::new();
    // One after the other, so that each is found by the index. What was asked for is asked about
    // now and then: no word may have come of it.
    for (state, wait) in [(DUE, BY_HAND_AFTER_FAILURE), (ASKED, ASKED_AGAIN)] {
        let ahead = wait.0 + AHEAD.0;
        let text = "SELECT r.payment, r.refund_key, r.amount_minor, r.tries, p.currency, \
                    COALESCE(r.reference, p.reference), \
                    COALESCE(p.received_minor, p.amount_minor), p.refunded_minor \
                    FROM refund_parts r JOIN payments p ON p.id = r.payment \
                    WHERE r.state = ? AND (r.due_at <= ? OR r.due_at > ?) AND p.provider = ? \
                    AND p.reference IS NOT NULL ORDER BY r.due_at LIMIT ?";
        due.extend(tx.query(
            text,
            params![state, now.0, now.plus(DurationMs(ahead)).0, provider, at_most],
            read,
        )?);
    }
    let mut refunds = Vec::new();
    for (mut refund, tries, left) in due {
        // What went back meanwhile by hand, at the provider, does not go back again.
        if refund.key == WHOLE || refund.key.starts_with(BY_HAND) {
            refund.amount.amount_minor = refund.amount.amount_minor.min(left);
        }
        refunds.push((refund, tries));
    }
    Ok(refunds)
}

/// The provider has taken the refund; it tells when it is made, which may have been faster.
pub(crate) fn end_refund(tx: &mut Tx<'_>, at: TimeMs, of: &RefundAsked) -> Result<(), SqlError> {
    let state = if of.amount.amount_minor == 0 { BACK } else { ASKED };
    tx.execute(
        "UPDATE refund_parts SET state = ?, due_at = ? WHERE payment = ? AND refund_key = ? \
         AND state IN (?, ?)",
        params![state, at.plus(ASKED_AGAIN).0, &of.payment.to_bytes(), &of.key, DUE, ASKED],
    )?;
    Ok(())
}

pub(crate) fn put_refund_off(
    tx: &mut Tx<'_>,
    of: &RefundAsked,
    tries: u64,
    until: TimeMs,
) -> Result<(), SqlError> {
    tx.execute(
        "UPDATE refund_parts SET due_at = ?, tries = ? WHERE payment = ? AND refund_key = ?",
        params![until.0, tries + 1, &of.payment.to_bytes(), &of.key],
    )?;
    Ok(())
}
