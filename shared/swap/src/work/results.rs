//! What came of a run: the swaps that were done or undone, the instances that stay, and what ends it before its time.

use std::collections::BTreeMap;

use spot_domain::swap::journal::Undo;
use spot_domain::swap::report::{EndedBy, NotSwapped, Swapped};
use spot_domain::{InstanceId, Pool, Reason};

use super::{Current, Next, Work};
use crate::phases::gate::Refusal;

impl Work {
    /// Records why an instance stays. The run ends if the rest would meet the same fate.
    pub fn skip(&mut self, instance_id: &InstanceId, reason: Reason, detail: impl Into<String>) {
        let left = NotSwapped::new(instance_id, reason, detail);
        if reason == Reason::LaunchRejected {
            self.count_failure(&left);
        }
        self.end_if_account_wide(&left);
        self.skipped.push(left);
    }

    /// Records why nothing was launched for an instance. The run goes on if others may launch; that counts as a failure.
    pub fn skip_refused(&mut self, instance_id: &InstanceId, refusal: Refusal) {
        let Refusal { reason, detail, others_may_launch } = refusal;
        if !(others_may_launch && reason.ends_run()) {
            return self.skip(instance_id, reason, detail);
        }
        let left = NotSwapped::new(instance_id, reason, detail);
        self.count_failure(&left);
        self.skipped.push(left);
    }

    /// Decides for the rollback after a refused launch that may have launched all the same. The run goes on afterwards if
    /// others may launch.
    pub fn undo_refused(&mut self, refusal: Refusal) -> Next {
        self.others_may_launch = refusal.others_may_launch;
        self.undo(refusal.reason, refusal.detail)
    }

    /// Records a swap that was done.
    pub fn done(&mut self, swapped: Swapped) {
        self.failures_in_a_row = 0;
        self.swapped.push(swapped);
    }

    /// Records that the swap in progress was done, with the remarks on its newcomer.
    pub fn complete(&mut self, current: &Current) {
        self.done(current.swapped());
        self.remark(&current.candidate.instance_id, current.remarks.clone());
    }

    /// Returns the Spot newcomers that serve, each with its pool.
    #[must_use]
    pub fn newcomers(&self) -> BTreeMap<InstanceId, Pool> {
        let of = |swapped: &Swapped| (swapped.new_instance_id.clone(), swapped.pool.clone());
        self.swapped.iter().filter(|swapped| swapped.to.is_spot()).map(of).collect()
    }

    /// Keeps what a person has to know of the swap of `old`, for the report.
    pub fn remark(&mut self, old: &InstanceId, remarks: Vec<String>) {
        self.remarks.extend(remarks.into_iter().map(|remark| format!("swap of {old}: {remark}")));
    }

    /// Records that an instance was swapped back. The run ends if the rest would meet the same fate.
    pub fn put_back(&mut self, instance_id: &InstanceId, undo: &Undo) {
        let left = NotSwapped::new(instance_id, undo.reason, &undo.detail);
        self.count_failure(&left);
        if !self.others_may_launch {
            self.end_if_account_wide(&left);
        }
        self.rolled_back.push(left);
    }

    fn count_failure(&mut self, left: &NotSwapped) {
        self.failures_in_a_row += 1;
        if self.failures_in_a_row >= self.settings.max_failures_in_a_row {
            let (count, reason, detail) = (self.failures_in_a_row, left.reason, &left.detail);
            self.end(reason, format!("{count} swaps in a row failed, the last one by {reason}: {detail}"));
        }
    }

    fn end_if_account_wide(&mut self, left: &NotSwapped) {
        if left.reason.ends_run() {
            self.end(left.reason, left.detail.clone());
        }
    }

    /// Ends the run after what is in progress; the first reason counts.
    pub fn end(&mut self, reason: Reason, detail: String) {
        if self.ended_by.is_none() {
            self.ended_by = Some(reason);
            self.ended_because = detail;
        }
    }

    /// Ends the run, since nothing proves whose desired is. A person must know of it, whatever has ended the run before.
    pub fn end_in_doubt(&mut self, doubt: String) {
        self.ended_by = Some(Reason::CapacityInDoubt);
        self.ended_because = doubt;
    }

    /// Returns what ended the run before its time.
    #[must_use]
    pub fn ending(&self) -> Option<EndedBy> {
        Some(EndedBy { reason: self.ended_by?, detail: self.ended_because.clone() })
    }
}
