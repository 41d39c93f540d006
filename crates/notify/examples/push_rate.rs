//! How many messages a second one pusher delivers: `push_rate URL SECONDS PUSHES THREADS`, with so
//! many pushes under way at once. It judges nothing.

use notify::push::{Bytes, Endpoint, Message, Outcome, Pusher, Secret, Settings};
use std::{
    io::Write,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use units::TimeMs;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, seconds, pushes, threads] = &arguments[..] else {
        panic!("want URL SECONDS PUSHES THREADS");
    };
    let number = |text: &String| text.parse::<usize>().expect("a number");
    let (seconds, pushes, threads) = (number(seconds), number(pushes), number(threads));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    runtime.expect("a runtime").block_on(run(url, seconds as u64, pushes));
}

async fn run(url: &str, seconds: u64, pushes: usize) {
    let allowed_networks = vec!["127.0.0.0/8".parse().expect("a network")];
    let settings = Settings { allowed_networks, connections_each_max: pushes, ..Settings::default() };
    let pusher = Arc::new(Pusher::new(settings).expect("a pusher"));
    let secrets = vec![Secret::generate().expect("a secret")];
    let endpoint = Arc::new(Endpoint { url: url.parse().expect("a URL"), secrets });
    let started = Instant::now();
    let until = started + Duration::from_secs(seconds);
    let tasks: Vec<_> = (0..pushes)
        .map(|task| {
            let (pusher, endpoint) = (Arc::clone(&pusher), Arc::clone(&endpoint));
            tokio::spawn(async move {
                let mut message = Message {
                    id: String::new(),
                    content_type: "application/json",
                    body: Bytes::from_static(&[b'7'; 300]),
                    headers: Vec::new(),
                };
                let (mut accepted, mut others) = (0u64, 0u64);
                while Instant::now() < until {
                    message.id = format!("msg_{task}_{accepted}");
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                    let attempt = pusher.push(&endpoint, &message, TimeMs(now.as_millis() as u64)).await;
                    match attempt.outcome {
                        Outcome::Accepted { .. } => accepted += 1,
                        _ => others += 1,
                    }
                }
                (accepted, others)
            })
        })
        .collect();
    let (mut accepted, mut others) = (0, 0);
    for task in tasks {
        let (more, more_others) = task.await.expect("a task");
        accepted += more;
        others += more_others;
    }
    let rate = accepted as f64 / started.elapsed().as_secs_f64();
    let _ = writeln!(std::io::stdout(), "{rate:.0} accepted a second, {others} others");
}
