//! How far the primary has committed, as far as this process knows, so that a replica that has come
//! so far is known to have what the process wrote. It asks no server.
//!
//! A GTID names a transaction in the servers' logs: `domain-server-number`. Numbers of a domain
//! only grow, also when another server becomes the primary, which then stands in the middle.
//! <https://mariadb.com/kb/en/gtid/>

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// For how long a position is used after it was asked of the primary. Other processes write too: a
/// replica whose copying has stopped would go on answering without what they wrote.
pub(super) const FRESH_FOR: Duration = Duration::from_secs(1);
/// How long a mark is not written again after it could not be.
const MARK_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// A mark that is older may have been removed, so that a replica without it is no sign.
const MARK_OLD_AFTER: Duration = Duration::from_secs(86_400);
/// Domains of one server. A position with more is not one that this program can wait for.
const DOMAINS_MAX: usize = 64;

/// The last transaction of each domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Gtids(BTreeMap<u32, Gtid>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gtid {
    server: u32,
    number: u64,
}

impl Gtids {
    /// Reads what a server says, such as `0-1-270,3-2-15`, or nothing from a server without any.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut all = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut numbers = part.splitn(3, '-');
            let mut next = || numbers.next();
            let (domain, server, number) = (next()?, next()?, next()?);
            let gtid = Gtid { server: server.parse().ok()?, number: number.parse().ok()? };
            all.insert(domain.parse().ok()?, gtid);
        }
        (all.len() <= DOMAINS_MAX).then_some(Self(all))
    }

    /// Whether a server that has come to this has all of the other.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let has =
            |(domain, gtid): (&u32, &Gtid)| self.0.get(domain).is_some_and(|at| at.number >= gtid.number);
        other.0.iter().all(has)
    }

    /// Goes on to the other, where that is further.
    pub(super) fn raise(&mut self, other: &Self) {
        for (domain, gtid) in &other.0 {
            let at = self.0.entry(*domain).or_insert(*gtid);
            if at.number < gtid.number {
                *at = *gtid;
            }
        }
    }
}

impl fmt::Display for Gtids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (domain, Gtid { server, number })) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{domain}-{server}-{number}")?;
        }
        Ok(())
    }
}

/// A row that this process has written on the primary, for replicas to show that they copy it.
pub(super) type Mark = [u8; 16];

/// What a replica must have, to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) gtids: Gtids,
    pub(super) mark: Mark,
}

/// When the primary was asked how far it is. It is taken before the question is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    at: Instant,
    doubts: u64,
}

#[derive(Debug, Default)]
struct Noted {
    gtids: Gtids,
    /// When the question was asked whose answer is the newest; `None` while the primary may have
    /// committed something of this process that is not in `gtids`.
    asked: Option<Instant>,
    /// How often that has been so.
    doubts: u64,
    /// How often it has begun anew, with another primary.
    begun: u64,
    /// The primary's number, as it says it itself.
    server: Option<u32>,
    mark: Option<(Mark, Instant)>,
    /// No other connection writes a mark until then.
    mark_at: Option<Instant>,
}

/// The first question to a primary on a connection.
#[derive(Debug)]
pub(super) struct FirstQuestion {
    question: Question,
    begun: u64,
    /// What the primary has committed by then, if it is the one that it was.
    known: Gtids,
}

/// The position of a database's primary. All connections of the process share it.
#[derive(Debug, Default)]
pub(super) struct Position(Mutex<Noted>);

impl Position {
    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn question(&self) -> Question {
        Question { at: Instant::now(), doubts: self.lock().doubts }
    }

    /// The primary has answered. What it has committed by then is in the answer: a transaction is
    /// in the log before others can see it.
    pub(super) fn note(&self, question: Question, gtids: &Gtids) {
        let mut noted = self.lock();
        noted.gtids.raise(gtids);
        if noted.doubts == question.doubts {
            noted.asked = noted.asked.max(Some(question.at));
        }
    }

    /// The primary may have committed something that is not known here: it is asked anew before a
    /// replica answers.
    pub(super) fn doubt(&self) {
        let mut noted = self.lock();
        noted.doubts += 1;
        noted.asked = None;
    }

    pub(super) fn first_question(&self) -> FirstQuestion {
        let question = self.question();
        let noted = self.lock();
        FirstQuestion { question, begun: noted.begun, known: noted.gtids.clone() }
    }

    /// A connection was made, and this is what the primary said before anything else was asked of
    /// it. If it is another server, or one with an older log, what was known is of another history:
    /// replicas must show anew that they follow.
    pub(super) fn note_primary(&self, first: &FirstQuestion, server: u32, gtids: &Gtids) {
        let begins_anew = {
            let mut noted = self.lock();
            let is_another = noted.server.is_some_and(|known| known != server);
            let is_older = noted.begun == first.begun && !gtids.covers(&first.known);
            if is_another || is_older {
                (noted.gtids, noted.mark, noted.mark_at) = (Gtids::default(), None, None);
                noted.begun += 1;
            }
            noted.server = Some(server);
            is_another || is_older
        };
        if begins_anew {
            let position = gtids.to_string();
            tracing::warn!(
                server,
                position,
                "a database has another primary, or one that has lost transactions"
            );
        }
        self.note(first.question, gtids);
    }

    /// A mark was written, and committed before this position.
    pub(super) fn set_mark(&self, mark: Mark, now: Instant) {
        self.lock().mark = Some((mark, now));
    }

    /// A replica does not have it. If it is old, another one is written.
    pub(super) fn miss_mark(&self, mark: &Mark, now: Instant) {
        let mut noted = self.lock();
        let is_old = |(of, at): &(Mark, Instant)| of == mark && *at + MARK_OLD_AFTER < now;
        if noted.mark.as_ref().is_some_and(is_old) {
            (noted.mark, noted.mark_at) = (None, None);
        }
    }

    /// Whether the caller is to write a mark now.
    pub(super) fn is_to_mark(&self, now: Instant) -> bool {
        let mut noted = self.lock();
        let is_due = noted.mark.is_none() && noted.mark_at.is_none_or(|at| at <= now);
        if is_due {
            noted.mark_at = Some(now + MARK_AGAIN_AFTER);
        }
        is_due
    }

    /// What a replica must have now; `None` if only the primary can tell.
    pub(super) fn wanted(&self, now: Instant) -> Option<Wanted> {
        let noted = self.lock();
        let mark = noted.usable_mark(now)?;
        Some(Wanted { gtids: noted.gtids.clone(), mark })
    }

    /// Whether a replica may answer now.
    pub(super) fn is_known(&self, now: Instant) -> bool {
        self.lock().usable_mark(now).is_some()
    }
}

impl Noted {
    fn usable_mark(&self, now: Instant) -> Option<Mark> {
        let is_fresh = self.asked.is_some_and(|asked| now.saturating_duration_since(asked) < FRESH_FOR);
        self.mark.filter(|_| is_fresh).map(|(mark, _)| mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gtids(text: &str) -> Gtids {
        Gtids::parse(text).expect(text)
    }

    #[test]
    fn positions_are_read_as_servers_write_them() {
        for text in ["", "0-1-1", "0-1-270,3-4294967295-18446744073709551615"] {
            assert_eq!(gtids(text).to_string(), text);
        }
        assert_eq!(gtids(" 0-1-2,\n1-1-3").to_string(), "0-1-2,1-1-3");
        for bad in ["0", "0-1", "0-1-", "0-1-x", "0-1--2", "a-1-2", "0-1-2;DROP", "3E11FA47-71CA-11E1:1-5"] {
            assert_eq!(Gtids::parse(bad), None, "{bad}");
        }
        let many = (0..65).map(|domain| format!("{domain}-1-1")).collect::<Vec<_>>().join(",");
        assert_eq!(Gtids::parse(&many), None);
    }

    #[test]
    fn a_server_covers_what_it_has_in_each_domain() {
        for (at, of, want) in [
            ("0-1-5", "", true),
            ("0-1-5", "0-1-5", true),
            ("0-1-5", "0-1-6", false),
            // Another server is the primary now, and numbers go on.
            ("0-2-6", "0-1-5", true),
            ("0-1-9,1-1-2", "0-1-5,1-1-3", false),
            ("0-1-9,1-1-3", "0-1-5,1-1-3", true),
            // Numbers of another domain say nothing.
            ("1-1-100", "0-1-5", false),
            ("", "0-1-1", false),
        ] {
            assert_eq!(gtids(at).covers(&gtids(of)), want, "{at} {of}");
        }
        let mut at = gtids("0-1-5,1-1-9");
        at.raise(&gtids("0-2-7,1-1-3,2-1-1"));
        assert_eq!(at.to_string(), "0-2-7,1-1-9,2-1-1");
    }

    fn known(text: &str) -> Position {
        let position = Position::default();
        position.note_primary(&position.first_question(), 1, &gtids(text));
        position.set_mark([7; 16], Instant::now());
        position
    }

    fn wanted(position: &Position) -> Option<String> {
        position.wanted(Instant::now()).map(|of| of.gtids.to_string())
    }

    #[test]
    fn replicas_are_asked_only_while_the_position_is_known_and_new() {
        let position = Position::default();
        assert_eq!(wanted(&position), None);
        position.note(position.question(), &gtids("0-1-5"));
        assert_eq!(wanted(&position), None, "no replica has shown that it follows");
        assert!(position.is_to_mark(Instant::now()) && !position.is_to_mark(Instant::now()));
        assert!(position.is_to_mark(Instant::now() + MARK_AGAIN_AFTER), "it could not be written");
        let now = Instant::now();
        position.set_mark([1; 16], now);
        assert_eq!(wanted(&position).as_deref(), Some("0-1-5"));
        assert_eq!(position.wanted(Instant::now() + FRESH_FOR), None);
        let later = now + MARK_OLD_AFTER + Duration::from_secs(1);
        position.miss_mark(&[1; 16], now);
        position.miss_mark(&[2; 16], later);
        assert!(position.is_known(now), "it is new, or another one");
        position.miss_mark(&[1; 16], later);
        assert!(!position.is_known(now) && position.is_to_mark(now));
    }

    #[test]
    fn an_answer_to_a_question_before_a_doubt_does_not_end_it() {
        let position = known("0-1-5");
        let question = position.question();
        // A commit whose answer was lost.
        position.doubt();
        position.note(question, &gtids("0-1-6"));
        assert_eq!(wanted(&position), None);
        position.note(position.question(), &gtids("0-1-7"));
        assert_eq!(wanted(&position).as_deref(), Some("0-1-7"));
        // An answer that comes late does not lower it.
        position.note(position.question(), &gtids("0-1-6"));
        assert_eq!(wanted(&position).as_deref(), Some("0-1-7"));
    }

    #[test]
    fn another_primary_or_one_that_lost_transactions_begins_anew() {
        for (server, at, is_anew) in
            [(1, "0-1-5", false), (2, "0-1-5", true), (1, "0-1-4", true), (1, "", true)]
        {
            let position = known("0-1-5");
            position.note_primary(&position.first_question(), server, &gtids(at));
            assert_eq!(wanted(&position).is_none(), is_anew, "{server} {at}");
            position.set_mark([8; 16], Instant::now());
            assert_eq!(wanted(&position).as_deref(), Some(at));
        }
        // What was committed between the question and the answer is no sign of that, nor is it that
        // another connection has found it out.
        let position = known("0-1-5");
        let (first, second) = (position.first_question(), position.first_question());
        position.note(position.question(), &gtids("0-1-6"));
        position.note_primary(&first, 1, &gtids("0-1-5"));
        assert_eq!(wanted(&position).as_deref(), Some("0-1-6"));
        position.note_primary(&first, 2, &gtids("0-1-4"));
        position.set_mark([8; 16], Instant::now());
        position.note(position.question(), &gtids("0-2-5"));
        position.note_primary(&second, 2, &gtids("0-1-4"));
        assert_eq!(wanted(&position).as_deref(), Some("0-2-5"));
    }
}
