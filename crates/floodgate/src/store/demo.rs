//! The demo's catalogue and stock: forty products in two languages, of which two are sold in the
//! sale `demo`.

use super::pictures::{
    SIDE,
    Shape::{
        self, Bag, Band, Battery, Cable, Camera, Case, Earbuds, Headphones, Kettle, Lamp, Laptop, Phone,
        Plug, Speaker, Tablet, Watch,
    },
    draw,
};
use catalog::service::Service;
use contracts::{
    Actor, ItemPicture, SaleId,
    store::{Category, Localized, OfferedIn, Picture, Product, ProductSlug, StoreError, Variant},
};
use inventory::service::Service as Stock;
use units::Money;

const CATEGORIES: [(&str, &str, &str); 6] = [
    ("phones", "Phones", "手机"),
    ("audio", "Audio", "音频"),
    ("wearables", "Wearables", "穿戴"),
    ("computers", "Computers", "电脑平板"),
    ("home", "Smart home", "智能家居"),
    ("accessories", "Accessories", "配件"),
];

/// Slug, category, names, price in fen, picture with its hue, and a sentence in both languages.
type Row = (&'static str, &'static str, [&'static str; 2], u64, Shape, u16, [&'static str; 2]);

#[rustfmt::skip]
const PRODUCTS: [Row; 40] = [
    ("flood-one", "phones", ["Flood One", "激流 One"], 199_900, Phone, 14, ["A bright 6.4-inch screen, two days of battery, and one price for everybody. In its launch sale, reloading the page gains nothing. Have an account before it opens.", "6.4 英寸明亮屏幕，两天续航，人人同价。首发抢购中，反复刷新不占便宜。请提前注册账户。"]),
    ("flood-buds", "audio", ["Flood Buds", "激流耳机"], 29_900, Earbuds, 200, ["Earbuds that stay in, and thirty hours in the case.", "佩戴稳固，配合充电盒续航三十小时。"]),
    ("brook-mini", "phones", ["Brook Mini", "小溪 Mini"], 129_900, Phone, 160, ["A small phone for one hand.", "单手可握的小屏手机。"]),
    ("brook-plus", "phones", ["Brook Plus", "小溪 Plus"], 159_900, Phone, 220, ["A larger screen, the same weight.", "更大的屏幕，同样的重量。"]),
    ("canal-fold", "phones", ["Canal Fold", "运河 Fold"], 599_900, Phone, 265, ["Folds flat, opens to a tablet.", "合上是手机，展开是平板。"]),
    ("delta-play", "phones", ["Delta Play", "三角洲 Play"], 249_900, Phone, 330, ["Cooling and a fast screen for games.", "强劲散热与高刷屏，畅快游戏。"]),
    ("ebb-lite", "phones", ["Ebb Lite", "潮汐 Lite"], 79_900, Phone, 45, ["All that a first phone needs.", "第一部手机，够用就好。"]),
    ("fjord-pro", "phones", ["Fjord Pro", "峡湾 Pro"], 449_900, Phone, 190, ["Three cameras, and a frame of steel.", "三摄影像，不锈钢边框。"]),
    ("bay-headphones", "audio", ["Bay Headphones", "海湾头戴耳机"], 89_900, Headphones, 220, ["Quiet around you, for a whole flight.", "长途飞行，安静相伴。"]),
    ("cove-speaker", "audio", ["Cove Speaker", "小湾音箱"], 39_900, Speaker, 170, ["Fills a room, fits on a shelf.", "小巧身材，满屋好声音。"]),
    ("drip-buds", "audio", ["Drip Buds", "水滴耳机"], 12_900, Earbuds, 100, ["Light earbuds for every day.", "轻巧日常耳机。"]),
    ("echo-bar", "audio", ["Echo Soundbar", "回声条形音箱"], 129_900, Speaker, 260, ["Voices become clear, films become large.", "人声清晰，影院气势。"]),
    ("foam-headphones", "audio", ["Foam Headphones", "浪花头戴耳机"], 49_900, Headphones, 340, ["Soft on the ears, for hours.", "久戴舒适。"]),
    ("gulf-party", "audio", ["Gulf Party Speaker", "海湾派对音箱"], 199_900, Speaker, 14, ["Loud enough for the yard.", "院子里也够响。"]),
    ("basin-watch", "wearables", ["Basin Watch", "盆地手表"], 99_900, Watch, 210, ["A week of battery, and a map on the wrist.", "一周续航，腕上地图。"]),
    ("creek-band", "wearables", ["Creek Band", "小河手环"], 19_900, Band, 150, ["Counts steps, sleep and heartbeats.", "记录步数、睡眠与心率。"]),
    ("dam-watch-pro", "wearables", ["Dam Watch Pro", "水坝手表 Pro"], 179_900, Watch, 30, ["Titanium, and a dive computer.", "钛金属表壳，潜水表功能。"]),
    ("eddy-band-kids", "wearables", ["Eddy Band for Kids", "漩涡儿童手环"], 14_900, Band, 50, ["Calls home with one press.", "一键呼叫家人。"]),
    ("flow-scale", "wearables", ["Flow Body Scale", "清流体脂秤"], 16_900, Tablet, 180, ["Knows the whole family.", "全家人都能识别。"]),
    ("cape-book", "computers", ["Cape Book 14", "海角笔记本 14"], 499_900, Laptop, 215, ["A kilogram, and a day without a plug.", "一公斤，全天续航。"]),
    ("cape-book-pro", "computers", ["Cape Book Pro 16", "海角笔记本 Pro 16"], 799_900, Laptop, 250, ["For films, code and long evenings.", "剪辑、编程、深夜加班。"]),
    ("lagoon-pad", "computers", ["Lagoon Pad", "碧湖平板"], 219_900, Tablet, 195, ["Eleven inches to read, draw and watch.", "十一英寸，阅读绘画观影。"]),
    ("lagoon-pad-mini", "computers", ["Lagoon Pad Mini", "碧湖平板 Mini"], 149_900, Tablet, 280, ["A book that is every book.", "一本装下所有书的书。"]),
    ("marsh-keyboard", "computers", ["Marsh Keyboard", "湿地键盘"], 29_900, Laptop, 120, ["Quiet keys with a deep travel.", "安静而有手感的键程。"]),
    ("harbour-lamp", "home", ["Harbour Desk Lamp", "港湾台灯"], 16_900, Lamp, 40, ["Even light, and no flicker.", "光线均匀，无频闪。"]),
    ("inlet-kettle", "home", ["Inlet Kettle", "海湾电水壶"], 19_900, Kettle, 10, ["Boils to the degree.", "精准控温。"]),
    ("jetty-camera", "home", ["Jetty Camera", "栈桥摄像头"], 24_900, Camera, 205, ["Watches the door. Footage stays at home.", "看好家门，数据留在家里。"]),
    ("kelp-light", "home", ["Kelp Light", "海藻氛围灯"], 12_900, Lamp, 130, ["Any colour of evening.", "傍晚的每一种颜色。"]),
    ("ledge-router", "home", ["Ledge Router", "岩架路由器"], 39_900, Plug, 230, ["Reaches the last room.", "信号直达最里间。"]),
    ("mist-humidifier", "home", ["Mist Humidifier", "薄雾加湿器"], 22_900, Kettle, 190, ["Clean, quiet air in winter.", "冬日里安静洁净的空气。"]),
    ("oasis-purifier", "home", ["Oasis Purifier", "绿洲净化器"], 99_900, Speaker, 150, ["A clear room in ten minutes.", "十分钟净化一室。"]),
    ("anchor-cable", "accessories", ["Anchor Cable", "船锚编织数据线"], 3_900, Cable, 25, ["Two metres, and it does not fray.", "两米编织线，不易磨损。"]),
    ("buoy-battery", "accessories", ["Buoy Power Bank", "浮标移动电源"], 14_900, Battery, 260, ["Three charges in a pocket.", "口袋里的三次满电。"]),
    ("chart-case", "accessories", ["Chart Case for Flood One", "激流 One 海图保护壳"], 6_900, Case, 14, ["Takes the fall.", "替手机挨摔。"]),
    ("dock-charger", "accessories", ["Dock Charger 67 W", "船坞充电器 67W"], 12_900, Plug, 60, ["Full in forty minutes.", "四十分钟充满。"]),
    ("fender-case", "accessories", ["Fender Case for Brook", "小溪护舷保护壳"], 4_900, Case, 160, ["Soft corners, firm grip.", "软角防摔，握感扎实。"]),
    ("galley-bag", "accessories", ["Galley Backpack", "船舱双肩包"], 19_900, Bag, 215, ["A laptop, a lunch, and rain outside.", "装下电脑和午饭，不怕雨。"]),
    ("helm-mount", "accessories", ["Helm Car Mount", "船舵车载支架"], 8_900, Plug, 300, ["Holds on rough roads.", "颠簸路面也稳固。"]),
    ("keel-stand", "accessories", ["Keel Charging Stand", "龙骨充电支架"], 15_900, Plug, 180, ["Charges your phone while you use it.", "边看边充。"]),
    ("mast-stick", "accessories", ["Mast Tripod", "桅杆三脚架"], 9_900, Lamp, 280, ["A steady hand that folds.", "可折叠的稳定支撑。"]),
];

/// The demo's sale, and what it offers, by product.
const SALE: &str = "demo";
const IN_SALE: [(&str, &str); 2] = [("flood-one", "phone"), ("flood-buds", "earbuds")];

/// The picture of what the demo's sale sells, as the shop at this origin has it: the catalogue
/// names a drawing by its hash.
pub(crate) fn picture_in_sale(origin: &str, item: &str) -> Option<ItemPicture> {
    let (product, _) = IN_SALE.iter().find(|(_, of)| *of == item)?;
    let (_, _, [en, zh], _, shape, hue, _) = PRODUCTS.iter().find(|row| row.0 == *product)?;
    let name = &blake3::hash(draw(*shape, *hue).as_bytes()).to_hex()[..32];
    let url = format!("{origin}/media/{name}.svg");
    let (alt, alt_zh) = ((*en).to_owned(), Some((*zh).to_owned()));
    let picture = ItemPicture { url, width: SIDE, height: SIDE, alt, alt_zh };
    // The shop may be at an address that a sale's document does not take.
    picture.is_good().then_some(picture)
}

/// SKUs of which there is little, and nothing; of all others there are 20 to 200 units, and of what
/// is in the sale as many more as it sells.
const SCARCE: [(&str, u64); 2] = [("helm-mount", 3), ("mast-stick", 0)];

/// Puts units on the shelves, of each product that the stock does not know: what was sold since is
/// not put there again. What the sale sells is claimed for it.
pub(super) async fn fill_stock(stock: &Stock, in_sale: u64) -> Result<(), StoreError> {
    let wrong = |error: &dyn std::fmt::Display| StoreError::Invalid(format!("the demo's stock: {error}"));
    let sale: SaleId = SALE.parse().map_err(|error| wrong(&error))?;
    for (number, row) in (0u64..).zip(PRODUCTS) {
        let scarce = SCARCE.iter().find(|(scarce, _)| *scarce == row.0).map(|(_, units)| *units);
        let units = scarce.unwrap_or(20 + number * 67 % 181);
        let is_in_sale = IN_SALE.iter().any(|(product, _)| *product == row.0);
        let claim = is_in_sale.then(|| (sale.clone(), in_sale));
        let sku = row.0.to_uppercase().parse().map_err(|error| wrong(&error))?;
        let by = Actor::new(Actor::DEMO, "the demo's stock");
        stock.open_with(by, sku, units + claim.as_ref().map_or(0, |(_, units)| *units), claim).await?;
    }
    Ok(())
}

/// Puts into the catalogue what is not there: a kill may have left a part of it.
pub(super) async fn fill(catalog: &Service) -> Result<(), StoreError> {
    let said = |en: &str, zh: &str| Localized { en: en.into(), zh: zh.into() };
    let wrong = |error: &dyn std::fmt::Display| StoreError::Invalid(format!("the demo's catalogue: {error}"));
    let categories = CATEGORIES.iter().map(|(slug, en, zh)| {
        Ok(Category { slug: slug.parse().map_err(|error| wrong(&error))?, name: said(en, zh) })
    });
    catalog.put_categories(categories.collect::<Result<_, StoreError>>()?).await?;
    let currency = "CNY".parse().map_err(|error| wrong(&error))?;
    for (position, row) in (1..).zip(PRODUCTS) {
        let (slug, category, [en, zh], amount_minor, shape, hue, [about_en, about_zh]) = row;
        let slug = slug.parse().map_err(|error| wrong(&error))?;
        if catalog.find(ProductSlug::clone(&slug)).await?.is_some() {
            continue;
        }
        let path = catalog.put_svg(draw(shape, hue)).await?;
        let offered = IN_SALE.iter().find(|(product, _)| *product == slug.as_str()).map(|(_, item)| *item);
        let offered_in = match offered {
            Some(item) => vec![OfferedIn {
                sale: SALE.parse().map_err(|error| wrong(&error))?,
                item: item.parse().map_err(|error| wrong(&error))?,
            }],
            None => Vec::new(),
        };
        let variant = Variant {
            sku: slug.as_str().to_uppercase().parse().map_err(|error| wrong(&error))?,
            name: Localized::default(),
            price: Money { amount_minor, currency },
            offered_in,
        };
        let picture = Picture { path, width: SIDE, height: SIDE, alt: said(en, zh), sizes: Vec::new() };
        let product = Product {
            slug,
            name: said(en, zh),
            description: said(about_en, about_zh),
            category: category.parse().map_err(|error| wrong(&error))?,
            variants: vec![variant],
            pictures: vec![picture],
            position,
            is_published: true,
        };
        catalog.put(product).await?;
    }
    Ok(())
}
