//! A sale's log in words, for those who must say afterwards what happened.

use crate::core::{Entry, Record};
use contracts::{Actor, Attempt, Basket, IneligibleBy, ListKind, SaleSpec, TimelineEntry, TimelineFilter};
use engines::codec::DecodeError;
use units::{Sequence, TimeMs};

/// The log in words, entry after entry from the first that is wanted on. Items have names once the
/// sale's document has been read.
#[derive(Debug, Default)]
pub struct Timeline {
    spec: Option<Box<SaleSpec>>,
}

impl Timeline {
    /// A timeline that begins after the sale's document.
    pub fn of(spec: &SaleSpec) -> Self {
        Self { spec: Some(Box::new(spec.clone())) }
    }

    /// The next entry in words.
    pub fn entry(&mut self, sequence: Sequence, bytes: &[u8]) -> Result<TimelineEntry, DecodeError> {
        let Entry { at, record } = Entry::decode(bytes)?;
        let told = self.tell(&record);
        if let Record::Defined { spec, .. } = record {
            self.spec = Some(spec);
        }
        Ok(TimelineEntry { sequence, at, ..told })
    }

    fn item(&self, item: u16) -> String {
        let spec = self.spec.as_ref().and_then(|spec| spec.items.get(usize::from(item)));
        spec.map_or_else(|| format!("item number {item}"), |spec| spec.item.to_string())
    }

    fn goods(&self, basket: &Basket) -> String {
        let lines = basket.iter().map(|line| format!("{} × {}", line.quantity, self.item(line.item)));
        lines.collect::<Vec<_>>().join(", ")
    }

    fn tell(&self, record: &Record) -> TimelineEntry {
        let plain = |kind: &'static str, by: Option<&Actor>, what: String| TimelineEntry {
            sequence: Sequence(0),
            at: TimeMs(0),
            kind,
            by: by.cloned(),
            shopper: None,
            sealed: None,
            attempt: None,
            what,
        };
        let of = |attempt: &Attempt, entry: TimelineEntry| TimelineEntry {
            shopper: Some(attempt.shopper),
            sealed: Some(attempt.sealed),
            attempt: Some(attempt.id),
            ..entry
        };
        let round = |round: u16| format!("round {}", round + 1);
        match record {
            Record::Defined { by, spec } => {
                let (items, rounds) = (spec.items.len(), spec.rounds.len());
                let what = format!("the sale {:?} was defined: {items} items in {rounds} rounds", spec.name);
                plain("defined", Some(by), what)
            }
            Record::RoundOpened { round: r, by } => {
                plain("round_opened", Some(by), format!("{} opened", round(*r)))
            }
            Record::RoundClosed { round: r, by } => {
                plain("round_closed", Some(by), format!("{} ended", round(*r)))
            }
            Record::Paused { by } => plain("paused", Some(by), "the sale was paused".into()),
            Record::Resumed { by } => plain("resumed", Some(by), "the sale was resumed".into()),
            Record::Extended { round: r, closes_at, by } => {
                plain("extended", Some(by), format!("the end of {} was moved to {closes_at}", round(*r)))
            }
            Record::Adjusted { item, delta, by } => {
                plain("adjusted", Some(by), format!("the stock of {} changed by {delta:+}", self.item(*item)))
            }
            Record::Limits { sale, items, by } => {
                let whole = sale.map(|limit| format!("over the whole sale to {limit}"));
                let items = items
                    .iter()
                    .map(|l| format!("for {} in {} to {}", self.item(l.item), round(l.round), l.limit));
                let all: Vec<String> = whole.into_iter().chain(items).collect();
                plain("limits", Some(by), format!("limits for a shopper were set {}", all.join(", ")))
            }
            Record::Rate { per_second: 0, by } => {
                plain("rate", Some(by), "the limit of attempts a second was removed".into())
            }
            Record::Rate { per_second, by } => {
                plain("rate", Some(by), format!("{per_second} attempts a second are admitted"))
            }
            Record::List { list, clear, shoppers, by } => {
                let list = match list {
                    ListKind::Allowed => "allow list",
                    ListKind::Denied => "deny list",
                };
                let does = if *clear { "replaced by" } else { "extended by" };
                plain("list", Some(by), format!("the {list} was {does} {} shoppers", shoppers.len()))
            }
            Record::Reserved { shopper, reserved } => {
                let what = if *reserved { "a reservation was made" } else { "a reservation was cancelled" };
                TimelineEntry { shopper: Some(*shopper), ..plain("reserved", None, what.into()) }
            }
            Record::Granted { attempt, round: r, pay_by } => {
                let goods = self.goods(&attempt.basket);
                of(attempt, plain("granted", None, format!("{goods} held in {} until {pay_by}", round(*r))))
            }
            Record::Waitlisted { attempt, position, .. } => {
                let goods = self.goods(&attempt.basket);
                of(
                    attempt,
                    plain("waitlisted", None, format!("place {position} on the waitlist for {goods}")),
                )
            }
            Record::Promoted { attempt, pay_by, .. } => {
                let goods = self.goods(&attempt.basket);
                let what = format!("{goods} held until {pay_by}: the turn on the waitlist came");
                of(attempt, plain("promoted", None, what))
            }
            Record::Confirmed { hold, payment, late, by } => {
                let late = if *late { ", late, of free stock" } else { "" };
                let what = format!("payment {payment:?} was recorded{late}");
                TimelineEntry { attempt: Some(*hold), ..plain("confirmed", by.as_ref(), what) }
            }
            Record::RefundDue { hold, payment, by } => {
                let what = format!("payment {payment:?} came for a hold that is over: to be refunded");
                TimelineEntry { attempt: Some(*hold), ..plain("refund_due", by.as_ref(), what) }
            }
            Record::Released { hold, by } => TimelineEntry {
                attempt: Some(*hold),
                ..plain("released", Some(by), "the hold was released".into())
            },
            Record::Expired { hold } => TimelineEntry {
                attempt: Some(*hold),
                ..plain("expired", None, "the hold expired unpaid".into())
            },
            Record::Voided { hold, by } => TimelineEntry {
                attempt: Some(*hold),
                ..plain("voided", Some(by), "the hold was voided".into())
            },
            Record::Left { attempt, voided, by } => {
                let what = if *voided { "taken back" } else { "given up" };
                TimelineEntry {
                    attempt: Some(*attempt),
                    ..plain("left", Some(by), format!("the place on the waitlist was {what}"))
                }
            }
            Record::WaitlistEnded { by } => {
                plain("waitlist_ended", Some(by), "the waitlists were ended".into())
            }
            Record::CommandDone { .. } => {
                plain("command_done", None, "the command before had an Idempotency-Key, which is kept".into())
            }
            Record::Refusals { entries } => {
                let count: u64 = entries.iter().map(|e| e.count).sum();
                plain("refusals", None, format!("{count} attempts had been refused since the last count"))
            }
            Record::GateRefusals { entries } => {
                let told = entries.iter().map(|e| {
                    let (first, last) = (e.first_as_of, e.last_as_of);
                    format!("{} of {} as of entries {first} to {last}", e.count, self.item(e.item))
                });
                let told: Vec<String> = told.collect();
                plain("gate_refusals", None, format!("gates told \"sold out\": {}", told.join(", ")))
            }
            Record::GateNotEligible { entries } => {
                let told = entries.iter().map(|e| {
                    let rule = match e.by {
                        IneligibleBy::DenyList => "the deny list",
                        IneligibleBy::Tier => "the tier",
                    };
                    format!("{} by {rule} as of entries {} to {}", e.count, e.first_as_of, e.last_as_of)
                });
                let told: Vec<String> = told.collect();
                plain("gate_not_eligible", None, format!("gates told \"not eligible\": {}", told.join(", ")))
            }
            Record::SpaceRegained { since, refused } => {
                let what =
                    format!("the disk was full since {since}; {refused} attempts were told \"paused\"");
                plain("space_regained", None, what)
            }
        }
    }
}

/// Reads entries into a page of those that are wanted.
#[derive(Debug)]
pub struct Page {
    timeline: Timeline,
    filter: TimelineFilter,
    max: usize,
    /// The entries, oldest first.
    pub found: Vec<TimelineEntry>,
}

impl Page {
    pub fn new(timeline: Timeline, filter: TimelineFilter, max: usize) -> Self {
        Self { timeline, filter, max, found: Vec::new() }
    }

    /// Takes the next entry; true once the page is full.
    pub fn take(&mut self, sequence: Sequence, bytes: &[u8]) -> Result<bool, DecodeError> {
        let entry = self.timeline.entry(sequence, bytes)?;
        // Later entries of a wanted shopper's hold name only the hold.
        if let Some(attempt) = entry.attempt
            && self.filter.shopper.is_some_and(|shopper| entry.shopper == Some(shopper))
        {
            self.filter.shoppers_attempts.insert(attempt);
        }
        if self.filter.wants(&entry) {
            self.found.push(entry);
        }
        Ok(self.found.len() >= self.max)
    }
}
