//! Other programs that listen in front of the gate: nginx and HAProxy.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};

/// A program that ends with the test.
pub struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Proxy {
    /// Starts the program, and waits until it listens.
    pub fn start(program: &str, args: &[&str], listen: SocketAddr) -> Self {
        let child = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let advice = "`cargo xtask test` installs it";
        let mut proxy = Self(child.unwrap_or_else(|e| panic!("start {program}: {e}: {advice}")));
        let started = Instant::now();
        while TcpStream::connect(listen).is_err() {
            assert!(proxy.0.try_wait().unwrap().is_none(), "{program} ended: {args:?}");
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
