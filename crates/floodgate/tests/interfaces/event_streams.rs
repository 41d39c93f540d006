//! The events of a topic as server-sent events: in order, from where a reader was, also after a
//! kill, at the reader's pace, and until the server stops.

use crate::harness::http::Raw;
use crate::harness::{Server, Setup, poll};
use crate::messages::{ask, event, post};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::time::{Duration, Instant};

/// An event as a browser would dispatch it, or a number alone.
#[derive(Debug, Clone, PartialEq)]
struct Got {
    id: u64,
    kind: String,
    data: String,
}

/// A reader of a stream, which keeps to the rules of the format.
struct Reader {
    lines: BufReader<Answer>,
    retry: String,
}

/// What comes of an answer.
type Answer = Box<dyn Read>;

impl Reader {
    fn open(server: &Server, key: &str, query: &str, last: Option<u64>) -> Self {
        let url = server.events_url(&format!("/api/v1/topics/orders/stream{query}"));
        let mut fields = vec![("authorization".to_owned(), format!("Bearer {key}"))];
        fields.extend(last.map(|last| ("last-event-id".to_owned(), last.to_string())));
        let fields: Vec<(&str, &str)> = fields.iter().map(|(a, b)| (&**a, &**b)).collect();
        let reader = server.client.open(&url, &fields);
        Self { lines: BufReader::new(Box::new(reader)), retry: String::new() }
    }

    /// The next block with an event; none at the end of the stream.
    fn next(&mut self) -> Option<Got> {
        self.block(false)
    }

    /// The next block that is no comment.
    fn block(&mut self, with_numbers: bool) -> Option<Got> {
        let mut got = Got { id: 0, kind: String::new(), data: String::new() };
        loop {
            let mut line = String::new();
            match self.lines.read_line(&mut line) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return None,
                Err(_) => return None,
            }
            let line = line.strip_suffix('\n').unwrap_or(&line);
            match line.split_once(": ") {
                _ if line.is_empty() && (!got.data.is_empty() || with_numbers) => return Some(got),
                Some(("id", id)) => got.id = id.parse().unwrap(),
                Some(("event", kind)) => got.kind = kind.into(),
                Some(("data", data)) => got.data.push_str(data),
                Some(("retry", ms)) => self.retry = ms.into(),
                _ => assert!(line.is_empty() || line == ":", "{line:?}"),
            }
        }
    }

    fn take(&mut self, count: usize) -> Vec<Got> {
        (0..count).map(|_| self.next().expect("the stream goes on")).collect()
    }
}

fn start(notify: &str) -> (Server, String) {
    let server = Server::with(Setup { notify: notify.into(), ..Setup::default() });
    let key = server.new_key("owner", "owner");
    assert_eq!(ask(&server, &key, "PUT", "/api/v1/topics/orders", &json!({})).status, 200);
    (server, key)
}

fn post_all(server: &Server, key: &str, ids: std::ops::Range<usize>) {
    for from in ids.clone().step_by(500) {
        let batch: Vec<Value> = (from..(from + 500).min(ids.end)).map(|id| event(id, id)).collect();
        let said = post(server, key, "application/cloudevents-batch+json", &Value::from(batch).to_string());
        assert_eq!(said.status, 202, "{said:?}");
    }
}

fn numbers(got: &[Got]) -> Vec<u64> {
    got.iter().map(|got| got.id).collect()
}

fn open_streams(server: &Server) -> u64 {
    let metrics = server.client.get(&server.events_url("/metrics")).body;
    let row = metrics.lines().find_map(|line| line.strip_prefix("floodgate_notify_streams "));
    row.unwrap().parse().unwrap()
}

#[test]
fn a_stream_has_each_event_once_in_order_from_where_its_reader_was() {
    let (mut server, key) = start("");
    post_all(&server, &key, 0..3);
    let mut live = Reader::open(&server, &key, "", None);
    let begins = live.block(true).unwrap();
    assert_eq!((begins.id, &*live.retry), (3, "2000"), "what a reader comes back with that had none");
    let mut all = Reader::open(&server, &key, "?from=1", None);
    let got = all.take(3);
    assert_eq!(numbers(&got), [1, 2, 3]);
    assert_eq!(got[0].kind, "order.paid");
    let data: Value = serde_json::from_str(&got[0].data).unwrap();
    assert_eq!((&data["data"]["n"], &data["specversion"]), (&json!(0), &json!("1.0")), "{data}");
    post_all(&server, &key, 3..1203);
    assert_eq!(numbers(&live.take(1200)), (4..=1203).collect::<Vec<_>>(), "from now on");
    assert_eq!(numbers(&all.take(1200)), (4..=1203).collect::<Vec<_>>());
    // Last-Event-ID counts before `from`: a browser comes back with the same URL.
    let mut again = Reader::open(&server, &key, "?from=1", Some(1201));
    assert_eq!(numbers(&again.take(2)), [1202, 1203]);
    server.kill();
    assert_eq!((live.next(), all.next()), (None, None));
    server.restart();
    let mut back = poll("the message service", || {
        let url = server.events_url("/readyz");
        server.client.try_send("GET", &url, &[], "").ok().filter(|reply| reply.status == 200)?;
        Some(Reader::open(&server, &key, "", Some(1200)))
    });
    post_all(&server, &key, 1203..1206);
    assert_eq!(numbers(&back.take(6)), (1201..=1206).collect::<Vec<_>>(), "none lost, none twice");
}

/// Posts run against readers that come and go: each of them has every number once.
#[test]
fn readers_that_come_back_again_and_again_lose_nothing() {
    let (server, key) = start("");
    std::thread::scope(|scope| {
        scope.spawn(|| (0..40).for_each(|at| post_all(&server, &key, at * 25..(at + 1) * 25)));
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = 0;
                while last < 1000 {
                    let mut reader = Reader::open(&server, &key, "", Some(last));
                    for _ in 0..(1000 - last).min(37) {
                        let got = reader.next().unwrap();
                        assert_eq!(got.id, last + 1);
                        last = got.id;
                    }
                }
            });
        }
    });
    let metrics = server.client.get(&server.events_url("/metrics")).body;
    assert!(metrics.contains("floodgate_notify_stream_gaps_total 0"), "{metrics}");
}

#[test]
fn a_reader_that_is_behind_what_is_kept_is_told_where_it_goes_on() {
    let (server, key) = start("");
    let spec = json!({ "retain_events": 10, "retain_seconds": 60 });
    assert_eq!(ask(&server, &key, "PUT", "/api/v1/topics/orders", &spec).status, 200);
    post_all(&server, &key, 0..100);
    let first = poll("old events to go", || {
        let topics = ask(&server, &key, "GET", "/api/v1/topics", &json!(null)).json();
        let topics = topics["topics"].as_array().unwrap().clone();
        let orders = topics.iter().find(|topic| topic["topic"] == "orders").unwrap().clone();
        (orders["kept"] == 10).then_some(91)
    });
    let mut reader = Reader::open(&server, &key, "?from=5", None);
    let gap = Got { id: first - 1, kind: "gap".into(), data: format!("{{\"first\":{first}}}") };
    assert_eq!(reader.next(), Some(gap));
    assert_eq!(numbers(&reader.take(10)), (first..=100).collect::<Vec<_>>());
    // It names a number that is still to come: the topic was restored from a backup.
    let mut ahead = Reader::open(&server, &key, "", Some(5000));
    let gap = Got { id: 100, kind: "gap".into(), data: "{\"first\":101}".into() };
    assert_eq!(ahead.next(), Some(gap));
    post_all(&server, &key, 100..101);
    assert_eq!(numbers(&ahead.take(1)), [101]);
}

#[test]
fn a_slow_reader_is_read_for_at_its_own_pace_and_one_that_takes_nothing_is_closed() {
    let (server, key) = start("");
    let large = |id: usize| {
        let mut event = event(id, id);
        event["data"]["filler"] = json!("x".repeat(100_000));
        event
    };
    let memory = || {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", server.pid().as_raw_nonzero())).unwrap();
        let row = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        row.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    };
    let bearer = format!("Bearer {key}");
    let stuck = || {
        let mut raw = Raw::connect(&server.events);
        raw.head("GET", "/api/v1/topics/orders/stream?from=1", &[("authorization", &bearer)], 0);
        raw
    };
    let stuck: Vec<Raw> = (0..10).map(|_| stuck()).collect();
    let mut slow = Reader::open(&server, &key, "?from=1", None);
    poll("the streams", || (open_streams(&server) == 11).then_some(()));
    let before = memory();
    for from in (0..600).step_by(20) {
        let batch = Value::from((from..from + 20).map(large).collect::<Vec<_>>());
        let said = post(&server, &key, "application/cloudevents-batch+json", &batch.to_string());
        assert_eq!(said.status, 202, "{said:?}");
    }
    // 60 MB for each of eleven readers; what the log keeps in memory has its own bound.
    std::thread::sleep(Duration::from_secs(2));
    let grown = memory().saturating_sub(before);
    assert!(grown < 250, "{grown} MiB");
    let began = Instant::now();
    poll("the end of those that take nothing", || {
        // The slow one goes on meanwhile.
        slow.next().unwrap();
        std::thread::sleep(Duration::from_millis(80));
        (open_streams(&server) == 1).then_some(())
    });
    assert!(began.elapsed() > Duration::from_secs(15), "{:?}", began.elapsed());
    drop(stuck);
    let mut last = 0;
    while last < 600 {
        last = slow.next().unwrap().id;
    }
}

#[test]
fn a_stream_ends_when_the_server_stops_when_its_key_does_and_when_there_are_too_many() {
    let (mut server, key) = start("key_streams_max = 2\nstreams_max = 3\n");
    let other = server.new_key("other", "read-only");
    let open = |key: &str| {
        let url = server.events_url("/api/v1/topics/orders/stream");
        server.client.try_open(&url, &[("authorization", &*format!("Bearer {key}"))])
    };
    let (first, second, third) = (open(&key).unwrap(), open(&key).unwrap(), open(&other).unwrap());
    let refused = open(&key).err().unwrap();
    assert_eq!((refused.status, &*refused.problem()), (429, "key-limited"), "{refused:?}");
    assert!(refused.body.contains("notify.key_streams_max"), "{refused:?}");
    let refused = open(&other).err().unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (503, "10"), "{refused:?}");
    drop(first);
    poll("a place", || open(&other).ok());
    for (query, last) in [("?from=x", ""), ("", "x"), ("?since=1", "")] {
        let url = server.events_url(&format!("/api/v1/topics/orders/stream{query}"));
        let bearer = format!("Bearer {key}");
        let fields = [("authorization", &*bearer), ("last-event-id", last)];
        let fields = if last.is_empty() { &fields[..1] } else { &fields };
        let reply = server.client.send("GET", &url, fields, "");
        assert!(matches!(reply.status, 400 | 422), "{query} {last}: {reply:?}");
    }
    // A stream outlives the moment in which its key was checked, but not the key.
    let mut of_other = BufReader::new(third).lines();
    assert_eq!(of_other.next().unwrap().unwrap(), "retry: 2000");
    server.output(&["key", "revoke", "other"]);
    let began = Instant::now();
    assert!(
        of_other.map_while(Result::ok).all(|line| line.is_empty() || line.starts_with("id: ") || line == ":")
    );
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    let began = Instant::now();
    server.send_sigterm();
    let rest: Vec<String> = BufReader::new(second).lines().map_while(Result::ok).collect();
    let retry = rest.iter().rev().find_map(|line| line.strip_prefix("retry: ")).unwrap();
    assert!((3000..8000).contains(&retry.parse::<u64>().unwrap()), "{rest:?}");
    assert!(server.wait().success() && began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
