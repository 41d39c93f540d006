//! The operators' API, on a separate listener. Nothing here can be reached through the shop's
//! listener. Roles are checked before a handler is called, by the table of operations.

mod caller;
mod change;
mod denied;
mod draft_pages;
mod drafts;
mod feed;
mod health;
mod lists;
mod operate;
mod pages;
mod refusals;
mod sales;
mod says;
mod strategy;
mod timeline;
mod waitlist;

use crate::{
    parts::Parts,
    problem::{CONFLICT, DRAFT_CHANGED, INVALID, NOT_FOUND, QUEUE_FULL, UNAVAILABLE},
    strategy::Plan,
    winners::{RefundLine, WinnerLine},
};
use contracts::{SaleSpec, SaleStats};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use web::{
    api_keys::Role,
    operation::{Access, Field, Operation, Text, delete, get, post, put, schema_of},
    page::statics,
    reason::{NeededReason, Reason},
    sign_in,
};

const READ: Access = Access::Role(Role::ReadOnly);
const OPERATE: Access = Access::Role(Role::Operator);
const OWN: Access = Access::Role(Role::Owner);

/// The operations of the admin listener.
pub(crate) fn operations() -> Vec<Operation<Parts>> {
    let mut operations = of_sales();
    operations.extend(of_the_door());
    operations.extend(of_a_gate());
    operations
}

/// The operations on sales.
fn of_sales() -> Vec<Operation<Parts>> {
    const SALE: &str = "/api/v1/admin/sales/{sale}";
    const DRAFT: &str = "/api/v1/admin/sales/{sale}/draft";
    // The problems that any command to a sale may meet.
    let commanded = [&NOT_FOUND, &CONFLICT, &INVALID, &QUEUE_FULL, &UNAVAILABLE];
    vec![
        get("/api/v1/admin/sales", "listSales", READ, sales::list)
            .does("All sales, also those that have not opened, and all drafts.")
            .replies::<sales::SaleList>("The sales, by name, and the drafts."),
        get(SALE, "readDefinition", READ, sales::read)
            .does("A sale's whole definition, all rounds, and what it means in words.")
            .replies::<sales::DefinedSale>("The definition.")
            .problems(&[&NOT_FOUND, &QUEUE_FULL, &UNAVAILABLE]),
        put(SALE, "defineSale", OWN, operate::define)
            .does("Sets a sale up, or changes it as long as no round has opened.")
            .query::<ReasonQuery>()
            .takes::<SaleSpec>()
            .replies::<Done>("Done.")
            .problems(&commanded),
        expecting(
            delete(SALE, "deleteSale", OWN, drafts::delete)
                .does(
                    "Deletes a draft, or a sale that never opened and in whose log no shopper has an entry, \
                      with all of its files.",
                )
                .query::<NeededReasonQuery>()
                .replies::<Done>("It is deleted.")
                .problems(&commanded),
        ),
        get(DRAFT, "readDraft", READ, drafts::read)
            .does("A draft with its document, and what must be corrected before it can be published.")
            .replies::<drafts::DraftedSale>("The draft.")
            .with_field::<Text>("ETag", TAG)
            .problems(&[&NOT_FOUND, &INVALID]),
        expecting(
            put(DRAFT, "saveDraft", OPERATE, drafts::save)
                .does(
                    "Saves a sale's document as a draft, which only operators see. It need not be valid or \
                      complete. Replaces an earlier draft of this name.",
                )
                .query::<ReasonQuery>()
                .takes::<drafts::DraftDefinition>()
                .replies::<drafts::DraftedSale>("The draft as it is saved.")
                .with_field::<Text>("ETag", TAG)
                .problems(&[&CONFLICT, &INVALID, &UNAVAILABLE]),
        ),
        expecting(
            post("/api/v1/admin/sales/{sale}/copy", "copySale", OPERATE, drafts::copy)
                .does(
                    "Copies the document of a draft or, with `If-None-Match: *` or if there is none, of a \
                     sale to a draft of another name. Idempotent.",
                )
                .takes::<drafts::CopyTo>()
                .replies::<drafts::DraftedSale>("The copy.")
                .with_field::<Text>("ETag", TAG)
                .problems(&[&NOT_FOUND, &CONFLICT, &INVALID, &UNAVAILABLE]),
        ),
        expecting(
            post("/api/v1/admin/sales/{sale}/publish", "publishDraft", OWN, drafts::publish)
                .does("Makes a draft the sale of its name, which shoppers see from now on. Idempotent.")
                .takes::<operate::WithNeededReason>()
                .replies::<Done>("Done, or already so.")
                .problems(&commanded),
        ),
        once(
            post("/api/v1/admin/sales/{sale}/open", "openSale", OPERATE, operate::open)
                .does("Opens the next round now.")
                .may_take::<operate::WithReason>()
                .replies::<Done>("Done, or already so.")
                .problems(&commanded),
        ),
        once(
            post("/api/v1/admin/sales/{sale}/pause", "pauseSale", OPERATE, operate::pause)
                .does("Pauses the sale.")
                .may_take::<operate::WithReason>()
                .replies::<Done>("Done, or already so.")
                .problems(&commanded),
        ),
        once(
            post("/api/v1/admin/sales/{sale}/resume", "resumeSale", OPERATE, operate::resume)
                .does("Resumes the sale after a pause.")
                .may_take::<operate::WithReason>()
                .replies::<Done>("Done, or already so.")
                .problems(&commanded),
        ),
        once(
            post("/api/v1/admin/sales/{sale}/close", "closeSale", OPERATE, operate::close)
                .does("Ends the open round now.")
                .takes::<operate::WithNeededReason>()
                .replies::<Done>("Done, or already so.")
                .problems(&commanded),
        ),
        once(
            post("/api/v1/admin/sales/{sale}/extend", "extendSale", OPERATE, operate::extend)
                .does("Moves the end of the open round.")
                .takes::<operate::Extend>()
                .replies::<Done>("Done, or already so.")
                .problems(&commanded),
        ),
        once(
            post("/api/v1/admin/sales/{sale}/limits", "limitsSale", OPERATE, operate::limits)
                .does("Changes limits per shopper.")
                .takes::<operate::Limits>()
                .replies::<Done>("Done, or already so.")
                .problems(&commanded),
        ),
        once(
            post("/api/v1/admin/sales/{sale}/rate", "rateSale", OPERATE, operate::rate)
                .does("Changes how many attempts are admitted a second.")
                .takes::<operate::Rate>()
                .replies::<Done>("Done, or already so.")
                .problems(&commanded),
        ),
        once(
            post("/api/v1/admin/sales/{sale}/items/{item}/adjust", "adjustStock", OPERATE, operate::adjust)
                .does("Adds or removes stock, never below what is held and sold.")
                .takes::<operate::Adjust>()
                .replies::<operate::Adjusted>("The item's free units now.")
                .problems(&commanded),
        ),
        once(
            post("/api/v1/admin/sales/{sale}/void", "voidAttempts", OPERATE, operate::void)
                .does("Takes back what a shopper or attempts have, and returns the stock. Idempotent.")
                .takes::<operate::Void>()
                .replies::<operate::Voided>("How many were voided; the others had already ended.")
                .problems(&commanded),
        ),
        once(
            post("/api/v1/admin/sales/{sale}/end-waitlist", "endWaitlist", OPERATE, operate::end_waitlist)
                .does("Ends the waitlists for good: all who wait leave, and no place is given any more.")
                .takes::<operate::WithNeededReason>()
                .replies::<Done>("Done, or already so.")
                .problems(&commanded),
        ),
        put("/api/v1/admin/sales/{sale}/list", "uploadList", OPERATE, lists::allowed)
            .does("The shoppers who may buy, where eligibility is a list. Replaces the list.")
            .query::<ReasonQuery>()
            .takes_as::<lists::ShopperIds>("text/plain")
            .replies::<lists::Uploaded>("How many shoppers the list has.")
            .problems(&commanded),
        put("/api/v1/admin/sales/{sale}/denylist", "uploadDenylist", OPERATE, lists::denied)
            .does(
                "The shoppers who may not buy. Replaces the list. The new list is in force when this \
                  answers; gates in other processes may refuse a shopper who was removed from it for some \
                  milliseconds more.",
            )
            .query::<NeededReasonQuery>()
            .takes_as::<lists::ShopperIds>("text/plain")
            .replies::<lists::Uploaded>("How many shoppers the list has.")
            .problems(&commanded),
        get("/api/v1/admin/sales/{sale}/stats", "readStats", READ, operate::stats)
            .does("The sale in figures.")
            .replies::<SaleStats>("The figures.")
            .problems(&[&NOT_FOUND, &QUEUE_FULL, &UNAVAILABLE]),
        get("/api/v1/admin/sales/{sale}/log", "readLog", READ, timeline::read)
            .does("The sale's log in words: who did what, when and why, by page.")
            .query::<timeline::TimelineQuery>()
            .replies::<timeline::TimelinePage>("A page of the log.")
            .problems(&[&NOT_FOUND, &CONFLICT, &INVALID, &QUEUE_FULL, &UNAVAILABLE]),
        get("/api/v1/admin/sales/{sale}/waitlist", "readWaitlist", READ, waitlist::read)
            .does("Who waits, in the order in which the places were given, by page.")
            .query::<waitlist::WaitlistQuery>()
            .replies::<waitlist::WaitlistPage>("A page of those who wait.")
            .problems(&[&NOT_FOUND, &INVALID, &QUEUE_FULL, &UNAVAILABLE]),
        get("/api/v1/admin/sales/{sale}/winners.ndjson", "readWinners", READ, feed::winners)
            .does("What happened to holds after a sequence, in order, as signed lines.")
            .query::<feed::FeedQuery>()
            .replies_as::<WinnerLine<'static>>("application/x-ndjson", "A line for each event.")
            .with_field::<Text>(
                "Floodgate-Log",
                "The id of the log that the lines are from; send it as `log` in the next request.",
            )
            .problems(&[&NOT_FOUND, &CONFLICT, &UNAVAILABLE]),
        get("/api/v1/admin/sales/{sale}/refunds.ndjson", "readRefunds", READ, feed::refunds)
            .does("The payments after a sequence that bought nothing and must be refunded, in order, as signed lines.")
            .query::<feed::FeedQuery>()
            .replies_as::<RefundLine<'static>>("application/x-ndjson", "A line for each payment.")
            .with_field::<Text>(
                "Floodgate-Log",
                "The id of the log that the lines are from; send it as `log` in the next request.",
            )
            .problems(&[&NOT_FOUND, &CONFLICT, &UNAVAILABLE]),
        post("/api/v1/admin/holds/{hold}/confirm", "confirmHold", OPERATE, operate::confirm)
            .does("Records the payment of a hold. Idempotent.")
            .takes::<operate::Payment>()
            .replies::<operate::Confirmed>("Confirmed: the units are the shopper's. Refund: they are not.")
            .problems(&commanded),
        post("/api/v1/admin/holds/{hold}/release", "releaseHold", OPERATE, operate::release)
            .does("Releases the hold, or the place on the waitlist. Idempotent.")
            .may_take::<operate::WithReason>()
            .replies::<operate::Released>("The hold now; null for a place.")
            .problems(&commanded),
    ]
}

/// Adds the optional Idempotency-Key to a command that is not idempotent by itself.
fn once(mut operation: Operation<Parts>) -> Operation<Parts> {
    operation.row.fields.push(Field {
        name: "Idempotency-Key",
        means: "New for each command, the same for each retry of it: the command is carried out once, and a \
                retry gets the same answer; the same key with another command is 409. The sale remembers the \
                last 4,096 keys.",
        schema: schema_of::<caller::CommandKeyField>(),
        is_required: false,
    });
    operation
}

const TAG: &str = "The document's revision, in quotation marks.";

/// Adds the optional fields that tie a change to the draft that the caller has read.
fn expecting(mut operation: Operation<Parts>) -> Operation<Parts> {
    let field = |name, means| Field { name, means, schema: schema_of::<Text>(), is_required: false };
    operation.row.fields.push(field(
        "If-Match",
        "The `ETag` of the draft that was read, or `*` for any draft. If the draft is another one now, the \
         answer is 412, and nothing is done; the same document again is answered with 200.",
    ));
    operation.row.fields.push(field(
        "If-None-Match",
        "`*`: there is no draft of this name. If there is one, the answer is 412, and nothing is done; \
         the same document again is answered with 200.",
    ));
    operation.problems(&[&DRAFT_CHANGED])
}

/// The operations on the gate.
fn of_the_door() -> Vec<Operation<Parts>> {
    const STRATEGY: &str = "/api/v1/admin/strategy";
    const DENIED: &str = "/api/v1/admin/denied-networks";
    vec![
        get(STRATEGY, "readStrategy", READ, strategy::read)
            .does("How strict the gate is: the order, and the present state.")
            .replies::<strategy::Standing>(
                "The plan in force, who ordered it, the stage, the load, and \
                  each sale's rate and queue.",
            ),
        put(STRATEGY, "orderStrategy", OPERATE, strategy::order)
            .does("Replaces the plan. It is in force when this answers, and after a restart.")
            .query::<NeededReasonQuery>()
            .takes::<Plan>()
            .replies::<Done>("It is in force.")
            .problems(&[&UNAVAILABLE]),
        get(DENIED, "listDeniedNetworks", READ, denied::list)
            .does("The networks that the shop's listener refuses, oldest first.")
            .replies::<denied::DeniedNetworks>("The denied networks."),
        put(DENIED, "addDeniedNetworks", OPERATE, denied::add)
            .does(
                "Denies networks, in addition to those that are denied already, which stay as they are. \
                  It is in force when this answers, and after a restart. Addresses that are exempt or \
                  trusted proxies are never denied.",
            )
            .takes::<denied::Add>()
            .replies::<denied::Added>("It is in force.")
            .problems(&[&CONFLICT, &UNAVAILABLE]),
        delete(DENIED, "removeDeniedNetwork", OPERATE, denied::remove)
            .does("Removes a network from the list, which must contain it.")
            .query::<denied::Remove>()
            .replies::<Done>("It is in force.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE]),
    ]
}

/// The operations that concern one process, whether it has the sales or not.
pub(crate) fn of_a_gate() -> Vec<Operation<Parts>> {
    let mut operations = vec![
        get("/api/v1/admin/refusals", "readRefusals", READ, refusals::read)
            .does("Why the gate refused an address or a shopper, as far as it remembers.")
            .query::<refusals::RefusalQuery>()
            .replies::<refusals::Refusals>(
                "The refusals: none for an address or a shopper that was not \
                  refused, or whose refusals are forgotten.",
            ),
    ];
    operations.extend(web::health::operations(health::readyz, health::metrics));
    operations
}

/// What the OpenAPI document does not describe: pages, and the files that they load.
pub(crate) fn pages() -> Vec<Operation<Parts>> {
    let mut operations = vec![
        get("/", "showSales", READ, pages::sales),
        get("/sales/{sale}/waitlist", "showWaitlist", READ, waitlist::show),
        get("/drafts", "showDrafts", READ, draft_pages::list),
        get("/drafts/{sale}/document", "showDraft", READ, draft_pages::document),
        post("/drafts/save", "saveDraftForm", OPERATE, draft_pages::save).form(),
        post("/drafts/copy", "copyForm", OPERATE, draft_pages::copy).form(),
        post("/drafts/publish", "publishForm", OWN, draft_pages::publish).form(),
        post("/drafts/delete", "deleteForm", OWN, draft_pages::delete).form(),
    ];
    operations.extend(sign_in::operations("/"));
    operations.extend(statics(crate::page::FILES));
    operations
}

/// The reason of an operation in its query, if its body is something else.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "it is only described: `Reasons` reads it")]
struct ReasonQuery {
    #[serde(default)]
    reason: Reason,
}

/// The same, where a reason is needed.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "it is only described: `Reasons` reads it")]
struct NeededReasonQuery {
    reason: NeededReason,
}

/// The command was carried out.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Done {
    #[schemars(extend("const" = true))]
    done: bool,
}

impl Done {
    const DONE: Self = Self { done: true };
}
