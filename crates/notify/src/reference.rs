//! The table of all operations, and its documents: the OpenAPI document, and the page of problems.

use crate::{api, pages, parts::Parts, problem};
use contracts::{ScheduleId, SubscriptionId, TopicId};
use std::sync::{Arc, LazyLock};
use web::{
    openapi::{About, Listener, PathParameter},
    operation::{Callers, Operation, Row, schema_of},
    page::{STYLE, StaticFile, statics},
    reference::{self, Reference},
};

static ABOUT: About = About {
    title: "Floodgate Notify",
    summary: "A message service: an event is posted once, stored durably, and delivered to each subscription.",
    description: "Events are CloudEvents 1.0, and deliveries are signed as Standard Webhooks has it. Events of one key (`partitionkey`, or \
                  else `subject`) reach a subscription in the order in which they were stored, also across retries. Deliveries are at \
                  least once: an endpoint knows a repeated one by its `webhook-id`.",
    listeners: &[Listener {
        callers: Callers::Operators,
        tag: "notify",
        url: "http://127.0.0.1:8082",
        description: "The message service's listener.",
    }],
    path_parameters: &[
        PathParameter { name: "topic", means: "The topic's name.", schema: schema_of::<TopicId> },
        PathParameter {
            name: "subscription",
            means: "The subscription's name.",
            schema: schema_of::<SubscriptionId>,
        },
        PathParameter { name: "schedule", means: "The schedule's name.", schema: schema_of::<ScheduleId> },
        PathParameter {
            name: "number",
            means: "The event's number within its topic.",
            schema: schema_of::<u64>,
        },
    ],
};

/// What pages load.
static FILES: &[&StaticFile] = &[&STYLE];

/// The operations of the listener.
pub(crate) fn operations_served() -> Vec<Operation<Parts>> {
    let mut all = api::operations();
    all.extend(pages::pages());
    all.extend(statics(FILES));
    all.extend(reference::operations(reference()));
    all
}

/// The rows of all operations of the listener, pages and files included.
pub fn operations() -> Vec<(Callers, Row)> {
    rows(operations_served())
}

fn rows(operations: Vec<Operation<Parts>>) -> Vec<(Callers, Row)> {
    operations.into_iter().map(|operation| (Callers::Operators, operation.row)).collect()
}

/// The ids of the operations of the API.
pub(crate) fn ids() -> Vec<&'static str> {
    operations().iter().filter(|(_, row)| row.is_described()).map(|(_, row)| row.id).collect()
}

/// The documents of the operations.
pub fn reference() -> &'static Arc<Reference> {
    static REFERENCE: LazyLock<Arc<Reference>> = LazyLock::new(|| {
        let mut operations = api::operations();
        // The operations of the reference are in it too.
        operations.extend(reference::operations(&Arc::new(Reference::empty())));
        Arc::new(Reference::new(&ABOUT, &rows(operations), &problem::all_kinds()))
    });
    &REFERENCE
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = include_str!("../../../openapi/notify.json");

    #[test]
    fn the_document_in_the_repository_follows_from_the_table() {
        assert!(
            DOCUMENT == reference().openapi(),
            "openapi/notify.json is not made from the table: cargo xtask openapi"
        );
    }
}
