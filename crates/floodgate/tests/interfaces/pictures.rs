//! Pictures of products: uploaded by the API and by the console's form, shown in several sizes, and
//! what is refused.

use crate::{
    harness::{Server, Setup, http::Reply, poll, stdout},
    store::{Shopper, form_token},
};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use serde_json::{Value, json};
use std::io::{Cursor, Read};

const BINARY: (&str, &str) = ("content-type", "application/octet-stream");

fn picture(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let blue = u8::try_from(width % 251).unwrap();
    let of = |at: u32, whole: u32| u8::try_from(at * 255 / whole).unwrap();
    let drawn = RgbImage::from_fn(width, height, |x, y| Rgb([of(x, width), of(y, height), blue]));
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(drawn).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// The checksum of a chunk of a PNG.
fn crc_of(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

struct Shelf {
    server: Server,
    operator: String,
}

impl Shelf {
    /// A shop with a lamp.
    fn open() -> Self {
        let settings = "[store]\nlisten = \"127.0.0.1:0\"\n".to_owned();
        let server = Server::with(Setup { settings, ..Setup::default() });
        let operator = server.new_key("op", "operator");
        let shelf = Self { server, operator };
        let lamps = json!({ "categories": [{ "slug": "lamps", "name": { "en": "Lamps", "zh": "灯" } }] });
        poll("the store is open", || (shelf.ask("PUT", "/categories", &lamps).status == 200).then_some(()));
        let lamp = json!({
            "slug": "lamp", "name": { "en": "Lamp", "zh": "台灯" }, "description": { "en": "", "zh": "" },
            "category": "lamps", "pictures": [], "position": 1, "is_published": true,
            "variants": [{
                "sku": "LAMP-1", "name": { "en": "", "zh": "" }, "price": { "amount_minor": 100, "currency": "EUR" },
                "offered_in": [],
            }],
        });
        assert_eq!(shelf.ask("PUT", "/products/lamp", &lamp).status, 200);
        shelf
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/api/v1/store{path}", self.server.store)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.server.client.admin(method, &self.url(path), &self.operator, &body.to_string())
    }

    fn upload_as(&self, key: &str, path: &str, bytes: &[u8]) -> Reply {
        let bearer = format!("Bearer {key}");
        let fields = [BINARY, ("authorization", &*bearer)];
        self.server.client.try_send_bytes("POST", &self.url(path), &fields, bytes).unwrap()
    }

    fn upload(&self, bytes: &[u8]) -> Reply {
        self.upload_as(&self.operator, "/products/lamp/pictures?alt_en=A+lamp&alt_zh=一盏灯", bytes)
    }

    fn pictures(&self) -> Vec<Value> {
        self.ask("GET", "/products/lamp/pictures", &json!({})).json()["pictures"].as_array().unwrap().clone()
    }

    /// Its type, and its bytes.
    fn media(&self, path: &str) -> Vec<u8> {
        let url = format!("http://{}{path}", self.server.store);
        let mut bytes = Vec::new();
        self.server.client.open(&url, &[]).read_to_end(&mut bytes).unwrap();
        bytes
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn each_format_is_taken_and_shown_in_several_sizes_without_a_shift() {
    let shelf = Shelf::open();
    for (format, width) in [(ImageFormat::Jpeg, 1500), (ImageFormat::Png, 1501), (ImageFormat::WebP, 1502)] {
        let reply = shelf.upload(&picture(width, 1000, format));
        assert_eq!(reply.status, 200, "{reply:?}");
        let made = reply.json();
        let widths: Vec<_> =
            made["sizes"].as_array().unwrap().iter().map(|of| of["width"].as_u64()).collect();
        assert_eq!(widths, [Some(320), Some(640), Some(1280)]);
        assert_eq!((&made["width"], &made["alt"]["zh"]), (&json!(1280), &json!("一盏灯")));
        for size in made["sizes"].as_array().unwrap() {
            let bytes = shelf.media(text(&size["path"]));
            assert_eq!(image::guess_format(&bytes).unwrap(), ImageFormat::Jpeg);
            let again = image::load_from_memory(&bytes).unwrap();
            assert_eq!(Some(u64::from(again.width())), size["width"].as_u64());
        }
    }
    let pictures = shelf.pictures();
    assert_eq!(pictures.len(), 3);
    // How it is served.
    let path = text(&pictures[0]["path"]);
    let url = format!("http://{}{path}", shelf.server.store);
    let client = &shelf.server.client;
    let head = client.send("HEAD", &url, &[], "");
    let tag = format!("\"{}\"", path.trim_start_matches("/media/"));
    assert_eq!((head.status, head.header("etag"), head.header("content-type")), (200, &*tag, "image/jpeg"));
    assert_eq!(head.header("x-content-type-options"), "nosniff");
    assert_eq!(head.header("cache-control"), "public, max-age=31536000, immutable");
    let known = client.send("GET", &url, &[("if-none-match", &tag)], "");
    assert_eq!((known.status, &*known.body), (304, ""));
    assert_eq!(client.get(&format!("http://{}/media/none.jpg", shelf.server.store)).status, 404);
    // How it is shown.
    let visitor = Shopper::stranger(&shelf.server);
    let page = visitor.get("/p/lamp").body;
    for want in [
        "srcset=\"/media/",
        " 320w, /media/",
        " 1280w\"",
        "sizes=\"",
        "width=\"1280\" height=\"853\"",
        "loading=\"eager\"",
        "loading=\"lazy\"",
        "alt=\"A lamp\"",
    ] {
        assert!(page.contains(want), "{want}: {page}");
    }
    assert_eq!(page.matches("loading=\"eager\"").count(), 1);
    let list = visitor.get("/c/lamps").body;
    assert!(list.contains("loading=\"lazy\"") && list.contains(" 640w"), "{list}");
    // Order and texts; what is not all of them is refused.
    let name = |of: &Value| text(&of["path"]).trim_start_matches("/media/").to_owned();
    let of =
        |at: usize| json!({ "name": name(&pictures[at]), "alt": { "en": format!("No. {at}"), "zh": "灯" } });
    let put = |wanted: &[Value]| shelf.ask("PUT", "/products/lamp/pictures", &json!({ "pictures": wanted }));
    assert_eq!(put(&[of(2), of(0)]).status, 409);
    assert_eq!(put(&[of(2), of(0), of(1)]).status, 200);
    assert_eq!(shelf.pictures()[0]["alt"]["en"], "No. 2");
    let gone = format!("/products/lamp/pictures/{}", name(&pictures[2]));
    assert_eq!(shelf.ask("DELETE", &gone, &json!({})).status, 200);
    assert_eq!(shelf.ask("DELETE", &gone, &json!({})).status, 404);
    assert_eq!(shelf.pictures().len(), 2);
}

#[test]
fn what_is_no_picture_or_too_much_of_one_is_refused_and_leaves_nothing() {
    let shelf = Shelf::open();
    let mut bomb = picture(8, 8, ImageFormat::Png);
    bomb[16..24].copy_from_slice(&[0, 0, 0x27, 0x10, 0, 0, 0x27, 0x10]);
    let checked = crc_of(&bomb[12..29]).to_be_bytes();
    bomb[29..33].copy_from_slice(&checked);
    let whole = picture(300, 300, ImageFormat::Jpeg);
    let check = |bytes: &[u8], status: u16, want: &str| {
        let reply = shelf.upload(bytes);
        assert_eq!(reply.status, status, "{want}: {reply:?}");
        assert!(reply.body.contains(want), "{want}: {reply:?}");
    };
    check(b"<html><script>alert(1)</script>", 422, "none of JPEG, PNG and WebP");
    check(b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", 422, "none of");
    check(b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", 422, "GIF");
    check(b"", 422, "empty");
    check(&bomb, 422, "10000 x 10000 pixels, want 25 million at the most");
    check(&whole[..whole.len() / 2], 422, "cut off");
    check(&vec![0xff; (10 << 20) + 1], 413, "more than");
    let reader = shelf.server.new_key("reads", "read-only");
    let lamp = "/products/lamp/pictures";
    assert_eq!(shelf.upload_as(&reader, lamp, &whole).status, 403);
    assert_eq!(shelf.upload_as("fgk_op_wrong", lamp, &whole).status, 401);
    assert_eq!(shelf.upload_as(&shelf.operator, "/products/nothing/pictures", &whole).status, 404);
    let as_html = [("content-type", "text/html"), ("authorization", &*format!("Bearer {}", shelf.operator))];
    let reply = shelf.server.client.try_send_bytes("POST", &shelf.url(lamp), &as_html, &whole).unwrap();
    assert_eq!(reply.status, 415, "{reply:?}");
    assert_eq!(shelf.pictures(), Vec::<Value>::new());
    // What is added to a picture's file is not served.
    let polyglot = [&whole[..], b"<script>alert(1)</script>"].concat();
    let made = shelf.upload(&polyglot).json();
    let served = shelf.media(text(&made["path"]));
    assert!(!served.windows(7).any(|part| part == b"<script"), "it was written anew");
}

#[test]
fn uploads_at_once_are_all_kept_up_to_twenty() {
    let shelf = Shelf::open();
    // Four are in memory at a time; those that find no room are sent again.
    std::thread::scope(|scope| {
        for width in 100..120 {
            let shelf = &shelf;
            scope.spawn(move || {
                let bytes = picture(width, 100, ImageFormat::Png);
                poll("room for the upload", || {
                    let reply = shelf.upload(&bytes);
                    assert!([200, 503].contains(&reply.status), "{reply:?}");
                    (reply.status == 200).then_some(())
                });
            });
        }
    });
    assert_eq!(shelf.pictures().len(), 20);
    let more = shelf.upload(&picture(200, 100, ImageFormat::Png));
    assert_eq!((more.status, more.problem().as_str()), (409, "conflict"), "{more:?}");
}

/// A form with a file, as a browser sends it.
fn multipart(fields: &[(&str, &str)], file: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(
            format!("--b0undary\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                .bytes(),
        );
    }
    let head = "--b0undary\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.svg\"\r\n\
                Content-Type: image/svg+xml\r\n\r\n";
    [&body, head.as_bytes(), file, b"\r\n--b0undary--\r\n"].concat()
}

#[test]
fn an_operator_uploads_by_the_consoles_form_without_a_script() {
    let shelf = Shelf::open();
    let server = &shelf.server;
    server.new_key("reads", "read-only");
    let sign_in = |name: &str| {
        let at = format!("http://{}", server.store);
        let link = stdout(&server.command(&["key", "sign-in", "--at", &at, name]));
        let reply = server.client.send("POST", link.trim(), &[], "");
        assert_eq!(reply.status, 303, "{reply:?}");
        reply.header("set-cookie").split(';').next().unwrap().to_owned()
    };
    let (operator, reader) = (sign_in("op"), sign_in("reads"));
    let page_of = |cookie: &str| {
        let url = format!("http://{}/console/products/lamp", server.store);
        server.client.send("GET", &url, &[("cookie", cookie), ("accept", "text/html")], "").body
    };
    let page = page_of(&operator);
    assert!(page.contains("enctype=\"multipart/form-data\"") && page.contains("type=\"file\""), "{page}");
    assert!(!page_of(&reader).contains("type=\"file\""), "a reader has no form");
    let token = form_token(&page).to_owned();
    let send = |cookie: &str, content_type: &str, body: &[u8]| {
        let url = format!("http://{}/console/products/lamp/pictures", server.store);
        let fields = [("cookie", cookie), ("content-type", content_type), ("accept", "text/html")];
        server.client.try_send_bytes("POST", &url, &fields, body).unwrap()
    };
    let form = "multipart/form-data; boundary=b0undary";
    let file = picture(700, 500, ImageFormat::Jpeg);
    let fields = [("lang", "en"), ("alt_en", "From \"above\""), ("alt_zh", "俯视"), ("form", &*token)];
    for (cookie, token) in [(&operator, ""), (&operator, "WRONG"), (&reader, &*token)] {
        let reply = send(cookie, form, &multipart(&[("form", token)], &file));
        assert_eq!(reply.status, 403, "{token:?}: {reply:?}");
    }
    assert_eq!(send("", form, &multipart(&fields, &file)).status, 401, "no session");
    assert_eq!(send(&operator, "application/x-www-form-urlencoded", b"form=1").status, 415);
    let cut = multipart(&fields, &file);
    assert_eq!(send(&operator, form, &cut[..cut.len() - 100]).status, 422);
    let wrong = send(&operator, form, &multipart(&fields, b"<svg/>"));
    assert!(wrong.status == 422 && wrong.body.contains("none of JPEG, PNG and WebP"), "{wrong:?}");
    let none = send(&operator, form, &multipart(&fields, b""));
    assert!(none.status == 422 && none.body.contains("the file is empty"), "{none:?}");
    assert_eq!(shelf.pictures().len(), 0);
    for bytes in [&file, &picture(300, 200, ImageFormat::WebP)] {
        let reply = send(&operator, form, &multipart(&fields, bytes));
        let to = "/console/products/lamp?lang=en#pictures";
        assert_eq!((reply.status, reply.header("location")), (303, to), "{reply:?}");
    }
    let before = shelf.pictures();
    assert_eq!(before[0]["alt"], json!({ "en": "From \"above\"", "zh": "俯视" }));
    // The other way round, with other words; and then one goes.
    let name = |of: &Value| text(&of["path"]).trim_start_matches("/media/").to_owned();
    let (one, two) = (name(&before[0]), name(&before[1]));
    let arrange = |more: &[(&str, &str)]| {
        let mut shopper = Shopper::stranger(server);
        shopper.session.clone_from(&operator);
        let page = shopper.get("/console/products/lamp").body;
        // The form of the product itself has one, too.
        let seen = page.split("name=\"seen\" value=\"").last().unwrap().split('"').next().unwrap();
        let own = [("form", &*token), ("seen", seen), ("name-0", &*one), ("name-1", &*two), ("en-1", "New")];
        let fields = [&own, more].concat();
        shopper.post("/console/products/lamp/picture-order", &fields).status
    };
    assert_eq!(arrange(&[("place-0", "2"), ("place-1", "1")]), 303);
    let after = shelf.pictures();
    assert_eq!((name(&after[0]), &after[0]["alt"]["en"]), (two.clone(), &json!("New")));
    assert_eq!(arrange(&[("remove-1", "yes")]), 303);
    assert_eq!(shelf.pictures().iter().map(name).collect::<Vec<_>>(), std::slice::from_ref(&one));
    assert_eq!(arrange(&[]), 422, "one of them is not there any more");
}
