//! Shoppers before the shop's pages: they fill in the forms that the pages have, and send them
//! again if no answer came. What was answered is written down, for the judge.

use super::server::{HOLD, Places};
use crate::chaos::dice::Dice;
use crate::chaos::http::{Answer, ask};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(20);
/// A payment around the end of its hold is so much before it, or after it, at the most.
const AROUND_MS: u64 = 700;
const AROUND: Duration = Duration::from_millis(AROUND_MS);
/// Looks for an order that is on its way, or for its payment, before a shopper turns to another.
const LOOKS_MAX: u32 = 200;
/// Products of the demo that a cart may have: no sale has them.
pub(super) const PRODUCTS: [(&str, &str); 3] = [
    ("marsh-keyboard", "MARSH-KEYBOARD"),
    ("cove-speaker", "COVE-SPEAKER"),
    ("inlet-kettle", "INLET-KETTLE"),
];
const ADDRESS: &str = "name=Ann&phone=13800138000&street=Bridge+1&city=Beijing&country=CN";

/// What shoppers were answered.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Attempts that were granted.
    pub(super) holds: Mutex<BTreeSet<String>>,
    /// Orders that were placed from a cart.
    pub(super) placed: Mutex<BTreeSet<String>>,
    /// Orders whose payment was said to be made.
    pub(super) paid: Mutex<BTreeSet<String>>,
    /// Orders that were given up.
    pub(super) given_up: AtomicU64,
    /// Payments that were made around the end of their hold.
    pub(super) around: AtomicU64,
}

fn note(set: &Mutex<BTreeSet<String>>, what: &str) {
    if let Ok(mut set) = set.lock() {
        set.insert(what.to_owned());
    }
}

/// One shopper.
pub(super) struct Shopper<'a> {
    places: Places,
    ledger: &'a Ledger,
    over: &'a AtomicBool,
    dice: Dice,
    cookie: String,
    /// When the payment is to be made, if not at once.
    pay_at: Option<Instant>,
}

/// The run is over.
#[derive(Debug)]
pub(super) struct Over;

fn between<'b>(page: &'b str, before: &str, after: &str) -> Option<&'b str> {
    Some(page.split_once(before)?.1.split_once(after)?.0)
}

fn value(page: &str, name: &str) -> Option<String> {
    between(page, &format!("name=\"{name}\" value=\""), "\"").map(str::to_owned)
}

impl<'a> Shopper<'a> {
    pub(super) fn new(places: Places, ledger: &'a Ledger, over: &'a AtomicBool, seed: u64) -> Self {
        Self { places, ledger, over, dice: Dice(seed), cookie: String::new(), pay_at: None }
    }

    fn pause(&self) -> Result<(), Over> {
        sleep(PAUSE);
        if self.over.load(SeqCst) { Err(Over) } else { Ok(()) }
    }

    /// Asks until an answer comes that is one: the server may be killed meanwhile, or not be there.
    fn insist(
        &self,
        to: SocketAddr,
        line: (&str, &str),
        fields: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer, Over> {
        loop {
            match ask(to, line, fields, body) {
                Ok(answer) if answer.status < 500 && answer.status != 429 => return Ok(answer),
                _ => self.pause()?,
            }
        }
    }

    fn get(&self, path: &str) -> Result<Answer, Over> {
        self.insist(self.places.shop, ("GET", path), &[("cookie", &self.cookie)], "")
    }

    fn post(&self, path: &str, form: &str) -> Result<Answer, Over> {
        let fields = [("cookie", &*self.cookie), ("content-type", "application/x-www-form-urlencoded")];
        self.insist(self.places.shop, ("POST", path), &fields, form)
    }

    /// Makes an account. If the answer to the first try was lost, it is there, and the log-in
    /// finds it.
    pub(super) fn register(&mut self, name: &str) -> Result<(), Over> {
        let who = format!("email={name}%40example.com&password=correct+horse&next=%2Forders");
        loop {
            for (path, form) in
                [("/account/register", format!("name={name}&{who}")), ("/account/log-in", who.clone())]
            {
                let answer = self.post(path, &form)?;
                if answer.status == 303 {
                    self.cookie = answer.field("set-cookie").split(';').next().unwrap_or_default().to_owned();
                    return Ok(());
                }
            }
            self.pause()?;
        }
    }

    /// Wins one in the demo's sale, and pays for it. `number` is the shopper's own.
    pub(super) fn win_and_pay(&mut self, number: u64) -> Result<(), Over> {
        self.register(&format!("winner-{number}"))?;
        let pass = loop {
            let token = self.get("/account/sale-token")?;
            let bearer = format!("Bearer {}", token.body);
            let answer = self.insist(
                self.places.gate,
                ("POST", "/api/v1/sales/demo/passes"),
                &[("authorization", &bearer)],
                "",
            )?;
            let pass = between(&answer.body, "\"pass\":\"", "\"").map(str::to_owned);
            if let Some(pass) = pass.filter(|_| answer.status == 200) {
                break pass;
            }
            self.pause()?;
        };
        let Some(hold) = attempt(self, &pass)? else { return Ok(()) };
        self.pay_at = match self.dice.below(3) {
            0 => None,
            // Some before the hold ends, some after.
            _ => Some(Instant::now() + HOLD - AROUND + Duration::from_millis(self.dice.below(2 * AROUND_MS))),
        };
        let at = format!("/checkout?sale=demo&hold={hold}");
        for _ in 0..LOOKS_MAX {
            let answer = self.get(&at)?;
            if answer.status == 303 {
                let order = answer.field("location").to_owned();
                return self.pay(&order);
            }
            self.pause()?;
        }
        Ok(())
    }

    /// Buys by the cart.
    pub(super) fn buy(&mut self) -> Result<(), Over> {
        let (slug, sku) = PRODUCTS[self.dice.below(PRODUCTS.len() as u64) as usize];
        let page = self.get(&format!("/p/{slug}"))?.body;
        let Some(form) = value(&page, "form") else { return self.pause() };
        let quantity = 1 + self.dice.below(2);
        self.post("/cart", &format!("form={form}&sku={sku}&quantity={quantity}"))?;
        let page = self.get("/cart/check-out")?.body;
        let fields = ["form", "key", "total-standard"].map(|name| value(&page, name));
        let [Some(form), Some(key), Some(total)] = fields else {
            // Nothing of it can be bought any more: the cart is emptied by taking the line out.
            self.post("/cart/lines", &format!("form={form}&sku={sku}&quantity=0"))?;
            return self.pause();
        };
        let form = format!("form={form}&key={key}&total-standard={total}&shipping=standard&{ADDRESS}");
        let answer = self.post("/cart/check-out", &form)?;
        if answer.status != 303 {
            return self.pause();
        }
        let order = answer.field("location").to_owned();
        note(&self.ledger.placed, order.trim_start_matches("/orders/"));
        self.pay(&order)
    }

    /// Pays for an order, in one of the ways in which that goes, or gives it up.
    fn pay(&mut self, order: &str) -> Result<(), Over> {
        let choice = match self.dice.below(10) {
            0 => return self.give_up(order),
            1 => "fail",
            2 | 3 => "tell_twice",
            _ => "pay",
        };
        for _ in 0..LOOKS_MAX {
            let page = self.get(order)?.body;
            let pays = page.contains(&format!("{order}/pay\""));
            if let (true, Some(form)) = (pays, value(&page, "form")) {
                let answer = self.post(&format!("{order}/pay"), &format!("form={form}&{ADDRESS}"))?;
                let sandbox = answer.field("location").to_owned();
                if answer.status == 303 && sandbox.starts_with("/sandbox/") {
                    return self.choose(order, &sandbox, choice);
                }
            }
            self.pause()?;
        }
        Ok(())
    }

    fn choose(&mut self, order: &str, sandbox: &str, choice: &str) -> Result<(), Over> {
        if choice == "fail" {
            self.post(sandbox, "choice=fail")?;
            // Another card, on the same page.
            if self.dice.below(2) == 0 {
                return self.give_up(order);
            }
        }
        let choice = if choice == "fail" { "pay" } else { choice };
        if let Some(at) = self.pay_at.take() {
            sleep(at.saturating_duration_since(Instant::now()));
            self.ledger.around.fetch_add(1, SeqCst);
        }
        if self.post(sandbox, &format!("choice={choice}"))?.status == 303 {
            note(&self.ledger.paid, order.trim_start_matches("/orders/"));
        }
        Ok(())
    }

    fn give_up(&self, order: &str) -> Result<(), Over> {
        let page = self.get(order)?.body;
        if let Some(form) = value(&page, "form") {
            self.post(&format!("{order}/cancel"), &format!("form={form}"))?;
            self.ledger.given_up.fetch_add(1, SeqCst);
        }
        Ok(())
    }
}

/// An attempt for one phone, with a pass. Returns the hold if it was granted.
pub(super) fn attempt(shopper: &Shopper<'_>, pass: &str) -> Result<Option<String>, Over> {
    let fields = [("content-type", "application/json"), ("floodgate-pass", pass), ("idempotency-key", "k")];
    let body = r#"{"lines":[{"item":"phone","quantity":1}]}"#;
    loop {
        let answer =
            shopper.insist(shopper.places.gate, ("POST", &shopper.places.attempts), &fields, body)?;
        if answer.status != 200 {
            shopper.pause()?;
            continue;
        }
        if !answer.body.contains("\"outcome\":\"granted\"") {
            return Ok(None);
        }
        let hold = between(&answer.body, "\"attempt\":\"", "\"").map(str::to_owned);
        if let Some(hold) = &hold {
            note(&shopper.ledger.holds, hold);
        }
        return Ok(hold);
    }
}
