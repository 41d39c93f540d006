//! What orders ask of a sale in this process, what the shop's pages show of a sale, and what
//! shoppers bring back from it.

use super::by_store;
use contracts::{
    ConfirmResult, ItemId, ItemState, OperateError, Operation, OperationDone, SaleId,
    store::{
        Asked, HoldRef, PaymentId, SaleDecision, SaleHolds, SaleReturn, SaleReturns, SaleSeen, SaleViews,
        StoreError,
    },
};
use engines::clock::Clock;
use gate::{Keyring, ports::Sales};
use std::sync::Arc;

/// The sales of this process.
pub(super) struct Holds {
    sales: Arc<dyn Sales>,
}

impl Holds {
    pub(super) fn new(sales: Arc<dyn Sales>) -> Self {
        Self { sales }
    }

    async fn operate(
        &self,
        hold: &HoldRef,
        reason: &str,
        operation: Operation,
    ) -> Result<OperationDone, StoreError> {
        let Some(sale) = self.sales.get(hold.sale.as_str()) else {
            // It may be down, or not be here yet.
            return Err(StoreError::Unavailable(format!("sale {}: it does not answer", hold.sale)));
        };
        let stopping = || StoreError::Unavailable("the sale is stopping".into());
        match sale.operate(by_store(reason), operation).await.map_err(|_| stopping())? {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(OperateError::Conflict(why))) => Err(StoreError::Conflict(why)),
            Ok(Err(OperateError::NotFound(why))) => Err(StoreError::NotFound(why)),
            Ok(Err(OperateError::Invalid(why))) => Err(StoreError::Invalid(why)),
            Err(unavailable) => Err(StoreError::Unavailable(unavailable.to_string())),
        }
    }
}

impl SaleHolds for Holds {
    fn confirm(&self, hold: HoldRef, payment: PaymentId) -> Asked<'_, SaleDecision> {
        Box::pin(async move {
            let operation = Operation::Confirm { hold: hold.hold, payment: payment.to_string() };
            match self.operate(&hold, "paid in the store", operation).await {
                Ok(OperationDone::Confirmed { result: ConfirmResult::Confirmed { .. }, .. }) => {
                    Ok(SaleDecision::Confirmed)
                }
                Ok(OperationDone::Confirmed { result: ConfirmResult::Refund, .. }) => {
                    Ok(SaleDecision::Refund)
                }
                // A sale that was restored from a copy does not know the hold: no unit is kept
                // for this payment.
                Err(StoreError::NotFound(_)) => Ok(SaleDecision::Refund),
                Err(error) => Err(error),
                Ok(other) => Err(StoreError::Invalid(format!("the sale answered a payment with {other:?}"))),
            }
        })
    }

    fn release(&self, hold: HoldRef) -> Asked<'_, ()> {
        Box::pin(async move {
            let operation = Operation::Release { hold: hold.hold };
            self.operate(&hold, "given up in the store", operation).await.map(drop)
        })
    }
}

/// The views that sales publish whenever they change, in this process or to those that joined it:
/// nothing is asked, and nothing waits.
pub(super) struct Views(pub(super) Arc<dyn Sales>);

impl SaleViews for Views {
    fn seen(&self, sale: &SaleId, item: &ItemId) -> Option<SaleSeen> {
        let view = self.0.get(sale.as_str())?.view();
        let at = view.spec.items.iter().position(|of| of.item == *item)?;
        let of = view.items.get(at)?;
        Some(SaleSeen {
            state: view.state,
            opens_at: view.opens_at,
            is_sold_out: of.state == ItemState::SoldOut && !of.waitlist_open,
        })
    }
}

/// Reads return URLs with the keys of this installation.
pub(super) struct Returns {
    pub(super) keys: Arc<Keyring>,
    pub(super) clock: Arc<dyn Clock>,
    /// The shop's own, to which the sale leads back.
    pub(super) origin: String,
}

impl SaleReturns for Returns {
    fn read(&self, signed: &str) -> Option<SaleReturn> {
        gate::read_back(&self.keys, signed, &self.origin, self.clock.now())
    }
}
