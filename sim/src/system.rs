//! What a context provides to be simulated.

use crate::story::{Check, Violation};
use engines::log::{Log, LogRead};
use runtime::Machine;
use units::{Prng, TimeMs};

/// A command of a system, and a reply of it.
pub type Command<S> = <<S as System>::Machine as Machine>::Command;
pub type Reply<S> = <<S as System>::Machine as Machine>::Reply;

/// Commands that are sent together, and the milliseconds until then.
pub type Batch<S> = (u64, Vec<Command<S>>);

/// The settings of a seed's world. They differ from seed to seed, so that each meets other faults.
#[derive(Debug, Clone, Copy)]
pub struct Habits {
    /// Commands in a turn, at the most.
    pub batch_max: u64,
    /// Of a hundred messages, how many are lost, and how many come twice.
    pub lost: u64,
    pub repeated: u64,
    /// How often a fault occurs, in a hundred turns of one command.
    pub trouble: u64,
    /// How long a message is under way.
    pub delay_ms_max: u64,
    /// How long a segment of the log is at first, and how long it may become.
    pub first_bytes: u64,
    pub segment_bytes: u64,
    pub time_jumps: bool,
    /// The longest time in which nobody does anything.
    pub pause_ms_max: u64,
    /// By how much the clock is ahead at the start, until a later command; 0 leaves that to the
    /// nemesis.
    pub ahead_at_start_ms: u64,
    /// Commands of crowds count among those after which the run ends.
    pub counts_crowds: bool,
}

/// A step of the worker, as it looks from outside.
#[derive(Debug)]
pub struct Step<'a, S: System> {
    pub now: TimeMs,
    /// The commands that were answered.
    pub commands: &'a [Command<S>],
    pub replies: &'a [Reply<S>],
    /// After the step nothing can be written, for want of room.
    pub in_shortage: bool,
    /// The machine has decisions that are not durable, and must not be shown.
    pub is_stale: bool,
    pub next_wakeup: Option<TimeMs>,
    /// No work remains from earlier steps: otherwise the next step goes on with it before anything
    /// new is decided.
    pub is_whole: bool,
}

/// A context in the simulator: its workload, and what must be true of every reply and every entry.
/// All randomness comes from the generator that is passed in.
pub trait System: Sized {
    type Machine: Machine<Command: Clone, Reply: Clone + PartialEq>;

    /// The command that runs this system, to which a seed is added.
    const RUN: &'static str;

    /// A seed's system, for a run of this many commands, and the world around it.
    fn new(prng: &mut Prng, commands: u64) -> (Self, Habits);

    /// The first commands.
    fn set_up(&mut self, prng: &mut Prng) -> Vec<Command<Self>>;

    /// The next command of a client.
    fn ask(&mut self, prng: &mut Prng, now: TimeMs) -> Command<Self>;

    /// Commands of a crowd that reach the server together, past the network.
    fn crowd(&mut self, _prng: &mut Prng, _now: TimeMs) -> Vec<Command<Self>> {
        Vec::new()
    }

    /// A client receives a reply. Its further commands go to `later`, with the milliseconds until
    /// then.
    fn hear(
        &mut self,
        prng: &mut Prng,
        command: &Command<Self>,
        reply: &Reply<Self>,
        later: &mut Vec<(u64, Command<Self>)>,
    ) -> Check;

    /// Code in the machine's own process reads the machine, which is `None` while it is down, and
    /// may send commands; it is also told whether nothing can be written.
    fn beside(
        &mut self,
        _prng: &mut Prng,
        _machine: Option<(&Self::Machine, bool)>,
    ) -> Result<Option<Command<Self>>, Violation> {
        Ok(None)
    }

    /// The machine has been recovered, and its log is read again: all that it held before must be
    /// there, and perhaps a batch whose outcome was unknown.
    fn restarted(&mut self, machine: &Self::Machine, reader: &mut dyn LogRead) -> Check;

    /// Checks a step after which the worker goes on: the new entries, and the replies.
    fn check(&mut self, step: &Step<'_, Self>, machine: &Self::Machine, reader: &mut dyn LogRead) -> Check;

    /// How many of the latest steps, each of the smallest size, may have done work that is neither
    /// logged nor answered.
    fn unseen_steps(&self) -> u32 {
        0
    }

    /// The entries that came with the last step or restart, in a word each.
    fn take_news(&mut self) -> Vec<String>;

    /// The last entry that the model has read.
    fn at(&self) -> u64;

    /// Commands that are sent once the faults have stopped, whatever the earlier replies, in
    /// batches.
    fn last_questions(&mut self) -> Vec<Vec<Command<Self>>>;

    /// After them: what code in the machine's own process sends next; `None` once nothing is left
    /// to do. How long that may take is for the system to check.
    fn winds_down(&mut self, _prng: &mut Prng, _now: TimeMs) -> Result<Option<Batch<Self>>, Violation> {
        Ok(None)
    }

    /// The run is over: checks the log as a whole, including its audit.
    fn end(&mut self, machine: &Self::Machine, log: &dyn Log) -> Check;

    /// Commands that show every part of the state: a machine that was restored from a snapshot must
    /// answer them as one that has replayed the log.
    fn probes(&self) -> Vec<Command<Self>>;

    /// A reply to a probe without what is not in the log: an order that depends on what a machine
    /// has been through, for one.
    fn of_the_log(reply: Reply<Self>) -> Reply<Self> {
        reply
    }

    /// The bounds that seeds are to reach, and whether this run has reached each.
    fn bounds(&self) -> Vec<(&'static str, bool)> {
        Vec::new()
    }

    /// Whether a client treats this as no answer, and retries.
    fn is_no_answer(reply: &Reply<Self>) -> bool;

    /// Both in a word, for the trace.
    fn brief(command: &Command<Self>) -> String;
    fn brief_reply(reply: &Reply<Self>) -> String;
}
