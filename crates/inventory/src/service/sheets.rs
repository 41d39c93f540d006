//! Sheets of counts: looked at as a whole first, and stored some lines at a time.

use super::{Service, of_sql, of_stock};
use crate::{
    core::{SheetCount, Spot},
    store::{self, Stored},
    transactions::{self, StockError},
    warehouses,
};
use contracts::{
    Actor,
    store::{Sku, StoreError, WarehouseId},
};
use engines::sql::SqlError;
use schemars::JsonSchema;
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use web::sheet::{ERRORS_MAX, LineError};

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

/// A line that is refused.
#[derive(Debug, Clone)]
struct Refused(Option<u64>, StockError);

impl From<SqlError> for Refused {
    fn from(error: SqlError) -> Self {
        Self(None, error.into())
    }
}

impl Service {
    /// Counts what a sheet has counted. SKUs that are not known are made known if `new_skus`.
    pub async fn take_sheet(
        &self,
        by: Actor,
        counts: Vec<SheetCount>,
        new_skus: bool,
    ) -> Result<Taken, NotTaken> {
        let mut taken = Taken::default();
        let unavailable =
            |stored: Taken, why: StoreError| NotTaken::Unavailable { stored, why: why.to_string() };
        let Ok(_turn) = self.sheets.try_acquire() else {
            let why = "another sheet is being taken".to_owned();
            return Err(NotTaken::Unavailable { stored: taken, why });
        };
        let portions: Vec<Arc<Vec<SheetCount>>> =
            counts.chunks(AT_ONCE).map(|portion| Arc::new(portion.to_vec())).collect();
        let mut errors = Vec::new();
        for portion in &portions {
            let looked = self.look_at(Arc::clone(portion), new_skus).await;
            errors.extend(looked.map_err(|error| unavailable(taken, of_sql(&error)))?);
            if errors.len() >= ERRORS_MAX {
                break;
            }
        }
        if !errors.is_empty() {
            errors.truncate(ERRORS_MAX);
            return Err(NotTaken::Wrong(errors));
        }
        for portion in portions {
            let (now, by, lines) = (self.clock.now(), by.clone(), portion.len());
            let done = self.sql.write(move |tx| {
                let counted = transactions::count_all(tx, now, &by, &portion, new_skus);
                counted.map_err(|(line, why)| Refused(line, why))
            });
            let (changed, new) = match done.await {
                Ok(done) => done,
                Err(Refused(Some(line), why)) => {
                    return Err(NotTaken::Changed { line, stored: taken, why: why.to_string() });
                }
                Err(Refused(None, why)) => return Err(unavailable(taken, of_stock(why))),
            };
            self.outbox.notify_one();
            taken.lines += lines;
            taken.changed += changed;
            taken.new_skus += new;
        }
        Ok(taken)
    }

    /// What is wrong with these lines, as the stock is now.
    async fn look_at(
        &self,
        counts: Arc<Vec<SheetCount>>,
        new_skus: bool,
    ) -> Result<Vec<LineError>, SqlError> {
        let sql = self.sql.primary();
        let read = sql.read(move |tx| {
            let warehouses = warehouses::all(tx)?;
            let warehouses: BTreeSet<WarehouseId> = warehouses.into_iter().map(|of| of.warehouse).collect();
            let mut known = BTreeMap::<&Sku, Vec<Stored>>::new();
            let mut errors = Vec::new();
            for SheetCount { line, at: at @ Spot { sku, warehouse }, on_hand, sequence } in counts.iter() {
                if !known.contains_key(sku) {
                    known.insert(sku, store::levels_of(tx, sku)?);
                }
                let levels = &known[sku];
                let level = levels.iter().find(|of| of.at == *at);
                let why = match level {
                    _ if !warehouses.contains(warehouse) => {
                        StockError::UnknownWarehouse(warehouse.clone()).to_string()
                    }
                    None if levels.is_empty() && !new_skus => StockError::UnknownSku(sku.clone()).to_string(),
                    Some(of) => match transactions::want_unchanged(of, *on_hand, *sequence) {
                        Err(why) => why.to_string(),
                        Ok(()) => match of.level.reserved + of.level.claimed {
                            aside if aside > *on_hand => {
                                format!("on_hand: {on_hand}, and {aside} units are set aside")
                            }
                            _ => continue,
                        },
                    },
                    None => continue,
                };
                errors.push(LineError { line: *line, why });
            }
            Ok::<_, SqlError>(errors)
        });
        read.await
    }
}
