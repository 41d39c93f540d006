//! Log-in at a provider of identities, with a real one: an account that it makes, an account that
//! it never takes over, what a browser cannot bring back, and a provider that is away, slow,
//! talkative, or has new keys.

use crate::{
    carts::add,
    harness::{
        PATIENCE, Server, Setup,
        http::Reply,
        identities::{Identities, SHOP, settings},
        mariadb::MariaDb,
        poll, run, stderr,
    },
    store::{Shopper, between, form_token},
};
use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    time::{Duration, Instant},
};

const CALLBACK: &str = "/account/provider/callback";

fn served(of_store: &str, of_provider: &str) -> Server {
    let serve = ["--demo", "--demo-opens-in", "0"].map(str::to_owned).to_vec();
    let settings =
        format!("[store]\nlisten = \"127.0.0.1:0\"\npublic_url = \"{SHOP}\"\n{of_store}{of_provider}");
    let server = Server::with(Setup { serve, settings, ..Setup::default() });
    let stranger = Shopper::stranger(&server);
    poll("the store is open", || stranger.try_get("/").filter(|reply| reply.status == 200));
    server
}

/// Keeps the cookies of an answer beside those that the browser has.
fn keep(shopper: &mut Shopper<'_>, reply: &Reply) {
    let mut jar: Vec<String> = shopper.session.split("; ").map(str::to_owned).collect();
    for cookie in reply.headers.get_all("set-cookie") {
        let cookie = cookie.to_str().unwrap();
        let is_guarded = cookie.contains("; HttpOnly; SameSite=Lax") || cookie.starts_with("shop_lang=");
        assert!(is_guarded, "{cookie}");
        let (name, _) = cookie.split_once('=').unwrap();
        jar.retain(|of| !of.is_empty() && !of.starts_with(&format!("{name}=")));
        if !cookie.contains("Max-Age=0") {
            jar.push(cookie.split(';').next().unwrap().to_owned());
        }
    }
    shopper.session = jar.join("; ");
}

/// Where a page leads at once: the provider.
#[track_caller]
fn there(shopper: &mut Shopper<'_>, reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{reply:?}");
    let url = reply.header("refresh").strip_prefix("0; url=").expect("it leads on").to_owned();
    assert!(reply.body.contains(&url.replace('&', "&amp;")), "and without that: {}", reply.body);
    keep(shopper, reply);
    url
}

/// The browser is at the provider, from where it would come back to this path.
#[track_caller]
fn go(shopper: &mut Shopper<'_>, next: &str) -> String {
    let reply = shopper.post("/account/provider", &[("next", next)]);
    there(shopper, &reply)
}

fn come_back(shopper: &mut Shopper<'_>, query: &str) -> Reply {
    let reply = shopper.try_get(&format!("{CALLBACK}?{query}")).expect("an answer");
    keep(shopper, &reply);
    reply
}

/// All of it; returns the answer to the browser that comes back.
#[track_caller]
fn log_in(shopper: &mut Shopper<'_>, identities: &Identities, user: &str) -> Reply {
    let url = go(shopper, "/orders");
    let query = identities.log_in(&url, user);
    come_back(shopper, &query)
}

#[track_caller]
fn is_signed_in(reply: &Reply) {
    assert_eq!((reply.status, reply.header("location")), (303, "/orders"), "{reply:?}");
}

/// Of a form on the page of settings.
fn send(shopper: &Shopper<'_>, path: &str, fields: &[(&str, &str)]) -> Reply {
    let token = form_token(&shopper.get("/account/settings").body).to_owned();
    shopper.post(path, &[&[("form", &*token)], fields].concat())
}

/// The letters whose subject begins so.
fn letters(server: &Server, subject: &str) -> Vec<String> {
    let Ok(dir) = fs::read_dir(server.data.join("store/mail")) else { return Vec::new() };
    let read = |path| fs::read_to_string(path).ok().map(|text| text.replace("=\r\n", "").replace("=3D", "="));
    let all = dir.filter_map(|entry| read(entry.ok()?.path()));
    all.filter(|letter| letter.contains(&format!("Subject: {subject}"))).collect()
}

/// Sets a password by a letter's link, which ends all sessions.
#[track_caller]
fn set_password(server: &Server, email: &str, password: &str) {
    let stranger = Shopper::stranger(server);
    let before = letters(server, "Set a new password").len();
    assert_eq!(stranger.post("/account/forgot", &[("email", email)]).status, 200);
    let link = poll("the letter", || {
        let all = letters(server, "Set a new password");
        let letter = all.iter().find(|letter| all.len() > before && letter.contains(email))?;
        Some(between(letter, "reset?link=", "&").to_owned())
    });
    let reply = stranger.post("/account/reset", &[("link", &link), ("password", password)]);
    assert_eq!(reply.status, 303, "{reply:?}");
}

fn password_log_in(server: &Server, email: &str, password: &str) -> (u16, String) {
    let form = [("email", email), ("password", password), ("next", "/orders")];
    let reply = Shopper::stranger(server).post("/account/log-in", &form);
    (reply.status, reply.header("set-cookie").split(';').next().unwrap_or_default().to_owned())
}

#[test]
fn a_log_in_at_the_provider_makes_an_account_that_works_everywhere() {
    let identities = Identities::start(&[("ann", "Ann@Example.com", true)]);
    makes_an_account(&served("", &identities.settings()), &identities);
}

#[test]
fn a_log_in_at_the_provider_makes_an_account_on_mariadb() {
    let maria = MariaDb::start();
    let identities = Identities::start(&[("ann", "Ann@Example.com", true)]);
    let databases = format!("databases = \"{}\"\n", maria.url("oidc"));
    makes_an_account(&served(&databases, &identities.settings()), &identities);
}

fn makes_an_account(server: &Server, identities: &Identities) {
    let mut ann = Shopper::stranger(server);
    let page = ann.get("/account/log-in?next=%2Forders").body;
    assert!(page.contains("Log in with Example ID") && page.contains("Forgot your password?"), "{page}");
    assert!(ann.get("/account/log-in?lang=zh").body.contains("使用 示例 登录"));
    add(&mut ann, "2");
    let reply = log_in(&mut ann, identities, "ann");
    is_signed_in(&reply);
    let page = ann.get("/account").body;
    assert!(page.contains("ann Lee") && page.contains("ann@example.com"), "{page}");
    assert!(ann.get("/cart").body.contains("value=\"2\""), "the cart came along");
    // One log-in serves the sale too.
    let sale = server.sale("demo");
    let token = ann.get("/account/sale-token");
    assert_eq!(token.status, 200);
    let bearer = format!("Bearer {}", token.body);
    let pass = sale.client.send("POST", &format!("{}/passes", sale.base), &[("authorization", &bearer)], "");
    assert_eq!(pass.status, 200, "{pass:?}");

    // The same log-in is the same account, in another session.
    let mut phone = Shopper::stranger(server);
    is_signed_in(&log_in(&mut phone, identities, "ann"));
    let data = |of: &Shopper<'_>| send(of, "/account/data", &[]).json();
    let own = data(&ann);
    assert_eq!(own["profile"], data(&phone)["profile"]);
    assert_eq!(own["sessions"].as_array().unwrap().len(), 2, "{own}");
    assert_eq!(own["has_password"], false);
    assert_eq!(own["connected_log_ins"][0]["issuer"], identities.issuer());
    assert_eq!(own["connected_log_ins"][0]["subject"], "id-of-ann");

    // It has no password that could be guessed, and pages that would ask for it say what to do.
    for password in ["", "a password there"] {
        assert_eq!(password_log_in(server, "ann@example.com", password).0, 422);
    }
    for page in ["/account/settings", "/account/delete"] {
        let page = ann.get(page).body;
        assert!(
            page.contains("Your account has no password") && !page.contains("name=\"current\""),
            "{page}"
        );
    }
    for (path, field) in [("/account/delete", "password"), ("/account/provider/disconnect", "own")] {
        for password in ["", "correct horse"] {
            assert_eq!(send(&ann, path, &[(field, password)]).status, 422, "{path}");
        }
    }
    set_password(server, "ann@example.com", "correct horse");
    assert_eq!(ann.get("/account").status, 303, "all sessions are over");
    assert_eq!(password_log_in(server, "ann@example.com", "correct horse").0, 303);
    is_signed_in(&log_in(&mut ann, identities, "ann"));
    let page = ann.get("/account/settings").body;
    assert!(page.contains("name=\"current\"") && page.contains("Connected since "), "{page}");

    // Logged out is logged out.
    let before = ann.session.clone();
    assert_eq!(send(&ann, "/account/log-out", &[]).status, 303);
    assert_eq!(ann.get("/account").status, 303);
    is_signed_in(&log_in(&mut ann, identities, "ann"));
    assert_ne!(ann.session, before);

    // Deleted is deleted: the same log-in makes another account.
    let old = data(&ann)["profile"]["shopper"].clone();
    let reply = send(&ann, "/account/delete", &[("password", "correct horse")]);
    assert_eq!((reply.status, reply.header("location")), (303, "/account/log-in?done=deleted"));
    is_signed_in(&log_in(&mut ann, identities, "ann"));
    let new = data(&ann);
    assert_ne!(new["profile"]["shopper"], old);
    assert_eq!((&new["has_password"], new["cart"].as_array().unwrap().len()), (&false.into(), 0));
}

#[test]
fn an_account_with_the_same_address_is_not_taken_over() {
    let users = [
        ("ann", "ann@example.com", true),
        ("eve", "eve@example.com", true),
        ("bob", "bob@example.com", false),
    ];
    let identities = Identities::start(&users);
    let server = served("", &identities.settings());
    let owner = Shopper::new(&server, "Ann");
    let mut ann = Shopper::stranger(&server);
    let reply = log_in(&mut ann, &identities, "ann");
    assert!(reply.status == 409 && reply.body.contains("There is an account with your email"), "{reply:?}");
    assert_eq!(reply.header("referrer-policy"), "strict-origin");
    assert!(!reply.body.contains("code="), "no link has what the provider has said: {}", reply.body);
    assert_eq!(ann.get("/account").status, 303, "nobody is logged in");

    // Its shopper connects it, with the password.
    let mut owner = owner;
    let refused = send(&owner, "/account/provider/connect", &[("own", "wrong horse")]);
    assert!(refused.status == 422 && refused.body.contains("id=\"own-error\""), "{refused:?}");
    let reply = send(&owner, "/account/provider/connect", &[("own", "correct horse")]);
    let url = there(&mut owner, &reply);
    let query = identities.log_in(&url, "ann");
    // Another session of the same browser would connect another account.
    let mut other = Shopper::new(&server, "Cem");
    other.session = format!("{}; {}", other.session, owner.session.split("; ").last().unwrap());
    assert_eq!(come_back(&mut other, &query).status, 422);
    let reply = come_back(&mut owner, &query);
    assert_eq!(
        (reply.status, reply.header("location")),
        (303, "/account/settings?done=connected"),
        "{reply:?}"
    );
    poll("a letter about it", || (!letters(&server, "Another way to log in").is_empty()).then_some(()));
    is_signed_in(&log_in(&mut ann, &identities, "ann"));
    assert!(ann.get("/account").body.contains("ann@example.com"));

    // One log-in opens one account, and an account has one log-in there.
    let mut dan = Shopper::new(&server, "Dan");
    for (user, says) in [("ann", "Another account is connected"), ("eve", "")] {
        let reply = send(&dan, "/account/provider/connect", &[("own", "correct horse")]);
        let url = there(&mut dan, &reply);
        let query = identities.log_in(&url, user);
        let reply = come_back(&mut dan, &query);
        assert!(
            reply.status == if says.is_empty() { 303 } else { 409 } && reply.body.contains(says),
            "{reply:?}"
        );
    }
    // Eve's log-in opens Dan's account: perhaps Eve has made it, with Dan's address.
    let mut eve = Shopper::stranger(&server);
    is_signed_in(&log_in(&mut eve, &identities, "eve"));
    assert!(eve.get("/account").body.contains("dan@example.com"));
    set_password(&server, "dan@example.com", "another horse");
    let mut eve = Shopper::stranger(&server);
    is_signed_in(&log_in(&mut eve, &identities, "eve"));
    assert!(
        eve.get("/account").body.contains("eve@example.com"),
        "whose letter it was has the account alone"
    );

    let reply = send(&ann, "/account/provider/disconnect", &[("own", "correct horse")]);
    assert_eq!((reply.status, reply.header("location")), (303, "/account/settings?done=disconnected"));
    let mut ann = Shopper::stranger(&server);
    assert_eq!(log_in(&mut ann, &identities, "ann").status, 409);
    // An address that the provider has not checked is nobody's.
    let mut bob = Shopper::stranger(&server);
    let reply = log_in(&mut bob, &identities, "bob");
    assert!(reply.status == 422 && reply.body.contains("has not confirmed an email of yours"), "{reply:?}");
}

/// A cookie can be made by its owner, who knows how what the provider is told follows from it. A
/// session alone, without the password, connects nothing.
#[test]
fn a_session_without_the_password_connects_nothing() {
    let identities = Identities::start(&[("eve", "eve@example.com", true)]);
    let server = served("", &identities.settings());
    let mut owner = Shopper::new(&server, "Ann");
    let data = |of: &Shopper<'_>| send(of, "/account/data", &[]).json();
    let account = data(&owner)["profile"]["shopper"].as_str().unwrap().to_owned();
    let encode = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
    let mut stranger = Shopper::stranger(&server);
    let url = go(&mut stranger, "/");
    let (name, _) = stranger.session.split("; ").last().unwrap().split_once('=').unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let ticket = format!("{}.{now}.{account}.{}", encode(&[7; 32]), encode(b"/"));
    let derived = |what: &str| {
        let purpose = format!("floodgate account 2026-11 {what} of a log-in at a provider");
        encode(&blake3::derive_key(&purpose, ticket.as_bytes()))
    };
    let challenge = encode(&<sha2::Sha256 as sha2::Digest>::digest(derived("verifier").as_bytes()));
    let told = [("state", derived("state")), ("nonce", derived("nonce")), ("code_challenge", challenge)];
    let url = told.iter().fold(url, |url, (name, value)| {
        let (before, after) = url.split_once(&format!("{name}=")).unwrap_or_else(|| panic!("{name}: {url}"));
        let rest = after.split_once('&').map_or(String::new(), |(_, rest)| format!("&{rest}"));
        format!("{before}{name}={value}{rest}")
    });
    let query = identities.log_in(&url, "eve");
    owner.session = format!("{}; {name}={ticket}", owner.session);
    let reply = come_back(&mut owner, &query);
    assert!(reply.status == 422 && reply.body.contains("This log-in is over"), "{reply:?}");
    assert_eq!(data(&owner)["connected_log_ins"].as_array().unwrap().len(), 0);
    assert!(letters(&server, "Another way to log in").is_empty());
}

#[test]
fn what_another_browser_or_another_site_brings_back_opens_nothing() {
    let identities = Identities::start(&[("ann", "ann@example.com", true), ("eve", "eve@example.com", true)]);
    let server = served("", &identities.settings());
    let over = |reply: &Reply| {
        assert!(reply.status == 422 && reply.body.contains("This log-in is over"), "{reply:?}");
        assert!(
            !reply
                .headers
                .get_all("set-cookie")
                .iter()
                .any(|of| of.to_str().unwrap().starts_with("shop_session"))
        );
    };
    // The way there begins on a page of the shop.
    let form = [("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "cross-site")];
    let ann = Shopper::stranger(&server);
    let url = format!("http://{}/account/provider", server.store);
    assert_eq!(ann.client.send("POST", &url, &form, "next=%2F").status, 403);

    // A link with Eve's log-in does not log Ann in as Eve, with or without a log-in of her own.
    let (mut ann, mut eve) = (Shopper::stranger(&server), Shopper::stranger(&server));
    let url = go(&mut eve, "/orders");
    let eves = identities.log_in(&url, "eve");
    over(&come_back(&mut ann, &eves));
    let url = go(&mut ann, "/orders");
    assert!(url.contains("code_challenge_method=S256") && url.contains("nonce="), "{url}");
    assert!(
        url.contains(&format!(
            "redirect_uri={}",
            "http%3A%2F%2Fshop.example%2Faccount%2Fprovider%2Fcallback"
        ))
    );
    over(&come_back(&mut ann, &eves));
    // Eve's code with Ann's state: the provider knows that Ann has not begun it.
    let mut ann = Shopper::stranger(&server);
    let url = go(&mut ann, "/orders");
    let state = between(&url, "state=", "&");
    let code = between(&format!("{eves}&"), "code=", "&").to_owned();
    let reply = come_back(&mut ann, &format!("code={code}&state={state}"));
    assert!(reply.status == 422 && reply.body.contains("did not confirm the log-in"), "{reply:?}");

    // It works once, also if the answer was lost and the browser has its cookie still.
    let mut ann = Shopper::stranger(&server);
    let planted = format!("shop_session={}", "A".repeat(43));
    ann.session = planted.clone();
    let url = go(&mut ann, "/orders");
    let query = identities.log_in(&url, "ann");
    let before = ann.session.clone();
    is_signed_in(&come_back(&mut ann, &query));
    assert!(!ann.session.contains(&planted) && ann.session.contains("shop_session="), "another session");
    assert!(!ann.session.contains("shop_at_provider"), "{}", ann.session);
    assert_eq!(ann.get("/account").status, 200);
    let mut again = Shopper::stranger(&server);
    again.session = before;
    assert_eq!(again.get("/account").status, 303, "what was planted opens nothing");
    over(&come_back(&mut again, &query));

    // What was changed on the way, said twice, or is of another provider.
    let issuer = "https%3A%2F%2Fother.example";
    for (change, is_over) in [
        ("state=", true),
        ("&state=x", true),
        ("&code=x", true),
        (&*format!("&iss={issuer}"), false),
        ("&error=server_error", false),
    ] {
        let mut ann = Shopper::stranger(&server);
        let url = go(&mut ann, "/orders");
        let query = identities.log_in(&url, "ann");
        let query = if change.starts_with('&') {
            format!("{query}{change}")
        } else {
            query.replace(change, "state=x")
        };
        let reply = come_back(&mut ann, &query);
        match is_over {
            true => over(&reply),
            false => {
                assert!(reply.status == 422 && reply.body.contains("did not confirm"), "{change}: {reply:?}")
            }
        }
        assert_eq!(ann.get("/account").status, 303, "{change}");
    }
    let mut ann = Shopper::stranger(&server);
    let url = go(&mut ann, "/orders");
    let state = between(&url, "state=", "&").to_owned();
    let reply = come_back(&mut ann, &format!("error=access_denied&state={state}&lang=zh"));
    assert!(reply.status == 422 && reply.body.contains("您已在 示例 取消登录"), "{reply:?}");

    // It leads into the shop, whatever the form says.
    for next in
        ["https://evil.example/", "//evil.example/", "/\\evil.example", &format!("/{}", "x".repeat(600))]
    {
        let mut ann = Shopper::stranger(&server);
        let url = go(&mut ann, next);
        let query = identities.log_in(&url, "ann");
        assert_eq!(come_back(&mut ann, &query).header("location"), "/", "{next}");
    }
    let said = server.errors();
    assert!(!said.contains(&code) && !said.contains("code=") && !said.contains("panicked"), "{said}");
}

#[test]
fn a_provider_that_is_away_or_has_new_keys_is_told_in_the_shops_own_words() {
    let mut identities = Identities::start(&[("ann", "ann@example.com", true)]);
    let server = served("", &identities.settings());
    let mut ann = Shopper::stranger(&server);
    is_signed_in(&log_in(&mut ann, &identities, "ann"));
    // New keys, of which the shop learns by a token that they have signed.
    identities.restart();
    let mut ann = Shopper::stranger(&server);
    is_signed_in(&log_in(&mut ann, &identities, "ann"));
    // It ends while the browser is there.
    let url = go(&mut ann, "/orders");
    let query = identities.log_in(&url, "ann");
    identities.kill();
    let began = Instant::now();
    let reply = come_back(&mut ann, &query);
    assert!(reply.status == 503 && reply.body.contains("Example ID does not answer now"), "{reply:?}");
    assert!(reply.body.contains("<main") && began.elapsed() < PATIENCE);
    assert!(server.errors().contains("a log-in at the provider of identities has failed"));
    // With the password the shop goes on.
    assert_eq!(ann.get("/").status, 200);
}

/// A place that is no provider: what it does with each connection.
fn place(answer: impl Fn(std::net::TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(answer));
    format!("http://127.0.0.1:{port}")
}

#[test]
fn a_provider_that_says_nothing_too_much_or_something_else_costs_a_bounded_time() {
    let secrets = Identities::start(&[]);
    let own = secrets.settings();
    let secret = between(&own, "client_secret_file = \"", "\"");
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
    let silent = place(std::mem::forget);
    let drips = place(move |mut stream| {
        std::thread::spawn(move || {
            let _ = stream.write_all(head.as_bytes());
            while stream.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(100));
            }
        });
    });
    let endless = place(move |mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(head.as_bytes());
        while stream.write_all(&[b' '; 65536]).is_ok() {}
    });
    let other = place(move |mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let body = r#"{"issuer":"https://other.example","authorization_endpoint":"https://other.example/a","token_endpoint":"https://other.example/t","jwks_uri":"https://other.example/k","response_types_supported":["code"],"subject_types_supported":["public"],"id_token_signing_alg_values_supported":["RS256"]}"#;
        let _ = stream.write_all(format!("{head}{body}").as_bytes());
    });
    let elsewhere = place(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(
            b"HTTP/1.1 302 Found\r\nlocation: https://other.example/\r\ncontent-length: 0\r\n\r\n",
        );
    });
    for issuer in [silent, drips, endless, other, elsewhere] {
        let server = served("", &settings(&issuer, secret));
        let ann = Shopper::stranger(&server);
        let began = Instant::now();
        let reply = ann.post("/account/provider?lang=zh", &[("next", "/")]);
        let took = began.elapsed();
        assert!(reply.status == 503 && reply.body.contains("示例 暂时无法访问"), "{issuer}: {reply:?}");
        assert!(took < Duration::from_secs(12), "{issuer}: {took:?}");
        // The next one does not wait for it once more.
        let began = Instant::now();
        assert_eq!(ann.post("/account/provider", &[("next", "/")]).status, 503);
        assert!(began.elapsed() < Duration::from_secs(2), "{issuer}");
        // Pages answer meanwhile.
        assert_eq!(ann.get("/").status, 200);
    }
}

#[test]
fn what_cannot_be_a_provider_is_refused_with_its_key() {
    let check = |of_store: &str, of_provider: &str, want: &str| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("floodgate.toml");
        fs::write(&file, format!("[store]\n{of_store}\n[store.oidc]\n{of_provider}\n")).unwrap();
        let output = run(dir.path(), Some(&file), &["config"]);
        let said = stderr(&output);
        assert!(output.status.success() == want.is_empty() && said.contains(want), "{of_provider}: {said}");
    };
    let url = "public_url = \"https://shop.example\"";
    let whole = "issuer = \"https://id.example\"\nclient_id = \"shop\"\nclient_secret_file = \"s\"\nname = \"ID\"\nname_zh = \"ID\"";
    check(url, whole, "");
    check("", "", "");
    check("", whole, "`store.public_url`: the provider sends browsers back to it");
    check(url, &whole.replace("https://id", "http://id"), "want the provider's URL with https");
    check(url, &whole.replace("\"shop\"", "\"\""), "line 5: `store.oidc.client_id`");
    check(url, &whole.replace("\"s\"", "\"\""), "`store.oidc.client_secret_file`");
    check(url, &whole.replace("name_zh = \"ID\"", ""), "`store.oidc.name_zh`: want what shoppers call");
    check(url, &format!("{whole}\nsecret = \"x\""), "unknown key `store.oidc.secret`");
}
