//! Winners as signed lines of JSON, which a store imports at its own pace. A line contains nothing
//! that is not in the log.

use crate::{
    keys::Keyring,
    ports::{Winner, WinnerEvent},
    ticket::item_name,
};
use contracts::{AttemptId, SaleSpec};
use data_encoding::BASE64URL_NOPAD;
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde_json::{Value, json};
use units::{Sequence, TimeMs};

/// A line of the feed, to which its signature is added: base64url of Ed25519 over
/// "floodgate-winner-v1\n<sale>\n" and all bytes of the line before ,"sig":
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Winner", transform = with_signature)]
pub(crate) struct WinnerLine<'a> {
    seq: Sequence,
    at: TimeMs,
    #[serde(rename = "type")]
    #[schemars(extend("enum" = ["granted", "confirmed", "released", "expired", "voided"]))]
    kind: &'static str,
    hold: AttemptId,
    #[serde(flatten)]
    event: EventFields<'a>,
}

fn with_signature(schema: &mut Schema) {
    let object = schema.ensure_object();
    if let Some(known) = object.get_mut("properties").and_then(Value::as_object_mut) {
        known.insert("sig".to_owned(), json!({ "type": "string" }));
    }
    if let Some(known) = object.get_mut("required").and_then(Value::as_array_mut) {
        known.push("sig".into());
    }
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum EventFields<'a> {
    /// `shopper` is null if the key of the name was deleted.
    Granted {
        shopper: Option<String>,
        lines: Vec<PricedLine<'a>>,
        currency: &'a str,
        pay_by: TimeMs,
    },
    Confirmed {
        payment: &'a str,
        late: bool,
    },
    Voided {
        reason: &'a str,
    },
    Plain {},
}

#[derive(Serialize, JsonSchema)]
struct PricedLine<'a> {
    item: &'a str,
    quantity: u16,
    price_minor: u64,
}

/// Appends the winner's line. The Ed25519 signature is over `floodgate-winner-v1\n<sale>\n` and all
/// bytes of the line before `,"sig":`, so a line cannot pass for one of another sale.
pub fn append_line(keys: &Keyring, sale: &str, spec: &SaleSpec, winner: &Winner, out: &mut Vec<u8>) {
    let (kind, event) = match &winner.event {
        WinnerEvent::Granted { sealed, shopper, basket, prices_minor, pay_by } => {
            let lines = basket.iter().zip(prices_minor).map(|(line, &price_minor)| PricedLine {
                item: item_name(spec, line.item),
                quantity: line.quantity,
                price_minor,
            });
            let shopper = keys.unseal(*shopper, sealed).map(|shopper| shopper.to_string());
            let currency = spec.currency.as_str();
            ("granted", EventFields::Granted { shopper, lines: lines.collect(), currency, pay_by: *pay_by })
        }
        WinnerEvent::Confirmed { payment, late } => {
            ("confirmed", EventFields::Confirmed { payment, late: *late })
        }
        WinnerEvent::Released => ("released", EventFields::Plain {}),
        WinnerEvent::Expired => ("expired", EventFields::Plain {}),
        WinnerEvent::Voided { reason } => ("voided", EventFields::Voided { reason }),
        WinnerEvent::RefundDue { payment } => return append_refund(keys, sale, winner, payment, out),
    };
    let line = WinnerLine { seq: winner.sequence, at: winner.at, kind, hold: winner.hold, event };
    sign(keys, sale, &line, out);
}

/// A payment that bought nothing, to which its signature is added, as to a winner's line.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Refund", transform = with_signature)]
pub(crate) struct RefundLine<'a> {
    seq: Sequence,
    at: TimeMs,
    #[serde(rename = "type")]
    #[schemars(extend("const" = "refund_due"))]
    kind: &'static str,
    hold: AttemptId,
    /// The provider's reference.
    payment: &'a str,
}

fn append_refund(keys: &Keyring, sale: &str, winner: &Winner, payment: &str, out: &mut Vec<u8>) {
    let Winner { sequence: seq, at, hold, .. } = *winner;
    sign(keys, sale, &RefundLine { seq, at, kind: "refund_due", hold, payment }, out);
}

fn sign(keys: &Keyring, sale: &str, line: &impl Serialize, out: &mut Vec<u8>) {
    let text = serde_json::to_vec(line).expect("a line has no map with odd keys");
    let body = text.strip_suffix(b"}").unwrap_or(&text);
    let signature = keys.winners().sign(&signed_bytes(sale, body));
    out.extend_from_slice(body);
    out.extend_from_slice(b",\"sig\":\"");
    out.extend_from_slice(BASE64URL_NOPAD.encode(&signature).as_bytes());
    out.extend_from_slice(b"\"}\n");
}

fn signed_bytes(sale: &str, body: &[u8]) -> Vec<u8> {
    [b"floodgate-winner-v1\n", sale.as_bytes(), b"\n", body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signature, VerifyingKey};

    #[test]
    fn every_line_is_signed_for_its_sale() {
        let keys = Keyring::from_master(&[7; 32]);
        let (shopper, sealed) = keys.seal("alice").unwrap();
        let granted = WinnerEvent::Granted {
            sealed,
            shopper,
            basket: contracts::Basket::single(0, 1),
            prices_minor: vec![199_900],
            pay_by: TimeMs(900_000),
        };
        let check = |event, want: &str| {
            let winner = Winner { sequence: Sequence(4), at: TimeMs(1), hold: AttemptId([1; 16]), event };
            let mut line = Vec::new();
            append_line(&keys, "demo", &crate::testing::spec(), &winner, &mut line);
            let line = String::from_utf8(line).unwrap();
            let (body, signature) = line.strip_suffix("\"}\n").unwrap().split_once(",\"sig\":\"").unwrap();
            assert!(body.ends_with(want), "{body}");
            let signature =
                Signature::from_slice(&BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap()).unwrap();
            let public = VerifyingKey::from_bytes(keys.winners().public()).unwrap();
            public.verify_strict(&signed_bytes("demo", body.as_bytes()), &signature).unwrap();
            assert!(public.verify_strict(&signed_bytes("other", body.as_bytes()), &signature).is_err());
        };
        check(
            granted,
            r#""type":"granted","hold":"01010101010101010101010101010101","shopper":"alice","lines":[{"item":"phone","quantity":1,"price_minor":199900}],"currency":"CNY","pay_by":"1970-01-01T00:15:00.000Z""#,
        );
        check(
            WinnerEvent::Confirmed { payment: "p-1".into(), late: false },
            r#""payment":"p-1","late":false"#,
        );
        check(WinnerEvent::Released, r#""hold":"01010101010101010101010101010101""#);
        check(WinnerEvent::Voided { reason: "fraud".into() }, r#""reason":"fraud""#);
    }
}
