//! What binds a log-in at a provider to the browser that has begun it: a random secret in a cookie,
//! from which all that the provider is told follows. So nothing of a log-in is stored before it is
//! over, no other browser can end it, and nothing in the cookie can be changed by others: another
//! time, account or path gives another `state`. Its owner can make it as they like: that an account
//! may be connected is a row that the password has made.

use contracts::store::AccountId;
use data_encoding::BASE64URL_NOPAD;
use std::fmt;
use subtle::ConstantTimeEq;
use units::{DurationMs, TimeMs};

/// How long a shopper may take at the provider.
pub(super) const GOOD_FOR: DurationMs = DurationMs(10 * 60_000);
/// How far the clock of another process of the shop may be ahead.
const AHEAD: DurationMs = DurationMs(30_000);
/// Characters of the path to come back to; a longer one is the home page.
const NEXT_MAX: usize = 512;
const TEXT_MAX: usize = 1024;

/// A log-in that is under way.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Ticket {
    /// The cookie's value.
    text: String,
    begun_at: TimeMs,
    /// The account that is to be connected; `None` of a log-in.
    pub(super) connects: Option<AccountId>,
    pub(super) next: String,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("begun_at", &self.begun_at).finish_non_exhaustive()
    }
}

impl Ticket {
    pub(super) fn new(
        secret: &[u8; 32],
        begun_at: TimeMs,
        connects: Option<AccountId>,
        next: String,
    ) -> Self {
        let next = if next.len() > NEXT_MAX { "/".to_owned() } else { next };
        let (secret, of) = (BASE64URL_NOPAD.encode(secret), connects.map_or("-".into(), String::from));
        let text = format!("{secret}.{}.{of}.{}", begun_at.0, BASE64URL_NOPAD.encode(next.as_bytes()));
        Self { text, begun_at, connects, next }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() > TEXT_MAX {
            return None;
        }
        let mut parts = text.split('.');
        let (secret, begun_at, connects, next) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let secret: [u8; 32] = BASE64URL_NOPAD.decode(secret.as_bytes()).ok()?.try_into().ok()?;
        let connects = match connects {
            "-" => None,
            account => Some(account.parse().ok()?),
        };
        let next = String::from_utf8(BASE64URL_NOPAD.decode(next.as_bytes()).ok()?).ok()?;
        let ticket = Self::new(&secret, TimeMs(begun_at.parse().ok()?), connects, next);
        (ticket.text == text).then_some(ticket)
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    fn derived(&self, purpose: &str) -> [u8; 32] {
        blake3::derive_key(purpose, self.text.as_bytes())
    }

    /// What the provider sends back with the browser (RFC 6749, section 10.12).
    pub(super) fn state(&self) -> String {
        BASE64URL_NOPAD.encode(&self.derived("floodgate account 2026-11 state of a log-in at a provider"))
    }

    /// What the provider puts into its token.
    pub(super) fn nonce(&self) -> String {
        BASE64URL_NOPAD.encode(&self.derived("floodgate account 2026-11 nonce of a log-in at a provider"))
    }

    /// By which the provider knows that who brings the code has begun the log-in (RFC 7636).
    pub(super) fn verifier(&self) -> String {
        BASE64URL_NOPAD.encode(&self.derived("floodgate account 2026-11 verifier of a log-in at a provider"))
    }

    /// Under which it is remembered that it was used.
    pub(super) fn hash(&self) -> [u8; 32] {
        self.derived("floodgate account 2026-11 use of a log-in at a provider")
    }

    pub(super) fn has_state(&self, state: &str) -> bool {
        self.state().as_bytes().ct_eq(state.as_bytes()).into()
    }

    /// Until when it is good; `None` if it is not any more.
    pub(super) fn ends_at(&self, now: TimeMs) -> Option<TimeMs> {
        let ends_at = self.begun_at.plus(GOOD_FOR);
        (now < ends_at && self.begun_at <= now.plus(AHEAD)).then_some(ends_at.plus(AHEAD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimeMs = TimeMs(1_800_000_000_000);

    #[test]
    fn a_cookie_that_was_changed_has_another_state() {
        let account = AccountId::new(NOW, [7; 16]);
        for connects in [None, Some(account)] {
            let ticket = Ticket::new(&[1; 32], NOW, connects, "/cart?a=1".into());
            assert_eq!(Ticket::parse(ticket.text()).as_ref(), Some(&ticket));
            assert!(ticket.has_state(&ticket.state()));
            let others = [
                Ticket::new(&[2; 32], NOW, connects, "/cart?a=1".into()),
                Ticket::new(&[1; 32], TimeMs(NOW.0 + 1), connects, "/cart?a=1".into()),
                Ticket::new(&[1; 32], NOW, connects, "/cart".into()),
                Ticket::new(&[1; 32], NOW, Some(AccountId::new(NOW, [8; 16])), "/cart?a=1".into()),
            ];
            for other in others {
                assert!(!other.has_state(&ticket.state()), "{other:?}");
            }
            let all =
                [ticket.state(), ticket.nonce(), ticket.verifier(), BASE64URL_NOPAD.encode(&ticket.hash())];
            for (n, one) in all.iter().enumerate() {
                assert!(one.len() == 43 && !all[..n].contains(one) && !ticket.text().contains(one.as_str()));
            }
        }
    }

    #[test]
    fn a_cookie_is_good_for_ten_minutes() {
        let ticket = Ticket::new(&[1; 32], NOW, None, "x".repeat(NEXT_MAX + 1));
        assert_eq!(ticket.next, "/");
        let at = |ms: u64| ticket.ends_at(TimeMs(ms)).is_some();
        assert!(at(NOW.0) && at(NOW.0 + GOOD_FOR.0 - 1) && at(NOW.0 - AHEAD.0));
        assert!(!at(NOW.0 + GOOD_FOR.0) && !at(NOW.0 - AHEAD.0 - 1));
    }

    #[test]
    fn what_is_no_cookie_of_the_shop_is_none() {
        let good = Ticket::new(&[1; 32], NOW, None, "/".into());
        for text in [
            "",
            "a.b.c.d",
            &format!("{}.", good.text()),
            &good.text().replace(".1", ".01"),
            &"x".repeat(2000),
        ] {
            assert_eq!(Ticket::parse(text), None, "{text}");
        }
    }
}
