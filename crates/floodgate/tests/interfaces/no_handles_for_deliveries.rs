//! A process without a free file handle: a delivery cannot open a connection, and a name is "not
//! known", as the resolver cannot read its files. That is no failure of the endpoint: no attempt is
//! spent, nothing becomes a dead letter, and everything goes out once there are handles again.

use crate::harness::{Server, poll, shop};
use crate::messages::{Endpoint, ask, event, post, with_topic};
use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::json;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const EVENTS: usize = 20;

/// Whatever the process opens next is refused; what it has open stays.
fn leave_no_handle(server: &Server) -> Rlimit {
    let whole = rustix::process::getrlimit(Resource::Nofile);
    let none = Rlimit { current: Some(1), maximum: whole.maximum };
    prlimit(Some(server.pid()), Resource::Nofile, none).unwrap()
}

/// What deliveries that cannot be opened for want of a handle leave behind: nothing.
fn check_that_nothing_is_spent(prepare: impl FnOnce(&Server, &str, &[Endpoint; 2]) -> u64) {
    let (server, key) = with_topic();
    let endpoints = [(); 2].map(|()| Endpoint::start());
    let named = endpoints[1].url.replace("127.0.0.1", "localhost");
    let retry = json!({ "first_seconds": 3, "longest_seconds": 3, "attempts": 2 });
    for (name, url) in [("crm", &endpoints[0].url), ("named", &named)] {
        let spec = json!({ "topic": "orders", "url": url, "retry": retry });
        let made = ask(&server, &key, "PUT", &format!("/api/v1/subscriptions/{name}"), &spec);
        assert_eq!(made.status, 200, "{made:?}");
    }
    let seen =
        |name: &str| ask(&server, &key, "GET", &format!("/api/v1/subscriptions/{name}"), &json!(null)).json();
    let failed = prepare(&server, &key, &endpoints);
    let before = leave_no_handle(&server);
    std::thread::sleep(Duration::from_millis(4500));
    for endpoint in &endpoints {
        *endpoint.status.lock().unwrap() = 204;
    }
    let got = || endpoints.each_ref().map(|endpoint| endpoint.got.lock().unwrap().len());
    assert_eq!(got(), [0, 0], "nothing can be opened");
    prlimit(Some(server.pid()), Resource::Nofile, before).unwrap();
    for (name, endpoint) in ["crm", "named"].iter().zip(&endpoints) {
        endpoint.wait_for(EVENTS);
        let seen = seen(name);
        assert_eq!((&seen["dead_letters"], &seen["failed"]), (&json!(0), &json!(failed)), "{seen}");
    }
    assert_eq!(got(), [EVENTS, EVENTS], "each once");
    let errors = server.errors();
    let lines = |what: &str| errors.lines().filter(|line| line.contains(what)).count();
    assert_eq!((lines("deliveries wait: "), lines("cannot be read")), (1, 0), "{errors}");
}

fn post_all(server: &Server, key: &str, deliverat: Option<String>) {
    let one = |id| {
        let mut event = event(id, id);
        if let Some(at) = &deliverat {
            event["deliverat"] = at.clone().into();
        }
        event
    };
    let batch = serde_json::Value::from_iter((0..EVENTS).map(one)).to_string();
    assert_eq!(post(server, key, "application/cloudevents-batch+json", &batch).status, 202);
}

#[test]
fn events_that_cannot_be_read_for_want_of_a_handle_wait() {
    check_that_nothing_is_spent(|server, key, _| {
        post_all(server, key, Some(shop::in_ms(1500)));
        0
    });
}

#[test]
fn a_connection_that_cannot_be_opened_for_want_of_a_handle_is_no_failed_attempt() {
    check_that_nothing_is_spent(|server, key, endpoints| {
        // The first attempt has the events in memory; the second, and last, needs a connection.
        for endpoint in endpoints {
            *endpoint.status.lock().unwrap() = 422;
            endpoint.closes.store(true, Relaxed);
        }
        post_all(server, key, None);
        poll("the first attempts", || {
            let metrics = server.client.get(&server.events_url("/metrics")).body;
            let all = ["crm", "named"]
                .map(|name| format!("floodgate_notify_failed_total{{subscription=\"{name}\"}} {EVENTS}\n"));
            all.iter().all(|line| metrics.contains(line)).then_some(())
        });
        EVENTS as u64
    });
}
