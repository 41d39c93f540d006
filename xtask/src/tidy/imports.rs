//! No circular imports between the modules of a crate: each module can then be read with only the
//! modules below it. A module is a file or a folder, at every level of the tree; a parent and its
//! child may import each other. Imports in tests do not count. It resolves names within one crate,
//! and no types.

use super::tokens::{Token, Tokens};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Steps from name to name that one import may take. Re-exports here have one or two; a circle of
/// them would have no end.
const RENAMES_MAX: usize = 16;

/// One crate's source: each file's path, as messages name it, and its text.
pub(super) type Files<'a> = [(&'a str, &'a str)];

/// One module uses another that has the same parent, with the first line that does so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) from: String,
    pub(super) to: String,
    /// `FILE:LINE`.
    pub(super) place: String,
}

/// All edges that are part of a circle, by parent.
pub(super) fn circles(src: &str, files: &Files<'_>) -> Vec<Edge> {
    let tree = Tree::read(src, files);
    let mut found = Vec::new();
    for edges in tree.edges().values() {
        let reaches = |from: &String, to: &String| is_reachable(edges, from, to);
        let in_circle = edges.iter().filter(|((from, to), _)| reaches(to, from));
        found.extend(in_circle.map(|((from, to), place)| Edge {
            from: from.clone(),
            to: to.clone(),
            place: place.clone(),
        }));
    }
    found
}

/// The shortest circle that begins with this edge, with its lines.
pub(super) fn tell(first: &Edge, edges: &[Edge]) -> String {
    let mut before: BTreeMap<&str, &Edge> = BTreeMap::new();
    let mut queue = VecDeque::from([&*first.to]);
    while let Some(at) = queue.pop_front() {
        for edge in edges.iter().filter(|edge| edge.from == at) {
            if !before.contains_key(&*edge.to) {
                before.insert(&edge.to, edge);
                queue.push_back(&edge.to);
            }
        }
    }
    let mut way = Vec::new();
    let mut at = &*first.from;
    while at != first.to {
        let Some(edge) = before.get(at) else { break };
        way.push(*edge);
        at = &edge.from;
    }
    way.push(first);
    let told = way.iter().rev().map(|edge| format!("{} uses {} ({})", edge.from, edge.to, edge.place));
    told.collect::<Vec<_>>().join(", ")
}

/// Edges between siblings: from, to, and where.
type Edges = BTreeMap<(String, String), String>;

fn is_reachable(edges: &Edges, from: &str, to: &str) -> bool {
    let (mut seen, mut queue) = (BTreeSet::from([from]), vec![from]);
    while let Some(at) = queue.pop() {
        if at == to {
            return true;
        }
        for (_, next) in edges.keys().filter(|(first, _)| first == at) {
            if seen.insert(next) {
                queue.push(next);
            }
        }
    }
    false
}

/// A module's names from the crate's root down; the root's is empty.
type Path = Vec<String>;

/// The contents of a module.
#[derive(Debug, Default)]
struct Module {
    /// Names that it imports.
    renames: BTreeMap<String, Path>,
    /// Modules of which it imports all names.
    globs: Vec<Path>,
    /// Names of its own.
    items: BTreeSet<String>,
    /// The paths that it uses, with their places.
    uses: Vec<(Path, String)>,
}

#[derive(Debug, Default)]
struct Tree(BTreeMap<Path, Module>);

impl Tree {
    fn read(src: &str, files: &Files<'_>) -> Self {
        let has_lib = files.iter().any(|(file, _)| file.strip_prefix(src) == Some("/lib.rs"));
        let mut tree = Self::default();
        let mut of_tests: Vec<Path> = Vec::new();
        for (file, text) in files {
            let Some(path) = file.strip_prefix(src).and_then(|file| module_of(file, has_lib)) else {
                continue;
            };
            let tokens = Tokens::of(text);
            let mut reader =
                Reader { file, tokens: &tokens.code, at: 0, tree: &mut tree, of_tests: &mut of_tests };
            reader.module(path);
        }
        tree.0.retain(|path, _| !of_tests.iter().any(|test| path.starts_with(test)));
        tree
    }

    /// By parent, which module uses which.
    fn edges(&self) -> BTreeMap<Path, Edges> {
        let mut found: BTreeMap<Path, Edges> = BTreeMap::new();
        for (from, module) in &self.0 {
            for (path, place) in &module.uses {
                let Some(to) = self.resolve(from, path, RENAMES_MAX) else { continue };
                let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
                // One is above the other.
                if shared == from.len() || shared == to.len() {
                    continue;
                }
                let pair = (from[..=shared].join("::"), to[..=shared].join("::"));
                let edges = found.entry(from[..shared].to_vec()).or_default();
                edges.entry(pair).or_insert_with(|| place.clone());
            }
        }
        found
    }

    /// The module of this crate in which a path ends, as seen from a module.
    fn resolve(&self, from: &Path, path: &[String], renames_left: usize) -> Option<Path> {
        let (mut at, mut rest) = match path.first()?.as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (from.clone(), &path[1..]),
            "super" => (from.split_last()?.1.to_vec(), &path[1..]),
            // The name of a child, or of something that is imported, or of another crate.
            first => {
                let child = [from.as_slice(), &[first.to_owned()]].concat();
                let is_ours = self.0.contains_key(&child) || self.0.get(from)?.renames.contains_key(first);
                (is_ours.then(|| from.clone())?, path)
            }
        };
        while let Some((name, after)) = rest.split_first() {
            if name == "super" {
                at.pop()?;
                rest = after;
                continue;
            }
            at.push(name.clone());
            if self.0.contains_key(&at) {
                rest = after;
                continue;
            }
            at.pop();
            let module = self.0.get(&at)?;
            let left = renames_left.checked_sub(1)?;
            if let Some(target) = module.renames.get(name) {
                let path = [target.as_slice(), after].concat();
                return self.resolve(&at, &path, left);
            }
            if !module.items.contains(name) {
                for glob in &module.globs {
                    let there = self.resolve(&at, glob, left);
                    let has = |there: &Path| {
                        let other = self.0.get(there);
                        other.is_some_and(|m| m.items.contains(name) || m.renames.contains_key(name))
                    };
                    if let Some(there) = there.filter(has) {
                        let path = [&["crate".to_owned()], there.as_slice(), rest].concat();
                        return self.resolve(&at, &path, left);
                    }
                }
            }
            break;
        }
        Some(at)
    }
}

/// The module that a file below `src` is; `None` for a program of its own, and for test files next
/// to the code that they test.
fn module_of(file: &str, has_lib: bool) -> Option<Path> {
    let file = file.strip_prefix('/')?.strip_suffix(".rs")?;
    if file.starts_with("bin/") || file.ends_with("_tests") || (file == "main" && has_lib) {
        return None;
    }
    let mut path: Path = file.split('/').map(str::to_owned).collect();
    if file == "lib" || file == "main" || path.last().is_some_and(|last| last == "mod") {
        path.pop();
    }
    Some(path)
}

struct Reader<'a> {
    file: &'a str,
    tokens: &'a [Token],
    at: usize,
    tree: &'a mut Tree,
    /// Modules that exist only in tests.
    of_tests: &'a mut Vec<Path>,
}

impl Reader<'_> {
    /// Reads a module up to its end, which is the file's or the brace that closes it.
    fn module(&mut self, path: Path) {
        let mut module = self.tree.0.remove(&path).unwrap_or_default();
        let mut depth = 0;
        while let Some(token) = self.tokens.get(self.at) {
            match &*token.text {
                "#" => self.attribute(&path),
                "use" => self.imports(&mut module, depth),
                "mod" if self.word(1).is_some() && self.text(2) == "{" => {
                    let inner = [path.as_slice(), &[self.text(1).to_owned()]].concat();
                    self.at += 3;
                    self.module(inner);
                }
                "{" => {
                    depth += 1;
                    self.at += 1;
                }
                "}" if depth == 0 => {
                    self.at += 1;
                    break;
                }
                "}" => {
                    depth -= 1;
                    self.at += 1;
                }
                "crate" | "self" | "super" if self.text(1) == "::" => self.inline(&mut module),
                "struct" | "enum" | "union" | "trait" | "fn" | "const" | "static" | "type" if depth == 0 => {
                    module.items.extend(self.word(1).map(str::to_owned));
                    self.at += 1;
                }
                _ => self.at += 1,
            }
        }
        self.tree.0.insert(path, module);
    }

    fn text(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", |token| &*token.text)
    }

    fn word(&self, ahead: usize) -> Option<&str> {
        Some(self.text(ahead)).filter(|text| text.starts_with(|c: char| c.is_alphabetic() || c == '_'))
    }

    fn place(&self) -> String {
        format!("{}:{}", self.file, self.tokens.get(self.at).map_or(0, |token| token.line))
    }

    /// An attribute. Items that exist only in tests are skipped with it.
    fn attribute(&mut self, path: &Path) {
        let is_test = ["#", "[", "cfg", "(", "test", ")", "]"];
        let for_tests_alone = is_test.iter().enumerate().all(|(ahead, text)| self.text(ahead) == *text);
        self.at += 1;
        self.group();
        if !for_tests_alone {
            return;
        }
        while self.text(0) == "#" {
            self.at += 1;
            self.group();
        }
        if self.text(0) == "mod" && self.text(2) == ";" {
            self.of_tests.push([path.as_slice(), &[self.text(1).to_owned()]].concat());
        }
        let items = ["pub", "use", "mod", "fn", "impl", "struct", "enum", "trait", "const", "static", "type"];
        let is_item = items.contains(&self.text(0)) || matches!(self.text(0), "async" | "unsafe" | "extern");
        loop {
            match self.text(0) {
                "" | "}" | ")" | "]" => return,
                ";" => break,
                // A field, a variant, an argument. Between an item's own there are commas as well.
                "," if !is_item => break,
                "{" => {
                    self.group();
                    return;
                }
                "(" | "[" => self.group(),
                _ => self.at += 1,
            }
        }
        self.at += 1;
    }

    /// Skips a bracketed part, with its brackets.
    fn group(&mut self) {
        let mut depth = 0;
        while self.at < self.tokens.len() {
            match self.text(0) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth <= 0 {
                return;
            }
        }
    }

    /// A path in the code.
    fn inline(&mut self, module: &mut Module) {
        let place = self.place();
        let mut path = vec![self.text(0).to_owned()];
        self.at += 1;
        while self.text(0) == "::" && self.word(1).is_some() {
            path.push(self.text(1).to_owned());
            self.at += 2;
        }
        module.uses.push((path, place));
    }

    /// `use a::{b, c as d, e::*};`
    fn imports(&mut self, module: &mut Module, depth: usize) {
        self.at += 1;
        let mut leaves = Vec::new();
        self.tree_of(&mut Vec::new(), &mut leaves);
        for Leaf { path: target, name, place } in leaves {
            // Inside a function the name is the function's.
            match (name, depth) {
                (Some(name), 0) => {
                    module.renames.insert(name, target.clone());
                }
                (None, 0) => module.globs.push(target.clone()),
                _ => {}
            }
            module.uses.push((target, place));
        }
        // `use self::a as a` and the like name themselves.
        module.renames.retain(|name, target| target.as_slice() != [name.as_str()]);
    }

    /// One branch of a `use` tree, and those below it.
    fn tree_of(&mut self, before: &mut Path, leaves: &mut Vec<Leaf>) {
        let place = self.place();
        let length = before.len();
        loop {
            match self.text(0) {
                "{" => {
                    self.at += 1;
                    while !matches!(self.text(0), "}" | "") {
                        self.tree_of(before, leaves);
                        if self.text(0) == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    break;
                }
                "*" => {
                    self.at += 1;
                    leaves.push(Leaf { path: before.clone(), name: None, place });
                    break;
                }
                "::" => self.at += 1,
                _ if self.word(0).is_some() => {
                    let word = self.text(0).to_owned();
                    self.at += 1;
                    // `a::{self}` is `a`.
                    if word != "self" || before.is_empty() {
                        before.push(word);
                    }
                    if self.text(0) == "::" {
                        continue;
                    }
                    let mut name = before.last().cloned();
                    if self.text(0) == "as" {
                        name = Some(self.text(1).to_owned());
                        self.at += 2;
                    }
                    leaves.push(Leaf { path: before.clone(), name, place });
                    break;
                }
                // Not an import that Rust would accept; the caller finds its end.
                _ => {
                    self.at += 1;
                    break;
                }
            }
        }
        before.truncate(length);
    }
}

/// One name that is imported; without a name of its own it is all of them.
struct Leaf {
    path: Path,
    name: Option<String>,
    place: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Edges in circles, as `from->to at FILE:LINE`.
    fn found(files: &Files<'_>) -> Vec<String> {
        let told = |edge: Edge| format!("{}->{} at {}", edge.from, edge.to, edge.place);
        circles("src", files).into_iter().map(told).collect()
    }

    #[test]
    fn a_circular_import_is_found_however_it_is_written() {
        let b = ("src/b.rs", "//! B.\nuse crate::a::X;\n");
        let want = ["a->b at src/a.rs:3", "b->a at src/b.rs:2"];
        for uses in [
            "use crate::b::Y;",
            "use super::b::Y;",
            "use super::b;",
            "use crate::{b::{Y, Z}, c};",
            "use crate::{b as other};",
            "pub(crate) use super::b::*;",
            "fn f() { crate::b::g(); }",
            "fn f(y: &'static super::b::Y) {}",
            "mod inner { use super::super::b::Y; }",
            // A re-export of the root resolves to its source.
            "use crate::Y;",
            "use super::Z;",
            "use crate::Renamed;",
        ] {
            let a = format!("//! A.\n\n{uses}\npub struct X;\n");
            let b_text = format!("{}pub struct Y;\npub struct Z;\n", b.1);
            let lib = "mod a;\nmod b;\npub use b::Y;\npub use b::*;\nuse crate::b::Y as Renamed;\n";
            assert_eq!(found(&[("src/lib.rs", lib), ("src/a.rs", &a), (b.0, &b_text)]), want, "{uses}");
        }
    }

    #[test]
    fn imports_that_form_no_circle_are_not_found() {
        for (uses, why) in [
            ("use std::b::Y;", "another crate"),
            ("// use crate::b::Y;", "a comment"),
            ("const TEXT: &str = \"crate::b::Y\";", "a text"),
            ("#[cfg(test)]\nmod tests { use crate::b::Y; fn f() { crate::b::g(); } }", "tests"),
            ("#[cfg(test)]\nuse crate::b::Y;", "tests"),
            ("struct S { #[cfg(test)] y: crate::b::Y, z: u8 }", "tests"),
            ("#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;", "tests"),
            ("use super::Root;", "its parent"),
            ("use crate::a::inner::Z;", "its child"),
        ] {
            let a = format!("{uses}\npub struct X;\n#[cfg(test)]\nmod tests;\n");
            let b = "use crate::a::X;\npub struct Y;\n";
            let lib = "mod a;\nmod b;\npub struct Root;\nfn f() { a::g(); b::g() }\n";
            let inner = ("src/a/inner.rs", "use super::X;\npub struct Z;\n");
            let tests = ("src/a_tests.rs", "use crate::b::Y;");
            let child_tests = ("src/a/tests.rs", "use crate::b::Y;");
            assert_eq!(
                found(&[("src/lib.rs", lib), ("src/a.rs", &a), ("src/b.rs", b), inner, tests, child_tests]),
                Vec::<String>::new(),
                "{why}"
            );
        }
    }

    #[test]
    fn circular_imports_are_found_at_every_level_and_over_several_modules() {
        let files = [
            ("src/main.rs", "mod a; mod b; mod c;"),
            ("src/a/mod.rs", "mod x; mod y;"),
            ("src/a/x.rs", "use super::y::Y;"),
            ("src/a/y.rs", "use super::x::X;\nuse crate::b::B;"),
            ("src/b.rs", "use crate::c::C;"),
            ("src/c.rs", "\nuse crate::a::x::X;"),
            ("src/bin/other.rs", "use crate::a;"),
        ];
        assert_eq!(
            found(&files),
            [
                "a->b at src/a/y.rs:2",
                "b->c at src/b.rs:1",
                "c->a at src/c.rs:2",
                "a::x->a::y at src/a/x.rs:1",
                "a::y->a::x at src/a/y.rs:1",
            ]
        );
        let edges = circles("src", &files);
        assert_eq!(
            tell(&edges[0], &edges),
            "a uses b (src/a/y.rs:2), b uses c (src/b.rs:1), c uses a (src/c.rs:2)"
        );
    }
}
