//! Producers: each posts its events one after the other, each request again and again until there
//! is an answer, and keeps a ledger of what was answered with 202.

use super::event::Event;
use crate::chaos::dice::Dice;
use crate::chaos::http::{Answer, ask};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::Duration;

/// Events of one request, at the most; and big ones, of which ten fit into the 2 MiB of a batch.
const BATCH_MAX: u64 = 20;
const BIG_BATCH_MAX: u64 = 8;
/// Faults that are remembered.
const FAULTS_MAX: usize = 10;
/// How long to wait after a request that got no answer, or 503.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Producers of events that are never accepted count from here.
const GHOSTS: u32 = 1_000;

/// What all producers share.
#[derive(Debug)]
pub(super) struct Posting {
    to: SocketAddr,
    key: String,
    /// The longest wait between two requests of a producer, in milliseconds.
    pub(super) pause_ms_max: AtomicU64,
    pub(super) ends: AtomicBool,
    /// Events are big now: the disk is full, and the log is to notice.
    pub(super) is_big: AtomicBool,
    /// An append that was answered with 503 may turn out to be stored: the log is on another
    /// process, which may have stored it and could not say so.
    is_503_unsure: bool,
    /// What was answered with 202, and its number within the topic.
    accepted: Mutex<BTreeMap<Event, u64>>,
    faults: Mutex<Vec<String>>,
    pub(super) counts: Counts,
}

/// What came of requests.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) taken: AtomicU64,
    pub(super) unanswered: AtomicU64,
    pub(super) unavailable: AtomicU64,
    pub(super) repeats: AtomicU64,
    pub(super) altered: AtomicU64,
}

impl Posting {
    pub(super) fn new(to: SocketAddr, key: String, pause_ms_max: u64, is_503_unsure: bool) -> Self {
        Self {
            is_503_unsure,
            to,
            key,
            pause_ms_max: AtomicU64::new(pause_ms_max),
            ends: AtomicBool::new(false),
            is_big: AtomicBool::new(false),
            accepted: Mutex::default(),
            faults: Mutex::default(),
            counts: Counts::default(),
        }
    }

    pub(super) fn accepted_so_far(&self) -> BTreeMap<Event, u64> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn faults_so_far(&self) -> Vec<String> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fault(&self, what: String) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if faults.len() < FAULTS_MAX {
            faults.push(what);
        }
    }

    fn number_of(&self, event: Event) -> Option<u64> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).get(&event).copied()
    }

    /// Posts until there is an answer other than 503; also whether it may have been stored before:
    /// there was no answer, or 503 while the outcome of an append was not known.
    fn post(&self, fields: &[(String, String)], body: &str) -> (Answer, bool) {
        let authorization = format!("Bearer {}", self.key);
        let mut all = vec![("authorization", &*authorization)];
        all.extend(fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut may_be_stored = false;
        loop {
            match ask(self.to, ("POST", "/api/v1/topics/chaos/events"), &all, body) {
                Ok(answer) if answer.status == 503 => {
                    self.counts.unavailable.fetch_add(1, SeqCst);
                    may_be_stored |= self.is_503_unsure;
                }
                Ok(answer) => return (answer, may_be_stored),
                Err(_) => {
                    may_be_stored = true;
                    self.counts.unanswered.fetch_add(1, SeqCst);
                }
            }
            sleep(AGAIN_AFTER);
        }
    }
}

/// One producer, until it is told to end. What it has begun it ends.
pub(super) fn run(posting: &Arc<Posting>, producer: u32, seed: u64) {
    let mut this =
        Producer { posting, producer, dice: Dice(seed), next: 0, mine: Vec::new(), last_number: 0 };
    while !posting.ends.load(SeqCst) {
        this.post_something();
        sleep(Duration::from_millis(this.dice.below(posting.pause_ms_max.load(SeqCst))));
    }
}

struct Producer<'a> {
    posting: &'a Posting,
    producer: u32,
    dice: Dice,
    next: u32,
    /// Its events that were accepted.
    mine: Vec<Event>,
    /// The highest number that one of them got.
    last_number: u64,
}

impl Producer<'_> {
    fn new_event(&mut self) -> Event {
        let is_big = self.posting.is_big.load(SeqCst);
        self.next += 1;
        Event { producer: self.producer, number: self.next, is_big }
    }

    fn earlier(&mut self) -> Option<Event> {
        let at = self.dice.below(self.mine.len() as u64) as usize;
        self.mine.get(at).copied()
    }

    fn post_something(&mut self) {
        match self.dice.below(100) {
            0..5 => {
                if let Some(event) = self.earlier() {
                    self.post(&[event]);
                }
            }
            5..8 => self.post_altered(),
            8..25 => {
                let is_big = self.posting.is_big.load(SeqCst);
                let count = self.dice.below(if is_big { BIG_BATCH_MAX } else { BATCH_MAX }) + 1;
                let mut events: Vec<Event> = (0..count).map(|_| self.new_event()).collect();
                // A batch may repeat what was posted before, and itself.
                if self.dice.is_one_of_a_thousand(300) {
                    events.extend(self.earlier());
                    events.push(events[0]);
                }
                self.post(&events);
            }
            _ => {
                let event = self.new_event();
                self.post(&[event]);
            }
        }
    }

    fn post(&mut self, events: &[Event]) {
        let (fields, body) = match events {
            [event] if event.is_binary() => event.posted_in_binary_mode(),
            [event] => (content_type("application/cloudevents+json"), event.posted()),
            _ => (content_type("application/cloudevents-batch+json"), batch(events, "")),
        };
        let (answer, may_be_stored) = self.posting.post(&fields, &body);
        if answer.status != 202 {
            return self.posting.fault(format!("{events:?}: {answer:?}"));
        }
        let stored: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let stored = stored["events"].as_array().cloned().unwrap_or_default();
        if stored.len() != events.len() {
            return self.posting.fault(format!("{} events, and the answer is {}", events.len(), answer.body));
        }
        self.posting.counts.taken.fetch_add(1, SeqCst);
        for (event, stored) in events.iter().zip(&stored) {
            let (number, is_repeat) = (stored["number"].as_u64().unwrap_or(0), stored["is_repeat"] == true);
            self.posting.counts.repeats.fetch_add(u64::from(is_repeat), SeqCst);
            let known = self.posting.number_of(*event);
            let is_known = known.is_some();
            if is_known != is_repeat && !(is_repeat && may_be_stored) {
                self.posting.fault(format!("{event}: known before: {is_known}, and the answer is {stored}"));
            }
            match known {
                Some(known) if known != number => {
                    self.posting.fault(format!("{event}: number {known} before, and {number} now"));
                }
                Some(_) => {}
                None => self.note(*event, number),
            }
        }
    }

    /// Notes an event that was accepted for the first time.
    fn note(&mut self, event: Event, number: u64) {
        if number <= self.last_number {
            let last = self.last_number;
            self.posting.fault(format!("{event}: number {number} after {last} of an earlier event"));
        }
        self.last_number = number;
        self.mine.push(event);
        let mut accepted = self.posting.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.insert(event, number);
    }

    /// An event that is known, with other data, beside one that is new: neither may be taken.
    fn post_altered(&mut self) {
        let Some(known) = self.earlier() else { return };
        self.next += 1;
        let ghost = Event { producer: GHOSTS + self.producer, number: self.next, is_big: false };
        let body = batch(&[ghost, known], "0");
        let (answer, _) = self.posting.post(&content_type("application/cloudevents-batch+json"), &body);
        self.posting.counts.altered.fetch_add(1, SeqCst);
        if answer.status != 409 {
            self.posting.fault(format!("{known} with other data: {answer:?}"));
        }
    }
}

fn content_type(value: &str) -> Vec<(String, String)> {
    vec![("content-type".to_owned(), value.to_owned())]
}

/// `altered` is put at the end of a number of the data of each.
fn batch(events: &[Event], altered: &str) -> String {
    let posted = events.iter().map(|event| event.posted().replace("1.10}", &format!("1.10{altered}}}")));
    format!("[{}]", posted.collect::<Vec<_>>().join(" ,\n"))
}
