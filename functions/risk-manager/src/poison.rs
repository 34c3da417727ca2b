//! The writes to the SpotPoolRisk table. The rule "expiry only ever moves forward" is one conditional update, so
//! that concurrent and repeated events need no lock.

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use jiff::Timestamp;
use spot_cloud::error::{CallError, failed};
use spot_cloud::tables::risk_pools::{
    CAUSE, INTERRUPTIONS, IS_POISONED, POISON_EXPIRES_AT, POISONED_AT, POOL, parse,
};
use spot_cloud::tables::row::{number, seconds, text, text_in, written};
use spot_domain::Pool;
use spot_domain::risk::poison::EventOutcome;

use crate::error::RiskError;
use crate::interruption::Notice;

const UPDATE: &str = "dynamodb:UpdateItem";

/// The cause of a pool's poison. The cause does not name the instance's owner: members read these rows.
#[derive(Debug, Clone)]
pub struct Cause {
    pub pool: Pool,
    pub notice: Notice,
    /// The time of the notice itself.
    pub occurred: Timestamp,
    /// Set for a drill, which is no real notice.
    pub is_drill: bool,
}

/// The SpotPoolRisk table.
#[derive(Debug, Clone)]
pub struct RiskTable {
    dynamodb: aws_sdk_dynamodb::Client,
    table: String,
}

impl RiskTable {
    /// Returns the table of this name.
    #[must_use]
    pub fn new(dynamodb: aws_sdk_dynamodb::Client, table: String) -> Self {
        Self { dynamodb, table }
    }

    /// Poisons the pool until `until`, unless it is poisoned that long already.
    ///
    /// # Errors
    /// The table does not answer, or the pool's row can't be read.
    pub async fn poison(&self, because: &Cause, until: Timestamp) -> Result<EventOutcome, RiskError> {
        let Cause { pool, notice, occurred, is_drill } = because;
        let cause = format!("{}{}", if *is_drill { "drill: " } else { "" }, notice.detail_type());
        let answer = self
            .update(&pool.to_string())
            .update_expression(format!(
                "SET {IS_POISONED} = :true, {POISONED_AT} = :at, {POISON_EXPIRES_AT} = :until, {CAUSE} = :cause \
                 ADD {INTERRUPTIONS} :one"
            ))
            .condition_expression(format!("attribute_not_exists({POISON_EXPIRES_AT}) OR {POISON_EXPIRES_AT} < :until"))
            .expression_attribute_values(":true", AttributeValue::Bool(true))
            .expression_attribute_values(":at", seconds(*occurred))
            .expression_attribute_values(":until", seconds(until))
            .expression_attribute_values(":cause", text(&cause))
            .expression_attribute_values(":one", number(&1))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let Err(error) = answer else { return Ok(EventOutcome::Poisoned) };
        if let Some(UpdateItemError::ConditionalCheckFailedException(refused)) = error.as_service_error() {
            // A row with a malformed expiry fails the condition too, and must not count as poisoned for long
            // enough.
            let existing = refused.item().map(|row| parse(&pool.to_string(), row)).transpose()?;
            tracing::info!(%pool, ?existing, "poisoned for at least as long");
            return Ok(EventOutcome::AlreadyPoisoned);
        }
        Err(CallError::new(UPDATE, error).into())
    }

    /// Returns all rows with `is_poisoned`: the key, and the expiry if it can be read.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn poisoned(&self) -> Result<Vec<(String, Option<Timestamp>)>, CallError> {
        let mut pages = self
            .dynamodb
            .scan()
            .table_name(&self.table)
            .filter_expression(format!("{IS_POISONED} = :true"))
            .expression_attribute_values(":true", AttributeValue::Bool(true))
            .into_paginator()
            .items()
            .send();
        let mut rows = Vec::new();
        while let Some(row) = pages.next().await {
            let row = row.map_err(failed("dynamodb:Scan"))?;
            if let Some(pool) = text_in(&row, POOL) {
                rows.push((pool.clone(), parse(pool, &row).ok().map(|poison| poison.expires_at)));
            }
        }
        Ok(rows)
    }

    /// Clears `is_poisoned`, unless the pool has been poisoned anew since it was read.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn clear(&self, pool: &str, expired_at: Timestamp) -> Result<bool, CallError> {
        let answer = self
            .update(pool)
            .update_expression(format!("SET {IS_POISONED} = :false"))
            .condition_expression(format!("{POISON_EXPIRES_AT} = :expired"))
            .expression_attribute_values(":false", AttributeValue::Bool(false))
            .expression_attribute_values(":expired", seconds(expired_at))
            .send()
            .await
            .map_err(failed(UPDATE));
        written(answer)
    }

    fn update(&self, pool: &str) -> UpdateItemFluentBuilder {
        self.dynamodb.update_item().table_name(&self.table).key(POOL, text(pool))
    }
}
