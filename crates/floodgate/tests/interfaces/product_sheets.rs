//! Ten thousand products in one sheet: a wrong line is named and nothing is stored; a right one is
//! stored whole, and comes out as it went in.

use crate::harness::{Server, Setup, http::Reply, poll};
use std::fmt::Write as _;

const PRODUCTS: usize = 10_000;
const HEAD: &str = "slug,category,name_en,name_zh,description_en,description_zh,position,published,sku,variant_en,\
                    variant_zh,price,currency\n";

/// A sheet whose line `wrong` has no price; line 1 has the names of the columns.
fn sheet(wrong: Option<usize>) -> String {
    let mut text = HEAD.to_owned();
    for number in 0..PRODUCTS {
        let price = if wrong == Some(number + 2) { "cheap" } else { "12.50" };
        writeln!(text, "lamp-{number:05},lamps,Lamp {number},灯 {number},\"Bright, and \"\"small\"\"\",明亮,{number},yes,LAMP-{number:05},White,白色,{price},CNY")
            .unwrap();
    }
    text
}

#[test]
fn ten_thousand_products_come_and_go_by_one_sheet() {
    let settings = "[store]\nlisten = \"127.0.0.1:0\"\n".to_owned();
    let server = Server::with(Setup { settings, ..Setup::default() });
    let key = server.new_key("op", "operator");
    let url = |path: &str| format!("http://{}/api/v1/store{path}", server.store);
    let get = |path: &str| server.client.admin("GET", &url(path), &key, "");
    poll("the store is open", || (get("/products").status == 200).then_some(()));
    let lamps = r#"{"categories":[{"slug":"lamps","name":{"en":"Lamps","zh":"灯"}}]}"#;
    assert_eq!(server.client.admin("PUT", &url("/categories"), &key, lamps).status, 200);
    let bearer = format!("Bearer {key}");
    let send = |text: &str| -> Reply {
        let fields = [("authorization", &*bearer), ("content-type", "text/csv")];
        server.client.send("POST", &url("/product-sheet"), &fields, text)
    };
    let wrong = send(&sheet(Some(9_999)));
    assert_eq!(wrong.status, 422, "{wrong:?}");
    assert!(wrong.body.contains("line 9999: price"), "{wrong:?}");
    let empty = get("/product-sheet");
    assert_eq!(empty.body.lines().count(), 1, "nothing is stored: {empty:?}");
    let stored = send(&sheet(None)).json();
    assert_eq!(stored["stored"], PRODUCTS, "{stored}");
    let exported = get("/product-sheet").body;
    assert_eq!(exported.lines().count(), PRODUCTS + 1);
    assert!(exported.lines().any(|line| line.contains("lamp-09999") && line.contains("12.50")));
    // What came out goes in, and changes nothing.
    let again = send(&exported).json();
    assert_eq!(again["stored"], PRODUCTS, "{again}");
    assert_eq!(get("/product-sheet").body, exported);
}
