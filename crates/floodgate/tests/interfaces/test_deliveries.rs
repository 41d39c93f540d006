//! Test deliveries: an operator sees what an endpoint answers, at once, and nothing else changes.

use crate::harness::http::Reply;
use crate::harness::{Server, poll, stdout};
use crate::messages::{Endpoint, ask, event, post, signature, start, subscribe};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

const TEST: &str = "/api/v1/subscriptions/crm/test";

fn test(server: &Server, key: &str) -> Reply {
    ask(server, key, "POST", TEST, &json!({}))
}

fn seen(server: &Server, key: &str) -> Value {
    ask(server, key, "GET", "/api/v1/subscriptions/crm", &json!(null)).json()
}

/// An endpoint that does one thing to each connection.
fn strange(serve: fn(TcpStream)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    url
}

#[test]
fn a_test_event_is_signed_like_any_other_and_changes_nothing() {
    let server = start();
    let key = server.new_key("owner", "owner");
    let endpoint = Endpoint::start();
    ask(&server, &key, "PUT", "/api/v1/topics/orders", &json!({}));
    let secret = subscribe(&server, &key, "orders", &endpoint.url, json!({ "attempts": 1 }));
    let log = || ask(&server, &key, "GET", "/api/v1/topics", &json!(null)).json();
    let (before, topics) = (seen(&server, &key), log());
    let told = test(&server, &key);
    assert_eq!(told.status, 200, "{told:?}");
    let told = told.json();
    assert_eq!(
        (&told["delivered"], &told["status"], &told["address"]),
        (&json!(true), &json!(204), &json!("127.0.0.1"))
    );
    let got = endpoint.wait_for(1);
    assert_eq!(
        (&got[0].id, got[0].event()["type"].as_str()),
        (&told["id"].as_str().unwrap().to_owned(), Some("floodgate.test"))
    );
    assert_eq!(got[0].signature, signature(&secret, &got[0]));
    assert_eq!(
        (got[0].event()["id"].clone(), got[0].event()["subject"].clone()),
        (told["id"].clone(), json!("crm"))
    );
    // A refusal too: no attempt, no breaker, and also while nothing else is delivered.
    *endpoint.status.lock().unwrap() = 503;
    ask(&server, &key, "POST", "/api/v1/subscriptions/crm/pause", &json!({}));
    let told = test(&server, &key).json();
    assert_eq!(
        (&told["delivered"], &told["status"], &told["failed"]),
        (&json!(false), &json!(503), &Value::Null)
    );
    ask(&server, &key, "POST", "/api/v1/subscriptions/crm/resume", &json!({}));
    assert_eq!((seen(&server, &key), log()), (before, topics));
    // 410 to a real event disables the subscription, and a test can still be sent to see whether
    // that is mended; 410 to a test disables nothing.
    *endpoint.status.lock().unwrap() = 410;
    let told = test(&server, &key).json();
    assert_eq!((&told["status"], &seen(&server, &key)["state"]), (&json!(410), &json!("active")));
    post(&server, &key, "application/cloudevents+json", &event(7, 1).to_string());
    poll("the end of deliveries", || (seen(&server, &key)["state"] == "disabled").then_some(()));
    *endpoint.status.lock().unwrap() = 204;
    let over = test(&server, &key);
    assert_eq!(
        (over.status, &*over.problem()),
        (429, "rate-limited"),
        "three, and then one every five seconds"
    );
    std::thread::sleep(std::time::Duration::from_secs(over.header("retry-after").parse().unwrap()));
    assert_eq!(test(&server, &key).json()["delivered"], true);
    assert_eq!(seen(&server, &key)["state"], "disabled");
    assert_eq!(ask(&server, &key, "POST", "/api/v1/subscriptions/none/test", &json!({})).status, 404);
    ask(&server, &key, "PUT", "/api/v1/subscriptions/worker", &json!({ "topic": "orders" }));
    let pulled = ask(&server, &key, "POST", "/api/v1/subscriptions/worker/test", &json!({}));
    assert_eq!(pulled.problem(), "conflict");
    let reader = server.new_key("reader", "read-only");
    assert_eq!(test(&server, &reader).problem(), "role-refused");
}

#[test]
fn what_keeps_an_endpoint_from_answering_is_named() {
    use crate::harness::Setup;
    let notify = "allowed_networks = [\"127.0.0.0/8\"]\nattempt_ms = 1500\n".to_owned();
    let server = Server::with(Setup { notify, ..Setup::default() });
    let key = server.new_key("owner", "owner");
    ask(&server, &key, "PUT", "/api/v1/topics/orders", &json!({}));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let says = |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad\r\ncontent-length: 16\r\n\r\nno such customer");
    };
    let silent = |stream: TcpStream| {
        std::thread::sleep(std::time::Duration::from_secs(5));
        drop(stream);
    };
    let nonsense = |mut stream: TcpStream| drop(stream.write_all(b"what?\r\n\r\n"));
    for (at, (url, failed, said)) in [
        (strange(says), json!(null), "no such customer"),
        (format!("http://{closed}/hook"), json!("connect"), "refused"),
        ("https://10.255.255.1/hook".into(), json!("address-refused"), "10.255.255.1"),
        ("https://nosuch.invalid/hook".into(), json!("resolve"), "nosuch.invalid"),
        (strange(silent), json!("timed-out"), "response"),
        (strange(silent).replace("http:", "https:"), json!("timed-out"), "tls"),
        (strange(nonsense), json!("protocol"), ""),
        (strange(nonsense).replace("http:", "https:"), json!("tls"), "tls"),
        ("http://192.0.2.1/hook".into(), json!("address-refused"), "192.0.2.1"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("s{at}");
        let spec = json!({ "topic": "orders", "url": url });
        let made = ask(&server, &key, "PUT", &format!("/api/v1/subscriptions/{name}"), &spec);
        assert_eq!(made.status, 200, "{made:?}");
        let told =
            ask(&server, &key, "POST", &format!("/api/v1/subscriptions/{name}/test"), &json!({})).json();
        assert_eq!((&told["failed"], &told["delivered"]), (&failed, &json!(false)), "{url}: {told}");
        assert!(told["said"].as_str().unwrap().contains(said), "{url}: {told}");
        assert!(told["took_ms"].as_u64().unwrap() < 3000, "{url}: {told}");
    }
}

#[test]
fn an_operator_sends_one_by_a_form_and_reads_what_came_of_it_in_two_languages() {
    let server = start();
    let key = server.new_key("owner", "owner");
    server.new_key("nora", "operator");
    let endpoint = Endpoint::start();
    ask(&server, &key, "PUT", "/api/v1/topics/orders", &json!({}));
    subscribe(&server, &key, "orders", &endpoint.url, json!({}));
    *endpoint.status.lock().unwrap() = 422;
    let link = stdout(&server.command(&["key", "sign-in", "--at", &server.events_url(""), "nora"]));
    let signed_in = server.client.send("POST", link.trim(), &[], "");
    let cookie = signed_in.header("set-cookie").split(';').next().unwrap().to_owned();
    let page =
        |path: &str| server.client.send("GET", &server.events_url(path), &[("cookie", &cookie)], "").body;
    let shown = page("/subscriptions/crm");
    assert!(shown.contains("Send a test event") && !shown.contains("id=\"tested\""), "{shown}");
    let token = shown.split_once("name=\"form\" value=\"").unwrap().1.split('"').next().unwrap();
    let fields = [("cookie", &*cookie), ("content-type", "application/x-www-form-urlencoded")];
    let send =
        |form: &str| server.client.send("POST", &server.events_url("/subscriptions/operate"), &fields, form);
    let sent = send(&format!("form={token}&lang=en&subscription=crm&what=test"));
    assert_eq!(
        (sent.status, sent.header("location")),
        (303, "/subscriptions/crm?lang=en&done=test"),
        "{sent:?}"
    );
    let shown = page(sent.header("location"));
    assert!(shown.contains("role=\"status\"") && shown.contains("the endpoint refused it"), "{shown}");
    assert!(shown.contains("status 422"), "{shown}");
    let zh = page("/subscriptions/crm?lang=zh&done=test");
    assert!(zh.contains("接收方拒绝") && zh.contains("发送测试事件") && zh.contains("状态码 422"), "{zh}");
    assert_eq!(send("form=x&subscription=crm&what=test").problem(), "form-refused");
    assert_eq!(seen(&server, &key)["failed"], 0);
}
