//! The bounded queue before a worker, and the deliveries after it. It knows no machine: a job is
//! what a front makes of a request and of where to send the reply.

use std::collections::VecDeque;
use std::sync::Arc;

/// Jobs that wait for the worker. The front holds it under its lock.
#[derive(Debug)]
pub struct Queue<J> {
    jobs: VecDeque<J>,
    len_max: usize,
    stopping: bool,
}

impl<J> Queue<J> {
    /// A queue for `len_max` jobs.
    pub fn new(len_max: usize) -> Self {
        Self { jobs: VecDeque::new(), len_max, stopping: false }
    }

    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// True if refusable jobs must be refused.
    pub fn is_full(&self) -> bool {
        self.jobs.len() >= self.len_max
    }

    /// True if even jobs that a full queue still accepts, such as operators', must be refused: for
    /// these there is room for as many again.
    pub fn is_crammed(&self) -> bool {
        self.jobs.len() >= 2 * self.len_max
    }

    /// Adds a job; the caller has checked that there is room.
    pub fn push(&mut self, job: J) {
        self.jobs.push_back(job);
    }

    /// Moves all jobs to `to`. A worker that still has jobs is filled up to `len_max` only, because
    /// jobs that it has taken no longer count in the queue.
    pub fn take(&mut self, to: &mut VecDeque<J>) {
        if to.is_empty() {
            std::mem::swap(&mut self.jobs, to);
        } else {
            let room = self.len_max.saturating_sub(to.len()).min(self.jobs.len());
            to.extend(self.jobs.drain(..room));
        }
    }

    /// Keeps those jobs for which `keep` says so.
    pub fn retain(&mut self, keep: impl FnMut(&J) -> bool) {
        self.jobs.retain(keep);
    }

    /// No more jobs are accepted. The worker finishes those that are queued.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping
    }
}

/// Replies on their way, each to its mailbox: one delivery for all that were decided together.
#[derive(Debug)]
pub struct Deliveries<B: ?Sized, T>(Vec<(Arc<B>, Vec<T>)>);

impl<B: ?Sized, T> Default for Deliveries<B, T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<B: ?Sized, T> Deliveries<B, T> {
    /// Adds a reply. There are few mailboxes, one for each loop, so they are searched linearly.
    pub fn add(&mut self, to: Arc<B>, reply: T) {
        match self.0.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &to)) {
            Some((_, replies)) => replies.push(reply),
            None => self.0.push((to, vec![reply])),
        }
    }

    /// Delivers each mailbox its replies, in the order in which they were added.
    pub fn deliver(mut self, mut hand_over: impl FnMut(&B, &mut Vec<T>)) {
        for (to, replies) in &mut self.0 {
            hand_over(to, replies);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_topped_up_to_no_more_jobs_than_the_queue_holds() {
        let mut queue = Queue::new(3);
        (0..5).for_each(|job| queue.push(job));
        assert!(queue.is_full() && !queue.is_crammed());
        let mut at_work = VecDeque::new();
        queue.take(&mut at_work);
        assert_eq!((queue.len(), at_work.len()), (0, 5));
        queue.push(5);
        queue.take(&mut at_work);
        assert_eq!((queue.len(), at_work.len()), (1, 5), "it has more than enough");
        at_work.drain(..3);
        queue.take(&mut at_work);
        assert_eq!(at_work, [3, 4, 5]);
    }

    #[test]
    fn replies_to_one_mailbox_are_delivered_together() {
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        let mut deliveries = Deliveries::default();
        for (to, reply) in [(&one, 1), (&other, 2), (&one, 3)] {
            deliveries.add(Arc::clone(to), reply);
        }
        let mut handed = Vec::new();
        deliveries.deliver(|to, replies| handed.push((to.to_owned(), std::mem::take(replies))));
        assert_eq!(handed, [("one".to_owned(), vec![1, 3]), ("other".to_owned(), vec![2])]);
    }
}
