//! The hold ticket: a compact JWS (RFC 7515, EdDSA as in RFC 8037) that says what is held for whom,
//! so that a store can check it offline. Its content follows from the hold alone. It is made when
//! it is read, and not during a purchase: a signature costs half as much as a whole purchase.

use crate::{keys::Keyring, outcome::Hold, pass::Pass};
use contracts::{AttemptId, Basket, SaleSpec, SaleView};
use serde::Serialize;
use units::{Sequence, TimeMs};

/// The claims of a ticket.
#[derive(Serialize)]
struct Claims<'a> {
    sale: &'a str,
    hold: AttemptId,
    shopper: &'a str,
    lines: Vec<Line<'a>>,
    pay_by: TimeMs,
    granted_as_of: Sequence,
}

#[derive(Serialize)]
struct Line<'a> {
    item: &'a str,
    quantity: u16,
}

/// Signs the ticket of a hold of this pass's shopper. `None` only if the key that sealed the
/// shopper's name was deleted.
pub(crate) fn sign(
    keys: &Keyring,
    view: &SaleView,
    pass: &Pass,
    basket: &Basket,
    hold: &Hold,
) -> Option<String> {
    let shopper = keys.unseal(pass.shopper, &pass.sealed)?;
    let lines = basket
        .iter()
        .map(|line| Line { item: item_name(&view.spec, line.item), quantity: line.quantity })
        .collect();
    let claims = Claims {
        sale: view.sale.as_str(),
        hold: hold.id,
        shopper: &shopper,
        lines,
        pay_by: hold.pay_by,
        granted_as_of: hold.granted_as_of,
    };
    Some(keys.tickets().sign(&serde_json::to_vec(&claims).expect("claims have no map with odd keys")))
}

/// The id of the sale's `item`-th item.
pub(crate) fn item_name(spec: &SaleSpec, item: u16) -> &str {
    spec.items.get(usize::from(item)).map_or("", |i| i.item.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::{HoldState, ShopperKey};
    use data_encoding::BASE64URL_NOPAD;
    use ed25519_dalek::{Signature, VerifyingKey};

    #[test]
    fn a_ticket_is_checked_with_the_public_key_alone() {
        let keys = Keyring::from_master(&[7; 32]);
        let (shopper, sealed) = keys.seal("al\"ice").unwrap();
        let pass = Pass { shopper, sealed, tier: 0, expires_at: TimeMs(9) };
        let (id, pay_by, granted_as_of) = (AttemptId([1; 16]), TimeMs(5), Sequence(9));
        let hold = Hold { id, state: HoldState::Held, pay_by, ticket: None, granted_as_of };
        let view = crate::testing::view();
        let make = |pass: &Pass| sign(&keys, &view, pass, &Basket::single(1, 2), &hold);
        let text = make(&pass).unwrap();
        let (signed, signature) = text.rsplit_once('.').unwrap();
        let signature =
            Signature::from_slice(&BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap()).unwrap();
        let public = VerifyingKey::from_bytes(keys.tickets().key().public()).unwrap();
        public.verify_strict(signed.as_bytes(), &signature).unwrap();
        let payload = BASE64URL_NOPAD.decode(signed.split_once('.').unwrap().1.as_bytes()).unwrap();
        assert_eq!(
            String::from_utf8(payload).unwrap(),
            r#"{"sale":"demo","hold":"01010101010101010101010101010101","shopper":"al\"ice","lines":[{"item":"watch","quantity":2}],"pay_by":"1970-01-01T00:00:00.005Z","granted_as_of":9}"#
        );
        assert_eq!(
            make(&Pass { shopper: ShopperKey([9; 16]), ..pass }),
            None,
            "no name for this shopper key"
        );
    }
}
