//! The rules of a payment: a pure state machine. What a provider says may come late, twice and in
//! any order; money that it has is never forgotten, and never given back twice.

use contracts::store::PaymentState;

/// What a provider says of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    Succeeded,
    Failed,
    /// So much went back, in one go.
    Refunded,
    /// What went back, or was to go back, has come back to the provider: it is still owed.
    RefundFailed,
}

/// What others are told, because the payment has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Succeeded,
    Failed,
    /// A part is back with the shopper.
    PartRefunded,
    /// All of it is.
    Refunded,
    /// Less is back than was told.
    RefundFailed,
}

/// A payment's money, in minor units of its currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    pub state: PaymentState,
    /// What the provider has taken; what it was asked for, until it has.
    pub received_minor: u64,
    /// What is back with the shopper, as far as was told: while the news that a refund has failed
    /// is not here yet, it may be more than was received.
    pub refunded_minor: u64,
}

impl Account {
    /// Follows what the provider said, of this sum. Returns what is told. That a payment succeeded
    /// is followed once: what is received after that is not its own money.
    pub fn follow(&mut self, said: Said, amount_minor: u64) -> Option<Told> {
        use PaymentState::{Failed, Pending, Refunded, Refunding, Succeeded};
        match (self.state, said) {
            // A payment that failed may be tried again on the provider's page. One that refunds
            // were told of, and that one of them failed, waits for this news yet.
            (Pending | Failed | Refunding, Said::Succeeded) => {
                (self.state, self.received_minor) = (Succeeded, amount_minor);
                // The news that all of it went back may have been faster.
                Some(match self.refunded_minor >= amount_minor && amount_minor > 0 {
                    true => {
                        self.state = Refunded;
                        Told::Refunded
                    }
                    false => Told::Succeeded,
                })
            }
            (Pending, Said::Failed) => {
                self.state = Failed;
                Some(Told::Failed)
            }
            // A refund that the shop did not ask for was made at the provider, by hand. If it comes
            // before the news of the success, it is of what was asked for.
            (Pending | Failed | Succeeded | Refunding, Said::Refunded) => {
                self.refunded_minor = self.refunded_minor.saturating_add(amount_minor);
                let is_known = matches!(self.state, Succeeded | Refunding);
                if self.refunded_minor >= self.received_minor {
                    self.state = Refunded;
                    Some(Told::Refunded)
                } else {
                    is_known.then_some(Told::PartRefunded)
                }
            }
            // It is asked for again; who has counted it must not go on doing so.
            (_, Said::RefundFailed) => {
                let before = self.refunded_minor.min(self.received_minor);
                self.refunded_minor = self.refunded_minor.saturating_sub(amount_minor);
                if self.state == Refunded && self.refunded_minor < self.received_minor {
                    self.state = Refunding;
                }
                (self.refunded_minor < before).then_some(Told::RefundFailed)
            }
            // All that was asked for went back before it was told what was received: that may be
            // more.
            (Refunded, Said::Succeeded) => {
                self.received_minor = amount_minor;
                (self.refunded_minor < amount_minor).then(|| {
                    self.state = Succeeded;
                    Told::Succeeded
                })
            }
            // More than all can be back only if an earlier refund has failed: that news will come.
            (Refunded, Said::Refunded) => {
                self.refunded_minor = self.refunded_minor.saturating_add(amount_minor);
                None
            }
            // Old news.
            (Succeeded, Said::Succeeded) | (Succeeded | Refunding | Refunded | Failed, Said::Failed) => None,
        }
    }

    /// Someone wants money to go back: so much, or all that is left; `asked_minor` is asked for
    /// already and not back yet. Returns how much the provider is to be asked for; `None` if there
    /// is not so much.
    pub fn refund(&mut self, wanted_minor: Option<u64>, asked_minor: u64) -> Option<u64> {
        use PaymentState::{Failed, Pending, Refunded, Refunding, Succeeded};
        let left = self.received_minor.saturating_sub(self.refunded_minor).saturating_sub(asked_minor);
        match (self.state, wanted_minor) {
            (Pending | Failed, _) => None,
            (Refunding | Refunded, None) => Some(0),
            (Succeeded, None) => {
                self.state = Refunding;
                Some(left)
            }
            (Succeeded, Some(wanted)) if wanted > 0 && wanted <= left => Some(wanted),
            (Succeeded | Refunding | Refunded, Some(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PaymentState::{Failed, Pending, Refunded, Refunding, Succeeded};

    const ALL: u64 = 1_000;

    fn new(state: PaymentState) -> Account {
        Account { state, received_minor: ALL, refunded_minor: 0 }
    }

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
            let mut account = new(Pending);
            for said in order {
                let _ = account.follow(said, ALL);
            }
            assert_eq!(account, Account { refunded_minor: ALL, ..new(Refunded) }, "{order:?}");
        }
    }

    /// All went back by hand and failed to reach the shopper, in whatever order it was told that
    /// more had been received than was asked for.
    #[test]
    fn a_refund_that_failed_hides_no_success() {
        for order in [[0, 1, 2], [1, 0, 2], [1, 2, 0]] {
            let mut account = new(Pending);
            for at in order {
                let said = [Said::Succeeded, Said::Refunded, Said::RefundFailed][at];
                let _ = account.follow(said, 2 * ALL);
            }
            assert!(matches!(account.state, Succeeded | Refunding), "{order:?}: {account:?}");
            assert_eq!((account.received_minor, account.refunded_minor), (2 * ALL, 0), "{order:?}");
        }
    }

    /// More was received than was asked for, and as much as was asked for went back before that was
    /// told.
    #[test]
    fn what_was_received_is_known_by_the_success_alone() {
        for order in [[Said::Refunded, Said::Succeeded], [Said::Succeeded, Said::Refunded]] {
            let mut account = new(Pending);
            for said in order {
                let amount_minor = if said == Said::Succeeded { 2 * ALL } else { ALL };
                assert!(account.follow(said, amount_minor).is_some(), "{order:?}");
            }
            let want = Account { state: Succeeded, received_minor: 2 * ALL, refunded_minor: ALL };
            assert_eq!(account, want, "{order:?}");
        }
    }

    #[test]
    fn parts_that_go_back_add_up_in_any_order() {
        for order in [[0, 1, 2], [1, 0, 2], [1, 2, 0], [2, 1, 0]] {
            let mut account = new(Pending);
            let told: Vec<_> = order
                .iter()
                .filter_map(|at| match at {
                    0 => account.follow(Said::Succeeded, ALL),
                    at => account.follow(Said::Refunded, at * 300),
                })
                .collect();
            assert_eq!(account, Account { refunded_minor: 900, ..new(Succeeded) }, "{order:?}");
            assert!(told.contains(&Told::Succeeded), "{order:?}: {told:?}");
            assert_eq!(account.follow(Said::Refunded, 100), Some(Told::Refunded));
        }
    }

    #[test]
    fn what_is_said_again_is_told_once() {
        for said in [Said::Succeeded, Said::Failed] {
            let mut account = new(Pending);
            assert!(account.follow(said, ALL).is_some());
            let after = account;
            assert_eq!((account.follow(said, ALL), account), (None, after), "{said:?}");
        }
    }

    /// The provider gives back what it could not before, because an earlier refund has failed; the
    /// news of that come later, or earlier.
    #[test]
    fn a_refund_may_be_made_before_it_is_known_that_another_has_failed() {
        for order in [[Said::Refunded, Said::RefundFailed], [Said::RefundFailed, Said::Refunded]] {
            let mut account = new(Succeeded);
            assert_eq!(account.follow(Said::Refunded, ALL), Some(Told::Refunded));
            for said in order {
                let _ = account.follow(said, 600);
            }
            assert_eq!((account.state, account.refunded_minor), (Refunded, ALL), "{order:?}");
        }
    }

    #[test]
    fn a_failure_does_not_take_a_success_back() {
        let mut account = new(Succeeded);
        assert_eq!((account.follow(Said::Failed, ALL), account.state), (None, Succeeded));
        let mut account = new(Failed);
        assert_eq!((account.follow(Said::Succeeded, ALL), account.state), (Some(Told::Succeeded), Succeeded));
    }

    #[test]
    fn only_money_that_is_there_goes_back_and_once() {
        let mut account = new(Succeeded);
        assert_eq!((account.refund(None, 0), account.state), (Some(ALL), Refunding));
        assert_eq!((account.refund(None, ALL), account.state), (Some(0), Refunding));
        assert_eq!(account.refund(Some(1), ALL), None);
        for state in [Pending, Failed] {
            assert_eq!((new(state).refund(None, 0), new(state).refund(Some(1), 0)), (None, None));
        }
        let mut account = new(Succeeded);
        assert_eq!(account.refund(Some(600), 0), Some(600));
        assert_eq!(account.refund(Some(401), 600), None, "of what is asked for already nothing is left");
        assert_eq!(account.refund(Some(0), 600), None);
        assert_eq!(account.follow(Said::Refunded, 600), Some(Told::PartRefunded));
        assert_eq!(account.refund(None, 0), Some(400));
    }
}
