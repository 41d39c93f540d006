//! The part of an HTTP client that a crowd needs: one request at a time over one connection, from a
//! chosen address. A real client library would be most of the rehearsal's cost.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// A response: the parts that the crowd reads.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) retry_after_seconds: Option<u64>,
    pub(super) body: Vec<u8>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl Connection {
    pub(super) async fn open(from: IpAddr, to: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from, 0))?;
        let stream = timeout(CONNECT_TIMEOUT, socket.connect(to)).await??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends a request that is complete as it stands, and reads the response. After an error the
    /// connection cannot be used.
    pub(super) async fn ask(&mut self, request: &[u8]) -> io::Result<Response> {
        timeout(ANSWER_TIMEOUT, self.exchange(request)).await?
    }

    async fn exchange(&mut self, request: &[u8]) -> io::Result<Response> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if let Some(response) = parse(&self.buffer)? {
                return Ok(response);
            }
            if self.buffer.len() > ANSWER_BYTES_MAX {
                return Err(invalid("response too long"));
            }
            self.buffer.reserve(1024);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// The response at the start of the bytes, if it is complete.
fn parse(bytes: &[u8]) -> io::Result<Option<Response>> {
    let Some(head_len) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..head_len]).map_err(|_| invalid("header is not text"))?;
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| invalid("no status line"))?;
    let (mut length, mut retry_after_seconds) = (0, None);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(|_| invalid("content-length"))?;
        } else if name.eq_ignore_ascii_case("retry-after") {
            retry_after_seconds = value.trim().parse().ok();
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(invalid("chunked response where none was expected"));
        }
    }
    let body = &bytes[head_len + 4..];
    if body.len() < length {
        return Ok(None);
    }
    Ok(Some(Response { status, retry_after_seconds, body: body[..length].to_vec() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_read_only_once_it_is_complete() {
        let text = b"HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\ncontent-length: 2\r\n\r\nhi";
        for cut in 0..text.len() {
            assert!(parse(&text[..cut]).unwrap().is_none(), "{cut}");
        }
        let response = parse(text).unwrap().unwrap();
        assert_eq!((response.status, response.retry_after_seconds), (429, Some(7)));
        assert_eq!(response.body, b"hi");
    }
}
