//! What an order does, as a ledger: commands, and what comes of each.

use super::{
    By, Command, Effect,
    HoldEvent::{Confirmed, Expired, Granted, RefundDue, Released, Voided},
    Order, OtherPayments, Place, RefundReason,
};
use contracts::store::{Delivery, OrderState, PaymentId, PaymentSeen};
use units::TimeMs;

const BY: By<'static> = By { actor: "test", reason: "because" };
const TOTAL: u64 = 199_900;

fn payment(number: u8) -> PaymentId {
    PaymentId::new(TimeMs(1_795_521_600_000), [number; 16])
}

fn paid(number: u8) -> Command {
    Command::Paid { payment: payment(number), amount_minor: TOTAL }
}

fn refunded(number: u8) -> Command {
    Command::Refunded { payment: payment(number), version: 3 }
}

/// Of the first payment.
fn part_refunded(version: u64, refunded_minor: u64) -> Command {
    Command::PartRefunded { payment: payment(1), version, refunded_minor }
}

fn place(log: &str, sequence: u64) -> Place {
    Place { log: log.into(), sequence }
}

fn in_sale(sequence: u64, event: super::HoldEvent) -> Command {
    Command::InSale { place: place("first", sequence), event }
}

/// In the log of a copy of the sale.
fn in_copy(sequence: u64, event: super::HoldEvent) -> Command {
    Command::InSale { place: place("copy", sequence), event }
}

fn answered(number: u8, is_confirmed: bool) -> Command {
    Command::SaleAnswered { payment: payment(number), is_confirmed }
}

fn confirmed(number: u8) -> super::HoldEvent {
    Confirmed { payment: payment(number).to_string(), is_late: false }
}

fn parcel() -> Delivery {
    Delivery { carrier: "SF".into(), tracking: "SF1".into() }
}

/// Applies each command; after it the order is in this state and its payment stands so, and these
/// effects were asked for.
fn check(is_from_sale: bool, steps: Vec<(Command, OrderState, PaymentSeen, Vec<Effect>)>) {
    let (mut order, _) = Order::new(TOTAL, is_from_sale.then(|| place("first", 7)), TimeMs(0), "test", "new");
    for (at, (command, state, payment, want)) in steps.into_iter().enumerate() {
        let (before, said) = (order.clone(), format!("{command:?}"));
        let done = order.apply(TimeMs(at as u64), BY, command.clone()).unwrap();
        assert_eq!((order.state, order.payment), (state, payment), "{said}");
        let asked = done.effects.into_iter().filter(|effect| !is_told_or_stock(effect)).collect::<Vec<_>>();
        assert_eq!(asked, want, "{said}");
        assert_eq!(done.step.is_some(), order.state != before.state, "{said}");
        assert_eq!(done.is_changed, order.version > before.version, "{said}");
        // Whatever came comes once more, and does nothing but ask again for a refund that it asked
        // for already.
        let once = order.clone();
        let again = order.apply(TimeMs(at as u64), BY, command).unwrap();
        let refunds = |effect: &Effect| matches!(effect, Effect::Refund { .. });
        assert!(order == once && again.effects.iter().all(refunds), "{said} again: {again:?}");
    }
}

/// Of these there are tests of their own.
fn is_told_or_stock(effect: &Effect) -> bool {
    matches!(effect, Effect::Tell | Effect::SetStock | Effect::FreeStock | Effect::ShipStock)
}

use OrderState::{Allocated, AwaitingPayment, Cancelled, Delivered, Paid, Shipped};
use PaymentSeen::{BeingConfirmed, None as Nothing, Received, Refunded, ToRefund};

fn confirm(number: u8) -> Vec<Effect> {
    vec![Effect::ConfirmHold { payment: payment(number) }]
}

fn refund(number: u8, why: RefundReason) -> Vec<Effect> {
    vec![Effect::Refund { payment: payment(number), why }]
}

#[test]
fn a_winner_pays_and_the_sale_agrees() {
    check(
        true,
        vec![
            (paid(1), AwaitingPayment, BeingConfirmed, confirm(1)),
            (answered(1, true), Paid, Received, vec![]),
            // The event of the same decision.
            (in_sale(9, confirmed(1)), Paid, Received, vec![]),
            (Command::Allocate, Allocated, Received, vec![]),
            (Command::Ship(parcel()), Shipped, Received, vec![]),
            (Command::Deliver, Delivered, Received, vec![]),
        ],
    );
}

#[test]
fn the_sales_event_may_come_before_its_answer() {
    check(
        true,
        vec![
            (paid(1), AwaitingPayment, BeingConfirmed, confirm(1)),
            (in_sale(9, confirmed(1)), Paid, Received, vec![]),
            (answered(1, true), Paid, Received, vec![]),
        ],
    );
}

#[test]
fn a_payment_that_the_sale_refuses_goes_back() {
    check(
        true,
        vec![
            (in_sale(9, Expired), OrderState::Expired, Nothing, vec![]),
            (paid(1), OrderState::Expired, BeingConfirmed, confirm(1)),
            (answered(1, false), OrderState::Expired, ToRefund, refund(1, RefundReason::TooLate)),
            (
                in_sale(11, RefundDue { payment: payment(1).to_string() }),
                OrderState::Expired,
                ToRefund,
                vec![],
            ),
            (refunded(1), OrderState::Expired, Refunded, vec![]),
        ],
    );
}

#[test]
fn a_late_payment_that_the_sale_takes_makes_the_order_paid() {
    check(
        true,
        vec![
            (in_sale(9, Expired), OrderState::Expired, Nothing, vec![]),
            (paid(1), OrderState::Expired, BeingConfirmed, confirm(1)),
            (answered(1, true), Paid, Received, vec![]),
        ],
    );
}

#[test]
fn what_is_paid_for_an_order_whose_shopper_is_gone_goes_back() {
    let erased = |number| Command::PaidErased { payment: payment(number) };
    check(
        true,
        vec![
            (in_sale(9, Expired), OrderState::Expired, Nothing, vec![]),
            (erased(1), OrderState::Expired, Nothing, refund(1, RefundReason::Erased)),
            (erased(1), OrderState::Expired, Nothing, refund(1, RefundReason::Erased)),
            (refunded(1), OrderState::Expired, Nothing, vec![]),
        ],
    );
    check(
        true,
        vec![
            (paid(1), AwaitingPayment, BeingConfirmed, confirm(1)),
            (answered(1, true), Paid, Received, vec![]),
            // The same payment is told once more.
            (erased(1), Paid, Received, vec![]),
        ],
    );
}

/// What went back of a payment that the sale refused is nothing of the one that it took.
#[test]
fn a_second_payment_begins_with_nothing_given_back() {
    let (mut order, _) = Order::new(TOTAL, Some(place("first", 7)), TimeMs(0), "test", "new");
    let steps = [paid(1), answered(1, false), refunded(1), paid(2), answered(2, true)];
    for command in steps {
        order.apply(TimeMs(1), BY, command).unwrap();
    }
    assert_eq!((order.state, order.payment, order.refunded_minor), (Paid, Received, 0));
}

#[test]
fn what_was_paid_twice_goes_back_once() {
    check(
        true,
        vec![
            (paid(1), AwaitingPayment, BeingConfirmed, confirm(1)),
            (paid(2), AwaitingPayment, BeingConfirmed, refund(2, RefundReason::Twice)),
            (answered(1, true), Paid, Received, vec![]),
            (paid(3), Paid, Received, refund(3, RefundReason::Twice)),
            (refunded(2), Paid, Received, vec![]),
        ],
    );
}

#[test]
fn a_void_of_a_paid_hold_cancels_the_order_and_returns_the_money() {
    let void = || Voided { reason: "a bot".into() };
    check(
        true,
        vec![
            (paid(1), AwaitingPayment, BeingConfirmed, confirm(1)),
            (answered(1, true), Paid, Received, vec![]),
            (in_sale(20, void()), Cancelled, ToRefund, refund(1, RefundReason::Cancelled)),
            (refunded(1), Cancelled, Refunded, vec![]),
        ],
    );
    check(true, vec![(in_sale(20, void()), Cancelled, Nothing, vec![])]);
}

/// The sale has confirmed, and its answer was lost; then it was voided, or the provider gave the
/// money back. The old news that it was confirmed makes nothing paid.
#[test]
fn that_it_was_confirmed_is_old_news_once_its_money_goes_back() {
    let void = || Voided { reason: "a bot".into() };
    check(
        true,
        vec![
            (paid(1), AwaitingPayment, BeingConfirmed, confirm(1)),
            (answered(1, false), AwaitingPayment, ToRefund, refund(1, RefundReason::TooLate)),
            (refunded(1), AwaitingPayment, Refunded, vec![]),
            (in_sale(9, confirmed(1)), Cancelled, Refunded, vec![]),
            (in_sale(10, void()), Cancelled, Refunded, vec![]),
        ],
    );
    check(
        true,
        vec![
            (paid(1), AwaitingPayment, BeingConfirmed, confirm(1)),
            (answered(1, true), Paid, Received, vec![]),
            (refunded(1), Cancelled, Refunded, vec![]),
            (in_sale(9, confirmed(1)), Cancelled, Refunded, vec![]),
        ],
    );
}

#[test]
fn what_is_sent_in_exchange_can_be_given_up_until_it_is_shipped() {
    let stocked = || Command::StockAnswered { is_whole: true };
    let set = || Command::StockIsSet { is_all: true };
    for before in [vec![], vec![stocked()], vec![stocked(), set()]] {
        let (mut order, _) = Order::new(0, None, TimeMs(0), "test", "new");
        for command in before {
            order.apply(TimeMs(1), BY, command).unwrap();
        }
        let done = order.apply(TimeMs(2), BY, Command::GiveUpExchange).unwrap();
        assert_eq!((order.state, done.effects), (Cancelled, vec![Effect::FreeStock, Effect::Tell]));
        // The stock's answer was on its way.
        order.apply(TimeMs(3), BY, stocked()).unwrap();
        assert_eq!(order.apply(TimeMs(3), BY, set()).unwrap().effects, vec![Effect::FreeStock]);
        assert_eq!(order.apply(TimeMs(4), BY, Command::GiveUpExchange).unwrap().effects, vec![]);
    }
    let (mut order, _) = Order::new(0, None, TimeMs(0), "test", "new");
    for command in [stocked(), set(), Command::Ship(parcel())] {
        order.apply(TimeMs(1), BY, command).unwrap();
    }
    assert!(order.apply(TimeMs(2), BY, Command::GiveUpExchange).is_err());
    let (mut bought, _) = Order::new(TOTAL, None, TimeMs(0), "test", "new");
    assert!(bought.apply(TimeMs(1), BY, Command::GiveUpExchange).is_err());
}

/// Units that the stock knows of an order that people have shipped by hand before it answered.
#[test]
fn units_that_are_set_aside_after_the_parcel_has_left_leave_too() {
    let part = || Command::StockIsSet { is_all: false };
    let (mut order, _) = Order::new(TOTAL, Some(place("first", 7)), TimeMs(0), "test", "new");
    for command in [in_sale(9, confirmed(1)), part()] {
        order.apply(TimeMs(1), BY, command).unwrap();
    }
    assert_eq!(order.state, Paid, "people say when the others are there");
    for command in [Command::Allocate, Command::Ship(parcel())] {
        order.apply(TimeMs(2), BY, command).unwrap();
    }
    assert_eq!(order.apply(TimeMs(3), BY, part()).unwrap().effects, vec![Effect::ShipStock]);
}

#[test]
fn a_shopper_gives_the_order_up_and_the_sale_gets_its_unit_back() {
    check(
        true,
        vec![
            (Command::Cancel, Cancelled, Nothing, vec![Effect::ReleaseHold]),
            (in_sale(9, Released), Cancelled, Nothing, vec![]),
            // The provider's page was still open: the sale decides.
            (paid(1), Cancelled, BeingConfirmed, confirm(1)),
            (answered(1, false), Cancelled, ToRefund, refund(1, RefundReason::TooLate)),
        ],
    );
}

#[test]
fn what_an_operator_confirms_is_paid_and_a_payment_under_way_goes_back() {
    let by_hand = || Confirmed { payment: "bank-4711".into(), is_late: false };
    check(true, vec![(in_sale(9, by_hand()), Paid, Received, vec![])]);
    check(
        true,
        vec![
            (paid(1), AwaitingPayment, BeingConfirmed, confirm(1)),
            (in_sale(9, by_hand()), Paid, BeingConfirmed, vec![]),
            (answered(1, false), Paid, ToRefund, refund(1, RefundReason::TooLate)),
        ],
    );
}

#[test]
fn a_carts_order_waits_for_its_stock_and_is_paid_at_once_or_expires() {
    let stocked = || (Command::StockAnswered { is_whole: true }, AwaitingPayment, Nothing, vec![]);
    check(false, vec![stocked(), (paid(1), Paid, Received, vec![])]);
    check(
        false,
        vec![
            stocked(),
            (Command::PaymentIsLate, OrderState::Expired, Nothing, vec![]),
            (paid(1), OrderState::Expired, Nothing, refund(1, RefundReason::TooLate)),
        ],
    );
    check(true, vec![(Command::PaymentIsLate, AwaitingPayment, Nothing, vec![])]);
}

#[test]
fn another_sum_than_the_orders_goes_back() {
    let wrong = Command::Paid { payment: payment(1), amount_minor: TOTAL - 1 };
    check(true, vec![(wrong, AwaitingPayment, Nothing, refund(1, RefundReason::WrongAmount))]);
}

#[test]
fn old_entries_of_the_sales_log_change_nothing() {
    check(
        true,
        vec![
            (in_sale(7, Expired), AwaitingPayment, Nothing, vec![]),
            (in_sale(9, confirmed(1)), Paid, Received, vec![]),
            (in_sale(8, Voided { reason: "old".into() }), Paid, Received, vec![]),
        ],
    );
}

#[test]
fn what_does_not_fit_the_state_is_refused_and_changes_nothing() {
    let refused = |prepare: Vec<Command>, command: Command| {
        let (mut order, _) = Order::new(TOTAL, None, TimeMs(0), "test", "new");
        drop(order.apply(TimeMs(0), BY, Command::StockAnswered { is_whole: true }).unwrap());
        prepare.into_iter().for_each(|command| drop(order.apply(TimeMs(0), BY, command).unwrap()));
        let before = order.clone();
        let refused = order.apply(TimeMs(1), BY, command).unwrap_err();
        assert_eq!(order, before);
        (refused.command, refused.state)
    };
    assert_eq!(refused(vec![], Command::Ship(parcel())), ("ship", AwaitingPayment));
    assert_eq!(refused(vec![paid(1)], Command::Deliver), ("deliver", Paid));
    assert_eq!(refused(vec![paid(1)], Command::Cancel), ("cancel", Paid));
    let shipped = || vec![paid(1), Command::Allocate, Command::Ship(parcel())];
    let other = Delivery { carrier: "SF".into(), tracking: "SF2".into() };
    assert_eq!(refused(shipped(), Command::Ship(other)), ("ship", Shipped));
    assert_eq!(refused(vec![Command::Cancel], Command::Allocate), ("allocate", Cancelled));
}

#[test]
fn an_order_follows_a_sale_that_was_restored_from_a_copy() {
    let paid_before = || {
        vec![
            (paid(1), AwaitingPayment, BeingConfirmed, confirm(1)),
            (answered(1, true), Paid, Received, vec![]),
            (in_sale(120, confirmed(1)), Paid, Received, vec![]),
        ]
    };
    // The copy had the hold, and not its payment: the sale is asked again.
    let mut steps = paid_before();
    steps.push((in_copy(110, Expired), OrderState::Expired, BeingConfirmed, confirm(1)));
    steps.push((answered(1, false), OrderState::Expired, ToRefund, refund(1, RefundReason::TooLate)));
    check(true, steps);
    // The copy did not have the hold, and it was granted again.
    let mut steps = paid_before();
    steps.push((in_copy(101, Granted), AwaitingPayment, BeingConfirmed, confirm(1)));
    steps.push((answered(1, true), Paid, Received, vec![]));
    check(true, steps);
    let over = vec![
        (in_sale(9, Expired), OrderState::Expired, Nothing, vec![]),
        (in_copy(8, Granted), AwaitingPayment, Nothing, vec![]),
        (paid(1), AwaitingPayment, BeingConfirmed, confirm(1)),
    ];
    check(true, over);
}

#[test]
fn nothing_is_sent_for_money_that_went_back() {
    check(
        true,
        vec![
            (paid(1), AwaitingPayment, BeingConfirmed, confirm(1)),
            (answered(1, true), Paid, Received, vec![]),
            (refunded(1), Cancelled, Refunded, vec![]),
        ],
    );
}

#[test]
fn an_event_that_comes_behind_the_sales_own_answer_takes_nothing_back() {
    check(
        true,
        vec![
            (paid(1), AwaitingPayment, BeingConfirmed, confirm(1)),
            // It had expired, and the sale had a unit left; the feed tells of that later.
            (answered(1, true), Paid, Received, vec![]),
            (Command::Allocate, Allocated, Received, vec![]),
            (in_sale(8, Expired), Allocated, Received, vec![]),
            (in_sale(9, confirmed(1)), Allocated, Received, vec![]),
        ],
    );
}

#[test]
fn what_comes_again_of_the_log_before_a_restore_changes_nothing() {
    check(
        true,
        vec![
            (in_sale(9, Expired), OrderState::Expired, Nothing, vec![]),
            (in_copy(8, Granted), AwaitingPayment, Nothing, vec![]),
            (paid(1), AwaitingPayment, BeingConfirmed, confirm(1)),
            (answered(1, true), Paid, Received, vec![]),
            (in_sale(10, Voided { reason: "old".into() }), Paid, Received, vec![]),
            (in_sale(11, Granted), Paid, Received, vec![]),
            (in_copy(12, confirmed(1)), Paid, Received, vec![]),
        ],
    );
}

/// What the stock is asked for by these commands, one after the other.
fn asked_of_stock(is_from_sale: bool, commands: Vec<Command>) -> Vec<Effect> {
    let (mut order, _) = Order::new(TOTAL, is_from_sale.then(|| place("first", 7)), TimeMs(0), "test", "new");
    let apply = |command| order.apply(TimeMs(1), BY, command).unwrap().effects;
    let all = commands.into_iter().flat_map(apply);
    all.filter(|effect| is_told_or_stock(effect) && *effect != Effect::Tell).collect()
}

#[test]
fn units_are_set_aside_until_they_are_shipped_or_given_back() {
    use Effect::{FreeStock, SetStock, ShipStock};
    let stocked = |is_whole| Command::StockAnswered { is_whole };
    let sent = vec![
        stocked(true),
        paid(1),
        Command::StockIsSet { is_all: true },
        Command::Ship(parcel()),
        Command::Deliver,
    ];
    assert_eq!(asked_of_stock(false, sent), [SetStock, ShipStock]);
    assert_eq!(asked_of_stock(false, vec![stocked(false)]), [FreeStock]);
    assert_eq!(asked_of_stock(false, vec![Command::Cancel, stocked(true)]), [FreeStock]);
    assert_eq!(asked_of_stock(false, vec![stocked(true), Command::PaymentIsLate]), [FreeStock]);
    let returned = vec![stocked(true), paid(1), refunded(1)];
    assert_eq!(asked_of_stock(false, returned), [SetStock, FreeStock]);
    // Of a sale nothing is set aside until it is paid.
    assert_eq!(asked_of_stock(true, vec![in_sale(9, Expired)]), []);
    let paid_late =
        vec![in_sale(9, Expired), in_sale(10, confirmed(1)), Command::StockIsSet { is_all: true }];
    assert_eq!(asked_of_stock(true, paid_late), [SetStock]);
    // What is granted again in a restored sale keeps its units until that one says that it is over.
    let restored = vec![in_sale(9, confirmed(1)), in_copy(8, Granted), in_copy(9, Expired)];
    assert_eq!(asked_of_stock(true, restored), [SetStock, FreeStock]);
}

#[test]
fn units_that_were_set_aside_behind_the_end_of_an_order_are_given_back() {
    let late = |commands: Vec<Command>| asked_of_stock(false, commands).last().copied();
    let whole = Command::StockAnswered { is_whole: true };
    let over = vec![whole.clone(), paid(1), refunded(1), Command::StockIsSet { is_all: true }];
    assert_eq!(late(over), Some(Effect::FreeStock));
    let sent = vec![whole, paid(1), Command::Allocate, Command::Ship(parcel())];
    let by_hand = [sent.as_slice(), &[Command::StockIsSet { is_all: true }]].concat();
    assert_eq!(late(by_hand), Some(Effect::ShipStock));
    // Also when a part of it, or all, has come back by then.
    for back in [
        vec![part_refunded(2, 1)],
        vec![Command::CameBack { is_all: true }],
        vec![Command::CameBack { is_all: true }, refunded(1)],
    ] {
        let ended =
            [sent.as_slice(), &[Command::Deliver], &back, &[Command::StockIsSet { is_all: true }]].concat();
        assert_eq!(late(ended), Some(Effect::ShipStock), "{back:?}");
    }
}

/// Every order in which so many events can come.
fn all_orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let put_in = |of: Vec<usize>| {
        (0..count).map(move |at| [&of[..at], &[count - 1], &of[at..]].concat()).collect::<Vec<_>>()
    };
    all_orders(count - 1).into_iter().flat_map(put_in).collect()
}

#[test]
fn what_is_told_of_a_payment_in_any_order_ends_alike() {
    // It succeeded; a part went back; all of it did; a part of that has failed.
    let told = [
        vec![paid(1), part_refunded(1, 0)],
        vec![part_refunded(2, 300)],
        vec![refunded(1)],
        vec![part_refunded(4, TOTAL - 300)],
    ];
    let whole = Command::StockAnswered { is_whole: true };
    let sent = [paid(1), Command::Allocate, Command::Ship(parcel()), Command::Deliver];
    for (before, state) in [(&sent[..0], Cancelled), (&sent, OrderState::Refunded)] {
        for order_of in all_orders(told.len()) {
            let (mut order, _) = Order::new(TOTAL, None, TimeMs(0), "test", "new");
            let mut give = |command: &Command| order.apply(TimeMs(1), BY, command.clone()).map(|_| ());
            give(&whole).unwrap();
            before.iter().for_each(|command| give(command).unwrap());
            // Each comes once more after the next one.
            let twice = order_of.iter().zip(order_of.iter().skip(1)).flat_map(|(at, next)| [next, at]);
            for at in order_of.iter().take(1).chain(twice) {
                told[*at].iter().for_each(|command| give(command).unwrap());
            }
            let ended = (order.state, order.payment, order.refunded_minor);
            assert_eq!(ended, (state, PaymentSeen::Refunded, TOTAL - 300), "{order_of:?}");
            assert_eq!(order.others, OtherPayments::default(), "{order_of:?}");
        }
    }
}

/// What went back before the success was told is of the sum that was asked for.
#[test]
fn another_sum_goes_back_also_if_some_of_it_did_before_it_was_known() {
    let more = Command::Paid { payment: payment(1), amount_minor: 2 * TOTAL };
    let wrong = refund(1, RefundReason::WrongAmount);
    for is_sale in [true, false] {
        let whole = (Command::StockAnswered { is_whole: true }, AwaitingPayment, Nothing, vec![]);
        let mut steps = if is_sale { vec![] } else { vec![whole] };
        steps.extend([
            (refunded(1), AwaitingPayment, Nothing, vec![]),
            (part_refunded(4, TOTAL - 1), AwaitingPayment, Nothing, vec![]),
            (more.clone(), AwaitingPayment, Nothing, wrong.clone()),
        ]);
        check(is_sale, steps);
    }
}

#[test]
fn a_payment_that_made_room_for_another_does_not_come_back() {
    let twice = refund(1, RefundReason::Twice);
    check(
        true,
        vec![
            (paid(1), AwaitingPayment, BeingConfirmed, confirm(1)),
            (answered(1, false), AwaitingPayment, ToRefund, refund(1, RefundReason::TooLate)),
            (paid(2), AwaitingPayment, BeingConfirmed, confirm(2)),
            (refunded(1), AwaitingPayment, BeingConfirmed, vec![]),
            (answered(2, false), AwaitingPayment, ToRefund, refund(2, RefundReason::TooLate)),
            (paid(1), AwaitingPayment, ToRefund, twice),
            (refunded(2), AwaitingPayment, Refunded, vec![]),
        ],
    );
}

#[test]
fn an_order_remembers_the_last_payments_that_it_had() {
    let (mut order, _) = Order::new(TOTAL, Some(place("first", 7)), TimeMs(0), "test", "new");
    for number in 1..=40 {
        for command in [paid(number), answered(number, false)] {
            order.apply(TimeMs(1), BY, command).unwrap();
        }
    }
    let had: Vec<PaymentId> = (24..40).map(payment).collect();
    assert_eq!((order.payment_id, order.others.had), (Some(payment(40)), had));
}
