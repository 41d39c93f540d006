//! The hot routes, which are served inside the connection loops: the sale's document and attempts.
//! It decides what becomes of each request, and sends its answer.

use crate::{
    api::{ATTEMPT, READ_SALE},
    attempts::{Attempts, BODY_BYTES_MAX, Question, basket},
    decisions::{self, key_reused, queue_full},
    front::{Expected, Front, Rendered},
    hot_route::{HotRoute, hot_route},
    metrics::Metrics,
    outcome::{Outcome, outcome_of},
    parts::Parts,
    pass::Pass,
    passes::PASS_HEADER,
    problem::{self, Problem},
    strategy::Strategy,
};
use contracts::{Attempt, AttemptId, Basket, GateRefusal, Mail, Mailbox, Told};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};
use web::{
    server::Peer,
    wire::{self, Before, Inbox, Served, Slab, Token},
};

/// A message of another thread to a loop.
#[derive(Debug)]
pub(crate) enum Letter {
    /// The sale has answered an attempt.
    Mail(Mail),
    /// The answer to a separate question: whether there is an earlier promise, or the state of an
    /// attempt.
    Answer(u64, Result<Told, Problem>),
}

/// Delivers a sale's answers to a loop.
#[derive(Debug)]
struct LoopMailbox(Arc<Inbox<Letter>>);

impl Mailbox for LoopMailbox {
    fn deliver(&self, mail: &mut Vec<Mail>) {
        self.0.tell(mail.drain(..).map(Letter::Mail));
    }
}

type Io = wire::Io<Letter>;

/// A sale and attempts for it, each with the token of its [`Pending`].
type Batch = (Arc<Front>, Vec<(u64, Attempt)>);

/// A request that waits for its answer.
#[derive(Debug)]
struct Pending {
    conn: Token,
    front: Arc<Front>,
    pass: Pass,
    basket: Basket,
    id: AttemptId,
    started: Instant,
    stage: Stage,
    /// Present while it waits for its tier's turn.
    _expected: Option<Expected>,
}

/// The stage of an attempt.
#[derive(Debug)]
enum Stage {
    /// It has not been submitted to the sale.
    Here,
    /// It will be decided, whether or not the client still waits.
    Submitted,
    /// It may not go on to the sale now. The gate still finds out whether there is an earlier
    /// promise, and otherwise gives this answer.
    NoRoom(Problem),
}

/// The hot routes of one loop.
pub(crate) struct Hot {
    attempts: Arc<Attempts>,
    strategy: Arc<Strategy>,
    metrics: Arc<Metrics>,
    mailbox: Arc<dyn Mailbox>,
    /// The round of the current request, kept from its head to its body.
    round: Option<(Arc<Front>, Arc<Rendered>)>,
    pending: Slab<Pending>,
    /// When each pending attempt is answered with its place, in order: all wait equally long.
    due: VecDeque<(Instant, Token)>,
    /// Attempts that wait for their tier's turn, by its part of the sale's rate.
    turns: BinaryHeap<Reverse<(Instant, Token)>>,
    /// Attempts of this turn of the loop, by sale.
    batches: Vec<Batch>,
    /// Attempts that have waited long enough in this turn. They are answered with their place.
    late: Vec<Token>,
    /// Answers of this turn that the gate gave without asking the sale.
    said: Vec<(Arc<Front>, GateRefusal)>,
}

impl std::fmt::Debug for Hot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hot").finish_non_exhaustive()
    }
}

impl Hot {
    pub(crate) fn new(parts: &Parts, inbox: &Arc<Inbox<Letter>>) -> Self {
        Self {
            attempts: Arc::clone(&parts.attempts),
            strategy: Arc::clone(&parts.strategy),
            metrics: Arc::clone(&parts.metrics),
            mailbox: Arc::new(LoopMailbox(Arc::clone(inbox))),
            round: None,
            pending: Slab::default(),
            due: VecDeque::new(),
            turns: BinaryHeap::new(),
            batches: Vec::new(),
            late: Vec::new(),
            said: Vec::new(),
        }
    }
}

impl wire::Hot for Hot {
    type Letter = Letter;

    const FIELDS: &'static [&'static str] = &[PASS_HEADER, "idempotency-key"];

    fn is_hot(target: &str) -> bool {
        hot_route(target).is_some()
    }

    fn head(&mut self, io: &mut Io, asked: &wire::HotRequest<'_>) -> Before {
        let head = asked.head;
        match (hot_route(head.target), head.method) {
            (Some(HotRoute::Sale(sale)), "GET") if head.body_len == 0 => {
                self.sale(io, sale, asked);
                Before::Answered
            }
            (Some(HotRoute::Round { sale, key }), "POST") => {
                // Checked before the body arrives, so that a guessed key reveals nothing about the
                // reading of bodies.
                match self.attempts.round(Peer(asked.address), sale, key, asked.now) {
                    Ok(round) => {
                        self.round = Some(round);
                        Before::Body { bytes_max: BODY_BYTES_MAX }
                    }
                    Err(problem) => {
                        let close = io.closes(asked.conn, head) || !asked.is_whole;
                        io.note(asked.address, &problem);
                        io.refuse(asked.conn, &problem, close);
                        Before::Answered
                    }
                }
            }
            _ => Before::Other,
        }
    }

    fn request(&mut self, io: &mut Io, asked: &wire::HotRequest<'_>, body: &[u8]) -> Served {
        let (Some(round), Some(HotRoute::Round { sale, .. })) =
            (self.round.take(), hot_route(asked.head.target))
        else {
            io.refuse(asked.conn, &Problem::internal(), true);
            return Served::Answered;
        };
        self.attempt(io, sale, round, asked, body)
    }

    fn letter(&mut self, io: &mut Io, letter: Letter) {
        match letter {
            Letter::Mail(mail) => {
                let told = mail.said.map_err(problem::of_unavailable);
                self.say(io, Token::from_u64(mail.token), told);
            }
            Letter::Answer(token, told) => self.say(io, Token::from_u64(token), told),
        }
    }

    fn turn(&mut self, io: &mut Io) {
        self.find_late();
        self.take_turns();
        self.submit(io);
    }

    fn end_of_turn(&mut self, io: &mut Io) {
        for (front, said) in self.said.drain(..) {
            front.sale.gate_refused(&[said]);
        }
        self.answer_overdue(io);
    }

    fn due(&self) -> Option<Instant> {
        if self.batches.iter().any(|(_, batch)| !batch.is_empty()) {
            return Some(Instant::now());
        }
        let due = self.due.front().map(|(at, _)| *at);
        let turn = self.turns.peek().map(|Reverse((at, _))| *at);
        [due, turn].into_iter().flatten().min()
    }
}

impl Hot {
    /// `GET` of the sale's document.
    fn sale(&self, io: &mut Io, sale: &str, asked: &wire::HotRequest<'_>) {
        let started = Instant::now();
        let conn = asked.conn;
        let ends = self.strategy.closes();
        let close = io.closes(conn, asked.head) || ends;
        io.end_after(conn, close);
        if let Err(problem) = self.attempts.passes.protection.let_read(asked.address, asked.now) {
            return io.refuse(conn, &problem, close);
        }
        match self.attempts.fronts.get(sale) {
            Ok(front) => {
                let rendered = front.rendered(&self.attempts.keys, asked.now);
                io.public(conn, &rendered.body, close);
            }
            Err(problem) => io.refuse(conn, &problem, close),
        }
        self.metrics.took(READ_SALE, started.elapsed());
    }

    fn attempt(
        &mut self,
        io: &mut Io,
        sale: &str,
        (front, rendered): (Arc<Front>, Arc<Rendered>),
        asked: &wire::HotRequest<'_>,
        body: &[u8],
    ) -> Served {
        let started = Instant::now();
        let (conn, fields) = (asked.conn, &asked.head.fields);
        let close = io.closes(conn, asked.head);
        let [pass, idempotency_key, ..] = fields.own;
        let question = Question {
            sale,
            peer: Peer(asked.address),
            now: asked.now,
            pass,
            content_type: fields.content_type,
            idempotency_key,
        };
        let admitted = self.attempts.admit(&question);
        let admitted = admitted.and_then(|admitted| Ok((basket(body, &rendered.view.spec)?, admitted)));
        let (basket, admitted) = match admitted {
            Ok(admitted) => admitted,
            Err(problem) => {
                io.note(asked.address, &problem);
                io.refuse(conn, &problem, close);
                self.metrics.took(ATTEMPT, started.elapsed());
                return Served::Answered;
            }
        };
        let pass = admitted.pass;
        let id = self.attempts.keys.attempt_id(sale, pass.shopper, admitted.key);
        if let Some(said) = front.alone(&rendered.view, &pass, &basket) {
            if let Some(outcome) = outcome_of(id, &said.answer()) {
                write_outcome(io, conn, &outcome, close);
            }
            self.attempts.decisions.note_alone(&pass, &said);
            self.gate_refused(&front, said);
            self.metrics.took(ATTEMPT, started.elapsed());
            return Served::Answered;
        }
        let turn = self.attempts.decisions.turn(&front, pass.tier);
        let expected = matches!(turn, Ok(1..)).then(|| Expected::new(&front, pass.shopper));
        let pending =
            Pending { conn, front, pass, basket, id, started, stage: Stage::Here, _expected: expected };
        let pending = self.pending.insert(pending);
        io.wait(conn);
        self.due.push_back((started + self.attempts.decisions.wait(), pending));
        match turn {
            Ok(0) => self.put(pending),
            Ok(wait_ms) => self.turns.push(Reverse((started + Duration::from_millis(wait_ms), pending))),
            Err(problem) => self.ask_known(io, pending, problem),
        }
        Served::Waits
    }

    /// Adds an attempt to those of this turn.
    fn put(&mut self, token: Token) {
        let Some(pending) = self.pending.get_mut(token) else { return };
        if !matches!(pending.stage, Stage::Here) {
            return;
        }
        // From here on the sale has the attempt and decides it, unless there is no room.
        pending.stage = Stage::Submitted;
        let attempt = Attempt {
            id: pending.id,
            shopper: pending.pass.shopper,
            sealed: pending.pass.sealed,
            tier: pending.pass.tier,
            basket: pending.basket,
        };
        let at = match self.batches.iter().position(|(front, _)| Arc::ptr_eq(front, &pending.front)) {
            Some(at) => at,
            None => {
                self.batches.push((Arc::clone(&pending.front), Vec::new()));
                self.batches.len() - 1
            }
        };
        self.batches[at].1.push((token.to_u64(), attempt));
    }

    fn take_turns(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, token))) = self.turns.peek().copied()
            && at <= now
        {
            self.turns.pop();
            self.put(token);
        }
    }

    /// Submits this turn's attempts to their sales.
    fn submit(&mut self, io: &mut Io) {
        let mut batches = std::mem::take(&mut self.batches);
        for (front, batch) in &mut batches {
            if batch.is_empty() {
                continue;
            }
            for token in self.strategy.over_queue_share(|| front.sale.queue(), batch) {
                self.ask_known(io, Token::from_u64(token), queue_full());
            }
            let patience_ms = self.attempts.decisions.wait_ms;
            let put = || front.sale.attempts(&self.mailbox, patience_ms, batch);
            if catch_unwind(AssertUnwindSafe(put)).is_err() {
                tracing::error!("put attempts to a sale: panicked");
                batch.clear();
                let mut all = Vec::new();
                self.pending.find(&mut all, |pending| Arc::ptr_eq(&pending.front, front));
                for token in all {
                    self.say(io, token, Err(Problem::internal()));
                }
            }
        }
        // Their memory is used for those of the next turn.
        self.batches = batches;
    }

    /// The attempt may not go on now. An earlier promise to the same attempt is still returned,
    /// otherwise `full`.
    fn ask_known(&mut self, io: &Io, token: Token, full: Problem) {
        let Some(pending) = self.pending.get_mut(token) else { return };
        pending.stage = Stage::NoRoom(full.clone());
        let (inbox, front) = (Arc::clone(io.inbox()), Arc::clone(&pending.front));
        let (id, shopper, basket) = (pending.id, pending.pass.shopper, pending.basket);
        io.runtime().spawn(async move {
            let answer = decisions::known(&front, id, shopper, basket, full).await;
            inbox.tell([Letter::Answer(token.to_u64(), answer)]);
        });
    }

    /// Sends the result of an attempt, and goes on with its connection.
    fn say(&mut self, io: &mut Io, token: Token, told: Result<Told, Problem>) {
        let Some(pending) = self.pending.remove(token) else { return };
        io.guarded(pending.conn, |io| say(&self.attempts.decisions, io, &pending, told));
    }

    /// Records an answer that the gate gave without asking the sale, which is told at the end of
    /// the turn.
    fn gate_refused(&mut self, front: &Arc<Front>, said: GateRefusal) {
        let same =
            |known: &mut (Arc<Front>, GateRefusal)| Arc::ptr_eq(&known.0, front) && known.1.merge(&said);
        if !self.said.iter_mut().any(same) {
            self.said.push((Arc::clone(front), said));
        }
    }

    /// Finds attempts whose decision takes too long. An attempt that is not submitted yet is
    /// submitted first, because the answer says that the decision will come.
    fn find_late(&mut self) {
        let now = Instant::now();
        while let Some(&(at, token)) = self.due.front() {
            if self.pending.peek(token).is_some() {
                if at > now {
                    return;
                }
                self.put(token);
                self.late.push(token);
            }
            // Most of them have been answered long ago.
            self.due.pop_front();
        }
    }

    /// Answers attempts with their place, or that there was no room.
    fn answer_overdue(&mut self, io: &mut Io) {
        for token in std::mem::take(&mut self.late) {
            let Some(pending) = self.pending.peek(token) else { continue };
            if let Stage::NoRoom(full) = &pending.stage {
                let full = full.clone();
                self.say(io, token, Err(full));
                continue;
            }
            let mut place = pending.front.sale.position(pending.id, pending.pass.shopper);
            match place.try_recv() {
                Ok(Ok(Some(told))) => self.say(io, token, Ok(told)),
                // The attempt was decided at this moment, and the answer is on its way.
                Ok(Ok(None)) => {}
                Ok(Err(unavailable)) => self.say(io, token, Err(problem::of_unavailable(unavailable))),
                // The sale is in another process.
                Err(_) => {
                    let inbox = Arc::clone(io.inbox());
                    io.runtime().spawn(async move {
                        if let Some(told) = decisions::standing_of(place).await.transpose() {
                            inbox.tell([Letter::Answer(token.to_u64(), told)]);
                        }
                    });
                }
            }
        }
    }
}

fn say(decisions: &decisions::Decisions, io: &mut Io, pending: &Pending, told: Result<Told, Problem>) {
    let conn = pending.conn;
    let Some(close) = io.begin_answer(conn) else { return };
    let outcome = told.and_then(|told| {
        decisions.note_answer(&pending.front, &pending.pass, &told);
        match told {
            Told::Answer(answer) => outcome_of(pending.id, &answer).ok_or_else(key_reused),
            Told::InLine(place) => Ok(Outcome::queued(pending.id, place)),
        }
    });
    match outcome {
        Ok(outcome) => write_outcome(io, conn, &outcome, close),
        Err(problem) => io.refuse(conn, &problem, close),
    }
    decisions.metrics.took(ATTEMPT, pending.started.elapsed());
    io.end_answer(conn, close);
}

fn write_outcome(io: &mut Io, to: Token, outcome: &Outcome, close: bool) {
    let status = if outcome.is_queued() { "202 Accepted" } else { "200 OK" };
    let retry_after = outcome.retry_after_ms.map(|ms| ms.div_ceil(1000));
    io.json(to, status, retry_after, close, |out| outcome.write(out));
}
