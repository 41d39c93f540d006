//! Seeded schedules of appends, failures, restarts, trims and snapshots, against a model that knows
//! what was acknowledged.

use crate::world::{batch, entry, options};
use engines::{
    embedded::{EmbeddedLog, Options, ReadOnlyLog, segment::FRAMES_AT},
    log::{AppendError, Log, LogError},
};
use sim::disk::{Call, EIO, EMFILE, SimDisk};
use std::{io::ErrorKind, ops::ControlFlow};
use units::{Prng, Sequence};

const SEEDS: u64 = 400;
const COMMANDS: u64 = 120;

/// What the log must hold: for each sequence, the attempt that wrote it.
#[derive(Default)]
struct Model {
    acknowledged: Vec<u64>,
    /// An append whose outcome is not known: how many entries, and which attempt.
    uncertain: Option<(u64, u64)>,
    /// Entries up to here may have been trimmed.
    trimmed: u64,
    snapshot: u64,
    attempts: u64,
}

impl Model {
    /// Checks what is there after a restart, and takes it as what was acknowledged.
    fn check(&mut self, log: &EmbeddedLog<SimDisk>, disk: &SimDisk, seed: u64) {
        disk.hold_faults(true);
        let known = self.acknowledged.len() as u64;
        if let Some((count, attempt)) = self.uncertain.take()
            && log.last().0 != known
        {
            self.acknowledged.extend((0..count).map(|_| attempt));
        }
        assert_eq!(log.last().0, self.acknowledged.len() as u64, "seed {seed}: {known} were acknowledged");
        let mut reader = log.reader();
        let mut next = reader.first().0;
        assert!(next <= self.trimmed + 1, "seed {seed}: begins with {next}, trimmed to {}", self.trimmed);
        reader
            .read(Sequence(next), &mut |sequence, bytes| {
                assert_eq!(sequence.0, next, "seed {seed}");
                assert_eq!(
                    bytes,
                    entry(next, self.acknowledged[next as usize - 1]),
                    "seed {seed}: entry {next}"
                );
                next += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(next, log.last().0 + 1, "seed {seed}");
        let snapshot = log.snapshots().latest().unwrap();
        match snapshot {
            Some((at, ref bytes)) => assert_eq!(bytes[..], at.0.to_le_bytes(), "seed {seed}"),
            None => assert_eq!(self.snapshot, 0, "seed {seed}"),
        }
        assert!(snapshot.is_none_or(|(at, _)| at.0 >= self.snapshot), "seed {seed}: an older snapshot");
        disk.hold_faults(false);
    }
}

fn run(seed: u64) {
    let mut prng = Prng::new(seed);
    let mut disk = SimDisk::new();
    // In half of the schedules a segment grows many times.
    let first_bytes = if seed.is_multiple_of(2) { FRAMES_AT + 256 } else { u64::MAX };
    let open = |disk: &SimDisk| EmbeddedLog::open(disk.clone(), Options { first_bytes, ..options() });
    let mut log = open(&disk).unwrap();
    let mut model = Model::default();
    for _ in 0..COMMANDS {
        match prng.below(40) {
            0 => disk.fail_next_sync(prng.next_u64()),
            1 => disk.fail_write_after(prng.below(3000), ErrorKind::StorageFull),
            2 => disk.fail_write_after(prng.below(3000), ErrorKind::Other),
            3 => disk.die_after_bytes(prng.below(6000)),
            4 => disk.die_after_operations(prng.below(12)),
            5 => disk.limit_room(Some(prng.below(40_000))),
            6 => disk.limit_room(None),
            7 => disk.fail_next_dir_sync(),
            13 => {
                let call = *prng.pick(&[Call::Create, Call::Open, Call::Rename, Call::RenameDone]);
                disk.refuse_after(call, prng.below(3), *prng.pick(&[EIO, EMFILE]));
            }
            8 | 9 => {
                disk = match prng.below(3) {
                    0 => disk.power_cut(&mut prng),
                    1 => disk.kill(),
                    _ => disk.clone(),
                };
                if prng.percent(20) {
                    disk.drop_caches();
                }
                log = restart(&open, log, &mut disk, &mut prng, seed);
                model.check(&log, &disk, seed);
            }
            10 => {
                let up_to = prng.below(log.last().0 + 1);
                model.trimmed = model.trimmed.max(up_to);
                let _ = log.trim(Sequence(up_to));
            }
            11 => {
                let at = log.last().0;
                if log.snapshots().write(Sequence(at), &at.to_le_bytes()).is_ok() {
                    model.snapshot = at;
                }
            }
            12 if model.uncertain.is_none() => {
                let outside = ReadOnlyLog::open(disk.clone());
                assert!(outside.is_err() || outside.is_ok_and(|outside| outside.report().last == log.last()));
            }
            _ => {
                let count_max = if prng.percent(5) { 300 } else { 8 };
                let (last, count) = (log.last(), 1 + prng.below(count_max));
                model.attempts += 1;
                match log.append(last, &batch(last, count, model.attempts)) {
                    Ok(_) => model.acknowledged.extend((0..count).map(|_| model.attempts)),
                    Err(AppendError::Shortage(_)) => assert_eq!(log.last(), last),
                    Err(AppendError::Unknown(_)) => {
                        model.uncertain = Some((count, model.attempts));
                        if log.reopen().is_err() || disk.is_down() {
                            disk = if prng.percent(50) { disk.power_cut(&mut prng) } else { disk.kill() };
                            log = restart(&open, log, &mut disk, &mut prng, seed);
                        }
                        model.check(&log, &disk, seed);
                    }
                    Err(error @ AppendError::Conflict { .. }) => panic!("seed {seed}: {error}"),
                }
            }
        }
    }
}

/// Opens the log again; the machine may stop in the middle of that, too, and of the next try.
fn restart(
    open: &impl Fn(&SimDisk) -> Result<EmbeddedLog<SimDisk>, LogError>,
    log: EmbeddedLog<SimDisk>,
    disk: &mut SimDisk,
    prng: &mut Prng,
    seed: u64,
) -> EmbeddedLog<SimDisk> {
    drop(log);
    for _ in 0..4 {
        match prng.below(4) {
            0 => disk.die_after_operations(prng.below(8)),
            1 => disk.die_after_bytes(prng.below(500)),
            2 => disk.fail_next_sync(prng.next_u64()),
            _ => {}
        }
        if let Ok(log) = open(disk)
            && !disk.is_down()
        {
            return log;
        }
        *disk = disk.power_cut(prng);
    }
    open(disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"))
}

#[test]
fn crashes_lose_no_acknowledged_entry_and_invent_none() {
    for seed in 0..SEEDS {
        run(seed);
    }
}
