//! Which challenges were used: each may be used once, even after a crash. The ledger knows only the
//! nonce and the expiry of a challenge.
//!
//! ```text
//! used-<n>.log   slots of 28 bytes: first a header, then one for each challenge that was used
//! header         "fgused01" · started, ms · floor, ms · CRC-32C of the 24 bytes before
//! slot           nonce, 16 bytes · expires, ms · CRC-32C of the 24 bytes before
//! ```
//!
//! Numbers are little-endian. At most two files are in use. A file takes the challenges that are
//! used during one lifetime. Then a new file is begun, and the file before the present one, whose
//! challenges have all expired, is deleted. So the size is bounded by what can be used in two
//! lifetimes, and by `used_max`. `floor` is the latest expiry that was ever forgotten: a challenge
//! that expires by then is refused, so that a clock that was set back does not admit it again.
//!
//! A separate thread writes all waiting uses with one append and one fdatasync, and answers after
//! that. If the write fails, no shopper is let in. A torn end is cut: no shopper was let in by it.
//! Valid slots after a damaged one are kept: one challenge too many in the ledger costs its shopper
//! another challenge, and one too few would allow a replay.

use crate::ports::{UseError, UsedChallenges};
use engines::embedded::disk::{Disk, DiskFile};
use std::{
    collections::HashSet,
    io,
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};
use units::{DurationMs, TimeMs};

/// The nonce, which identifies a challenge.
pub(crate) type Nonce = [u8; 16];

const SLOT_BYTES: usize = 28;
const MAGIC: [u8; 8] = *b"fgused01";
/// The most uses that wait for the thread. It takes all of them at once, and a sync takes
/// milliseconds.
const QUEUE_MAX: usize = 8192;
/// The shortest time between two logs of an error that persists.
const SAY_EVERY: Duration = Duration::from_secs(10);

struct Use {
    nonce: Nonce,
    expires_at: TimeMs,
    now: TimeMs,
    answer: oneshot::Sender<Result<(), UseError>>,
}

/// The handle of the ledger, for any task.
#[derive(Debug)]
pub(crate) struct Ledger {
    to: Option<mpsc::Sender<Use>>,
    thread: Option<JoinHandle<()>>,
}

impl Ledger {
    /// Reads the used challenges, and starts the thread. The directory is locked until this is
    /// dropped.
    pub(crate) fn open<D: Disk>(disk: D, lifetime: DurationMs, used_max: usize) -> io::Result<Self> {
        let book = Book::open(disk, lifetime, used_max)?;
        let (to, from) = mpsc::channel(QUEUE_MAX);
        let thread = std::thread::Builder::new().name("challenges".into()).spawn(move || run(book, from))?;
        Ok(Self { to: Some(to), thread: Some(thread) })
    }
}

impl UsedChallenges for Ledger {
    fn use_up(
        &self,
        nonce: Nonce,
        expires_at: TimeMs,
        now: TimeMs,
    ) -> oneshot::Receiver<Result<(), UseError>> {
        let (answer, answered) = oneshot::channel();
        let asked = Use { nonce, expires_at, now, answer };
        let refused = match &self.to {
            Some(to) => to.try_send(asked).err().map(mpsc::error::TrySendError::into_inner),
            None => Some(asked),
        };
        if let Some(refused) = refused {
            // The receiver is right here.
            let _ = refused.answer.send(Err(UseError::Busy));
        }
        answered
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        drop(self.to.take());
        if let Some(thread) = self.thread.take() {
            // If the thread panicked, that was logged, and no shopper was let in by it.
            let _ = thread.join();
        }
    }
}

fn run<D: Disk>(mut book: Book<D>, mut from: mpsc::Receiver<Use>) {
    let mut said: Option<Instant> = None;
    while let Some(first) = from.blocking_recv() {
        let mut asked = vec![first];
        while let Ok(next) = from.try_recv() {
            asked.push(next);
        }
        let now = asked.iter().map(|u| u.now).max().unwrap_or_default();
        let batch: Vec<(Nonce, TimeMs)> = asked.iter().map(|u| (u.nonce, u.expires_at)).collect();
        let results = book.use_up(&batch, now);
        let failed = results.iter().find_map(|r| match r {
            Err(error @ (UseError::Full | UseError::Disk(_))) => Some(error),
            _ => None,
        });
        if let Some(error) = failed
            && said.is_none_or(|at| at.elapsed() > SAY_EVERY)
        {
            let disk = if let UseError::Disk(why) = error { why } else { "" };
            tracing::error!(why = %error, disk, place = %book.disk.place(), "challenges cannot be used: no passes are issued");
            said = Some(Instant::now());
        }
        for (used, result) in asked.into_iter().zip(results) {
            // The caller may have gone.
            let _ = used.answer.send(result);
        }
    }
}

/// A file of the ledger.
#[derive(Debug)]
struct Page<F> {
    name: String,
    file: F,
    /// The offset of the next slot.
    end: u64,
    started: TimeMs,
    floor: TimeMs,
    last_expiry: TimeMs,
    used: HashSet<Nonce>,
}

/// The files and their content, without the thread.
#[derive(Debug)]
struct Book<D: Disk> {
    disk: D,
    _lock: D::Lock,
    /// The last one is the present one.
    pages: Vec<Page<D::File>>,
    floor: TimeMs,
    next_number: u64,
    lifetime: DurationMs,
    used_max: usize,
}

impl<D: Disk> Book<D> {
    fn open(disk: D, lifetime: DurationMs, used_max: usize) -> io::Result<Self> {
        let place = disk.place();
        let named = |e: io::Error| io::Error::new(e.kind(), format!("open {place}: {e}"));
        let lock = disk.lock().map_err(named)?;
        let lock = lock.ok_or_else(|| named(io::Error::other("another process has it open")))?;
        let mut numbers: Vec<u64> =
            disk.list().map_err(named)?.iter().filter_map(|name| number_of(name)).collect();
        numbers.sort_unstable();
        let next_number = numbers.last().map_or(1, |last| last + 1);
        let mut pages = Vec::new();
        for number in numbers {
            let name = name_of(number);
            match Page::read(&disk, &name).map_err(named)? {
                Some(page) => pages.push(page),
                // The process ended while it made this file, and nothing was written to it.
                None => disk.remove(&name).map_err(named)?,
            }
        }
        let floor = pages.iter().map(|page| page.floor).max().unwrap_or_default();
        Ok(Self { disk, _lock: lock, pages, floor, next_number, lifetime, used_max })
    }

    /// Marks those that were not used yet, all with one sync. Returns one result for each, in
    /// order.
    fn use_up(&mut self, batch: &[(Nonce, TimeMs)], now: TimeMs) -> Vec<Result<(), UseError>> {
        let turned = self.turn(now);
        let mut room = self.used_max.saturating_sub(self.pages.iter().map(|page| page.used.len()).sum());
        let mut fresh: Vec<(Nonce, TimeMs)> = Vec::new();
        let mut seen: HashSet<Nonce> = HashSet::new();
        // Of equal challenges the first may be let in; the results of the others depend on it.
        let mut first = vec![false; batch.len()];
        let mut results: Vec<Result<(), UseError>> = Vec::with_capacity(batch.len());
        for (at, &(nonce, expires_at)) in batch.iter().enumerate() {
            results.push(if self.pages.iter().any(|page| page.used.contains(&nonce)) {
                Err(UseError::Used)
            } else if expires_at <= self.floor {
                Err(UseError::Forgotten)
            } else if seen.contains(&nonce) {
                Ok(())
            } else if room == 0 {
                Err(UseError::Full)
            } else {
                room -= 1;
                seen.insert(nonce);
                first[at] = true;
                fresh.push((nonce, expires_at));
                Ok(())
            });
        }
        if fresh.is_empty() {
            return results;
        }
        let written =
            turned.and_then(|()| self.append(&fresh, now)).map_err(|e| UseError::Disk(e.to_string()));
        for (at, result) in results.iter_mut().enumerate() {
            if result.is_ok() {
                *result = match &written {
                    Ok(()) if first[at] => Ok(()),
                    Ok(()) => Err(UseError::Used),
                    Err(error) => Err(error.clone()),
                };
            }
        }
        results
    }

    /// Begins a new file if the present one has been in use for a lifetime, and forgets the one
    /// before.
    fn turn(&mut self, now: TimeMs) -> io::Result<()> {
        let Some((current, older)) = self.pages.split_last() else {
            return self.begin(now, self.floor);
        };
        let expired = older.iter().all(|page| page.last_expiry <= now);
        if now < current.started.plus(self.lifetime) || !expired {
            return Ok(());
        }
        // Durable in the new file before the old ones are deleted.
        let floor = older.iter().map(|page| page.last_expiry).fold(self.floor, TimeMs::max);
        let forgotten = older.len();
        self.begin(now, floor)?;
        for page in self.pages.drain(..forgotten) {
            // A file that could not be deleted is read at the next start, and forgotten then.
            let _ = self.disk.remove(&page.name);
        }
        self.disk.sync_dir()
    }

    fn begin(&mut self, now: TimeMs, floor: TimeMs) -> io::Result<()> {
        let name = name_of(self.next_number);
        self.next_number += 1;
        let made = Page::create(&self.disk, &name, now, floor);
        if made.is_err() {
            let _ = self.disk.remove(&name);
        }
        self.pages.push(made?);
        self.floor = floor;
        Ok(())
    }

    fn append(&mut self, fresh: &[(Nonce, TimeMs)], now: TimeMs) -> io::Result<()> {
        if self.pages.is_empty() {
            self.begin(now, self.floor)?;
        }
        let Some(page) = self.pages.last_mut() else { return Err(io::Error::other("no file")) };
        let bytes: Vec<u8> = fresh
            .iter()
            .flat_map(|(nonce, expires_at)| slot(&[nonce.as_slice(), &expires_at.0.to_le_bytes()].concat()))
            .collect();
        let written = page.file.write_at(&bytes, page.end).and_then(|()| page.file.sync_data());
        if let Err(error) = written {
            // The part that was written counts as used at the next start, which costs a shopper
            // another challenge. The next append writes over it.
            let _ = page.file.set_len(page.end);
            return Err(error);
        }
        page.end += bytes.len() as u64;
        for (nonce, expires_at) in fresh {
            page.used.insert(*nonce);
            page.last_expiry = page.last_expiry.max(*expires_at);
        }
        Ok(())
    }
}

impl<F: DiskFile> Page<F> {
    fn create<D: Disk<File = F>>(disk: &D, name: &str, started: TimeMs, floor: TimeMs) -> io::Result<Self> {
        let file = disk.create_new(name)?;
        let header = [MAGIC, started.0.to_le_bytes(), floor.0.to_le_bytes()].concat();
        file.write_at(&slot(&header), 0)?;
        file.sync_data()?;
        disk.sync_dir()?;
        let (name, last_expiry, used) = (name.to_owned(), TimeMs::default(), HashSet::new());
        Ok(Self { name, file, end: SLOT_BYTES as u64, started, floor, last_expiry, used })
    }

    /// `None` if not even its header was written.
    fn read<D: Disk<File = F>>(disk: &D, name: &str) -> io::Result<Option<Self>> {
        let file = disk.open(name)?;
        let mut bytes = vec![0; file.len()? as usize];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        let (slots, _) = bytes.as_chunks::<SLOT_BYTES>();
        let header = slots.first().and_then(|slot| checked(slot)).filter(|fields| fields[..8] == MAGIC);
        let Some(header) = header else {
            if bytes.len() <= SLOT_BYTES {
                return Ok(None);
            }
            let why =
                format!("{name}: not a ledger of used challenges, or its header is damaged: move it away");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        };
        let (started, floor) = (time(&header[8..16]), time(&header[16..]));
        let (mut used, mut last_expiry, mut end, mut holes) = (HashSet::new(), TimeMs::default(), 1, 0);
        for (at, slot) in slots.iter().enumerate().skip(1) {
            let Some(fields) = checked(slot) else { continue };
            let mut nonce = Nonce::default();
            nonce.copy_from_slice(&fields[..16]);
            used.insert(nonce);
            last_expiry = last_expiry.max(time(&fields[16..]));
            holes += at - end;
            end = at + 1;
        }
        let end = (end * SLOT_BYTES) as u64;
        if holes > 0 {
            tracing::warn!(
                file = name,
                holes,
                "used challenges cannot be read: normal after a power cut; otherwise they can be used again until they expire"
            );
        }
        if end < bytes.len() as u64 {
            file.set_len(end)?;
            file.sync_data()?;
        }
        Ok(Some(Self { name: name.to_owned(), file, end, started, floor, last_expiry, used }))
    }
}

fn name_of(number: u64) -> String {
    format!("used-{number}.log")
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix("used-")?.strip_suffix(".log")?.parse().ok()
}

/// 24 bytes and their checksum.
fn slot(fields: &[u8]) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    slot[..24].copy_from_slice(fields);
    slot[24..].copy_from_slice(&crc32c::crc32c(fields).to_le_bytes());
    slot
}

fn checked(slot: &[u8; SLOT_BYTES]) -> Option<&[u8]> {
    let (fields, sum) = slot.split_at(24);
    (crc32c::crc32c(fields).to_le_bytes() == sum).then_some(fields)
}

fn time(bytes: &[u8]) -> TimeMs {
    let mut ms = [0; 8];
    ms.copy_from_slice(bytes);
    TimeMs(u64::from_le_bytes(ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim::disk::SimDisk;
    use std::sync::Arc;
    use units::Prng;

    const LIFETIME: DurationMs = DurationMs(1000);

    fn open(disk: &SimDisk) -> Book<SimDisk> {
        Book::open(disk.clone(), LIFETIME, 1000).unwrap()
    }

    fn nonce(n: u32) -> Nonce {
        let mut nonce = [7; 16];
        nonce[..4].copy_from_slice(&n.to_le_bytes());
        nonce
    }

    fn one(book: &mut Book<SimDisk>, n: u32, expires_at: u64, now: u64) -> Result<(), UseError> {
        book.use_up(&[(nonce(n), TimeMs(expires_at))], TimeMs(now)).remove(0)
    }

    #[test]
    fn each_is_used_once_in_a_batch_and_after_a_restart() {
        let disk = SimDisk::new();
        let mut book = open(&disk);
        let batch = [1, 2, 1, 3, 2].map(|n| (nonce(n), TimeMs(900)));
        let used = Err(UseError::Used);
        assert_eq!(book.use_up(&batch, TimeMs(0)), [Ok(()), Ok(()), used.clone(), Ok(()), used.clone()]);
        assert_eq!(one(&mut book, 3, 900, 1), used);
        drop(book);
        let mut book = open(&disk);
        assert_eq!(one(&mut book, 2, 900, 1), used);
        assert_eq!(one(&mut book, 4, 900, 1), Ok(()));
    }

    #[test]
    fn a_second_process_is_refused() {
        let disk = SimDisk::new();
        let _book = open(&disk);
        let why = Book::open(disk.clone(), LIFETIME, 1000).unwrap_err().to_string();
        assert!(why.contains("another process"), "{why}");
    }

    /// Challenges that were durable before the cut stay used; no shopper was told of those that
    /// were cut; and the ledger goes on from there.
    #[test]
    fn a_file_cut_at_any_byte_keeps_its_complete_slots() {
        let disk = SimDisk::new();
        let mut book = open(&disk);
        for n in 0..10 {
            assert_eq!(one(&mut book, n, 900, 0), Ok(()));
        }
        drop(book);
        let (name, whole) = disk.files().into_iter().find(|(name, _)| name.starts_with("used-")).unwrap();
        assert_eq!(whole.len(), 11 * SLOT_BYTES);
        for cut in 0..=whole.len() {
            let disk = SimDisk::new();
            disk.put(&name, whole[..cut].to_vec());
            let mut book = open(&disk);
            let kept = (cut / SLOT_BYTES).saturating_sub(1) as u32;
            for n in 0..10 {
                let want = if n < kept { Err(UseError::Used) } else { Ok(()) };
                assert_eq!(one(&mut book, n, 900, 0), want, "cut at {cut}, challenge {n}");
            }
            drop(book);
            let mut book = open(&disk);
            for n in 0..10 {
                assert_eq!(one(&mut book, n, 900, 0), Err(UseError::Used), "again, cut at {cut}");
            }
        }
    }

    #[test]
    fn damaged_bytes_lose_one_challenge_and_a_damaged_header_is_refused() {
        let disk = SimDisk::new();
        let mut book = open(&disk);
        (0..3).for_each(|n| assert_eq!(one(&mut book, n, 900, 0), Ok(())));
        drop(book);
        disk.flip("used-1.log", 2 * SLOT_BYTES as u64, 3);
        let mut book = open(&disk);
        assert_eq!(one(&mut book, 0, 900, 0), Err(UseError::Used));
        assert_eq!(one(&mut book, 2, 900, 0), Err(UseError::Used), "valid slots after it are kept");
        drop(book);
        disk.flip("used-1.log", 9, 0);
        let why = Book::open(disk, LIFETIME, 1000).unwrap_err().to_string();
        assert!(why.contains("used-1.log") && why.contains("move it away"), "{why}");
    }

    #[test]
    fn an_expired_challenge_stays_refused_if_the_clock_is_set_back() {
        let disk = SimDisk::new();
        let mut book = open(&disk);
        for n in 0..50_u32 {
            let now = u64::from(n) * 500;
            assert_eq!(one(&mut book, n, now + 1000, now), Ok(()));
            let kept: usize = book.pages.iter().map(|page| page.used.len()).sum();
            assert!(book.pages.len() <= 2 && kept <= 4, "{kept} in {} files", book.pages.len());
        }
        drop(book);
        let files = disk.files();
        assert_eq!(files.keys().filter(|name| name.starts_with("used-")).count(), 2, "{files:?}");
        // The clock is set back to when the first was still valid.
        let mut book = open(&disk);
        assert_eq!(one(&mut book, 0, 1000, 0), Err(UseError::Forgotten));
        assert_eq!(one(&mut book, 49, 49 * 500 + 1000, 0), Err(UseError::Used));
    }

    #[test]
    fn a_shorter_lifetime_forgets_nothing_early() {
        let disk = SimDisk::new();
        let mut book = Book::open(disk.clone(), DurationMs(100_000), 1000).unwrap();
        assert_eq!(one(&mut book, 1, 100_000, 0), Ok(()));
        drop(book);
        let mut book = open(&disk);
        for now in (0..100_000).step_by(700) {
            assert_eq!(one(&mut book, 1, 100_000, now), Err(UseError::Used), "at {now}");
            assert_eq!(one(&mut book, 100 + now as u32, now + 1000, now), Ok(()));
        }
    }

    #[test]
    fn a_full_ledger_refuses_further_challenges() {
        let disk = SimDisk::new();
        let mut book = Book::open(disk, LIFETIME, 2).unwrap();
        let batch = [1, 2, 3, 1].map(|n| (nonce(n), TimeMs(1000)));
        let results = book.use_up(&batch, TimeMs(0));
        assert_eq!(results, [Ok(()), Ok(()), Err(UseError::Full), Err(UseError::Used)]);
        assert_eq!(
            one(&mut book, 3, 2500, 1500),
            Err(UseError::Full),
            "the old file is kept until its challenges expire"
        );
        assert_eq!(one(&mut book, 4, 3500, 2600), Ok(()));
    }

    #[test]
    fn a_full_disk_lets_nobody_in_until_there_is_room() {
        let disk = SimDisk::new();
        let mut book = open(&disk);
        assert_eq!(one(&mut book, 1, 900, 0), Ok(()));
        disk.limit_room(Some(0));
        let batch = [1, 2, 2].map(|n| (nonce(n), TimeMs(900)));
        let results = book.use_up(&batch, TimeMs(0));
        assert_eq!(results[0], Err(UseError::Used));
        assert!(matches!(results[1..], [Err(UseError::Disk(_)), Err(UseError::Disk(_))]), "{results:?}");
        disk.limit_room(None);
        assert_eq!(one(&mut book, 2, 900, 0), Ok(()), "the refusal did not use it up");
        assert_eq!(one(&mut book, 2, 900, 0), Err(UseError::Used));
        // There may be no room even for the first file.
        let disk = SimDisk::new();
        disk.limit_room(Some(10));
        let mut book = open(&disk);
        assert!(matches!(one(&mut book, 1, 900, 0), Err(UseError::Disk(_))));
        disk.limit_room(None);
        assert_eq!(one(&mut book, 1, 900, 0), Ok(()));
    }

    #[test]
    fn a_failed_sync_lets_nobody_in() {
        let disk = SimDisk::new();
        let mut book = open(&disk);
        assert_eq!(one(&mut book, 1, 900, 0), Ok(()));
        disk.fail_next_sync(1);
        assert!(matches!(one(&mut book, 2, 900, 0), Err(UseError::Disk(_))));
        assert_eq!(one(&mut book, 2, 900, 0), Ok(()));
        drop(book);
        let mut prng = Prng::new(1);
        let mut book = open(&disk.power_cut(&mut prng));
        for n in [1, 2] {
            assert_eq!(one(&mut book, n, 900, 0), Err(UseError::Used));
        }
    }

    /// A challenge that was accepted stays used, wherever the power fails, even while files change.
    #[test]
    fn a_power_cut_at_any_operation_forgets_no_used_challenge() {
        for seed in 0..20 {
            for operations in 0..60 {
                let disk = SimDisk::new();
                let mut prng = Prng::new(seed);
                disk.die_after_operations(operations);
                let mut said = Vec::new();
                if let Ok(mut book) = Book::open(disk.clone(), LIFETIME, 1000) {
                    for n in 0..20_u32 {
                        let now = u64::from(n) * 200;
                        let batch = [2 * n, 2 * n + 1].map(|n| (nonce(n), TimeMs(now + 1000)));
                        for ((nonce, expires_at), result) in
                            batch.into_iter().zip(book.use_up(&batch, TimeMs(now)))
                        {
                            said.extend(result.is_ok().then_some((nonce, expires_at)));
                        }
                    }
                }
                let mut book = open(&disk.power_cut(&mut prng));
                for (nonce, expires_at) in said {
                    let again = book.use_up(&[(nonce, expires_at)], TimeMs(0)).remove(0);
                    assert!(again.is_err(), "seed {seed}, operation {operations}: {nonce:?}");
                }
            }
        }
    }

    #[test]
    fn a_thousand_at_once_use_one_challenge_once() {
        let dir = tempfile::tempdir().unwrap();
        let disk = engines::embedded::disk::RealDisk::create(dir.path()).unwrap();
        let ledger = Arc::new(Ledger::open(disk, LIFETIME, 1000).unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
        let successes = runtime.block_on(async {
            let tasks: Vec<_> = (0..1000)
                .map(|_| {
                    let ledger = Arc::clone(&ledger);
                    tokio::spawn(async move { ledger.use_up(nonce(1), TimeMs(900), TimeMs(0)).await })
                })
                .collect();
            let mut successes = 0;
            for task in tasks {
                match task.await.unwrap().unwrap() {
                    Ok(()) => successes += 1,
                    Err(error) => assert_eq!(error, UseError::Used),
                }
            }
            successes
        });
        assert_eq!(successes, 1);
    }
}
