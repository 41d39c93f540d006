//! The core as the runtime drives it: its commands and replies, and which rule answers.

use super::operate::{Operated, SoFar};
use super::record::{Entry, Record};
use super::rules::Core;
use super::tally::Tally;
use contracts::{
    Actor, Answer, Attempt, AttemptId, Found, GateRefusal, OperateError, Operation, OperationDone, Refusal,
    SaleStats, ShopperKey, ShopperRecord, Unavailable, WaitingPlace, WaitingQuery,
};
use runtime::{Broken, Decision, DuringShortage, Machine, Outage, Progress, Shortage, SnapshotError, Step};
use units::{Sequence, TimeMs};

/// The commands of a sale.
#[derive(Debug, Clone)]
pub enum Command {
    Attempt(Attempt),
    Lookup {
        attempt: AttemptId,
        shopper: ShopperKey,
    },
    Shopper(ShopperKey),
    Operate {
        actor: Actor,
        operation: Operation,
    },
    Stats,
    /// A page of those who wait.
    Waiting(WaitingQuery),
    /// Refusals that gates sent by themselves.
    GateRefusals(Vec<GateRefusal>),
}

/// The replies, in the order of the commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To [`Command::Attempt`].
    Answer(Answer),
    /// To [`Command::Lookup`].
    Found(Found),
    Shopper(ShopperRecord),
    Done(Result<OperationDone, OperateError>),
    Stats(SaleStats),
    Waiting(Vec<WaitingPlace>),
    /// To [`Command::GateRefusals`].
    Noted,
    /// To any of them.
    Unavailable(Unavailable),
}

impl Machine for Core {
    type Command = Command;
    type Reply = Reply;
    type Entry = Entry;
    type Volatile = Tally;
    type SoFar = SoFar;

    fn sequence(&self) -> Sequence {
        self.sequence()
    }

    fn time(&self) -> TimeMs {
        self.time()
    }

    fn tick(&mut self, now: TimeMs, out: &mut Step) -> Result<Progress, Broken> {
        self.tick(now, out)
    }

    fn next_wakeup(&self) -> Option<TimeMs> {
        self.next_wakeup()
    }

    #[inline]
    fn decide(
        &mut self,
        now: TimeMs,
        command: &Command,
        so_far: &SoFar,
        out: &mut Step,
    ) -> Result<Decision<Self>, Broken> {
        let reply = match command {
            Command::Attempt(attempt) => Reply::Answer(self.attempt(now, attempt, out)?),
            Command::Operate { actor, operation } => {
                match self.operate(now, actor.clone(), operation.clone(), *so_far, out)? {
                    Operated::Done(done) => Reply::Done(done),
                    Operated::More(so_far) => return Ok(Decision::More(so_far)),
                }
            }
            Command::GateRefusals(counts) => {
                self.gate_refusals(now, counts, out)?;
                Reply::Noted
            }
            Command::Lookup { attempt, shopper } => Reply::Found(self.lookup(*attempt, *shopper)),
            Command::Shopper(shopper) => Reply::Shopper(self.shopper(*shopper)),
            Command::Stats => Reply::Stats(self.stats()),
            Command::Waiting(query) => Reply::Waiting(self.waiting(query)),
        };
        Ok(Decision::Done(reply))
    }

    /// Journals the refusals since the last record of refusals, so that only a crash can lose them.
    fn finish(&mut self, now: TimeMs, out: &mut Step) -> Result<(), Broken> {
        self.journal_refusals(now, out)
    }

    fn look_ahead(&self, commands: &[Command]) {
        let attempts = commands.iter().filter_map(|command| match command {
            Command::Attempt(attempt) => Some(attempt),
            _ => None,
        });
        std::hint::black_box(self.look_ahead(attempts));
    }

    fn apply(&mut self, entries: &[Entry]) -> Result<(), Broken> {
        self.apply(entries)
    }

    fn snapshot(&self) -> Vec<u8> {
        self.snapshot()
    }

    fn restore(bytes: &[u8]) -> Result<Self, SnapshotError> {
        Self::restore(bytes)
    }

    fn writes_like(snapshot: &[u8]) -> bool {
        Self::writes_like(snapshot)
    }

    /// The refusals that are not journalled yet.
    fn volatile(&self) -> Tally {
        self.tally()
    }

    fn set_volatile(&mut self, tally: Tally) {
        self.set_tally(tally);
    }

    fn read(&self, command: &Command) -> Option<Reply> {
        match command {
            Command::Lookup { attempt, shopper } => Some(Reply::Found(self.lookup(*attempt, *shopper))),
            Command::Shopper(shopper) => Some(Reply::Shopper(self.shopper(*shopper))),
            Command::Stats => Some(Reply::Stats(self.stats())),
            Command::Waiting(query) => Some(Reply::Waiting(self.waiting(query))),
            Command::Attempt(_) | Command::Operate { .. } | Command::GateRefusals(_) => None,
        }
    }

    /// A place on a page takes as long as half a grant, which is two units; finding an item's first
    /// place on it four times as long, and a shopper's attempt or an item's figures half as long.
    fn reply_work(&self, reply: &Reply) -> usize {
        let items = self.state.stock.len();
        1 + match reply {
            Reply::Waiting(page) => page.len() + 4 * items,
            Reply::Shopper(record) => record.attempts.len() / 2,
            Reply::Stats(_) => items / 2,
            _ => 0,
        }
    }

    fn during_shortage(&self, command: &Command) -> DuringShortage<Reply> {
        let unavailable = |why: &str| Reply::Unavailable(Unavailable::Passing(why.into()));
        match command {
            Command::Attempt(attempt) => match self.stored(attempt) {
                Some(answer) => DuringShortage::Answer(Reply::Answer(answer)),
                None => {
                    let as_of = self.sequence();
                    let refused = Answer::Refused { refusal: Refusal::Paused, as_of };
                    DuringShortage::TurnedAway(Reply::Answer(refused))
                }
            },
            Command::Operate { .. } => DuringShortage::Answer(unavailable(
                "nothing can be written now (the disk is full, or file handles or memory are short), so nothing can be changed; free \
                 some and the sale goes on by itself",
            )),
            read => DuringShortage::Answer(
                self.read(read).unwrap_or_else(|| unavailable("this command changes the sale")),
            ),
        }
    }

    fn shortage_over(&self, now: TimeMs, shortage: &Shortage, out: &mut Step) -> Progress {
        if self.owes_promotions() {
            return Progress::More;
        }
        let record = Record::SpaceRegained { since: shortage.since, refused: shortage.turned_away };
        out.push(&Entry { at: now, record });
        Progress::Done
    }

    fn unavailable(outage: &Outage) -> Reply {
        Reply::Unavailable(match outage {
            Outage::Passing(why) => Unavailable::Passing(why.clone()),
            Outage::Stopped(why) => Unavailable::Stopped(why.clone()),
        })
    }
}
