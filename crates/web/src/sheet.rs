//! Sheets of comma-separated values (RFC 4180), which people edit with other programs: read row by
//! row, with what is wrong by line, and written so that no such program takes a text for a formula.

use crate::problem::{INVALID, Problem};
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use csv::{Position, ReaderBuilder, StringRecord};
use futures_util::Stream;
use http::header;
use std::{borrow::Cow, collections::BTreeMap};

/// Errors that are said at once.
pub const ERRORS_MAX: usize = 50;

/// What is wrong in a line of a sheet; the first line is 1, that of the columns' names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    pub line: u64,
    pub why: String,
}

/// The answer to a sheet of which nothing was stored.
pub fn refused(errors: &[LineError]) -> Problem {
    let lines = errors.iter().map(|error| format!("line {}: {}", error.line, error.why));
    Problem::new(&INVALID, lines.collect::<Vec<_>>().join("; "))
}

/// A text that no spreadsheet takes for a formula (CWE-1236): it shows the apostrophe, and we take
/// it away again.
pub fn guarded(text: &str) -> Cow<'_, str> {
    match text.starts_with(['=', '+', '-', '@', '\t', '\r', '\'']) {
        true => format!("'{text}").into(),
        false => text.into(),
    }
}

fn unguarded(text: &str) -> &str {
    match text.strip_prefix('\'') {
        Some(rest) if rest.starts_with(['=', '+', '-', '@', '\t', '\r', '\'']) => rest,
        _ => text,
    }
}

/// A sheet to keep as a file, page by page, so that no more than one is in memory. A page that
/// fails cuts the answer off, which is seen: it does not end as it should.
pub fn download<E>(file: &str, pages: impl Stream<Item = Result<Vec<u8>, E>> + Send + 'static) -> Response
where
    E: std::error::Error + Send + Sync + 'static,
{
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{file}\"")),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (headers, Body::from_stream(pages)).into_response()
}

/// Writes rows, each with as many fields as there are columns.
pub fn write<'a>(rows: impl IntoIterator<Item = Vec<Cow<'a, str>>>) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.write_record(row.iter().map(|field| field.as_bytes())).expect("a vector takes all");
    }
    writer.into_inner().expect("a vector takes all")
}

/// The rows of a sheet.
#[derive(Debug)]
pub struct Rows<'a> {
    reader: csv::Reader<&'a [u8]>,
    record: StringRecord,
    bytes: &'a [u8],
    /// Up to where lines were counted, and in which line that is.
    counted: (usize, u64),
    /// Where each column stands in the sheet, in the order in which they were asked for.
    places: Vec<Option<usize>>,
    width: usize,
    has_ended: bool,
}

/// A row of a sheet.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// In which line it begins.
    pub line: u64,
    record: &'a StringRecord,
    places: &'a [Option<usize>],
}

impl<'a> Row<'a> {
    /// The field of a column, by the column's number. Empty if the sheet does not have the column.
    pub fn field(self, column: usize) -> &'a str {
        let place = self.places.get(column).copied().flatten();
        unguarded(place.and_then(|place| self.record.get(place)).unwrap_or_default().trim())
    }
}

impl<'a> Rows<'a> {
    /// Reads the names of the columns, which stand in any order: all of `wanted`, and of `others`
    /// those that the sheet has. Columns are numbered as they are asked for.
    pub fn open(bytes: &'a [u8], wanted: &[&str], others: &[&str]) -> Result<Self, LineError> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let wrong = |why: String| Err(LineError { line: 1, why });
        let mut reader = ReaderBuilder::new().flexible(true).from_reader(bytes);
        let heads = match reader.headers() {
            Ok(heads) => heads.clone(),
            Err(_) => return wrong("want UTF-8".into()),
        };
        if let Some(other) = [";", "\t"].into_iter().find(|of| heads.len() == 1 && heads[0].contains(of)) {
            return wrong(format!("the columns are separated by {other:?}: want commas"));
        }
        let all: Vec<&str> = wanted.iter().chain(others).copied().collect();
        let only = || format!("want these columns, each once: {}", all.join(", "));
        if heads.len() > all.len() {
            return wrong(only());
        }
        let places: BTreeMap<&str, usize> =
            heads.iter().enumerate().map(|(at, head)| (head.trim(), at)).collect();
        let lacks: Vec<&str> = wanted.iter().copied().filter(|column| !places.contains_key(column)).collect();
        if !lacks.is_empty() {
            return wrong(format!("these columns are missing: {}", lacks.join(", ")));
        }
        if places.len() != heads.len() || places.keys().any(|head| !all.contains(head)) {
            return wrong(only());
        }
        let places = all.iter().map(|column| places.get(column).copied()).collect();
        let (record, width, counted) = (StringRecord::new(), heads.len(), (0, 1));
        Ok(Self { reader, bytes, counted, record, places, width, has_ended: false })
    }

    /// The next row, or what is wrong with it.
    pub fn next_row(&mut self) -> Option<Result<Row<'_>, LineError>> {
        if self.has_ended {
            return None;
        }
        match self.reader.read_record(&mut self.record) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                self.has_ended = true;
                let line = self.line_at(error.position().map_or(0, Position::byte));
                return Some(Err(LineError { line, why: "want UTF-8".into() }));
            }
        }
        let begin = self.record.position().map_or(0, Position::byte);
        let line = self.line_at(begin);
        // One that is left open takes the lines after it into its field.
        let read = self.bytes.get(begin as usize..self.reader.position().byte() as usize);
        if read.is_some_and(|read| read.iter().filter(|byte| **byte == b'"').count() % 2 == 1) {
            return Some(Err(LineError { line, why: "want quotes in pairs".into() }));
        }
        if self.record.len() != self.width {
            let why = format!("{} columns, want {}", self.record.len(), self.width);
            return Some(Err(LineError { line, why }));
        }
        Some(Ok(Row { line, record: &self.record, places: &self.places }))
    }

    /// In which line the row stands that begins here, or after ends of lines.
    fn line_at(&mut self, begin: u64) -> u64 {
        let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let begin = (begin as usize).min(self.bytes.len());
        let begin = begin + self.bytes[begin..].iter().take_while(|byte| is_end(byte)).count();
        let (from, mut line) = self.counted;
        for at in from..begin {
            // Of both together the second one counts.
            let is_first = self.bytes[at] == b'\r' && self.bytes.get(at + 1) == Some(&b'\n');
            line += u64::from(is_end(&self.bytes[at]) && !is_first);
        }
        self.counted = (begin.max(from), line);
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each row has, with its line.
    fn rows(sheet: &str) -> Vec<Result<(u64, String), String>> {
        let mut rows = Rows::open(sheet.as_bytes(), &["a"], &["b"]).unwrap();
        let mut all = Vec::new();
        while let Some(row) = rows.next_row() {
            let row = row.map(|row| (row.line, format!("{}/{}", row.field(0), row.field(1))));
            all.push(row.map_err(|error| format!("{}: {}", error.line, error.why)));
        }
        all
    }

    #[test]
    fn lines_are_those_of_an_editor_whatever_ends_them() {
        let sheet = "b,a\n1,x\n\n\n2,\"y\ny\"\n3,z\n";
        let want = [(2, "x/1"), (5, "y\ny/2"), (7, "z/3")].map(|(line, of)| Ok((line, of.to_owned())));
        assert_eq!(rows(sheet), want);
        let windows = sheet.replace('\n', "\r\n");
        let want = [(2, "x/1"), (5, "y\r\ny/2"), (7, "z/3")].map(|(line, of)| Ok((line, of.to_owned())));
        assert_eq!(rows(&windows), want);
        assert_eq!(rows("a\r1\r2\r").last(), Some(&Ok((3, "2/".into()))));
    }

    #[test]
    fn a_quote_that_is_left_open_is_said_and_takes_no_lines_with_it_in_silence() {
        let open = "a,b\n1,2\n3,\"4\n5,6\n";
        assert_eq!(rows(open), [Ok((2, "1/2".into())), Err("3: want quotes in pairs".into())]);
        assert_eq!(rows("a,b\n1,\"2 \"\"inches\"\"\"\n"), [Ok((2, "1/2 \"inches\"".into()))]);
    }

    #[test]
    fn what_a_spreadsheet_could_run_is_guarded_and_read_as_it_was() {
        for text in ["=1+1", "+1", "-1", "@x", "'=1", "plain", ""] {
            let sheet = write([vec!["a".into()], vec![guarded(text)]]);
            let read = rows(&String::from_utf8(sheet).unwrap());
            let want = if text.is_empty() { vec![] } else { vec![Ok((2, format!("{text}/")))] };
            assert!(read == want || (text.is_empty() && read == [Ok((2, "/".into()))]), "{text}: {read:?}");
        }
        let many = Rows::open(",".repeat(1000).as_bytes(), &["a"], &["b"]).unwrap_err();
        assert_eq!(many.why, "want these columns, each once: a, b");
    }
}
