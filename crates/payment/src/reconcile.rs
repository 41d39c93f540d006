//! The provider's books are read every few minutes: money of which no webhook told is followed from
//! there. Once a day the two books are compared.

use crate::{
    ledger::{self, Comparison},
    provider::Event,
    report::{Day, Report},
    service::{Service, of_sql},
    store::{self, Source},
};
use contracts::store::StoreError;
use engines::sql::SqlError;
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
const PART: DurationMs = DurationMs(86_400_000);
/// Pages of one part, at the most: a day's ten million movements.
const PAGES_MAX: usize = 100_000;
/// A day is compared so long after its end: what it has is listed by then.
const AFTER_DAY: DurationMs = DurationMs(3_600_000);
/// Days whose report is made if it is missing, such as after a time away.
const DAYS_BACK: u64 = 3;
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

    async fn books_once(&self) -> Result<(), StoreError> {
        self.read_books().await?;
        let now = self.clock.now().0.saturating_sub(AFTER_DAY.0);
        for back in (1..=DAYS_BACK).rev() {
            let day = Day::of(TimeMs(now.saturating_sub(back * 86_400_000)));
            if self.report(day.clone()).await?.is_some() {
                continue;
            }
            let Report { day, different, refunds_open, .. } = self.compare(day).await?;
            if different > 0 || refunds_open > 0 {
                tracing::warn!(%day, different, refunds_open, "payments: the provider's books differ from ours");
            }
        }
        Ok(())
    }

    /// Reads the provider's books on from where they were read to, and follows what no webhook
    /// told. Returns how much that was.
    pub async fn read_books(&self) -> Result<u64, StoreError> {
        let (now, name) = (self.clock.now(), self.provider.name());
        let read = self.sql.read(move |tx| ledger::read_until(tx, name)).await;
        let back = |at: TimeMs, length: DurationMs| TimeMs(at.0.saturating_sub(length.0));
        // What was read while the clock was ahead is read again.
        let mut from = match read.map_err(|error| of_sql(&error))? {
            Some(until) => back(until.min(now), AGAIN),
            None => back(now, FIRST),
        };
        let mut found = 0;
        while from < now {
            let to = from.plus(PART).min(now);
            // A little of the future, by the provider's clock.
            found += self.read_part(from, to.plus(AGAIN)).await?;
            let written = self.sql.write(move |tx| ledger::set_read_until(tx, name, to)).await;
            written.map_err(|error| of_sql(&error))?;
            from = to;
        }
        Ok(found)
    }

    async fn read_part(&self, from: TimeMs, to: TimeMs) -> Result<u64, StoreError> {
        let (mut after, mut found) = (None, 0);
        for _ in 0..PAGES_MAX {
            let page = self.provider.ledger(from, to, after.clone()).await?;
            let (now, name, movements) = (self.clock.now(), self.provider.name(), page.movements);
            let kept = self.sql.write(move |tx| {
                let mut found = 0;
                for (at, event) in &movements {
                    ledger::keep(tx, name, *at, event)?;
                    found += u64::from(follow_unknown(tx, now, name, event)?);
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
        Err(StoreError::Unavailable(format!("the books of one day have more than {PAGES_MAX} pages")))
    }

    /// Compares a day's books, as far as they are read, and keeps the report in place of an earlier
    /// one.
    pub async fn compare(&self, day: Day) -> Result<Report, StoreError> {
        let name = self.provider.name();
        let mut comparison = Comparison::new(name, day.begins_at(), day.ends_at());
        loop {
            let so_far = comparison.clone();
            let read = self.sql.read(move |tx| {
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
        let written = self.sql.write(move |tx| {
            let report = Report {
                provider: name.to_owned(),
                day: day.clone(),
                made_at,
                totals: comparison.totals.clone(),
                different: comparison.different,
                differences: comparison.differences.clone(),
                found_in_books: comparison.found_in_books,
                refunds_open: ledger::refunds_open(tx, since)?,
            };
            ledger::put_report(tx, &report)?;
            Ok::<_, SqlError>(report)
        });
        written.await.map_err(|error| of_sql(&error))
    }

    /// Reports, newest first, of days before this one.
    pub async fn reports(&self, before: Option<Day>, at_most: usize) -> Result<Vec<Report>, StoreError> {
        let (name, at_most) = (self.provider.name(), at_most.clamp(1, 100));
        let read =
            self.sql.read(move |tx| ledger::reports(tx, name, before.as_ref().map(Day::as_str), at_most));
        read.await.map_err(|error| of_sql(&error))
    }

    /// The report of a day.
    pub async fn report(&self, day: Day) -> Result<Option<Report>, StoreError> {
        let name = self.provider.name();
        let read = self.sql.read(move |tx| ledger::report_of(tx, name, day.as_str())).await;
        read.map_err(|error| of_sql(&error))
    }
}

/// Follows money of which no webhook told. Returns whether it was such.
fn follow_unknown(
    tx: &mut engines::sql::Tx<'_>,
    now: TimeMs,
    provider: &str,
    event: &Event,
) -> Result<bool, SqlError> {
    if ledger::is_known(tx, provider, &event.movement)? {
        return Ok(false);
    }
    store::follow(tx, now, provider, event, Source::Books)
}
