//! A sale's document in words.

use contracts::SaleSpec;
use units::Money;

/// A line for each round, and one for each rule.
pub(super) fn says(spec: &SaleSpec) -> Vec<String> {
    let mut lines = Vec::new();
    for (at, round) in spec.rounds.iter().enumerate() {
        let offers = round.items.iter().map(|offer| {
            let price = Money { amount_minor: offer.price_minor, currency: spec.currency };
            let limit = match offer.limit_per_shopper {
                0 => "any number".to_owned(),
                limit => format!("at most {limit}"),
            };
            format!("{} × {} at {price} each, {limit} for one shopper", offer.stock, offer.item)
        });
        let offers: Vec<String> = offers.collect();
        let (opens_at, closes_at) = (round.opens_at, round.closes_at);
        lines.push(format!("round {}: {opens_at} to {closes_at}: {}", at + 1, offers.join("; ")));
    }
    let rule = spec.eligibility;
    let mut who: Vec<String> = Vec::new();
    if rule.wants_reservation() {
        who.push("who made a reservation before the first round".into());
    }
    if rule.wants_list() {
        who.push("who are on the uploaded list".into());
    }
    if rule.tier_min() > 0 {
        who.push(format!("whose tier is {} or more", rule.tier_min()));
    }
    lines.push(match who.len() {
        0 => "every shopper who is not on the deny list may buy".into(),
        _ => format!("only shoppers {} may buy, and none on the deny list", who.join(", and ")),
    });
    lines.push(match spec.limit_per_shopper {
        0 => "over all rounds and items there is no limit for one shopper".into(),
        limit => format!("over all rounds and items at most {limit} for one shopper"),
    });
    lines.push(format!("a hold must be paid within {} s", spec.hold_seconds));
    lines.push(match spec.waitlist_ends_at {
        Some(ends_at) => format!("all who still wait at {ends_at} lose their place"),
        None => "the waitlists end when an operator says so".into(),
    });
    lines
}
