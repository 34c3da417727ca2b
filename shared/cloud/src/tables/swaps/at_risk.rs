//! The brake on rebalance recommendations: a row for each group, beside its lease. It lies in this table because the
//! responder, which alone reads and writes it, holds the right to leases anyway; and apart from the lease, because it must
//! outlive it.

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::{SignedDuration, Timestamp};
use spot_domain::response::share::{AtRisk, TooMany};
use spot_domain::{GroupArn, InstanceId};

use super::{Swaps, SwapsError, UPDATE, json, number};
use crate::error::{CallError, Kind, failed};
use crate::tables::row::number_in;

/// DynamoDB removes the row once no member in it counts any more.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(2);
/// A group's events come together: each that loses the race reads again.
const ATTEMPTS: u32 = 10;

impl Swaps {
    /// Admits the replacement of one more member of a group of `size`, if the share of the last hour allows it.
    ///
    /// # Errors
    /// The table does not answer, or the row can't be read. The inner error is the refusal.
    pub async fn admit_at_risk(
        &self,
        group: &GroupArn,
        id: &InstanceId,
        (size, percent): (usize, u32),
        now: Timestamp,
    ) -> Result<Result<(), TooMany>, SwapsError> {
        let target = format!("at-risk#{group}");
        for _ in 0..ATTEMPTS {
            let row = self.row(target.clone()).await?.unwrap_or_default();
            let malformed = |problem| SwapsError::Malformed { target: target.clone(), problem };
            let mut at_risk: AtRisk = json(&row, "at_risk").map_err(malformed)?.unwrap_or_default();
            if let Err(refused) = at_risk.admit(id, size, percent, now) {
                return Ok(Err(refused));
            }
            let read: u64 = number_in(&row, "revision").unwrap_or_default();
            match self.put_at_risk(&target, &at_risk, read, now).await {
                Err(error) if error.kind == Kind::ConditionFailed => {}
                answer => return Ok(Ok(answer?)),
            }
        }
        Err(CallError::malformed(UPDATE, format!("{target} changes at every try")).into())
    }

    async fn put_at_risk(
        &self,
        target: &str,
        at_risk: &AtRisk,
        read: u64,
        now: Timestamp,
    ) -> Result<(), CallError> {
        let text = serde_json::to_string(at_risk).map_err(|e| CallError::malformed(UPDATE, e.to_string()))?;
        let expires_at = now.saturating_add(KEPT_FOR).unwrap_or(Timestamp::MAX);
        self.dynamodb
            .update_item()
            .table_name(&self.table)
            .key("target", AttributeValue::S(target.to_owned()))
            .update_expression("SET at_risk = :at_risk, revision = :next, expires_at = :expires_at")
            .condition_expression("attribute_not_exists(revision) OR revision = :read")
            .expression_attribute_values(":at_risk", AttributeValue::S(text))
            .expression_attribute_values(":next", number(&read.saturating_add(1)))
            .expression_attribute_values(":read", number(&read))
            .expression_attribute_values(":expires_at", number(&expires_at.as_second()))
            .send()
            .await
            .map_err(failed(UPDATE))
            .map(drop)
    }
}
