//! Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

use crate::protection::drained;
use axum::{
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use futures_util::{Stream, StreamExt, stream::unfold};
use http::header;
use std::{convert::Infallible, time::Duration};
use tokio::{sync::watch, time::sleep};

/// Proxies close connections on which nothing is sent for a minute.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);

/// An event: its name, and data of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub name: &'static str,
    pub data: String,
}

/// An answer with these events, until they end or the server drains. Without an event it sends a
/// comment every 15 seconds.
pub fn response(
    events: impl Stream<Item = Event> + Send + 'static,
    draining: watch::Receiver<bool>,
) -> Response {
    let stream = (Box::pin(events), draining, false);
    let chunks = unfold(stream, |(mut events, mut draining, has_begun)| async move {
        let chunk = tokio::select! {
            biased;
            event = events.next() => {
                let Event { name, data } = event?;
                format!("event: {name}\ndata: {data}\n\n")
            }
            () = sleep(HEARTBEAT_EVERY) => ":\n\n".to_owned(),
            // The present state is sent first.
            () = drained(&mut draining), if has_begun => return None,
        };
        Some((Ok::<_, Infallible>(chunk), (events, draining, true)))
    });
    answer(Body::from_stream(chunks))
}

/// An answer with these parts of a stream, each of whole lines. Comments for silent times and the
/// end at a drain are the caller's.
pub fn of_parts(parts: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    answer(Body::from_stream(parts.map(Ok::<_, Infallible>)))
}

fn answer(body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, body).into_response()
}
