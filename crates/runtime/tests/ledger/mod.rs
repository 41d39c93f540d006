//! The smallest machine that is complete: accounts that take payments, and pay interest to all of
//! them at the end of a day. Copy it to begin a new one.
#![allow(dead_code, reason = "each test file uses its part")]

use engines::codec::{Codec, DecodeError, Reader, Writer};
use runtime::audit::{Audited, Auditor, Findings};
use runtime::{
    Broken, Decision, DuringShortage, Machine, Outage, Progress, Shortage, SnapshotError, Step, ensure,
};
use std::collections::BTreeMap;
use units::{Sequence, TimeMs};

/// Interest is paid at the end of each of these.
pub const DAY_MS: u64 = 10_000;

/// No balance is negative.
pub const SOLVENT: &str = "INV-1";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Move {
        account: u32,
        amount: i64,
    },
    /// Closes all accounts from one on: as many steps as it takes.
    CloseFrom {
        account: u32,
    },
    Balance {
        account: u32,
    },
    /// All balances.
    List,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Moved { balance: i64 },
    Overdrawn { as_of: Sequence },
    Closed { count: u64 },
    Balance { balance: i64, as_of: Sequence },
    List(Vec<(u32, i64)>),
    Busy,
    Unavailable(Outage),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    Moved { account: u32, amount: i64 },
    Interest { account: u32 },
    DayEnded { day: u64 },
    Closed { account: u32 },
    ShortageOver { since: TimeMs, turned_away: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub at: TimeMs,
    pub record: Record,
}

impl Codec for Entry {
    fn encode(&self, w: &mut Writer<'_>) {
        let mut head = |kind: u8| {
            w.u8(kind);
            w.u64(self.at.0);
        };
        match &self.record {
            Record::Moved { account, amount } => {
                head(1);
                w.u32(*account);
                w.u64(amount.cast_unsigned());
            }
            Record::Interest { account } => {
                head(2);
                w.u32(*account);
            }
            Record::DayEnded { day } => {
                head(3);
                w.u64(*day);
            }
            Record::Closed { account } => {
                head(4);
                w.u32(*account);
            }
            Record::ShortageOver { since, turned_away } => {
                head(5);
                w.u64(since.0);
                w.u64(*turned_away);
            }
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let (kind, at) = (r.u8()?, TimeMs(r.u64()?));
        let record = match kind {
            1 => Record::Moved { account: r.u32()?, amount: r.u64()?.cast_signed() },
            2 => Record::Interest { account: r.u32()? },
            3 => Record::DayEnded { day: r.u64()? },
            4 => Record::Closed { account: r.u32()? },
            5 => Record::ShortageOver { since: TimeMs(r.u64()?), turned_away: r.u64()? },
            _ => return Err(DecodeError("unknown kind: written by a newer build?")),
        };
        r.end()?;
        Ok(Self { at, record })
    }
}

#[derive(Debug, Default)]
pub struct Ledger {
    sequence: Sequence,
    now: TimeMs,
    accounts: BTreeMap<u32, i64>,
    /// Days that have ended, and the account up to which the last of them has paid its interest.
    days: u64,
    paid_up_to: Option<u32>,
    /// A defect that tests plant.
    pub panics_at: Option<u32>,
}

impl Ledger {
    pub fn total(&self) -> i64 {
        self.accounts.values().sum()
    }

    /// The account that is paid its interest next, if the day's is not paid to its end.
    fn owed(&self) -> Option<u32> {
        let after = self.paid_up_to?;
        self.accounts.range(after..).find(|(account, _)| **account > after || after == 0).map(|(at, _)| *at)
    }

    fn fold(&mut self, entry: &Entry) -> Result<(), Broken> {
        ensure(entry.at >= self.now, "time", || format!("{} after {}", entry.at, self.now))?;
        match entry.record {
            Record::Moved { account, amount } => {
                assert_ne!(self.panics_at, Some(account), "a defect");
                let balance = self.accounts.entry(account).or_default();
                *balance += amount;
                ensure(*balance >= 0, SOLVENT, || format!("account {account} has {balance}"))?;
            }
            Record::Interest { account } => {
                ensure(self.owed() == Some(account), "interest", || format!("not {account}'s turn"))?;
                *self.accounts.entry(account).or_default() += 1;
                self.paid_up_to = Some(account);
            }
            Record::DayEnded { day } => {
                ensure(day == self.days + 1, "days", || format!("day {day} after {}", self.days))?;
                (self.days, self.paid_up_to) = (day, Some(0));
            }
            Record::Closed { account } => {
                ensure(self.accounts.remove(&account).is_some(), "close", || format!("no {account}"))?;
            }
            Record::ShortageOver { .. } => {}
        }
        self.now = entry.at;
        self.sequence = self.sequence.next();
        Ok(())
    }

    fn commit(&mut self, now: TimeMs, record: Record, out: &mut Step) -> Result<(), Broken> {
        let entry = Entry { at: now.max(self.now), record };
        self.fold(&entry)?;
        out.push(&entry);
        Ok(())
    }
}

impl Machine for Ledger {
    type Command = Command;
    type Reply = Reply;
    type Entry = Entry;
    type Volatile = ();
    /// Accounts closed so far.
    type SoFar = u64;

    fn sequence(&self) -> Sequence {
        self.sequence
    }

    fn time(&self) -> TimeMs {
        self.now
    }

    fn tick(&mut self, now: TimeMs, out: &mut Step) -> Result<Progress, Broken> {
        loop {
            while let Some(account) = self.owed() {
                if out.is_full() {
                    return Ok(Progress::More);
                }
                self.commit(now, Record::Interest { account }, out)?;
            }
            if now.0 < (self.days + 1) * DAY_MS {
                return Ok(Progress::Done);
            }
            if out.is_full() {
                return Ok(Progress::More);
            }
            self.commit(now, Record::DayEnded { day: self.days + 1 }, out)?;
        }
    }

    fn next_wakeup(&self) -> Option<TimeMs> {
        Some(if self.owed().is_some() { TimeMs(0) } else { TimeMs((self.days + 1) * DAY_MS) })
    }

    fn decide(
        &mut self,
        now: TimeMs,
        command: &Command,
        so_far: &u64,
        out: &mut Step,
    ) -> Result<Decision<Self>, Broken> {
        Ok(Decision::Done(match *command {
            Command::Move { account, amount } => {
                let balance = self.accounts.get(&account).copied().unwrap_or(0) + amount;
                if balance < 0 {
                    Reply::Overdrawn { as_of: self.sequence }
                } else {
                    self.commit(now, Record::Moved { account, amount }, out)?;
                    Reply::Moved { balance }
                }
            }
            Command::CloseFrom { account } => {
                let mut count = *so_far;
                while let Some((&next, _)) = self.accounts.range(account..).next() {
                    if out.is_full() {
                        return Ok(Decision::More(count));
                    }
                    self.commit(now, Record::Closed { account: next }, out)?;
                    count += 1;
                }
                Reply::Closed { count }
            }
            Command::Balance { .. } | Command::List => self.read(command).unwrap_or(Reply::Busy),
        }))
    }

    fn apply(&mut self, entries: &[Entry]) -> Result<(), Broken> {
        entries.iter().try_for_each(|entry| self.fold(entry))
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut w = Writer::new(&mut bytes);
        w.u8(1);
        w.u64(self.sequence.0);
        w.u64(self.now.0);
        w.u64(self.days);
        w.flag(self.paid_up_to.is_some());
        w.u32(self.paid_up_to.unwrap_or(0));
        for (account, balance) in &self.accounts {
            w.u32(*account);
            w.u64(balance.cast_unsigned());
        }
        bytes
    }

    fn restore(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut r = Reader::new(bytes);
        if r.u8()? != 1 {
            return Err(SnapshotError("of another version".into()));
        }
        let mut ledger = Self { sequence: Sequence(r.u64()?), now: TimeMs(r.u64()?), ..Self::default() };
        ledger.days = r.u64()?;
        let (is_paying, account) = (r.flag()?, r.u32()?);
        ledger.paid_up_to = is_paying.then_some(account);
        while r.left() > 0 {
            ledger.accounts.insert(r.u32()?, r.u64()?.cast_signed());
        }
        Ok(ledger)
    }

    fn writes_like(snapshot: &[u8]) -> bool {
        snapshot.starts_with(&[1])
    }

    fn read(&self, command: &Command) -> Option<Reply> {
        match command {
            Command::Balance { account } => {
                let balance = self.accounts.get(account).copied().unwrap_or(0);
                Some(Reply::Balance { balance, as_of: self.sequence })
            }
            Command::List => Some(Reply::List(self.accounts.iter().map(|(at, sum)| (*at, *sum)).collect())),
            Command::Move { .. } | Command::CloseFrom { .. } => None,
        }
    }

    fn reply_work(&self, reply: &Reply) -> usize {
        match reply {
            Reply::List(accounts) => accounts.len(),
            _ => 1,
        }
    }

    fn during_shortage(&self, _command: &Command) -> DuringShortage<Reply> {
        DuringShortage::TurnedAway(Reply::Busy)
    }

    fn shortage_over(&self, now: TimeMs, shortage: &Shortage, out: &mut Step) -> Progress {
        let Shortage { since, turned_away } = *shortage;
        out.push(&Entry { at: now, record: Record::ShortageOver { since, turned_away } });
        Progress::Done
    }

    fn unavailable(outage: &Outage) -> Reply {
        Reply::Unavailable(outage.clone())
    }
}

/// Keeps nothing but sums.
#[derive(Debug, Default)]
pub struct LedgerAuditor {
    balances: BTreeMap<u32, i64>,
    moved: u64,
    findings: Findings,
}

impl Auditor for LedgerAuditor {
    type Machine = Ledger;

    fn entry(&mut self, sequence: Sequence, entry: &Entry) {
        match entry.record {
            Record::Moved { account, amount } => {
                self.moved += 1;
                let balance = self.balances.entry(account).or_default();
                *balance = balance.saturating_add(amount);
                let balance = *balance;
                self.findings.check(SOLVENT, balance >= 0, sequence, || format!("{account} has {balance}"));
            }
            Record::Interest { account } => *self.balances.entry(account).or_default() += 1,
            Record::Closed { account } => drop(self.balances.remove(&account)),
            Record::DayEnded { .. } | Record::ShortageOver { .. } => {}
        }
    }

    fn end(&mut self, end: Sequence, ledger: Option<&Ledger>) {
        let Some(ledger) = ledger else { return };
        let (ours, theirs) = (&self.balances, &ledger.accounts);
        self.findings.check(runtime::REPLAY_INVARIANT, ours == theirs, end, || "other balances".into());
    }

    fn findings(&mut self) -> &mut Findings {
        &mut self.findings
    }

    fn checked(&self, audited: &Audited) -> Vec<(&'static str, String)> {
        vec![
            (SOLVENT, format!("{} movements, none below nothing", self.moved)),
            (runtime::REPLAY_INVARIANT, format!("{} entries replayed", audited.entries)),
        ]
    }
}
