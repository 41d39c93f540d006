//! The trait `Machine` does not depend on sales: a ledger of a hundred lines runs through the whole
//! worker, with a full disk, appends of unknown outcome, a panic, snapshots, steps that are too
//! small, a queue, and an audit.

mod ledger;

use engines::clock::Clock;
use engines::embedded::{EmbeddedLog, LogId, Options, Partition};
use engines::log::Log;
use ledger::{Command, DAY_MS, Entry, Ledger, LedgerAuditor, Record, Reply, SOLVENT};
use runtime::audit::{Found, audit};
use runtime::service::Settings;
use runtime::{
    Budget, Machine, Mailbox, NotQueued, Outage, RecoverError, Service, Worker, recover, snapshot,
};
use sim::disk::{Call, EMFILE, SimDisk};
use std::io::ErrorKind;
use std::process::Command as Process;
use std::sync::{Arc, Mutex, mpsc};
use units::{Prng, Sequence, TimeMs};

const NOW: TimeMs = TimeMs(1);

type Accounts = Worker<Ledger, EmbeddedLog<SimDisk>>;

fn log(disk: &SimDisk) -> EmbeddedLog<SimDisk> {
    let options = Options::new(Partition(0), LogId(*b"0123456789abcdef"));
    EmbeddedLog::open(disk.clone(), Options { segment_bytes: 16 << 10, ..options }).unwrap()
}

fn open(disk: &SimDisk) -> Accounts {
    Worker::open(log(disk)).unwrap().0
}

fn put(account: u32, amount: i64) -> Command {
    Command::Move { account, amount }
}

fn balance<L: Log>(worker: &Worker<Ledger, L>, account: u32) -> i64 {
    match worker.read(&Command::Balance { account }) {
        Some(Reply::Balance { balance, .. }) => balance,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_answered_survives_a_power_cut() {
    let disk = SimDisk::new();
    let mut accounts = open(&disk);
    let replies = accounts.step(NOW, &[put(1, 10), put(1, -3), put(1, -8)]).to_vec();
    let as_of = Sequence(2);
    assert_eq!(
        replies,
        [Reply::Moved { balance: 10 }, Reply::Moved { balance: 7 }, Reply::Overdrawn { as_of }]
    );
    let accounts = open(&disk.power_cut(&mut Prng::new(1)));
    assert_eq!((balance(&accounts, 1), accounts.machine().sequence()), (7, Sequence(2)));
}

#[test]
fn a_shortage_refuses_commands_until_it_is_over() {
    let disk = SimDisk::new();
    let mut accounts = open(&disk);
    accounts.step(NOW, &[put(1, 10)]);
    disk.fail_write_after(0, ErrorKind::StorageFull);
    let look = Command::Balance { account: 1 };
    let replies = accounts.step(NOW, &[put(1, 5), look.clone(), put(2, 5)]).to_vec();
    assert_eq!(replies, [Reply::Busy, Reply::Balance { balance: 10, as_of: Sequence(1) }, Reply::Busy]);
    assert!(accounts.in_shortage() && accounts.next_wakeup() == Some(TimeMs(1001)));
    assert_eq!(accounts.step(TimeMs(900), &[put(1, 5)]), [Reply::Busy], "not yet");
    let as_of = Sequence(2);
    assert_eq!(accounts.step(TimeMs(1001), &[look]), [Reply::Balance { balance: 10, as_of }]);
    assert!(!accounts.in_shortage());
    let mut news = Vec::new();
    let mut note = |_: Sequence, bytes: &[u8]| {
        news.push(<Entry as engines::codec::Codec>::decode(bytes).unwrap().record);
        std::ops::ControlFlow::Continue(())
    };
    accounts.log().reader().read(Sequence(2), &mut note).unwrap();
    assert_eq!(news[0], Record::ShortageOver { since: NOW, turned_away: 3 });
}

#[test]
fn a_lack_of_file_handles_is_a_shortage() {
    let disk = SimDisk::new();
    let mut accounts = open(&disk);
    accounts.step(NOW, &[put(1, 10)]);
    // The write fails, the segment cannot be made again, and the log cannot be read: nothing of the
    // state may be shown.
    disk.fail_next_sync(1);
    disk.fail_opens(true);
    let replies = accounts.step(NOW, &[put(1, 5), Command::Balance { account: 1 }]).to_vec();
    let passing = |reply: &Reply| matches!(reply, Reply::Unavailable(Outage::Passing(_)));
    assert!(replies.len() == 2 && replies.iter().all(passing), "{replies:?}");
    assert!(accounts.in_shortage() && accounts.is_stale());
    accounts.step(TimeMs(1001), &[]);
    assert!(accounts.in_shortage(), "{:?}", accounts.stopped());
    disk.fail_opens(false);
    accounts.step(TimeMs(2001), &[]);
    accounts.step(TimeMs(3001), &[]);
    assert!(!accounts.in_shortage() && !accounts.is_stale());
    assert_eq!((balance(&accounts, 1), balance(&open(&disk.kill()), 1)), (10, 10));
}

#[test]
fn an_append_of_unknown_outcome_is_settled_before_any_reply() {
    for seed in 0..40 {
        let disk = SimDisk::new();
        let mut accounts = open(&disk);
        accounts.step(NOW, &[put(1, 10)]);
        disk.fail_next_sync(seed);
        let replies = accounts.step(NOW, &[put(1, 5)]).to_vec();
        assert_eq!(replies, [Reply::Moved { balance: 15 }]);
        assert_eq!(balance(&open(&disk.power_cut(&mut Prng::new(seed))), 1), 15);
    }
}

#[test]
fn what_a_crash_may_bring_back_is_not_refused() {
    let disk = SimDisk::new();
    let mut accounts = open(&disk);
    accounts.step(NOW, &[put(1, 10)]);
    // The sync fails, and there is no room for the segment that would leave the payment behind.
    disk.fail_next_sync(1);
    disk.limit_room(Some(0));
    let look = Command::Balance { account: 1 };
    let replies = accounts.step(NOW, &[put(1, 5), look]).to_vec();
    let [Reply::Unavailable(Outage::Passing(_)), Reply::Balance { balance: 10, .. }] = &replies[..] else {
        panic!("{replies:?}")
    };
    assert!(accounts.is_uncertain() && accounts.in_shortage());
    let replies = accounts.step(TimeMs(1001), &[put(2, 5)]).to_vec();
    assert!(matches!(replies[..], [Reply::Unavailable(Outage::Passing(_))]), "{replies:?}");
    assert_eq!(balance(&open(&disk.kill()), 1), 15, "the payment was made, and nobody heard that it was not");
}

#[test]
fn two_unknown_outcomes_for_want_of_room_do_not_stop_the_worker() {
    let disk = SimDisk::new();
    let mut accounts = open(&disk);
    accounts.step(NOW, &[put(1, 10)]);
    // Each append is refused by its sync, and the segment that would leave it behind twice by a
    // lack of file handles, which has passed when the log is opened again.
    disk.limit_sync_room(Some(7000), 1);
    for creations in [0, 0, 1, 0] {
        disk.refuse_after(Call::Create, creations, EMFILE);
    }
    let many: Vec<Command> = (0..450).map(|account| put(account, 5)).collect();
    let replies = accounts.step(NOW, &many).to_vec();
    assert!(replies.iter().all(|reply| *reply == Reply::Busy), "{:?}, {:?}", replies[0], accounts.stopped());
    assert!(accounts.in_shortage() && !accounts.is_uncertain());
    disk.limit_sync_room(None, 0);
    accounts.step(accounts.next_wakeup().unwrap(), &[]);
    assert_eq!(accounts.step(TimeMs(5000), &[put(1, 5)]), [Reply::Moved { balance: 15 }]);
}

#[test]
fn a_disk_that_fails_for_good_stops_the_worker() {
    let disk = SimDisk::new();
    let mut accounts = open(&disk);
    disk.die_after_operations(1);
    let replies = accounts.step(NOW, &[put(1, 5), Command::Balance { account: 1 }]).to_vec();
    let stopped = |reply: &Reply| matches!(reply, Reply::Unavailable(Outage::Stopped(_)));
    assert!(replies.len() == 2 && replies.iter().all(stopped), "{replies:?}");
    assert!(accounts.stopped().is_some() && accounts.is_stale() && accounts.next_wakeup().is_none());
    assert_eq!(accounts.read(&Command::Balance { account: 1 }), None);
}

/// A worker with so many accounts, whose steps are of five entries.
fn small_steps(disk: &SimDisk, count: u32) -> Accounts {
    let mut accounts = open(disk);
    let commands: Vec<Command> = (1..=count).map(|account| put(account, 10)).collect();
    accounts.step(NOW, &commands);
    accounts.set_budget(Budget { work_max: 5, ..Budget::default() });
    accounts
}

#[test]
fn due_timers_run_before_commands_in_as_many_steps_as_they_take() {
    let disk = SimDisk::new();
    let mut accounts = small_steps(&disk, 12);
    let command = [Command::Move { account: 12, amount: -11 }];
    for _ in 0..2 {
        assert_eq!(accounts.step(TimeMs(DAY_MS), &command).len(), 0);
        assert_eq!(accounts.next_wakeup(), Some(TimeMs(0)));
    }
    // The process ends in the middle: the next one goes on where it was.
    drop(accounts);
    let mut accounts = open(&disk.power_cut(&mut Prng::new(3)));
    assert_eq!(accounts.machine().total(), 120 + 9);
    assert_eq!(accounts.step(TimeMs(DAY_MS + 1), &command), [Reply::Moved { balance: 0 }]);
    assert_eq!(accounts.machine().total(), 120 + 12 - 11);
}

#[test]
fn a_command_of_several_steps_resumes_where_the_last_step_ended() {
    let disk = SimDisk::new();
    let mut accounts = small_steps(&disk, 14);
    let commands = [Command::CloseFrom { account: 3 }, put(1, 1)];
    assert!(accounts.step(NOW, &commands).is_empty());
    // Its second step meets an append of unknown outcome, and is decided again from where the first
    // one ended.
    disk.fail_next_sync(7);
    assert!(accounts.step(NOW, &commands).is_empty());
    assert_eq!(accounts.step(NOW, &commands), [Reply::Closed { count: 12 }, Reply::Moved { balance: 11 }]);
}

#[test]
fn lists_end_a_step_as_soon_as_their_work_is_a_steps() {
    let disk = SimDisk::new();
    let mut accounts = open(&disk);
    let puts: Vec<Command> = (0..4000).map(|account| put(account, 1)).collect();
    assert_eq!(accounts.step(NOW, &puts).len(), puts.len());
    let lists = vec![Command::List; 1000];
    let answered = |replies: &[Reply]| {
        assert!(replies.iter().all(|reply| matches!(reply, Reply::List(all) if all.len() == 4000)));
        replies.len()
    };
    // 16,384 units of work are five lists, and a quarter of that two.
    assert_eq!(answered(accounts.step(NOW, &lists)), 5);
    let between = accounts.read_some(&lists);
    assert!(between[2..].iter().all(Option::is_none));
    assert_eq!(answered(&between.into_iter().flatten().collect::<Vec<_>>()), 2);
    disk.limit_room(Some(0));
    while !accounts.in_shortage() {
        accounts.step(NOW, &puts);
    }
    assert_eq!(answered(accounts.step(NOW, &lists)), 2);
}

#[test]
fn a_command_that_meets_a_shortage_midway_is_refused_and_may_be_retried() {
    let disk = SimDisk::new();
    let mut accounts = small_steps(&disk, 12);
    let command = [Command::CloseFrom { account: 3 }];
    assert!(accounts.step(NOW, &command).is_empty());
    disk.fail_write_after(0, ErrorKind::StorageFull);
    assert_eq!(accounts.step(NOW, &command), [Reply::Busy]);
    let mut replies = Vec::new();
    for second in 1..20 {
        replies.extend(accounts.step(TimeMs(1001 + second), &command).to_vec());
        if !replies.is_empty() {
            break;
        }
    }
    assert_eq!(replies, [Reply::Closed { count: 5 }], "what was closed before is closed");
}

#[test]
fn a_snapshot_shortens_recovery_and_gives_the_same_state() {
    let disk = SimDisk::new();
    let mut accounts = small_steps(&disk, 12);
    // In the middle of something.
    accounts.step(TimeMs(DAY_MS), &[]);
    let bytes = accounts.machine().snapshot();
    let (at, _) =
        snapshot::<Ledger>(&mut *accounts.log().reader(), &mut *accounts.log().snapshots()).unwrap();
    drop(accounts);
    let log = log(&disk.kill());
    let kept = log.snapshots().latest().unwrap();
    assert_eq!(kept, Some((at, bytes.clone())));
    let (ledger, recovery) = recover::<Ledger>(&mut *log.reader(), kept).unwrap();
    assert_eq!((recovery.snapshot, recovery.replayed), (Some(at), 0));
    assert_eq!(ledger.snapshot(), bytes);
    let (whole, recovery) = recover::<Ledger>(&mut *log.reader(), None).unwrap();
    assert_eq!((recovery.replayed, whole.snapshot()), (at.0, bytes));
    let ahead = recover::<Ledger>(&mut *log.reader(), Some((at.next(), Vec::new())));
    assert!(matches!(ahead, Err(RecoverError::LogBehindSnapshot { .. })));
}

#[test]
fn an_audit_proves_an_honest_log_and_finds_a_forged_entry() {
    let disk = SimDisk::new();
    let mut accounts = open(&disk);
    accounts.step(NOW, &[put(1, 10), put(2, 5), put(1, -10)]);
    accounts.step(TimeMs(DAY_MS), &[put(2, 1)]);
    let audited = |disk: &SimDisk| {
        let log = log(&disk.kill());
        audit(&mut LedgerAuditor::default(), &mut *log.reader(), log.snapshots().latest().unwrap()).unwrap()
    };
    drop(accounts);
    let (verdicts, audited_to) = audited(&disk);
    assert!(verdicts.iter().all(|v| v.found == Found::Proven), "{verdicts:?}");
    assert_eq!(verdicts[0].how, "4 movements, none below nothing");
    let mut forged = log(&disk.kill());
    let mut batch = engines::log::Batch::default();
    let record = Record::Moved { account: 1, amount: -99 };
    batch.push_record(&Entry { at: TimeMs(DAY_MS), record });
    forged.append(Sequence(audited_to.entries), &batch).unwrap();
    drop(forged);
    let (verdicts, _) = audited(&disk);
    assert_eq!(
        verdicts.iter().map(|v| (v.id, v.holds)).collect::<Vec<_>>(),
        [(SOLVENT, false), ("INV-7", false)]
    );
    let Err(error) = Worker::<Ledger, _>::open(log(&disk.kill())) else { panic!("it was opened") };
    assert_eq!(error.invariants(), [SOLVENT, "INV-7"]);
}

struct Inbox(Mutex<mpsc::Sender<(u64, Reply)>>);

impl Mailbox<Reply> for Inbox {
    fn deliver(&self, mail: &mut Vec<(u64, Reply)>) {
        mail.drain(..).for_each(|mail| self.0.lock().unwrap().send(mail).unwrap());
    }
}

struct Still;

impl Clock for Still {
    fn now(&self) -> TimeMs {
        NOW
    }
}

fn service(disk: &SimDisk, queue_max: usize) -> Service<Ledger> {
    Service::start("ledger", log(disk), Arc::new(Still), Settings { queue_max, snapshot_every: 10 }).unwrap()
}

#[test]
fn a_service_answers_by_handle_and_by_mailbox_and_finishes_its_queue() {
    let disk = SimDisk::new();
    let (sender, heard) = mpsc::channel();
    let inbox: Arc<dyn Mailbox<Reply>> = Arc::new(Inbox(Mutex::new(sender)));
    let running = service(&disk, 1000);
    let handle = running.handle();
    for n in 1..=20 {
        let reply = handle.ask(put(1, 1)).unwrap();
        assert_eq!(reply.blocking_recv().unwrap(), Reply::Moved { balance: n });
    }
    assert_eq!(*handle.sequence().borrow(), Sequence(20));
    (0..50).for_each(|token| handle.send(&inbox, token, put(2, 1)).unwrap());
    running.stop();
    assert_eq!(handle.ask(put(1, 1)).unwrap_err(), NotQueued::Stopping);
    drop(inbox);
    let heard: Vec<(u64, Reply)> = heard.try_iter().collect();
    assert_eq!(heard.len(), 50);
    let in_order = |(n, said): (usize, &(u64, Reply))| said.0 == n as u64;
    assert!(heard.iter().enumerate().all(in_order), "{heard:?}");
    assert!(log(&disk.kill()).snapshots().latest().unwrap().is_some(), "its thread has made a snapshot");
}

#[test]
fn a_full_queue_refuses_commands_at_once() {
    let running = service(&SimDisk::new(), 0);
    assert_eq!(running.handle().ask(put(1, 1)).unwrap_err(), NotQueued::QueueFull);
    running.stop();
}

/// A panic of the writer must end the process, so this test starts itself as one.
#[test]
fn a_panic_of_the_worker_ends_the_process_and_loses_nothing() {
    const CHILD: &str = "LEDGER_THAT_PANICS";
    if std::env::var_os(CHILD).is_some() {
        let mut accounts = open(&SimDisk::new());
        accounts.step(NOW, &[put(1, 10)]);
        let _guard = runtime::drive::EndProcessOnPanic;
        panic!("a defect");
    }
    let this = std::env::current_exe().unwrap();
    let name = "a_panic_of_the_worker_ends_the_process_and_loses_nothing";
    let out = Process::new(this).args([name, "--exact", "--nocapture"]).env(CHILD, "1").output().unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&out.status);
    assert_eq!(signal, Some(6), "it aborts: {out:?}");
}
