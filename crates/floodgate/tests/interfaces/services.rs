//! The contexts of the store as services of their own: six processes behind HAProxy are one store,
//! and what one that is away takes with it is its own part only.

use crate::{
    carts::{self, Operator},
    harness::{BINARY, Server, Setup, http::Client, poll},
    store::Shopper,
};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

const PARTS: [&str; 6] = ["account", "catalog", "order", "payment", "inventory", "shop"];

/// A process; it is killed when the test ends.
struct Running {
    child: Child,
    /// Kept open, because the process must be able to print.
    _stdout: Option<BufReader<ChildStdout>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The store in six processes.
struct Apart {
    /// The sales and the message service; its `store` is the balancer's address.
    server: Server,
    /// Of an operator.
    key: String,
    parts: Vec<(&'static str, Running)>,
    _balancer: Running,
}

/// Ports that are free now; all of them are different.
fn free_ports(count: usize) -> Vec<u16> {
    let all: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    all.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

/// The rules of docs/operating.md, as an operator copies them.
fn rules() -> String {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operating.md");
    let text = fs::read_to_string(manual).unwrap();
    let rules = text.split_once("```haproxy\nfrontend store\n").expect("the manual has the rules").1;
    rules.split_once("```").unwrap().0.to_owned()
}

impl Apart {
    /// On the data of a demo, which has products and stock.
    fn start() -> Self {
        let serve = ["--demo", "--demo-opens-in", "0"].map(str::to_owned).to_vec();
        let settings = "[store]\nlisten = \"127.0.0.1:0\"\n".to_owned();
        let mut server = Server::with(Setup { serve, settings, ..Setup::default() });
        let operator = Operator::new(&server);
        poll("the store is open", || operator.try_figures());
        let key = operator.key;
        server.stop();
        let ports = free_ports(12);
        let (balancer, shop) = (ports[0], ports[1]);
        let service = |at: usize| {
            let (name, listen, answers) = (PARTS[at], ports[2 + 2 * at], ports[3 + 2 * at]);
            format!(
                "[store.services.{name}]\nlisten = \"127.0.0.1:{listen}\"\nports = \"127.0.0.1:{answers}\"\n"
            )
        };
        let services: String = (0..5).map(service).collect();
        let settings = format!(
            "[store]\nlisten = \"127.0.0.1:{shop}\"\n\
             public_url = \"http://127.0.0.1:{balancer}\"\npayments = \"sandbox\"\n{services}"
        );
        server.set_serve(&["--role", "sale"]);
        server.set_settings(&settings);
        server.restart_unready();
        server.store = format!("127.0.0.1:{balancer}");
        let backend = |at: usize| {
            let port = if at == 5 { shop } else { ports[2 + 2 * at] };
            format!("backend {}\n server one 127.0.0.1:{port}\n", PARTS[at])
        };
        let backends: String = (0..6).map(backend).collect();
        let config = server.scratch().join("haproxy.cfg");
        let defaults = "defaults\n mode http\n retries 0\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n";
        let text = format!("{defaults}frontend store\n bind 127.0.0.1:{balancer}\n{}{backends}", rules());
        fs::write(&config, text).unwrap();
        let child = Command::new("haproxy").args(["-db", "-f"]).arg(&config).stdout(Stdio::null()).spawn();
        let child = child.expect("haproxy: `cargo xtask test` installs it");
        let balancer = Running { child, _stdout: None };
        let mut apart = Self { server, key, parts: Vec::new(), _balancer: balancer };
        PARTS.iter().for_each(|part| apart.start_part(part));
        poll("the balancer listens", || TcpStream::connect(&apart.server.store).ok());
        let operator = apart.operator();
        poll("all parts are open", || {
            let stranger = Shopper::stranger(&apart.server);
            let pages = ["/", "/cart", "/p/marsh-keyboard"];
            let are_there =
                pages.iter().all(|path| stranger.try_get(path).is_some_and(|page| page.status == 200));
            (operator.try_figures().is_some() && are_there && apart.lists_payments(&operator.key))
                .then_some(())
        });
        apart
    }

    fn operator(&self) -> Operator<'_> {
        Operator { server: &self.server, key: self.key.clone() }
    }

    fn lists_payments(&self, key: &str) -> bool {
        let url = format!("http://{}/api/v1/store/payments", self.server.store);
        self.server.client.admin("GET", &url, key, "").status == 200
    }

    fn start_part(&mut self, part: &'static str) {
        let errors = self.server.scratch().join(format!("{part}-errors"));
        let mut child = Command::new(BINARY)
            .args(["serve", "--role", part, "--join"])
            .arg(self.server.data.join("gates/socket"))
            .arg("--data")
            .arg(&self.server.data)
            .arg("--config")
            .arg(self.server.config_file())
            .stdout(Stdio::piped())
            .stderr(fs::File::options().create(true).append(true).open(&errors).unwrap())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut printed = String::new();
        let read = stdout.read_line(&mut printed).unwrap();
        let said = || fs::read_to_string(&errors).unwrap();
        assert!(read > 0 && printed.starts_with("store: http://"), "{part}: {printed}{}", said());
        self.parts.push((part, Running { child, _stdout: Some(stdout) }));
    }

    /// SIGKILL.
    fn kill_part(&mut self, part: &str) {
        let before = self.parts.len();
        self.parts.retain(|(name, _)| *name != part);
        assert_eq!(self.parts.len(), before - 1, "{part} runs");
    }

    /// The address at which a part answers the others.
    fn ports_of(&self, part: &str) -> String {
        let config: toml::Value =
            toml::from_str(&fs::read_to_string(self.server.config_file()).unwrap()).unwrap();
        config["store"]["services"][part]["ports"].as_str().unwrap().to_owned()
    }
}

#[test]
fn six_processes_are_one_store_and_one_that_is_away_takes_its_own_part_only() {
    let mut apart = Apart::start();
    // Registered, bought, paid, shipped, returned and refunded, over all of them.
    carts::to_the_refund(&apart.operator());
    strangers_get_nothing(&apart);
    an_operator_signs_in_once_for_all_parts(&apart);

    // Without the stock nothing can be bought, and all is shown.
    apart.kill_part("inventory");
    let server = &apart.server;
    let ben = Shopper::new(server, "Ben");
    for path in ["/", "/orders", "/account", "/search?q=keyboard"] {
        assert_eq!(ben.get(path).status, 200, "{path}");
    }
    let (count, failed) = calls(&apart, "shop", "inventory");
    let page = ben.get("/p/marsh-keyboard");
    assert_eq!(page.status, 200, "{page:?}");
    let (count_after, failed_after) = calls(&apart, "shop", "inventory");
    assert!(count_after > count && failed_after > failed, "{count} {count_after} {failed} {failed_after}");
    let session = ben.session.clone();
    drop(ben);
    apart.start_part("inventory");
    let (server, operator) = (&apart.server, apart.operator());
    let before = poll("the stock is back", || operator.try_figures());
    let mut ben = Shopper::with(server, session.clone());
    carts::add(&mut ben, "1");
    let reply = carts::check_out(&ben);
    assert_eq!(reply.status, 303, "{reply:?}");
    let order = reply.header("location").to_owned();

    // Money that comes while orders are away is not lost.
    let sandbox = ben.begin_to_pay(&order);
    drop(ben);
    apart.kill_part("order");
    let ben = Shopper::with(&apart.server, session.clone());
    ben.choose(&sandbox, "pay");
    assert_eq!(ben.get("/p/marsh-keyboard").status, 200);
    let page = ben.try_get("/orders").unwrap();
    assert!(page.status == 503 && page.body.contains("<h1"), "{page:?}");
    // Who has an order on its way is not forgotten while it cannot be asked about it.
    let form = ben.get("/account/settings").body;
    let form = [("form", crate::store::form_token(&form)), ("password", "correct horse")];
    let refused = ben.post("/account/delete", &form);
    assert_eq!(refused.status, 503, "{refused:?}");
    drop(ben);
    apart.start_part("order");
    let ben = Shopper::with(&apart.server, session);
    assert_eq!(ben.get("/orders").status, 200, "orders are back");
    ben.wait_for(&order, "Paid: it is yours");
    let operator = apart.operator();
    operator.wait_for(&order, "allocated");
    assert_eq!(operator.try_figures().unwrap()[1], before[1] + 1);
    let audit = operator.get("/stock-audit");
    assert_eq!(audit["differences"], serde_json::json!([]), "{audit}");
}

/// The calls of one context that a part has made, and those that had no answer.
fn calls(apart: &Apart, part: &str, of: &str) -> (u64, u64) {
    let config: toml::Value =
        toml::from_str(&fs::read_to_string(apart.server.config_file()).unwrap()).unwrap();
    let listen = match part {
        "shop" => config["store"]["listen"].as_str().unwrap(),
        part => config["store"]["services"][part]["listen"].as_str().unwrap(),
    };
    let url = format!("http://{listen}/metrics");
    let metrics = apart.server.client.admin("GET", &url, &apart.key, "").body;
    let value = |name: &str| {
        let row = format!("floodgate_store_calls_{name}total{{context=\"{of}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&row));
        line.unwrap_or_else(|| panic!("{row}: {metrics}")).parse().unwrap()
    };
    (value(""), value("failed_"))
}

/// The console's pages are those of five processes.
fn an_operator_signs_in_once_for_all_parts(apart: &Apart) {
    let Apart { server, .. } = apart;
    server.new_key("nora", "read-only");
    let at = format!("http://{}", server.store);
    let printed = server.output(&["key", "sign-in", "nora", "--at", &at]);
    let link = printed.split_whitespace().find(|word| word.starts_with(&at)).expect("a link");
    let form = ("content-type", "application/x-www-form-urlencoded");
    let client = Client::undescribed();
    let signed_in = client.send("POST", link, &[form, ("origin", &at)], "");
    assert!(signed_in.status == 303 && signed_in.header("location").starts_with("/console"), "{signed_in:?}");
    let cookie = signed_in.header("set-cookie").split(';').next().unwrap();
    for page in [
        "/console",
        "/console/returns",
        "/console/products",
        "/console/trail/catalog",
        "/console/accounts",
        "/console/stock",
        "/console/warehouses",
        "/console/payments",
        "/console/reconciliations",
    ] {
        let fields = [("cookie", cookie), ("accept", "text/html")];
        let reply = client.send("GET", &format!("{at}{page}"), &fields, "");
        assert!(reply.status == 200 && reply.body.contains("</html>"), "{page}: {reply:?}");
        let style = crate::store::between(&reply.body, "<link rel=\"stylesheet\" href=\"", "\"");
        assert_eq!(client.send("GET", &format!("{at}{style}"), &[], "").status, 200, "{page}: {style}");
    }
}

/// The listener for other contexts, as a stranger finds it.
fn strangers_get_nothing(apart: &Apart) {
    let client = &apart.server.client;
    let at = apart.ports_of("account");
    let call = |path: &str, key: Option<&str>, body: &str| {
        let mut fields = vec![("content-type", "application/json")];
        fields.extend(key.map(|key| ("floodgate-services-key", key)));
        let reply = client.try_send("POST", &format!("http://{at}{path}"), &fields, body);
        let errors = || fs::read_to_string(apart.server.scratch().join("account-errors")).unwrap();
        let reply =
            reply.unwrap_or_else(|error| panic!("{path} with {} bytes: {error}: {}", body.len(), errors()));
        let problem: Value = serde_json::from_str(&reply.body).unwrap_or_default();
        let slug = problem["type"].as_str().unwrap_or_default().rsplit(['/', '#']).next().unwrap_or_default();
        (reply.status, slug.to_owned())
    };
    let session = "/ports/1/accounts/session";
    let of = |status: u16, slug: &str| (status, slug.to_owned());
    assert_eq!(call(session, None, "[\"x\"]"), of(401, "services-key-missing"));
    let wrong = "A".repeat(43);
    assert_eq!(call(session, Some(&wrong), "[\"x\"]"), of(401, "services-key-refused"));
    // An operator's key is no key of services.
    let owner = apart.server.new_key("o", "owner");
    let as_operator = [("authorization", &*format!("Bearer {owner}")), ("content-type", "application/json")];
    let reply = client.try_send("POST", &format!("http://{at}{session}"), &as_operator, "[\"x\"]").unwrap();
    assert_eq!(reply.status, 401, "{reply:?}");
    let key = fs::read_to_string(apart.server.data.join("keys/services.key")).unwrap();
    let key = Some(key.trim());
    assert_eq!(call(session, key, "[\"x\"]").0, 200, "a session that there is not");
    for unreadable in ["{}", "\"x\"", "[]", "[1]", "[\"x\", 2]", ""] {
        assert_eq!(call(session, key, unreadable), of(422, "invalid"), "{unreadable}");
    }
    assert_eq!(call("/ports/1/stock/levels", key, "[[]]"), of(404, "not-found"), "another context's port");
    assert_eq!(call("/ports/2/accounts/session", key, "[\"x\"]").0, 404, "another version");
    assert_eq!(call(session, key, &format!("[\"{}\"]", "x".repeat(300 << 10))), of(413, "body-too-large"));
    // Nor does the shop's own listener answer it.
    let reply = client.try_send("POST", &format!("http://{}{session}", apart.server.store), &[], "").unwrap();
    assert_eq!(reply.status, 404, "{reply:?}");
}

#[test]
fn a_part_says_what_it_needs_before_it_starts() {
    let server = Server::start();
    let config = server.scratch().join("parts.toml");
    let said = |role: &str, text: &str| {
        fs::write(&config, text).unwrap();
        let output = Command::new(BINARY)
            .args(["serve", "--role", role, "--join"])
            .arg(server.data.join("gates/socket"))
            .arg("--data")
            .arg(&server.data)
            .arg("--config")
            .arg(&config)
            .output()
            .unwrap();
        assert!(!output.status.success());
        crate::harness::stderr(&output)
    };
    let alone = said("catalog", "");
    assert!(alone.contains("set store.services.catalog.listen"), "{alone}");
    let mute = said("catalog", "[store.services.catalog]\nlisten = \"127.0.0.1:0\"\n");
    assert!(mute.contains("store.services.catalog.ports"), "{mute}");
    let notify = "[notify]\nlisten = \"127.0.0.1:1\"\n";
    let shop = said("shop", &format!("{notify}[store]\nlisten = \"127.0.0.1:0\"\n"));
    assert!(shop.contains("set store.services.account.ports"), "{shop}");
    let wrong = said("account", "[store.services.order]\nports = \"8203\"\n");
    assert!(wrong.contains("`store.services.order`: ports: want a host and a port"), "{wrong}");
}
