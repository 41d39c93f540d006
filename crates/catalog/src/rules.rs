//! Which products and categories are taken. The error names the field, and what is wanted.

use contracts::store::{Category, Localized, Product};
use std::collections::BTreeSet;

/// Characters of a name, and of a description.
pub const NAME_MAX: usize = 120;
pub const DESCRIPTION_MAX: usize = 10_000;
/// Variants and pictures of one product.
pub const VARIANTS_MAX: usize = 100;
pub const PICTURES_MAX: usize = 20;
/// Sales of one variant.
pub const SALES_MAX: usize = 10;
/// A price in minor units: far from where sums of a cart could overflow.
pub const PRICE_MINOR_MAX: u64 = 1_000_000_000_000;
/// Pixels of a picture's side.
const SIDE_MAX: u32 = 10_000;
/// Sizes of a picture.
const SIZES_MAX: usize = 10;

fn text(what: &str, text: &Localized, min: usize, max: usize) -> Result<(), String> {
    for (language, text) in [("en", &text.en), ("zh", &text.zh)] {
        let count = text.chars().count();
        if !(min..=max).contains(&count) {
            return Err(format!("{what}.{language}: {count} characters, want {min} to {max}"));
        }
        if text.chars().any(|c| c.is_control() && c != '\n') {
            return Err(format!("{what}.{language}: a control character"));
        }
    }
    Ok(())
}

/// Whether a picture's text is one.
pub fn alt(alt: &Localized) -> Result<(), String> {
    text("alt", alt, 0, NAME_MAX)
}

/// Whether the category is one.
pub fn category(category: &Category) -> Result<(), String> {
    text("name", &category.name, 1, NAME_MAX)
}

/// Whether the product is one.
pub fn product(product: &Product) -> Result<(), String> {
    text("name", &product.name, 1, NAME_MAX)?;
    text("description", &product.description, 0, DESCRIPTION_MAX)?;
    let (variants, pictures) = (product.variants.len(), product.pictures.len());
    if !(1..=VARIANTS_MAX).contains(&variants) {
        return Err(format!("variants: {variants}, want 1 to {VARIANTS_MAX}"));
    }
    if pictures > PICTURES_MAX {
        return Err(format!("pictures: {pictures}, want {PICTURES_MAX} at the most"));
    }
    let currency = product.variants[0].price.currency;
    let mut skus = BTreeSet::new();
    for (at, variant) in product.variants.iter().enumerate() {
        text(&format!("variants[{at}].name"), &variant.name, usize::from(variants > 1), NAME_MAX)?;
        let price = variant.price;
        if !(1..=PRICE_MINOR_MAX).contains(&price.amount_minor) {
            let got = price.amount_minor;
            return Err(format!("variants[{at}].price.amount_minor: {got}, want 1 to {PRICE_MINOR_MAX}"));
        }
        if !price.currency.is_listed() {
            return Err(format!("variants[{at}].price.currency: {:?} is not in ISO 4217", price.currency));
        }
        if price.currency != currency {
            return Err(format!(
                "variants[{at}].price.currency: all variants of a product have one currency"
            ));
        }
        if variant.offered_in.len() > SALES_MAX {
            return Err(format!("variants[{at}].offered_in: want {SALES_MAX} sales at the most"));
        }
        if !skus.insert(&variant.sku) {
            return Err(format!("variants[{at}].sku: {} is there twice", variant.sku));
        }
    }
    for (at, picture) in product.pictures.iter().enumerate() {
        text(&format!("pictures[{at}].alt"), &picture.alt, 0, NAME_MAX)?;
        if !picture.path.starts_with("/media/") {
            return Err(format!("pictures[{at}].path: want a picture that was uploaded, /media/…"));
        }
        if !(1..=SIDE_MAX).contains(&picture.width) || !(1..=SIDE_MAX).contains(&picture.height) {
            return Err(format!("pictures[{at}]: width and height: want 1 to {SIDE_MAX} pixels"));
        }
        if picture.sizes.len() > SIZES_MAX {
            return Err(format!("pictures[{at}].sizes: want {SIZES_MAX} at the most"));
        }
        for size in &picture.sizes {
            if !size.path.starts_with("/media/") || !(1..=SIDE_MAX).contains(&size.width) {
                return Err(format!(
                    "pictures[{at}].sizes: want paths, /media/…, and widths of 1 to {SIDE_MAX}"
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::store::{Picture, PictureSize, Variant};
    use units::Money;

    fn phone() -> Product {
        let said = |en: &str, zh: &str| Localized { en: en.into(), zh: zh.into() };
        let price = Money { amount_minor: 199_900, currency: "CNY".parse().unwrap() };
        let variant =
            |sku: &str, name| Variant { sku: sku.parse().unwrap(), name, price, offered_in: vec![] };
        let alt = said("The phone", "手机");
        Product {
            slug: "phone".parse().unwrap(),
            name: said("Phone", "手机"),
            description: said("It rings.\n\nOften.", "会响。"),
            category: "phones".parse().unwrap(),
            variants: vec![variant("P-1", said("Black", "黑色")), variant("P-2", said("White", "白色"))],
            pictures: vec![Picture {
                path: "/media/a.svg".into(),
                width: 10,
                height: 10,
                alt,
                sizes: vec![],
            }],
            position: 0,
            is_published: true,
        }
    }

    #[test]
    fn what_is_wrong_with_a_product_is_named() {
        assert_eq!(product(&phone()), Ok(()));
        let check = |change: fn(&mut Product), want: &str| {
            let mut changed = phone();
            change(&mut changed);
            assert_eq!(product(&changed), Err(want.to_owned()));
        };
        check(|p| p.name.zh.clear(), "name.zh: 0 characters, want 1 to 120");
        check(|p| p.description.en.push('\u{1b}'), "description.en: a control character");
        check(|p| p.variants.clear(), "variants: 0, want 1 to 100");
        check(|p| p.variants[1].name.en.clear(), "variants[1].name.en: 0 characters, want 1 to 120");
        check(
            |p| p.variants[1].price.amount_minor = 0,
            "variants[1].price.amount_minor: 0, want 1 to 1000000000000",
        );
        check(
            |p| p.variants[0].price.currency = "ABC".parse().unwrap(),
            "variants[0].price.currency: ABC is not in ISO 4217",
        );
        check(
            |p| p.variants[1].price.currency = "EUR".parse().unwrap(),
            "variants[1].price.currency: all variants of a product have one currency",
        );
        check(|p| p.variants[1].sku = p.variants[0].sku.clone(), "variants[1].sku: P-1 is there twice");
        check(
            |p| p.pictures[0].path = "https://elsewhere.example/a.svg".into(),
            "pictures[0].path: want a picture that was uploaded, /media/…",
        );
        check(|p| p.pictures[0].width = 0, "pictures[0]: width and height: want 1 to 10000 pixels");
        check(
            |p| p.pictures[0].sizes.push(PictureSize { path: "//elsewhere".into(), width: 1 }),
            "pictures[0].sizes: want paths, /media/…, and widths of 1 to 10000",
        );
    }
}
