//! How long a search takes over a catalogue of made-up products in two languages: through the
//! catalogue, beside SQLite's FTS5 over the same words and beside a comparison of texts, in turn:
//! `cargo xtask bench search`.
//!
//! ```text
//! cargo run --release -p catalog --example search -- [--json] [--products N] [--requests N]
//! ```
#![expect(clippy::print_stdout, reason = "a measuring program prints its measurements")]

use catalog::{service::Service, sheet::SheetProduct};
use contracts::store::{Catalog as _, Category, Localized, Product, ProductQuery, Variant};
use engines::{clock::SteadyClock, sqlite};
use rusqlite::{Connection, params};
use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};
use units::{Money, Prng};

const AT_MOST: usize = 24;
const REACH_MS: f64 = 20.0;
const CATEGORIES: [&str; 12] = [
    "phones",
    "audio",
    "wearables",
    "computers",
    "home",
    "accessories",
    "garden",
    "kitchen",
    "sports",
    "toys",
    "books",
    "tools",
];
/// Words that stand in nine of ten products, as "with" does.
const FREQUENT: [&str; 4] = ["premium", "series", "edition", "quality"];
/// One request of so many goes to the slow ones too.
const FEW: usize = 20;

struct Options {
    products: usize,
    requests: usize,
    is_json: bool,
}

impl Options {
    fn read() -> Self {
        let mut options = Self { products: 100_000, requests: 2_000, is_json: false };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut number = || {
                let value = args.next().and_then(|value| value.parse::<usize>().ok());
                value.filter(|value| *value > 0).unwrap_or_else(|| panic!("{arg}: want a number above 0"))
            };
            match &*arg {
                "--json" => options.is_json = true,
                "--products" => options.products = number(),
                "--requests" => options.requests = number(),
                _ => panic!("not a flag: {arg}"),
            }
        }
        options
    }
}

/// Words and characters, of which the first are far more frequent than the last.
struct Language {
    words: Vec<String>,
    han: Vec<char>,
}

impl Language {
    fn new(random: &mut Prng) -> Self {
        const SYLLABLES: [&str; 24] = [
            "ba", "cor", "de", "fin", "gal", "ho", "in", "jo", "ka", "lor", "mi", "nor", "o", "pen", "qui",
            "ra", "son", "ter", "u", "vel", "wa", "xi", "yor", "zen",
        ];
        let word = |random: &mut Prng| {
            (0..2 + random.below(3)).map(|_| *random.pick(&SYLLABLES)).collect::<String>()
        };
        Self {
            words: (0..20_000).map(|_| word(random)).collect(),
            han: (0..2_500).filter_map(|at| char::from_u32(0x4e00 + at)).collect(),
        }
    }

    /// Nearly Zipf's law: the place of a word is the exponential of a uniform number.
    fn place(random: &mut Prng, count: usize) -> usize {
        ((count as f64).powf(random.unit()) as usize).saturating_sub(1).min(count - 1)
    }

    fn word(&self, random: &mut Prng) -> &str {
        &self.words[Self::place(random, self.words.len())]
    }

    fn han(&self, random: &mut Prng, count: u64) -> String {
        (0..count).map(|_| self.han[Self::place(random, self.han.len())]).collect()
    }

    fn text(&self, random: &mut Prng, words: u64) -> String {
        let mut text: Vec<&str> = (0..words).map(|_| self.word(random)).collect();
        text.extend(FREQUENT.iter().filter(|_| random.percent(90)));
        text.join(" ")
    }
}

fn product(random: &mut Prng, language: &Language, number: usize) -> Product {
    let name: Vec<&str> = (0..2 + random.below(3)).map(|_| language.word(random)).collect();
    let (about_en, about_zh) = (language.text(random, 30), language.han(random, 40));
    let name_zh_length = 4 + random.below(6);
    let currency = "CNY".parse().expect("a currency");
    Product {
        name: Localized { en: name.join(" "), zh: language.han(random, name_zh_length) },
        description: Localized { en: about_en, zh: about_zh },
        category: random.pick(&CATEGORIES).parse().expect("a slug"),
        variants: vec![Variant {
            sku: format!("SKU-{number}").parse().expect("a SKU"),
            name: Localized::default(),
            price: Money { amount_minor: 100 + random.below(1_000_000), currency },
            offered_in: vec![],
        }],
        slug: format!("p{number}").parse().expect("a slug"),
        pictures: vec![],
        position: number as u32,
        is_published: true,
    }
}

/// Kinds of searches.
const KINDS: [&str; 10] = [
    "a word of most products",
    "two such words",
    "a frequent word",
    "two words of a name",
    "the beginning of a word",
    "a word with a mistake or two",
    "two characters",
    "four characters",
    "a frequent word, of a category",
    "a SKU",
];

/// The words of a search, and its category.
type Question = (String, Option<&'static str>);

fn question(kind: usize, random: &mut Prng, language: &Language, names: &[(String, String)]) -> Question {
    let (en, zh) = random.pick(names);
    let word = |at: usize| en.split(' ').nth(at).unwrap_or_default().to_owned();
    let frequent = |random: &mut Prng| language.words[random.below(50) as usize].clone();
    let words = match kind {
        0 => (*random.pick(&FREQUENT)).to_owned(),
        1 => format!("{} {}", random.pick(&FREQUENT[..2]), random.pick(&FREQUENT[2..])),
        2 => frequent(random),
        3 => format!("{} {}", word(0), word(1)),
        4 => {
            let word = word(0);
            word[..word.len().min(2 + random.below(3) as usize)].to_owned()
        }
        5 => {
            let mut word = word(0).into_bytes();
            let at = random.below(word.len() as u64) as usize;
            let next = (at + 1) % word.len();
            word.swap(at, next);
            let last = word.len() - 1;
            word[last] = b'k';
            String::from_utf8_lossy(&word).into_owned()
        }
        6 => zh.chars().take(2).collect(),
        7 => zh.chars().take(4).collect(),
        8 => return (frequent(random), Some(*random.pick(&CATEGORIES))),
        _ => format!("SKU-{}", random.below(names.len() as u64)),
    };
    (words, None)
}

/// Pairs of characters, which FTS5's tokenizer takes for words.
fn pairs(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let pairs = characters.windows(2).map(|pair| pair.iter().collect::<String>());
    pairs.collect::<Vec<_>>().join(" ")
}

struct Fts5(Connection);

impl Fts5 {
    fn open(path: &std::path::Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.execute_batch(
            "PRAGMA journal_mode = wal; PRAGMA synchronous = normal; \
             CREATE VIRTUAL TABLE f USING fts5(category UNINDEXED, name, about, description, prefix = '2 3', \
             detail = 'column', tokenize = 'unicode61')",
        )?;
        Ok(Self(connection))
    }

    fn fill(&self, products: &[SheetProduct]) -> rusqlite::Result<()> {
        self.0.execute_batch("BEGIN")?;
        let mut put =
            self.0.prepare("INSERT INTO f (category, name, about, description) VALUES (?, ?, ?, ?)")?;
        for SheetProduct { product, .. } in products {
            let name = format!("{} {}", product.name.en, pairs(&product.name.zh));
            let about = product.variants[0].sku.as_str().replace('-', " ");
            let description = format!("{} {}", product.description.en, pairs(&product.description.zh));
            put.execute(params![product.category.as_str(), name, about, description])?;
        }
        self.0.execute_batch("COMMIT")
    }

    /// The best, and the counts of all categories.
    fn find(&self, words: &str, category: Option<&str>) -> rusqlite::Result<usize> {
        let is_han = !words.is_ascii();
        let tokens = if is_han { pairs(words) } else { words.replace('-', " ") };
        let mut matching =
            tokens.split_whitespace().map(|token| format!("\"{token}\"")).collect::<Vec<_>>().join(" ");
        if !is_han {
            matching.push('*');
        }
        let best = "SELECT rowid FROM f WHERE f MATCH ?1 AND (?2 IS NULL OR category = ?2) \
                    ORDER BY bm25(f, 0, 8, 3, 1) LIMIT 24";
        let mut best = self.0.prepare_cached(best)?;
        let found = best.query_map(params![matching, category], |row| row.get::<_, i64>(0))?.count();
        let counts = "SELECT category, count(*) FROM f WHERE f MATCH ?1 GROUP BY category";
        let mut counts = self.0.prepare_cached(counts)?;
        counts.query_map(params![matching], |row| row.get::<_, i64>(1))?.for_each(drop);
        Ok(found)
    }
}

/// Bytes of memory that the process has.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').take(3).collect::<Vec<_>>().join(" ")
}

#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn add(&mut self, since: Instant) {
        self.0.push(since.elapsed().as_secs_f64() * 1000.0);
    }

    fn quantile(&self, of: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (of * sorted.len() as f64).ceil() as usize;
        sorted.get(at.max(1) - 1).copied().unwrap_or(f64::NAN)
    }
}

/// What one kind of search took.
#[derive(Default)]
struct Row {
    index: Times,
    fts5: Times,
    compared: Times,
    with_hits: usize,
}

/// What it took to make the indexes.
struct Built {
    documents: u64,
    seconds: f64,
    bytes: u64,
    grown: u64,
    fts5_seconds: f64,
    fts5_bytes: u64,
}

fn main() {
    let options = Options::read();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure(&options));
}

async fn measure(options: &Options) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut random = Prng::new(1);
    let language = Language::new(&mut random);
    let sql = sqlite::open(&dir.path().join("catalog.db")).expect("a database");
    let clock = Arc::new(SteadyClock::start());
    let service = Service::open(sql.clone(), clock.clone()).await.expect("a catalogue");
    let comparing = Service::open(sql, clock).await.expect("a catalogue");
    let categories = CATEGORIES.map(|slug| Category {
        slug: slug.parse().expect("a slug"),
        name: Localized { en: slug.into(), zh: "类".into() },
    });
    service.put_categories(categories.to_vec()).await.expect("categories");
    let fts5 = Fts5::open(&dir.path().join("fts5.db")).expect("a database");
    let mut names = Vec::with_capacity(options.products);
    let mut fts5_took = Duration::ZERO;
    for from in (0..options.products).step_by(5_000) {
        let until = options.products.min(from + 5_000);
        let of = |number| SheetProduct { line: 2, product: product(&mut random, &language, number) };
        let some: Vec<SheetProduct> = (from..until).map(of).collect();
        names.extend(some.iter().map(|of| (of.product.name.en.clone(), of.product.name.zh.clone())));
        let began = Instant::now();
        fts5.fill(&some).expect("products");
        fts5_took += began.elapsed();
        service.import("example", some).await.expect("products");
    }

    let (before, began) = (resident(), Instant::now());
    let _following = service.start();
    let figures = loop {
        let figures = service.search_figures().await.expect("figures");
        if figures.is_built && figures.behind == 0 {
            break figures;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let built = Built {
        documents: figures.documents,
        seconds: began.elapsed().as_secs_f64(),
        bytes: figures.bytes,
        grown: resident().saturating_sub(before),
        fts5_seconds: fts5_took.as_secs_f64(),
        fts5_bytes: fs::metadata(dir.path().join("fts5.db")).map_or(0, |file| file.len()),
    };

    let load_before = load();
    let mut rows: Vec<Row> = KINDS.iter().map(|_| Row::default()).collect();
    for request in 0..options.requests {
        for (kind, row) in rows.iter_mut().enumerate() {
            let (words, category) = question(kind, &mut random, &language, &names);
            let query = ProductQuery {
                words: Some(words.clone()),
                category: category.map(|slug| slug.parse().expect("a slug")),
                at_most: AT_MOST,
                after: None,
            };
            let began = Instant::now();
            let found = service.products(query.clone()).await.expect("an answer");
            row.index.add(began);
            row.with_hits += usize::from(!found.rows.is_empty());
            if request % FEW == 0 {
                let began = Instant::now();
                fts5.find(&words, category).expect("an answer");
                row.fts5.add(began);
                let began = Instant::now();
                comparing.products(query).await.expect("an answer");
                row.compared.add(began);
            }
        }
    }
    report(options, &rows, &built, &load_before);
}

fn report(options: &Options, rows: &[Row], built: &Built, load_before: &str) {
    let all = |of: fn(&Row) -> &Times| Times(rows.iter().flat_map(|row| of(row).0.iter().copied()).collect());
    let (index, fts5, compared) = (all(|row| &row.index), all(|row| &row.fts5), all(|row| &row.compared));
    let p99 = index.quantile(0.99);
    let total = Row { index, fts5, compared, with_hits: rows.iter().map(|row| row.with_hits).sum() };
    let each = KINDS.iter().copied().zip(rows).chain([("all", &total)]);
    if options.is_json {
        let figures = |times: &Times| serde_json::json!({ "requests": times.0.len(), "p50_ms": times.quantile(0.5), "p99_ms": times.quantile(0.99) });
        let row = |(what, row): (&str, &Row)| {
            serde_json::json!({
                "what": what, "with_hits": row.with_hits,
                "index": figures(&row.index), "fts5": figures(&row.fts5), "compared": figures(&row.compared),
            })
        };
        println!(
            "{}",
            serde_json::json!({
                "products": built.documents, "rows": each.map(row).collect::<Vec<_>>(),
                "reach_p99_ms": REACH_MS, "reached": p99 <= REACH_MS, "load": [load_before, &load()],
                "index": { "built_in_seconds": built.seconds, "bytes": built.bytes, "resident_bytes_grown": built.grown },
                "fts5": { "built_in_seconds": built.fts5_seconds, "bytes": built.fts5_bytes },
            })
        );
        return;
    }
    println!(
        "| p50 / p99 in ms, {} products | index | FTS5 | comparison of texts | with hits |",
        built.documents
    );
    println!("|---|---|---|---|---|");
    for (what, row) in each {
        let of = |times: &Times| format!("{:.2} / {:.2}", times.quantile(0.5), times.quantile(0.99));
        let percent = 100 * row.with_hits / row.index.0.len();
        let (index, fts5, compared) = (of(&row.index), of(&row.fts5), of(&row.compared));
        println!("| {what} | {index} | {fts5} | {compared} | {percent} % |");
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "\nIndex: built from the database in {:.1} s, {:.0} MiB; the process grew by {:.0} MiB. FTS5: filled in {:.1} s, {:.0} MiB.",
        built.seconds,
        mib(built.bytes),
        mib(built.grown),
        built.fts5_seconds,
        mib(built.fts5_bytes)
    );
    println!("{} requests of each kind, load before {load_before}, after {}.", options.requests, load());
    let verdict = if p99 <= REACH_MS { "reached" } else { "**not reached**" };
    println!("p99 of all {p99:.2} ms, reach ≤ {REACH_MS} ms: {verdict}");
}
