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
        let places: BTreeMap<&str, usize> =
            heads.iter().enumerate().map(|(at, head)| (head.trim(), at)).collect();
        let lacks: Vec<&str> = wanted.iter().copied().filter(|column| !places.contains_key(column)).collect();
        if !lacks.is_empty() {
            return wrong(format!("these columns are missing: {}", lacks.join(", ")));
        }
        let all: Vec<&str> = wanted.iter().chain(others).copied().collect();
        if places.len() != heads.len() || places.keys().any(|head| !all.contains(head)) {
            return wrong(format!("want these columns, each once: {}", all.join(", ")));
        }
        let places = all.iter().map(|column| places.get(column).copied()).collect();
        let (record, width) = (StringRecord::new(), heads.len());
        Ok(Self { reader, record, places, width, has_ended: false })
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
                let line = error.position().map_or(0, Position::line);
                return Some(Err(LineError { line, why: "want UTF-8, and quotes in pairs".into() }));
            }
        }
        let line = self.record.position().map_or(0, Position::line);
        if self.record.len() != self.width {
            let why = format!("{} columns, want {}", self.record.len(), self.width);
            return Some(Err(LineError { line, why }));
        }
        Some(Ok(Row { line, record: &self.record, places: &self.places }))
    }
}
