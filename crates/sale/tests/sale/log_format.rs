//! `docs/log-format.md` is all that a reader in another language needs: this test is such a reader,
//! which knows nothing else, and reads the golden bytes of every kind of record.

use std::collections::BTreeMap;

const DOCUMENT: &str = include_str!("../../../../docs/log-format.md");
const KINDS: &str = include_str!("../../src/core/record.rs");
const RECORDS: &str = include_str!("golden/records-v1.txt");

struct Row {
    name: &'static str,
    /// `u16 round`, n × (`u16 item`, …), as it stands in the document.
    fields: Vec<&'static str>,
}

/// The table of records, by kind.
fn rows() -> BTreeMap<u8, Row> {
    let table = DOCUMENT.lines().skip_while(|line| !line.starts_with("| kind | record |")).skip(2);
    let row = |line: &'static str| {
        let [_, kind, name, fields, _, _] = line.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        (kind.parse().unwrap(), Row { name: name.trim_matches('`'), fields: split(fields) })
    };
    table.take_while(|line| line.starts_with('|')).map(row).collect()
}

/// At the commas outside of brackets.
fn split(fields: &'static str) -> Vec<&'static str> {
    let mut depth = 0;
    let outside = |c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    };
    fields.split(outside).map(str::trim).collect()
}

/// The unread rest of an entry, and the last count that was read.
struct Reader<'a> {
    rest: &'a [u8],
    n: u64,
}

impl Reader<'_> {
    fn number(&mut self, bytes: usize) -> u64 {
        let (number, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        number.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }

    fn skip(&mut self, bytes: u64) {
        self.rest = &self.rest[bytes as usize..];
    }

    fn fields(&mut self, fields: &[&'static str]) {
        for field in fields {
            match field.strip_prefix("n × ") {
                Some(each) => {
                    let each = split(each.trim_start_matches('(').trim_end_matches(')'));
                    (0..self.n).for_each(|_| self.fields(&each));
                }
                None => self.field(field.trim_matches('`')),
            }
        }
    }

    /// A type of the document's table, and a name that says what it is for.
    fn field(&mut self, field: &str) {
        let (kind, name) = field.split_once(' ').unwrap_or((field, ""));
        match kind {
            "u8" | "flag" => self.n = self.number(1),
            "u16" => self.n = self.number(2),
            "u32" => self.n = self.number(4),
            "u64" | "i64" | "time" => self.n = self.number(8),
            "id" => self.skip(16),
            "text" => {
                let len = self.number(2);
                self.skip(len);
            }
            "actor" => ["text", "text"].iter().for_each(|part| self.field(part)),
            "json" => {
                let len = self.number(4);
                self.skip(len);
            }
            "sealed" => {
                let len = self.number(1);
                self.skip(len);
            }
            "line" => self.skip(4),
            "attempt" => {
                ["id", "id", "u8", "sealed"].iter().for_each(|part| self.field(part));
                let lines = self.number(1);
                (0..lines).for_each(|_| self.field("line"));
            }
            other => panic!("the document has no type {other} ({name})"),
        }
    }
}

#[test]
fn every_kind_of_record_has_a_row_in_the_document() {
    let rows = rows();
    let in_code = KINDS.lines().filter_map(|line| {
        let (name, number) = line.trim().strip_prefix("pub(super) const ")?.split_once(": u8 = ")?;
        Some((number.trim_end_matches(';').parse::<u8>().unwrap(), name.to_lowercase()))
    });
    let in_code: BTreeMap<u8, String> = in_code.collect();
    let written: BTreeMap<u8, String> = rows.iter().map(|(kind, row)| (*kind, row.name.to_owned())).collect();
    assert!(in_code.len() > 20, "{in_code:?}");
    assert_eq!(written, in_code, "docs/log-format.md against core/record.rs");
}

#[test]
fn the_documents_tables_read_every_golden_record() {
    let mut rows = rows();
    for line in RECORDS.lines() {
        let (name, hex) = line.split_once(' ').unwrap();
        let bytes: Vec<u8> =
            (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect();
        let row = rows.remove(&bytes[0]).unwrap_or_else(|| panic!("{name}: no row, or a second time"));
        assert_eq!(row.name, name);
        // After kind and time.
        let mut reader = Reader { rest: &bytes[9..], n: 0 };
        reader.fields(&row.fields);
        assert!(reader.rest.is_empty(), "{name}: {} bytes left over", reader.rest.len());
    }
    let unread: Vec<&str> = rows.values().map(|row| row.name).collect();
    assert!(unread.is_empty(), "no golden bytes of {unread:?}");
}
