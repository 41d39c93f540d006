//! Rust's source as words, signs and comments, each with its line. It knows no grammar.

/// A word or a sign of code. Literals are left out: nothing in them is code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    /// A word, `::`, or one other character.
    pub(super) text: String,
    pub(super) line: usize,
}

#[derive(Debug, Default)]
pub(super) struct Tokens {
    pub(super) code: Vec<Token>,
    /// Lines on which there is a part of a comment, in order.
    pub(super) comment_lines: Vec<usize>,
}

impl Tokens {
    pub(super) fn of(source: &str) -> Self {
        let mut reader = Reader { rest: source, line: 1, found: Self::default() };
        while reader.step() {}
        reader.found
    }
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    found: Tokens,
}

impl Reader<'_> {
    /// Reads one thing; `false` at the end.
    fn step(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else { return false };
        if self.rest.starts_with("//") {
            let length = self.rest.find('\n').unwrap_or(self.rest.len());
            self.comment(length);
        } else if self.rest.starts_with("/*") {
            self.comment(block_comment(self.rest));
        } else if let Some(length) = string(self.rest) {
            self.pass(length);
        } else if first == '\'' {
            self.pass(char_or_tick(self.rest));
        } else if is_word(first) {
            let length = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
            self.token(length);
        } else if self.rest.starts_with("::") {
            self.token(2);
        } else if first.is_whitespace() {
            self.pass(first.len_utf8());
        } else {
            self.token(first.len_utf8());
        }
        true
    }

    fn pass(&mut self, length: usize) {
        let (passed, rest) = self.rest.split_at(length);
        self.line += passed.matches('\n').count();
        self.rest = rest;
    }

    fn token(&mut self, length: usize) {
        let token = Token { text: self.rest[..length].to_owned(), line: self.line };
        self.found.code.push(token);
        self.pass(length);
    }

    fn comment(&mut self, length: usize) {
        let first = self.line;
        self.pass(length);
        self.found.comment_lines.extend(first..=self.line);
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of a comment, which may have others inside.
fn block_comment(text: &str) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if text[at..].starts_with("*/") {
            (at, depth) = (at + 2, depth - 1);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of the string that begins here, if one does: `"…"`, `b"…"`, `c"…"`, `r#"…"#`,
/// `br"…"`.
fn string(text: &str) -> Option<usize> {
    let letters = text.find(|c: char| !matches!(c, 'b' | 'c' | 'r'))?;
    let (prefix, rest) = text.split_at(letters);
    if !matches!(prefix, "" | "b" | "c" | "r" | "br" | "cr") {
        return None;
    }
    if prefix.ends_with('r') {
        let hashes = rest.find(|c| c != '#')?;
        let inside = rest[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", &rest[..hashes]);
        let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
        return Some(letters + hashes + 1 + length);
    }
    let inside = rest.strip_prefix('"')?;
    let mut is_escaped = false;
    let end = inside.char_indices().find(|(_, c)| {
        let ends = *c == '"' && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        ends
    });
    Some(letters + 1 + end.map_or(inside.len(), |(at, _)| at + 1))
}

/// The length of a character, or of the tick before a lifetime's name.
fn char_or_tick(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        // The character after the backslash may be a tick; the next tick ends it.
        Some((_, '\\')) => {
            chars.next();
            chars.find(|(_, c)| *c == '\'').map_or(text.len(), |(at, _)| at + 1)
        }
        Some(_) => match chars.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_are_not_code() {
        for (source, words) in [
            ("a::b // c\nd", "a :: b d"),
            ("a /* b /* c */ d */ e", "a e"),
            (r#"a "b \" c" d"#, "a d"),
            (r##"a r#"b " c"# br"x" d"##, "a d"),
            ("a '\"' b '\\'' c 'x' d", "a b c d"),
            ("fn f<'a>(x: &'a str)", "fn f < a > ( x : & a str )"),
            ("bar crab rust", "bar crab rust"),
            ("/* never ends", ""),
            ("\"never ends", ""),
        ] {
            let code: Vec<String> = Tokens::of(source).code.into_iter().map(|token| token.text).collect();
            assert_eq!(code.join(" "), words, "{source}");
        }
    }

    #[test]
    fn each_token_has_its_line_number() {
        let tokens = Tokens::of("a\n\"x\ny\" b // c\n/* d\ne */ f");
        let lines: Vec<(&str, usize)> = tokens.code.iter().map(|t| (&*t.text, t.line)).collect();
        assert_eq!(lines, [("a", 1), ("b", 3), ("f", 5)]);
        assert_eq!(tokens.comment_lines, [3, 4, 5]);
    }
}
