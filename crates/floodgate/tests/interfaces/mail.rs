//! Letters of the store: the link that sets a new password, as a file and by a real server of mail,
//! and what happens when that is away or refuses a letter.

use crate::{
    harness::{
        Server, Setup,
        mailpit::{Mailpit, PASSWORD},
        mariadb::MariaDb,
        poll, stderr,
    },
    store::{Shopper, form_token, shop},
};
use std::{cell::RefCell, collections::BTreeSet, fs};

fn served(settings: &str) -> Server {
    let serve = ["--demo", "--demo-opens-in", "0"].map(str::to_owned).to_vec();
    let settings = format!("[store]\nlisten = \"127.0.0.1:0\"\n{settings}");
    Server::with(Setup { serve, settings, ..Setup::default() })
}

/// The letters that are files, oldest first, with the lines that quoted-printable has broken put
/// together again.
fn files(server: &Server) -> Vec<String> {
    let Ok(dir) = fs::read_dir(server.data.join("store/mail")) else { return Vec::new() };
    // One that is being written has another name until it is whole.
    let is_letter = |path: &std::path::PathBuf| {
        path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.'))
    };
    let mut names: Vec<_> = dir.map(|entry| entry.unwrap().path()).filter(is_letter).collect();
    names.sort();
    let read = |path| fs::read_to_string(path).unwrap().replace("=\r\n", "").replace("=3D", "=");
    names.into_iter().map(read).collect()
}

/// The link to the page that sets a password.
#[track_caller]
fn link_in<'a>(letter: &'a str, origin: &str) -> &'a str {
    let (_, rest) = letter.split_once(&format!("{origin}/account/reset?")).expect("a link");
    rest.split_ascii_whitespace().next().unwrap()
}

fn ask(shopper: &Shopper<'_>, email: &str) -> (u16, String) {
    let reply = shopper.post("/account/forgot", &[("email", email)]);
    (reply.status, reply.body)
}

fn log_in(shopper: &mut Shopper<'_>, email: &str, password: &str) -> u16 {
    let reply =
        shopper.post("/account/log-in", &[("email", email), ("password", password), ("next", "/account")]);
    if reply.status == 303 {
        shopper.keep_session(&reply);
    }
    reply.status
}

#[test]
fn a_forgotten_password_is_set_anew_by_a_letter() {
    let server = shop();
    from_forgotten_to_set(&server);
}

#[test]
fn a_forgotten_password_is_set_anew_on_mariadb() {
    let maria = MariaDb::start();
    let settings = format!("databases = \"{}\"\n", maria.url("letters"));
    from_forgotten_to_set(&served(&settings));
}

fn from_forgotten_to_set(server: &Server) {
    let stranger = Shopper::stranger(server);
    poll("the store is open", || stranger.try_get("/").filter(|reply| reply.status == 200));
    let ann = Shopper::new(server, "Ann");
    assert!(stranger.get("/account/log-in").body.contains("href=\"/account/forgot\""));
    // Nothing tells whether an address has an account.
    let (known, unknown) = (ask(&stranger, "Ann@example.com"), ask(&stranger, "nobody@example.com"));
    assert_eq!(known.0, 200);
    assert_eq!(known, unknown);
    assert!(known.1.contains("Check your email"), "{}", known.1);
    assert_eq!(ask(&stranger, "no address").0, 422);
    let letters = poll("a letter", || Some(files(server)).filter(|letters| !letters.is_empty()));
    assert_eq!(letters.len(), 1);
    assert!(letters[0].contains("To: ann@example.com\r\n"), "{}", letters[0]);
    // Its link leads to where the shop says that it is, whatever a request says.
    let link = link_in(&letters[0], &format!("http://{}", server.store)).to_owned();
    let page = stranger.get(&format!("/account/reset?{link}"));
    assert_eq!((page.status, page.header("referrer-policy")), (200, "strict-origin"), "{page:?}");
    assert!(!page.body.contains("next=%2Faccount%2Freset"), "the link is on no other page");
    let secret = link.strip_prefix("link=").unwrap().split('&').next().unwrap();
    let set = |password: &str| {
        let reply = stranger.post("/account/reset", &[("link", secret), ("password", password)]);
        (reply.status, reply.header("location").to_owned())
    };
    assert_eq!(set("short").0, 422);
    let other = stranger.client.send(
        "POST",
        &format!("http://{}/account/reset", server.store),
        &[("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "cross-site")],
        &format!("link={secret}&password=another+horse"),
    );
    assert_eq!(other.status, 403, "{other:?}");
    assert_eq!(set("another horse"), (303, "/account/log-in?done=reset".into()));
    assert_eq!(set("a third horse").0, 422);
    assert_eq!(stranger.get(&format!("/account/reset?{link}")).status, 422);
    assert!(stranger.get("/account/log-in?done=reset&lang=zh").body.contains("新密码已设置"));
    // Sessions from before are over, and so is the old password.
    assert_eq!(ann.get("/account").status, 303);
    let mut ann = Shopper::stranger(server);
    assert_eq!(log_in(&mut ann, "ann@example.com", "correct horse"), 422);
    assert_eq!(log_in(&mut ann, "ann@example.com", "another horse"), 303);
    poll("a letter about it", || (files(server).len() == 2).then_some(()));
    // No secret is in the log, nor in what the store keeps.
    assert!(!server.errors().contains(secret));
    for name in ["accounts.db", "accounts.db-wal"] {
        let bytes = fs::read(server.data.join("store").join(name)).unwrap_or_default();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{name}");
    }
}

#[test]
fn shoppers_change_their_names_and_passwords_and_log_out_elsewhere() {
    let server = shop();
    let mut phone = Shopper::new(&server, "Ann");
    let mut laptop = Shopper::stranger(&server);
    assert_eq!(log_in(&mut laptop, "ann@example.com", "correct horse"), 303);
    let page = laptop.get("/account/settings").body;
    assert_eq!(page.matches("Since ").count(), 2, "{page}");
    let laptop = RefCell::new(laptop);
    // Who changes the password gets another session, with other forms.
    let send = |path: &str, fields: &[(&str, &str)]| {
        let token = form_token(&laptop.borrow().get("/account/settings").body).to_owned();
        let reply = laptop.borrow().post(path, &[&[("form", &*token)], fields].concat());
        if !reply.header("set-cookie").is_empty() {
            laptop.borrow_mut().keep_session(&reply);
        }
        (reply.status, reply.header("location").to_owned(), reply.body)
    };
    assert_eq!(send("/account/name", &[("name", "Ann <b> 李")]).0, 303);
    let page = laptop.borrow().get("/account/settings?done=name").body;
    assert!(page.contains("Your name is changed") && page.contains("Ann &lt;b&gt; 李"), "{page}");
    for name in ["", "x\r\nBcc: y@example.com", &"x".repeat(81)] {
        let (status, _, body) = send("/account/name", &[("name", name)]);
        assert!(status == 422 && body.contains("id=\"name-error\""), "{name:?}: {body}");
    }
    let (status, _, body) =
        send("/account/password", &[("current", "wrong horse"), ("new", "another horse")]);
    assert!(status == 422 && body.contains("id=\"current-error\""), "{body}");
    let (status, _, body) = send("/account/password", &[("current", "correct horse"), ("new", "short")]);
    assert!(status == 422 && body.contains("id=\"new-error\""), "{body}");
    assert_eq!(phone.get("/account").status, 200);
    let done = send("/account/password", &[("current", "correct horse"), ("new", "another horse")]);
    assert_eq!((done.0, &*done.1), (303, "/account/settings?done=password"));
    assert_eq!(phone.get("/account").status, 303, "other sessions are over");
    assert_eq!(laptop.borrow().get("/account").status, 200);
    assert_eq!(log_in(&mut phone, "ann@example.com", "another horse"), 303);
    assert_eq!(send("/account/log-out-elsewhere", &[("password", "correct horse")]).0, 422);
    assert_eq!(phone.get("/account").status, 200);
    assert_eq!(send("/account/log-out-elsewhere", &[("password", "another horse")]).0, 303);
    assert_eq!(phone.get("/account").status, 303);
    // A form of another session is refused.
    let reply = laptop.borrow().post("/account/name", &[("form", "x"), ("name", "Eve")]);
    assert_eq!(reply.status, 403);
}

#[test]
fn letters_leave_by_smtp_over_tls_and_wait_for_a_server_that_is_down() {
    for (scheme, arg) in [("smtps", "--smtp-require-tls"), ("smtp", "--smtp-require-starttls")] {
        let mut mailpit = Mailpit::prepare(&[arg]);
        let server = served(&mailpit.settings(scheme, PASSWORD));
        let ann = Shopper::new(&server, "Ann");
        let reply = ann.post("/account/forgot?lang=zh", &[("email", "ann@example.com")]);
        assert_eq!(reply.status, 200, "{reply:?}");
        poll("the letter waits", || server.errors().contains("a letter waits").then_some(()));
        mailpit.restart();
        let letters = poll("the letter", || Some(mailpit.letters()).filter(|letters| !letters.is_empty()));
        let letter = &letters[0];
        assert_eq!(letters.len(), 1, "{scheme}");
        assert_eq!(letter["Subject"], "重置您在 Floodgate 的密码");
        assert_eq!(letter["From"]["Address"], "mail@shop.example");
        assert_eq!(letter["From"]["Name"], "Shop 店");
        assert_eq!(letter["To"][0]["Address"], "ann@example.com");
        let text = letter["Text"].as_str().unwrap();
        let link = link_in(text, "http://shop.example");
        let html = letter["HTML"].as_str().unwrap();
        assert!(html.contains(&link.replace('&', "&amp;")), "{html}");
        assert!(ann.get(&format!("/account/reset?{link}")).body.contains("设置新密码"));
        assert!(!server.errors().contains("ann@example.com") && !server.errors().contains("link="));
    }
}

#[test]
fn a_letter_that_is_refused_is_given_up_and_those_after_it_leave() {
    let mut mailpit =
        Mailpit::prepare(&["--smtp-require-tls", "--smtp-allowed-recipients", "@example\\.com$"]);
    mailpit.restart();
    let server = served(&mailpit.settings("smtps", PASSWORD));
    let stranger = Shopper::stranger(&server);
    poll("the store is open", || stranger.try_get("/").filter(|reply| reply.status == 200));
    let form = [("name", "Eve"), ("email", "eve@elsewhere.example"), ("password", "correct horse")];
    assert_eq!(stranger.post("/account/register", &form).status, 303);
    Shopper::new(&server, "Ann");
    for email in ["eve@elsewhere.example", "ann@example.com"] {
        assert_eq!(ask(&stranger, email).0, 200);
    }
    poll("Ann's letter", || (mailpit.letters().len() == 1).then_some(()));
    let said = poll("Eve's letter is given up", || {
        Some(server.errors()).filter(|said| said.contains("a letter is given up"))
    });
    assert!(said.contains("the address: the server said 5"), "{said}");
    assert!(!said.contains("elsewhere.example"), "{said}");
}

#[test]
fn a_wrong_password_or_a_stranger_in_the_place_of_the_server_gets_no_letter() {
    let mut mailpit = Mailpit::prepare(&["--smtp-require-tls"]);
    mailpit.restart();
    let mut server = served(&mailpit.settings("smtps", "wrong"));
    let ann = Shopper::new(&server, "Ann");
    assert_eq!(ask(&ann, "ann@example.com").0, 200);
    let waits = |of: &str| {
        poll(of, || server.errors().contains(of).then_some(()));
    };
    waits("the user and the password: the server said 535");
    // One whose certificate is another's.
    let other = Mailpit::prepare(&[]);
    let strange = other.settings("smtps", PASSWORD);
    let roots = strange.lines().find(|line| line.starts_with("roots_file")).unwrap();
    let settings = mailpit.settings("smtps", PASSWORD);
    let own = settings.lines().find(|line| line.starts_with("roots_file")).unwrap();
    server.stop();
    server.set_settings(&format!("[store]\nlisten = \"127.0.0.1:0\"\n{}", settings.replace(own, roots)));
    server.restart();
    let ann = Shopper::stranger(&server);
    poll("the store is open", || ann.try_get("/").filter(|reply| reply.status == 200));
    assert_eq!(ask(&ann, "ann@example.com").0, 200);
    poll("no letter to it", || server.errors().contains("connect: ").then_some(()));
    assert!(mailpit.letters().is_empty());
    // With the right ones the letters that waited leave.
    server.stop();
    server.set_settings(&format!("[store]\nlisten = \"127.0.0.1:0\"\n{settings}"));
    server.restart();
    poll("both letters", || (mailpit.letters().len() == 2).then_some(()));
}

#[test]
fn what_cannot_be_a_server_of_mail_is_refused_and_a_password_is_not_shown() {
    let check = |settings: &str, want: &str| {
        let server = tempfile::tempdir().unwrap();
        let file = server.path().join("floodgate.toml");
        fs::write(&file, format!("[store.mail]\n{settings}\n")).unwrap();
        let output = crate::harness::run(server.path(), Some(&file), &["config"]);
        let said = stderr(&output);
        assert!(!output.status.success() && said.contains(want), "{settings}: {said}");
        assert!(!said.contains("secret"), "{said}");
    };
    check("smtp = \"smtp://shop:secret@mail.example\"", "the password in mail.password_file");
    check("smtp = \"smtp://mail.example\"", "mail.smtp needs an address of your own here");
    let from = "from = \"mail@shop.example\"\n";
    check(&format!("{from}smtp = \"smtp://shop@mail.example\""), "want a file with the password");
    check(&format!("{from}smtp = \"smtp://mail.example\"\npassword_file = \"x\""), "or neither");
    check("from = \"the shop\"", "want an address such as");
    check(&format!("{from}smtp = \"smtp://127.0.0.1\""), "links in letters lead to it");
}

#[test]
fn each_letter_that_was_asked_for_arrives_although_the_server_is_killed() {
    let mut mailpit = Mailpit::prepare(&["--smtp-require-tls"]);
    mailpit.restart();
    let mut server = served(&mailpit.settings("smtps", PASSWORD));
    let names = ["Ann", "Bob", "Cem"];
    for name in names {
        Shopper::new(&server, name);
    }
    for round in 1..=4 {
        {
            let stranger = Shopper::stranger(&server);
            poll("the store is open", || stranger.try_get("/").filter(|reply| reply.status == 200));
            for name in names {
                let (status, _) = ask(&stranger, &format!("{name}@example.com"));
                assert_eq!(status, 200);
            }
        }
        // Some are under way, and some wait.
        std::thread::sleep(std::time::Duration::from_millis(15 * (round - 1)));
        server.kill();
        server.restart();
    }
    // One may come twice, under the same id.
    poll("all letters", || {
        let letters = mailpit.letters();
        let ids = |name: &str| {
            let to = format!("{}@example.com", name.to_lowercase());
            let own = letters.iter().filter(|letter| letter["To"][0]["Address"] == *to);
            own.map(|letter| letter["MessageID"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>().len()
        };
        names.iter().all(|name| ids(name) == 4).then_some(())
    });
}
