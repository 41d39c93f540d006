//! The bounds of a sale, as numbers of the simulator's own, and rare kinds of seeds that reach and
//! pass them.

use contracts::{
    Eligibility, ITEMS_MAX, ItemSpec, QUANTITY_MAX, ROUNDS_MAX, RoundItemSpec, RoundSpec, STOCK_MAX,
    SaleSpec, Waitlist,
};
use units::{DurationMs, Prng};

/// Keys of operators' commands that a sale remembers.
pub(crate) const COMMAND_KEYS_MAX: usize = 4096;
/// Payments that one hold may see.
pub(crate) const PAYMENTS_MAX: usize = 16;
/// The greatest limit per shopper, and the most limits in a command.
pub(crate) const LIMIT_MAX: u32 = 1000;
pub(crate) const LIMITS_MAX: usize = 1000;
/// Attempts that a shopper is told of, the newest.
pub(crate) const SHOPPER_ATTEMPTS_MAX: usize = 100;
/// Different refusals that wait to be journalled.
pub(crate) const REFUSAL_KINDS_MAX: usize = 512;
/// Places in a page of those who wait.
pub(crate) const WAITING_PAGE_MAX: usize = 1000;

/// A kind of seed at a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extreme {
    /// More keys of commands than are remembered, and a gate's report of more ranges than an entry
    /// has.
    Keys,
    /// More payments than a hold may see.
    Payments,
    /// As many items, or items and rounds, as there may be, and baskets of as many lines.
    Document,
    /// Few shoppers with many active attempts, large quantities, and limits that bind late.
    Hoarders,
    /// More places than a page has, for as many different quantities.
    Waiting,
    /// More holds than one piece of the deadlines has.
    Holds,
    /// More different refusals than are counted.
    Refusals,
}

impl Extreme {
    const ALL: [Self; 7] = [
        Self::Keys,
        Self::Payments,
        Self::Document,
        Self::Hoarders,
        Self::Waiting,
        Self::Holds,
        Self::Refusals,
    ];

    /// The kind of a seed, which one seed of seven has. It has a generator of its own, so that
    /// the other seeds run as they would without it.
    pub(crate) fn of(mut prng: Prng) -> Option<Self> {
        let mut prng = Prng::new(prng.next_u64() ^ 0x6174_2061_626f_756e);
        let is_one = prng.below(7) == 0;
        is_one.then(|| *prng.pick(&Self::ALL))
    }

    /// Makes a sale in which the bounds can be reached.
    pub(crate) fn change(self, prng: &mut Prng, spec: &mut SaleSpec) {
        if self != Self::Payments && self != Self::Document {
            spec.eligibility = Eligibility::Everyone;
            spec.limit_per_shopper = 0;
        }
        let last = spec.items[spec.items.len() - 1].item.clone();
        let offers = spec.rounds.iter_mut().flat_map(|round| &mut round.items);
        match self {
            Self::Payments | Self::Holds => {}
            Self::Keys | Self::Refusals => {
                spec.waitlist = Waitlist::Places(0);
                offers.filter(|offer| offer.item == last).for_each(|offer| {
                    (offer.stock, offer.limit_per_shopper) = (0, 0);
                });
            }
            Self::Document => Self::fill(prng, spec),
            Self::Hoarders => {
                spec.limit_per_shopper = *prng.pick(&[0, 0, 0, 30, 999, 1000]);
                spec.hold_seconds = 40;
                // Memory for so many attempts is prepared in a hundred steps, after each start.
                let is_large = prng.percent(25);
                for offer in offers {
                    offer.stock = if is_large { STOCK_MAX } else { 5000 };
                    offer.limit_per_shopper = *prng.pick(&[0, 0, 17, 40, 1000]);
                }
            }
            Self::Waiting => {
                spec.waitlist = Waitlist::Places(100_000);
                spec.waitlist_ends_at = None;
                let first = &spec.items[0].item;
                offers.filter(|offer| offer.item == *first).for_each(|offer| {
                    (offer.stock, offer.limit_per_shopper) = (u64::from(QUANTITY_MAX), 0);
                });
            }
        }
    }

    /// As many items as there may be, in as many rounds as there were; or, with few offers each, in
    /// as many as there may be.
    fn fill(prng: &mut Prng, spec: &mut SaleSpec) {
        let item = |n: usize| format!("item-{n}");
        let spec_of = |n: usize| ItemSpec {
            item: item(n).parse().expect("a name of letters"),
            name: item(n),
            name_zh: None,
            picture: None,
        };
        spec.items = (0..ITEMS_MAX).map(spec_of).collect();
        let offer = |prng: &mut Prng, n: usize| RoundItemSpec {
            item: item(n).parse().expect("a name of letters"),
            stock: *prng.pick(&[0, 2, 5, 9, 9, 9, 9, 9]),
            price_minor: 100,
            limit_per_shopper: *prng.pick(&[0, 6]),
        };
        if prng.percent(50) {
            let (first, last) = (&spec.rounds[0], &spec.rounds[spec.rounds.len() - 1]);
            let whole = last.closes_at.since(first.opens_at).0;
            let each = DurationMs((whole / ROUNDS_MAX as u64).max(1));
            let mut opens_at = first.opens_at;
            let mut round = || {
                let from = prng.below(ITEMS_MAX as u64 - 4) as usize;
                let mut items: Vec<usize> = (from..from + 4).collect();
                items.extend((from + 4 < ITEMS_MAX).then_some(ITEMS_MAX - 1));
                let items = items.into_iter().map(|n| offer(prng, n)).collect();
                let closes_at = opens_at.plus(each);
                let round = RoundSpec { opens_at, closes_at, items };
                opens_at = closes_at;
                round
            };
            spec.rounds = (0..ROUNDS_MAX).map(|_| round()).collect();
            let last = &spec.rounds[ROUNDS_MAX - 1];
            spec.waitlist_ends_at = spec.waitlist_ends_at.map(|at| at.max(last.opens_at.plus(DurationMs(1))));
        } else {
            for round in &mut spec.rounds {
                round.items = (0..ITEMS_MAX).map(|n| offer(prng, n)).collect();
            }
        }
    }

    /// Documents with one item or one round too many.
    pub(crate) fn too_large(spec: &SaleSpec) -> Vec<SaleSpec> {
        let mut items = spec.clone();
        items.items.push(ItemSpec {
            item: "one-more".parse().expect("a name of letters"),
            name: "one more".into(),
            name_zh: None,
            picture: None,
        });
        let mut rounds = spec.clone();
        let last = rounds.rounds[rounds.rounds.len() - 1].clone();
        let mut at = last.closes_at;
        while rounds.rounds.len() <= ROUNDS_MAX {
            let closes_at = at.plus(DurationMs(1));
            rounds.rounds.push(RoundSpec { opens_at: at, closes_at, items: last.items[..1].to_vec() });
            at = closes_at;
        }
        // A waitlist's end must lie after each opening.
        rounds.waitlist_ends_at = None;
        vec![items, rounds]
    }
}

/// Whether a document is within its bounds, by code that shares nothing with the sale's.
pub(crate) fn is_within(spec: &SaleSpec) -> bool {
    let offers = || spec.rounds.iter().flat_map(|round| &round.items);
    (1..=200).contains(&spec.items.len())
        && (1..=200).contains(&spec.rounds.len())
        && spec.limit_per_shopper <= LIMIT_MAX
        && (1..=7 * 86_400).contains(&spec.hold_seconds)
        && offers().all(|offer| offer.stock <= 100_000_000 && offer.limit_per_shopper <= LIMIT_MAX)
}
