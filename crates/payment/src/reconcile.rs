//! The provider's books are read every few minutes: money of which no webhook told is followed from
//! there. Once a day the two books are compared.

use crate::{
    core::Said,
    ledger::{self, Comparison, Kept},
    provider::{Event, LedgerPage},
    report::{Day, LISTED_AFTER, Report, Summary},
    service::{Service, of_sql},
    store::{self, Followed, Source},
};
use contracts::store::StoreError;
use engines::sql::{SqlError, Tx};
use std::{sync::Arc, time::Duration};
use units::{DurationMs, TimeMs};
use web::warning::Warning;

/// How often the books are read.
const READ_EVERY: Duration = Duration::from_secs(600);
/// How far back they are read again: the provider may list what moved a little later.
const AGAIN: DurationMs = DurationMs(900_000);
/// How far back they are read the first time.
const FIRST: DurationMs = DurationMs(4 * 86_400_000);
/// Of so much time they are read at once: after a long time away, one part after another.
const PART: DurationMs = DurationMs(3_600_000);
/// Pages of one part, at the most: ten million movements.
const PAGES_MAX: usize = 100_000;
/// How often a page is asked for that does not come, and the pause before.
const PAGE_TRIES: u32 = 4;
const PAGE_PAUSE: Duration = Duration::from_secs(2);
const DAY: DurationMs = DurationMs(86_400_000);
/// How far back the books are read once more before a day is compared: what went back slowly is
/// listed where it was asked for.
const SLOWLY: DurationMs = DurationMs(3 * DAY.0);
/// For so long the provider is asked each day which refunds have failed: banks take their time, and
/// the news of it may not have come. Stripe says 30 days.
const FAILS_WITHIN: DurationMs = DurationMs(35 * DAY.0);
/// Days whose report is made if it is missing, such as after a time away.
const DAYS_BACK: u64 = 31;
/// A refund that takes longer is said in the report.
const REFUND_TAKES: DurationMs = DurationMs(7 * 86_400_000);

impl Service {
    /// Reads the books and compares them, for ever.
    pub(crate) async fn keep_books(self: Arc<Self>) {
        let mut warning = Warning::default();
        loop {
            if let Err(error) = self.books_once().await
                && let Some(count) = warning.due()
            {
                tracing::warn!(%error, count, "payments: the provider's books cannot be read now");
            }
            tokio::time::sleep(READ_EVERY).await;
        }
    }

    pub(crate) async fn books_once(&self) -> Result<(), StoreError> {
        self.read_books().await?;
        let (now, name) = (self.clock.now(), self.provider.name());
        let kept = self.sql.primary().read(move |tx| ledger::kept(tx, name)).await;
        let kept = kept.map_err(|error| of_sql(&error))?;
        let since = kept.map_or(now, |kept| kept.since);
        let mut are_refunds_read = false;
        for back in (1..=DAYS_BACK).rev() {
            let day = Day::of(TimeMs(now.0.saturating_sub(LISTED_AFTER.0 + back * DAY.0)));
            // Of days of which no whole one was kept there is nothing to say.
            if day.begins_at() < since {
                continue;
            }
            // One that an operator has made meanwhile, or a clock that was ahead, is no day's
            // report.
            let made = self.report(day.clone()).await?;
            if made.is_some_and(|report| report.is_whole() && report.made_at <= now) {
                continue;
            }
            if !std::mem::replace(&mut are_refunds_read, true) {
                self.read_refunds(now).await?;
            }
            let Report { day, different, refunds_open, refunds_failed, .. } = self.reconcile(day).await?;
            if different > 0 || refunds_open > 0 || refunds_failed > 0 {
                tracing::warn!(%day, different, refunds_open, refunds_failed, "payments: the provider's books differ from ours, or money is owed");
            }
        }
        Ok(())
    }

    /// Reads the books of a day once more, and compares them.
    pub async fn reconcile(&self, day: Day) -> Result<Report, StoreError> {
        if day.begins_at() > self.clock.now() {
            return Err(StoreError::Invalid(format!("day: {day} has not begun")));
        }
        let (mut from, to) = (back(day.begins_at(), SLOWLY), day.ends_at().plus(AGAIN));
        let _alone = self.reading.lock().await;
        while from < to {
            let next = from.plus(DAY).min(to);
            self.read_part(Listed::All, from, next).await?;
            from = next;
        }
        self.compare(day).await
    }

    /// Reads the provider's books on from where they were read to, and follows what no webhook
    /// told. Returns how much that was.
    pub async fn read_books(&self) -> Result<u64, StoreError> {
        let _alone = self.reading.lock().await;
        let (now, name) = (self.clock.now(), self.provider.name());
        let kept = self.sql.primary().read(move |tx| ledger::kept(tx, name)).await;
        let kept = kept.map_err(|error| of_sql(&error))?;
        let mut kept = kept.unwrap_or(Kept { since: now, read_until: back(now, FIRST) });
        // What was read while the clock was ahead is read again.
        let mut from = match kept.read_until <= now {
            true => back(kept.read_until, AGAIN),
            false => back(now, FIRST),
        };
        let mut found = 0;
        while from < now {
            let to = from.plus(PART).min(now);
            // A little of the future, by the provider's clock.
            found += self.read_part(Listed::All, from, to.plus(AGAIN)).await?;
            kept.read_until = to;
            let written = self.sql.write(move |tx| ledger::set_kept(tx, name, kept)).await;
            written.map_err(|error| of_sql(&error))?;
            from = to;
        }
        Ok(found)
    }

    /// Reads which refunds have failed since they were made: such a one is followed as if a webhook
    /// had told of it.
    async fn read_refunds(&self, now: TimeMs) -> Result<(), StoreError> {
        let _alone = self.reading.lock().await;
        let mut from = back(now, FAILS_WITHIN);
        while from < now {
            let next = from.plus(DurationMs(7 * DAY.0)).min(now);
            self.read_part(Listed::Refunds, from, next).await?;
            from = next;
        }
        Ok(())
    }

    /// A page of the books, which is asked for again if it does not come.
    async fn page(
        &self,
        listed: Listed,
        (from, to): (TimeMs, TimeMs),
        after: Option<&String>,
    ) -> Result<LedgerPage, StoreError> {
        let mut tries = 1;
        loop {
            let asked = match listed {
                Listed::All => self.provider.ledger(from, to, after.cloned()),
                Listed::Refunds => self.provider.refunds(from, to, after.cloned()),
            };
            match asked.await {
                Err(StoreError::Unavailable(_)) if tries < PAGE_TRIES => tries += 1,
                answered => return answered,
            }
            tokio::time::sleep(PAGE_PAUSE).await;
        }
    }

    async fn read_part(&self, listed: Listed, from: TimeMs, to: TimeMs) -> Result<u64, StoreError> {
        let (mut after, mut found) = (None, 0);
        for _ in 0..PAGES_MAX {
            let page = self.page(listed, (from, to), after.as_ref()).await?;
            let (now, name, movements) = (self.clock.now(), self.provider.name(), page.movements);
            let kept = self.sql.write(move |tx| {
                let mut found = 0;
                for (at, event) in &movements {
                    found += u64::from(take(tx, (now, *at), name, event)?);
                }
                Ok::<u64, SqlError>(found)
            });
            found += kept.await.map_err(|error| of_sql(&error))?;
            match page.next {
                Some(next) if after.as_ref() != Some(&next) => after = Some(next),
                _ => {
                    self.tell_now();
                    return Ok(found);
                }
            }
        }
        Err(StoreError::Unavailable(format!("the books of this time have more than {PAGES_MAX} pages")))
    }

    /// Compares a day's books, as far as they are read, and keeps the report in place of an earlier
    /// one.
    pub(crate) async fn compare(&self, day: Day) -> Result<Report, StoreError> {
        let name = self.provider.name();
        let mut comparison = Comparison::new(name, day.begins_at(), day.ends_at());
        // What a replica lacks would be a difference.
        let sql = self.sql.primary();
        loop {
            let so_far = comparison.clone();
            let read = sql.read(move |tx| {
                let mut next = so_far.clone();
                let is_more = next.go_on(tx)?;
                Ok::<_, SqlError>((next, is_more))
            });
            let (done, is_more) = read.await.map_err(|error| of_sql(&error))?;
            comparison = done;
            if !is_more {
                break;
            }
        }
        let made_at = self.clock.now();
        let since = TimeMs(day.ends_at().0.saturating_sub(REFUND_TAKES.0));
        let open = sql.read(move |tx| ledger::refunds_open(tx, name, since)).await;
        let refunds_open = open.map_err(|error| of_sql(&error))?;
        let times = (day.begins_at(), day.ends_at());
        let failed = sql.read(move |tx| ledger::refunds_failed(tx, name, times)).await;
        let refunds_failed = failed.map_err(|error| of_sql(&error))?;
        let written = self.sql.write(move |tx| {
            let report = Report {
                provider: name.to_owned(),
                day: day.clone(),
                made_at,
                totals: comparison.totals.clone(),
                different: comparison.different,
                differences: comparison.differences.clone(),
                found_in_books: comparison.found_in_books,
                refunds_open,
                refunds_failed,
            };
            ledger::put_report(tx, &report)?;
            Ok::<_, SqlError>(report)
        });
        written.await.map_err(|error| of_sql(&error))
    }

    /// The figures of reports, newest first, of days before this one.
    pub async fn reports(&self, before: Option<Day>, at_most: usize) -> Result<Vec<Summary>, StoreError> {
        let (name, at_most) = (self.provider.name(), at_most.clamp(1, 100));
        let read = self.sql.read(move |tx| ledger::reports(tx, name, before.as_ref(), at_most));
        read.await.map_err(|error| of_sql(&error))
    }

    /// The report of a day.
    pub async fn report(&self, day: Day) -> Result<Option<Report>, StoreError> {
        let name = self.provider.name();
        let read = self.sql.read(move |tx| ledger::report_of(tx, name, &day)).await;
        read.map_err(|error| of_sql(&error))
    }
}

/// Which of the provider's lists are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listed {
    All,
    Refunds,
}

fn back(at: TimeMs, length: DurationMs) -> TimeMs {
    TimeMs(at.0.saturating_sub(length.0))
}

/// Keeps a row of the books, and follows it if no webhook told of it. Returns whether that was so.
/// What is of no payment here is another shop's, with the same account at the provider.
pub(crate) fn take(
    tx: &mut Tx<'_>,
    (now, at): (TimeMs, TimeMs),
    provider: &str,
    event: &Event,
) -> Result<bool, SqlError> {
    if event.said == Said::RefundFailed {
        return Ok(store::follow(tx, now, provider, event, Source::Books)? == Followed::New);
    }
    // The page was read before it failed.
    if event.said == Said::Refunded && ledger::has_failed(tx, provider, &event.movement)? {
        return Ok(false);
    }
    let followed = match ledger::is_known(tx, provider, &event.movement)? {
        true => Followed::Known,
        false => store::follow(tx, now, provider, event, Source::Books)?,
    };
    if followed != Followed::NotKnown || event.payment.is_some() {
        ledger::keep(tx, provider, at, event)?;
    }
    Ok(followed == Followed::New)
}
