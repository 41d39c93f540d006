//! What crosses the border between contexts: requests, answers and documents that both sides must
//! read alike.
//!
//! No rule lives here, only shapes, their limits and their text forms.

mod attempt;
mod denied;
mod gate_refusal;
mod id;
mod identity_hasher;
mod item_picture;
mod mailbox;
mod operate;
mod sale_spec;
mod sale_view;
pub mod store;
mod timeline;
mod waiting;
mod winner;

pub use attempt::{
    Answer, Attempt, Basket, BasketError, Found, HoldState, HoldView, LINES_MAX, Line, LinePlace, Place,
    QUANTITY_MAX, Refusal, SHOPPER_ID_BYTES_MAX, SHOPPER_ID_FORM, SHOPPER_ID_PATTERN, SealedShopper,
    StoredAttempt, Told, is_shopper_id,
};
pub use denied::DeniedShoppers;
pub use gate_refusal::{GateRefusal, IneligibleBy, NotEligibleRange, SequenceRange, SoldOutRange};
pub use id::{AttemptId, IdError, ItemId, SaleId, ScheduleId, ShopperKey, SubscriptionId, TenantId, TopicId};
pub use identity_hasher::{IdentityBuildHasher, IdentityHasher};
pub use item_picture::{ItemPicture, PICTURE_ORIGINS_MAX};
pub use mailbox::{Mail, Mailbox};
pub use operate::{
    Actor, CommandKey, ConfirmResult, ItemStats, LIST_CHUNK_MAX, ListKind, OperateError, Operation,
    OperationDone, Pause, PauseCause, REASON_BYTES_MAX, RoundItemLimit, SaleStats, VOID_BATCH_MAX,
    VoidTarget,
};
pub use sale_spec::{
    Eligibility, ITEMS_MAX, ItemSpec, LatePayment, ROUNDS_MAX, RoundItemSpec, RoundSpec, SPEC_BYTES_MAX,
    STOCK_MAX, SaleSpec, SpecError, Waitlist,
};
pub use sale_view::{ItemState, ItemView, SaleState, SaleView};
pub use timeline::{TimelineEntry, TimelineFilter};
pub use waiting::{WaitingPlace, WaitingQuery};
pub use winner::{SaleEvent, ShopperRecord, Unavailable, Winner, WinnerEvent};
