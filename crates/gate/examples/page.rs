//! The demo's page over a sale in memory, to look at: `cargo run -p gate --example page [SECONDS TO
//! THE OPENING]`.
#![allow(clippy::print_stdout, reason = "it says where it listens")]

#[path = "../tests/gate/fake/mod.rs"]
mod fake;

use std::time::Duration;

fn main() {
    tracing_subscriber::fmt().init();
    let opens_in: u64 = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(30);
    let gate = fake::Running::start(opens_in == 0, true, |config| {
        config.shop_listen.set_port(8090);
        config.admin_listen.set_port(8091);
        config.limits.exempt_addresses = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let key = gate.api_keys.mint_one_time().unwrap();
    println!("http://{} and http://{}/sign-in?key={key}", gate.bound.shop, gate.bound.admin);
    if opens_in > 0 {
        gate.sale.change_view(|v| v.opens_at = gate_now().plus(units::DurationMs::seconds(opens_in)));
        std::thread::sleep(Duration::from_secs(opens_in));
        gate.sale.open();
    }
    std::thread::park();
}

fn gate_now() -> units::TimeMs {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    units::TimeMs(since_epoch.as_millis() as u64)
}
