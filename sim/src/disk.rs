//! A disk in memory that loses unsynced writes.
//!
//! It is pessimistic where file systems differ: of everything written and not synced, a power cut
//! keeps any part, in any order. It follows Linux in the state after a failed sync: pages that read
//! as written, count as clean, and are not on the disk.

use engines::embedded::disk::{Disk, DiskFile, LOCK_NAME};
pub use fault::{Call, EIO, EMFILE, Fault};
use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};
use turns::{EndOfTurns, Pace, Turn};
use units::Prng;

mod fault;
mod turns;

/// The unit that the disk writes atomically.
const SECTOR_BYTES: usize = 512;

/// The unit in which room is reserved.
const BLOCK_BYTES: u64 = 4096;

/// One directory. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
    /// The life of the process to which this handle belongs; see [`SimDisk::power_cut`].
    life: u64,
}

/// An open file.
#[derive(Debug)]
pub struct SimFile {
    world: Arc<Mutex<World>>,
    life: u64,
    inode: usize,
    writable: bool,
}

/// The lock of the directory.
#[derive(Debug)]
pub struct SimLock {
    world: Arc<Mutex<World>>,
    life: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut world = lock(&self.world);
        if world.life == self.life {
            world.locked = false;
        }
    }
}

#[derive(Debug, Default)]
struct World {
    inodes: Vec<Inode>,
    /// The file names as the process sees them, and as the disk has them.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    renamings: Vec<NameChange>,
    locked: bool,
    life: u64,
    dead: bool,
    faults: Faults,
    operations_count: u64,
    written_bytes: u64,
    /// Faults that have struck in this life, and not only been armed.
    struck: Vec<Fault>,
    /// The calls that were refused in this life, each with its file's name.
    refused: Vec<(Call, String)>,
    /// Calls are not refused for now: they are the simulator's own.
    is_held: bool,
    /// The thread that makes its calls in turns with another.
    paced: Option<Pace>,
}

#[derive(Debug, Default)]
struct Inode {
    /// The page cache: what reads see.
    cached: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

/// A change of a file that no sync has made durable yet.
#[derive(Debug)]
enum Pending {
    Write { offset: usize, bytes: Vec<u8> },
    Len(usize),
}

#[derive(Debug)]
enum NameChange {
    Create { name: String, inode: usize },
    Rename { from: String, to: String },
    Remove { name: String },
}

/// After `left` more calls one is refused, once.
#[derive(Debug)]
struct Refusal {
    call: Call,
    left: u64,
    errno: i32,
}

#[derive(Debug, Default)]
struct Faults {
    sync_fails: Option<Prng>,
    /// After this many syncs of the directory one fails.
    dir_sync_fails: Option<u32>,
    opens_fail: bool,
    refusals: Vec<Refusal>,
    /// What all files together may have.
    capacity_bytes: Option<u64>,
    /// What syncs can still write, on a disk that reserves room only when it must, and which part
    /// of a sync that failed is there all the same.
    sync_room: Option<(u64, Prng)>,
    /// Bytes that can be written until a write fails because the disk is full, or broken.
    write_fails: Option<(u64, ErrorKind)>,
    dies_after_bytes: Option<u64>,
    dies_after_operations: Option<u64>,
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self { world: Arc::default(), life: 0 }
    }

    /// The power fails. Each unsynced write is kept whole, in part or not at all, in any order, as
    /// `prng` decides; so is each change of a name or of a length. Old handles are dead; the
    /// returned disk is for the next process.
    pub fn power_cut(&self, prng: &mut Prng) -> Self {
        let mut world = lock(&self.world);
        for inode in &mut world.inodes {
            inode.lose(prng);
        }
        for change in std::mem::take(&mut world.renamings) {
            if prng.percent(50) {
                change.apply(&mut world.durable_names);
            }
        }
        world.names = world.durable_names.clone();
        world.forget_unnamed();
        self.next_life(&mut world)
    }

    /// The process dies, and the machine goes on: all writes can be read, synced or not.
    pub fn kill(&self) -> Self {
        self.next_life(&mut lock(&self.world))
    }

    fn next_life(&self, world: &mut World) -> Self {
        world.life += 1;
        world.locked = false;
        world.dead = false;
        // A disk that was full still is.
        let Faults { capacity_bytes, sync_room, .. } = std::mem::take(&mut world.faults);
        world.faults = Faults { capacity_bytes, sync_room, ..Faults::default() };
        world.struck.clear();
        world.refused.clear();
        Self { world: self.world.clone(), life: world.life }
    }

    /// The kernel drops the pages that it takes for clean: the data of a failed sync is gone from
    /// the cache, too.
    pub fn drop_caches(&self) {
        for inode in &mut lock(&self.world).inodes {
            if inode.pending.is_empty() {
                inode.cached.clone_from(&inode.durable);
            }
        }
    }

    /// The next sync of a file fails. A part of its data is on the disk, by the seed; all of it
    /// counts as clean from then on.
    pub fn fail_next_sync(&self, seed: u64) {
        lock(&self.world).faults.sync_fails = Some(Prng::new(seed));
    }

    /// The next sync of the directory fails.
    pub fn fail_next_dir_sync(&self) {
        self.fail_dir_sync_after(0);
    }

    /// After `count` more syncs of the directory, one fails.
    pub fn fail_dir_sync_after(&self, count: u32) {
        lock(&self.world).faults.dir_sync_fails = Some(count);
    }

    /// No file can be opened or created, because too many are open, until this is lifted.
    pub fn fail_opens(&self, fail: bool) {
        lock(&self.world).faults.opens_fail = fail;
    }

    /// After `count` more such calls, one is refused with this error, once, and does nothing.
    pub fn refuse_after(&self, call: Call, count: u64, errno: i32) {
        lock(&self.world).faults.refusals.push(Refusal { call, left: count, errno });
    }

    /// Files can grow by this much in all from now on, and by what is removed; `None` lifts the
    /// limit.
    pub fn limit_room(&self, bytes: Option<u64>) {
        let mut world = lock(&self.world);
        world.faults.capacity_bytes = bytes.map(|bytes| bytes + world.used_bytes());
    }

    /// How much files can still grow, or how much of them can still be synced, if that is limited.
    pub fn room_bytes(&self) -> Option<u64> {
        let world = lock(&self.world);
        let syncable = world.faults.sync_room.as_ref().map(|(left, _)| *left);
        world.reservable_bytes().into_iter().chain(syncable).min()
    }

    /// As [`SimDisk::limit_room`], on a disk that reserves room only when a file is synced
    /// (delayed allocation, a network's file system), and writes elsewhere what is overwritten: a
    /// sync of more than what is left fails as after [`SimDisk::fail_next_sync`], as often as it is
    /// tried. A sync of the directory needs a sector if a name has changed.
    pub fn limit_sync_room(&self, bytes: Option<u64>, seed: u64) {
        lock(&self.world).faults.sync_room = bytes.map(|bytes| (bytes, Prng::new(seed)));
    }

    /// The calls that were refused since the last call of this, or since this life began, each with
    /// the name of the file that it was for, if it was for one.
    pub fn take_refused(&self) -> Vec<(Call, String)> {
        std::mem::take(&mut lock(&self.world).refused)
    }

    /// The faults that have struck since the last call, or since this life began.
    pub fn take_struck(&self) -> Vec<Fault> {
        std::mem::take(&mut lock(&self.world).struck)
    }

    /// Reads by the simulator itself, between these two calls, are not refused.
    pub fn hold_faults(&self, hold: bool) {
        lock(&self.world).is_held = hold;
    }

    /// Does `work`, and before each of its calls on this disk `between`, on the caller's thread:
    /// two threads of a process that use the disk in turns. Exactly one of them runs at any time,
    /// so that the same seed gives the same run.
    ///
    /// # Panics
    /// If `work` panics.
    pub fn in_turns<T: Send>(&self, work: impl FnOnce() -> T + Send, mut between: impl FnMut()) -> T {
        let pace = Pace::default();
        thread::scope(|scope| {
            let working = scope.spawn(|| {
                // Dropped at the end, also by a panic: the other thread must not wait for ever.
                let _end = EndOfTurns(&pace);
                pace.wait_for(Turn::Work);
                lock(&self.world).paced = Some(pace.of_this_thread());
                work()
            });
            let _end = EndOfTurns(&pace);
            loop {
                pace.pass(Turn::Work);
                if pace.wait_for_main() {
                    break;
                }
                between();
            }
            lock(&self.world).paced = None;
            working.join().expect("the work on the other thread")
        })
    }

    /// What all files have in all.
    pub fn used_bytes(&self) -> u64 {
        lock(&self.world).used_bytes()
    }

    /// Once `bytes` more have been written, the write that goes beyond them stops there and fails
    /// with `kind`, once.
    pub fn fail_write_after(&self, bytes: u64, kind: ErrorKind) {
        lock(&self.world).faults.write_fails = Some((bytes, kind));
    }

    /// Once `bytes` more have been written, even within a write, nothing works until the next life.
    pub fn die_after_bytes(&self, bytes: u64) {
        lock(&self.world).faults.dies_after_bytes = Some(bytes);
    }

    /// After `count` more operations (reads are none), nothing works until the next life.
    pub fn die_after_operations(&self, count: u64) {
        lock(&self.world).faults.dies_after_operations = Some(count);
    }

    /// True once a fault has stopped the machine.
    pub fn is_down(&self) -> bool {
        lock(&self.world).dead
    }

    /// Flips one bit of a file, on the disk and in the cache.
    ///
    /// # Panics
    /// If there is no such file or byte.
    pub fn flip(&self, name: &str, byte: u64, bit: u32) {
        let mut world = lock(&self.world);
        let inode = world.names[name];
        let inode = &mut world.inodes[inode];
        for bytes in [&mut inode.cached, &mut inode.durable] {
            bytes[byte as usize] ^= 1 << bit;
        }
    }

    /// Puts a file there, durably, replacing one of the same name.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut world = lock(&self.world);
        let inode = Inode { cached: bytes.clone(), durable: bytes, pending: Vec::new() };
        world.inodes.push(inode);
        let inode = world.inodes.len() - 1;
        world.names.insert(name.to_owned(), inode);
        world.durable_names.insert(name.to_owned(), inode);
    }

    /// Removes a file, durably.
    pub fn take(&self, name: &str) -> Option<Vec<u8>> {
        let mut world = lock(&self.world);
        world.durable_names.remove(name);
        let inode = world.names.remove(name)?;
        Some(world.inodes[inode].cached.clone())
    }

    /// All files as they read, by name; without the lock.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let world = lock(&self.world);
        let files = world.names.iter().filter(|(name, _)| *name != LOCK_NAME);
        files.map(|(name, &inode)| (name.clone(), world.inodes[inode].cached.clone())).collect()
    }

    /// The names of all files and how long each reads; without the lock.
    pub fn lengths(&self) -> BTreeMap<String, u64> {
        self.lengths_of(|_| true)
    }

    /// As [`SimDisk::lengths`], of those files whose names are wanted.
    pub fn lengths_of(&self, is_wanted: impl Fn(&str) -> bool) -> BTreeMap<String, u64> {
        let world = lock(&self.world);
        let files = world.names.iter().filter(|(name, _)| *name != LOCK_NAME && is_wanted(name));
        files.map(|(name, &inode)| (name.clone(), world.inodes[inode].cached.len() as u64)).collect()
    }

    /// The last, in the order of their names, of those files whose names are wanted, and how long
    /// it reads.
    pub fn newest_of(&self, is_wanted: impl Fn(&str) -> bool) -> Option<(String, u64)> {
        let world = lock(&self.world);
        let (name, &inode) = world.names.iter().rfind(|(name, _)| is_wanted(name))?;
        Some((name.clone(), world.inodes[inode].cached.len() as u64))
    }

    /// Another disk with the same files, all durable, and no faults.
    pub fn copy(&self) -> Self {
        let copy = Self::new();
        for (name, bytes) in self.files() {
            copy.put(&name, bytes);
        }
        copy
    }

    /// How many bytes were written since the disk was made.
    pub fn written_bytes(&self) -> u64 {
        lock(&self.world).written_bytes
    }

    /// How many operations there were since the disk was made (reads are none).
    pub fn operations_count(&self) -> u64 {
        lock(&self.world).operations_count
    }

    fn world(&self) -> io::Result<MutexGuard<'_, World>> {
        alive(&self.world, self.life)
    }
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

fn alive(world: &Mutex<World>, life: u64) -> io::Result<MutexGuard<'_, World>> {
    let paced = lock(world).paced.clone();
    if let Some(pace) = paced.filter(Pace::is_of_this_thread) {
        pace.pass(Turn::Main);
        pace.wait_for(Turn::Work);
    }
    let world = lock(world);
    if world.dead || world.life != life {
        return Err(io::Error::other("the machine is down"));
    }
    Ok(world)
}

impl World {
    /// Notes that a fault has struck; returns what the caller is told.
    fn strike(&mut self, fault: Fault) -> io::Error {
        self.struck.push(fault);
        fault.error()
    }

    /// Every change passes through here, and the machine may stop before it.
    fn operation(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.faults.dies_after_operations {
            if *left == 0 {
                self.dead = true;
                return Err(self.strike(Fault::Death));
            }
            *left -= 1;
        }
        self.operations_count += 1;
        Ok(())
    }

    /// Fails if this call, for a file of this name, is to be refused.
    fn admit(&mut self, call: Call, name: &str) -> io::Result<()> {
        if self.is_held {
            return Ok(());
        }
        let opens = matches!(call, Call::Create | Call::Open);
        if opens && self.faults.opens_fail {
            return Err(self.strike(Fault::NoHandles));
        }
        let Some(at) = self.faults.refusals.iter().position(|refusal| refusal.call == call) else {
            return Ok(());
        };
        let refusal = &mut self.faults.refusals[at];
        if refusal.left > 0 {
            refusal.left -= 1;
            return Ok(());
        }
        let errno = self.faults.refusals.swap_remove(at).errno;
        self.refused.push((call, name.to_owned()));
        Err(self.strike(Fault::Refused(call, errno)))
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().map(|&inode| self.inodes[inode].cached.len() as u64).sum()
    }

    fn inode(&self, name: &str) -> io::Result<usize> {
        self.names
            .get(name)
            .copied()
            .ok_or_else(|| io::Error::new(ErrorKind::NotFound, format!("no file {name}")))
    }

    /// Files without a name are gone when the process that had them open is; their numbers are not
    /// used again.
    fn forget_unnamed(&mut self) {
        let mut named = vec![false; self.inodes.len()];
        for &inode in self.names.values() {
            named[inode] = true;
        }
        for (inode, named) in self.inodes.iter_mut().zip(named) {
            if !named {
                *inode = Inode::default();
            }
        }
    }

    fn rename(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.renamings.push(change);
    }

    fn reservable_bytes(&self) -> Option<u64> {
        self.faults.capacity_bytes.map(|capacity| capacity.saturating_sub(self.used_bytes()))
    }

    fn grow(&mut self, by: usize) -> io::Result<()> {
        if by > 0 && self.reservable_bytes().is_some_and(|room| by as u64 > room) {
            return Err(self.strike(Fault::Full));
        }
        Ok(())
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Create { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            Self::Rename { from, to } => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Remove { name } => {
                names.remove(name);
            }
        }
    }
}

impl Inode {
    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    fn pending_bytes(&self) -> u64 {
        let bytes =
            |change: &Pending| if let Pending::Write { bytes, .. } = change { bytes.len() } else { 0 };
        self.pending.iter().map(|change| bytes(change) as u64).sum()
    }

    /// The power fails, or a sync does: a part of the pending changes is on the disk.
    fn lose_pending(&mut self, prng: &mut Prng) {
        let mut pending = std::mem::take(&mut self.pending);
        for at in (1..pending.len()).rev() {
            pending.swap(at, prng.below(at as u64 + 1) as usize);
        }
        for change in pending {
            change.apply_part(&mut self.durable, prng);
        }
    }

    fn lose(&mut self, prng: &mut Prng) {
        self.lose_pending(prng);
        self.cached.clone_from(&self.durable);
    }
}

fn write(bytes: &mut Vec<u8>, offset: usize, new: &[u8]) {
    if bytes.len() < offset + new.len() {
        bytes.resize(offset + new.len(), 0);
    }
    bytes[offset..offset + new.len()].copy_from_slice(new);
}

impl Pending {
    fn apply(self, to: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => write(to, offset, &bytes),
            Self::Len(len) => to.resize(len, 0),
        }
    }

    fn apply_part(self, to: &mut Vec<u8>, prng: &mut Prng) {
        match (prng.below(4), self) {
            (0, _) => {}
            (1, change) => change.apply(to),
            (_, Self::Len(len)) => {
                if prng.percent(50) {
                    to.resize(len, 0);
                }
            }
            (2, Self::Write { offset, bytes }) => {
                let kept = prng.below(bytes.len() as u64 + 1) as usize;
                if kept > 0 {
                    write(to, offset, &bytes[..kept]);
                }
            }
            (_, Self::Write { offset, bytes }) => {
                let mut at = 0;
                while at < bytes.len() {
                    let end =
                        bytes.len().min((offset + at) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES - offset);
                    if prng.percent(50) {
                        write(to, offset + at, &bytes[at..end]);
                    }
                    at = end;
                }
            }
        }
    }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn place(&self) -> String {
        "sim".to_owned()
    }

    fn lock(&self) -> io::Result<Option<SimLock>> {
        let mut world = self.world()?;
        let free = !std::mem::replace(&mut world.locked, true);
        Ok(free.then(|| SimLock { world: self.world.clone(), life: self.life }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut world = self.world()?;
        // A directory is opened to be listed.
        world.admit(Call::Open, "")?;
        Ok(world.names.keys().cloned().collect())
    }

    fn create_new(&self, name: &str) -> io::Result<SimFile> {
        let mut world = self.world()?;
        world.admit(Call::Create, name)?;
        if world.names.contains_key(name) {
            return Err(io::Error::new(ErrorKind::AlreadyExists, format!("there is a file {name}")));
        }
        world.operation()?;
        world.inodes.push(Inode::default());
        let inode = world.inodes.len() - 1;
        world.rename(NameChange::Create { name: name.to_owned(), inode });
        Ok(SimFile { world: self.world.clone(), life: self.life, inode, writable: true })
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let mut world = self.world()?;
        world.admit(Call::Open, name)?;
        let inode = world.inode(name)?;
        drop(world);
        Ok(SimFile { world: self.world.clone(), life: self.life, inode, writable: true })
    }

    fn open_read(&self, name: &str) -> io::Result<SimFile> {
        Ok(SimFile { writable: false, ..self.open(name)? })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world()?;
        world.inode(name)?;
        world.admit(Call::Remove, name)?;
        world.operation()?;
        world.rename(NameChange::Remove { name: name.to_owned() });
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world()?;
        world.inode(from)?;
        world.admit(Call::Rename, from)?;
        world.operation()?;
        world.rename(NameChange::Rename { from: from.to_owned(), to: to.to_owned() });
        world.admit(Call::RenameDone, to)
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut world = self.world()?;
        world.operation()?;
        let left = world.faults.dir_sync_fails;
        world.faults.dir_sync_fails = left.and_then(|left| left.checked_sub(1));
        if left == Some(0) {
            return Err(world.strike(Fault::SyncDir));
        }
        let is_changed = !world.renamings.is_empty();
        if let Some((left, _)) = world.faults.sync_room.as_mut().filter(|_| is_changed) {
            let Some(left_after) = left.checked_sub(SECTOR_BYTES as u64) else {
                return Err(world.strike(Fault::Full));
            };
            *left = left_after;
        }
        world.renamings.clear();
        world.durable_names = world.names.clone();
        Ok(())
    }
}

impl SimFile {
    fn world(&self) -> io::Result<MutexGuard<'_, World>> {
        alive(&self.world, self.life)
    }

    fn change(&self) -> io::Result<MutexGuard<'_, World>> {
        assert!(self.writable, "a file that was opened to read was written");
        let mut world = self.world()?;
        world.operation()?;
        Ok(world)
    }
}

impl DiskFile for SimFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.change()?;
        let offset = offset as usize;
        let mut len = bytes.len();
        let mut outcome = Ok(());
        if let Some((left, kind)) = world.faults.write_fails {
            world.faults.write_fails = left.checked_sub(len as u64).map(|left| (left, kind));
            if world.faults.write_fails.is_none() {
                len = left as usize;
                let is_full = kind == ErrorKind::StorageFull;
                outcome = Err(world.strike(if is_full { Fault::WriteWithoutRoom } else { Fault::Write }));
            }
        }
        if let Some(left) = world.faults.dies_after_bytes {
            match left.checked_sub(len as u64) {
                Some(left) => world.faults.dies_after_bytes = Some(left),
                None => {
                    len = left as usize;
                    world.dead = true;
                    outcome = Err(world.strike(Fault::Death));
                }
            }
        }
        let growth = (offset + len).saturating_sub(world.inodes[self.inode].cached.len());
        world.grow(growth)?;
        world.written_bytes += len as u64;
        if len > 0 {
            let inode = &mut world.inodes[self.inode];
            write(&mut inode.cached, offset, &bytes[..len]);
            inode.pending.push(Pending::Write { offset, bytes: bytes[..len].to_vec() });
        }
        outcome
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.world()?;
        world.admit(Call::Read, "")?;
        let bytes = world.inodes[self.inode].cached.get(offset as usize..).unwrap_or_default();
        let len = bytes.len().min(buf.len());
        buf[..len].copy_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut world = self.change()?;
        if let Some((left, mut prng)) = world.faults.sync_room.take() {
            let left_after = left.checked_sub(world.inodes[self.inode].pending_bytes());
            if left_after.is_none() {
                world.inodes[self.inode].lose_pending(&mut prng);
            }
            world.faults.sync_room = Some((left_after.unwrap_or(left), prng));
            if left_after.is_none() {
                return Err(world.strike(Fault::Full));
            }
        }
        match world.faults.sync_fails.take() {
            None => {
                world.inodes[self.inode].sync();
                Ok(())
            }
            Some(mut prng) => {
                world.inodes[self.inode].lose_pending(&mut prng);
                Err(world.strike(Fault::Sync))
            }
        }
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut world = self.change()?;
        let len = len as usize;
        let old = world.inodes[self.inode].cached.len();
        let growth = len.saturating_sub(old);
        let outcome = world.grow(growth);
        // A file system reserves extent after extent. When there is no more room, those that it has
        // reserved stay, and the file is that long.
        let made = match (&outcome, world.reservable_bytes()) {
            (Err(_), Some(room)) => (room / BLOCK_BYTES * BLOCK_BYTES) as usize,
            _ => growth,
        };
        if made > 0 {
            let inode = &mut world.inodes[self.inode];
            inode.cached.resize(old + made, 0);
            inode.pending.push(Pending::Len(old + made));
        }
        outcome
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut world = self.change()?;
        let inode = &mut world.inodes[self.inode];
        inode.cached.resize(len as usize, 0);
        inode.pending.push(Pending::Len(len as usize));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.world()?.inodes[self.inode].cached.len() as u64)
    }
}
