//! The hold ticket: a compact JWS (RFC 7515, EdDSA as in RFC 8037) that says what is held for whom, so that a store can honour
//! it offline. Made from the hold alone, so asking twice gives the same bytes.

use crate::keys::Keyring;
use arrayvec::ArrayVec;
use contracts::{Basket, HoldView, SaleSpec};
use data_encoding::BASE64URL_NOPAD;
use serde::{Serialize, Serializer};
use units::AttemptId;

#[derive(Serialize)]
struct Ticket<'a> {
    sale: &'a str,
    hold: AttemptId,
    shopper: &'a str,
    lines: TicketLines<'a>,
    pay_by: units::TimeMs,
    granted_as_of: units::Sequence,
}

/// A line of a ticket or of a winner, by the item's name.
#[derive(Debug, Serialize)]
pub(crate) struct TicketLine<'a> {
    item: &'a str,
    quantity: u16,
}

struct TicketLines<'a>(&'a Basket, &'a SaleSpec);

impl Serialize for TicketLines<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(
            self.0.iter().map(|l| TicketLine { item: item_name(self.1, l.item), quantity: l.quantity }),
        )
    }
}

/// What a ticket says takes at most: 8 lines with the longest names, and a shopper's id in which every byte is escaped.
const PAYLOAD_BYTES_MAX: usize = 2048;

/// Signs the ticket of a hold, in memory that need not be new.
#[expect(clippy::too_many_arguments, reason = "the fields of a ticket")]
pub fn sign(
    mut text: String,
    keys: &Keyring,
    sale: &str,
    spec: &SaleSpec,
    hold: AttemptId,
    shopper: &str,
    basket: &Basket,
    view: &HoldView,
) -> String {
    let ticket = Ticket {
        sale,
        hold,
        shopper,
        lines: TicketLines(basket, spec),
        pay_by: view.pay_by,
        granted_as_of: view.granted_as_of,
    };
    let mut payload = ArrayVec::<u8, PAYLOAD_BYTES_MAX>::new();
    serde_json::to_writer(&mut payload, &ticket).expect("a ticket has no map with odd keys, and fits");
    text.clear();
    text.push_str(keys.ticket_head());
    text.push('.');
    BASE64URL_NOPAD.encode_append(&payload, &mut text);
    let signature = keys.sign_ticket(text.as_bytes());
    text.push('.');
    BASE64URL_NOPAD.encode_append(&signature, &mut text);
    text
}

/// The name of the sale's `item`-th item.
pub(crate) fn item_name(spec: &SaleSpec, item: u16) -> &str {
    spec.items.get(usize::from(item)).map_or("", |i| i.item.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signature, VerifyingKey};
    use units::{Sequence, TimeMs};

    #[test]
    fn a_ticket_is_checked_with_the_public_key_alone() {
        let keys = Keyring::from_master(&[7; 32]);
        let view =
            HoldView { state: contracts::HoldState::Held, pay_by: TimeMs(5), granted_as_of: Sequence(9) };
        let spec = crate::testing::spec();
        let make = || {
            sign(
                String::new(),
                &keys,
                "demo",
                &spec,
                AttemptId([1; 16]),
                "al\"ice",
                &Basket::single(1, 2),
                &view,
            )
        };
        let text = make();
        let (signed, signature) = text.rsplit_once('.').unwrap();
        let signature =
            Signature::from_slice(&BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap()).unwrap();
        let public = VerifyingKey::from_bytes(&keys.ticket_public_key()).unwrap();
        public.verify_strict(signed.as_bytes(), &signature).unwrap();
        let payload = BASE64URL_NOPAD.decode(signed.split_once('.').unwrap().1.as_bytes()).unwrap();
        assert_eq!(
            String::from_utf8(payload).unwrap(),
            r#"{"sale":"demo","hold":"01010101010101010101010101010101","shopper":"al\"ice","lines":[{"item":"watch","quantity":2}],"pay_by":"1970-01-01T00:00:00.005Z","granted_as_of":9}"#
        );
    }
}
