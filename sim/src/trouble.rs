//! When faults occur, by the nemesis's generator.

use crate::disk::{Call, EIO, EMFILE, Fault};
use crate::nemesis::{HOURS_MS, in_full, is_excused};
use crate::story::{Check, ensure};
use crate::system::System;
use crate::world::World;
use engines::log::Log;
use runtime::Machine;
use std::io::ErrorKind;
use std::ops::{ControlFlow, Range};
use units::Sequence;

/// How much room there is while there is not yet room for everything again: more than for almost
/// any frame, and mostly less than for the rest of a long segment.
const SOME_ROOM_BYTES: Range<u64> = 5000..20_000;

impl<S: System> World<S> {
    /// Perhaps causes a fault.
    pub(crate) fn trouble(&mut self) -> Check {
        let time_ms = self.time_ms();
        if self.nemesis.room_until_ms.is_some_and(|until_ms| time_ms >= until_ms) {
            self.disk.limit_room(None);
            self.disk.limit_sync_room(None, 0);
            self.story.note("there is room again".into());
            self.nemesis.room_until_ms = None;
            // Not always for everything: what needs no more than there is must go on.
            if self.nemesis.prng.percent(70) {
                self.limit_room(SOME_ROOM_BYTES);
            }
        }
        if self.nemesis.handles_until_ms.is_some_and(|until_ms| time_ms >= until_ms) {
            self.disk.fail_opens(false);
            self.story.note("there are file handles again".into());
            self.nemesis.handles_until_ms = None;
        }
        if self.nemesis.clock_set_at.is_some_and(|at| self.commands >= at) {
            self.story.note("the clock is set".into());
            (self.nemesis.clock_set_at, self.skew_ms) = (None, 0);
        }
        if self.commands >= self.nemesis.crash_at {
            self.nemesis.crash_at = u64::MAX;
            return self.crash();
        }
        let commands_per_turn = self.habits.batch_max;
        if !self.nemesis.prng.percent((self.habits.trouble * commands_per_turn.min(8)).min(60)) {
            return Ok(());
        }
        let prng = &mut self.nemesis.prng;
        let (disk, story) = (&self.disk, &mut self.story);
        match prng.below(31) {
            0..=1 => return self.crash(),
            2..=4 => {
                let bytes = prng.below(4000);
                story.note(format!("the machine will die {bytes} bytes on"));
                disk.die_after_bytes(bytes);
            }
            5..=7 => {
                let count = prng.below(12);
                story.note(format!("the machine will die {count} operations on"));
                disk.die_after_operations(count);
            }
            8..=10 => {
                story.note("the next sync will fail".into());
                disk.fail_next_sync(prng.next_u64());
                if prng.percent(25) {
                    disk.fail_write_after(prng.below(3000), ErrorKind::Other);
                }
            }
            11 => {
                story.note("the next sync of the directory will fail".into());
                disk.fail_next_dir_sync();
            }
            12..=13 => {
                story.note("a write will fail".into());
                let kind = if prng.percent(50) { ErrorKind::StorageFull } else { ErrorKind::Other };
                disk.fail_write_after(prng.below(2000), kind);
            }
            14..=16 => {
                let factor = self.nemesis.room_factor;
                // Often so little that it runs out before there is more again.
                let most = if prng.percent(30) { 600 } else { 8000 * factor };
                self.limit_room(0..most);
            }
            17..=21 => {
                let in_turns = prng.percent(25);
                return self.snapshot(in_turns);
            }
            22 => self.flip_snapshot(),
            23 => {
                story.note("no file can be opened".into());
                disk.fail_opens(true);
                self.nemesis.handles_until_ms = Some(time_ms + prng.below(4000));
            }
            24..=26 => {
                let calls =
                    [Call::Create, Call::Open, Call::Read, Call::Remove, Call::Rename, Call::RenameDone];
                let (call, errno) = (*prng.pick(&calls), *prng.pick(&[EIO, EIO, EMFILE]));
                story.note(format!("a call will be refused: {call:?}, error {errno}"));
                disk.refuse_after(call, prng.below(4), errno);
            }
            _ if self.habits.time_jumps => self.jump(),
            _ => {}
        }
        Ok(())
    }

    /// Leaves so much room, in bytes, for a while.
    fn limit_room(&mut self, bytes: Range<u64>) {
        let time_ms = self.time_ms();
        let prng = &mut self.nemesis.prng;
        let room = bytes.start + prng.below(bytes.end - bytes.start);
        if self.nemesis.reserves_late {
            self.story.note(format!("room for {room} bytes is left, as syncs will find"));
            self.disk.limit_sync_room(Some(room), prng.next_u64());
        } else {
            self.story.note(format!("room for {room} bytes is left"));
            self.disk.limit_room(Some(room));
        }
        self.nemesis.room_until_ms = Some(time_ms + prng.below(6000));
    }

    /// Perhaps the power fails between two steps of long work, right after a snapshot in the middle
    /// or without one.
    pub(crate) fn strike_between_steps(&mut self) -> Check {
        if self.nemesis.last || self.nemesis.in_turns {
            return Ok(());
        }
        match self.nemesis.prng.below(40) {
            0 => self.crash(),
            1 => {
                let crashes = self.nemesis.crashes;
                self.snapshot(false)?;
                if self.nemesis.crashes == crashes { self.crash() } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    /// The clock jumps: mostly a little, and back to the right time when it is far off.
    fn jump(&mut self) {
        let prng = &mut self.nemesis.prng;
        let span = if prng.percent(3) { HOURS_MS } else { *prng.pick(&[100, 2000, 30_000]) };
        let by = prng.below(2 * span + 1) as i64 - span as i64;
        self.skew_ms = if self.skew_ms.unsigned_abs() > 60_000 { 0 } else { self.skew_ms + by };
        self.story.note(format!("the clock is off by {} ms", self.skew_ms));
    }

    /// Makes a snapshot as the service's thread does, perhaps in turns with the worker, which then
    /// has no command that is half done. It may fail with the disk; if not, it must equal the
    /// replay of the log up to its entry.
    fn snapshot(&mut self, in_turns: bool) -> Check {
        let Some(server) = &self.server else { return Ok(()) };
        let log = server.worker.log();
        let (mut reader, mut snapshots) = (log.reader(), log.snapshots());
        let mut write = move || runtime::snapshot::<S::Machine>(&mut *reader, &mut *snapshots);
        let crashes = self.nemesis.crashes;
        let kept_before = self.snapshots_count();
        drop(self.disk.take_struck());
        self.nemesis.note_refused(self.disk.take_refused());
        self.nemesis.refused.clear();
        let (mut struck, mut beside) = (Vec::new(), Ok(()));
        let made = if in_turns {
            self.nemesis.in_turns = true;
            let disk = self.disk.clone();
            let made = disk.in_turns(write, || {
                struck.extend(self.disk.take_struck());
                if beside.is_ok() && self.nemesis.prng.percent(40) {
                    beside = self.serve();
                }
            });
            self.nemesis.in_turns = false;
            made
        } else {
            write()
        };
        struck.extend(self.disk.take_struck());
        beside?;
        if !self.disk.is_down() && self.nemesis.crashes == crashes {
            self.nemesis.note_refused(self.disk.take_refused());
            let refused = &self.nemesis.refused;
            // Without a list of them none is superseded.
            let could_list = !struck.contains(&Fault::NoHandles)
                && !refused.iter().any(|(call, name)| *call == Call::Open && name.is_empty());
            let could_remove =
                !refused.iter().any(|(call, name)| *call == Call::Remove && name.starts_with("snap-"));
            if made.is_ok() && could_list && could_remove {
                self.nemesis.snapshots_removed();
            }
            self.nothing_is_unfinished()?;
            // What this very call could not remove, the next one removes: none stays for longer.
            let kept = self.snapshots_count();
            let kept_max = match (made.is_ok(), could_list && could_remove) {
                (true, true) => 2,
                (false, true) => kept_before,
                (_, false) => kept_before + 1,
            };
            ensure(kept <= kept_max, "leftover", || {
                format!("{kept} snapshots are kept, {kept_before} were")
            })?;
        }
        match made {
            // It was written, and the machine died while older ones were removed.
            Ok(_) if self.disk.is_down() => {}
            Ok((at, _)) => {
                self.story.note(format!("snapshot at {at}"));
                self.disk.hold_faults(true);
                let checked = self.snapshot_is_the_replay(at);
                self.disk.hold_faults(false);
                checked?;
            }
            Err(error) => {
                let why = in_full(&error);
                self.story.note(format!("no snapshot: {why}"));
                let is_excused = self.nemesis.crashes > crashes || is_excused(&self.disk, &why, &struck);
                ensure(is_excused, "excuse", || format!("{why}, and there was only {struck:?}"))?;
            }
        }
        if self.disk.is_down() { self.crash() } else { Ok(()) }
    }

    fn snapshots_count(&self) -> usize {
        self.disk.lengths().keys().filter(|name| name.ends_with(".snap")).count()
    }

    /// The snapshot that was just made at this entry is what the log alone gives, in its bytes and
    /// in what a sale that is restored from it answers.
    fn snapshot_is_the_replay(&self, at: Sequence) -> Check {
        let Some(server) = &self.server else { return Ok(()) };
        let log = server.worker.log();
        let mut replayed = S::Machine::default();
        let mut failed = None;
        let read = log.reader().read(Sequence(1), &mut |sequence, bytes| {
            if sequence > at {
                return ControlFlow::Break(());
            }
            failed = runtime::replay_entry(&mut replayed, sequence, bytes).err();
            if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        ensure(read.is_ok() && failed.is_none(), "INV-7", || format!("{read:?} {failed:?}"))?;
        let kept = log.snapshots().latest().ok().flatten();
        let Some((_, bytes)) = kept.filter(|(of, _)| *of == at) else {
            return ensure(false, "INV-7", || format!("the snapshot at {at} is not there"));
        };
        ensure(bytes == replayed.snapshot(), "INV-7", || {
            format!("the snapshot at {at} is not what the log gives")
        })?;
        let live = server.worker.machine();
        ensure(live.sequence() != at || live.snapshot() == bytes, "INV-7", || {
            format!("the snapshot at {at} is not the live state")
        })?;
        match S::Machine::restore(&bytes) {
            Ok(restored) => self.same_answers(restored, replayed),
            Err(error) => ensure(false, "INV-7", || error.to_string()),
        }
    }

    /// A bit of a snapshot flips. The snapshot must be skipped.
    fn flip_snapshot(&mut self) {
        let prng = &mut self.nemesis.prng;
        let files = self.disk.files();
        let snapshots: Vec<_> = files.iter().filter(|(name, _)| name.ends_with(".snap")).collect();
        if snapshots.is_empty() {
            return;
        }
        let (file, bytes) = prng.pick(&snapshots);
        if !bytes.is_empty() {
            self.disk.flip(file, prng.below(bytes.len() as u64), prng.below(8) as u32);
            self.story.note(format!("a bit of {file} has flipped"));
        }
    }

    /// Arms a fault that meets the process while it starts.
    pub(crate) fn arm_for_start(&mut self) {
        let prng = &mut self.nemesis.prng;
        if self.nemesis.last {
            return;
        }
        match prng.below(16) {
            0..2 => self.disk.die_after_operations(prng.below(8)),
            2..4 => self.disk.die_after_bytes(prng.below(500)),
            4..6 => self.disk.fail_next_sync(prng.next_u64()),
            6 => self.disk.refuse_after(Call::Open, prng.below(4), *prng.pick(&[EIO, EMFILE])),
            7 => self.disk.refuse_after(Call::Read, prng.below(6), EIO),
            _ => {}
        }
    }

    /// The disk of the next life.
    pub(crate) fn break_down(&mut self) {
        let prng = &mut self.nemesis.prng;
        self.nemesis.crashes += 1;
        self.nemesis.handles_until_ms = None;
        self.nemesis.not_removed.clear();
        self.nemesis.refused.clear();
        self.outside = None;
        self.disk = if prng.percent(60) {
            self.story.note("the power fails".into());
            self.disk.power_cut(prng)
        } else {
            self.story.note("the process is killed".into());
            self.disk.kill()
        };
        if prng.percent(20) {
            self.disk.drop_caches();
        }
        if self.habits.time_jumps && prng.percent(20) {
            self.jump();
        }
    }
}
