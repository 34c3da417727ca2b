//! Whose turn it is: the last step of an execution that has ended may still be at work.

use jiff::SignedDuration;

use super::{Oracles, SWAPS};
use crate::executions::Executions;
use crate::tables::Tables;
use crate::virtual_time::now;
use crate::wire::ApiCall;
use crate::world::is_read;

/// The `Timeout` of the steps' functions in `template.yaml`.
const LAST_STEP_ENDS_AFTER: SignedDuration = SignedDuration::from_secs(60);

impl Oracles {
    /// Asks what must hold as the reconciler writes to a row: the execution that owns it has ended, and so has its last step.
    pub fn before_take_over(&mut self, call: &ApiCall, by: &str, tables: &Tables, executions: &Executions) {
        if !by.starts_with("Reconciler") || is_read(call) || call.body_text("TableName") != SWAPS {
            return;
        }
        let target = call.json()["Key"]["target"]["S"].as_str().unwrap_or_default();
        let row = tables.item(SWAPS, target, None);
        let owner = row.and_then(|row| row.get("lease_owner")).and_then(|owner| owner.as_s());
        let Some(record) = owner.and_then(|owner| executions.get(owner)) else { return };
        let has_ended =
            record.ended.as_ref().is_some_and(|(at, _)| now().duration_since(*at) >= LAST_STEP_ENDS_AFTER);
        self.holds(has_ended, || {
            format!("the reconciler writes to {target}, and a step of {} may be at work", record.name)
        });
    }
}
