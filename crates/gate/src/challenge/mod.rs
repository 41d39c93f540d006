//! What a shopper must solve before a pass: a proof of work, or a code to be read or heard. Each
//! challenge is bound to its sale, its shopper and its expiry, and may be used once. This module
//! knows no HTTP.
//!
//! A challenge is a price, not an identity (mCaptcha#186): it makes a pass more expensive for a
//! script, and proves nothing about the caller. What a shopper may buy is limited by the sale.

mod image;
mod ledger;
mod proof_of_work;
mod sound;

pub(crate) use crate::ports::UseError;
use crate::{
    config::{ChallengeConfig, ChallengeMode},
    keys::Keyring,
    ports::UsedChallenges,
};
use contracts::ShopperKey;
use engines::embedded::disk::RealDisk;
use ledger::{Ledger, Nonce};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, io, path::Path, sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use units::{DurationMs, TimeMs};

pub(crate) use crate::config::RISK_MAX;

/// Each picture or sound costs milliseconds of a processor. This many are made at once, on separate
/// threads.
const MADE_AT_ONCE_MAX: usize = 2;
/// The longest wait for one. After that, more are requested than can be made.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// The shopper who gets a challenge, or solves one.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    pub(crate) sale: String,
    pub(crate) shopper: ShopperKey,
    pub(crate) now: TimeMs,
}

/// The challenge that is to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    /// 0 to [`RISK_MAX`]: how much the caller looks like a script.
    pub(crate) risk: usize,
    /// Whether to make a sound rather than a picture, if there is a choice.
    pub(crate) sound: bool,
}

/// What a client sends in exchange for a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Solution {
    /// The payload of an ALTCHA widget: base64 of JSON.
    Altcha(String),
    Code(CodeAnswer),
}

/// The answer to a code.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CodeAnswer {
    pub(crate) id: String,
    /// Small letters count as large ones, and spaces are ignored.
    pub(crate) answer: String,
}

/// A challenge that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(crate) enum Made {
    ProofOfWork(MadeProofOfWork),
    Code(MadeCode),
}

/// A challenge of ALTCHA, version 1. The solution is the number for which the hash of the salt and
/// its decimal digits is the challenge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "ProofOfWork", deny_unknown_fields)]
pub(crate) struct MadeProofOfWork {
    #[schemars(extend("const" = "SHA-256"))]
    pub(crate) algorithm: &'static str,
    #[schemars(extend("pattern" = "^[0-9a-f]{64}$"))]
    pub(crate) challenge: String,
    #[schemars(range(min = 1))]
    pub(crate) maxnumber: u64,
    #[schemars(extend("pattern" = "^[0-9a-f]{64}[?]issued=[0-9]+&expires=[0-9]+&maxnumber=[0-9]+&$"))]
    pub(crate) salt: String,
    #[schemars(extend("pattern" = "^[0-9a-f]{64}$"))]
    pub(crate) signature: String,
}

/// A code that the shopper reads or hears, and types.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "CodeChallenge", deny_unknown_fields)]
pub(crate) struct MadeCode {
    pub(crate) code: Code,
    pub(crate) expires_at: TimeMs,
}

/// A code, as an image or as sound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline, deny_unknown_fields)]
pub(crate) struct Code {
    #[schemars(extend("pattern" = "^[A-Za-z0-9_-]+$"))]
    pub(crate) id: String,
    #[schemars(range(min = 4, max = 6))]
    pub(crate) length: u32,
    /// A data: URL of a PNG, 280 by 120 pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
    /// A data: URL of a WAV, some 1.6 seconds for each letter; in place of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) audio: Option<String>,
}

/// A challenge of this gate, made for this caller, not expired. It counts as used now, solved or
/// not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checked {
    nonce: Nonce,
    expires_at: TimeMs,
    solved: bool,
    too_fast: bool,
}

/// A challenge that was solved, and is now used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Solved {
    /// It was solved faster than a browser can.
    pub(crate) too_fast: bool,
}

/// Why a solution is refused; the label in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Malformed,
    OtherKind,
    NotYours,
    Expired,
    Wrong,
    Used,
}

impl Reason {
    pub(crate) const ALL: [Self; 6] =
        [Self::Malformed, Self::OtherKind, Self::NotYours, Self::Expired, Self::Wrong, Self::Used];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::OtherKind => "other_kind",
            Self::NotYours => "not_yours",
            Self::Expired => "expired",
            Self::Wrong => "wrong",
            Self::Used => "used",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed",
            Self::OtherKind => "of another kind than this server asks for",
            Self::NotYours => "given to another shopper or for another sale, or changed",
            Self::Expired => "expired",
            Self::Wrong => "wrong, and the challenge is used up",
            Self::Used => "used before",
        })
    }
}

/// Makes challenges and checks solutions, without keeping any: the client sends back what the check
/// needs, protected by a keyed hash.
pub(crate) trait Challenge: fmt::Debug + Send + Sync {
    /// A challenge, as JSON. It contains the answer only in the form that is to be solved. May take
    /// milliseconds.
    fn make(&self, asker: &Asker, wish: Wish) -> io::Result<Made>;

    /// Whether the solution is right, and of a challenge that was made for this caller. Does not
    /// check whether it was used.
    fn check(&self, asker: &Asker, solution: &Solution) -> Result<Checked, Reason>;

    /// True if [`Challenge::make`] may take milliseconds.
    fn is_slow(&self) -> bool;
}

/// Why there is no pass for a solution, or no challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    Missing,
    Solution(Reason),
    /// The solution stays valid.
    Unavailable(UseError),
}

/// The challenge that the configuration requires, and the ledger of used challenges.
#[derive(Debug)]
pub struct Challenges(Option<Asking>);

#[derive(Debug)]
struct Asking {
    challenge: Arc<dyn Challenge>,
    ledger: Arc<dyn UsedChallenges>,
    makers: Arc<Semaphore>,
    /// Only in the stage `fortress`.
    only_in_need: bool,
}

impl Challenges {
    /// Reads the used challenges from `challenges/` under the data directory, if the configuration
    /// has a challenge at all.
    pub fn open(config: &ChallengeConfig, keys: &Arc<Keyring>, data: &Path) -> io::Result<Self> {
        if config.mode == ChallengeMode::Off {
            return Ok(Self(None));
        }
        let lifetime = DurationMs::seconds(config.lifetime_seconds());
        let disk = RealDisk::create(&data.join("challenges"))?;
        Ok(Self::with(config, keys, Arc::new(Ledger::open(disk, lifetime, config.used_max)?)))
    }

    /// The same with a ledger that is elsewhere.
    pub fn with(config: &ChallengeConfig, keys: &Arc<Keyring>, ledger: Arc<dyn UsedChallenges>) -> Self {
        let keys = Arc::clone(keys);
        let challenge: Arc<dyn Challenge> = match config.mode {
            ChallengeMode::Off => return Self(None),
            ChallengeMode::Fortress | ChallengeMode::ProofOfWork => {
                Arc::new(proof_of_work::ProofOfWork::new(keys, config))
            }
            ChallengeMode::Image => Arc::new(image::ImageCode::new(keys, config)),
        };
        let only_in_need = config.mode == ChallengeMode::Fortress;
        let makers = Arc::new(Semaphore::new(MADE_AT_ONCE_MAX));
        Self(Some(Asking { challenge, ledger, makers, only_in_need }))
    }

    /// The ledger, if it is in this process.
    pub fn ledger(&self) -> Option<Arc<dyn UsedChallenges>> {
        self.0.as_ref().map(|asking| Arc::clone(&asking.ledger))
    }

    /// True if a pass needs a solution, always or because the gate `needs` one now.
    pub(crate) fn is_asked(&self, needs: impl FnOnce() -> bool) -> bool {
        self.0.as_ref().is_some_and(|asking| !asking.only_in_need || needs())
    }

    /// A challenge for this caller; `None` if none is required. [`io::ErrorKind::TimedOut`] if too
    /// many are requested.
    pub(crate) async fn make(&self, asker: Asker, wish: Wish) -> io::Result<Option<Made>> {
        let Some(asking) = &self.0 else { return Ok(None) };
        let challenge = Arc::clone(&asking.challenge);
        if !challenge.is_slow() {
            return challenge.make(&asker, wish).map(Some);
        }
        let busy =
            || io::Error::new(io::ErrorKind::TimedOut, "more challenges are asked for than can be made");
        let permit = tokio::time::timeout(WAIT_MAX, Arc::clone(&asking.makers).acquire_owned()).await;
        let permit = permit.map_err(|_| busy())?.map_err(|_| busy())?;
        let made = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            challenge.make(&asker, wish)
        });
        made.await.map_err(io::Error::other)?.map(Some)
    }

    /// Lets a caller have a pass, once for each challenge; at once if none is required.
    pub(crate) async fn redeem(&self, asker: &Asker, solution: Option<&Solution>) -> Result<Solved, Refused> {
        let Some(asking) = &self.0 else { return Ok(Solved { too_fast: false }) };
        let checked =
            asking.challenge.check(asker, solution.ok_or(Refused::Missing)?).map_err(Refused::Solution)?;
        let used = asking.ledger.use_up(checked.nonce, checked.expires_at, asker.now).await;
        let used =
            used.unwrap_or_else(|_| Err(UseError::Disk("the thread that keeps the ledger has ended".into())));
        used.map_err(|error| match error {
            UseError::Used => Refused::Solution(Reason::Used),
            UseError::Forgotten => Refused::Solution(Reason::Expired),
            error => Refused::Unavailable(error),
        })?;
        match checked.solved {
            true => Ok(Solved { too_fast: checked.too_fast }),
            false => Err(Refused::Solution(Reason::Wrong)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn asker(keys: &Keyring, sale: &str, shopper: &str, now: u64) -> Asker {
        Asker { sale: sale.into(), shopper: keys.shopper_key(shopper), now: TimeMs(now) }
    }

    fn open(dir: &Path) -> (Arc<Keyring>, Challenges) {
        let keys = Arc::new(Keyring::from_master(&[7; 32]));
        let config =
            ChallengeConfig { mode: ChallengeMode::ProofOfWork, maxnumber: 1000, ..Default::default() };
        let challenges = Challenges::open(&config, &keys, dir).unwrap();
        (keys, challenges)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_thousand_parallel_uses_of_one_solution_let_one_in_and_a_restart_none() {
        let dir = tempfile::tempdir().unwrap();
        let (keys, challenges) = open(dir.path());
        let alice = asker(&keys, "demo", "alice", 1_000_000);
        let made = challenges.make(alice.clone(), Wish { risk: 0, sound: false }).await.unwrap().unwrap();
        let solution = Solution::Altcha(proof_of_work::tests::solve(&proof_of_work::tests::sent(&made)));
        let challenges = Arc::new(challenges);
        let uses: Vec<_> = (0..1000)
            .map(|_| {
                let (challenges, alice, solution) =
                    (Arc::clone(&challenges), alice.clone(), solution.clone());
                tokio::spawn(async move { challenges.redeem(&alice, Some(&solution)).await })
            })
            .collect();
        let mut passes = 0;
        for one in uses {
            match one.await.unwrap() {
                Ok(_) => passes += 1,
                Err(refused) => assert_eq!(refused, Refused::Solution(Reason::Used)),
            }
        }
        assert_eq!(passes, 1);
        drop(challenges);
        let (_, challenges) = open(dir.path());
        let again = challenges.redeem(&alice, Some(&solution)).await;
        assert_eq!(again, Err(Refused::Solution(Reason::Used)));
        assert_eq!(challenges.redeem(&alice, None).await, Err(Refused::Missing));
    }
}
