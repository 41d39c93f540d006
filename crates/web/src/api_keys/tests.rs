//! Keys, links and sessions, each in a directory of its own.

use super::*;

#[test]
fn a_running_server_refuses_a_revoked_key() {
    let dir = tempfile::tempdir().unwrap();
    let server = ApiKeys::open(dir.path()).unwrap();
    let tool = ApiKeys::open(dir.path()).unwrap();
    let text = tool.create("night-shift", Role::Operator, TimeMs(5)).unwrap();
    assert_eq!(server.verify(&text), Ok(Some(("night-shift".to_owned(), Grant::Role(Role::Operator)))));
    assert_eq!(server.verify(&text[..text.len() - 1]), Ok(None));
    assert_eq!(server.verify(&text.replace("night", "day")), Ok(None));
    assert!(!fs::read_to_string(dir.path().join("keys/admin.json")).unwrap().contains(&text[16..]));
    assert!(tool.create("night-shift", Role::Owner, TimeMs(5)).is_err());
    assert!(tool.create("Not_good", Role::Owner, TimeMs(5)).is_err());

    assert!(tool.revoke("night-shift").unwrap());
    assert!(!tool.revoke("night-shift").unwrap());
    assert_eq!(server.verify(&text), Ok(None));
    assert!(server.list().unwrap().is_empty());
}

/// What builds before tenants wrote, byte for byte, and what they would refuse.
#[test]
fn a_file_without_tenants_is_as_it_was_and_one_with_them_has_another_version() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys/admin.json");
    let keys = ApiKeys::open(dir.path()).unwrap();
    let text = keys.create("till", Role::Operator, TimeMs(5)).unwrap();
    let hash = blake3::hash(text.rsplit('_').next().unwrap().as_bytes()).to_hex();
    let before = format!(
        "{{\n  \"version\": 1,\n  \"keys\": [\n    {{\n      \"name\": \"till\",\n      \"role\": \"operator\",\n      \
         \"created_at\": \"1970-01-01T00:00:00.005Z\",\n      \"hash\": \"{hash}\"\n    }}\n  ]\n}}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
    let grant = TenantGrant {
        tenant: "acme".parse().unwrap(),
        rights: [Right::Produce].into(),
        topics: Some(["acme.orders".parse().unwrap()].into()),
    };
    let of_tenant = keys.create_for("shop", Grant::Tenant(grant.clone()), TimeMs(5)).unwrap();
    let with = fs::read_to_string(&path).unwrap();
    // As the builds before tenants read it.
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "it is only read")]
    struct KeyBefore {
        name: String,
        role: Role,
        created_at: TimeMs,
        hash: String,
    }
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "it is only read")]
    struct Before {
        version: u32,
        keys: Vec<KeyBefore>,
    }
    assert!(serde_json::from_str::<Before>(&before).is_ok());
    let refused = serde_json::from_str::<Before>(&with).unwrap_err().to_string();
    assert!(refused.starts_with("unknown field `tenant`"), "{refused}");
    assert!(with.contains("\"version\": 2") && with.contains("\"tenant\": \"acme\""), "{with}");
    let known = ApiKeys::open(dir.path()).unwrap();
    assert_eq!(known.verify(&of_tenant), Ok(Some(("shop".into(), Grant::Tenant(grant)))));
    assert_eq!(known.verify(&text), Ok(Some(("till".into(), Grant::Role(Role::Operator)))));
    assert!(known.mint_sign_in("shop", TimeMs(5), LIFETIME).is_err(), "a tenant signs in nowhere");
    assert!(keys.revoke("shop").unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
    let help = keys.create("help", Role::Support, TimeMs(5)).unwrap();
    let with_support = fs::read_to_string(&path).unwrap();
    assert!(with_support.contains("\"version\": 3") && with_support.contains("\"support\""));
    let known = ApiKeys::open(dir.path()).unwrap();
    assert_eq!(known.verify(&help), Ok(Some(("help".into(), Grant::Role(Role::Support)))));
    assert!(keys.revoke("help").unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), before, "earlier builds read it again");
    let refused = |text: &str| {
        write_secret(&path, text.as_bytes()).unwrap();
        ApiKeys::open(dir.path()).unwrap_err().to_string()
    };
    assert!(refused(&with.replace("\"version\": 2", "\"version\": 4")).contains("a later build"));
    assert!(refused(&with.replace("acme.orders", "beta.orders")).contains("begin with acme."));
    assert!(
        refused(&with.replace("\"rights\"", "\"role\": \"owner\", \"rights\"")).contains("want a role, or")
    );
}

/// Builds before the log's own names were kept from keys made such ones, and links for them.
#[test]
fn a_key_with_a_name_of_the_logs_own_acts_neither_by_itself_nor_by_a_link_or_session() {
    for name in Actor::SYSTEM {
        let dir = tempfile::tempdir().unwrap();
        let keys = ApiKeys::open(dir.path()).unwrap();
        assert!(keys.create(name, Role::Owner, TimeMs(5)).is_err(), "{name}");
        let text = keys.create("nora", Role::Owner, TimeMs(5)).unwrap();
        let (_, link) = keys.mint_sign_in("nora", TimeMs(5), LIFETIME).unwrap();
        for file in ["keys/admin.json", "keys/sign-in.json"].map(|file| dir.path().join(file)) {
            let of_nora = fs::read_to_string(&file).unwrap();
            write_secret(&file, of_nora.replace("\"nora\"", &format!("{name:?}")).as_bytes()).unwrap();
        }
        let keys = ApiKeys::open(dir.path()).unwrap();
        let key = keys.list().unwrap().remove(0);
        assert_eq!(key.name, name);
        let wanted = Wanted { role: Role::ReadOnly, rights: &[], is_form: false };
        let refused = |field: &'static str, value: String| {
            let mut headers = HeaderMap::new();
            headers.insert(field, value.parse().unwrap());
            keys.authorize(&headers, wanted).unwrap_err()
        };
        let text = text.replace("nora", name);
        assert!(keys.verify(&text).unwrap().is_some(), "it is that key");
        assert!(refused("authorization", format!("Bearer {text}")).is(&KEY_REFUSED), "{name}");
        let session = keys.begin_session(key).unwrap();
        assert!(refused("cookie", format!("{SESSION_COOKIE}={session}")).is(&KEY_MISSING), "{name}");
        assert!(keys.session(&session).unwrap().is_none(), "{name}");
        assert!(keys.mint_sign_in(name, TimeMs(5), LIFETIME).is_err(), "{name}");
        let taken = keys.take_sign_in(&link, TimeMs(6)).unwrap();
        assert!(matches!(taken, Taken::Refused { why, .. } if why.ends_with("the log's own")));
        assert!(keys.revoke(name).unwrap(), "it can still be revoked");
    }
}

#[test]
fn a_one_time_key_signs_in_once() {
    let dir = tempfile::tempdir().unwrap();
    let keys = ApiKeys::open(dir.path()).unwrap();
    let one_time = keys.mint_one_time().unwrap();
    assert_eq!(keys.sign_in("guess"), None);
    let session = keys.sign_in(&one_time).unwrap();
    let signed_in = keys.session(&session).unwrap().unwrap();
    assert!(signed_in.may(Role::ReadOnly) && !signed_in.may(Role::Operator));
    assert!(keys.session(&one_time).unwrap().is_none());
    assert_eq!(keys.sign_in(&one_time), None);
}

const LIFETIME: DurationMs = DurationMs(600_000);

/// Pages of one data directory are served by several processes.
#[test]
fn a_session_is_good_in_every_process_and_outlives_them_for_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (ApiKeys::open(dir.path()).unwrap(), ApiKeys::open(dir.path()).unwrap());
    one.create("nora", Role::Support, TimeMs(5)).unwrap();
    let key = one.list().unwrap().remove(0);
    let session = one.begin_session(key.clone()).unwrap();
    for process in [&one, &other, &ApiKeys::open(dir.path()).unwrap()] {
        assert_eq!(process.session(&session).unwrap().unwrap().role, Role::Support);
        assert!(process.session(&session[1..]).unwrap().is_none());
    }
    let path = dir.path().join("keys/sessions.json");
    let kept = fs::read_to_string(&path).unwrap();
    assert!(!kept.contains(&session), "only a hash is kept");
    // The newest stay, and those whose time is over, or has not begun, are none.
    let others: Vec<String> = (1..SESSIONS_MAX).map(|_| other.begin_session(key.clone()).unwrap()).collect();
    assert!(one.session(&session).unwrap().is_some());
    other.begin_session(key.clone()).unwrap();
    assert!(one.session(&session).unwrap().is_none(), "64 newer ones");
    assert!(others.iter().all(|session| one.session(session).unwrap().is_some()));
    for wrong in [wall_clock().0 - SESSION_TTL.as_millis() as u64, wall_clock().0 + 60_000] {
        let hash = blake3::hash(session.as_bytes()).to_hex().to_string();
        let old = Session { hash, since: TimeMs(wrong), key: key.clone() };
        let sessions = Sessions { version: VERSION, sessions: vec![old] };
        write_secret(&path, &serde_json::to_vec(&sessions).unwrap()).unwrap();
        assert!(one.session(&session).unwrap().is_none(), "{wrong}");
    }
    // A damaged file ends them all, and is replaced by the next sign-in.
    write_secret(&path, b"{").unwrap();
    assert!(one.session(&others[0]).unwrap().is_none());
    let session = one.begin_session(key).unwrap();
    assert!(other.session(&session).unwrap().is_some());
    one.revoke("nora").unwrap();
    assert!(other.session(&session).unwrap().is_none());
}

#[test]
fn a_link_of_another_process_signs_in_once_with_the_role_of_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let (server, tool) = (ApiKeys::open(dir.path()).unwrap(), ApiKeys::open(dir.path()).unwrap());
    assert!(tool.mint_sign_in("nora", TimeMs(5), LIFETIME).is_err(), "no such key");
    tool.create("nora", Role::Operator, TimeMs(5)).unwrap();
    let (role, link) = tool.mint_sign_in("nora", TimeMs(5), LIFETIME).unwrap();
    assert_eq!(role, Role::Operator);
    assert!(!fs::read_to_string(dir.path().join("keys/sign-in.json")).unwrap().contains(&link));
    assert!(server.is_sign_in(&link).unwrap() && !server.is_sign_in("guess").unwrap());
    let Taken::Session { name, session } = server.take_sign_in(&link, TimeMs(6)).unwrap() else { panic!() };
    assert_eq!(name, "nora");
    let signed_in = server.session(&session).unwrap().unwrap();
    assert_eq!((signed_in.name(), signed_in.may(Role::Operator)), ("nora", true));
    assert!(!signed_in.may(Role::Owner));
    assert_eq!(server.take_sign_in(&link, TimeMs(6)).unwrap(), Taken::Unknown);
    assert!(!server.is_sign_in(&link).unwrap());
    let again = ApiKeys::open(dir.path()).unwrap();
    assert_eq!(again.take_sign_in(&link, TimeMs(6)).unwrap(), Taken::Unknown, "after a restart too");

    // A revoked key ends its sessions, also if another gets its name.
    tool.revoke("nora").unwrap();
    assert!(server.session(&session).unwrap().is_none());
    tool.create("nora", Role::Owner, TimeMs(7)).unwrap();
    assert!(server.session(&session).unwrap().is_none());
}

#[test]
fn a_link_that_expired_or_whose_key_was_revoked_is_refused_and_used_up() {
    let dir = tempfile::tempdir().unwrap();
    let keys = ApiKeys::open(dir.path()).unwrap();
    keys.create("nora", Role::Owner, TimeMs(5)).unwrap();
    let check = |at: u64, revoke: bool, why: &'static str| {
        let (_, link) = keys.mint_sign_in("nora", TimeMs(5), LIFETIME).unwrap();
        if revoke {
            keys.revoke("nora").unwrap();
        }
        let refused = Taken::Refused { name: "nora".into(), why };
        assert_eq!(keys.take_sign_in(&link, TimeMs(at)).unwrap(), refused);
        assert_eq!(keys.take_sign_in(&link, TimeMs(6)).unwrap(), Taken::Unknown);
    };
    check(600_005, false, "expired");
    check(6, true, "its API key was revoked");
}

#[test]
fn a_sessions_cookie_alone_never_changes_anything() {
    let dir = tempfile::tempdir().unwrap();
    let keys = ApiKeys::open(dir.path()).unwrap();
    keys.create("nora", Role::Operator, TimeMs(5)).unwrap();
    let (_, link) = keys.mint_sign_in("nora", TimeMs(5), LIFETIME).unwrap();
    let Taken::Session { session, .. } = keys.take_sign_in(&link, TimeMs(6)).unwrap() else { panic!() };
    let mut headers = HeaderMap::new();
    headers.insert("cookie", format!("{SESSION_COOKIE}={session}").parse().unwrap());
    let operator = |want, is_form| {
        let mut extensions = Extensions::new();
        keys.authorize(&headers, Wanted { role: want, rights: &[], is_form })?.note(&mut extensions);
        Ok::<_, Problem>((extensions.get::<Operator>().is_some(), extensions.get::<SignedIn>().is_some()))
    };
    assert_eq!(operator(Role::ReadOnly, false).unwrap(), (true, true));
    assert_eq!(operator(Role::Operator, true).unwrap(), (false, true), "the form proves the operator");
    assert_eq!(operator(Role::ReadOnly, true).unwrap(), (false, true));
    assert!(operator(Role::Operator, false).unwrap_err().is(&KEY_MISSING));
    assert!(operator(Role::Owner, true).unwrap_err().is(&ROLE_REFUSED));
}
