//! The simulated disk keeps synced writes, and may lose all others; a crash test on a disk that
//! loses nothing proves nothing.

use engines::embedded::disk::{Disk, DiskFile};
use sim::disk::SimDisk;
use std::{collections::BTreeSet, io::ErrorKind};
use units::Prng;

fn read(disk: &SimDisk) -> Option<Vec<u8>> {
    disk.files().remove("a")
}

#[test]
fn synced_writes_survive_and_unsynced_ones_come_out_in_many_ways() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..500 {
        let disk = SimDisk::new();
        let file = disk.create_new("a").unwrap();
        file.write_at(&[1; 2000], 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir().unwrap();
        file.write_at(&[2; 1500], 1000).unwrap();
        assert_eq!(read(&disk).unwrap()[1500], 2, "it reads as written");
        let after = read(&disk.power_cut(&mut Prng::new(seed))).unwrap();
        assert_eq!(after[..1000], [1; 1000]);
        assert!(after.len() >= 2000 && after.iter().all(|&byte| byte <= 2));
        outcomes.insert(after);
    }
    assert!(outcomes.len() > 100, "{} outcomes", outcomes.len());
}

#[test]
fn an_unsynced_file_name_may_be_lost() {
    let kept = (0..200).filter(|&seed| {
        let disk = SimDisk::new();
        disk.create_new("a").unwrap().sync_data().unwrap();
        read(&disk.power_cut(&mut Prng::new(seed))).is_some()
    });
    assert!((50..150).contains(&kept.count()));
}

#[test]
fn after_a_failed_sync_pages_are_clean_and_not_on_the_disk() {
    let lost = (0..200).filter(|&seed| {
        let disk = SimDisk::new();
        let file = disk.create_new("a").unwrap();
        disk.sync_dir().unwrap();
        file.write_at(&[1; 100], 0).unwrap();
        disk.fail_next_sync(seed);
        assert!(file.sync_data().is_err());
        file.sync_data().expect("the kernel has reported it once");
        assert_eq!(read(&disk), Some(vec![1; 100]), "the cache has it");
        read(&disk.power_cut(&mut Prng::new(seed))) != Some(vec![1; 100])
    });
    assert!(lost.count() > 50);
}

#[test]
fn faults_strike_where_they_were_set() {
    let disk = SimDisk::new();
    let file = disk.create_new("a").unwrap();
    disk.limit_room(Some(10));
    file.allocate(10).unwrap();
    assert_eq!(file.write_at(&[1], 10).unwrap_err().kind(), ErrorKind::StorageFull);
    disk.limit_room(None);
    disk.die_after_bytes(3);
    assert!(file.write_at(&[7; 5], 0).is_err() && disk.is_down());
    assert!(file.len().is_err() && disk.list().is_err(), "nothing works on a machine that is down");
    let next = disk.kill();
    assert_eq!(read(&next).unwrap()[..5], [7, 7, 7, 0, 0]);
    assert!(file.len().is_err(), "a handle of the life before");
    next.die_after_operations(1);
    next.sync_dir().unwrap();
    assert!(next.sync_dir().is_err());
}

#[test]
fn the_same_seed_loses_the_same_writes() {
    let run = || {
        let disk = SimDisk::new();
        for name in ["a", "b", "c"] {
            disk.create_new(name).unwrap().write_at(&[3; 5000], 77).unwrap();
        }
        disk.power_cut(&mut Prng::new(5)).files()
    };
    assert_eq!(run(), run());
}
