//! The embedded engine keeps the promises of the log port, on a real disk and on a simulated one.

use crate::world::{batch, options, read_all};
use engines::{
    embedded::{EmbeddedLog, Options},
    log::{
        Log,
        conformance::{Harness, run},
    },
};
use sim::disk::SimDisk;
use tempfile::TempDir;
use units::{Prng, Sequence};

#[derive(Default)]
struct OnRealDisk {
    dir: Option<TempDir>,
}

impl OnRealDisk {
    fn open(&self) -> Box<dyn Log> {
        let dir = self.dir.as_ref().expect("a directory was made");
        Box::new(EmbeddedLog::open_dir(&dir.path().join("new/log"), options()).unwrap())
    }
}

impl Harness for OnRealDisk {
    fn fresh(&mut self) -> Box<dyn Log> {
        self.dir = Some(tempfile::tempdir().unwrap());
        self.open()
    }

    fn restart(&mut self, log: Box<dyn Log>) -> Box<dyn Log> {
        drop(log);
        self.open()
    }
}

struct OnSimDisk {
    disk: SimDisk,
    prng: Prng,
}

impl Harness for OnSimDisk {
    fn fresh(&mut self) -> Box<dyn Log> {
        self.disk = SimDisk::new();
        Box::new(EmbeddedLog::open(self.disk.clone(), options()).unwrap())
    }

    /// The process ends in order, is killed, or loses its power.
    fn restart(&mut self, log: Box<dyn Log>) -> Box<dyn Log> {
        match self.prng.below(3) {
            0 => {}
            1 => self.disk = self.disk.kill(),
            _ => self.disk = self.disk.power_cut(&mut self.prng),
        }
        drop(log);
        Box::new(EmbeddedLog::open(self.disk.clone(), options()).unwrap())
    }
}

#[test]
fn the_embedded_log_passes_the_conformance_suite_on_a_real_disk() {
    run(&mut OnRealDisk::default());
}

#[test]
fn a_log_may_begin_later_than_with_entry_1() {
    let dir = tempfile::tempdir().unwrap();
    let open = || EmbeddedLog::open_dir(dir.path(), Options { first: Sequence(8), ..options() }).unwrap();
    let mut log = open();
    for last in 8..12 {
        assert_eq!(log.append(log.last(), &batch(log.last(), 1, 0)).unwrap(), Sequence(last));
        assert_eq!((log.reader().first(), log.last()), (Sequence(8), Sequence(last)));
        drop(log);
        log = open();
        assert_eq!(read_all(&mut *log.reader()).len() as u64, last - 7);
    }
    log.snapshots().write(Sequence(7), b"state").unwrap();
    drop(log);
    let copy = engines::embedded::open_read_only(dir.path()).unwrap();
    assert_eq!(copy.latest_snapshot().unwrap(), Some((Sequence(7), b"state".to_vec())));
}

#[test]
fn the_embedded_log_passes_the_conformance_suite_on_a_simulated_disk() {
    for seed in 0..8 {
        run(&mut OnSimDisk { disk: SimDisk::new(), prng: Prng::new(seed) });
    }
}
