//! The hold ticket: a compact JWS (RFC 7515, EdDSA as in RFC 8037) that says what is held for whom, so that a store can honour
//! it offline. What it says follows from the hold alone; only its signature differs when it is made again.

use crate::{keys::Keyring, wire::decimal};
use arrayvec::ArrayVec;
use contracts::{AttemptId, Basket, HoldView, SaleSpec};
use data_encoding::BASE64URL_NOPAD;
use std::io::{self, Write};

/// What a ticket says takes at most: 8 lines with the longest names, and a shopper's id in which every byte is escaped.
const PAYLOAD_BYTES_MAX: usize = 2048;

type Payload = ArrayVec<u8, PAYLOAD_BYTES_MAX>;

/// What a ticket says, in JSON. Only the shopper's id may have what must be escaped; all else is of our own alphabet.
fn payload_of(
    out: &mut Payload,
    sale: &str,
    spec: &SaleSpec,
    hold: AttemptId,
    shopper: &str,
    basket: &Basket,
    view: &HoldView,
) -> io::Result<()> {
    out.write_all(b"{\"sale\":\"")?;
    out.write_all(sale.as_bytes())?;
    out.write_all(b"\",\"hold\":\"")?;
    out.write_all(&hold.hex())?;
    out.write_all(b"\",\"shopper\":")?;
    serde_json::to_writer(&mut *out, shopper)?;
    out.write_all(b",\"lines\":[")?;
    for (at, line) in basket.iter().enumerate() {
        out.write_all(if at == 0 { b"{\"item\":\"" } else { b",{\"item\":\"" })?;
        out.write_all(item_name(spec, line.item).as_bytes())?;
        out.write_all(b"\",\"quantity\":")?;
        out.write_all(decimal(&mut [0; 20], u64::from(line.quantity)))?;
        out.write_all(b"}")?;
    }
    out.write_all(b"],\"pay_by\":\"")?;
    out.write_all(&view.pay_by.text())?;
    out.write_all(b"\",\"granted_as_of\":")?;
    out.write_all(decimal(&mut [0; 20], view.granted_as_of.0))?;
    out.write_all(b"}")
}

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
    let mut payload = Payload::new();
    payload_of(&mut payload, sale, spec, hold, shopper, basket, view).expect("a ticket fits");
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
