//! Pictures of a product in tables: what is stored, arranged, and swept.

use super::*;
use contracts::store::{Category, Variant};
use engines::clock::SteadyClock;
use units::Money;

fn said(en: &str, zh: &str) -> Localized {
    Localized { en: en.into(), zh: zh.into() }
}

async fn shelf() -> (Arc<Service>, tempfile::TempDir, ProductSlug) {
    let dir = tempfile::tempdir().unwrap();
    let sql = engines::sqlite::open(&dir.path().join("catalog.db")).unwrap();
    let service = Service::open(sql, Arc::new(SteadyClock::start())).await.unwrap();
    let all = Category { slug: "all".parse().unwrap(), name: said("All", "全部") };
    service.put_categories(vec![all]).await.unwrap();
    let price = Money { amount_minor: 1, currency: "CNY".parse().unwrap() };
    let variant =
        Variant { sku: "LAMP".parse().unwrap(), name: Localized::default(), price, offered_in: vec![] };
    let lamp = Product {
        slug: "lamp".parse().unwrap(),
        name: said("Lamp", "灯"),
        description: Localized::default(),
        category: "all".parse().unwrap(),
        variants: vec![variant],
        pictures: vec![],
        position: 1,
        is_published: true,
    };
    service.put(lamp.clone()).await.unwrap();
    (service, dir, lamp.slug)
}

/// A PNG of one colour.
fn png(side: u32, red: u8) -> Bytes {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let picture = image::RgbImage::from_pixel(side, side, image::Rgb([red, 0, 0]));
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner().into()
}

#[tokio::test]
async fn pictures_are_added_arranged_and_removed() {
    let (service, _dir, lamp) = shelf().await;
    let add =
        |upload, en: &'static str| service.add_picture("op".into(), lamp.clone(), upload, said(en, "图"));
    let first = add(png(700, 10), "First").await.unwrap();
    assert_eq!(first.sizes.iter().map(|of| of.width).collect::<Vec<_>>(), [320, 640, 700]);
    assert_eq!((first.width, first.height, &*first.path), (700, 700, &*first.sizes[2].path));
    let second = add(png(20, 20), "Second").await.unwrap();
    assert_eq!(second.sizes, [], "it has one size");
    // Sent again, it is the one that is there.
    assert_eq!(add(png(700, 10), "Other words").await, Ok(first.clone()));
    let stored = async || service.find(lamp.clone()).await.unwrap().unwrap().pictures;
    assert_eq!(stored().await, [first.clone(), second.clone()]);

    let (one, two) = (name_of(&first).to_owned(), name_of(&second).to_owned());
    let arrange = |names: Vec<&String>| {
        let wanted = names.into_iter().map(|name| (name.clone(), said("New", "新"))).collect();
        service.arrange_pictures("op".into(), lamp.clone(), (wanted, vec![]), None)
    };
    for wrong in [vec![], vec![&one], vec![&one, &one], vec![&one, &two, &one]] {
        assert!(matches!(arrange(wrong).await, Err(StoreError::Conflict(_))));
    }
    let arranged = arrange(vec![&two, &one]).await.unwrap();
    assert_eq!(arranged.iter().map(name_of).collect::<Vec<_>>(), [&two, &one]);
    assert_eq!((stored().await, &arranged[0].alt), (arranged.clone(), &said("New", "新")));

    // A form that was loaded before that changes nothing.
    let rest = async |seen: String| {
        let (kept, gone) = (vec![(one.clone(), said("1", "1"))], vec![two.clone()]);
        service.arrange_pictures("op".into(), lamp.clone(), (kept, gone), Some(seen)).await
    };
    let late = rest(mark_of(&[])).await;
    assert!(matches!(late, Err(StoreError::Conflict(ref why)) if why.contains("meanwhile")), "{late:?}");
    let rest = rest(mark_of(&arranged));
    assert_eq!(rest.await.unwrap().iter().map(name_of).collect::<Vec<_>>(), [&one]);
    add(png(20, 20), "Second").await.unwrap();
    assert_eq!(service.remove_picture("op".into(), lamp.clone(), one.clone()).await, Ok(true));
    assert_eq!(service.remove_picture("op".into(), lamp.clone(), one).await, Ok(false));
    assert_eq!(stored().await.len(), 1);
    let nothing: ProductSlug = "nothing".parse().unwrap();
    let lost = service.add_picture("op".into(), nothing.clone(), png(1, 1), Localized::default()).await;
    assert!(matches!(lost, Err(StoreError::NotFound(_))));
    assert!(matches!(service.remove_picture("op".into(), nothing, two).await, Err(StoreError::NotFound(_))));
}

#[tokio::test]
async fn a_product_has_twenty_pictures_and_shows_none_that_is_not_there() {
    let (service, _dir, lamp) = shelf().await;
    for red in 0..20 {
        service.add_picture("op".into(), lamp.clone(), png(2, red * 12), Localized::default()).await.unwrap();
    }
    let full = service.add_picture("op".into(), lamp.clone(), png(2, 250), Localized::default()).await;
    assert_eq!(full, Err(StoreError::Conflict("pictures: the product has 20 already".into())));
    let mut product = service.find(lamp).await.unwrap().unwrap();
    product.pictures[0].path = "/media/none.jpg".into();
    let put = service.put(product).await;
    let why = "pictures: there is no picture \"none.jpg\": upload it first";
    assert_eq!(put, Err(StoreError::Invalid(why.into())));
}

#[tokio::test]
async fn what_no_product_shows_is_swept_a_day_later() {
    let (service, _dir, lamp) = shelf().await;
    let kept =
        service.add_picture("op".into(), lamp.clone(), png(400, 1), Localized::default()).await.unwrap();
    let gone =
        service.add_picture("op".into(), lamp.clone(), png(400, 2), Localized::default()).await.unwrap();
    let drawing = service.put_svg("<svg/>".into()).await.unwrap();
    service.remove_picture("op".into(), lamp.clone(), name_of(&gone).to_owned()).await.unwrap();
    let now = service.clock.now();
    let is_there = async |name: &str| service.picture(name.to_owned()).await.unwrap().is_some();
    assert_eq!(service.sweep_pictures_once(TimeMs(now.0 + KEPT.0 / 2)).await, Ok(0));
    let late = TimeMs(now.0 + KEPT.0 + 10_000);
    // Both sizes of the one, and what was drawn and never shown.
    assert_eq!(service.sweep_pictures_once(late).await, Ok(3));
    assert!(is_there(name_of(&kept)).await && !is_there(name_of(&gone)).await);
    assert!(!is_there(drawing.trim_start_matches("/media/")).await);
    service.remove(lamp).await.unwrap();
    assert_eq!(service.sweep_pictures_once(TimeMs(late.0 + KEPT.0)).await, Ok(2));
    assert!(!is_there(name_of(&kept)).await);
}

#[tokio::test]
async fn pictures_of_products_that_an_earlier_version_stored_are_kept() {
    let (service, _dir, lamp) = shelf().await;
    let picture = service.add_picture("op".into(), lamp, png(400, 1), Localized::default()).await.unwrap();
    let emptied = service.sql.write(|tx| {
        tx.execute("DELETE FROM picture_uses", &[])?;
        tx.execute("UPDATE pictures SET unused_since = 1", &[])
    });
    emptied.await.unwrap();
    let late = TimeMs(service.clock.now().0 + 2 * KEPT.0);
    assert_eq!(service.sweep_pictures_once(late).await, Ok(0));
    assert!(service.picture(name_of(&picture).to_owned()).await.unwrap().is_some());
}
