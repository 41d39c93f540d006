//! The stock as a sheet, a row for each SKU in each warehouse: what came in as a list, or what was
//! counted, goes back in the same form.

use crate::{
    core::{SheetCount, Spot, UNITS_MAX},
    service::LevelView,
};
use contracts::store::{Sku, WarehouseId};
use std::collections::BTreeMap;
use web::{
    body::clip,
    sheet::{ERRORS_MAX, LineError, Rows, guarded},
};

/// The columns, in the order in which they are written.
const COLUMNS: [&str; 7] = ["sku", "warehouse", "on_hand", "reserved", "claimed", "free", "sequence"];
/// Those that are read. What is set aside and what is free follows from them.
const WANTED: [&str; 2] = ["sku", "on_hand"];
const OTHERS: [&str; 5] = ["warehouse", "sequence", "reserved", "claimed", "free"];
/// Lines of one sheet.
pub const LINES_MAX: usize = 100_000;

/// Writes levels, each warehouse in a row of its own.
pub(crate) fn write(levels: &[LevelView], with_head: bool) -> Vec<u8> {
    let head = with_head.then(|| COLUMNS.map(Into::into).to_vec());
    let rows = levels.iter().flat_map(|of| {
        of.warehouses.iter().map(|at| {
            let figures = [at.on_hand, at.reserved, at.claimed, at.free, at.sequence];
            let texts = [guarded(of.sku.as_str()), guarded(at.warehouse.as_str())].into_iter();
            texts.chain(figures.map(|figure| figure.to_string().into())).collect()
        })
    });
    web::sheet::write(head.into_iter().chain(rows))
}

/// Reads a sheet.
pub fn read(bytes: &[u8]) -> Result<Vec<SheetCount>, Vec<LineError>> {
    let mut rows = Rows::open(bytes, &WANTED, &OTHERS).map_err(|error| vec![error])?;
    let (mut all, mut errors) = (Vec::new(), Vec::new());
    let mut lines = BTreeMap::<Spot, u64>::new();
    while errors.len() < ERRORS_MAX
        && let Some(row) = rows.next_row()
    {
        let row = match row {
            Ok(row) => row,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        // As where a quote too many takes the lines after it into its field.
        let has_break = |column| row.field(column).contains(['\r', '\n']);
        let read = match (0..COLUMNS.len()).any(has_break) {
            true => Err("want no ends of lines within a field: are the quotes in pairs?".to_owned()),
            false => count(row.line, std::array::from_fn(|column| row.field(column))),
        };
        let read = read.and_then(|count| match lines.insert(count.at.clone(), count.line) {
            None => Ok(count),
            Some(before) => Err(format!("sku: {} stands in line {before} too", count.at)),
        });
        match read {
            Ok(_) if all.len() == LINES_MAX => {
                errors.push(LineError { line: row.line, why: format!("want {LINES_MAX} lines at the most") });
                break;
            }
            Ok(count) => all.push(count),
            Err(why) => errors.push(LineError { line: row.line, why }),
        }
    }
    if all.is_empty() && errors.is_empty() {
        errors.push(LineError { line: 1, why: "there is no SKU in it".into() });
    }
    if errors.is_empty() { Ok(all) } else { Err(errors) }
}

fn count(line: u64, [sku, on_hand, warehouse, sequence]: [&str; 4]) -> Result<SheetCount, String> {
    let sku: Sku = sku.parse().map_err(|error| format!("sku: {error}"))?;
    let warehouse = match warehouse {
        "" => WarehouseId::main(),
        name => name.parse().map_err(|error| format!("warehouse: {error}"))?,
    };
    let number = |field, text: &str| match text.parse::<u64>() {
        Ok(number) if text.bytes().all(|byte| byte.is_ascii_digit()) && number <= UNITS_MAX => Ok(number),
        _ => Err(format!("{field}: {:?}, want a number from 0 to {UNITS_MAX}", clip(text))),
    };
    let (at, on_hand) = (Spot { sku, warehouse }, number("on_hand", on_hand)?);
    let sequence = (!sequence.is_empty()).then(|| number("sequence", sequence)).transpose()?;
    Ok(SheetCount { line, at, on_hand, sequence })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::SpotLevel;

    fn errors(sheet: &[u8]) -> Vec<String> {
        let errors = read(sheet).unwrap_err();
        errors.iter().map(|error| format!("{}: {}", error.line, error.why)).collect()
    }

    #[test]
    fn a_sheet_that_was_written_is_read_as_the_same_counts() {
        let at = |warehouse: &str, on_hand, sequence| SpotLevel {
            warehouse: warehouse.parse().unwrap(),
            on_hand,
            reserved: 2,
            claimed: 1,
            free: on_hand - 3,
            in_transit: 0,
            sequence,
        };
        let level = LevelView {
            sku: "P-1".parse().unwrap(),
            on_hand: 12,
            reserved: 4,
            claimed: 2,
            free: 6,
            in_transit: 0,
            sequence: 9,
            warehouses: vec![at("main", 5, 4), at("north", 7, 5)],
        };
        let written = write(&[level], true);
        let text =
            "sku,warehouse,on_hand,reserved,claimed,free,sequence\nP-1,main,5,2,1,2,4\nP-1,north,7,2,1,4,5\n";
        assert_eq!(String::from_utf8_lossy(&written), text);
        let count = |line, warehouse: &str, on_hand, sequence| SheetCount {
            line,
            at: Spot { sku: "P-1".parse().unwrap(), warehouse: warehouse.parse().unwrap() },
            on_hand,
            sequence,
        };
        let want = [count(2, "main", 5, Some(4)), count(3, "north", 7, Some(5))];
        assert_eq!(read(&written).unwrap(), want);
        // By hand: two columns, in any order, from a program that marks its files.
        let by_hand = read("\u{feff}on_hand, sku\r\n 5 ,P-1\r\n".as_bytes()).unwrap();
        assert_eq!(by_hand, [count(2, "main", 5, None)]);
    }

    #[test]
    fn what_is_wrong_is_said_by_line_and_column() {
        let with = |rows: &str| errors(format!("sku,on_hand,warehouse,sequence\n{rows}").as_bytes());
        assert_eq!(errors(b""), ["1: these columns are missing: sku, on_hand"]);
        assert_eq!(errors(b"sku;on_hand\n"), ["1: the columns are separated by \";\": want commas"]);
        assert_eq!(
            errors(b"sku,on_hand,price\n"),
            ["1: want these columns, each once: sku, on_hand, warehouse, sequence, reserved, claimed, free"]
        );
        assert_eq!(with(""), ["1: there is no SKU in it"]);
        let number = "want a number from 0 to 1000000000000";
        for wrong in ["-1", "+1", "1.0", "1000000000001", "99999999999999999999", ""] {
            assert_eq!(with(&format!("A,{wrong},,\n")), [format!("2: on_hand: {wrong:?}, {number}")]);
        }
        assert_eq!(with("A,1,,x\n"), [format!("2: sequence: \"x\", {number}")]);
        assert_eq!(with("A,1,,\nA,2,main,\n"), ["3: sku: A in warehouse main stands in line 2 too"]);
        assert_eq!(with("A,1\n"), ["2: 2 columns, want 4"]);
        let within = "want no ends of lines within a field: are the quotes in pairs?";
        assert_eq!(with("A,1,,\"3\nB,6,,4\"\nC,7,,\n"), [format!("2: {within}")]);
        assert_eq!(with("A,1,,\"3\nB,6,,4\n"), ["2: want quotes in pairs"]);
        assert!(with("A B,1,,\n")[0].starts_with("2: sku: "));
        assert!(with("A,1,North!,\n")[0].starts_with("2: warehouse: "));
        assert_eq!(with(&"A,x,,\n".repeat(1000)).len(), ERRORS_MAX);
        let many: String = (0..=LINES_MAX).map(|number| format!("S{number},1,,\n")).collect();
        assert_eq!(with(&many), ["100002: want 100000 lines at the most"]);
    }
}
