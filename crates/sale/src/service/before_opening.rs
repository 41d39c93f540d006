//! A sale's log before any shopper has met the sale: its first entries, and whether it may be
//! deleted.

use crate::Worker;
use crate::core::{Command, Entry, Record, Reply};
use contracts::{Actor, OperateError, Operation, OperationDone, SaleSpec, Unavailable};
use engines::log::{Log, LogError, LogRead};
use std::ops::ControlFlow;
use units::{Sequence, TimeMs};

/// Writes the document of a new sale into its empty log. The log is closed when this returns, so
/// that its directory can be moved to where sales are looked for.
pub fn set_up<L: Log>(
    log: L,
    now: TimeMs,
    by: Actor,
    spec: Box<SaleSpec>,
) -> Result<Result<OperationDone, OperateError>, Unavailable> {
    /// The definition is decided in the first step: an empty log leaves no other work.
    const STEPS_MAX: usize = 8;
    let (mut worker, _) =
        Worker::open(log).map_err(|error| Unavailable::Passing(format!("begin the sale's log: {error}")))?;
    let command = [Command::Operate { actor: by, operation: Operation::Define(spec) }];
    for _ in 0..STEPS_MAX {
        match worker.step(now, &command).first() {
            Some(Reply::Done(done)) => return Ok(done.clone()),
            Some(Reply::Unavailable(why)) => return Err(why.clone()),
            Some(other) => {
                let why = format!("the sale answered its definition with {other:?}");
                return Err(Unavailable::Passing(why));
            }
            None => {}
        }
    }
    Err(Unavailable::Passing("the sale's definition was not decided".into()))
}

/// Why a sale with this log may not be deleted, if it may not: it has opened, or a shopper has an
/// entry in it or was refused by it. What such a shopper was told must stay provable.
pub fn kept_for(log: &mut dyn LogRead) -> Result<Option<String>, LogError> {
    let mut kept_for = None;
    log.read(Sequence(1), &mut |sequence, bytes| {
        let why = match Entry::decode(bytes) {
            Ok(entry) => why_kept(&entry.record),
            Err(_) => Some("cannot be read"),
        };
        match why {
            Some(why) => {
                kept_for = Some(format!("entry {sequence} of its log {why}"));
                ControlFlow::Break(())
            }
            None => ControlFlow::Continue(()),
        }
    })?;
    Ok(kept_for)
}

fn why_kept(record: &Record) -> Option<&'static str> {
    match record {
        Record::Defined { .. }
        | Record::Paused { .. }
        | Record::Resumed { .. }
        | Record::Limits { .. }
        | Record::Rate { .. }
        | Record::List { .. }
        | Record::WaitlistEnded { .. }
        | Record::CommandDone { .. }
        | Record::SpaceRegained { refused: 0, .. } => None,
        Record::RoundOpened { .. }
        | Record::RoundClosed { .. }
        | Record::Extended { .. }
        | Record::Adjusted { .. } => Some("says that a round has opened"),
        Record::Reserved { .. } => Some("is a shopper's reservation"),
        Record::Granted { .. }
        | Record::Waitlisted { .. }
        | Record::Promoted { .. }
        | Record::Confirmed { .. }
        | Record::RefundDue { .. }
        | Record::Released { .. }
        | Record::Expired { .. }
        | Record::Voided { .. }
        | Record::Left { .. } => Some("is of a shopper's attempt"),
        Record::Refusals { .. }
        | Record::GateRefusals { .. }
        | Record::GateNotEligible { .. }
        | Record::SpaceRegained { .. } => Some("counts refusals that shoppers were told"),
    }
}
