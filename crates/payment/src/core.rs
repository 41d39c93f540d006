//! The rules of a payment: a pure state machine. What a provider says may come late, twice and in
//! any order; money that it has is never forgotten, and never given back twice.

use contracts::store::PaymentState;

/// What a provider says of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    Succeeded,
    Failed,
    Refunded,
}

/// What others are told, because the payment has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Succeeded,
    Failed,
    Refunded,
}

/// Follows what the provider said. Returns the state after it, and what is told.
pub fn follow(state: PaymentState, said: Said) -> (PaymentState, Option<Told>) {
    use PaymentState::{Failed, Pending, Refunded, Refunding, Succeeded};
    match (state, said) {
        // A payment that failed may be tried again on the provider's page.
        (Pending | Failed, Said::Succeeded) => (Succeeded, Some(Told::Succeeded)),
        (Pending, Said::Failed) => (Failed, Some(Told::Failed)),
        // A refund that the shop did not ask for was made at the provider, by hand. If it comes
        // before the news of the success, that news changes nothing any more.
        (Pending | Failed | Succeeded | Refunding, Said::Refunded) => (Refunded, Some(Told::Refunded)),
        // Old news.
        (Succeeded | Refunding | Refunded, Said::Succeeded | Said::Failed)
        | (Failed, Said::Failed)
        | (Refunded, Said::Refunded) => (state, None),
    }
}

/// Someone wants the money to go back. Returns the state after it, and whether the provider is to
/// be asked; `None` if there is nothing to give back.
pub fn refund(state: PaymentState) -> Option<(PaymentState, bool)> {
    match state {
        PaymentState::Succeeded => Some((PaymentState::Refunding, true)),
        PaymentState::Refunding | PaymentState::Refunded => Some((state, false)),
        PaymentState::Pending | PaymentState::Failed => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PaymentState::{Failed, Pending, Refunded, Refunding, Succeeded};

    #[test]
    fn what_a_provider_says_in_any_order_ends_in_the_same_state() {
        for order in [
            [Said::Succeeded, Said::Refunded, Said::Failed],
            [Said::Succeeded, Said::Failed, Said::Refunded],
            [Said::Failed, Said::Succeeded, Said::Refunded],
            [Said::Failed, Said::Refunded, Said::Succeeded],
            [Said::Refunded, Said::Succeeded, Said::Failed],
            [Said::Refunded, Said::Failed, Said::Succeeded],
        ] {
            let end = order.into_iter().fold(Pending, |state, said| follow(state, said).0);
            assert_eq!(end, Refunded, "{order:?}");
        }
    }

    #[test]
    fn what_is_said_again_is_told_once() {
        for said in [Said::Succeeded, Said::Failed, Said::Refunded] {
            let (after, told) = follow(Pending, said);
            assert!(told.is_some());
            assert_eq!(follow(after, said), (after, None), "{said:?}");
        }
    }

    #[test]
    fn a_failure_does_not_take_a_success_back() {
        assert_eq!(follow(Succeeded, Said::Failed), (Succeeded, None));
        assert_eq!(follow(Refunding, Said::Failed), (Refunding, None));
        assert_eq!(follow(Failed, Said::Succeeded), (Succeeded, Some(Told::Succeeded)));
    }

    #[test]
    fn only_money_that_is_there_goes_back_and_once() {
        assert_eq!(refund(Succeeded), Some((Refunding, true)));
        assert_eq!(refund(Refunding), Some((Refunding, false)));
        assert_eq!(refund(Refunded), Some((Refunded, false)));
        assert_eq!((refund(Pending), refund(Failed)), (None, None));
    }
}
