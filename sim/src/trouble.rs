//! When faults occur, by the nemesis's generator.

use crate::story::{Check, ensure};
use crate::system::System;
use crate::world::World;
use engines::log::Log;
use runtime::Machine;
use std::io::ErrorKind;
use units::DurationMs;

impl<S: System> World<S> {
    /// Perhaps causes a fault.
    pub(crate) fn trouble(&mut self) -> Check {
        let now = self.now();
        if self.nemesis.room_until.is_some_and(|until| now >= until) {
            self.disk.limit_room(None);
            self.story.note("there is room again".into());
            self.nemesis.room_until = None;
        }
        // The shortage lasts until the worker has checked.
        let full = self.server.as_ref().is_some_and(|server| server.worker.in_shortage());
        self.nemesis.room_is_short &= full || self.nemesis.room_until.is_some();
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
        match prng.below(26) {
            0..=1 => return self.crash(),
            2..=4 => {
                let bytes = prng.below(4000);
                story.note(format!("the machine will die {bytes} bytes on"));
                disk.die_after_bytes(bytes);
                self.nemesis.armed = true;
            }
            5..=7 => {
                let count = prng.below(12);
                story.note(format!("the machine will die {count} operations on"));
                disk.die_after_operations(count);
                self.nemesis.armed = true;
            }
            8..=10 => {
                story.note("the next sync will fail".into());
                disk.fail_next_sync(prng.next_u64());
                if prng.percent(25) {
                    disk.fail_write_after(prng.below(3000), ErrorKind::Other);
                }
                self.nemesis.armed = true;
            }
            11 => {
                story.note("the next sync of the directory will fail".into());
                disk.fail_next_dir_sync();
                self.nemesis.armed = true;
            }
            12..=13 => {
                story.note("a write will fail".into());
                let full = prng.percent(50);
                disk.fail_write_after(
                    prng.below(2000),
                    if full { ErrorKind::StorageFull } else { ErrorKind::Other },
                );
                self.nemesis.armed = true;
                self.nemesis.full_write |= full;
            }
            14..=16 => {
                let room = prng.below(8000);
                story.note(format!("room for {room} bytes is left"));
                disk.limit_room(Some(room));
                self.nemesis.room_until = Some(now.plus(DurationMs(prng.below(6000))));
                self.nemesis.room_is_short = true;
            }
            17..=21 => return self.snapshot(),
            22 => self.flip_snapshot(),
            _ if self.habits.time_jumps => self.jump(),
            _ => {}
        }
        Ok(())
    }

    /// Perhaps the power fails between two steps of long work, right after a snapshot in the middle
    /// or without one.
    pub(crate) fn strike_between_steps(&mut self) -> Check {
        if self.nemesis.last {
            return Ok(());
        }
        match self.nemesis.prng.below(40) {
            0 => self.crash(),
            1 => {
                let crashes = self.nemesis.crashes;
                self.snapshot()?;
                if self.nemesis.crashes == crashes { self.crash() } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    /// The clock jumps: mostly a little, and back to the right time when it is far off.
    fn jump(&mut self) {
        let prng = &mut self.nemesis.prng;
        let span = *prng.pick(&[100, 2000, 30_000]);
        let by = prng.below(2 * span + 1) as i64 - span as i64;
        self.skew_ms = if self.skew_ms.unsigned_abs() > 60_000 { 0 } else { self.skew_ms + by };
        self.story.note(format!("the clock is off by {} ms", self.skew_ms));
    }

    /// Makes a snapshot as the service's thread does. It may fail with the disk; if not, it must
    /// equal the state.
    fn snapshot(&mut self) -> Check {
        let Some(server) = &self.server else { return Ok(()) };
        let log = server.worker.log();
        let mut snapshots = log.snapshots();
        match runtime::snapshot::<S::Machine>(&mut *log.reader(), &mut *snapshots) {
            Ok((at, _)) => {
                self.story.note(format!("snapshot at {at}"));
                let kept = snapshots.latest().ok().flatten();
                let same =
                    kept.is_some_and(|(of, bytes)| of == at && bytes == server.worker.machine().snapshot());
                ensure(same || at != server.worker.machine().sequence(), "INV-7", || {
                    format!("the snapshot at {at} is not the live state")
                })?;
            }
            Err(error) => {
                self.story.note(format!("no snapshot: {error}"));
                let broken = self.nemesis.armed || self.nemesis.may_be_short();
                ensure(broken, "snapshot", || error.to_string())?;
            }
        }
        if self.disk.is_down() { self.crash() } else { Ok(()) }
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
    pub(crate) fn arm_for_start(&mut self) -> bool {
        let prng = &mut self.nemesis.prng;
        if self.nemesis.last {
            return false;
        }
        match prng.below(8) {
            0 => self.disk.die_after_operations(prng.below(8)),
            1 => self.disk.die_after_bytes(prng.below(500)),
            2 => self.disk.fail_next_sync(prng.next_u64()),
            _ => return false,
        }
        true
    }

    /// The disk of the next life.
    pub(crate) fn break_down(&mut self) {
        let prng = &mut self.nemesis.prng;
        self.nemesis.crashes += 1;
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
