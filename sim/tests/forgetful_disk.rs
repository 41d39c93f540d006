//! The simulated disk keeps synced writes, and may lose all others; a crash test on a disk that
//! loses nothing proves nothing.

use engines::embedded::disk::{Disk, DiskFile};
use sim::disk::{Call, EIO, EMFILE, Fault, SimDisk};
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

#[test]
fn a_name_that_was_not_synced_after_a_rename_may_be_the_old_one() {
    let renamed = (0..200).filter(|&seed| {
        let disk = SimDisk::new();
        disk.create_new("a").unwrap().sync_data().unwrap();
        disk.sync_dir().unwrap();
        disk.rename("a", "b").unwrap();
        let files = disk.power_cut(&mut Prng::new(seed)).files();
        assert_eq!(files.len(), 1, "under one of its names");
        files.contains_key("b")
    });
    assert!((50..150).contains(&renamed.count()));
}

#[test]
fn what_is_removed_makes_room_and_what_a_rename_replaces_does_too() {
    let disk = SimDisk::new();
    for name in ["a", "b", "c"] {
        disk.create_new(name).unwrap().write_at(&[1; 1000], 0).unwrap();
    }
    disk.limit_room(Some(100));
    let file = disk.open("a").unwrap();
    assert!(file.allocate(1101).is_err() && file.allocate(1100).is_ok());
    disk.remove("b").unwrap();
    assert!(file.allocate(2101).is_err() && file.allocate(2100).is_ok());
    disk.rename("a", "c").unwrap();
    assert!(file.allocate(3101).is_err() && file.allocate(3100).is_ok());
    assert_eq!(disk.take_struck(), [Fault::Full; 3]);
}

#[test]
fn room_that_runs_out_in_the_middle_leaves_a_part() {
    let disk = SimDisk::new();
    let file = disk.create_new("a").unwrap();
    file.write_at(&[1; 10], 0).unwrap();
    disk.limit_room(Some(10_000));
    assert_eq!(file.allocate(50_000).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!((file.len().unwrap(), disk.room_bytes()), (10 + 8192, Some(10_000 - 8192)));
    file.set_len(10).unwrap();
    assert_eq!(disk.room_bytes(), Some(10_000));
    disk.limit_room(None);
    file.allocate(50_000).unwrap();
    assert_eq!((disk.lengths()["a"], disk.room_bytes()), (50_000, None));
}

#[test]
fn room_that_a_sync_does_not_find_is_missing_at_each_sync_and_what_was_written_may_be_lost() {
    let lost = (0..100).filter(|&seed| {
        let disk = SimDisk::new();
        let file = disk.create_new("a").unwrap();
        disk.sync_dir().unwrap();
        disk.limit_sync_room(Some(150), seed);
        file.allocate(10_000).unwrap();
        file.write_at(&[1; 100], 0).unwrap();
        file.sync_data().unwrap();
        for _ in 0..3 {
            file.write_at(&[2; 100], 100).unwrap();
            assert_eq!(file.sync_data().unwrap_err().kind(), ErrorKind::StorageFull);
        }
        file.sync_data().expect("the kernel takes what was written for clean");
        assert_eq!(disk.take_struck(), [Fault::Full; 3]);
        let after = read(&disk.power_cut(&mut Prng::new(seed))).unwrap();
        assert_eq!(after[..100], [1; 100]);
        after[100..200] != [2; 100]
    });
    assert!(lost.count() > 10);
}

#[test]
fn a_full_disk_is_full_for_the_next_process_too_and_for_new_names() {
    let disk = SimDisk::new();
    let file = disk.create_new("a").unwrap();
    disk.limit_sync_room(Some(1000), 1);
    file.write_at(&[1; 400], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir().expect("a sector is left");
    assert_eq!(disk.room_bytes(), Some(88));
    disk.sync_dir().expect("no name has changed");
    disk.create_new("b").unwrap();
    assert_eq!(disk.sync_dir().unwrap_err().kind(), ErrorKind::StorageFull);
    let next = disk.power_cut(&mut Prng::new(1));
    assert_eq!(next.room_bytes(), Some(88));
    let file = next.open("a").unwrap();
    file.write_at(&[2; 89], 0).unwrap();
    assert_eq!(file.sync_data().unwrap_err().kind(), ErrorKind::StorageFull);
    next.limit_sync_room(None, 0);
    next.create_new("c").unwrap();
    next.sync_dir().unwrap();
    assert_eq!(next.take_struck(), [Fault::Full]);
}

#[test]
fn a_call_is_refused_once_and_does_nothing_but_a_rename_that_was_done() {
    let disk = SimDisk::new();
    let file = disk.create_new("a").unwrap();
    for (call, errno) in [(Call::Create, EMFILE), (Call::Open, EIO), (Call::Remove, EIO), (Call::Rename, EIO)]
    {
        disk.refuse_after(call, 0, errno);
        let outcome = match call {
            Call::Create => disk.create_new("b").map(drop),
            Call::Open => disk.open("a").map(drop),
            Call::Remove => disk.remove("a"),
            _ => disk.rename("a", "b"),
        };
        assert_eq!(outcome.unwrap_err().raw_os_error(), Some(errno), "{call:?}");
        assert!(disk.files().keys().eq(["a"]), "{call:?}");
        disk.open("a").unwrap();
    }
    disk.refuse_after(Call::Read, 1, EIO);
    file.read_at(&mut [0], 0).unwrap();
    disk.hold_faults(true);
    file.read_at(&mut [0], 0).unwrap();
    disk.hold_faults(false);
    assert!(file.read_at(&mut [0], 0).is_err(), "a fault that was held is still there");
    disk.refuse_after(Call::RenameDone, 0, EIO);
    assert!(disk.rename("a", "b").is_err());
    assert!(disk.files().keys().eq(["b"]));
}

#[test]
fn work_on_another_thread_stops_before_each_of_its_calls() {
    let disk = SimDisk::new();
    let other = disk.clone();
    let mut seen = Vec::new();
    let work = move || {
        let file = other.create_new("a").unwrap();
        file.write_at(&[1; 10], 0).unwrap();
        other.rename("a", "b").unwrap();
        "done"
    };
    let outcome = disk.in_turns(work, || {
        let files = disk.files();
        seen.push(files.into_iter().map(|(name, bytes)| (name, bytes.len())).next());
    });
    assert_eq!(outcome, "done");
    let a = |len| Some(("a".to_owned(), len));
    assert_eq!(seen, [None, a(0), a(10)]);
}
