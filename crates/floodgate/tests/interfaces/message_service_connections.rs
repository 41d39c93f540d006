//! What protects the shop's connections protects the message service's: at a stop a request that
//! has come is answered, and who does not read holds little in the kernel.

use crate::harness::Server;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";

/// The head of the next answer, once its body is read.
fn answer(reader: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "the connection ends without an answer: {head:?}");
    }
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap()];
    reader.read_exact(&mut body).unwrap();
    head.to_lowercase()
}

#[test]
fn every_request_of_clients_that_ask_on_while_it_stops_is_answered() {
    let mut server = Server::start();
    let asked = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..16)
            .map(|_| {
                let stream = TcpStream::connect(&server.events).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                scope.spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    for asked in 1.. {
                        (&stream).write_all(HEALTH).unwrap();
                        let head = answer(&mut reader);
                        assert!(head.starts_with("http/1.1 200"), "{head}");
                        if head.contains("connection: close") {
                            return asked;
                        }
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    0
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(200));
        server.send_sigterm();
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<usize>>()
    });
    assert!(asked.iter().all(|asked| *asked > 1), "{asked:?}");
    assert!(server.wait().success(), "{}", server.errors());
}

#[test]
fn a_slow_reader_of_large_answers_holds_little_in_the_kernel() {
    const READERS: u64 = 5;
    let server = Server::start();
    let slow: Vec<TcpStream> = (0..READERS)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.events).unwrap();
            stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
            let many = "GET /api/v1/openapi.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(5000);
            let _ = stream.write_all(many.as_bytes());
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    // The bytes that the kernel holds for this port and that nobody has taken (proc(5)).
    let port: u16 = server.events.rsplit(':').next().unwrap().parse().unwrap();
    let (at, table) = (format!(":{port:04X}"), fs::read_to_string("/proc/net/tcp").unwrap());
    let rows = table.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, queues) = (fields.next()?, fields.nth(2)?);
        let unsent = queues.split(':').next()?;
        local.ends_with(&at).then(|| u64::from_str_radix(unsent, 16).unwrap())
    });
    let each = rows.sum::<u64>() / READERS;
    assert!(each > 1000 && each < 512 << 10, "{each} bytes for each slow reader");
    drop(slow);
}
