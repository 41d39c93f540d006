//! What operators have changed in the catalogue: which product or category, who, and what of it. It
//! is written in the transaction of the change.

use contracts::store::{Localized, Product};
use engines::sql::{
    SqlError, Tx,
    trail::{self, Step},
};
use units::TimeMs;

/// Who changes what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct By<'a> {
    pub(crate) name: &'a str,
    pub(crate) did: &'static str,
}

/// Notes a change of this thing.
pub(crate) fn note(
    tx: &mut Tx<'_>,
    at: TimeMs,
    by: By<'_>,
    (subject, detail): (&str, &str),
) -> Result<(), SqlError> {
    trail::note(tx, at, Step { actor: by.name, did: by.did, subject, reason: "", detail })
}

/// What is other in a product than before, in short.
pub(crate) fn difference(before: Option<&Product>, after: &Product) -> String {
    let Some(before) = before else { return "new".into() };
    let mut parts = Vec::new();
    let mut text = |what: &str, before: &Localized, after: &Localized| {
        if before != after {
            parts.push(what.to_owned());
        }
    };
    text("name", &before.name, &after.name);
    text("description", &before.description, &after.description);
    if before.category != after.category {
        parts.push(format!("category {} to {}", before.category, after.category));
    }
    if before.position != after.position {
        parts.push(format!("position {} to {}", before.position, after.position));
    }
    if before.is_published != after.is_published {
        parts.push(if after.is_published { "published".into() } else { "hidden".into() });
    }
    if before.pictures != after.pictures {
        parts.push(format!("pictures {} to {}", before.pictures.len(), after.pictures.len()));
    }
    for variant in &after.variants {
        match before.variants.iter().find(|of| of.sku == variant.sku) {
            None => parts.push(format!("{} new", variant.sku)),
            Some(of) => {
                if of.price != variant.price {
                    parts.push(format!("{} price {} to {}", variant.sku, of.price, variant.price));
                }
                if of.name != variant.name {
                    parts.push(format!("{} name", variant.sku));
                }
                if of.offered_in != variant.offered_in {
                    parts.push(format!("{} sales", variant.sku));
                }
            }
        }
    }
    let gone = before.variants.iter().filter(|of| after.variants.iter().all(|now| now.sku != of.sku));
    parts.extend(gone.map(|of| format!("{} gone", of.sku)));
    match parts.is_empty() {
        true => "nothing".into(),
        false => parts.join("; "),
    }
}
