//! Other programs that listen in front of the gate: nginx and HAProxy.

use std::{
    fs::File,
    io::{Read, Seek},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};

/// A program that ends with the test. What it said is printed if the test fails.
pub struct Proxy {
    child: Child,
    name: String,
    said: File,
}

impl Drop for Proxy {
    #[expect(clippy::print_stderr, reason = "a test that fails says why")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (status, mut said) = (self.child.try_wait(), String::new());
            let read = self.said.rewind().and_then(|()| self.said.read_to_string(&mut said));
            eprintln!("{}: ended: {status:?}; it said ({read:?}): {said}", self.name);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Proxy {
    /// Starts the program, and waits until it listens.
    pub fn start(program: &str, args: &[&str], listen: SocketAddr) -> Self {
        let said = tempfile::tempfile().unwrap();
        let to = said.try_clone().unwrap();
        let child = Command::new(program).args(args).stdout(Stdio::null()).stderr(to).spawn();
        let advice = "`cargo xtask test` installs it";
        let child = child.unwrap_or_else(|e| panic!("start {program}: {e}: {advice}"));
        let mut proxy = Self { child, name: format!("{program} {args:?}"), said };
        let started = Instant::now();
        while TcpStream::connect(listen).is_err() {
            assert!(proxy.child.try_wait().unwrap().is_none(), "{program} ended: {args:?}");
            assert!(started.elapsed() < Duration::from_secs(20), "{program} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        proxy
    }
}

/// An address for a program that cannot say on which port it listens.
///
/// A free port of 127.0.0.1 may be taken again before the program listens there: by a listener of
/// another test, or by the very connection that asks whether the program listens. So each program
/// gets an address of the loopback network that nothing else uses.
pub fn unused_address() -> SocketAddr {
    static GIVEN: AtomicU8 = AtomicU8::new(1);
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    let number = GIVEN.fetch_add(1, Ordering::Relaxed);
    // The first byte differs from that of 127.0.0.1 and of the addresses that tests pretend to be.
    let address = Ipv4Addr::new(127, 128 | high, low, number);
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap()
}

#[test]
fn programs_in_front_of_the_gate_get_different_addresses() {
    let [first, second] = [unused_address(), unused_address()];
    assert_ne!(first.ip(), second.ip());
    assert!(first.ip().is_loopback() && first.ip() != Ipv4Addr::LOCALHOST);
}
