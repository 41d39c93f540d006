//! Keys that are refused: an attack on them is seen in the log of errors, which it cannot fill, and
//! nothing in it helps the attacker.

use crate::harness::Server;

#[test]
fn a_row_of_wrong_keys_leaves_one_line_that_names_no_key() {
    let server = Server::start();
    let ask = |key: &str| {
        let url = server.admin_url("/api/v1/admin/refusals");
        server.client.send("GET", &url, &[("authorization", &format!("Bearer {key}"))], "").status
    };
    let said: Vec<u16> = (0..50).map(|n| ask(&format!("fgk_boss_guess{n}"))).collect();
    assert_eq!(said[0], 401);
    // One who goes on is told to wait.
    assert!(said.iter().all(|status| [401, 429].contains(status)), "{said:?}");
    let errors = server.errors();
    let lines: Vec<&str> = errors.lines().filter(|line| line.contains("API key refused")).collect();
    assert_eq!(lines.len(), 1, "{errors}");
    for named in ["WARN", "127.0.0.1", "operation", "count"] {
        assert!(lines[0].contains(named), "{named}: {}", lines[0]);
    }
    assert!(!errors.contains("guess"), "{errors}");
}
