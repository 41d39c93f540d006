//! Texts as tokens: what a product is found by, and what a search asks for. It only computes.
//!
//! Letters and digits make words, in lower case and without accents; full-width forms are read as
//! the ordinary ones (NFKC, Unicode Standard Annex 15). An English word in the plural has its
//! singular beside it, and words with a hyphen between them are found as one, too. Chinese,
//! Japanese and Korean have no spaces between words: each character is a token, and so are each
//! two that stand side by side.

use std::ops::Range;
use unicode_normalization::UnicodeNormalization;

/// Words of one search; more are left out.
pub(crate) const WORDS_MAX: usize = 16;
/// Bytes of one search; what comes after them is left out.
pub(crate) const QUERY_BYTES_MAX: usize = 400;
/// Characters of a word; the rest is left out.
const WORD_MAX: usize = 40;
/// Characters of a beginning by which words are found.
const BEGINNING_MIN: usize = 2;

/// Where words of letters stand among all tokens: after numbers, and before the scripts without
/// spaces, whose pairs are most of a vocabulary.
pub(crate) const LETTERS: Range<&str> = "a".."\u{2e80}";

/// A run of characters of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Run {
    /// Letters and digits.
    Word(String),
    /// Of a script without spaces.
    Unspaced(Vec<char>),
}

fn is_unspaced(c: char) -> bool {
    matches!(c,
        // Hiragana and Katakana, Han, Hangul, and their supplements and compatibility forms.
        '\u{3040}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{3005}'..='\u{3007}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}'
        | '\u{1100}'..='\u{11ff}' | '\u{ac00}'..='\u{d7af}')
}

/// The ordinary form of each character, in lower case.
fn plain(text: &str) -> impl Iterator<Item = char> {
    let is_accent = |c: &char| matches!(c, '\u{300}'..='\u{36f}');
    text.nfkd().flat_map(char::to_lowercase).filter(move |c| !is_accent(c)).nfc()
}

fn runs(text: &str) -> Vec<Run> {
    let mut all: Vec<Run> = Vec::new();
    let mut is_apart = true;
    for c in plain(text) {
        if !c.is_alphanumeric() {
            is_apart = true;
            continue;
        }
        match (is_unspaced(c), all.last_mut()) {
            (true, Some(Run::Unspaced(run))) if !is_apart => run.push(c),
            (true, _) => all.push(Run::Unspaced(vec![c])),
            (false, Some(Run::Word(word))) if !is_apart => word.push(c),
            (false, _) => all.push(Run::Word(c.into())),
        }
        is_apart = false;
    }
    all
}

fn cut(word: &str) -> String {
    word.chars().take(WORD_MAX).collect()
}

/// The parts of a word that is of letters and digits: `67w` is `67` and `w`.
fn parts(word: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut was_digit = None;
    for c in word.chars() {
        let is_digit = c.is_numeric();
        match all.last_mut() {
            Some(part) if was_digit == Some(is_digit) => part.push(c),
            _ => all.push(c.into()),
        }
        was_digit = Some(is_digit);
    }
    all.iter().map(|part| cut(part)).collect()
}

/// What may be the singular of an English word that looks like a plural: `cookies` of `cookie`, and
/// `batteries` of `battery`.
fn singulars(word: &str) -> Vec<String> {
    let has_end = |ends: &[&str]| ends.iter().any(|end| word.ends_with(end));
    let is_word = word.len() >= 4 && word.bytes().all(|byte| byte.is_ascii_lowercase());
    if !is_word || !word.ends_with('s') || has_end(&["ss", "us", "is"]) {
        return Vec::new();
    }
    let without = |end: usize| word[..word.len() - end].to_owned();
    match word.strip_suffix("ies") {
        Some(stem) if stem.len() > 1 => vec![format!("{stem}y"), without(1)],
        _ if has_end(&["ses", "shes", "ches", "xes", "zes"]) => vec![without(2), without(1)],
        _ => vec![without(1)],
    }
}

/// Words with a hyphen between them, as one: `wifi` of `Wi-Fi`.
fn joined(text: &str) -> Vec<String> {
    let is_hyphen = |c: char| matches!(c, '-' | '\u{2010}' | '\u{2011}');
    let plain: String = plain(text).collect();
    let all = plain.split(|c: char| !is_hyphen(c) && (!c.is_alphanumeric() || is_unspaced(c)));
    let of_hyphens = all.map(|word| word.trim_matches(is_hyphen)).filter(|word| word.contains(is_hyphen));
    of_hyphens.map(|word| cut(&word.replace(is_hyphen, ""))).collect()
}

/// The tokens of a text, with a space between two of them.
pub(crate) fn of_text(text: &str) -> String {
    let mut all = String::new();
    let mut push = |token: &str| {
        if !all.is_empty() {
            all.push(' ');
        }
        all.push_str(token);
    };
    for run in runs(text) {
        match run {
            Run::Word(word) => {
                let parts = parts(&word);
                if parts.len() > 1 {
                    push(&cut(&word));
                }
                for part in parts {
                    push(&part);
                    singulars(&part).iter().for_each(|singular| push(singular));
                }
            }
            Run::Unspaced(run) => {
                for (at, c) in run.iter().enumerate() {
                    push(&c.to_string());
                    if let Some(next) = run.get(at + 1) {
                        push(&format!("{c}{next}"));
                    }
                }
            }
        }
    }
    joined(text).iter().for_each(|word| push(word));
    all
}

/// A name without spaces, such as a SKU, as one token.
fn whole(name: &str) -> String {
    plain(name).filter(|c| !c.is_whitespace()).collect()
}

/// The tokens of a SKU: the whole, and its parts.
pub(crate) fn of_sku(sku: &str) -> String {
    format!("{} {}", whole(sku), of_text(sku))
}

/// One word of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// As it was written, in lower case.
    pub(crate) written: String,
    /// The tokens of which a product must have one.
    pub(crate) tokens: Vec<String>,
    /// It may be mistyped: it is a word of letters.
    pub(crate) is_letters: bool,
    /// It is the last one, and words that begin like it will do.
    pub(crate) is_beginning: bool,
}

/// The tokens of a word that is asked for: its own, and of what may be its singular.
pub(crate) fn tokens_of(word: &str) -> Vec<String> {
    let mut tokens = singulars(word);
    tokens.push(word.to_owned());
    tokens
}

/// What a search asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) words: Vec<Word>,
    /// Names as one token: what has them comes earlier.
    pub(crate) whole: Vec<String>,
}

/// The words of a search.
pub(crate) fn of_query(query: &str) -> Asked {
    let end = (0..=query.len().min(QUERY_BYTES_MAX)).rev().find(|at| query.is_char_boundary(*at));
    let query = &query[..end.unwrap_or(0)];
    let mut words: Vec<Word> = Vec::new();
    let of_pair = |pair: String| Word {
        tokens: vec![pair.clone()],
        written: pair,
        is_letters: false,
        is_beginning: false,
    };
    for run in runs(query) {
        match run {
            Run::Word(word) => words.extend(parts(&word).into_iter().map(|part| {
                let is_letters = part.chars().all(char::is_alphabetic);
                Word { tokens: tokens_of(&part), written: part, is_letters, is_beginning: false }
            })),
            Run::Unspaced(run) if run.len() == 1 => words.push(of_pair(run[0].into())),
            Run::Unspaced(run) => words.extend(run.windows(2).map(|pair| of_pair(pair.iter().collect()))),
        }
    }
    words.truncate(WORDS_MAX);
    if let Some(last) = words.last_mut() {
        let is_word = !last.written.chars().any(is_unspaced);
        last.is_beginning = is_word && last.written.chars().count() >= BEGINNING_MIN;
    }
    let mut each: Vec<Word> = Vec::with_capacity(words.len());
    for word in words {
        // The same word twice asks for it once; the last one may also be a beginning.
        match each.iter_mut().find(|known| known.written == word.written) {
            Some(known) => known.is_beginning |= word.is_beginning,
            None => each.push(word),
        }
    }
    let names = query.split_whitespace().filter(|name| name.contains(['-', '_', '.', '/']));
    let whole = names.map(whole).filter(|name| !name.is_empty()).take(WORDS_MAX).collect();
    Asked { words: each, whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_tokens() {
        for (text, want) in [
            ("", ""),
            ("Flood One", "flood one"),
            (
                "Bay Headphones, batteries & watches",
                "bay headphones headphone batteries battery batterie watches watch watche",
            ),
            ("Wi-Fi 6 router, e‑bike - - -x", "wi fi 6 router e bike x wifi ebike"),
            ("手机-case", "手 手机 机 case"),
            ("glass bus lens", "glass bus lens len"),
            ("Dock Charger 67W", "dock charger 67w 67 w"),
            ("手机", "手 手机 机"),
            ("激流 One 海图保护壳", "激 激流 流 one 海 海图 图 图保 保 保护 护 护壳 壳"),
            ("手机case", "手 手机 机 case"),
            ("手，机", "手 机"),
            ("ＡＢＣ　１２", "abc 12"),
            ("Cafe\u{301} Café İ ﬁn ガ", "cafe cafe i fin ガ"),
            ("📱🎉 \u{1b}\u{0} \u{200b}", ""),
            ("a\u{0}b\u{200b}c", "a b c"),
            ("' OR '1'='1", "or 1 1"),
            ("かな 한국", "か かな な 한 한국 국"),
        ] {
            assert_eq!(of_text(text), want, "{text:?}");
        }
        let long = "x".repeat(10_000);
        assert_eq!(of_text(&long), "x".repeat(WORD_MAX));
        assert_eq!(of_sku("FLOOD-ONE.2"), "flood-one.2 flood one 2 floodone");
    }

    fn asked(query: &str) -> Vec<(String, bool, bool)> {
        of_query(query)
            .words
            .into_iter()
            .map(|word| (word.tokens.join("|"), word.is_letters, word.is_beginning))
            .collect()
    }

    #[test]
    fn searches_ask_for_tokens_that_texts_have() {
        for (query, want) in [
            ("", vec![]),
            ("%", vec![]),
            ("📱", vec![]),
            ("phones", vec![("phone|phones", true, true)]),
            ("sizes", vec![("siz|size|sizes", true, true)]),
            ("movies", vec![("movy|movie|movies", true, true)]),
            ("x", vec![("x", true, false)]),
            ("phone Phone", vec![("phone", true, true)]),
            ("phone case phone", vec![("phone", true, true), ("case", true, false)]),
            ("67w", vec![("67", false, false), ("w", true, false)]),
            ("手机", vec![("手机", false, false)]),
            ("手机壳 one", vec![("手机", false, false), ("机壳", false, false), ("one", true, true)]),
            ("机", vec![("机", false, false)]),
            ("\" AND * -x", vec![("and", true, false), ("x", true, false)]),
        ] {
            let want: Vec<_> = want.into_iter().map(|(token, a, b)| (token.to_owned(), a, b)).collect();
            assert_eq!(asked(query), want, "{query:?}");
        }
        assert_eq!(of_query("FLOOD-ONE case").whole, ["flood-one"]);
        // Whatever is sent, it stays small.
        let many: String = (0..500).map(|n| format!("w{n} ")).collect();
        assert!(asked(&many).len() <= WORDS_MAX);
        assert!(asked(&"手".repeat(5_000)).len() <= WORDS_MAX);
        assert_eq!(asked(&"x".repeat(10_000)), [("x".repeat(WORD_MAX), true, true)]);
    }

    #[test]
    fn a_plural_and_its_singular_find_each_other() {
        for (singular, plural) in [
            ("size", "sizes"),
            ("cache", "caches"),
            ("movie", "movies"),
            ("battery", "batteries"),
            ("lens", "lenses"),
            ("bus", "buses"),
            ("watch", "watches"),
            ("phone", "phones"),
            ("box", "boxes"),
        ] {
            for (text, query) in [(singular, plural), (plural, singular)] {
                let tokens = of_text(text);
                let asked = of_query(query).words.remove(0).tokens;
                let is_found = tokens.split(' ').any(|of| asked.iter().any(|token| token == of));
                assert!(is_found, "{query} in {text}: {asked:?}, {tokens}");
            }
        }
    }

    /// A text is found by each piece of itself.
    #[test]
    fn what_a_text_is_asked_for_by_it_has() {
        for text in ["Dock Charger 67 W", "激流 One 海图保护壳", "batteries", "ＡＢＣ-12", "Cape Book Pro 16"]
        {
            let tokens = of_text(text);
            for word in of_query(text).words {
                let has = |token: &&String| tokens.split(' ').any(|of| of == token.as_str());
                assert!(word.tokens.iter().any(|token| has(&token)), "{text}: {word:?} in {tokens}");
            }
        }
    }
}
