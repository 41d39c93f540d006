//! The document that sets a sale up: `PUT /api/v1/admin/sales/{sale}`.

use crate::{ItemId, ItemPicture, PICTURE_ORIGINS_MAX};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use units::{Currency, TimeMs};

/// Items in a sale.
pub const ITEMS_MAX: usize = 200;
/// Rounds in a sale.
pub const ROUNDS_MAX: usize = 200;
/// Units of an item in a round, or in one adjustment.
pub const STOCK_MAX: u64 = 100_000_000;
const NAME_CHARS_MAX: usize = 120;
const SHOPPER_LIMIT_MAX: u32 = 1000;
const HOLD_SECONDS_MAX: u64 = 7 * 86_400;
const WAITLIST_PLACES_MAX: u64 = 1_000_000;

/// A sale: what is sold, when, and to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SaleSpec {
    #[schemars(length(min = 1, max = 120))]
    pub name: String,
    /// The name on Chinese pages; `name` if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 120))]
    pub name_zh: Option<String>,
    pub currency: Currency,
    #[serde(default)]
    pub eligibility: Eligibility,
    /// Units that one shopper may have over all items and rounds; 0 is no limit.
    #[serde(default)]
    #[schemars(range(max = 1000))]
    pub limit_per_shopper: u32,
    /// How long a hold waits to be paid.
    #[serde(default = "default_hold_seconds")]
    #[schemars(range(min = 1, max = 604_800))]
    pub hold_seconds: u64,
    #[serde(default)]
    pub late_payment: LatePayment,
    #[serde(default)]
    pub waitlist: Waitlist,
    /// When the waitlists end: all who still wait then lose their place and are told. Without it
    /// they end when an operator says so. An ended waitlist does not begin again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waitlist_ends_at: Option<TimeMs>,
    #[schemars(length(min = 1, max = 200))]
    pub items: Vec<ItemSpec>,
    #[schemars(length(min = 1, max = 200))]
    pub rounds: Vec<RoundSpec>,
}

fn default_hold_seconds() -> u64 {
    15 * 60
}

/// Which shoppers may buy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", try_from = "StrictEligibility")]
#[schemars(!try_from, deny_unknown_fields, transform = closed)]
pub enum Eligibility {
    #[default]
    Everyone,
    /// Shoppers who made a reservation before the first round opened.
    Reservation,
    /// Shoppers whose token has at least this tier.
    Tier { min: u8 },
    /// Shoppers on the uploaded list.
    List,
    /// Shoppers for whom each rule that is named holds; at least one is named.
    All {
        /// They made a reservation before the first round opened.
        #[serde(default)]
        reservation: bool,
        /// They are on the uploaded list.
        #[serde(default)]
        list: bool,
        /// Their token has at least this tier.
        #[serde(default)]
        #[schemars(range(max = 255))]
        tier_min: u8,
    },
}

/// The same, read without ignoring a field: serde ignores those of a kind that has none.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum StrictEligibility {
    Everyone {},
    Reservation {},
    Tier {
        min: u8,
    },
    List {},
    All {
        #[serde(default)]
        reservation: bool,
        #[serde(default)]
        list: bool,
        #[serde(default)]
        tier_min: u8,
    },
}

impl TryFrom<StrictEligibility> for Eligibility {
    type Error = &'static str;

    fn try_from(read: StrictEligibility) -> Result<Self, Self::Error> {
        Ok(match read {
            StrictEligibility::Everyone {} => Self::Everyone,
            StrictEligibility::Reservation {} => Self::Reservation,
            StrictEligibility::Tier { min } => Self::Tier { min },
            StrictEligibility::List {} => Self::List,
            StrictEligibility::All { reservation: false, list: false, tier_min: 0 } => {
                return Err("eligibility: all: name a rule (reservation, list, tier_min), or use everyone");
            }
            StrictEligibility::All { reservation, list, tier_min } => {
                Self::All { reservation, list, tier_min }
            }
        })
    }
}

impl Eligibility {
    /// The lowest tier that may buy.
    pub fn tier_min(self) -> u8 {
        match self {
            Self::Tier { min } | Self::All { tier_min: min, .. } => min,
            _ => 0,
        }
    }

    /// Whether only shoppers with a reservation may buy.
    pub fn wants_reservation(self) -> bool {
        matches!(self, Self::Reservation | Self::All { reservation: true, .. })
    }

    /// Whether only shoppers on the uploaded list may buy.
    pub fn wants_list(self) -> bool {
        matches!(self, Self::List | Self::All { list: true, .. })
    }
}

/// No kind takes a field that is not its own.
fn closed(schema: &mut Schema) {
    let kinds = schema.get_mut("oneOf").and_then(Value::as_array_mut).into_iter().flatten();
    for kind in kinds.filter_map(Value::as_object_mut) {
        kind.insert("additionalProperties".into(), Value::Bool(false));
    }
}

/// How to treat a payment that arrives after the hold is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LatePayment {
    /// Claim the units again if they are still free, else refund.
    #[default]
    ClaimIfFree,
    /// Refund.
    Refund,
}

/// How many may wait for an item that is sold out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Waitlist {
    /// This many hundredths of the item's stock.
    Percent(#[schemars(range(max = 100))] u8),
    /// This many places an item.
    Places(#[schemars(range(max = 1_000_000))] u32),
}

impl Default for Waitlist {
    fn default() -> Self {
        Self::Percent(10)
    }
}

impl Waitlist {
    /// Places for an item of which `stock` units were put up.
    pub fn places(self, stock: u64) -> u64 {
        match self {
            Self::Percent(percent) => {
                (stock.saturating_mul(u64::from(percent)) / 100).min(WAITLIST_PLACES_MAX)
            }
            Self::Places(places) => u64::from(places),
        }
    }
}

/// Bytes of a document as the log keeps it: what its largest entry holds, in addition to kind, time
/// and actor.
pub const SPEC_BYTES_MAX: usize = (1 << 20) - 4096;

/// An item that the sale sells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ItemSpec {
    pub item: ItemId,
    #[schemars(length(min = 1, max = 120))]
    pub name: String,
    /// The name on Chinese pages; `name` if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 120))]
    pub name_zh: Option<String>,
    /// Its picture on the sale's page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<ItemPicture>,
}

/// A time in which a sale is open. Unsold units of an earlier round go to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoundSpec {
    pub opens_at: TimeMs,
    pub closes_at: TimeMs,
    #[schemars(length(min = 1, max = 200))]
    pub items: Vec<RoundItemSpec>,
}

/// What a round offers of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoundItemSpec {
    pub item: ItemId,
    /// Units that come on sale when the round opens.
    #[schemars(range(max = 100_000_000))]
    pub stock: u64,
    /// Price of a unit, in minor units of the sale's currency.
    #[schemars(range(max = 9_007_199_254_740_992_u64))]
    pub price_minor: u64,
    /// Units that one shopper may have of this item in this round; 0 is no limit.
    #[serde(default = "default_limit")]
    #[schemars(range(max = 1000))]
    pub limit_per_shopper: u32,
}

fn default_limit() -> u32 {
    1
}

/// An invalid field of a [`SaleSpec`], and what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError {
    /// Path of the field, such as `rounds[1].closes_at`.
    pub field: String,
    pub why: String,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}

impl std::error::Error for SpecError {}

fn want(ok: bool, field: impl FnOnce() -> String, why: &str) -> Result<(), SpecError> {
    if ok { Ok(()) } else { Err(SpecError { field: field(), why: why.to_owned() }) }
}

impl SaleSpec {
    /// The place of an item among the sale's items.
    pub fn item_index(&self, item: &str) -> Option<u16> {
        self.items.iter().position(|i| i.item.as_str() == item).map(|at| at as u16)
    }

    /// The origins of the items' pictures, each once.
    pub fn picture_origins(&self) -> Vec<&str> {
        let mut origins: Vec<&str> = Vec::new();
        for origin in self.items.iter().filter_map(|item| item.picture.as_ref()?.origin()) {
            if !origins.contains(&origin) {
                origins.push(origin);
            }
        }
        origins
    }

    /// Checks a document that an operator sends: as [`SaleSpec::validate`], and by rules that logs
    /// of earlier builds may not keep.
    pub fn validate_new(&self) -> Result<(), SpecError> {
        let currency = self.currency;
        let why = format!("{} is no currency of ISO 4217", currency.as_str());
        want(currency.is_listed(), || "currency".into(), &why)?;
        self.validate()
    }

    /// Checks what the types of the fields cannot. A document in a log is held to this.
    pub fn validate(&self) -> Result<(), SpecError> {
        let named = |name: &str| (1..=NAME_CHARS_MAX).contains(&name.chars().count());
        let named_zh = |name: &Option<String>| name.as_deref().is_none_or(named);
        want(named(&self.name), || "name".into(), "want 1 to 120 characters")?;
        want(named_zh(&self.name_zh), || "name_zh".into(), "want 1 to 120 characters")?;
        want(
            self.limit_per_shopper <= SHOPPER_LIMIT_MAX,
            || "limit_per_shopper".into(),
            "want 0 (none) to 1000",
        )?;
        want(
            (1..=HOLD_SECONDS_MAX).contains(&self.hold_seconds),
            || "hold_seconds".into(),
            "want 1 to 604800 (a week)",
        )?;
        let waitlist_fits = match self.waitlist {
            Waitlist::Percent(percent) => percent <= 100,
            Waitlist::Places(places) => u64::from(places) <= WAITLIST_PLACES_MAX,
        };
        want(waitlist_fits, || "waitlist".into(), "want percent 0 to 100, or places 0 to 1000000")?;
        want((1..=ITEMS_MAX).contains(&self.items.len()), || "items".into(), "want 1 to 200")?;
        want((1..=ROUNDS_MAX).contains(&self.rounds.len()), || "rounds".into(), "want 1 to 200")?;
        for (at, item) in self.items.iter().enumerate() {
            let field = |name: &str| format!("items[{at}].{name}");
            want(named(&item.name), || field("name"), "want 1 to 120 characters")?;
            want(named_zh(&item.name_zh), || field("name_zh"), "want 1 to 120 characters")?;
            let unique = self.items[..at].iter().all(|other| other.item != item.item);
            want(unique, || field("item"), "stands there twice")?;
            if let Some((name, why)) = item.picture.as_ref().and_then(ItemPicture::wrong) {
                return Err(SpecError { field: field(&format!("picture.{name}")), why: why.to_owned() });
            }
        }
        let origins = self.picture_origins().len();
        want(
            origins <= PICTURE_ORIGINS_MAX,
            || "items".into(),
            "want pictures of at most 8 origins: the page allows each by name",
        )?;
        for (at, round) in self.rounds.iter().enumerate() {
            let field = |name: &str| format!("rounds[{at}].{name}");
            want(round.closes_at > round.opens_at, || field("closes_at"), "want a time after opens_at")?;
            let after_last = at == 0 || round.opens_at >= self.rounds[at - 1].closes_at;
            want(after_last, || field("opens_at"), "want a time not before the earlier round's closes_at")?;
            want(!round.items.is_empty(), || field("items"), "want at least one")?;
            for (i, offer) in round.items.iter().enumerate() {
                let field = |name: &str| format!("rounds[{at}].items[{i}].{name}");
                let known = self.item_index(offer.item.as_str()).is_some();
                want(known, || field("item"), "is not among the sale's items")?;
                let unique = round.items[..i].iter().all(|other| other.item != offer.item);
                want(unique, || field("item"), "stands there twice")?;
                want(offer.stock <= STOCK_MAX, || field("stock"), "want 0 to 100000000")?;
                want(offer.price_minor <= 1 << 53, || field("price_minor"), "want 0 to 2^53")?;
                want(
                    offer.limit_per_shopper <= SHOPPER_LIMIT_MAX,
                    || field("limit_per_shopper"),
                    "want 0 (none) to 1000",
                )?;
            }
        }
        let after_opening = |ends_at: &TimeMs| self.rounds.iter().all(|round| *ends_at > round.opens_at);
        want(
            self.waitlist_ends_at.iter().all(after_opening),
            || "waitlist_ends_at".into(),
            "want a time after the last round's opens_at",
        )?;
        let bytes = serde_json::to_vec(self).map_or(usize::MAX, |json| json.len());
        if bytes > SPEC_BYTES_MAX {
            let why = format!(
                "takes {bytes} bytes in the log, want at most {SPEC_BYTES_MAX}: fewer rounds, or fewer items in each"
            );
            return Err(SpecError { field: "the document".into(), why });
        }
        Ok(())
    }
}

impl SaleSpec {
    /// What is allowed and may be a mistake, in words, each with the field that it is about.
    pub fn warnings(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (at, item) in self.items.iter().enumerate() {
            if !self.rounds.iter().any(|r| r.items.iter().any(|offer| offer.item == item.item)) {
                found.push(format!("items[{at}]: no round offers {}", item.item));
            }
            if item.picture.as_ref().is_some_and(ItemPicture::is_in_clear) {
                found.push(format!(
                    "items[{at}].picture.url: it is not https: a page over TLS may show the words instead of the picture"
                ));
            }
        }
        for (at, round) in self.rounds.iter().enumerate() {
            let seconds = round.closes_at.since(round.opens_at).0 / 1000;
            if seconds < self.hold_seconds {
                let hold = self.hold_seconds;
                found.push(format!(
                    "rounds[{at}]: it lasts {seconds} s, and a hold is kept for {hold} s: what runs out is not sold again"
                ));
            }
            for (i, offer) in round.items.iter().enumerate() {
                let field = format!("rounds[{at}].items[{i}]");
                if offer.stock == 0 {
                    found.push(format!("{field}.stock: none of {} to sell", offer.item));
                }
                if offer.price_minor == 0 {
                    found.push(format!("{field}.price_minor: {} costs nothing", offer.item));
                }
                if offer.limit_per_shopper == 0 && self.limit_per_shopper == 0 {
                    found.push(format!(
                        "{field}.limit_per_shopper: one shopper may buy all of {}",
                        offer.item
                    ));
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> SaleSpec {
        serde_json::from_str(
            r#"{"name":"Launch","currency":"CNY","items":[{"item":"phone","name":"Phone"}],
                "rounds":[{"opens_at":"2026-11-11T10:00:00Z","closes_at":"2026-11-11T11:00:00Z",
                           "items":[{"item":"phone","stock":100000,"price_minor":199900}]}]}"#,
        )
        .unwrap()
    }

    #[test]
    fn omitted_fields_of_a_sale_get_cautious_defaults() {
        let spec = spec();
        spec.validate().unwrap();
        assert_eq!(spec.eligibility, Eligibility::Everyone);
        assert_eq!(spec.hold_seconds, 900);
        assert_eq!(spec.late_payment, LatePayment::ClaimIfFree);
        assert_eq!(spec.waitlist.places(100_000), 10_000);
        assert_eq!(spec.rounds[0].items[0].limit_per_shopper, 1);
    }

    #[test]
    fn an_invalid_field_of_a_sale_is_named() {
        let check = |change: fn(&mut SaleSpec), want: &str| {
            let mut spec = spec();
            change(&mut spec);
            assert_eq!(spec.validate().unwrap_err().to_string(), want);
        };
        check(
            |s| s.rounds[0].closes_at = s.rounds[0].opens_at,
            "rounds[0].closes_at: want a time after opens_at",
        );
        check(
            |s| s.rounds[0].items[0].stock = STOCK_MAX + 1,
            "rounds[0].items[0].stock: want 0 to 100000000",
        );
        check(
            |s| s.rounds.push(s.rounds[0].clone()),
            "rounds[1].opens_at: want a time not before the earlier round's closes_at",
        );
        check(|s| s.items.push(s.items[0].clone()), "items[1].item: stands there twice");
        check(|s| s.name.clear(), "name: want 1 to 120 characters");
    }

    fn picture(url: &str) -> ItemPicture {
        ItemPicture { url: url.into(), width: 400, height: 300, alt: "A phone".into(), alt_zh: None }
    }

    #[test]
    fn a_sale_without_pictures_is_stored_as_it_was_before_there_were_any() {
        let stored = serde_json::to_string(&spec()).unwrap();
        assert!(stored.contains(r#""items":[{"item":"phone","name":"Phone"}]"#), "{stored}");
        let mut with = spec();
        with.items[0].picture = Some(picture("https://media.example/phone.webp"));
        let stored = serde_json::to_string(&with).unwrap();
        let want = r#""picture":{"url":"https://media.example/phone.webp","width":400,"height":300,"alt":"A phone"}"#;
        assert!(stored.contains(want), "{stored}");
        assert_eq!(serde_json::from_str::<SaleSpec>(&stored).unwrap(), with);
    }

    #[test]
    fn a_wrong_picture_is_named_with_its_item() {
        let mut wrong = spec();
        wrong.items[0].picture = Some(picture("ftp://media.example/phone.webp"));
        let said = wrong.validate().unwrap_err().to_string();
        assert!(said.starts_with("items[0].picture.url: want "), "{said}");
        let mut many = spec();
        many.items.clear();
        for n in 0..9 {
            let item = format!("phone-{n}").parse().unwrap();
            let picture = Some(picture(&format!("https://m{n}.example/phone.webp")));
            many.items.push(ItemSpec { item, name: "Phone".into(), name_zh: None, picture });
        }
        many.rounds[0].items[0].item = many.items[0].item.clone();
        let said = many.validate().unwrap_err().to_string();
        assert_eq!(said, "items: want pictures of at most 8 origins: the page allows each by name");
        many.items.truncate(8);
        many.items[7].picture = many.items[0].picture.clone();
        many.validate().unwrap();
        assert_eq!(many.picture_origins().len(), 7);
        let mut clear = spec();
        clear.items[0].picture = Some(picture("http://media.example/phone.webp"));
        assert!(clear.warnings()[0].starts_with("items[0].picture.url: it is not https"));
    }

    #[test]
    fn what_may_be_a_mistake_is_said_with_its_field() {
        assert_eq!(spec().warnings(), Vec::<String>::new());
        let check = |change: fn(&mut SaleSpec), want: &str| {
            let mut spec = spec();
            change(&mut spec);
            spec.validate().unwrap();
            assert_eq!(spec.warnings(), [want]);
        };
        check(
            |s| s.rounds[0].closes_at = s.rounds[0].opens_at.plus(units::DurationMs::seconds(60)),
            "rounds[0]: it lasts 60 s, and a hold is kept for 900 s: what runs out is not sold again",
        );
        check(|s| s.rounds[0].items[0].stock = 0, "rounds[0].items[0].stock: none of phone to sell");
        check(
            |s| s.rounds[0].items[0].price_minor = 0,
            "rounds[0].items[0].price_minor: phone costs nothing",
        );
        check(
            |s| s.rounds[0].items[0].limit_per_shopper = 0,
            "rounds[0].items[0].limit_per_shopper: one shopper may buy all of phone",
        );
        check(
            |s| {
                let item = "case".parse().unwrap();
                s.items.push(ItemSpec { item, name: "Case".into(), name_zh: None, picture: None });
            },
            "items[1]: no round offers case",
        );
    }

    #[test]
    fn a_new_sale_in_a_currency_outside_iso_4217_is_refused() {
        let mut spec = spec();
        spec.currency = "CNX".parse().unwrap();
        spec.validate().expect("a log of an earlier build may have it");
        let error = spec.validate_new().unwrap_err().to_string();
        assert_eq!(error, "currency: CNX is no currency of ISO 4217");
    }

    #[test]
    fn a_rule_of_eligibility_is_taken_whole_or_refused() {
        let read = |text: &str| serde_json::from_str::<Eligibility>(text).map_err(|e| e.to_string());
        for (text, want) in [
            (r#"{"kind":"list"}"#, Eligibility::List),
            (r#"{"kind":"tier","min":2}"#, Eligibility::Tier { min: 2 }),
            (
                r#"{"kind":"all","reservation":true,"list":true,"tier_min":2}"#,
                Eligibility::All { reservation: true, list: true, tier_min: 2 },
            ),
            (
                r#"{"kind":"all","list":true}"#,
                Eligibility::All { reservation: false, list: true, tier_min: 0 },
            ),
        ] {
            assert_eq!(read(text), Ok(want));
            let stored = serde_json::to_string(&want).unwrap();
            assert_eq!(read(&stored), Ok(want), "what is stored can be read again: {stored}");
        }
        for (text, named) in [
            (r#"{"kind":"list","reservation":true,"min":2}"#, "`reservation`"),
            (r#"{"kind":"everyone","min":2}"#, "`min`"),
            (r#"{"kind":"reservation","list":true}"#, "`list`"),
            (r#"{"kind":"tier","min":2,"list":true}"#, "`list`"),
            (r#"{"kind":"all","min":2}"#, "`min`"),
            (r#"{"kind":"all"}"#, "name a rule"),
            (r#"{"kind":"all","list":false}"#, "name a rule"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn an_unknown_field_of_a_sale_is_refused() {
        let text = serde_json::to_string(&spec()).unwrap().replace("hold_seconds", "hold_secs");
        assert!(serde_json::from_str::<SaleSpec>(&text).unwrap_err().to_string().contains("hold_secs"));
    }
}
