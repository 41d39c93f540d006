//! Products as a sheet of comma-separated values (RFC 4180), a row for each variant, for a shop's
//! own tools. A sheet is taken as a whole or not at all; what is wrong is said by line and column.

use crate::rules;
use contracts::store::{Localized, Product, ProductSlug, Variant};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};
use units::{Currency, Money};
use web::{
    body::clip,
    sheet::{ERRORS_MAX, LineError, Rows, guarded},
};

/// The columns, in the order in which they are written. They are read in any order.
pub const COLUMNS: [&str; 13] = [
    "slug",
    "category",
    "name_en",
    "name_zh",
    "description_en",
    "description_zh",
    "position",
    "published",
    "sku",
    "variant_en",
    "variant_zh",
    "price",
    "currency",
];
/// Products of one sheet.
pub const PRODUCTS_MAX: usize = 20_000;

/// A price as people write it: `1999` or `1999.5` or `1999.50`.
pub fn parse_price(text: &str, currency: Currency) -> Option<u64> {
    let digits = currency.minor_digits() as usize;
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let has_point = text.contains('.');
    if whole.is_empty()
        || !is_number(whole)
        || !is_number(rest)
        || rest.len() > digits
        || has_point == rest.is_empty()
    {
        return None;
    }
    format!("{whole}{rest:0<digits$}").parse().ok()
}

/// The same sum as [`parse_price`] takes it.
pub fn written_price(price: Money) -> String {
    let written = price.to_string();
    written.split(' ').next().unwrap_or_default().to_owned()
}

/// Writes products, each variant in a row of its own.
pub fn write(products: &[Product], with_head: bool) -> Vec<u8> {
    let head = with_head.then(|| COLUMNS.map(Cow::from).to_vec());
    let rows = products.iter().flat_map(|product| {
        product.variants.iter().map(|variant| {
            vec![
                product.slug.as_str().into(),
                product.category.as_str().into(),
                guarded(&product.name.en),
                guarded(&product.name.zh),
                guarded(&product.description.en),
                guarded(&product.description.zh),
                product.position.to_string().into(),
                if product.is_published { "yes" } else { "no" }.into(),
                guarded(variant.sku.as_str()),
                guarded(&variant.name.en),
                guarded(&variant.name.zh),
                written_price(variant.price).into(),
                variant.price.currency.as_str().to_owned().into(),
            ]
        })
    });
    web::sheet::write(head.into_iter().chain(rows))
}

/// A sheet's product, and the line on which it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SheetProduct {
    pub line: u64,
    /// Without pictures and sales, which a sheet does not have.
    pub product: Product,
}

/// Reads a sheet. The rows of a product stand one after the other; what is of the product is read
/// from its first row.
pub fn read(bytes: &[u8], categories: &BTreeSet<ProductSlug>) -> Result<Vec<SheetProduct>, Vec<LineError>> {
    let mut rows = Rows::open(bytes, &COLUMNS, &[]).map_err(|error| vec![error])?;
    let (mut all, mut errors) = (Vec::<SheetProduct>::new(), Vec::new());
    let (mut slugs, mut skus) = (BTreeSet::new(), BTreeMap::<String, u64>::new());
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
        let (line, fields) = (row.line, std::array::from_fn(|column| row.field(column)));
        if let Err(why) = take(&mut all, &mut slugs, &mut skus, categories, line, fields) {
            errors.push(LineError { line, why });
        }
        if all.len() > PRODUCTS_MAX {
            errors.push(LineError { line, why: format!("want {PRODUCTS_MAX} products at the most") });
            break;
        }
    }
    for SheetProduct { line, product } in &all {
        if errors.len() < ERRORS_MAX
            && let Err(why) = rules::product(product)
        {
            errors.push(LineError { line: *line, why });
        }
    }
    errors.sort_by_key(|error| error.line);
    if all.is_empty() && errors.is_empty() {
        return Err(vec![LineError { line: 1, why: "there is no product in it".into() }]);
    }
    if errors.is_empty() { Ok(all) } else { Err(errors) }
}

fn take(
    all: &mut Vec<SheetProduct>,
    slugs: &mut BTreeSet<ProductSlug>,
    skus: &mut BTreeMap<String, u64>,
    categories: &BTreeSet<ProductSlug>,
    line: u64,
    fields: [&str; 13],
) -> Result<(), String> {
    let [
        slug,
        category,
        name_en,
        name_zh,
        about_en,
        about_zh,
        position,
        published,
        sku,
        variant_en,
        variant_zh,
        price,
        currency,
    ] = fields;
    let slug: ProductSlug = slug.parse().map_err(|error| format!("slug: {error}"))?;
    let currency: Currency = currency.parse().map_err(|error| format!("currency: {error}"))?;
    let amount_minor = parse_price(price, currency).ok_or_else(|| {
        format!(
            "price: {:?}, want a sum such as 1999.00, with at most {} digits behind the point",
            clip(price),
            currency.minor_digits()
        )
    })?;
    let sku_of = sku.parse().map_err(|error| format!("sku: {error}"))?;
    if let Some(before) = skus.insert(sku.to_owned(), line) {
        return Err(format!("sku: {sku} stands in line {before} too"));
    }
    let said = |en: &str, zh: &str| Localized { en: en.to_owned(), zh: zh.to_owned() };
    let variant = Variant {
        sku: sku_of,
        name: said(variant_en, variant_zh),
        price: Money { amount_minor, currency },
        offered_in: Vec::new(),
    };
    if let Some(last) = all.last_mut().filter(|last| last.product.slug == slug) {
        last.product.variants.push(variant);
        return Ok(());
    }
    if !slugs.insert(slug.clone()) {
        return Err(format!("slug: the rows of {slug} do not stand one after the other"));
    }
    let category: ProductSlug = category.parse().map_err(|error| format!("category: {error}"))?;
    if !categories.contains(&category) {
        return Err(format!("category: there is no category {category}"));
    }
    let position = position
        .parse()
        .map_err(|_| format!("position: {:?}, want a number from 0 to {}", clip(position), u32::MAX))?;
    let is_published = match published {
        "yes" => true,
        "no" => false,
        other => return Err(format!("published: {:?}, want yes or no", clip(other))),
    };
    all.push(SheetProduct {
        line,
        product: Product {
            slug,
            name: said(name_en, name_zh),
            description: said(about_en, about_zh),
            category,
            variants: vec![variant],
            pictures: Vec::new(),
            position,
            is_published,
        },
    });
    Ok(())
}

/// Keeps what a sheet does not have of the product that it is put in the place of.
pub fn keep(new: &mut Product, old: &Product) {
    new.pictures.clone_from(&old.pictures);
    for variant in &mut new.variants {
        if let Some(of) = old.variants.iter().find(|of| of.sku == variant.sku) {
            variant.offered_in.clone_from(&of.offered_in);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn categories() -> BTreeSet<ProductSlug> {
        BTreeSet::from(["phones".parse().unwrap()])
    }

    const HEAD: &str = "slug,category,name_en,name_zh,description_en,description_zh,position,published,sku,variant_en,variant_zh,price,currency\n";

    fn errors(sheet: &str) -> Vec<String> {
        let errors = read(sheet.as_bytes(), &categories()).unwrap_err();
        errors.iter().map(|error| format!("{}: {}", error.line, error.why)).collect()
    }

    #[test]
    fn a_sheet_that_was_written_is_read_as_the_same_products() {
        let sheet = format!(
            "\u{feff}{HEAD}phone,phones,\"Phone, \"\"the\"\" one\",手机,\"Line one\n\nline two\",会响,3,yes,P-1,Black,黑色,1999,CNY\n\
             phone,phones,,,,,,,P-2,White,白色,1999.5,CNY\ncase,phones,'=SUM(1),壳,,,4,no,C-1,,,0.05,CNY\n"
        );
        let read_once = read(sheet.as_bytes(), &categories()).unwrap();
        assert_eq!(read_once.len(), 2);
        assert_eq!((read_once[0].line, read_once[1].line), (2, 6));
        let phone = &read_once[0].product;
        assert_eq!(phone.name.en, "Phone, \"the\" one");
        let prices: Vec<u64> = phone.variants.iter().map(|of| of.price.amount_minor).collect();
        assert_eq!(prices, [199_900, 199_950]);
        assert_eq!(read_once[1].product.name.en, "=SUM(1)");
        let products: Vec<Product> = read_once.into_iter().map(|of| of.product).collect();
        let written = write(&products, true);
        assert!(String::from_utf8_lossy(&written).contains("'=SUM(1)"), "no spreadsheet runs it");
        let again: Vec<Product> =
            read(&written, &categories()).unwrap().into_iter().map(|of| of.product).collect();
        assert_eq!(again, products);
    }

    #[test]
    fn what_is_wrong_is_said_by_line_and_column() {
        let row = "phone,phones,Phone,手机,,,3,yes,P-1,,,1999,CNY\n";
        let with = |rows: &str| errors(&format!("{HEAD}{rows}"));
        assert_eq!(
            errors(""),
            [
                "1: these columns are missing: slug, category, name_en, name_zh, description_en, description_zh, position, published, sku, variant_en, variant_zh, price, currency"
            ]
        );
        assert_eq!(errors("slug;category\n"), ["1: the columns are separated by \";\": want commas"]);
        assert_eq!(errors(HEAD), ["1: there is no product in it"]);
        assert_eq!(
            with(&row.replace("1999", "-1")),
            ["2: price: \"-1\", want a sum such as 1999.00, with at most 2 digits behind the point"]
        );
        assert_eq!(
            with(&row.replace("1999", "0")),
            ["2: variants[0].price.amount_minor: 0, want 1 to 1000000000000"]
        );
        assert_eq!(with(&row.replace("yes", "ja")), ["2: published: \"ja\", want yes or no"]);
        assert_eq!(with(&row.replace("phones", "cars")), ["2: category: there is no category cars"]);
        assert_eq!(with("a,b\n"), ["2: 2 columns, want 13"]);
        let twice = format!("{row}{}", row.replace("phone,", "case,"));
        assert_eq!(with(&twice), ["3: sku: P-1 stands in line 2 too"]);
        let apart = format!("{row}case,phones,Case,壳,,,3,yes,C-1,,,1,CNY\n{}", row.replace("P-1", "P-2"));
        assert_eq!(with(&apart), ["4: slug: the rows of phone do not stand one after the other"]);
        // All of them are said at once, to a limit.
        let many = row.replace("yes", "ja").repeat(1000);
        assert_eq!(with(&many).len(), ERRORS_MAX);
        let bytes = [HEAD.as_bytes(), b"phone,\xff,"].concat();
        assert_eq!(read(&bytes, &categories()).unwrap_err()[0].why, "want UTF-8");
    }

    #[test]
    fn prices_are_read_as_they_are_written() {
        let of = |text: &str, code: &str| parse_price(text, code.parse().unwrap());
        for (text, code, want) in [
            ("1999", "CNY", Some(199_900)),
            ("0.5", "CNY", Some(50)),
            ("1999", "JPY", Some(1999)),
            ("1.234", "KWD", Some(1234)),
            ("1.5", "JPY", None),
            ("1.234", "CNY", None),
            ("1.", "CNY", None),
            (".5", "CNY", None),
            ("1,5", "CNY", None),
            ("1e3", "CNY", None),
            ("+1", "CNY", None),
            ("99999999999999999999", "CNY", None),
            ("", "CNY", None),
        ] {
            assert_eq!(of(text, code), want, "{text} {code}");
        }
    }
}
