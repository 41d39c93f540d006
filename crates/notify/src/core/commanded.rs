//! Commands that have an Idempotency-Key: one that comes again is answered as it was, and changes
//! nothing.

use super::{
    Notify,
    command::{Command, Refused, Reply},
    record::{Record, Said},
};
use contracts::{CommandKey, SubscriptionId};
use runtime::{Broken, Decision, Machine, Step};
use units::TimeMs;

/// The subscription of a command that may have a key. The others are the same however often they
/// are carried out.
fn of_command(command: &Command) -> Option<&SubscriptionId> {
    match command {
        Command::Replay { name, .. }
        | Command::RotateSecret { name, .. }
        | Command::Redrive { name, .. }
        | Command::Discard { name, .. } => Some(name),
        _ => None,
    }
}

impl Notify {
    /// Carries out a command that has a key, unless it was carried out under it before. One that
    /// was refused has changed nothing, and is decided afresh.
    ///
    /// The key is logged in the step in which the command is done. If the process ends between two
    /// steps, what is left is done by the retry, which then counts only that.
    pub(super) fn once(
        &mut self,
        now: TimeMs,
        (key, command): (CommandKey, &Command),
        so_far: u64,
        out: &mut Step,
    ) -> Result<Decision<Self>, Broken> {
        let refused = |refused| Ok(Decision::Done(Reply::Refused(refused)));
        let Some(name) = of_command(command) else { return refused(Refused::TakesNoKey) };
        let known = match self.subscription(name) {
            Ok(known) => known,
            Err(none) => return refused(none),
        };
        let subscription = known.number;
        if let Some(before) = known.commands.find(key.id, now.max(self.now)) {
            return match before.is_of(key) {
                true => Ok(Decision::Done(match before.said() {
                    Said::Rotated(signing) => Reply::Subscribed { subscription, signing, is_new: true },
                    Said::Replays(from) => Reply::Replays(from),
                    Said::Changed { changed, left } => Reply::Changed { changed, left },
                })),
                false => refused(Refused::OtherCommand),
            };
        }
        let decided = self.decide(now, command, &so_far, out)?;
        let said = match &decided {
            Decision::Done(Reply::Subscribed { signing, .. }) => Some(Said::Rotated(*signing)),
            Decision::Done(Reply::Replays(from)) => Some(Said::Replays(*from)),
            Decision::Done(Reply::Changed { changed, left }) => {
                Some(Said::Changed { changed: *changed, left: *left })
            }
            _ => None,
        };
        if let Some(said) = said {
            self.commit(now, Record::CommandDone { subscription, key, said }, out)?;
        }
        Ok(decided)
    }
}
