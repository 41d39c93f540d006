//! `floodgate key sign-in`: a browser signs in once with the role of a key, and the operators'
//! pages have the forms that the role allows. They work without JavaScript.

use crate::harness::{
    Server,
    http::Reply,
    shop::{self, text, with},
    stderr, stdout,
};
use serde_json::{Value, json};

/// A browser that has signed in.
struct Browser<'a> {
    server: &'a Server,
    cookie: String,
}

/// The answer to the button on a link's page. Pages are followed by hand, as a redirect would lose
/// the cookie.
fn follow(server: &Server, link: &str) -> Reply {
    server.client.send("POST", link, &[], "")
}

impl<'a> Browser<'a> {
    #[track_caller]
    fn sign_in(server: &'a Server, key: &str) -> Self {
        let link = sign_in_link(server, &["--at", &server.admin_url(""), key]);
        let signed_in = follow(server, &link);
        assert_eq!((signed_in.status, signed_in.header("location")), (303, "/?lang=en"), "{signed_in:?}");
        let cookie = signed_in.header("set-cookie");
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        Self { server, cookie: cookie.split(';').next().unwrap().to_owned() }
    }

    #[track_caller]
    fn page(&self, path: &str) -> String {
        let page =
            self.server.client.send("GET", &self.server.admin_url(path), &[("cookie", &self.cookie)], "");
        assert_eq!(page.status, 200, "{page:?}");
        page.body
    }

    /// Sends a form, as the browser would.
    fn send(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let body: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let headers = [("cookie", &*self.cookie), ("content-type", "application/x-www-form-urlencoded")];
        self.server.client.send("POST", &self.server.admin_url(path), &headers, &body.join("&"))
    }

    /// The token in the forms of a page.
    #[track_caller]
    fn token(&self) -> String {
        hidden(&self.page("/drafts"), "form")
    }

    /// The draft that the page shows now.
    #[track_caller]
    fn revision(&self, sale: &str) -> String {
        hidden(&self.page(&format!("/drafts/{sale}/document")), "revision")
    }
}

/// The first hidden field of this name.
#[track_caller]
fn hidden(page: &str, name: &str) -> String {
    let field = format!("name=\"{name}\" value=\"");
    let at = page.split_once(&field).unwrap_or_else(|| panic!("no {name} in {page}")).1;
    at.split('"').next().unwrap().to_owned()
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}

#[track_caller]
fn sign_in_link(server: &Server, args: &[&str]) -> String {
    let output = server.command(&[&["key", "sign-in"], args].concat());
    let said = stderr(&output);
    assert!(said.contains("once, within 10 minutes"), "{said}");
    let link = stdout(&output).trim().to_owned();
    assert!(link.starts_with(&server.admin_url("/sign-in?key=")), "{link}");
    link
}

/// A document that opens in an hour.
fn later() -> Value {
    let mut spec = shop::spec(&[("phone", 5)]);
    spec["rounds"][0]["opens_at"] = shop::in_ms(3_600_000).into();
    spec["rounds"][0]["closes_at"] = shop::in_ms(7_200_000).into();
    with(spec, json!({ "name": "Autumn <launch>" }))
}

#[test]
fn a_link_signs_one_browser_in_and_never_stands_in_a_log() {
    let mut server = Server::start();
    server.new_key("nora", "operator");
    let no_port = server.command(&["key", "sign-in", "nora"]);
    assert!(stderr(&no_port).contains("name the address with --at"), "{no_port:?}");
    // From the second start on the configuration has the port of the first.
    server.stop();
    server.restart();
    server.stop();
    let link = sign_in_link(&server, &["nora"]);
    server.restart();
    let secret = link.rsplit('=').next().unwrap().to_owned();
    assert_eq!(secret.len(), 52, "256 random bits");
    let looked = server.client.send("GET", &link, &[], "");
    assert!(looked.status == 200 && looked.header("set-cookie").is_empty(), "{looked:?}");
    assert!(looked.body.contains("action=\"/sign-in?key="), "a button: {looked:?}");
    let signed_in = follow(&server, &link);
    assert_eq!(signed_in.status, 303, "{signed_in:?}");
    let session = signed_in.header("set-cookie").split(['=', ';']).nth(1).unwrap().to_owned();
    let again = follow(&server, &link);
    assert_eq!((again.status, &*again.problem()), (401, "key-refused"), "{again:?}");
    assert!(again.body.contains("floodgate key sign-in"), "it says how to get another: {again:?}");
    server.kill();
    server.restart();
    assert_eq!(follow(&server, &link).problem(), "key-refused", "after a restart too");

    let errors = server.errors();
    let audit: Vec<&str> =
        errors.lines().filter(|line| line.contains("signed in with a one-time link")).collect();
    assert_eq!(audit.len(), 1, "{errors}");
    assert!(audit[0].contains("nora"), "{audit:?}");
    let kept = std::fs::read_to_string(server.data.join("keys/sign-in.json")).unwrap();
    for secret in [&secret, &session] {
        assert!(!errors.contains(secret.as_str()) && !kept.contains(secret.as_str()), "{errors} {kept}");
    }

    let unknown = server.command(&["key", "sign-in", "nobody"]);
    assert!(!unknown.status.success());
    assert!(stderr(&unknown).contains("there is no key \"nobody\"; `floodgate key list` prints them"));
}

#[test]
fn a_session_has_the_role_of_its_key_until_that_is_revoked() {
    let server = Server::start();
    for (name, role) in [("rita", "read-only"), ("nora", "operator"), ("olga", "owner")] {
        server.new_key(name, role);
    }
    let [reader, operator, owner] = ["rita", "nora", "olga"].map(|name| Browser::sign_in(&server, name));
    server.admin("PUT", "/sales/autumn/draft", &later());
    let forms = |browser: &Browser<'_>| {
        let page = browser.page("/drafts");
        ["save", "copy", "publish", "delete"].map(|what| page.contains(&format!("action=\"/drafts/{what}\"")))
    };
    assert_eq!(forms(&reader), [false; 4]);
    assert!(reader.page("/drafts").contains("floodgate key sign-in"), "it says how to do more");
    assert_eq!(forms(&operator), [true, true, false, false]);
    assert_eq!(forms(&owner), [true; 4]);

    let publish = [("sale", "autumn"), ("reason", "ready"), ("form", &operator.token())];
    assert_eq!(
        operator.send("/drafts/publish", &publish).problem(),
        "role-refused",
        "whatever the page shows"
    );
    let foreign = [("sale", "autumn"), ("reason", "ready"), ("form", &operator.token())];
    assert_eq!(owner.send("/drafts/publish", &foreign).problem(), "form-refused", "another session's token");
    assert_eq!(owner.send("/drafts/publish", &foreign[..2]).problem(), "form-refused", "no token");
    assert_eq!(server.client.get(&server.shop_url("/api/v1/sales/autumn")).status, 404, "nothing was done");
    // The API takes no cookie for what changes something.
    let url = server.admin_url("/api/v1/admin/sales/autumn/publish");
    let headers = [("cookie", &*owner.cookie), ("content-type", "application/json")];
    let refused = server.client.send("POST", &url, &headers, r#"{"reason":"ready"}"#);
    assert_eq!(refused.problem(), "key-missing");

    server.output(&["key", "revoke", "olga"]);
    let gone = server.client.send("GET", &server.admin_url("/drafts"), &[("cookie", &owner.cookie)], "");
    assert_eq!(gone.status, 401, "{gone:?}");
}

#[test]
fn a_sale_is_prepared_published_copied_and_deleted_on_the_page() {
    let server = Server::start();
    server.new_key("olga", "owner");
    let browser = Browser::sign_in(&server, "olga");
    let token = browser.token();
    let send = |path: &str, fields: &[(&str, &str)]| {
        browser.send(path, &[fields, &[("form", &token), ("lang", "en")]].concat())
    };
    let done = |reply: &Reply, what: &str| {
        assert_eq!(
            (reply.status, reply.header("location")),
            (303, &*format!("/drafts?lang=en&done={what}")),
            "{reply:?}"
        );
    };
    let torn = send("/drafts/save", &[("sale", "autumn"), ("definition", "{\n\"name\": <\n}")]);
    assert_eq!(torn.status, 422);
    assert!(torn.body.contains("see line 2, column 9") && torn.body.contains("role=\"alert\""), "{torn:?}");
    assert!(torn.body.contains("&quot;name&quot;: &lt;"), "what was typed is still there: {torn:?}");

    let mut spec = later();
    spec.as_object_mut().unwrap().remove("items");
    done(&send("/drafts/save", &[("sale", "autumn"), ("definition", &spec.to_string())]), "saved");
    let page = browser.page("/drafts?lang=en&done=saved");
    assert!(page.contains("items: is missing") && page.contains("role=\"status\""), "{page}");
    assert!(page.contains("Autumn &lt;launch&gt;") && page.contains("data-valid=\"false\""), "{page}");
    assert!(!page.contains("action=\"/drafts/publish\""), "not as it is: {page}");
    assert!(browser.page("/drafts/autumn/document").contains("<textarea"));
    let zh = browser.page("/drafts?lang=zh");
    assert!(zh.contains("lang=\"zh-Hans\"") && zh.contains("草稿") && zh.contains("发布前必须更正"), "{zh}");

    let first = browser.revision("autumn");
    let definition = later().to_string();
    let save = |revision: &str, definition: &str| {
        send("/drafts/save", &[("sale", "autumn"), ("definition", definition), ("revision", revision)])
    };
    done(&save(&first, &definition), "saved");
    done(&save(&first, &definition), "saved");
    // Who had the first document before them changes nothing, and loses nothing.
    let [late, new] = [&*first, ""].map(|revision| save(revision, "{\"name\": \"typed\"}"));
    assert!(
        late.body.contains("the draft autumn has changed since you read it: olga saved it at"),
        "{late:?}"
    );
    assert!(new.body.contains("there is a draft autumn already, which olga saved at"), "{new:?}");
    for refused in [&late, &new] {
        assert!(refused.status == 412 && refused.body.contains("&quot;typed&quot;"), "{refused:?}");
    }
    let revision = browser.revision("autumn");
    assert_ne!(revision, first);
    let unreasoned = send("/drafts/publish", &[("sale", "autumn"), ("revision", &revision)]);
    assert_eq!(unreasoned.status, 422);
    assert!(unreasoned.body.contains("reason: want 1 to 200 bytes"), "{unreasoned:?}");
    let copy =
        |revision| send("/drafts/copy", &[("sale", "autumn"), ("to", "winter"), ("revision", revision)]);
    assert_eq!(copy("").status, 412, "a sale was meant, and it is a draft");
    done(&copy(&revision), "copied");
    let ready = ("reason", "all is ready");
    let other = send("/drafts/publish", &[("sale", "autumn"), ready, ("revision", &first)]);
    assert!(other.status == 412 && other.body.contains("nothing was done"), "{other:?}");
    done(&send("/drafts/publish", &[("sale", "autumn"), ready, ("revision", &revision)]), "published");
    assert_eq!(server.document("autumn")["state"], "scheduled");
    let log = server.output(&["log", "--json"]);
    let first: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!((text(&first["by"]), text(&first["reason"])), ("olga", "all is ready"), "{first}");

    let page = browser.page("/drafts");
    // Every field has a label, and every button says what it is about.
    for id in page.split("<input id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert_eq!(page.matches(&format!("<label for=\"{id}\"")).count(), 1, "{id}");
        assert_eq!(page.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
    }
    assert!(!page.contains("<script"), "it works without JavaScript");
    let winter = browser.revision("winter");
    done(&send("/drafts/delete", &[("sale", "winter"), ("reason", "no"), ("revision", &winter)]), "deleted");
    let meant = send("/drafts/delete", &[("sale", "autumn"), ("reason", "no"), ("revision", &winter)]);
    assert!(meant.status == 412 && meant.body.contains("no draft autumn any more"), "{meant:?}");
    done(&send("/drafts/delete", &[("sale", "autumn"), ("reason", "no")]), "deleted");
    assert_eq!(server.client.get(&server.shop_url("/api/v1/sales/autumn")).status, 404);
    let gone = send("/drafts/delete", &[("sale", "autumn"), ("reason", "no")]);
    assert_eq!(gone.status, 404);
    assert!(gone.body.contains("role=\"alert\"") && gone.body.contains("<h1>Drafts"), "{gone:?}");
}
