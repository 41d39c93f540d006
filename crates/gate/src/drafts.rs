//! Sales that are being prepared. A draft is a document in a file of its own: no shopper can see
//! it, no log has it, and no worker runs for it, until an operator publishes it.
//!
//! Every change is one file written, renamed or removed. A publication makes the sale first and
//! removes the draft after it; a crash between the two leaves both, and the next start removes the
//! draft.

use crate::{
    ports::Sales,
    problem::{
        CONFLICT, DRAFT_CHANGED, INVALID, NOT_FOUND, Problem, UNAVAILABLE, of_operation, of_unavailable,
    },
};
use contracts::{Actor, SaleId, SaleSpec};
use engines::embedded::disk::make_dir_durable;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
};
use units::TimeMs;
use web::json::in_words;
use web::precondition::Expected;
use web::secret::{read_secret, remove_secret, write_secret};

/// Drafts at once, and what they may have together and each: bytes of their files, and values, of
/// which each takes some 30 to 140 bytes of memory.
const DRAFTS_MAX: usize = 100;
const BYTES_MAX: usize = 8 << 20;
const BYTES_EACH_MAX: usize = 1 << 20;
const VALUES_EACH_MAX: usize = 200_000;
const VALUES_MAX: usize = 1_000_000;
const VERSION: u32 = 1;
/// Characters of a revision: 128 bits.
const REVISION_CHARS: usize = 32;

/// A sale's document, as an operator has it so far. It need not be valid.
pub(crate) type Document = Map<String, Value>;

/// A draft.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Draft {
    version: u32,
    pub(crate) sale: SaleId,
    pub(crate) saved_at: TimeMs,
    pub(crate) by: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
    pub(crate) definition: Document,
    /// Bytes of its file, and values of its document.
    #[serde(skip)]
    size: (usize, usize),
    #[serde(skip)]
    judged: OnceLock<Judged>,
}

/// What is found in a document once, when it is first looked at.
#[derive(Debug, Clone, PartialEq)]
struct Judged {
    revision: String,
    /// A valid document is small: its items and rounds are bounded.
    spec: Result<Box<SaleSpec>, String>,
}

impl Draft {
    fn judged(&self) -> &Judged {
        self.judged.get_or_init(|| {
            let spec = parse(&self.definition).map(Box::new);
            let revision = match &spec {
                Ok(spec) => revision_of(spec),
                Err(_) => revision_of(&self.definition),
            };
            Judged { revision, spec }
        })
    }

    /// Tells this document from another one of the same name: 32 hexadecimal digits.
    pub(crate) fn revision(&self) -> &str {
        &self.judged().revision
    }

    /// The sale that it defines, or what is wrong with it.
    pub(crate) fn spec(&self) -> Result<&SaleSpec, &str> {
        self.judged().spec.as_deref().map_err(String::as_str)
    }
}

/// The same document has the same revision as a draft and as the sale that it became.
fn revision_of(document: &impl Serialize) -> String {
    let text = serde_json::to_vec(document).unwrap_or_default();
    blake3::hash(&text).to_hex()[..REVISION_CHARS].to_owned()
}

/// Whether the draft is still the one that the operator had read.
fn check(expected: &Expected, sale: &SaleId, draft: Option<&Draft>) -> Result<(), Problem> {
    if expected.is_met(draft.map(Draft::revision)) {
        return Ok(());
    }
    let why = match (expected, draft) {
        (Expected::Absent, Some(draft)) => {
            format!(
                "there is a draft {sale} already, which {} saved at {}: nothing was done",
                draft.by, draft.saved_at
            )
        }
        (_, Some(draft)) => format!(
            "the draft {sale} has changed since you read it: {} saved it at {}; nothing was done",
            draft.by, draft.saved_at
        ),
        (_, None) => format!("there is no draft {sale} any more: it was deleted, or is a sale now"),
    };
    Err(Problem::new(&DRAFT_CHANGED, why))
}

/// How many values there are in a document.
fn values(document: &Document) -> usize {
    fn within(value: &Value) -> usize {
        1 + match value {
            Value::Array(values) => values.iter().map(within).sum(),
            Value::Object(fields) => fields.values().map(within).sum(),
            _ => 0,
        }
    }
    document.values().map(within).sum()
}

/// The drafts in `operators/drafts` under a data directory.
#[derive(Debug)]
pub struct Drafts {
    dir: PathBuf,
    /// Held while something changes, which waits for the disk: readers do not wait for that.
    changing: Mutex<()>,
    kept: RwLock<BTreeMap<SaleId, Arc<Draft>>>,
}

impl Drafts {
    /// Reads the drafts. One that cannot be read is left where it is, and reported.
    pub fn open(data: &Path) -> io::Result<Self> {
        let dir = data.join("operators/drafts");
        let mut kept = BTreeMap::new();
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            entries => entries?.collect::<io::Result<Vec<_>>>()?,
        };
        for path in entries.into_iter().map(|entry| entry.path()) {
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read(&path) {
                Ok(draft) => drop(kept.insert(draft.sale.clone(), Arc::new(draft))),
                Err(why) => {
                    tracing::error!(file = %path.display(), %why, "a draft cannot be read: it is left out")
                }
            }
        }
        Ok(Self { dir, changing: Mutex::default(), kept: RwLock::new(kept) })
    }

    /// Removes the drafts whose sales exist with the same document: their publication was cut off
    /// after it had made the sale. A draft with another document is left for the operators.
    pub(crate) fn settle(&self, sales: &dyn Sales) {
        let _changing = self.change();
        for draft in self.list() {
            let Some(sale) = sales.get(draft.sale.as_str()) else { continue };
            if draft.spec() == Ok(&*sale.view().spec) {
                tracing::warn!(sale = %draft.sale, "a draft was published before the last stop: it is removed");
                self.remove(&draft.sale);
            } else {
                tracing::warn!(
                    sale = %draft.sale,
                    "there are a sale and a draft of this name: delete the draft, or copy it to another name"
                );
            }
        }
    }

    /// All drafts, by name.
    pub(crate) fn list(&self) -> Vec<Arc<Draft>> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn get(&self, sale: &SaleId) -> Option<Arc<Draft>> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).get(sale).cloned()
    }

    /// The same, or 404.
    pub(crate) fn find(&self, sale: &SaleId) -> Result<Arc<Draft>, Problem> {
        self.get(sale).ok_or_else(|| Problem::new(&NOT_FOUND, format!("there is no draft of a sale {sale}")))
    }

    /// Saves a draft, in place of the expected one of this name. Blocks on the disk.
    pub(crate) fn save(
        &self,
        sales: &dyn Sales,
        sale: &SaleId,
        definition: Document,
        by: &Actor,
        expected: &Expected,
    ) -> Result<Arc<Draft>, Problem> {
        let _changing = self.change();
        match self.get(sale) {
            // A repetition.
            Some(same) if same.definition == definition => return Ok(same),
            kept => check(expected, sale, kept.as_deref())?,
        }
        self.write(sales, sale, definition, by)
    }

    /// Copies the document of the expected draft, or of the sale if none was expected, to a draft
    /// of another name. Blocks on the disk.
    pub(crate) fn copy(
        &self,
        sales: &dyn Sales,
        from: &SaleId,
        to: &SaleId,
        by: &Actor,
        expected: &Expected,
    ) -> Result<Arc<Draft>, Problem> {
        let _changing = self.change();
        let definition = match (self.get(from), sales.get(from.as_str())) {
            (Some(_), Some(_)) if *expected == Expected::Any => {
                let why = format!(
                    "there are a draft and a sale {from}: send If-Match: * to copy the draft, \
                     or If-None-Match: * to copy the sale"
                );
                return Err(Problem::new(&CONFLICT, why));
            }
            (_, Some(sale)) if *expected == Expected::Absent => document_of(&sale.view().spec)?,
            (None, Some(sale)) if *expected == Expected::Any => document_of(&sale.view().spec)?,
            (None, None) => return Err(Problem::new(&NOT_FOUND, format!("no sale {from}, and no draft"))),
            (draft, _) => {
                check(expected, from, draft.as_deref())?;
                draft.map(|draft| draft.definition.clone()).unwrap_or_default()
            }
        };
        match self.get(to) {
            // A repetition.
            Some(same) if same.definition == definition => Ok(same),
            Some(_) => Err(Problem::new(
                &CONFLICT,
                format!(
                    "there is a draft {to} already, with another document: choose another name, or delete that first"
                ),
            )),
            None => self.write(sales, to, definition, by),
        }
    }

    /// Makes the expected draft the sale of its name, or finds that there is such a sale already.
    /// Blocks on the disk.
    pub(crate) fn publish(
        &self,
        sales: &dyn Sales,
        sale: &SaleId,
        by: &Actor,
        expected: &Expected,
    ) -> Result<(), Problem> {
        let _changing = self.change();
        let draft = match (self.find(sale), sales.get(sale.as_str())) {
            (Ok(draft), _) => draft,
            // A repetition, unless another document was published.
            (Err(_), Some(made)) => match expected {
                Expected::Revision(revision) if revision_of(&*made.view().spec) != *revision => {
                    return check(expected, sale, None);
                }
                _ => return Ok(()),
            },
            (Err(problem), None) => return Err(problem),
        };
        check(expected, sale, Some(&draft))?;
        let spec = draft.spec().map_err(|why| Problem::new(&INVALID, why.to_owned()))?;
        if sales.get(sale.as_str()).is_some_and(|made| *made.view().spec != *spec) {
            let why = format!("there is a sale {sale} already: copy the draft to another name, or delete it");
            return Err(Problem::new(&CONFLICT, why));
        }
        sales
            .define(sale, by.clone(), Box::new(spec.clone()))
            .map_err(of_unavailable)?
            .map_err(of_operation)?;
        tracing::warn!(%sale, actor = by.name, reason = by.reason, "a draft was published");
        self.remove(sale);
        Ok(())
    }

    /// Sets a sale up without a draft, or changes it. Blocks on the disk.
    pub(crate) fn define(
        &self,
        sales: &dyn Sales,
        sale: &SaleId,
        by: Actor,
        spec: Box<SaleSpec>,
    ) -> Result<(), Problem> {
        let _changing = self.change();
        if self.get(sale).is_some() {
            let why = format!("there is a draft {sale}: publish it, delete it, or choose another name");
            return Err(Problem::new(&CONFLICT, why));
        }
        sales.define(sale, by, spec).map_err(of_unavailable)?.map_err(of_operation)
    }

    /// Deletes the expected draft; or, if none was expected or nothing was said, a sale that never
    /// opened. Blocks on the disk.
    pub(crate) fn delete(
        &self,
        sales: &dyn Sales,
        sale: &SaleId,
        by: &Actor,
        expected: &Expected,
    ) -> Result<(), Problem> {
        let _changing = self.change();
        let kept = self.get(sale);
        check(expected, sale, kept.as_deref())?;
        let what = match kept {
            // Sent again without a condition, it would delete the sale.
            Some(_) if *expected == Expected::Any && sales.get(sale.as_str()).is_some() => {
                let why =
                    format!("there are a draft and a sale {sale}: to delete the draft, send If-Match: *");
                return Err(Problem::new(&CONFLICT, why));
            }
            Some(_) => {
                self.remove_file(sale).map_err(|error| not_written(&error))?;
                self.forget(sale);
                "a draft was deleted"
            }
            None => {
                sales.delete(sale).map_err(of_unavailable)?.map_err(of_operation)?;
                // A draft of it that could not be removed when it was published.
                if let Err(error) = self.remove_file(sale) {
                    tracing::warn!(%sale, %error, "a draft of a deleted sale may be left");
                }
                "a sale that never opened was deleted"
            }
        };
        // The sale's own log is gone, so this line is all that says who did it.
        tracing::warn!(%sale, actor = by.name, reason = by.reason, "{what}");
        Ok(())
    }

    fn write(
        &self,
        sales: &dyn Sales,
        sale: &SaleId,
        definition: Document,
        by: &Actor,
    ) -> Result<Arc<Draft>, Problem> {
        if exists(sales, sale) {
            let why = format!(
                "there is a sale {sale} already: copy it to another name, or change it while no round has opened"
            );
            return Err(Problem::new(&CONFLICT, why));
        }
        let is_new = self.get(sale).is_none();
        if is_new && self.list().len() >= DRAFTS_MAX {
            let why = format!("there are {DRAFTS_MAX} drafts already: publish or delete one first");
            return Err(Problem::new(&CONFLICT, why));
        }
        let (by, reason, saved_at) = (by.name.clone(), by.reason.clone(), sales.now());
        let (size, judged) = ((0, values(&definition)), OnceLock::new());
        let mut draft =
            Draft { version: VERSION, sale: sale.clone(), saved_at, by, reason, definition, size, judged };
        let bytes = serde_json::to_vec(&draft).map_err(|_| Problem::internal())?;
        draft.size.0 = bytes.len();
        // The file nests the document one level deeper than it was sent.
        if serde_json::from_slice::<Draft>(&bytes).is_err() {
            return Err(Problem::new(&INVALID, "the document is nested too deeply"));
        }
        self.is_small(&draft)?;
        make_dir_durable(&self.dir)
            .and_then(|()| write_secret(&self.path(sale), &bytes))
            .map_err(|error| not_written(&error))?;
        let draft = Arc::new(draft);
        self.kept.write().unwrap_or_else(PoisonError::into_inner).insert(sale.clone(), Arc::clone(&draft));
        Ok(draft)
    }

    /// Whether there is room for this draft beside the others.
    fn is_small(&self, draft: &Draft) -> Result<(), Problem> {
        let others = self.list().into_iter().filter(|other| other.sale != draft.sale);
        let (mut bytes, mut values) = draft.size;
        if bytes > BYTES_EACH_MAX || values > VALUES_EACH_MAX {
            let why = format!(
                "the document has {bytes} bytes and {values} values: want at most {BYTES_EACH_MAX} and {VALUES_EACH_MAX}"
            );
            return Err(Problem::new(&INVALID, why));
        }
        for other in others {
            (bytes, values) = (bytes + other.size.0, values + other.size.1);
        }
        if bytes > BYTES_MAX || values > VALUES_MAX {
            let why = format!(
                "all drafts would have {bytes} bytes and {values} values: want at most {BYTES_MAX} and {VALUES_MAX}: \
                 publish or delete one first"
            );
            return Err(Problem::new(&CONFLICT, why));
        }
        Ok(())
    }

    /// Removes a draft whose sale exists. If that fails, the next start removes it, unless the sale
    /// is changed before.
    fn remove(&self, sale: &SaleId) {
        if let Err(error) = self.remove_file(sale) {
            tracing::warn!(%sale, %error, "a published draft cannot be removed: the next start removes it");
        }
        self.forget(sale);
    }

    fn remove_file(&self, sale: &SaleId) -> io::Result<()> {
        remove_secret(&self.path(sale))
    }

    fn forget(&self, sale: &SaleId) {
        self.kept.write().unwrap_or_else(PoisonError::into_inner).remove(sale);
    }

    fn path(&self, sale: &SaleId) -> PathBuf {
        self.dir.join(format!("{sale}.json"))
    }

    /// Nothing is half done between two statements, so a panic of another holder spoils nothing.
    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> Result<Draft, String> {
    let bytes = read_secret(path).map_err(|error| error.to_string())?;
    let mut draft: Draft = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    draft.size = (bytes.len(), values(&draft.definition));
    let is_named = path.file_stem().is_some_and(|name| name == draft.sale.as_str());
    match draft.version == VERSION && is_named {
        true => Ok(draft),
        false => Err(format!(
            "version {} of sale {}: want {VERSION}, and the sale's name",
            draft.version, draft.sale
        )),
    }
}

/// Whether there is a sale of this name, also one that could not be recovered.
fn exists(sales: &dyn Sales, sale: &SaleId) -> bool {
    sales.get(sale.as_str()).is_some() || sales.down().contains(sale)
}

fn not_written(error: &io::Error) -> Problem {
    tracing::error!(%error, "change a draft: not written");
    let why = "the draft cannot be written, and is as it was: see the server's log";
    Problem::new(&UNAVAILABLE, why).retry_after(5)
}

/// A valid document, as a draft has it.
fn document_of(spec: &SaleSpec) -> Result<Document, Problem> {
    match serde_json::to_value(spec) {
        Ok(Value::Object(document)) => Ok(document),
        _ => Err(Problem::internal()),
    }
}

/// The sale that a document defines, or what is wrong with the document.
pub(crate) fn parse(document: &Document) -> Result<SaleSpec, String> {
    let spec: SaleSpec = in_words::from_value("document", Value::Object(document.clone()))?;
    spec.validate_new().map_err(|error| error.to_string())?;
    Ok(spec)
}

/// What a draft's times mean now, where that may be a mistake: a copy has the times of the sale
/// that it is a copy of.
pub(crate) fn late_times(spec: &SaleSpec, now: TimeMs) -> Vec<String> {
    let rounds = spec.rounds.iter().enumerate();
    let late = rounds.filter_map(|(at, round)| match (round.opens_at <= now, round.closes_at <= now) {
        (_, true) => {
            Some(format!("rounds[{at}].closes_at: this time has passed, so the round would never open"))
        }
        (true, false) => {
            Some(format!("rounds[{at}].opens_at: this time has passed, so the round would open at once"))
        }
        (false, false) => None,
    });
    late.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Value {
        json!({
            "name": "Launch", "currency": "CNY", "items": [{ "item": "phone", "name": "Phone" }],
            "rounds": [{ "opens_at": "2030-01-01T10:00:00Z", "closes_at": "2030-01-01T12:00:00Z",
                         "items": [{ "item": "phone", "stock": 5, "price_minor": 1000 }] }],
        })
    }

    #[test]
    fn what_is_wrong_with_a_document_is_said_in_its_own_terms() {
        let check = |pointer: &str, value: Value, want: &str| {
            let mut document = document();
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            let parent = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            match value {
                Value::Null => drop(parent.remove(field)),
                value => drop(parent.insert(field.to_owned(), value)),
            }
            let said = parse(document.as_object().unwrap()).unwrap_err();
            assert_eq!(said, want, "{pointer}");
        };
        parse(document().as_object().unwrap()).unwrap();
        check("/currency", Value::Null, "currency: is missing");
        check("/rounds/0/items/0/stock", Value::Null, "rounds[0].items[0].stock: is missing");
        let number = "want a whole number, 0 or more, and it is";
        check(
            "/rounds/0/items/0/stock",
            json!("five"),
            &format!("rounds[0].items[0].stock: {number} the text \"five\""),
        );
        check(
            "/rounds/0/items/0/stock",
            json!(-5),
            &format!("rounds[0].items[0].stock: {number} the number -5"),
        );
        check(
            "/rounds/0/items/0/stock",
            json!(1.5),
            &format!("rounds[0].items[0].stock: {number} the number 1.5"),
        );
        check("/name", json!(7), "name: want a text, and it is the number 7");
        check("/items", json!({}), "items: want a list, and it is an object");
        check("/rounds", json!([]), "rounds: want 1 to 200");
        check(
            "/items/0/colour",
            json!("red"),
            "items[0].colour: there is no such field; there can be item, name, name_zh, picture",
        );
        check(
            "/late_payment",
            json!("never"),
            "late_payment: never is no choice; choose of claim_if_free, refund",
        );
        check("/currency", json!("ABC"), "currency: ABC is no currency of ISO 4217");
    }

    #[test]
    fn times_that_have_passed_are_pointed_out() {
        let spec = parse(document().as_object().unwrap()).unwrap();
        let [opens_at, closes_at] = [spec.rounds[0].opens_at, spec.rounds[0].closes_at];
        assert_eq!(late_times(&spec, TimeMs(opens_at.0 - 1)), Vec::<String>::new());
        assert!(late_times(&spec, opens_at)[0].starts_with("rounds[0].opens_at: this time has passed"));
        assert!(late_times(&spec, closes_at)[0].starts_with("rounds[0].closes_at: this time has passed"));
    }

    /// A draft of the sale `name`, of so many bytes and values.
    fn draft(name: &str, size: (usize, usize)) -> Draft {
        let (sale, definition) = (name.parse().unwrap(), Document::new());
        let (by, reason) = ("nora".into(), String::new());
        let (saved_at, judged) = (TimeMs(0), OnceLock::new());
        Draft { version: VERSION, sale, saved_at, by, reason, definition, size, judged }
    }

    #[test]
    fn drafts_are_bounded_each_and_together() {
        let dir = tempfile::tempdir().unwrap();
        let drafts = Drafts::open(dir.path()).unwrap();
        let kind = |size| drafts.is_small(&draft("one", size)).map_err(|problem| problem.kind.slug);
        assert_eq!(kind((BYTES_EACH_MAX, VALUES_EACH_MAX)), Ok(()));
        assert_eq!(kind((BYTES_EACH_MAX + 1, 1)), Err(INVALID.slug));
        assert_eq!(kind((1, VALUES_EACH_MAX + 1)), Err(INVALID.slug));
        let keep = |name: &str, size| {
            let draft = Arc::new(draft(name, size));
            drafts.kept.write().unwrap().insert(draft.sale.clone(), draft);
        };
        for n in 0..7 {
            keep(&format!("other-{n}"), (BYTES_EACH_MAX, 1));
        }
        // What it replaces does not count.
        keep("one", (BYTES_EACH_MAX, 1));
        assert_eq!(kind((BYTES_EACH_MAX, 1)), Ok(()));
        keep("last", (1, 1));
        assert_eq!(kind((BYTES_EACH_MAX, 1)), Err(CONFLICT.slug));
        let document = json!({ "a": [1, { "b": 2 }], "c": null });
        assert_eq!(values(document.as_object().unwrap()), 5);
    }
}
