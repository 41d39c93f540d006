//! The membership filter under a model checker: in each of many schedules another thread goes on
//! between any two uses of what the threads share. A gate never takes a shopper who has something
//! for one who has nothing, and a gate in another process misses nobody.

use crate::membership_filter::MembershipFilter;
use contracts::ShopperKey;
use shuttle::scheduler::RandomScheduler;
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::{Config, Runner, thread};
use std::sync::Arc;

const SCHEDULES: usize = 20_000;

fn in_many_schedules(run: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    Runner::new(RandomScheduler::new(SCHEDULES), config).run(run);
}

fn shopper(n: u8) -> ShopperKey {
    ShopperKey([n; 16])
}

#[test]
fn a_gate_never_takes_who_has_something_for_who_has_nothing() {
    in_many_schedules(|| {
        let known = Arc::new(MembershipFilter::of(4));
        // What a view shows: from then on a gate may answer alone.
        let sold_out = Arc::new(AtomicBool::new(false));
        known.ask(shopper(1));
        let (sales, view) = (Arc::clone(&known), Arc::clone(&sold_out));
        let sale = thread::spawn(move || {
            sales.keep(shopper(1));
            sales.decided(shopper(1));
            view.store(true, Ordering::SeqCst);
        });
        let gates: Vec<_> = (0..2)
            .map(|_| {
                let (known, view) = (Arc::clone(&known), Arc::clone(&sold_out));
                thread::spawn(move || {
                    let _is_sold_out = view.load(Ordering::SeqCst);
                    // Undecided at first, kept in the end, and one of both at any time between.
                    assert!(known.may_have(shopper(1)));
                    assert!(!known.keeps(shopper(2)));
                })
            })
            .collect();
        gates.into_iter().chain([sale]).for_each(|thread| thread.join().unwrap());
        assert!(known.keeps(shopper(1)));
    });
}

#[test]
fn a_gate_in_another_process_misses_nobody() {
    in_many_schedules(|| {
        let known = Arc::new(MembershipFilter::of(4));
        let sales = Arc::clone(&known);
        let sale = thread::spawn(move || (1..4).for_each(|n| sales.keep(shopper(n))));
        // First it follows, then it takes the words.
        let follower = known.follow();
        let copy = MembershipFilter::of(4);
        copy.keep_words(known.words());
        sale.join().unwrap();
        let told = follower.take();
        for n in 1..4 {
            assert!(copy.keeps(shopper(n)) || told.contains(&shopper(n)), "shopper {n}");
        }
    });
}
