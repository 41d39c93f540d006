//! The cache port: in the process, on a real Redis, and one over the other.

use engines::{
    cache::{
        Cache, CacheError, Key, conformance,
        loading::{Loading, Settings},
        memory::Memory,
        redis::Redis,
    },
    clock::{Clock, SteadyClock},
};
use server::RedisServer;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use units::TimeMs;

mod server;

const SETTINGS: Settings =
    Settings { bytes_max: 1 << 20, kept_for: Duration::from_secs(60), none_kept_for: Duration::from_secs(5) };

fn clock() -> Arc<SteadyClock> {
    Arc::new(SteadyClock::start())
}

/// A clock that the test sets.
#[derive(Debug)]
struct Set(AtomicU64);

impl Clock for Set {
    fn now(&self) -> TimeMs {
        TimeMs(self.0.load(SeqCst))
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn shared(server: &RedisServer, prefix: &str) -> Arc<dyn Cache<Vec<u8>>> {
    Arc::new(Redis::new(&server.url(), prefix).unwrap())
}

#[test]
fn the_memory_of_the_process_keeps_every_promise_of_the_port() {
    runtime().block_on(conformance::check(&mut || {
        Box::pin(async { Arc::new(Memory::new(1 << 20, clock(), Vec::len)) as Arc<dyn Cache<Vec<u8>>> })
    }));
}

#[test]
fn redis_keeps_every_promise_of_the_port() {
    let server = Arc::new(RedisServer::start());
    let mut count = 0;
    runtime().block_on(conformance::check(&mut || {
        count += 1;
        let (server, prefix) = (Arc::clone(&server), format!("fresh{count}"));
        Box::pin(async move { shared(&server, &prefix) })
    }));
}

#[test]
fn the_memory_of_the_process_has_a_bound() {
    let memory = Memory::new(100_000, clock(), Vec::len);
    for number in 0..1_000 {
        let key = Key::new(format!("group{number}"), "one");
        memory.put(&key, vec![0; 1_000], Duration::from_secs(60), memory.mark(&key));
    }
    let (bytes, nothing) = (memory.bytes(), Memory::new(0, clock(), Vec::len));
    assert!((10_000..=100_000).contains(&bytes), "{bytes}");
    let key = Key::new("group", "one");
    nothing.put(&key, vec![0], Duration::from_secs(60), nothing.mark(&key));
    assert_eq!((nothing.bytes(), nothing.get(&key).value), (0, None));
}

type Cached = Arc<Loading<u64, CacheError>>;

/// A database of one number, whose reads can be held up and counted.
#[derive(Default)]
struct Source {
    number: AtomicU64,
    reads: AtomicU64,
    is_slow: AtomicBool,
    began: Notify,
    goes_on: Notify,
}

impl Source {
    async fn read(self: Arc<Self>) -> Result<Option<u64>, CacheError> {
        self.reads.fetch_add(1, SeqCst);
        let number = self.number.load(SeqCst);
        if self.is_slow.load(SeqCst) {
            self.began.notify_one();
            self.goes_on.notified().await;
        }
        Ok((number > 0).then_some(number))
    }

    async fn get(self: &Arc<Self>, cached: &Cached) -> Option<u64> {
        let source = Arc::clone(self);
        let got = cached.get(Key::new("numbers", "one"), move || source.read()).await;
        got.unwrap().map(|number| *number)
    }

    fn reads(&self) -> u64 {
        self.reads.load(SeqCst)
    }
}

fn groups() -> [String; 1] {
    ["numbers".to_owned()]
}

#[test]
fn those_who_ask_at_once_wait_for_one_load_also_if_the_first_of_them_leaves() {
    runtime().block_on(async {
        let source = Arc::new(Source::default());
        source.number.store(7, SeqCst);
        source.is_slow.store(true, SeqCst);
        let cached: Cached = Loading::new(SETTINGS, None, clock());
        let ask = || {
            let (source, cached) = (Arc::clone(&source), Arc::clone(&cached));
            tokio::spawn(async move { source.get(&cached).await })
        };
        let first = ask();
        source.began.notified().await;
        let others: Vec<_> = (0..50).map(|_| ask()).collect();
        while cached.figures().joined < 50 {
            tokio::task::yield_now().await;
        }
        first.abort();
        source.goes_on.notify_one();
        for other in others {
            assert_eq!(other.await.unwrap(), Some(7));
        }
        assert_eq!(source.reads(), 1);
    });
}

#[test]
fn a_load_that_began_before_a_change_is_not_kept_and_not_joined_after_it() {
    runtime().block_on(async {
        let source = Arc::new(Source::default());
        source.number.store(1, SeqCst);
        source.is_slow.store(true, SeqCst);
        let cached: Cached = Loading::new(SETTINGS, None, clock());
        let before = {
            let (source, cached) = (Arc::clone(&source), Arc::clone(&cached));
            tokio::spawn(async move { source.get(&cached).await })
        };
        source.began.notified().await;
        source.is_slow.store(false, SeqCst);
        source.number.store(2, SeqCst);
        cached.forget(&groups()).await;
        assert_eq!(source.get(&cached).await, Some(2), "it did not wait for the one that began before");
        source.goes_on.notify_one();
        assert_eq!(before.await.unwrap(), Some(1), "it asked before the change");
        assert_eq!((source.get(&cached).await, source.reads()), (Some(2), 2), "and took nothing away");
    });
}

#[test]
fn that_there_is_none_is_kept_for_a_shorter_time_and_failures_are_not() {
    runtime().block_on(async {
        let (source, clock) = (Arc::new(Source::default()), Arc::new(Set(AtomicU64::new(1_000_000))));
        let cached: Cached = Loading::new(SETTINGS, None, Arc::clone(&clock) as _);
        assert_eq!((source.get(&cached).await, source.get(&cached).await), (None, None));
        assert_eq!(source.reads(), 1);
        clock.0.fetch_add(6_000, SeqCst);
        assert_eq!((source.get(&cached).await, source.reads()), (None, 2));
        for _ in 0..2 {
            let failed =
                cached.get(Key::new("numbers", "bad"), || async { Err(CacheError("no".into())) }).await;
            assert_eq!(failed, Err(CacheError("no".into())));
        }
        let panicked = cached.get(Key::new("numbers", "worse"), || async { panic!("a planted fault") }).await;
        assert_eq!(panicked, Err(CacheError("a load panicked".into())));
        let fine = cached.get(Key::new("numbers", "worse"), || async { Ok(Some(3)) }).await;
        assert_eq!(fine.unwrap().as_deref(), Some(&3));
    });
}

/// Values whose load takes long are loaded again before their time, by one of many; their times
/// differ.
#[test]
fn a_value_is_loaded_anew_before_its_time_by_one_of_those_who_get_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (clock, reads) = (Arc::new(Set(AtomicU64::new(1_000_000))), Arc::new(AtomicU64::new(0)));
        let cached: Cached = Loading::new(SETTINGS, None, Arc::clone(&clock) as _);
        let mut loaded_at = Vec::new();
        for _ in 0..400_000 {
            let before = reads.load(SeqCst);
            let (of, time) = (Arc::clone(&reads), Arc::clone(&clock));
            let load = move || async move {
                // It takes 200 ms.
                time.0.fetch_add(200, SeqCst);
                Ok(Some(of.fetch_add(1, SeqCst)))
            };
            cached.get(Key::new("numbers", "one"), load).await.unwrap();
            tokio::task::yield_now().await;
            if reads.load(SeqCst) > before {
                loaded_at.push(clock.now().0);
            }
            clock.0.fetch_add(1, SeqCst);
        }
        let figures = cached.figures();
        assert_eq!(figures.loads, 1, "no one had to wait but the first: {figures:?}");
        assert!((6..=10).contains(&figures.early_loads), "{figures:?}");
        let apart: Vec<u64> = loaded_at.windows(2).map(|two| two[1] - two[0]).collect();
        // 60 s, less up to a fifth, and less some times 200 ms.
        assert!(apart.iter().all(|apart| (41_000..=60_000).contains(apart)), "{apart:?}");
        let (least, most) = (apart.iter().min().unwrap(), apart.iter().max().unwrap());
        assert!(most - least > 1_000, "{apart:?}");
    });
}

/// A process: what it has read may be old until it has heard of a change, and never after that.
#[test]
fn no_process_gives_what_it_has_heard_to_be_changed_while_redis_is_killed_and_comes_back() {
    let server = Arc::new(std::sync::Mutex::new(RedisServer::start()));
    runtime().block_on(async {
        let source = Arc::new(Source::default());
        source.number.store(1, SeqCst);
        let url = server.lock().unwrap().url();
        let processes: Vec<Cached> = (0..3)
            .map(|_| {
                Loading::new(SETTINGS, Some(Arc::new(Redis::new(&url, "shared").unwrap()) as _), clock())
            })
            .collect();
        let ends = Arc::new(AtomicBool::new(false));
        let mut tasks = tokio::task::JoinSet::new();
        // What each process has heard of at the least.
        let heard: Arc<Vec<AtomicU64>> = Arc::new((0..3).map(|_| AtomicU64::new(0)).collect());
        for (process, cached) in processes.iter().cloned().enumerate() {
            for _ in 0..4 {
                let (source, heard, ends) = (Arc::clone(&source), Arc::clone(&heard), Arc::clone(&ends));
                let cached = Arc::clone(&cached);
                tasks.spawn(async move {
                    let mut gets = 0u64;
                    while !ends.load(SeqCst) {
                        let at_least = heard[process].load(SeqCst);
                        let got = source.get(&cached).await.unwrap();
                        assert!(got >= at_least, "process {process} gave {got} after it heard of {at_least}");
                        gets += 1;
                        tokio::task::yield_now().await;
                    }
                    gets
                });
            }
        }
        let began = Instant::now();
        let mut change = 1;
        while began.elapsed() < Duration::from_secs(6) {
            change += 1;
            source.number.store(change, SeqCst);
            // The first has written; the others hear of it one after the other.
            for (process, cached) in processes.iter().enumerate() {
                cached.forget(&groups()).await;
                heard[process].store(change, SeqCst);
            }
            match began.elapsed().as_millis() {
                2_000..3_500 => server.lock().unwrap().kill(),
                3_500.. => server.lock().unwrap().restart(),
                _ => {}
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        ends.store(true, SeqCst);
        let gets: u64 = tasks.join_all().await.into_iter().sum();
        let figures: Vec<_> = processes.iter().map(|cached| cached.figures()).collect();
        assert!(gets > 1_000 && change > 50, "{gets} gets, {change} changes");
        assert!(figures.iter().map(|of| of.shared_hits).sum::<u64>() > 20, "{figures:?}");
        assert!(figures.iter().all(|of| of.shared_failures > 0), "Redis was away: {figures:?}");
    });
}

/// A snapshot from before a change, or a replica that has not heard of it, has the old mark too.
#[test]
fn a_redis_that_comes_back_with_what_it_had_before_a_change_brings_nothing_back() {
    let mut server = RedisServer::start();
    runtime().block_on(async {
        let (key, long) = (Key::new("group", "one"), Duration::from_secs(60));
        let first = shared(&server, "x");
        let mark = first.look(&key).await.unwrap().mark;
        first.keep(&key, b"old".to_vec(), long, mark).await.unwrap();
        server.save();
        first.forget(&["group".to_owned()]).await.unwrap();
        server.kill();
        server.restart();
        let began = Instant::now();
        let looked = loop {
            match first.look(&key).await {
                Ok(looked) => break looked,
                Err(error) => assert!(began.elapsed() < Duration::from_secs(20), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(looked.value, None);
        assert_eq!(shared(&server, "x").look(&key).await.unwrap().value, None);
    });
}

/// All wait for the one that tries: a server that swallows everything costs no page its time.
#[test]
fn of_many_who_ask_a_server_that_is_away_one_waits() {
    let server = RedisServer::start();
    runtime().block_on(async {
        let cache = shared(&server, "x");
        cache.look(&Key::new("group", "one")).await.unwrap();
        server.freeze();
        cache.look(&Key::new("group", "one")).await.unwrap_err();
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let asks = (0..100).map(|_| {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move {
                let began = Instant::now();
                cache.look(&Key::new("group", "one")).await.unwrap_err();
                began.elapsed()
            })
        });
        let mut waited = Vec::new();
        for ask in asks.collect::<Vec<_>>() {
            waited.push(ask.await.unwrap());
        }
        let long = waited.iter().filter(|waited| **waited > Duration::from_millis(50)).count();
        assert_eq!(long, 1, "{waited:?}");
        server.thaw();
    });
}

#[test]
fn without_redis_a_value_is_loaded_once_and_no_reader_waits_long() {
    let server = RedisServer::start();
    runtime().block_on(async {
        let source = Arc::new(Source::default());
        source.number.store(1, SeqCst);
        let cached: Cached = Loading::new(SETTINGS, Some(shared(&server, "x")), clock());
        assert_eq!(source.get(&cached).await, Some(1));
        server.freeze();
        let began = Instant::now();
        for number in 2..100 {
            source.number.store(number, SeqCst);
            cached.forget(&groups()).await;
            assert_eq!((source.get(&cached).await, source.get(&cached).await), (Some(number), Some(number)));
        }
        // Each second, one waits for it.
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        assert_eq!(source.reads(), 99);
        server.thaw();
        // Another process finds there what this one has read since, and nothing from before.
        let other: Cached = Loading::new(SETTINGS, Some(shared(&server, "x")), clock());
        let deadline = Instant::now() + Duration::from_secs(20);
        while other.figures().shared_hits == 0 {
            cached.forget(&groups()).await;
            other.forget(&groups()).await;
            assert_eq!((source.get(&cached).await, source.get(&other).await), (Some(99), Some(99)));
            assert!(Instant::now() < deadline, "{:?}", other.figures());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}
