//! The membership filter in one thread. `tests/sale/filter_schedules.rs` has it in several.

use crate::membership_filter::MembershipFilter;
use contracts::ShopperKey;

fn shopper(n: u64) -> ShopperKey {
    let hash = mixed(n);
    let mut key = [0; 16];
    key[..8].copy_from_slice(&hash.to_le_bytes());
    key[8..].copy_from_slice(&hash.rotate_left(17).to_le_bytes());
    ShopperKey(key)
}

/// SplitMix64, which is as even as the keyed hash that keys come from.
fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn the_membership_filter_has_no_false_negatives_and_few_false_positives() {
    let known = MembershipFilter::default();
    (0..200_000).for_each(|n| known.keep(shopper(n)));
    assert!((0..200_000).all(|n| known.may_have(shopper(n))));
    let others = (200_000..400_000).filter(|n| known.may_have(shopper(*n))).count();
    assert!(others < 800, "{others} of 200,000 who have nothing");
    let copy = MembershipFilter::default();
    let follower = known.follow();
    copy.keep_words(known.words());
    known.keep(shopper(400_000));
    assert_eq!((follower.take(), follower.take()), (vec![shopper(400_000)], Vec::new()));
    drop(follower);
    known.keep(shopper(400_001));
    assert!(known.followers_count() == 0);
    assert!((0..200_000).all(|n| copy.may_have(shopper(n))));
    assert_eq!(known.words().count(), MembershipFilter::WORDS);
}

#[test]
fn the_membership_filter_knows_an_attempt_until_it_is_decided() {
    let known = MembershipFilter::default();
    assert!(!known.may_have(shopper(1)));
    known.ask(shopper(1));
    known.ask(shopper(1));
    known.decided(shopper(1));
    assert!(known.may_have(shopper(1)), "one of two is not decided");
    known.decided(shopper(1));
    assert!(!known.may_have(shopper(1)));
}
