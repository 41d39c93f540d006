//! The repository's own rules, as far as a machine can check them. Each failure names the file, the
//! rule and what to do.

mod imports;
mod tokens;

use crate::openapi;
use crate::shell::{Failure, cargo_program, output, root};
use crate::tools;
use serde_json::Value;
use std::fs;
use std::path::Path;
use tokens::Tokens;

/// Lines of one source file. A file that is longer is rarely one thing.
const LINES_MAX: usize = 900;

/// Crates that each crate may use in its own code. The graph is the architecture: see
/// ARCHITECTURE.md.
const EDGES: &[(&str, &[&str])] = &[
    ("units", &[]),
    ("contracts", &["units"]),
    ("engines", &["units"]),
    ("runtime", &["units", "engines"]),
    ("sale", &["units", "contracts", "engines", "runtime"]),
    ("web", &["units", "contracts", "engines"]),
    ("gate", &["units", "contracts", "engines", "web"]),
    ("notify", &["units", "contracts", "engines", "runtime", "web"]),
    ("account", &["units", "contracts", "engines", "web"]),
    ("catalog", &["units", "contracts", "engines", "web"]),
    ("order", &["units", "contracts", "engines", "web"]),
    ("payment", &["units", "contracts", "engines", "web"]),
    ("inventory", &["units", "contracts", "engines", "web"]),
    ("shop", &["units", "contracts", "web"]),
    (
        "floodgate",
        &[
            "units",
            "contracts",
            "engines",
            "runtime",
            "sale",
            "web",
            "gate",
            "notify",
            "account",
            "catalog",
            "order",
            "payment",
            "inventory",
            "shop",
        ],
    ),
    ("sim", &["units", "engines", "runtime"]),
    ("sim-sale", &["units", "contracts", "engines", "runtime", "sale", "sim"]),
    ("sim-notify", &["units", "contracts", "engines", "runtime", "notify", "sim"]),
    ("sim-store", &["units", "contracts", "engines", "order", "payment", "inventory", "sim"]),
    ("xtask", &[]),
];

/// Names that a core may not use: it decides without waiting, and everything comes in as an
/// argument.
const IMPURE: &[(&str, &str)] = &[
    ("std::time", "take `now: TimeMs` as an argument"),
    ("Instant", "take `now: TimeMs` as an argument"),
    ("SystemTime", "take `now: TimeMs` as an argument"),
    ("std::fs", "return bytes; the shell writes them"),
    ("std::net", "a core does not know the network"),
    ("std::thread", "a core runs where it is called"),
    ("tokio", "a core does not wait"),
    ("tracing", "return what happened; the shell logs it"),
    ("HashMap", "its order differs from run to run: use BTreeMap, or hashbrown with the key's own bits"),
    ("HashSet", "its order differs from run to run: use BTreeSet"),
    ("rand", "take a seed as an argument"),
];

/// Columns of a line with a comment: a reader's eye finds the next line from there.
const COMMENT_COLUMNS_MAX: usize = 100;

/// Where README has the list of what the tests need.
const README_TOOLS: [&str; 2] = ["<!-- from `cargo xtask doctor --markdown` -->\n", "<!-- until here -->"];

const DOCUMENTS: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    "docs/invariants.md",
    "docs/performance.md",
    "docs/log-format.md",
];

pub(crate) fn run() -> Result<(), Failure> {
    let mut found = Vec::new();
    edges(&mut found)?;
    let listed = output("git", &["ls-files", "--cached", "--others", "--exclude-standard"])?;
    let files: Vec<&str> = listed.lines().filter(|file| root().join(file).is_file()).collect();
    let mut sources = Vec::new();
    for file in &files {
        if file.ends_with(".rs") {
            let text = fs::read_to_string(root().join(file))?;
            source(file, &text, &mut found);
            programs(file, &text, &mut found);
            sources.push((*file, text));
        }
        if file.ends_with(".md") {
            links(file, &fs::read_to_string(root().join(file))?, &mut found);
        }
    }
    let sources: Vec<(&str, &str)> = sources.iter().map(|(file, text)| (*file, &**text)).collect();
    for folder in folders() {
        circular_imports(&folder, &sources, &mut found);
        wide_comments(&folder, &sources, &mut found);
    }
    documents(&mut found)?;
    openapi::check(&mut found)?;
    readme(&fs::read_to_string(root().join("README.md"))?, &mut found);
    patches(&files, &mut found);
    if found.is_empty() {
        println!("tidy: {} files, nothing to say", files.len());
        return Ok(());
    }
    Err(Failure(format!("tidy:\n{}", found.join("\n"))))
}

fn edges(found: &mut Vec<String>) -> Result<(), Failure> {
    let metadata = output(&cargo_program(), &["metadata", "--no-deps", "--format-version", "1"])?;
    let metadata: Value =
        serde_json::from_str(&metadata).map_err(|e| Failure(format!("cargo metadata: {e}")))?;
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = EDGES.iter().find(|(crate_name, _)| *crate_name == name) else {
            found.push(format!(
                "{name}: a crate that xtask/src/tidy.rs does not know: say there what it may use"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let ours =
                EDGES.iter().any(|(crate_name, _)| *crate_name == used) && dependency["path"].is_string();
            // Tests may use the simulator's disk, whichever way the arrow then points.
            let test_only = dependency["kind"].as_str() == Some("dev");
            if ours && !test_only && !allowed.contains(&used) {
                found.push(format!("{name} uses {used}: the architecture has no such edge; meet in `contracts`, or own a port"));
            }
        }
    }
    Ok(())
}

fn source(file: &str, text: &str, found: &mut Vec<String>) {
    let mut say = |line: usize, what: String| found.push(format!("{file}:{line}: {what}"));
    let count = text.lines().count();
    if count > LINES_MAX {
        say(count, format!("more than {LINES_MAX} lines: is it one thing?"));
    }
    if !text.starts_with("//!") {
        say(1, "open the file with `//!`: its purpose, and what it refuses to know".into());
    }
    let in_core = file.contains("/src/core/");
    let this_file = file.starts_with("xtask/src/tidy");
    let mut before = "";
    for (at, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if in_core && !this_file {
            for (word, instead) in IMPURE {
                if names(code, word) {
                    say(at + 1, format!("`{word}` in a pure core: {instead}"));
                }
            }
        }
        let unfinished = ["todo!", "unimplemented!", "TODO", "FIXME", "#[ignore"];
        if !this_file && unfinished.iter().any(|word| line.contains(word)) {
            say(at + 1, "unfinished, or skipped: finish it or take it out".into());
        }
        let proven = before.contains("SAFETY:") || line.contains("SAFETY:");
        if !this_file && names(code, "unsafe") && !code.contains("unsafe_code") && !proven {
            say(at + 1, "`unsafe` without a `SAFETY:` proof in the line above".into());
        }
        before = line;
    }
}

/// The crates' folders.
fn folders() -> impl Iterator<Item = String> {
    let folder = |name: &str| match name {
        "sim" | "xtask" => name.to_owned(),
        "sim-sale" => "sim/sale".to_owned(),
        "sim-notify" => "sim/notify".to_owned(),
        "sim-store" => "sim/store".to_owned(),
        name => format!("crates/{name}"),
    };
    EDGES.iter().map(move |(name, _)| folder(name)).chain(["fuzz".to_owned()])
}

fn circular_imports(folder: &str, sources: &imports::Files<'_>, found: &mut Vec<String>) {
    let edges = imports::circles(&format!("{folder}/src"), sources);
    if !edges.is_empty() {
        let list: String = edges.iter().map(|edge| format!("\n  {}", imports::tell(edge, &edges))).collect();
        let what = "imports that are part of a circle between modules";
        found.push(format!("{folder}: {what}; move what both need into a module below them:{list}"));
    }
}

fn wide_comments(folder: &str, sources: &imports::Files<'_>, found: &mut Vec<String>) {
    let mut places = String::new();
    for (file, text) in sources.iter().filter(|(file, _)| Path::new(file).starts_with(folder)) {
        let of_comments = Tokens::of(text).comment_lines;
        let is_wide = |at: usize, line: &str| {
            line.chars().count() > COMMENT_COLUMNS_MAX && of_comments.binary_search(&(at + 1)).is_ok()
        };
        let lines = text.lines().enumerate().filter(|(at, line)| is_wide(*at, line));
        let lines: Vec<String> = lines.map(|(at, _)| (at + 1).to_string()).collect();
        if !lines.is_empty() {
            places.push_str(&format!("\n  {file}: {}", lines.join(" ")));
        }
    }
    if !places.is_empty() {
        found.push(format!(
            "{folder}: comments of more than {COMMENT_COLUMNS_MAX} columns; break them:{places}"
        ));
    }
}

/// Each program that is started by its name is on the list of tools, and xtask starts all of them
/// under the list's `PATH`.
fn programs(file: &str, text: &str, found: &mut Vec<String>) {
    if file.starts_with("xtask/src/tidy") {
        return;
    }
    for (at, line) in text.lines().enumerate() {
        let is_xtask = file.starts_with("xtask/src/");
        let calls: &[&str] = &["Command::new(\"", "command(\"", "run(\"", "output(\""];
        for call in &calls[..if is_xtask { calls.len() } else { 1 }] {
            let name = line.split_once(call).and_then(|(_, rest)| rest.split_once('"'));
            if let Some((name, _)) = name.filter(|(name, _)| !tools::knows(name)) {
                found.push(format!("{file}:{}: `{name}` is not on the list in xtask/src/tools.rs", at + 1));
            }
        }
        let may_make = !is_xtask || file.ends_with("/shell.rs");
        if !may_make && line.contains("Command::new(") && !line.contains(".env(\"PATH\"") {
            found.push(format!(
                "{file}:{}: use `shell::command`: it sets the PATH of listed programs",
                at + 1
            ));
        }
    }
}

/// README's table of programs equals the list.
fn readme(text: &str, found: &mut Vec<String>) {
    let [from, until] = README_TOOLS;
    let there = text.split_once(from).and_then(|(_, rest)| rest.split_once(until)).map(|(table, _)| table);
    if there != Some(&*tools::markdown()) {
        found.push(format!(
            "README.md: what the tests need differs from xtask/src/tools.rs: put the output of \
             `cargo xtask doctor --markdown` between `{}` and `{until}`",
            from.trim_end()
        ));
    }
}

/// Whether the code has this path or word, not as a part of a longer one.
fn names(code: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Links to files of the repository have existing targets.
fn links(file: &str, text: &str, found: &mut Vec<String>) {
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    for (at, line) in text.lines().enumerate() {
        for part in line.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default().split('#').next().unwrap_or_default();
            let elsewhere = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
            if !elsewhere && !root().join(folder).join(target).exists() {
                found.push(format!("{file}:{}: link to {target}, which is not there", at + 1));
            }
        }
    }
}

fn documents(found: &mut Vec<String>) -> Result<(), Failure> {
    for name in DOCUMENTS.iter().filter(|name| !root().join(name).is_file()) {
        found.push(format!("{name}: is missing"));
    }
    let readme = fs::read_to_string(root().join("README.md")).unwrap_or_default();
    for command in ["cargo run --release -- serve --demo", "cargo xtask test"] {
        let near_top = readme.lines().take(40).any(|line| line.contains(command));
        if !near_top {
            found.push(format!("README.md: `{command}` does not stand near the top"));
        }
    }
    let invariants = fs::read_to_string(root().join("docs/invariants.md")).unwrap_or_default();
    for id in (1..=7).map(|n| format!("INV-{n}")) {
        if !invariants.contains(&id) {
            found.push(format!("docs/invariants.md: does not say what {id} is"));
        }
    }
    Ok(())
}

/// The planted bugs still fit the code that they break.
fn patches(files: &[&str], found: &mut Vec<String>) {
    for patch in files.iter().filter(|file| file.starts_with("sim/mutants/") && file.ends_with(".patch")) {
        if output("git", &["apply", "--check", patch]).is_err() {
            found.push(format!("{patch}: does not apply any more: make it anew"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_words_are_found() {
        assert!(names("use std::time::Duration;", "std::time"));
        assert!(names("HashMap::new()", "HashMap"));
        assert!(!names("FxHashMap::new()", "HashMap"));
        assert!(!names("operand", "rand"));
    }

    #[test]
    fn a_core_that_reads_the_clock_is_found() {
        let mut found = Vec::new();
        source("crates/sale/src/core/x.rs", "//! X.\nlet now = Instant::now();\n", &mut found);
        assert_eq!(found.len(), 1, "{found:?}");
        source("crates/runtime/src/worker.rs", "//! X.\nlet now = Instant::now();\n", &mut found);
        assert_eq!(found.len(), 1, "only a core is pure");
    }

    #[test]
    fn circular_imports_and_wide_comments_are_found() {
        let circle = [("crates/x/src/a.rs", "use crate::b::B;"), ("crates/x/src/b.rs", "use crate::a::A;")];
        let wide = format!("let x = 1; // {}\nlet y = \"{}\";\n", "x".repeat(90), "y".repeat(100));
        let comments = [("crates/x/tests/a.rs", &*wide), ("crates/other/src/a.rs", &wide)];
        for (folder, want) in [("crates/x", "circle between modules"), ("crates/other", "")] {
            let mut found = Vec::new();
            circular_imports(folder, &circle, &mut found);
            assert!(found.concat().contains(want) && found.is_empty() == want.is_empty(), "{found:?}");
        }
        let mut found = Vec::new();
        wide_comments("crates/x", &comments, &mut found);
        assert!(found.concat().ends_with("\n  crates/x/tests/a.rs: 1"), "{found:?}");
    }

    #[test]
    fn a_program_that_is_not_listed_is_found() {
        for (file, line, want) in [
            ("crates/x/tests/a.rs", "Command::new(\"wrk\")", ""),
            ("crates/x/tests/a.rs", "Command::new(\"hey\")", "`hey` is not on the list"),
            ("crates/x/tests/a.rs", "Command::new(BINARY)", ""),
            ("xtask/src/a.rs", "output(\"hey\", &[])", "`hey` is not on the list"),
            ("xtask/src/a.rs", "Command::new(program)", "use `shell::command`"),
        ] {
            let mut found = Vec::new();
            programs(file, line, &mut found);
            assert!(
                found.concat().contains(want) && found.is_empty() == want.is_empty(),
                "{line}: {found:?}"
            );
        }
    }

    #[test]
    fn a_readme_without_the_current_list_of_tools_is_found() {
        let [from, until] = README_TOOLS;
        for (table, is_found) in [(tools::markdown(), false), (tools::markdown().replace("wrk", "hey"), true)]
        {
            let mut found = Vec::new();
            readme(&format!("# X\n{from}{table}{until}\n"), &mut found);
            assert_eq!(!found.is_empty(), is_found, "{found:?}");
        }
        let mut found = Vec::new();
        readme("# X\n", &mut found);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn an_unsafe_block_without_a_proof_is_found() {
        let mut found = Vec::new();
        let bad = format!("//! X.\n{} {{ f() }}\n", "unsafe");
        source("crates/x/src/lib.rs", &bad, &mut found);
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
