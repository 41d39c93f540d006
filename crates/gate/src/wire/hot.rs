//! The hot routes: what is decided about a request here, and how its answer comes to be said.

use super::{
    conn::{Conn, Pending, Stage, State, Token},
    event_loop::Loop,
    head::{self, Form, Head, Hot, Parsed},
    write,
};
use crate::{
    api::{self, Asked, Outcome, Question, outcome_of},
    cors::Caller,
    front::{Expected, Front, Rendered},
    metrics::RouteClass,
    problem::{Kind, Problem},
    state::Peer,
};
use contracts::{Attempt, GateRefusal};
use std::{
    cmp::Reverse,
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};
use units::TimeMs;

/// What became of the request at the start of some bytes.
pub(super) enum Step {
    /// It was answered; the next one may follow.
    Answered,
    /// It waits for the sale.
    Waits,
    /// More bytes are needed. True if the head is whole.
    Partial(bool),
    /// It is axum's, and has so many bytes; `None` if only its chunks say how many.
    Other(Option<u64>),
}
impl Loop {
    /// Serves the request at the start of `bytes`, and moves `at` behind it if it was served.
    pub(super) fn request(&mut self, token: Token, bytes: &[u8], at: &mut usize) -> Step {
        let bytes_max = self.gate.config.connections.header_bytes_max;
        let head = match head::parse(bytes, bytes_max) {
            Parsed::Partial => return Step::Partial(false),
            Parsed::Whole(head) => {
                self.count_request(token);
                self.meet(token, self.gate.cors.of(head.fields.origin));
                head
            }
            Parsed::Refused(why) => {
                self.meet(token, Caller::default());
                self.refuse(token, &malformed(why, bytes_max), true);
                return Step::Answered;
            }
        };
        let Some(hot) = head::hot_route(head.target).filter(|_| head.form == Form::Plain) else {
            return Step::Other((!head.chunked).then_some(head.len as u64 + head.body_len));
        };
        let total = head.len as u64 + head.body_len;
        let here = bytes.len() as u64;
        let Some(peer) = self.conns.peek(token).map(|conn| conn.peer) else { return Step::Answered };
        let address = self.gate.believed_address(peer, head.fields.forwarded_for.into_iter());
        if let Err(problem) = self.gate.refuse_denied(address) {
            *at += total.min(here) as usize;
            self.note(address, &problem);
            self.refuse(token, &problem, true);
            return Step::Answered;
        }
        let now = self.gate.now();
        match (hot, head.method) {
            (Hot::Sale(sale), "GET") if head.body_len == 0 => {
                *at += head.len;
                self.sale(token, sale, &head, now);
                Step::Answered
            }
            (Hot::Round { sale, key }, "POST") => match api::round(&self.gate, Peer(address), sale, key, now)
            {
                // Before the body is waited for, so that whoever guesses a key learns nothing of how bodies are read.
                Err(problem) => {
                    *at += total.min(here) as usize;
                    let close = self.closes(token, &head) || here < total;
                    self.note(address, &problem);
                    self.refuse(token, &problem, close);
                    Step::Answered
                }
                Ok(_) if head.body_len > api::ATTEMPT_BODY_BYTES_MAX as u64 => {
                    let why = format!("body: more than {} bytes", api::ATTEMPT_BODY_BYTES_MAX);
                    self.refuse(token, &Problem::new(Kind::BodyTooLarge, why), true);
                    Step::Answered
                }
                Ok(_) if here < total => Step::Partial(true),
                Ok(round) => {
                    *at += total as usize;
                    self.attempt(token, (sale, address, now), round, &head, &bytes[head.len..total as usize])
                }
            },
            _ => Step::Other(Some(total)),
        }
    }

    /// Notes whose page the request comes from.
    fn meet(&mut self, token: Token, caller: Caller) {
        if let Some(conn) = self.conns.get_mut(token) {
            conn.caller = caller;
        }
    }

    fn caller(&self, token: Token) -> Caller {
        self.conns.peek(token).map(|conn| conn.caller).unwrap_or_default()
    }

    /// `GET` of the sale's document.
    pub(super) fn sale(&mut self, token: Token, sale: &str, head: &Head<'_>, now: TimeMs) {
        let started = Instant::now();
        let ends = self.gate.strategy.closes();
        let close = self.closes(token, head) || ends;
        if let Some(conn) = self.conns.get_mut(token) {
            conn.close |= close;
        }
        match self.gate.front(sale) {
            Ok(front) => {
                let rendered = front.rendered(&self.gate.keys, now);
                let cors = self.gate.cors.lines(self.caller(token));
                write::public(&mut self.out, &rendered.body, cors, &self.date, close);
            }
            Err(problem) => self.refuse(token, &problem, close),
        }
        self.gate.metrics.took(RouteClass::Other, started.elapsed());
    }

    /// Notes that the connection ends with this answer, if either side wants that.
    pub(super) fn closes(&mut self, token: Token, head: &Head<'_>) -> bool {
        let close = head.close || self.drains;
        if let Some(conn) = self.conns.get_mut(token) {
            conn.close |= close;
        }
        close
    }

    /// Notes whom the gate refuses.
    fn note(&self, address: IpAddr, problem: &Problem) {
        if let Some(reason) = problem.reason() {
            self.gate.filter.note_address(address, reason, self.gate.now());
        }
    }

    /// Answers with a problem.
    pub(super) fn refuse(&mut self, token: Token, problem: &Problem, close: bool) {
        self.gate.metrics.refused(problem.kind);
        if problem.reason().is_some() || problem.kind == Kind::RateLimited {
            self.lower_priority(token);
        }
        let cors = self.gate.cors.lines(self.caller(token));
        write::problem(&mut self.out, &mut self.body, problem, cors, &self.date, close);
        if let Some(conn) = self.conns.get_mut(token) {
            conn.close |= close;
        }
    }

    pub(super) fn attempt(
        &mut self,
        token: Token,
        (sale, address, now): (&str, IpAddr, TimeMs),
        (front, rendered): (Arc<Front>, Arc<Rendered>),
        head: &Head<'_>,
        body: &[u8],
    ) -> Step {
        let started = Instant::now();
        let close = self.closes(token, head);
        let question = Question {
            sale,
            peer: Peer(address),
            now,
            pass: head.fields.pass,
            content_type: head.fields.content_type,
            idempotency_key: head.fields.idempotency_key,
        };
        let admitted = api::admit(&self.gate, &question)
            .and_then(|admitted| Ok((api::basket(body, &rendered.view.spec)?, admitted)));
        let (basket, admitted) = match admitted {
            Ok(admitted) => admitted,
            Err(problem) => {
                self.note(address, &problem);
                self.refuse(token, &problem, close);
                self.gate.metrics.took(RouteClass::Attempt, started.elapsed());
                return Step::Answered;
            }
        };
        let pass = admitted.pass;
        let id = self.gate.keys.attempt_id(sale, pass.shopper, admitted.key);
        if let Some(said) = front.alone(&rendered.view, &pass, &basket) {
            if let Some(outcome) = outcome_of(id, &said.answer()) {
                self.write_outcome(token, &outcome, close);
            }
            self.gate.note_alone(&pass, &said);
            self.gate_refused(&front, said);
            self.gate.metrics.took(RouteClass::Attempt, started.elapsed());
            return Step::Answered;
        }
        let turn = api::turn(&self.gate, &front, pass.tier);
        let stage = Stage::Here;
        let expected = matches!(turn, Ok(1..)).then(|| Expected::new(&front, pass.shopper));
        let pending = Pending { conn: token, front, pass, basket, id, started, stage, _expected: expected };
        let pending = self.pending.insert(pending);
        if let Some(conn) = self.conns.get_mut(token) {
            conn.state = State::Waiting;
        }
        self.due.push_back((started + self.gate.decision_wait(), pending));
        match turn {
            Ok(0) => self.put(pending),
            Ok(wait_ms) => self.turns.push(Reverse((started + Duration::from_millis(wait_ms), pending))),
            Err(problem) => self.ask_known(pending, problem),
        }
        Step::Waits
    }

    /// Puts an attempt among those of this turn.
    pub(super) fn put(&mut self, token: Token) {
        let Some(pending) = self.pending.get_mut(token) else { return };
        if !matches!(pending.stage, Stage::Here) {
            return;
        }
        // From here on it is the sale's, and decided, unless there turns out to be no room.
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

    pub(super) fn take_turns(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, token))) = self.turns.peek().copied()
            && at <= now
        {
            self.turns.pop();
            self.put(token);
        }
    }

    /// Hands this turn's attempts to their sales.
    pub(super) fn submit(&mut self, scratch: &mut [u8]) {
        let mut batches = std::mem::take(&mut self.batches);
        for (front, batch) in &mut batches {
            if batch.is_empty() {
                continue;
            }
            for token in self.gate.strategy.over_queue_share(|| front.sale.queue(), batch) {
                self.ask_known(Token::from_u64(token), api::queue_full());
            }
            let patience_ms = self.gate.config.decision_wait_ms;
            let put = || front.sale.attempts(&self.mailbox, patience_ms, batch);
            if catch_unwind(AssertUnwindSafe(put)).is_err() {
                tracing::error!("put attempts to a sale: panicked");
                batch.clear();
                let mut all = Vec::new();
                self.pending.find(&mut all, |pending| Arc::ptr_eq(&pending.front, front));
                for token in all {
                    self.say(token, Err(Problem::internal()), scratch);
                }
            }
        }
        // In the worst case, above, further attempts have come meanwhile.
        for (front, batch) in std::mem::replace(&mut self.batches, batches) {
            match self.batches.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &front)) {
                Some((_, known)) => known.extend(batch),
                None => self.batches.push((front, batch)),
            }
        }
    }

    /// Not now: what was promised to this very attempt before is said all the same, else `full`.
    pub(super) fn ask_known(&mut self, token: Token, full: Problem) {
        let Some(pending) = self.pending.get_mut(token) else { return };
        pending.stage = Stage::NoRoom(full.clone());
        let (inbox, front) = (Arc::clone(&self.inbox), Arc::clone(&pending.front));
        let (id, shopper, basket) = (pending.id, pending.pass.shopper, pending.basket);
        self.runtime.spawn(async move {
            let answer = api::known(&front, id, shopper, basket, full).await;
            inbox.tell(token.to_u64(), answer);
        });
    }

    /// Says what came of an attempt, and goes on with its connection.
    pub(super) fn say(&mut self, token: Token, asked: Result<Asked, Problem>, scratch: &mut [u8]) {
        let Some(conn) = self.pending.peek(token).map(|pending| pending.conn) else { return };
        self.guarded(conn, |it| it.say_unguarded(token, asked, scratch));
    }

    fn say_unguarded(&mut self, token: Token, asked: Result<Asked, Problem>, scratch: &mut [u8]) {
        let Some(pending) = self.pending.remove(token) else { return };
        let Some(close) = self.conns.get_mut(pending.conn).map(|conn| conn.close || self.drains) else {
            return;
        };
        self.out.clear();
        let outcome = asked.and_then(|asked| {
            self.gate.note_answer(&pending.front, &pending.pass, &asked);
            match asked {
                Asked::Answered(answer) => outcome_of(pending.id, &answer).ok_or_else(api::key_reused),
                Asked::Queued(place) => Ok(Outcome::queued(pending.id, place)),
            }
        });
        match outcome {
            Ok(outcome) => self.write_outcome(pending.conn, &outcome, close),
            Err(problem) => self.refuse(pending.conn, &problem, close),
        }
        self.gate.metrics.took(RouteClass::Attempt, pending.started.elapsed());
        if let Some(conn) = self.conns.get_mut(pending.conn) {
            conn.state = State::Idle;
            conn.close |= close;
        }
        if self.flush(pending.conn) {
            self.rest(pending.conn);
            let more = |conn: &mut Conn| conn.readable || conn.ended || conn.input.is_some();
            if self.conns.get_mut(pending.conn).is_some_and(more) {
                self.serve_in_turn(pending.conn, scratch);
            }
        }
    }

    fn write_outcome(&mut self, to: Token, outcome: &Outcome, close: bool) {
        self.body.clear();
        outcome.write(&mut self.body);
        let status = if outcome.is_queued() { "202 Accepted" } else { "200 OK" };
        let retry_after = outcome.retry_after_ms.map(|ms| ms.div_ceil(1000));
        let cors = self.gate.cors.lines(self.caller(to));
        write::json(&mut self.out, status, &self.body, retry_after, cors, &self.date, close);
    }

    /// Keeps what was said without the sale, which hears of it at the end of the turn.
    fn gate_refused(&mut self, front: &Arc<Front>, said: GateRefusal) {
        let same =
            |known: &mut (Arc<Front>, GateRefusal)| Arc::ptr_eq(&known.0, front) && known.1.merge(&said);
        if !self.said.iter_mut().any(same) {
            self.said.push((Arc::clone(front), said));
        }
    }

    /// Reports it.
    pub(super) fn report_what_was_said(&mut self) {
        for (front, said) in self.said.drain(..) {
            front.sale.gate_refused(&[said]);
        }
    }

    /// Finds those whose decision takes too long. Who is still here is put to the sale first, for what is said then is that the
    /// decision will come.
    pub(super) fn find_those_who_wait(&mut self) {
        let now = Instant::now();
        while let Some(&(at, token)) = self.due.front() {
            if self.pending.peek(token).is_some() {
                if at > now {
                    return;
                }
                self.put(token);
                self.late.push(token);
            }
            // Most have been answered long ago.
            self.due.pop_front();
        }
    }

    /// Tells them their place, or that there was no room.
    pub(super) fn tell_those_who_wait(&mut self, scratch: &mut [u8]) {
        for token in std::mem::take(&mut self.late) {
            let Some(pending) = self.pending.peek(token) else { continue };
            if let Stage::NoRoom(full) = &pending.stage {
                let full = full.clone();
                self.say(token, Err(full), scratch);
                continue;
            }
            let mut place = pending.front.sale.position(pending.id, pending.pass.shopper);
            match place.try_recv() {
                Ok(Ok(Some(told))) => self.say(token, Ok(Asked::from(told)), scratch),
                // It was decided just now, and the answer is on its way.
                Ok(Ok(None)) => {}
                Ok(Err(unavailable)) => self.say(token, Err(unavailable.into()), scratch),
                // The sale is in another process.
                Err(_) => {
                    let inbox = Arc::clone(&self.inbox);
                    self.runtime.spawn(async move {
                        if let Some(told) = api::standing_of(place).await.transpose() {
                            inbox.tell(token.to_u64(), told.map(Asked::from));
                        }
                    });
                }
            }
        }
    }
}

fn malformed(why: head::Refusal, bytes_max: usize) -> Problem {
    match why {
        head::Refusal::TooLarge => Problem::new(
            Kind::HeadTooLarge,
            format!("the head of the request has more than {bytes_max} bytes or 64 fields"),
        ),
        head::Refusal::Version => Problem::new(Kind::BadRequest, "want HTTP/1.1 or HTTP/1.0"),
        head::Refusal::Malformed(why) => Problem::new(Kind::BadRequest, why),
    }
}
