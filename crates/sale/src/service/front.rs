//! The sale's front, between callers and its worker.

use super::shared::{Shared, lock};
use crate::core::{Command, Core, Reply};
use crate::queue::{Job, Post};
use contracts::{SaleStats, Told, Unavailable};
use runtime::drive::{Front, Stepped};
use runtime::service::NAP;
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use units::TimeMs;

impl Front for Shared {
    type Machine = Core;
    type Job = Job;

    fn now(&self) -> TimeMs {
        self.clock.now()
    }

    fn wait(&self, next_wakeup: Option<TimeMs>, jobs: &mut VecDeque<Job>) -> bool {
        let mut queue = lock(&self.queue);
        loop {
            let at = self.moment();
            queue.release(at);
            if !queue.jobs.is_empty() {
                queue.jobs.take(jobs);
                // The room that this makes belongs to the attempts in line, not to new ones.
                queue.release(at);
            }
            jobs.extend(lock(&self.said).take_due().map(Job::GateRefusals));
            if !jobs.is_empty() {
                return true;
            }
            if queue.jobs.is_stopping() {
                return false;
            }
            let next = [next_wakeup, queue.next_turn(at)].into_iter().flatten().min();
            let nap = match next {
                Some(next) => Duration::from_millis(next.since(at.now).0).min(NAP),
                None => NAP,
            };
            if nap.is_zero() {
                return true;
            }
            let waited = self.work.wait_timeout(queue, nap).unwrap_or_else(PoisonError::into_inner);
            queue = waited.0;
            // The core is asked again when it wants to wake: the clock may have been set back.
            if waited.1.timed_out() && next_wakeup.is_some() {
                return true;
            }
        }
    }

    fn command(job: &Job) -> Command {
        match job {
            Job::Attempt(attempt) => Command::Attempt(*attempt),
            Job::Lookup(attempt, shopper, _) => Command::Lookup { attempt: *attempt, shopper: *shopper },
            Job::Shopper(shopper, _) => Command::Shopper(*shopper),
            Job::Operate(actor, operation, _) => {
                Command::Operate { actor: actor.clone(), operation: operation.clone() }
            }
            Job::Stats(_) => Command::Stats,
            Job::Waiting(query, _) => Command::Waiting(query.clone()),
            Job::GateRefusals(counts) => Command::GateRefusals(counts.clone()),
            Job::PendingLookup(of) => Command::Lookup { attempt: of.attempt.id, shopper: of.attempt.shopper },
        }
    }

    fn stepped(&self, step: &Stepped<'_, Self>, rest: &mut VecDeque<Job>) {
        // The filter learns which shoppers have something before a view or an answer can say that
        // nothing is left.
        for (job, reply) in step.jobs.iter().zip(step.replies) {
            if let (Job::Attempt(attempt), Reply::Answer(answer)) = (job, reply) {
                self.known.hear(attempt.shopper, answer);
            }
        }
        // The view next: a shopper who is granted the last unit must not then read that it is still
        // on sale.
        match step.machine {
            Some(core) if step.is_news => {
                let view = core.view(&self.sale, step.in_shortage);
                view.iter().for_each(|view| lock(&self.said).publish(view));
                self.view.store(view.map(Arc::new));
                self.sequence.send_replace(core.sequence());
            }
            None if step.is_news && step.in_shortage => self.show_paused(true),
            _ => {}
        }
        if let Some((why, invariants)) = step.stopped {
            lock(&self.invariants).extend(invariants);
            self.show_stopped(why);
        }
        if self.moment().is_paused {
            let mut queue = lock(&self.queue);
            if !queue.jobs.is_stopping() {
                queue.requeue(rest);
            }
        }
    }

    fn reply(&self, batch: Vec<Job>, replies: Vec<Reply>, took: Duration) {
        let (queue_len, line_len);
        let mut answers = Vec::with_capacity(batch.len());
        {
            let mut queue = lock(&self.queue);
            let mut has_attempts = false;
            for (job, reply) in batch.iter().zip(&replies) {
                match job {
                    Job::Attempt(attempt) => {
                        has_attempts = true;
                        let answer = match reply {
                            Reply::Answer(answer) => Some(answer),
                            _ => None,
                        };
                        if let Some(flight) = queue.decide(attempt, answer, &self.known) {
                            answers.push((flight, reply));
                        }
                    }
                    Job::PendingLookup(of) => queue.looked_up(&of.attempt),
                    _ => {}
                }
            }
            if has_attempts {
                queue.note_step(self.clock.now(), took, batch.len());
            }
            (queue_len, line_len) = (queue.len() as u64, queue.line_len() as u64);
        }
        let mut post = Post::default();
        for (flight, reply) in answers {
            for waiter in flight.others.into_iter().chain(flight.first) {
                post.tell(waiter, as_answer(reply.clone()));
            }
        }
        for (job, reply) in batch.into_iter().zip(replies) {
            match job {
                Job::PendingLookup(of) => match reply {
                    Reply::Found(found) => of.tell(&found, &mut post),
                    other => post.tell(of.waiter, Err(unavailable(other))),
                },
                Job::Attempt(_) => {}
                Job::Lookup(_, _, sender) => drop(sender.send(match reply {
                    Reply::Found(found) => Ok(found),
                    other => Err(unavailable(other)),
                })),
                Job::Shopper(_, sender) => drop(sender.send(match reply {
                    Reply::Shopper(record) => Ok(record),
                    other => Err(unavailable(other)),
                })),
                Job::Operate(_, _, sender) => drop(sender.send(match reply {
                    Reply::Done(done) => Ok(done),
                    other => Err(unavailable(other)),
                })),
                Job::GateRefusals(counts) => {
                    // The disk is full, or the worker has stopped: they are logged later, if ever.
                    if let Reply::Unavailable(Unavailable::Passing(_)) = reply {
                        lock(&self.said).add(&counts);
                    }
                }
                Job::Waiting(_, sender) => drop(sender.send(match reply {
                    Reply::Waiting(page) => Ok(page),
                    other => Err(unavailable(other)),
                })),
                Job::Stats(sender) => drop(sender.send(match reply {
                    Reply::Stats(stats) => Ok(SaleStats { queue: queue_len, line: line_len, ..stats }),
                    other => Err(unavailable(other)),
                })),
            }
        }
        post.deliver();
    }

    fn last_jobs(&self) -> Vec<Job> {
        vec![Job::GateRefusals(lock(&self.said).take())]
    }
}

fn as_answer(reply: Reply) -> Result<Told, Unavailable> {
    match reply {
        Reply::Answer(answer) => Ok(Told::Answer(answer)),
        other => Err(unavailable(other)),
    }
}

fn unavailable(reply: Reply) -> Unavailable {
    match reply {
        Reply::Unavailable(why) => why,
        other => Unavailable::Passing(format!("the worker gave another reply than was asked for: {other:?}")),
    }
}
