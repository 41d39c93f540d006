//! Schedules over the listener: what is set is seen, survives a kill, and what is none is refused.

use crate::messages::{ask, with_topic};
use serde_json::{Value, json};
use units::TimeMs;

const PATH: &str = "/api/v1/schedules/morning";

fn morning() -> Value {
    json!({
        "topic": "orders", "cron": "0 10 * * MON-FRI", "time_zone": "Asia/Shanghai",
        "event": { "source": "/shop", "type": "shop.report", "data": { "price": 1.10 } },
    })
}

#[test]
fn a_schedule_is_set_seen_changed_and_deleted() {
    let (mut server, key) = with_topic();
    let made = ask(&server, &key, "PUT", PATH, &morning());
    assert_eq!(made.status, 200, "{made:?}");
    let made = made.json();
    let next: TimeMs = made["next"].as_str().unwrap().parse().unwrap();
    // At 02:00 UTC, on a day of work: 1970-01-01 was a Thursday.
    let day = (4 + next.0 / 86_400_000) % 7;
    assert_eq!(next.0 % 86_400_000, 2 * 3_600_000, "{made}");
    assert!((1..=5).contains(&day), "{made}");
    assert_eq!((&made["posted"], &made["is_paused"]), (&json!(0), &json!(false)));
    let read = ask(&server, &key, "GET", PATH, &Value::Null);
    assert!(
        read.body.contains(r#""event":{"data":{"price":1.1},"source":"/shop","type":"shop.report"}"#),
        "{read:?}"
    );
    server.kill();
    server.restart();
    let list = crate::harness::poll("the message service", || {
        let reply = ask(&server, &key, "GET", "/api/v1/schedules", &Value::Null);
        (reply.status == 200).then(|| reply.json())
    });
    assert_eq!(list["schedules"], json!([made]));
    let page = server.client.admin("GET", &server.events_url("/?lang=en"), &key, "").body;
    assert!(page.contains("data-schedule=\"morning\"") && page.contains("Asia/Shanghai"), "{page}");
    let mut paused = morning();
    paused["is_paused"] = json!(true);
    let paused = ask(&server, &key, "PUT", PATH, &paused).json();
    assert_eq!((&paused["is_paused"], paused.get("next")), (&json!(true), None));
    assert_eq!(ask(&server, &key, "DELETE", PATH, &Value::Null).status, 200);
    assert_eq!(ask(&server, &key, "DELETE", PATH, &Value::Null).status, 404);
    assert_eq!(ask(&server, &key, "GET", PATH, &Value::Null).status, 404);
}

#[test]
fn what_is_no_schedule_is_refused_and_named() {
    let (server, key) = with_topic();
    let put = |change: fn(&mut Value)| {
        let mut spec = morning();
        change(&mut spec);
        let reply = ask(&server, &key, "PUT", PATH, &spec);
        (reply.status, reply.body)
    };
    let check = |change: fn(&mut Value), status: u16, want: &str| {
        let (got, body) = put(change);
        assert!(got == status && body.contains(want), "{got} {body}, want {want}");
    };
    check(|spec| spec["cron"] = json!("0 0 10 * * *"), 422, "five fields");
    check(|spec| spec["cron"] = json!("never"), 422, "cron: ");
    check(|spec| spec["cron"] = json!("0 0 31 2 *"), 422, "names no time that ever comes");
    check(|spec| spec["time_zone"] = json!("Mars/Base"), 422, "time_zone: ");
    check(|spec| spec["event"] = json!({ "source": "/s" }), 422, "type: missing");
    check(|spec| spec["event"]["id"] = json!("mine"), 422, "id: leave it out");
    check(|spec| spec["event"] = json!(7), 422, "");
    check(|spec| spec["topic"] = json!("nowhere"), 404, "no topic nowhere");
    check(|spec| spec["every"] = json!("day"), 422, "every");
    check(|spec| spec["event"]["data"] = json!("x".repeat(17 << 10)), 413, "");
    let sales = crate::harness::poll("the topic of all sales", || {
        let (status, body) = put(|spec| spec["topic"] = json!("sales"));
        (status != 404).then_some((status, body))
    });
    assert!(sales.0 == 409 && sales.1.contains("only this server posts there"), "{sales:?}");
    let list = ask(&server, &key, "GET", "/api/v1/schedules", &Value::Null).json();
    assert_eq!(list["schedules"], json!([]));
}
