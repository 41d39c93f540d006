//! A command that comes again under its key is answered as it was, and changes nothing.

use super::{Checker, News, none, wrong};
use crate::model::Done;
use contracts::CommandKey;
use notify::core::record::{Record, SubscriptionNo};
use notify::core::{Command, Refused, Reply, Said};
use sim::Violation;
use units::DurationMs;

/// So many commands of a subscription are remembered, and for so long.
const REMEMBERED_MAX: usize = 32;
const REMEMBERED_FOR: DurationMs = DurationMs(24 * 3_600_000);

impl Checker {
    /// What must come of it.
    pub(super) fn once(
        &mut self,
        key: CommandKey,
        command: &Command,
        news: &mut News<'_>,
    ) -> Result<Reply, Violation> {
        let (Command::Redrive { name, .. }
        | Command::Discard { name, .. }
        | Command::Replay { name, .. }
        | Command::RotateSecret { name, .. }) = command
        else {
            return Ok(Reply::Refused(Refused::TakesNoKey));
        };
        let Some((number, known)) = self.model.subscription(name) else { return Ok(none(name)) };
        let subscription = SubscriptionNo(number);
        let now = news.now.max(self.model.now);
        let lately = known.commands.iter().rev().take(REMEMBERED_MAX);
        let mut before = lately.filter(|done| done.key.id == key.id && done.at.plus(REMEMBERED_FOR) > now);
        match before.next().copied() {
            Some(Done { key: other, .. }) if other != key => {
                return Ok(Reply::Refused(Refused::OtherCommand));
            }
            Some(Done { said, .. }) => {
                return Ok(match said {
                    Said::Rotated(signing) => Reply::Subscribed { subscription, signing, is_new: true },
                    Said::Replays(from) => Reply::Replays(from),
                    Said::Changed { changed, left } => Reply::Changed { changed, left },
                });
            }
            None => {}
        }
        let expected = self.operated(command, news)?;
        let expected = expected.ok_or_else(|| wrong("reply", format!("{command:?} has no key")))?;
        let said = match &expected {
            Reply::Subscribed { signing, .. } => Said::Rotated(*signing),
            Reply::Replays(from) => Said::Replays(*from),
            Reply::Changed { changed, left } => Said::Changed { changed: *changed, left: *left },
            _ => return Ok(expected),
        };
        self.logs(news, &Record::CommandDone { subscription, key, said })?;
        Ok(expected)
    }
}
