//! The Sightings table: the interruptions of each account. They are the memory behind `poison_threshold_accounts`,
//! and the limit that keeps one account from poisoning everything. No member can read this table; the rows that
//! members read name no account.
//!
//! Several kinds of rows share the key (`subject`, `account_id`). The row of a pool holds the time until which the
//! account's latest interruption there would poison the pool. The row for one hour or one day, and one kind of
//! notice, holds the pools that the account has reported in that time. Each kind has its own row: rebalance
//! recommendations come in storms, and must not use up the limit of real interruptions. An account that the
//! registry doesn't know has a row for each day with a report. TTL deletes all rows.

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use jiff::Timestamp;
use spot_cloud::error::{CallError, failed};
use spot_cloud::tables::row::{self, Row, number, seconds, text, text_in, time_in, written};
use spot_domain::clock;
use spot_domain::{AccountId, Pool};

use crate::interruption::Notice;

const SUBJECT: &str = "subject";
const ACCOUNT_ID: &str = "account_id";
/// The TTL attribute of the table, in epoch seconds.
const EXPIRES_AT: &str = "expires_at";
/// The pools reported in an hour or a day (SS).
const POOLS: &str = "pools";
/// Set once a person was notified that the account is muted (BOOL).
const TOLD: &str = "told";
const UPDATE: &str = "dynamodb:UpdateItem";
const GET: &str = "dynamodb:GetItem";

/// The answer to the question if an account may poison one more pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Admission {
    /// The account may poison the pool.
    Admitted,
    /// The account has used up its limit of this hour or this day.
    Muted {
        /// The limit that is used up.
        quota: Quota,
        /// True if a person was notified.
        told: bool,
    },
}

/// The spans of the clock, UTC, that have a limit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    Hour,
    /// A day. Without its limit, an account that stays below the limit of every hour could still poison a region
    /// in two.
    Day,
}

impl Span {
    const fn seconds(self) -> i64 {
        match self {
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }

    /// Returns `hour` or `day`, as the settings' names end.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// The limit of an account's reports of one kind of notice in one hour or day. The time of arrival counts, since
/// the sender chooses an event's own time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    pub span: Span,
    /// The most pools.
    pub limit: u32,
    number: i64,
    notice: Notice,
}

impl Quota {
    fn at(now: Timestamp, notice: Notice, (span, limit): (Span, u32)) -> Self {
        Self { span, limit, number: now.as_second().div_euclid(span.seconds()), notice }
    }

    fn subject(self) -> String {
        let kind = match self.notice {
            Notice::InterruptionWarning => "interruption",
            Notice::RebalanceRecommendation => "rebalance",
        };
        format!("{}#{}#{kind}", self.span.name(), self.number)
    }

    /// Returns a time one day after the quota's end, which leaves time for an investigation.
    fn expires_at(self) -> AttributeValue {
        let end = (self.number + 1).saturating_mul(self.span.seconds());
        number(&end.saturating_add(Span::Day.seconds()))
    }
}

/// The Sightings table.
#[derive(Debug, Clone)]
pub struct Sightings {
    dynamodb: aws_sdk_dynamodb::Client,
    table: String,
}

impl Sightings {
    /// Returns the table of this name.
    #[must_use]
    pub fn new(dynamodb: aws_sdk_dynamodb::Client, table: String) -> Self {
        Self { dynamodb, table }
    }

    /// Counts `pool` among those that `account` has reported this hour and this day by this kind of `notice`. A
    /// report without news (a replay, or one that arrives late) is admitted without being counted.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn admit(
        &self,
        account: &AccountId,
        (pool, notice): (&Pool, Notice),
        until: Timestamp,
        limits: [(Span, u32); 2],
    ) -> Result<Admission, CallError> {
        if self.known(account, pool).await?.is_some_and(|known| known >= until) {
            return Ok(Admission::Admitted);
        }
        let now = clock::now();
        for limit in limits {
            let admission = self.count(account, pool, Quota::at(now, notice, limit)).await?;
            if let Admission::Muted { .. } = admission {
                return Ok(admission);
            }
        }
        Ok(Admission::Admitted)
    }

    async fn count(&self, account: &AccountId, pool: &Pool, quota: Quota) -> Result<Admission, CallError> {
        let answer = self
            .update(&quota.subject(), account)
            .update_expression(format!("ADD {POOLS} :pools SET {EXPIRES_AT} = :expires"))
            .condition_expression(format!(
                "attribute_not_exists({POOLS}) OR size({POOLS}) < :limit OR contains({POOLS}, :pool)"
            ))
            .expression_attribute_values(":pools", AttributeValue::Ss(vec![pool.to_string()]))
            .expression_attribute_values(":pool", text(pool))
            .expression_attribute_values(":limit", number(&quota.limit))
            .expression_attribute_values(":expires", quota.expires_at())
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let Err(error) = answer else { return Ok(Admission::Admitted) };
        if let Some(UpdateItemError::ConditionalCheckFailedException(full)) = error.as_service_error() {
            let told = full.item().is_some_and(|row| row.contains_key(TOLD));
            return Ok(Admission::Muted { quota, told });
        }
        Err(CallError::new(UPDATE, error))
    }

    /// Notes that a person was notified of the muted account.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn told(&self, account: &AccountId, quota: Quota) -> Result<(), CallError> {
        self.update(&quota.subject(), account)
            .update_expression(format!("SET {TOLD} = :true, {EXPIRES_AT} = :expires"))
            .expression_attribute_values(":true", AttributeValue::Bool(true))
            .expression_attribute_values(":expires", quota.expires_at())
            .send()
            .await
            .map(drop)
            .map_err(failed(UPDATE))
    }

    /// Returns true if a person was notified today that this account reports and is not registered.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn is_told_today(&self, account: &AccountId) -> Result<bool, CallError> {
        let answer = self.row(&unregistered(today()), account).await?;
        Ok(answer.is_some())
    }

    /// Notes that a person was notified today of an account that is not registered.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn told_today(&self, account: &AccountId) -> Result<(), CallError> {
        let expires = (today() + 2).saturating_mul(Span::Day.seconds());
        self.update(&unregistered(today()), account)
            .update_expression(format!("SET {EXPIRES_AT} = :expires"))
            .expression_attribute_values(":expires", number(&expires))
            .send()
            .await
            .map(drop)
            .map_err(failed(UPDATE))
    }

    /// Records that an interruption of `account` poisons `pool` until `until`. A later time in the row stays.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn record(&self, account: &AccountId, pool: &Pool, until: Timestamp) -> Result<(), CallError> {
        let answer = self
            .update(&pool.to_string(), account)
            .update_expression(format!("SET {EXPIRES_AT} = :until"))
            .condition_expression(format!("attribute_not_exists({EXPIRES_AT}) OR {EXPIRES_AT} < :until"))
            .expression_attribute_values(":until", seconds(until))
            .send()
            .await
            .map_err(failed(UPDATE));
        written(answer).map(drop)
    }

    /// Returns every account that was interrupted in `pool`, with the time until which its interruption would
    /// poison the pool.
    ///
    /// # Errors
    /// The table does not answer, or a row can't be read.
    pub async fn of(&self, pool: &Pool) -> Result<Vec<(String, Timestamp)>, CallError> {
        let call = "dynamodb:Query";
        let mut rows = self
            .dynamodb
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression(format!("{SUBJECT} = :pool"))
            .expression_attribute_values(":pool", text(pool))
            .into_paginator()
            .items()
            .send();
        let mut sightings = Vec::new();
        while let Some(row) = rows.next().await {
            let row = row.map_err(failed(call))?;
            sightings.push(parse(&row).map_err(|attribute| malformed(call, pool, attribute))?);
        }
        Ok(sightings)
    }

    async fn known(&self, account: &AccountId, pool: &Pool) -> Result<Option<Timestamp>, CallError> {
        let row = self.row(&pool.to_string(), account).await?;
        row.map(|row| time_in(&row, EXPIRES_AT).ok_or_else(|| malformed(GET, pool, EXPIRES_AT))).transpose()
    }

    async fn row(&self, subject: &str, account: &AccountId) -> Result<Option<Row>, CallError> {
        let answer = self
            .dynamodb
            .get_item()
            .table_name(&self.table)
            .set_key(Some(row::key([(SUBJECT, subject), (ACCOUNT_ID, account.as_str())])))
            .consistent_read(true)
            .send()
            .await
            .map_err(failed(GET))?;
        Ok(answer.item)
    }

    fn update(&self, subject: &str, account: &AccountId) -> UpdateItemFluentBuilder {
        self.dynamodb
            .update_item()
            .table_name(&self.table)
            .set_key(Some(row::key([(SUBJECT, subject), (ACCOUNT_ID, account.as_str())])))
    }
}

fn today() -> i64 {
    clock::now().as_second().div_euclid(Span::Day.seconds())
}

fn unregistered(day: i64) -> String {
    format!("unregistered#{day}")
}

/// Reads the row of a pool: the account, and the time until which its interruption would poison the pool.
///
/// # Errors
/// The attribute that is missing or malformed.
pub fn parse(row: &Row) -> Result<(String, Timestamp), &'static str> {
    let account = text_in(row, ACCOUNT_ID).ok_or(ACCOUNT_ID)?;
    Ok((account.clone(), time_in(row, EXPIRES_AT).ok_or(EXPIRES_AT)?))
}

fn malformed(call: &'static str, pool: &Pool, attribute: &str) -> CallError {
    CallError::malformed(call, format!("Sightings of {pool}: {attribute:?} is missing or malformed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_and_a_kind_have_a_quota_of_their_own_which_goes_a_day_after_its_end() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let quota = |second, notice, span| Quota::at(at(second), notice, (span, 50));
        let (interruption, rebalance) = (Notice::InterruptionWarning, Notice::RebalanceRecommendation);
        assert_eq!(quota(7_200, interruption, Span::Hour).subject(), "hour#2#interruption");
        assert_eq!(quota(10_799, interruption, Span::Hour), quota(7_200, interruption, Span::Hour));
        assert_eq!(quota(10_800, interruption, Span::Hour).subject(), "hour#3#interruption");
        assert_eq!(quota(7_200, rebalance, Span::Hour).subject(), "hour#2#rebalance");
        assert_eq!(quota(86_399, rebalance, Span::Day).subject(), "day#0#rebalance");
        assert_eq!(quota(86_400, rebalance, Span::Day).subject(), "day#1#rebalance");
        let expires = |span| quota(7_200, rebalance, span).expires_at();
        assert_eq!(expires(Span::Hour), AttributeValue::N((10_800 + 86_400).to_string()));
        assert_eq!(expires(Span::Day), AttributeValue::N((2 * 86_400).to_string()));
    }
}
