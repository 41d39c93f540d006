//! One HTTP/2 connection (RFC 9113), over TLS. hyper speaks the protocol. Here are the limits on
//! the memory that a client may make it use, and the timeouts that end an idle connection.

use super::{
    connection::{Activity, InHand, Stream, Taken, WRITE_STALL_MAX_MS},
    roll::Entry,
};
use crate::{config::ConnectionsConfig, protection::drained};
use axum::response::Response;
use http::Request;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::watch, time::sleep};

/// Bytes of bodies that a client may send before it is told that some were read: the bodies of four
/// attempts on a stream, the forms of a page on all streams.
const STREAM_WINDOW_BYTES: u32 = 16 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 10;
/// Bytes of an answer that are kept for a client that does not read it: one page.
const SEND_BUFFER_BYTES: usize = 16 << 10;
/// Streams that a client has opened and reset before they were handled, and streams that were reset
/// for its mistakes. More than this is an attack (CVE-2023-44487), and ends the connection.
const RESET_EARLY_MAX: usize = 20;
const RESET_FOR_MISTAKES_MAX: usize = 32;
/// Pings find a peer that is gone while an answer is pending. More of them would keep a phone's
/// radio awake.
const PING_EVERY: Duration = Duration::from_secs(60);
const PING_WAIT: Duration = Duration::from_secs(20);
/// How often a connection with open streams is checked, and how long a connection may take to end
/// once it has been told to.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const GOODBYE: Duration = Duration::from_secs(2);

/// Serves one connection until either side ends it, it idles too long, or the server drains.
pub(super) async fn serve<S, F, A>(
    stream: S,
    settings: &ConnectionsConfig,
    streams_max: u32,
    mut draining: watch::Receiver<bool>,
    entry: Arc<Entry>,
    answer: F,
) where
    S: Stream,
    F: Fn(Request<Taken>, InHand) -> A + Clone + Send + 'static,
    A: Future<Output = Response> + Send + 'static,
{
    let activity = Arc::new(Activity::new(Some(Arc::clone(&entry))));
    let of_service = Arc::clone(&activity);
    let service = service_fn(move |request: Request<Incoming>| {
        let in_hand = of_service.begin();
        let response = answer(request.map(|body| Taken::new(body, &of_service)), in_hand);
        async move { Ok::<_, Infallible>(response.await) }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams_max)
        .max_header_list_size(u32::try_from(settings.header_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESET_EARLY_MAX)
        .max_local_error_reset_streams(RESET_FOR_MISTAKES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WAIT);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut drains = false;
    let mut goodbye: Option<Instant> = None;
    loop {
        let wait = if goodbye.is_some() { GOODBYE } else { look_in(&activity, settings) };
        tokio::select! {
            _ = connection.as_mut() => return,
            () = sleep(wait) => {}
            () = drained(&mut draining), if !drains => {
                drains = true;
                goodbye = goodbye.or(Some(Instant::now()));
                connection.as_mut().graceful_shutdown();
            }
            () = entry.told_to_close(), if goodbye.is_none() => {
                goodbye = Some(Instant::now());
                connection.as_mut().graceful_shutdown();
            }
        }
        if activity.stalled_ms().is_some_and(|stalled| stalled > WRITE_STALL_MAX_MS) {
            return;
        }
        let is_silent = activity.unchanged_ms() >= silence_ms_max(&activity, settings);
        match goodbye {
            _ if activity.is_busy() => {}
            // The client has had the time to answer the farewell.
            Some(at) if at.elapsed() >= GOODBYE => return,
            None if is_silent => {
                goodbye = Some(Instant::now());
                connection.as_mut().graceful_shutdown();
            }
            _ => {}
        }
    }
}

/// How long a client may be silent: before its first request, as long as a head may take; later, as
/// long as a connection may be idle between two requests.
fn silence_ms_max(activity: &Activity, settings: &ConnectionsConfig) -> u64 {
    let seconds = match activity.has_answered() {
        true => settings.idle_timeout_seconds,
        false => settings.header_timeout_seconds,
    };
    seconds * 1000
}

/// When the next timeout may have passed.
fn look_in(activity: &Activity, settings: &ConnectionsConfig) -> Duration {
    if activity.is_busy() {
        return LOOK_EVERY;
    }
    let left_ms = silence_ms_max(activity, settings).saturating_sub(activity.unchanged_ms());
    Duration::from_millis(left_ms.max(100))
}
