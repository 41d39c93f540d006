//! `floodgate key`: the operators' API keys. A running server applies changes by itself.

use super::print;
use crate::{CommandResult, Context};
use contracts::{TenantId, TopicId};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::{SystemTime, SystemTimeError, UNIX_EPOCH};
use units::{DurationMs, TimeMs};
use web::api_keys::{ApiKeys, Grant, Role};
use web::tenants::{Right, TenantGrant};

/// Long enough to copy the link into a browser on another machine.
const LINK_LIFETIME: DurationMs = DurationMs(10 * 60_000);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a key and print it, once
    New {
        /// Who it is for: a-z, 0-9 and -
        #[arg(value_name = "NAME")]
        name: String,
        /// owner, operator, support or read-only [default: operator]
        #[arg(long, value_name = "ROLE", conflicts_with = "tenant")]
        role: Option<Role>,
        /// Make a key for the message service only: for the topics and subscriptions whose names
        /// begin with TENANT and a full stop
        #[arg(long, value_name = "TENANT", requires = "rights")]
        tenant: Option<TenantId>,
        /// What a tenant's key may do: some of produce, consume and manage
        #[arg(long, value_name = "RIGHTS", value_delimiter = ',', requires = "tenant")]
        rights: Vec<Right>,
        /// The tenant's topics that the key produces and consumes of [default: all of them]
        #[arg(long, value_name = "TOPICS", value_delimiter = ',', requires = "tenant")]
        topics: Vec<TopicId>,
    },
    /// Print a link by which one browser signs in to the operators' page with the role of a key
    ///
    /// The link works once, and for ten minutes. The server may be running; it need not be. Whoever
    /// has the link is that operator, so send it to nobody else.
    SignIn {
        /// The key whose name and role the browser gets
        #[arg(value_name = "NAME")]
        name: String,
        /// The address of the operators' page, as the browser reaches it [default: of
        /// gate.admin_listen]
        #[arg(long, value_name = "URL")]
        at: Option<String>,
    },
    /// Make a key worthless
    Revoke {
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Print names, roles or rights, and ages; the keys themselves are kept nowhere
    List,
}

pub(crate) fn run(context: &Context, args: &Args) -> CommandResult {
    // A wrong --data must not get keys that no server ever reads.
    if !context.data.join("keys/master.key").is_file() {
        let dir = context.data.display();
        return Err(
            format!("key: {dir} has no data: name the server's --data, or start it there once").into()
        );
    }
    let keys = ApiKeys::open(&context.data)?;
    match &args.action {
        Action::New { name, role, tenant, rights, topics } => {
            let grant = match tenant {
                None => Grant::Role(role.unwrap_or(Role::Operator)),
                Some(tenant) => Grant::Tenant(TenantGrant {
                    tenant: tenant.clone(),
                    rights: rights.iter().copied().collect(),
                    topics: (!topics.is_empty()).then(|| topics.iter().cloned().collect()),
                }),
            };
            print(&format!("{}\n", keys.create_for(name, grant, now()?)?));
        }
        Action::SignIn { name, at } => {
            let at = operators_page(at.as_deref(), context.config.gate.admin_listen)?;
            let (role, one_time) = keys
                .mint_sign_in(name, now()?, LINK_LIFETIME)
                .map_err(|error| format!("key sign-in: {error}"))?;
            print(&format!("{at}/sign-in?key={one_time}\n"));
            note(&format!(
                "signs one browser in as {name:?} ({role}), once, within {} minutes; revoking the key ends the session",
                LINK_LIFETIME.0 / 60_000
            ));
        }
        Action::Revoke { name } => {
            if !keys.revoke(name)? {
                return Err(format!(
                    "key revoke: there is no key {name:?}; `floodgate key list` prints them"
                )
                .into());
            }
        }
        Action::List => {
            for key in keys.list()? {
                print(&format!("{}\t{}\t{}\n", key.name, key.grant, key.created_at));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn now() -> Result<TimeMs, SystemTimeError> {
    Ok(TimeMs(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64))
}

/// The link alone goes to standard output, so that it can be piped.
#[expect(clippy::print_stderr, reason = "for the person who asked for the link")]
fn note(text: &str) {
    eprintln!("{text}");
}

/// The operators' page: where the operator says that it is, or where the server listens.
fn operators_page(at: Option<&str>, listen: SocketAddr) -> Result<String, String> {
    if let Some(at) = at {
        let rest = at.strip_prefix("http://").or_else(|| at.strip_prefix("https://"));
        return match rest.map(|rest| rest.trim_end_matches('/')) {
            Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', ' ']) => {
                Ok(at.trim_end_matches('/').to_owned())
            }
            _ => Err(format!("key sign-in: --at {at:?}: want such as http://127.0.0.1:8081")),
        };
    }
    if listen.port() == 0 {
        return Err("key sign-in: gate.admin_listen has no fixed port: name the address with --at".into());
    }
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(format!("http://{}", SocketAddr::new(ip, listen.port())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_link_leads_to_where_the_operators_page_is() {
        let check = |at: Option<&str>, listen: &str, want: Option<&str>| {
            let page = operators_page(at, listen.parse().unwrap());
            assert_eq!(page.as_deref().ok(), want, "{at:?} {listen}");
        };
        check(None, "127.0.0.1:8081", Some("http://127.0.0.1:8081"));
        check(None, "0.0.0.0:81", Some("http://127.0.0.1:81"));
        check(None, "[::]:81", Some("http://[::1]:81"));
        check(None, "10.1.2.3:81", Some("http://10.1.2.3:81"));
        check(None, "127.0.0.1:0", None);
        check(Some("https://admin.example/"), "127.0.0.1:0", Some("https://admin.example"));
        check(Some("https://admin.example/path"), "127.0.0.1:8081", None);
        check(Some("admin.example"), "127.0.0.1:8081", None);
    }
}
