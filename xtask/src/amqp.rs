//! As much of AMQP 0-9-1 (rabbitmq.com/amqp-0-9-1-reference.html) as a publisher needs who wants
//! each message on the disk and confirmed: signing in, a durable queue, publisher confirms.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const FRAME_END: u8 = 0xce;
/// The type, the channel and the length before what a frame holds, and the end after it.
const FRAME_HEAD: usize = 7;
const CHANNEL: u16 = 1;
/// Class and method.
const ACK: (u16, u16) = (60, 80);

fn frame(kind: u8, channel: u16, payload: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
    out.push(FRAME_END);
}

fn method((class, method): (u16, u16), channel: u16, arguments: &[&[u8]], out: &mut Vec<u8>) {
    let mut payload = [class.to_be_bytes(), method.to_be_bytes()].concat();
    arguments.iter().for_each(|argument| payload.extend_from_slice(argument));
    frame(METHOD, channel, &payload, out);
}

fn short(text: &str) -> Vec<u8> {
    [&[text.len() as u8], text.as_bytes()].concat()
}

/// The length of the first whole frame, if it is there.
fn whole(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(bytes.get(3..FRAME_HEAD)?.try_into().ok()?) as usize;
    Some(FRAME_HEAD + length + 1).filter(|all| bytes.len() >= *all)
}

/// The class and method of a frame, and its arguments.
fn method_of(frame: &[u8]) -> Option<((u16, u16), &[u8])> {
    let number = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
    Some(((number(FRAME_HEAD)?, number(FRAME_HEAD + 2)?), frame.get(FRAME_HEAD + 4..frame.len() - 1)?))
}

/// Waits for this method; its arguments.
fn expect(stream: &mut TcpStream, want: (u16, u16)) -> Outcome<Vec<u8>> {
    let mut seen = Vec::new();
    loop {
        if let Some(all) = whole(&seen) {
            return match method_of(&seen[..all]) {
                Some((method, arguments)) if method == want => Ok(arguments.to_vec()),
                _ => Err(format!("AMQP: want {want:?}, got {:?}", String::from_utf8_lossy(&seen)).into()),
            };
        }
        let mut some = [0; 4096];
        let read = stream.read(&mut some)?;
        if read == 0 {
            return Err("AMQP: the server closed the connection".into());
        }
        seen.extend_from_slice(&some[..read]);
    }
}

/// Signs in, declares the queue, durable, and asks for confirms.
pub(crate) fn begin(stream: &mut TcpStream, queue: &str) -> Outcome<()> {
    let send = |stream: &mut TcpStream, of, channel, arguments: &[&[u8]]| -> Outcome<()> {
        let mut out = Vec::new();
        method(of, channel, arguments, &mut out);
        Ok(stream.write_all(&out)?)
    };
    let (no_table, login) = (0_u32.to_be_bytes(), b"\0guest\0guest");
    let login = [&(login.len() as u32).to_be_bytes()[..], login].concat();
    stream.write_all(b"AMQP\x00\x00\x09\x01")?;
    expect(stream, (10, 10))?;
    send(stream, (10, 11), 0, &[&no_table, &short("PLAIN"), &login, &short("en_US")])?;
    // As the server would have it, but without heartbeats.
    let mut tuned = expect(stream, (10, 30))?;
    tuned.truncate(6);
    send(stream, (10, 31), 0, &[&tuned, &[0, 0]])?;
    send(stream, (10, 40), 0, &[&short("/"), &short(""), &[0]])?;
    expect(stream, (10, 41))?;
    send(stream, (20, 10), CHANNEL, &[&short("")])?;
    expect(stream, (20, 11))?;
    send(stream, (50, 10), CHANNEL, &[&[0, 0], &short(queue), &[0b10], &no_table])?;
    expect(stream, (50, 11))?;
    send(stream, (85, 10), CHANNEL, &[&[0]])?;
    expect(stream, (85, 11)).map(drop)
}

/// A persistent message to the queue.
pub(crate) fn publish(queue: &str, body: &[u8], out: &mut Vec<u8>) {
    method((60, 40), CHANNEL, &[&[0, 0], &short(""), &short(queue), &[0]], out);
    let (class, weight, delivery_mode) = ([0, 60], [0, 0], [0x10, 0, 2]);
    let header = [&class[..], &weight, &(body.len() as u64).to_be_bytes(), &delivery_mode].concat();
    frame(HEADER, CHANNEL, &header, out);
    frame(BODY, CHANNEL, body, out);
}

/// How far messages of a channel are confirmed.
#[derive(Default)]
pub(crate) struct Confirmed {
    /// All up to this number are.
    up_to: u64,
    /// And these.
    after: std::collections::BTreeSet<u64>,
}

impl Confirmed {
    /// Reads what has come; how many are confirmed without a gap.
    pub(crate) fn read(&mut self, early: &mut Vec<u8>) -> Outcome<u64> {
        let mut at = 0;
        while let Some(all) = whole(&early[at..]) {
            let frame = &early[at..at + all];
            at += all;
            if frame[0] == HEARTBEAT {
                continue;
            }
            let Some((ACK, arguments)) = method_of(frame) else {
                return Err(format!("not stored: {:?}", String::from_utf8_lossy(frame)).into());
            };
            let (number, is_all_up_to) = arguments.split_at(8);
            let number = u64::from_be_bytes(number.try_into()?);
            if is_all_up_to == [1] {
                self.up_to = self.up_to.max(number);
            } else {
                self.after.insert(number);
            }
            while self.after.first().is_some_and(|first| *first <= self.up_to + 1) {
                self.up_to = self.after.pop_first().unwrap_or_default().max(self.up_to);
            }
        }
        early.drain(..at);
        Ok(self.up_to)
    }
}
