//! Units on their way from one warehouse to another: they leave the one, are in transit to the
//! other, and arrive there, in one parcel or in several; what does not arrive is lost. Of each line
//! `sent = arrived + lost + what is on its way`.

use super::{
    basket::Basket,
    level::{Kind, Movement, Unfit},
    shelf::{Move, Shelves, Spot, move_each},
};
use contracts::store::{Sku, TransferId, WarehouseId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use units::TimeMs;

/// How a transfer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "StockTransferState")]
pub enum TransferState {
    InTransit,
    /// All of it has arrived, or is lost.
    Closed,
}

impl TransferState {
    /// Its name in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InTransit => "in_transit",
            Self::Closed => "closed",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::InTransit, Self::Closed].into_iter().find(|state| state.as_str() == name)
    }
}

/// What a transfer has of one SKU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransferLine {
    pub sent: u32,
    pub arrived: u32,
    pub lost: u32,
}

impl TransferLine {
    pub fn in_transit(self) -> u32 {
        self.sent.saturating_sub(self.arrived).saturating_sub(self.lost)
    }
}

/// Units on their way, or that were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    pub transfer: TransferId,
    pub from: WarehouseId,
    pub to: WarehouseId,
    pub state: TransferState,
    pub sent_at: TimeMs,
    /// When they are thought to arrive, if that is known.
    pub expected_at: Option<TimeMs>,
    pub lines: BTreeMap<Sku, TransferLine>,
    /// Counts changes.
    pub version: u64,
}

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferRefused {
    /// They would arrive where they are.
    SamePlace,
    Closed,
    /// Of this SKU only so many are on their way.
    NotInTransit {
        sku: Sku,
        in_transit: u32,
    },
    /// The level here does not allow it.
    Unfit(Spot, Unfit),
}

impl Transfer {
    /// A basket leaves a warehouse for another one.
    pub fn send(
        transfer: TransferId,
        [from, to]: [WarehouseId; 2],
        basket: &Basket,
        (sent_at, expected_at): (TimeMs, Option<TimeMs>),
        shelves: &mut Shelves,
    ) -> Result<Self, TransferRefused> {
        if from == to {
            return Err(TransferRefused::SamePlace);
        }
        let line = |(sku, units): (&Sku, &u32)| {
            (sku.clone(), TransferLine { sent: *units, ..TransferLine::default() })
        };
        let lines = basket.iter().map(line).collect();
        let (state, version) = (TransferState::InTransit, 1);
        let new = Self { transfer, from, to, state, sent_at, expected_at, lines, version };
        let moves = basket.iter().flat_map(|(sku, units)| {
            [(&new.from, Kind::Dispatch), (&new.to, Kind::Expect)]
                .map(|(place, kind)| new.moved(sku, place, kind, *units))
        });
        move_each(shelves, moves.collect()).map_err(|(spot, why)| TransferRefused::Unfit(spot, why))?;
        Ok(new)
    }

    /// Units of it arrive. With the last of them it is closed.
    pub fn arrive(&mut self, basket: &Basket, shelves: &mut Shelves) -> Result<(), TransferRefused> {
        if self.state == TransferState::Closed {
            return Err(TransferRefused::Closed);
        }
        for (sku, units) in basket {
            let in_transit = self.lines.get(sku).map_or(0, |line| line.in_transit());
            if *units > in_transit {
                return Err(TransferRefused::NotInTransit { sku: sku.clone(), in_transit });
            }
        }
        let moves = basket.iter().map(|(sku, units)| self.moved(sku, &self.to, Kind::Arrive, *units));
        move_each(shelves, moves.collect()).map_err(|(spot, why)| TransferRefused::Unfit(spot, why))?;
        for (sku, units) in basket {
            if let Some(line) = self.lines.get_mut(sku) {
                line.arrived += units;
            }
        }
        self.version += 1;
        if self.lines.values().all(|line| line.in_transit() == 0) {
            self.state = TransferState::Closed;
        }
        Ok(())
    }

    /// What has not arrived will not. Returns whether that is new.
    pub fn close(&mut self, shelves: &mut Shelves) -> Result<bool, TransferRefused> {
        if self.state == TransferState::Closed {
            return Ok(false);
        }
        let missing = self.lines.iter().filter(|(_, line)| line.in_transit() > 0);
        let moves = missing.map(|(sku, line)| self.moved(sku, &self.to, Kind::Lose, line.in_transit()));
        move_each(shelves, moves.collect()).map_err(|(spot, why)| TransferRefused::Unfit(spot, why))?;
        for line in self.lines.values_mut() {
            line.lost += line.in_transit();
        }
        (self.state, self.version) = (TransferState::Closed, self.version + 1);
        Ok(true)
    }

    fn moved(&self, sku: &Sku, place: &WarehouseId, kind: Kind, units: u32) -> (Spot, Move) {
        let movement = Movement { kind, units: units.into(), of_claim: 0 };
        let spot = Spot { sku: sku.clone(), warehouse: place.clone() };
        (spot, Move { transfer: Some(self.transfer.clone()), ..Move::of(movement) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Level, Shelf};

    fn place(name: &str) -> WarehouseId {
        name.parse().unwrap()
    }

    fn at(sku: &str, warehouse: &str) -> Spot {
        Spot { sku: sku.parse().unwrap(), warehouse: place(warehouse) }
    }

    fn basket(of: &[(&str, u32)]) -> Basket {
        of.iter().map(|(sku, units)| (sku.parse().unwrap(), *units)).collect()
    }

    /// Ten of A, of which three are reserved, and five of B here; none of them there.
    fn shelves() -> Shelves {
        let shelf = |on_hand, reserved| Shelf {
            level: Level { on_hand, reserved, ..Level::default() },
            ..Shelf::default()
        };
        let here = [(at("A", "here"), shelf(10, 3)), (at("B", "here"), shelf(5, 0))];
        let there = ["A", "B"].map(|sku| (at(sku, "there"), shelf(0, 0)));
        here.into_iter().chain(there).collect()
    }

    fn send(of: &[(&str, u32)], shelves: &mut Shelves) -> Result<Transfer, TransferRefused> {
        let times = (TimeMs(1), Some(TimeMs(2)));
        Transfer::send("t-1".parse().unwrap(), [place("here"), place("there")], &basket(of), times, shelves)
    }

    /// On hand and in transit.
    fn figures(shelves: &Shelves, sku: &str, warehouse: &str) -> (u64, u64) {
        let level = shelves[&at(sku, warehouse)].level;
        (level.on_hand, level.in_transit)
    }

    #[test]
    fn what_leaves_is_in_transit_until_it_arrives_or_is_lost() {
        let mut all = shelves();
        let mut of = send(&[("A", 7), ("B", 2)], &mut all).unwrap();
        assert_eq!((figures(&all, "A", "here"), figures(&all, "A", "there")), ((3, 0), (0, 7)));
        assert_eq!(all[&at("A", "there")].level.free(), 0, "nobody can have what is on its way");
        of.arrive(&basket(&[("A", 4)]), &mut all).unwrap();
        assert_eq!((figures(&all, "A", "there"), of.state), ((4, 3), TransferState::InTransit));
        let more = of.arrive(&basket(&[("A", 3), ("B", 3)]), &mut all);
        assert_eq!(more, Err(TransferRefused::NotInTransit { sku: "B".parse().unwrap(), in_transit: 2 }));
        assert_eq!(figures(&all, "A", "there"), (4, 3), "all of it or nothing");
        of.arrive(&basket(&[("B", 2)]), &mut all).unwrap();
        assert_eq!(of.close(&mut all), Ok(true));
        assert_eq!((figures(&all, "A", "there"), figures(&all, "B", "there")), ((4, 0), (2, 0)));
        assert_eq!(of.lines[&"A".parse().unwrap()], TransferLine { sent: 7, arrived: 4, lost: 3 });
        assert_eq!((of.close(&mut all), of.version), (Ok(false), 4));
        assert_eq!(of.arrive(&basket(&[("A", 1)]), &mut all), Err(TransferRefused::Closed));
    }

    #[test]
    fn the_last_unit_that_arrives_closes_it() {
        let mut all = shelves();
        let mut of = send(&[("B", 2)], &mut all).unwrap();
        of.arrive(&basket(&[("B", 2)]), &mut all).unwrap();
        assert_eq!((of.state, of.close(&mut all)), (TransferState::Closed, Ok(false)));
    }

    #[test]
    fn what_is_set_aside_does_not_leave() {
        let mut all = shelves();
        let refused = send(&[("B", 1), ("A", 8)], &mut all);
        assert_eq!(refused, Err(TransferRefused::Unfit(at("A", "here"), Unfit::TooFew { free: 7 })));
        assert_eq!(all, shelves(), "all of it or nothing");
        let here = [place("here"), place("here")];
        let same =
            Transfer::send("t".parse().unwrap(), here, &basket(&[("A", 1)]), (TimeMs(1), None), &mut all);
        assert_eq!(same, Err(TransferRefused::SamePlace));
    }
}
