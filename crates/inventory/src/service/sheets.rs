//! Sheets of counts: looked at as a whole first, and stored some lines at a time.

use super::{KEYS, Service, of_sql, of_stock, once};
use crate::{
    core::{SheetCount, Shelf, Spot},
    store::{self, Stored},
    transactions::{self, StockError},
    warehouses,
};
use contracts::{
    Actor, CommandKey,
    store::{Sku, WarehouseId},
};
use engines::sql::{SqlError, Tx};
use schemars::JsonSchema;
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use web::{
    command_key::hash,
    sheet::{ERRORS_MAX, LineError},
};

const COMMANDS: &str = "floodgate inventory sheets v1";

/// Lines that one transaction looks at, or stores.
const AT_ONCE: usize = 250;

/// What a sheet has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[schemars(rename = "StockSheetTaken")]
pub struct Taken {
    /// Lines in it.
    pub lines: usize,
    /// Lines that counted other units than there were.
    pub changed: usize,
    /// SKUs that the stock did not know.
    pub new_skus: usize,
}

/// Why a sheet was not stored, or not all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotTaken {
    /// Nothing of it.
    Wrong(Vec<LineError>),
    /// What has changed meanwhile does not fit this line. What was stored before it stays.
    Changed { line: u64, stored: Taken, why: String },
    /// What was stored stays.
    Unavailable { stored: Taken, why: String },
}

impl Service {
    /// Counts what a sheet has counted; with a key, once: what was stored of it before is not
    /// counted again. SKUs that are not known are made known if `new_skus`.
    pub async fn take_sheet(
        &self,
        by: Actor,
        key: Option<String>,
        counts: Vec<SheetCount>,
        new_skus: bool,
    ) -> Result<Taken, NotTaken> {
        let mut taken = Taken::default();
        let unavailable = |stored: Taken, why: String| NotTaken::Unavailable { stored, why };
        let Ok(_turn) = self.sheets.try_acquire() else {
            return Err(unavailable(taken, "another sheet is being taken".into()));
        };
        let portions: Vec<Arc<Portion>> = counts
            .chunks(AT_ONCE)
            .enumerate()
            .map(|(number, counts)| Arc::new(Portion::of(&by, key.as_deref(), number, counts, new_skus)))
            .collect();
        let mut errors = Vec::new();
        for portion in &portions {
            let looked = self.look_at(Arc::clone(portion)).await;
            errors.extend(looked.map_err(|error| unavailable(taken, of_sql(&error).to_string()))?);
            if errors.len() >= ERRORS_MAX {
                break;
            }
        }
        if !errors.is_empty() {
            errors.truncate(ERRORS_MAX);
            return Err(NotTaken::Wrong(errors));
        }
        for portion in portions {
            let (now, by, lines) = (self.clock.now(), by.clone(), portion.counts.len());
            let (first, new_skus) = (portion.counts.first().map_or(0, |of| of.line), portion.new_skus);
            let done = self.write(move |tx| {
                let count =
                    |tx: &mut Tx<'_>| transactions::count_all(tx, now, &by, &portion.counts, new_skus);
                match portion.key {
                    Some(key) => once(tx, now, key, count),
                    None => count(tx),
                }
            });
            let (changed, new) = match done.await {
                Ok(done) => done,
                Err(StockError::Line(line, why)) => {
                    return Err(NotTaken::Changed { line, stored: taken, why: why.to_string() });
                }
                Err(why @ StockError::OtherCommand) => {
                    return Err(NotTaken::Changed { line: first, stored: taken, why: why.to_string() });
                }
                Err(why) => return Err(unavailable(taken, of_stock(why).to_string())),
            };
            taken.lines += lines;
            taken.changed += changed;
            taken.new_skus += new;
        }
        Ok(taken)
    }

    /// What is wrong with these lines, as the stock is now; nothing with those that were stored
    /// under their key before.
    async fn look_at(&self, portion: Arc<Portion>) -> Result<Vec<LineError>, SqlError> {
        let sql = self.sql.primary();
        let read = sql.read(move |tx| {
            if let Some(key) = portion.key
                && let Some(known) = store::is_noted(tx, key.id)?
            {
                let line = portion.counts.first().map_or(0, |of| of.line);
                let other = LineError { line, why: StockError::OtherCommand.to_string() };
                return Ok(if known == key.command { Vec::new() } else { vec![other] });
            }
            let warehouses = warehouses::all(tx)?;
            let warehouses: BTreeSet<WarehouseId> = warehouses.into_iter().map(|of| of.warehouse).collect();
            let mut known = BTreeMap::<&Sku, Vec<Stored>>::new();
            let mut errors = Vec::new();
            for SheetCount { line, at: at @ Spot { sku, warehouse }, on_hand, sequence } in &portion.counts {
                if !known.contains_key(sku) {
                    known.insert(sku, store::levels_of(tx, sku)?);
                }
                let levels = &known[sku];
                let of = levels.iter().find(|of| of.at == *at);
                let mut shelf = of.map_or_else(Shelf::default, |of| Shelf {
                    level: of.level,
                    sequence: of.sequence,
                    ..Shelf::default()
                });
                let why = if !warehouses.contains(warehouse) {
                    StockError::UnknownWarehouse(warehouse.clone())
                } else if levels.is_empty() && !portion.new_skus {
                    StockError::UnknownSku(sku.clone())
                } else {
                    match transactions::count_one(tx, at, &mut shelf, *on_hand, *sequence) {
                        Ok(_) => continue,
                        Err(StockError::Sql(error)) => return Err(error),
                        Err(why) => why,
                    }
                };
                errors.push(LineError { line: *line, why: why.to_string() });
            }
            Ok(errors)
        });
        read.await
    }
}

/// Lines that are stored together.
struct Portion {
    counts: Vec<SheetCount>,
    new_skus: bool,
    key: Option<CommandKey>,
}

impl Portion {
    fn of(by: &Actor, key: Option<&str>, number: usize, counts: &[SheetCount], new_skus: bool) -> Self {
        let key = key.map(|key| {
            let mut said = vec![by.reason.clone(), new_skus.to_string()];
            for SheetCount { at, on_hand, sequence, .. } in counts {
                let sequence = sequence.map(|of| of.to_string()).unwrap_or_default();
                said.extend([at.sku.to_string(), at.warehouse.to_string(), on_hand.to_string(), sequence]);
            }
            let said: Vec<&str> = said.iter().map(String::as_str).collect();
            let id = hash(KEYS, &[&by.name, key, &format!("portion {number}")]);
            CommandKey { id, command: hash(COMMANDS, &said) }
        });
        Self { counts: counts.to_vec(), new_skus, key }
    }
}
