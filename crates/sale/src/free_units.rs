//! How many units of each item are free, as a reader of the log alone knows it: for "sold out" as
//! an event. The rules are those of the fold; the log was checked when it was written.

use crate::core::{Entry, Record};
use contracts::{AttemptId, Basket, Line, SaleSpec};
use std::collections::BTreeMap;
use units::Sequence;

/// The units that are free after an entry, and of which items it was told that none is.
#[derive(Debug, Default)]
pub struct FreeUnits {
    at: Sequence,
    spec: Option<Box<SaleSpec>>,
    items: Vec<Item>,
    holds: BTreeMap<AttemptId, Hold>,
}

#[derive(Debug, Clone, Default)]
struct Item {
    free: i64,
    /// A round with it has opened.
    was_offered: bool,
    is_told: bool,
}

impl Item {
    fn is_out(&self) -> bool {
        self.was_offered && self.free <= 0
    }
}

#[derive(Debug)]
struct Hold {
    units: Units,
    /// Its units are taken: it is neither released, expired nor voided.
    takes: bool,
}

/// Most baskets have one line, and there are as many holds as units.
#[derive(Debug)]
enum Units {
    One(Line),
    More(Box<Basket>),
}

impl Units {
    fn of(basket: &Basket) -> Self {
        match **basket {
            [line] => Self::One(line),
            _ => Self::More(Box::new(*basket)),
        }
    }

    fn lines(&self) -> &[Line] {
        match self {
            Self::One(line) => std::slice::from_ref(line),
            Self::More(basket) => basket,
        }
    }
}

impl FreeUnits {
    /// The last entry that it has seen.
    pub fn at(&self) -> Sequence {
        self.at
    }

    /// The free units of an item, by its number.
    pub fn of(&self, item: u16) -> Option<i64> {
        self.items.get(usize::from(item)).map(|item| item.free)
    }

    /// Folds the next entry.
    pub fn see(&mut self, sequence: Sequence, entry: &Entry) {
        self.at = sequence;
        match &entry.record {
            Record::Defined { spec, .. } => {
                self.items = vec![Item::default(); spec.items.len()];
                self.spec = Some(spec.clone());
            }
            Record::RoundOpened { round, .. } => self.open(*round),
            Record::Adjusted { item, delta, .. } => {
                if let Some(item) = self.items.get_mut(usize::from(*item)) {
                    item.free = item.free.saturating_add(*delta);
                }
            }
            Record::Granted { attempt, .. } | Record::Promoted { attempt, .. } => {
                self.holds.insert(attempt.id, Hold { units: Units::of(&attempt.basket), takes: false });
                self.change(attempt.id, true);
            }
            Record::Confirmed { hold, late: true, .. } => self.change(*hold, true),
            Record::Released { hold, .. } | Record::Expired { hold } | Record::Voided { hold, .. } => {
                self.change(*hold, false);
            }
            _ => {}
        }
    }

    fn open(&mut self, round: u16) {
        let Some(spec) = &self.spec else { return };
        let offers = spec.rounds.get(usize::from(round)).map_or(&[][..], |round| &round.items);
        for (known, item) in spec.items.iter().zip(&mut self.items) {
            if let Some(offer) = offers.iter().find(|offer| offer.item == known.item) {
                item.free = item.free.saturating_add_unsigned(offer.stock);
                item.was_offered = true;
            }
        }
    }

    /// The hold takes its units, or gives them back. A place on a waitlist, which older logs
    /// release in the same way, has none.
    fn change(&mut self, hold: AttemptId, takes: bool) {
        let Some(hold) = self.holds.get_mut(&hold).filter(|hold| hold.takes != takes) else { return };
        hold.takes = takes;
        for line in hold.units.lines() {
            let Some(item) = self.items.get_mut(usize::from(line.item)) else { continue };
            let quantity = i64::from(line.quantity);
            item.free = item.free.saturating_add(if takes { -quantity } else { quantity });
        }
    }

    /// How many items [`Self::sold_out`] would tell.
    pub fn untold(&self) -> usize {
        self.items.iter().filter(|item| item.is_out() && !item.is_told).count()
    }

    /// The items of which no unit is free any more, each once until one has become free again.
    pub fn sold_out(&mut self) -> Vec<u16> {
        let mut newly = Vec::new();
        for (number, item) in (0..).zip(&mut self.items) {
            if item.is_out() && !item.is_told {
                newly.push(number);
            }
            item.is_told = item.is_out();
        }
        newly
    }
}
