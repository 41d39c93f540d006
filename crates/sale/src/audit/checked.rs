//! The auditor as the runtime drives it, and what each verdict is based on.

use super::auditor::{Auditor, IDS, Item};
use crate::core::{Core, Entry};
use runtime::audit::{Audited, Findings};
use units::Sequence;

impl runtime::audit::Auditor for Auditor {
    type Machine = Core;

    fn entry(&mut self, sequence: Sequence, entry: &Entry) {
        self.entry(sequence, entry);
    }

    fn end(&mut self, end: Sequence, core: Option<&Core>) {
        // A process may end between two batches of promotions, and the next one goes on with them.
        let owed: Vec<u16> = core.into_iter().flat_map(Core::owed_items).collect();
        self.checked.owes_promotions = !owed.is_empty();
        self.nobody_waits_for_what_is_free(end, &owed);
        self.ends_in_time(end);
        let Some(stats) = core.map(Core::stats) else { return };
        let same_items = stats.items.len() == self.items.len();
        self.check(7, same_items, end, || "the core has other items".into());
        let (ours, cores) = (self.refunds_due, stats.refunds_due);
        self.check(7, ours == cores, end, || format!("{ours} refunds are due here, {cores} in the core"));
        for (at, s) in stats.items.iter().enumerate() {
            let ours = self.items.get(at).map(Item::figures);
            let cores = [
                i128::from(s.initial),
                i128::from(s.adjustments),
                i128::from(s.free),
                i128::from(s.held),
                i128::from(s.sold),
                i128::from(s.waiting),
            ];
            self.check(7, ours == Some(cores), end, || {
                format!("item {}: {ours:?} here, {cores:?} in the core", s.item)
            });
        }
    }

    fn findings(&mut self) -> &mut Findings {
        &mut self.findings
    }

    fn checked(&self, audited: &Audited) -> Vec<(&'static str, String)> {
        IDS.into_iter().zip(proven(self, audited)).collect()
    }
}

/// What was checked for each invariant, if nothing breaks it.
fn proven(auditor: &Auditor, audited: &Audited) -> [String; 7] {
    let entries = audited.entries;
    let c = &auditor.checked;
    let mut refusals = format!("{} refusals true of the sale as of their sequence", c.refusals_of_sale);
    if c.refusals_of_somebody > 0 {
        refusals.push_str(&format!(
            "; {} (limit_reached, not_eligible, not_open of an item) depend on who asked for what, which the log does not hold: \
             it shows only that the sale had such a rule",
            c.refusals_of_somebody
        ));
    }
    if c.refusals_disk_full > 0 {
        refusals.push_str(&format!(
            "; {} were told paused while nothing could be written, of which the log has the count only",
            c.refusals_disk_full
        ));
    }
    let owed = match c.owes_promotions {
        true => "; the log ends between two promotions, and the next start goes on with them",
        false => "",
    };
    let snapshot = match audited.snapshot_compared {
        true => "; the stored snapshot has the replay's bytes",
        false => "; no snapshot was stored by this version",
    };
    [
        format!("never more held and sold than put up: checked behind {} movements of stock", c.stock),
        format!(
            "{} journalled sold_out, none while that much was free; nobody waited for what was free at any entry, \
             and no hold outlasted its time{owed}",
            c.sold_out
        ),
        format!(
            "{} grants, places and late payments recounted per shopper, item, round and sale; {} new ones held against \
             eligibility and deny list, {} places against the waitlist's length",
            c.limits, c.answers, c.places
        ),
        format!(
            "{} answers, each said once and while its round was open; each hold's steps legal and in time, {} expiries not \
             before their pay_by; {refusals}",
            c.answers, c.expiries
        ),
        format!("{} grants, promotions and late payments, none past somebody who waited and fitted", c.order),
        format!("initial + adjustments = free + held + sold behind {} movements", c.stock),
        format!("{entries} entries replayed: the core's figures are the auditor's{snapshot}"),
    ]
}
