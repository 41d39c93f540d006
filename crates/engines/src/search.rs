//! The search port: documents of tokens, found by tokens, best first. What a document is, and how a
//! text becomes tokens, is the caller's; so is what is done about a word that no document has.
//!
//! The engine is tantivy, with its index in memory: it is built from the caller's database, and
//! forgotten with the process. One thread writes, and each search sees one state of the index.

mod collect;

use collect::Best;
use std::{collections::BTreeMap, fmt, ops::Range, sync::Mutex};
use tantivy::{
    DocSet, Index as Tantivy, IndexReader, IndexSettings, IndexWriter, ReloadPolicy, Searcher, TERMINATED,
    TantivyDocument, TantivyError, Term,
    collector::Count,
    indexer::{IndexWriterOptions, LogMergePolicy, NoMergePolicy},
    query::{BooleanQuery, BoostQuery, FuzzyTermQuery, Occur, Query as Matching, TermQuery},
    schema::{FAST, Field, IndexRecordOption, STRING, Schema, TextFieldIndexing, TextOptions},
    store::Compressor,
};

/// Texts of a document, each with a weight of its own.
pub const TEXTS: usize = 3;
/// Hits that can be had of one search, page after page: a page costs as much as all before it.
pub const HITS_MAX: usize = 1_000;
/// Bytes that wait in the writing thread before they become a part of the index.
const WRITER_BYTES_MAX: usize = 32 << 20;
/// A part of the index is written anew when so much of it was replaced.
const REPLACED_MAX: f32 = 0.2;
/// Words of the index that are looked at for one that is not in it.
const NEAR_LOOKED_AT_MAX: usize = 10_000;
/// The weight of a word that begins as asked for, compared with the word itself.
const BEGINNING_WEIGHT: f32 = 0.3;
/// The weight of a token that is preferred, compared with one that is asked for.
const PREFERRED_WEIGHT: f32 = 2.0;

/// Why the index did nothing. Its caller builds another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchError(String);

impl SearchError {
    /// For a call that did not return.
    pub fn panicked(why: &str) -> Self {
        Self(format!("a call panicked: {why}"))
    }
}

impl fmt::Display for SearchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the search's index: {}", self.0)
    }
}

impl std::error::Error for SearchError {}

impl From<TantivyError> for SearchError {
    fn from(error: TantivyError) -> Self {
        Self(error.to_string())
    }
}

impl From<std::io::Error> for SearchError {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// What can be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// What the caller knows it by: one document has it.
    pub key: String,
    /// Hits are counted by it.
    pub group: String,
    /// Of hits that are equally good, the lowest is first; then the lowest key.
    pub position: u64,
    /// Tokens, with a space between two of them.
    pub texts: [String; TEXTS],
}

/// A word that a hit has: in one of these forms, or, if a beginning is given, any word with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    pub tokens: Vec<String>,
    pub beginning: Option<String>,
}

/// What is searched for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Each must be there. Without any, nothing is found.
    pub words: Vec<Wanted>,
    /// What has one of these comes earlier.
    pub preferred: Vec<String>,
    /// Only hits of this group; all are counted.
    pub group: Option<String>,
    /// Hits that were had before, and how many are wanted: together [`HITS_MAX`] at the most.
    pub skip: usize,
    pub at_most: usize,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Best first.
    pub keys: Vec<String>,
    /// Hits of each group, also of those that were not asked for.
    pub groups: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Copy)]
struct Fields {
    key: Field,
    group: Field,
    position: Field,
    texts: [Field; TEXTS],
}

/// The index.
pub struct Index {
    fields: Fields,
    weights: [f32; TEXTS],
    writer: Mutex<IndexWriter>,
    reader: IndexReader,
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").finish_non_exhaustive()
    }
}

/// One change of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// In place of the document with its key, if there is one.
    Put(Document),
    Remove(String),
}

impl Index {
    /// An empty index, and the weight of each text.
    pub fn new(weights: [f32; TEXTS]) -> Result<Self, SearchError> {
        let mut schema = Schema::builder();
        let tokens = TextFieldIndexing::default()
            .set_tokenizer("whitespace")
            .set_index_option(IndexRecordOption::WithFreqs);
        let tokens = TextOptions::default().set_indexing_options(tokens);
        let fields = Fields {
            key: schema.add_text_field("key", STRING | FAST),
            group: schema.add_text_field("group", FAST),
            position: schema.add_u64_field("position", FAST),
            texts: ["text0", "text1", "text2"].map(|name| schema.add_text_field(name, tokens.clone())),
        };
        let settings = IndexSettings { docstore_compression: Compressor::None, ..IndexSettings::default() };
        let index = Tantivy::builder().schema(schema.build()).settings(settings).create_in_ram()?;
        let options = IndexWriterOptions::builder()
            .memory_budget_per_thread(WRITER_BYTES_MAX)
            .num_worker_threads(1)
            .num_merge_threads(1)
            .build();
        let writer: IndexWriter = index.writer_with_options(options)?;
        writer.set_merge_policy(Box::new(NoMergePolicy));
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        Ok(Self { fields, weights, writer: Mutex::new(writer), reader })
    }

    /// Takes these changes, in their order. No search sees them before the next [`Self::commit`].
    /// It waits while the writing thread has more to do than it may keep.
    pub fn change(&self, changes: Vec<Change>) -> Result<(), SearchError> {
        let writer = self.writer.lock().map_err(|_| SearchError("a change panicked".into()))?;
        for change in changes {
            let (key, document) = match change {
                Change::Put(document) => (document.key.clone(), Some(document)),
                Change::Remove(key) => (key, None),
            };
            writer.delete_term(Term::from_field_text(self.fields.key, &key));
            let Some(Document { group, position, texts, .. }) = document else { continue };
            let mut stored = TantivyDocument::new();
            stored.add_text(self.fields.key, key);
            stored.add_text(self.fields.group, group);
            stored.add_u64(self.fields.position, position);
            for (field, text) in self.fields.texts.into_iter().zip(texts) {
                stored.add_text(field, text);
            }
            writer.add_document(stored)?;
        }
        Ok(())
    }

    /// From now on searches see what was changed before.
    pub fn commit(&self) -> Result<(), SearchError> {
        let mut writer = self.writer.lock().map_err(|_| SearchError("a change panicked".into()))?;
        writer.commit()?;
        drop(writer);
        self.reader.reload()?;
        Ok(())
    }

    /// Commits the first documents, makes one part of all that they were written in, which searches
    /// are faster in, and keeps parts few from now on.
    pub fn complete(&self) -> Result<(), SearchError> {
        let mut writer = self.writer.lock().map_err(|_| SearchError("a change panicked".into()))?;
        writer.commit()?;
        let parts = writer.index().searchable_segment_ids()?;
        if parts.len() > 1 {
            writer.merge(&parts).wait()?;
        }
        let mut merges = LogMergePolicy::default();
        merges.set_del_docs_ratio_before_merge(REPLACED_MAX);
        writer.set_merge_policy(Box::new(merges));
        writer.garbage_collect_files().wait()?;
        drop(writer);
        self.reader.reload()?;
        Ok(())
    }

    /// The index as it is now.
    pub fn view(&self) -> View {
        View { searcher: self.reader.searcher(), fields: self.fields, weights: self.weights }
    }
}

/// One state of the index.
pub struct View {
    searcher: Searcher,
    fields: Fields,
    weights: [f32; TEXTS],
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("documents", &self.documents()).finish_non_exhaustive()
    }
}

impl View {
    pub fn documents(&self) -> u64 {
        self.searcher.num_docs()
    }

    /// Bytes of memory that the index takes, without what the writing thread keeps.
    pub fn bytes(&self) -> Result<u64, SearchError> {
        Ok(self.searcher.space_usage()?.total().get_bytes())
    }

    /// How many documents have all of these words.
    pub fn count(&self, words: &[Wanted]) -> Result<usize, SearchError> {
        match self.matching(words, &[]) {
            Some(matching) => Ok(self.searcher.search(&matching, &Count)?),
            None => Ok(0),
        }
    }

    /// Whether a document has this word.
    pub fn has(&self, word: &Wanted) -> Result<bool, SearchError> {
        if word.beginning.is_some() {
            return Ok(self.count(std::slice::from_ref(word))? > 0);
        }
        for token in &word.tokens {
            if self.has_token(token)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has_token(&self, token: &str) -> Result<bool, SearchError> {
        for segment in self.searcher.segment_readers() {
            for field in self.fields.texts {
                let term = Term::from_field_text(field, token);
                let postings =
                    segment.inverted_index(field)?.read_postings(&term, IndexRecordOption::Basic)?;
                let Some(mut postings) = postings else { continue };
                // What was replaced or removed is there until its part is written anew.
                while postings.doc() != TERMINATED {
                    if !segment.is_deleted(postings.doc()) {
                        return Ok(true);
                    }
                    postings.advance();
                }
            }
        }
        Ok(false)
    }

    /// Tokens of documents at this distance or less, where one change is a character that is
    /// inserted, left out or another one, or two that change places (Damerau-Levenshtein). The most
    /// frequent first. Only tokens within this range are looked at.
    ///
    /// # Panics
    /// If the distance is above 2.
    pub fn near(
        &self,
        token: &str,
        distance: u8,
        within: Range<&str>,
        at_most: usize,
    ) -> Result<Vec<String>, SearchError> {
        assert!(distance <= 2, "more than two changes find anything");
        let mut frequencies = BTreeMap::<String, u64>::new();
        let mut looked_at = 0;
        // It depends on the characters alone, and costs the most: once for all texts and parts.
        let of_first = Term::from_field_text(self.fields.texts[0], token);
        let automaton = FuzzyTermQuery::new(of_first, distance, true).automaton()?;
        for field in self.fields.texts {
            for segment in self.searcher.segment_readers() {
                let index = segment.inverted_index(field)?;
                let mut terms =
                    index.terms().search(&automaton).ge(within.start).lt(within.end).into_stream()?;
                while looked_at < NEAR_LOOKED_AT_MAX && terms.advance() {
                    looked_at += 1;
                    let count = u64::from(terms.value().doc_freq);
                    if let Ok(term) = std::str::from_utf8(terms.key()) {
                        *frequencies.entry(term.to_owned()).or_default() += count;
                    }
                }
            }
        }
        let mut found: Vec<_> = frequencies.into_iter().collect();
        found.sort_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then_with(|| a.cmp(b)));
        let mut living = Vec::new();
        for (token, _) in found {
            if living.len() == at_most {
                break;
            }
            if self.has_token(&token)? {
                living.push(token);
            }
        }
        Ok(living)
    }

    /// The best hits. What was replaced may count, for a while, in how rare a word is.
    pub fn find(&self, query: &Query) -> Result<Found, SearchError> {
        let Some(matching) = self.matching(&query.words, &query.preferred) else {
            return Ok(Found::default());
        };
        let until = query.skip.saturating_add(query.at_most).min(HITS_MAX);
        let best = Best { group: query.group.clone(), at_most: until };
        let mut found = self.searcher.search(&matching, &best)?;
        found.keys.drain(..query.skip.min(found.keys.len()));
        Ok(found)
    }

    fn matching(&self, words: &[Wanted], preferred: &[String]) -> Option<BooleanQuery> {
        if words.is_empty() {
            return None;
        }
        let mut all: Vec<(Occur, Box<dyn Matching>)> = Vec::new();
        for Wanted { tokens, beginning } in words {
            let mut any: Vec<(Occur, Box<dyn Matching>)> = Vec::new();
            for token in tokens {
                any.extend(self.in_each_text(token, 1.0));
            }
            for (field, weight) in self.fields.texts.into_iter().zip(self.weights) {
                let Some(beginning) = beginning else { break };
                let begins = FuzzyTermQuery::new_prefix(Term::from_field_text(field, beginning), 0, true);
                let begins = BoostQuery::new(Box::new(begins), weight * BEGINNING_WEIGHT);
                any.push((Occur::Should, Box::new(begins)));
            }
            all.push((Occur::Must, Box::new(BooleanQuery::new(any))));
        }
        for token in preferred {
            all.extend(self.in_each_text(token, PREFERRED_WEIGHT));
        }
        Some(BooleanQuery::new(all))
    }

    fn in_each_text(&self, token: &str, factor: f32) -> Vec<(Occur, Box<dyn Matching>)> {
        let texts = self.fields.texts.into_iter().zip(self.weights);
        let each = texts.map(|(field, weight)| {
            let term = Term::from_field_text(field, token);
            let is_there = TermQuery::new(term, IndexRecordOption::WithFreqs);
            let weighted: Box<dyn Matching> = Box::new(BoostQuery::new(Box::new(is_there), weight * factor));
            (Occur::Should, weighted)
        });
        each.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(key: &str, group: &str, position: u64, texts: [&str; TEXTS]) -> Change {
        let texts = texts.map(str::to_owned);
        Change::Put(Document { key: key.into(), group: group.into(), position, texts })
    }

    fn index(changes: Vec<Change>) -> Index {
        let index = Index::new([8.0, 4.0, 1.0]).unwrap();
        index.change(changes).unwrap();
        index.commit().unwrap();
        index
    }

    fn wanted(words: &str) -> Vec<Wanted> {
        let word = |word: &str| match word.strip_suffix('*') {
            Some(beginning) => Wanted { tokens: vec![], beginning: Some(beginning.into()) },
            None => Wanted { tokens: vec![word.into()], beginning: None },
        };
        words.split_whitespace().map(word).collect()
    }

    fn find(index: &Index, words: &str) -> Vec<String> {
        let query = Query { words: wanted(words), at_most: 10, ..Query::default() };
        index.view().find(&query).unwrap().keys
    }

    #[test]
    fn each_word_must_be_there_and_the_heavier_text_is_first() {
        let index = index(vec![
            document("about", "a", 1, ["case", "", "phone fits"]),
            document("name", "a", 9, ["phone", "", ""]),
            document("group", "b", 1, ["ring", "phone", ""]),
            document("other", "b", 1, ["手机 手 机", "", "phones"]),
        ]);
        assert_eq!(find(&index, "phone"), ["name", "group", "about"]);
        assert_eq!(find(&index, "phone case"), ["about"]);
        assert_eq!(find(&index, "pho*"), ["name", "group", "about", "other"]);
        assert_eq!(find(&index, "手机"), ["other"]);
        assert_eq!(find(&index, "手*"), ["other"]);
        assert_eq!(find(&index, "phone tablet"), [] as [&str; 0]);
        assert_eq!(find(&index, ""), [] as [&str; 0]);
    }

    #[test]
    fn equal_hits_are_in_the_order_of_their_positions_and_keys_across_parts_of_the_index() {
        let index = index(vec![document("d", "a", 2, ["x", "", ""]), document("c", "a", 2, ["x", "", ""])]);
        index
            .change(vec![document("b", "a", 2, ["x", "", ""]), document("z", "b", 1, ["x", "", ""])])
            .unwrap();
        assert_eq!(find(&index, "x"), ["c", "d"], "nothing is seen before it is committed");
        index.commit().unwrap();
        assert_eq!(find(&index, "x"), ["z", "b", "c", "d"]);
        let query =
            Query { words: wanted("x"), group: Some("a".into()), skip: 1, at_most: 1, ..Query::default() };
        let found = index.view().find(&query).unwrap();
        assert_eq!(found.keys, ["c"]);
        assert_eq!(found.groups, BTreeMap::from([("a".into(), 3), ("b".into(), 1)]));
        let none = Query { group: Some("none".into()), skip: 0, ..query };
        let found = index.view().find(&none).unwrap();
        assert_eq!((found.keys.len(), found.groups.len()), (0, 2));
    }

    #[test]
    fn what_was_replaced_or_removed_is_not_found_by_any_word() {
        let index =
            index(vec![document("a", "a", 1, ["phone", "", ""]), document("b", "a", 1, ["lamp", "", ""])]);
        let before = index.view();
        index.change(vec![document("a", "a", 1, ["tablet", "", ""]), Change::Remove("b".into())]).unwrap();
        index.commit().unwrap();
        assert_eq!(find(&index, "phone"), [] as [&str; 0]);
        assert_eq!(find(&index, "tablet"), ["a"]);
        let view = index.view();
        assert_eq!((view.documents(), before.documents()), (1, 2), "a search sees one state");
        let [phone, lamp, tablet] = ["phone", "lamp*", "tablet"].map(|word| wanted(word).remove(0));
        assert_eq!((view.has(&phone), view.has(&lamp), view.has(&tablet)), (Ok(false), Ok(false), Ok(true)));
        assert_eq!(before.has(&phone), Ok(true));
        assert_eq!(view.near("phonw", 1, "a".."z~", 5), Ok(vec![]));
        // Within one change the last one counts.
        index.change(vec![Change::Remove("a".into()), document("a", "a", 1, ["lamp", "", ""])]).unwrap();
        index.change(vec![document("c", "a", 1, ["x", "", ""]), Change::Remove("c".into())]).unwrap();
        index.complete().unwrap();
        assert_eq!((find(&index, "lamp"), find(&index, "x")), (vec!["a".into()], vec![]));
    }

    #[test]
    fn near_words_are_those_of_documents_the_most_frequent_first() {
        let index = index(vec![
            document("a", "a", 1, ["brook mini", "", ""]),
            document("b", "a", 1, ["brook", "", "broke"]),
            document("c", "a", 1, ["headphones", "", ""]),
        ]);
        index.complete().unwrap();
        let near = |token: &str, distance| index.view().near(token, distance, "a".."z~", 3).unwrap();
        assert_eq!(near("brok", 1), ["brook", "broke"]);
        assert_eq!(near("bork", 1), [] as [&str; 0]);
        assert_eq!(near("bork", 2), ["brook", "broke"]);
        assert_eq!(near("borok", 1), ["brook"], "two that changed places are one change");
        assert_eq!(near("haedphnes", 2), ["headphones"]);
    }

    /// Optimal string alignment, by its definition.
    fn distance(a: &[u8], b: &[u8]) -> usize {
        match (a, b) {
            ([], rest) | (rest, []) => rest.len(),
            ([.., x], [.., y]) => {
                let (short_a, short_b) = (&a[..a.len() - 1], &b[..b.len() - 1]);
                let mut least = distance(short_a, short_b) + usize::from(x != y);
                least = least.min(distance(short_a, b) + 1).min(distance(a, short_b) + 1);
                if let ([rest_a @ .., v, _], [rest_b @ .., w, _]) = (a, b)
                    && (v, x) == (y, w)
                {
                    least = least.min(distance(rest_a, rest_b) + 1);
                }
                least
            }
        }
    }

    #[test]
    fn near_words_are_those_that_their_definition_says() {
        let mut random = units::Prng::new(7);
        let mut word =
            || (0..2 + random.below(5)).map(|_| *random.pick(&["a", "b", "c"])).collect::<String>();
        let known: BTreeMap<String, ()> = (0..150).map(|_| (word(), ())).collect();
        let others = ["1ab", "ab手", "手机", "12"].map(str::to_owned);
        let all = known.keys().chain(&others);
        let index = index(all.map(|word| document(word, "a", 1, ["", word, ""])).collect());
        let mut seen = 0;
        for _ in 0..60 {
            let asked = word();
            for changes in [1, 2] {
                let mut found = index.view().near(&asked, changes, "a".."ab手", 1_000).unwrap();
                found.sort();
                let is_near = |word: &&String| distance(asked.as_bytes(), word.as_bytes()) <= changes.into();
                let want: Vec<&String> =
                    known.keys().filter(is_near).filter(|word| word.as_str() < "ab手").collect();
                assert_eq!(found.iter().collect::<Vec<_>>(), want, "{asked} {changes}");
                seen += want.len();
            }
        }
        assert!(seen > 100, "{seen}");
    }

    #[test]
    fn no_more_hits_are_had_than_the_bound() {
        let many = (0..HITS_MAX as u64 + 10).map(|n| document(&format!("k{n:04}"), "a", n, ["x", "", ""]));
        let index = index(many.collect());
        let query = Query { words: wanted("x"), skip: HITS_MAX - 2, at_most: 10, ..Query::default() };
        let found = index.view().find(&query).unwrap();
        assert_eq!(found.keys, ["k0998", "k0999"]);
        assert_eq!(found.groups["a"], 1_010);
        let beyond = Query { skip: usize::MAX, ..query };
        assert_eq!(index.view().find(&beyond).unwrap().keys, [] as [&str; 0]);
    }
}
