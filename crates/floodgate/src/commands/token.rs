//! `floodgate token`: shopper tokens signed with the configured secret, or ready passes, for any
//! load tool.

use super::print;
use crate::{CommandResult, Context};
use contracts::{SHOPPER_ID_FORM, SaleId};
use gate::pass::{Pass, issue};
use serde_json::json;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use units::{DurationMs, TimeMs};
use web::jwt::{Shopper, sign_token};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shopper's id; with --count, -1, -2 … are appended
    #[arg(long, value_name = "ID")]
    shopper: String,
    /// The shopper's tier
    #[arg(long, value_name = "T", default_value_t = 0)]
    tier: u8,
    /// Print a pass for this sale instead of a token
    #[arg(long, value_name = "S")]
    sale: Option<SaleId>,
    /// Print so many, one JSON object a line
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// How long it is valid
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    valid: u64,
}

pub(crate) fn run(context: &Context, args: &Args) -> CommandResult {
    let now = TimeMs(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64);
    if !context.data.join("keys/master.key").is_file() {
        let dir = context.data.display();
        return Err(
            format!("token: {dir} has no keys: name the server's --data, or start it there once").into()
        );
    }
    let keys = gate::Keyring::open(&context.data)?;
    let config = &context.config.gate.jwt;
    let elsewhere = !config.jwks_file.is_empty() || !config.jwks_url.is_empty();
    let pinned = config.algorithms.contains(&gate::config::JwtAlgorithm::HS256);
    if args.sale.is_none() && (elsewhere || !pinned) {
        return Err("token: the configuration ([gate.jwt]) takes tokens that others sign: use their signer, or --sale".into());
    }
    let secret = if config.key_file.is_empty() {
        gate::open_jwt_secret(&context.data)?
    } else {
        let file = std::fs::read(&config.key_file)
            .map_err(|error| format!("read gate.jwt.key_file {}: {error}", config.key_file))?;
        match web::jwt::shared_secret(&file) {
            Ok(secret) => secret.to_vec(),
            // A pass is not signed with it.
            Err(_) if args.sale.is_some() => Vec::new(),
            Err(why) => {
                let advice = "only a secret can sign here: use the shop's own signer, or --sale";
                return Err(format!("gate.jwt.key_file {why}; {advice}").into());
            }
        }
    };
    let make = |id: String| -> Result<(String, &'static str, String), String> {
        let (key, sealed) =
            keys.seal(&id).ok_or_else(|| format!("shopper {id:?}: want {SHOPPER_ID_FORM}"))?;
        match &args.sale {
            Some(sale) => {
                let expires_at = now.plus(DurationMs::seconds(args.valid));
                let pass = Pass { shopper: key, sealed, tier: args.tier, expires_at };
                Ok((id, "pass", issue(&keys, sale, &pass)))
            }
            None => {
                let shopper = Shopper { id: id.clone(), tier: args.tier };
                Ok((id, "token", sign_token(&secret, config, &shopper, now, args.valid)))
            }
        }
    };
    match args.count {
        None => print(&format!("{}\n", make(args.shopper.clone())?.2)),
        Some(count) => {
            let mut lines = String::new();
            for n in 1..=count {
                let (shopper, kind, text) = make(format!("{}-{n}", args.shopper))?;
                lines.push_str(&json!({ "shopper": shopper, kind: text }).to_string());
                lines.push('\n');
                if lines.len() > 1 << 16 {
                    print(&lines);
                    lines.clear();
                }
            }
            print(&lines);
        }
    }
    Ok(ExitCode::SUCCESS)
}
