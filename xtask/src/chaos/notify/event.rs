//! The events of the chaos run. All of an event follows from its name: a subscriber judges each
//! byte that arrives without asking who posted it.

use crate::chaos::dice::Dice;
use std::fmt;

/// Keys that the events share: some wait for each other, most do not.
const KEYS: u64 = 200;
/// A big event fills the log's file quickly; the largest that is taken has 256 KiB.
const BIG_WORDS: u64 = 12_000;
const WORDS_MAX: u64 = 40;

/// An event, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Event {
    pub(super) producer: u32,
    pub(super) number: u32,
    pub(super) is_big: bool,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}{}", self.producer, self.number, if self.is_big { "-big" } else { "" })
    }
}

impl Event {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (name, is_big) = name.strip_suffix("-big").map_or((name, false), |name| (name, true));
        let (producer, number) = name.split_once('-')?;
        Some(Self { producer: producer.parse().ok()?, number: number.parse().ok()?, is_big })
    }

    fn dice(self) -> Dice {
        Dice(u64::from(self.producer) << 32 | u64::from(self.number))
    }

    pub(super) fn key(self) -> u64 {
        self.dice().below(KEYS)
    }

    pub(super) fn kind(self) -> &'static str {
        if self.number.is_multiple_of(3) { "order.paid" } else { "order.made" }
    }

    /// One of those that the strict subscriber never takes.
    pub(super) fn is_poison(self) -> bool {
        self.number % 101 == 7
    }

    /// It is posted with its attributes in fields of the head.
    pub(super) fn is_binary(self) -> bool {
        self.number % 5 == 4
    }

    /// The data as it is sent, and must arrive: escapes and spaces included.
    pub(super) fn data(self) -> String {
        let mut dice = self.dice();
        let words = if self.is_big { BIG_WORDS } else { dice.below(WORDS_MAX) };
        let words: String = (0..words).map(|_| format!("{:016x}", dice.next())).collect();
        format!(r#"{{ "n":{},"text": "gr\u00f6\u00DFe 北京 {words}","big":1.10}}"#, self.number)
    }

    fn attributes(self) -> [(&'static str, String); 5] {
        [
            ("id", self.to_string()),
            ("source", "/chaos".into()),
            ("specversion", "1.0".into()),
            ("subject", format!("key-{}", self.key())),
            ("type", self.kind().into()),
        ]
    }

    /// What must arrive: the attributes in rising order, and then the data.
    pub(super) fn delivered(self) -> String {
        let attributes = self.attributes().map(|(name, value)| format!(r#""{name}":"{value}","#)).concat();
        format!(r#"{{"datacontenttype":"application/json",{attributes}"data":{}}}"#, self.data())
    }

    /// The same event in the JSON format, in another order and with white space.
    pub(super) fn posted(self) -> String {
        let attributes =
            self.attributes().map(|(name, value)| format!(",\n \"{name}\": \"{value}\"")).concat();
        let data = self.data();
        format!("{{\"data\":{data},\n \"datacontenttype\": \"application/json\"{attributes}}}")
    }

    /// The same event in binary mode: the fields of the head, and the body.
    pub(super) fn posted_in_binary_mode(self) -> (Vec<(String, String)>, String) {
        let fields = self.attributes().map(|(name, value)| (format!("ce-{name}"), value));
        let content_type = ("content-type".to_owned(), "application/json".to_owned());
        ([content_type].into_iter().chain(fields).collect(), self.data())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_known_by_its_name() {
        for event in
            [Event { producer: 3, number: 70, is_big: false }, Event { producer: 0, number: 0, is_big: true }]
        {
            assert_eq!(Event::parse(&event.to_string()), Some(event));
            let posted: serde_json::Value = serde_json::from_str(&event.posted()).unwrap();
            let delivered: serde_json::Value = serde_json::from_str(&event.delivered()).unwrap();
            assert_eq!(posted, delivered);
            assert_eq!(delivered["id"], event.to_string());
            assert!(event.delivered().len() < 256 << 10);
        }
        assert_eq!(["", "1", "x-1", "1-2-small"].map(Event::parse), [None; 4]);
    }
}
