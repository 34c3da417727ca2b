//! Turns an interruption warning or a rebalance recommendation into a poisoned pool, and tidies the
//! table once a day.
//!
//! An event's `account` is what AWS stamped; its environment comes from the registry. What can't be
//! read is an error, which ends in the dead-letter queue: nothing is written on a guess.

pub mod clean_up;
pub mod error;
pub mod event;
pub mod poison;

use serde::Serialize;
use serde_json::Value;
use spot_cloud::clients::{BadEnvironment, variable};
use spot_cloud::{Stack, accounts, instances, settings};
use spot_domain::risk::{Effect, Outcome, effect};
use spot_domain::{EnvironmentType, Pool};

use error::RiskError;
use event::{Incoming, Interruption, Notice};
use poison::RiskTable;

/// What every event needs.
#[derive(Debug)]
pub struct RiskManager {
    stack: Stack,
    table: RiskTable,
    allow_drills: bool,
}

/// What came of an event.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// Of an interruption.
    Interruption {
        /// What was done.
        outcome: Outcome,
        /// The pool, where one was looked up.
        #[serde(skip_serializing_if = "Option::is_none")]
        pool: Option<Pool>,
    },
    /// Of the daily clean-up.
    CleanUp(clean_up::Summary),
}

impl RiskManager {
    /// Reads the environment that the template sets.
    ///
    /// # Errors
    /// A variable is missing or malformed.
    pub async fn from_environment() -> Result<Self, BadEnvironment> {
        let stack = Stack::from_environment().await?;
        let table = RiskTable::new(stack.dynamodb.clone(), variable("SPOT_POOL_RISK_TABLE")?);
        Ok(Self { table, allow_drills: variable("ALLOW_DRILLS")?, stack })
    }

    /// One event.
    ///
    /// # Errors
    /// The event is malformed or can't be carried out; nothing was written.
    pub async fn handle(&self, event: Value) -> Result<Answer, RiskError> {
        let answer = match event::parse(event, self.allow_drills)? {
            Incoming::CleanUp => clean_up::run(&self.table).await.map(Answer::CleanUp),
            Incoming::Interruption(interruption) => self.interruption(&interruption).await,
        };
        match &answer {
            Ok(answer) => tracing::info!(?answer, "done"),
            Err(error) => tracing::error!(error = error.name(), "{error}"),
        }
        answer
    }

    async fn interruption(&self, event: &Interruption) -> Result<Answer, RiskError> {
        let ignored = |outcome, pool| Ok(Answer::Interruption { outcome, pool });
        let access = accounts::access(&self.stack, &event.account_id).await?;
        if access.environment_type == EnvironmentType::Lab {
            return ignored(Outcome::IgnoredLab, None);
        }
        let settings = settings::load(&self.stack, &event.account_id, &event.region).await?;
        let poison_for = match event.notice {
            Notice::InterruptionWarning => settings.poison_for(),
            Notice::RebalanceRecommendation if settings.rebalance_poisons => settings.rebalance_poison_for(),
            Notice::RebalanceRecommendation => return ignored(Outcome::IgnoredRebalance, None),
        };
        let Effect::PoisonUntil(until) = effect(event.occurred, poison_for, jiff::Timestamp::now()) else {
            return ignored(Outcome::IgnoredStale, None);
        };
        let target = self.stack.target(&access, &event.region, None).await;
        let id = &event.instance_id;
        let described = instances::describe(&target.ec2, std::slice::from_ref(id)).await?;
        let instance = described.get(id).ok_or_else(|| RiskError::InstanceUnknown(id.clone()))?;
        if !instance.is_spot {
            return ignored(Outcome::IgnoredNotSpot, None);
        }
        let az_id = match &instance.az_id {
            Some(az_id) => az_id.clone(),
            None => instances::zones(&target.ec2)
                .await?
                .remove(&instance.availability_zone)
                .ok_or_else(|| RiskError::ZoneUnknown(id.clone(), instance.availability_zone.clone()))?,
        };
        let pool =
            Pool { region: event.region.clone(), az_id, instance_type: instance.instance_type.clone() };
        let outcome = self.table.poison(&pool, event, until).await?;
        ignored(outcome, Some(pool))
    }
}
