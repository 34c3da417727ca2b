//! The risk manager: turns an interruption warning or a rebalance recommendation into a poisoned pool, and cleans
//! up the table once a day. In a member it also reports to the hub. In a hub it accepts the reports of its
//! members.
//!
//! An event's `account` is the one that AWS stamped; its environment comes from the registry. Data that can't be
//! read is an error, which ends in the dead-letter queue: nothing is written on a guess.

pub mod clean_up;
pub mod error;
pub mod event;
pub mod hub;
pub mod interruption;
pub mod lab;
pub mod measure;
pub mod poison;
pub mod pool;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use spot_cloud::Stack;
use spot_cloud::announcements::Announcements;
use spot_cloud::environment::{BadEnvironment, variable};
use spot_cloud::hub::StackRole;
use spot_cloud::tables::accounts::AccountError;
use spot_cloud::tables::swaps::Swaps;
use spot_cloud::tables::{accounts, settings};
use spot_domain::clock;
use spot_domain::risk::poison::{Effect, EventOutcome, effect, poisoned_until};
use spot_domain::settings::Settings;
use spot_domain::{EnvironmentType, Pool};
use tracing::Instrument;

use error::RiskError;
use event::Incoming;
use hub::report::Report;
use hub::sightings::{Admission, Sightings, Span};
use hub::{mute, report};
use interruption::{Interruption, Notice, invalid};
use poison::{Cause, RiskTable};

/// The resources that every event needs.
#[derive(Debug)]
pub struct RiskManager {
    stack: Stack,
    part: StackRole,
    /// The bus for a member's reports.
    reports_bus: Option<String>,
    table: RiskTable,
    sightings: Sightings,
    announcements: Announcements,
    swaps: Swaps,
    allow_drills: bool,
}

/// The result of an event.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum EventAnswer {
    /// The result of an interruption, in this account or another.
    Interruption {
        outcome: EventOutcome,
        /// The pool, if one was looked up.
        #[serde(skip_serializing_if = "Option::is_none")]
        pool: Option<Pool>,
    },
    /// The result of the daily clean-up.
    CleanUp(clean_up::CleanUpSummary),
    /// The result of the hourly measure.
    Measure(measure::Measure),
}

impl RiskManager {
    /// Reads the variables that the template sets.
    ///
    /// # Errors
    /// A variable is missing or malformed.
    pub fn new(stack: Stack) -> Result<Self, BadEnvironment> {
        let part = StackRole::from_environment()?;
        Ok(Self {
            part,
            reports_bus: (part == StackRole::Member).then(|| variable("REPORTS_BUS")).transpose()?,
            table: RiskTable::new(stack.dynamodb.clone(), variable("SPOT_POOL_RISK_TABLE")?),
            sightings: Sightings::new(stack.dynamodb.clone(), variable("SIGHTINGS_TABLE")?),
            announcements: Announcements::new(&stack)?,
            swaps: Swaps::new(&stack)?,
            allow_drills: variable("ALLOW_DRILLS")?,
            stack,
        })
    }

    /// Handles one event.
    ///
    /// # Errors
    /// The event is malformed or can't be carried out. Nothing was written, or a second write of the same does no
    /// harm.
    pub async fn handle(&self, event: Value) -> Result<EventAnswer, RiskError> {
        let parsed = event::parse(event, self.allow_drills);
        let span = span_of(parsed.as_ref().ok());
        let work = async {
            let answer = match parsed {
                Ok(incoming) => self.answer(incoming).await,
                Err(error) => Err(error),
            };
            match &answer {
                Ok(answer) => tracing::info!(?answer, "done"),
                Err(error) => tracing::error!(error = error.name(), "{error}"),
            }
            answer
        };
        work.instrument(span).await
    }

    async fn answer(&self, incoming: Incoming) -> Result<EventAnswer, RiskError> {
        match incoming {
            Incoming::CleanUp => clean_up::run(&self.table).await.map(EventAnswer::CleanUp),
            Incoming::Measure => measure::run(&self.stack, &self.table).await.map(EventAnswer::Measure),
            Incoming::Interruption(interruption) => self.interruption(&interruption).await,
            Incoming::Report(report) => self.report(report).await,
        }
    }

    /// Handles an interruption in an account whose instances this stack can describe.
    async fn interruption(&self, event: &Interruption) -> Result<EventAnswer, RiskError> {
        let answer = |outcome, pool| Ok(EventAnswer::Interruption { outcome, pool });
        let access = accounts::access_to_learn(&self.stack, &event.account_id).await?;
        if access.environment_type == EnvironmentType::Lab {
            if event.notice == Notice::InterruptionWarning {
                lab::tell_the_owner(&self.swaps, &self.announcements, event).await?;
            }
            return answer(EventOutcome::IgnoredLab, None);
        }
        let settings = settings::load_what_holds(&self.stack, &event.account_id, &event.region).await?;
        let until = match poison_until(event.notice, event.occurred, &settings) {
            Ok(until) => until,
            Err(ignored) => return answer(ignored, None),
        };
        let clients = self.stack.clients(&access, &event.region, None).await;
        let Some(pool) = pool::of(event, &clients.ec2, &self.swaps).await? else {
            return answer(EventOutcome::IgnoredNotSpot, None);
        };
        let Interruption { notice, occurred, is_drill, .. } = *event;
        let cause = Cause { pool, notice, occurred, is_drill };
        if settings.poison_threshold_accounts > 1 {
            self.sightings.record(&event.account_id, &cause.pool, until).await?;
        }
        let outcome = self.learn(&cause, until, &settings).await?;
        if let Some(bus) = &self.reports_bus {
            report::tell(&self.announcements, bus, event, &cause.pool).await?;
        }
        answer(outcome, Some(cause.pool))
    }

    /// Handles an interruption that a member reports. Only the account that AWS stamped on the report counts, and
    /// only our own registry says what that account is.
    async fn report(&self, report: Report) -> Result<EventAnswer, RiskError> {
        let Report { notice, account_id, pool, is_spot, occurred, is_drill } = report;
        let answer = |outcome, pool| Ok(EventAnswer::Interruption { outcome, pool });
        if self.part != StackRole::Hub {
            let problem = "only a hub takes reports: the stack's parameter Role is another".to_owned();
            return Err(invalid("detail-type", problem));
        }
        match accounts::environment(&self.stack, &account_id).await {
            Ok(EnvironmentType::Lab) => return answer(EventOutcome::IgnoredLab, None),
            Ok(EnvironmentType::Prod) => {}
            Err(problem @ (AccountError::Unknown(_) | AccountError::Disabled(_))) => {
                let first = !self.sightings.is_told_today(&account_id).await?;
                let about = (&pool, problem.to_string());
                mute::announce_stranger(&self.announcements, &account_id, (about.0, &about.1), first).await?;
                if first {
                    self.sightings.told_today(&account_id).await?;
                }
                return answer(EventOutcome::IgnoredUnregistered, None);
            }
            Err(error) => return Err(error.into()),
        }
        if !is_spot {
            return answer(EventOutcome::IgnoredNotSpot, None);
        }
        let settings = settings::load_what_holds(&self.stack, &account_id, &pool.region).await?;
        let until = match poison_until(notice, occurred, &settings) {
            Ok(until) => until,
            Err(ignored) => return answer(ignored, None),
        };
        let limits = [
            (Span::Hour, settings.max_poisons_per_account_per_hour),
            (Span::Day, settings.max_poisons_per_account_per_day),
        ];
        let admission = self.sightings.admit(&account_id, (&pool, notice), until, limits).await?;
        if let Admission::Muted { quota, told } = admission {
            mute::announce(&self.announcements, &account_id, (&pool, notice), quota, told).await?;
            if !told {
                self.sightings.told(&account_id, quota).await?;
            }
            return answer(EventOutcome::Muted, Some(pool));
        }
        self.sightings.record(&account_id, &pool, until).await?;
        let cause = Cause { pool, notice, occurred, is_drill };
        let outcome = self.learn(&cause, until, &settings).await?;
        answer(outcome, Some(cause.pool))
    }

    /// Poisons the pool, if enough accounts were interrupted in it, this one included.
    async fn learn(
        &self,
        cause: &Cause,
        until: Timestamp,
        settings: &Settings,
    ) -> Result<EventOutcome, RiskError> {
        let threshold = settings.poison_threshold_accounts;
        let until = if threshold > 1 {
            let sightings = self.sightings.of(&cause.pool).await?;
            poisoned_until(sightings, threshold).filter(|until| *until > clock::now())
        } else {
            Some(until)
        };
        match until {
            Some(until) => self.table.poison(cause, until).await,
            None => Ok(EventOutcome::BelowThreshold),
        }
    }
}

/// Returns the span of an event's log lines, which names whom the event is about.
fn span_of(incoming: Option<&Incoming>) -> tracing::Span {
    match incoming {
        Some(Incoming::Interruption(Interruption { account_id, region, instance_id, .. })) => {
            tracing::error_span!("interruption", %account_id, %region, %instance_id)
        }
        Some(Incoming::Report(Report { account_id, pool, .. })) => {
            tracing::error_span!("report", %account_id, region = %pool.region, %pool)
        }
        Some(Incoming::CleanUp) => tracing::error_span!("clean_up"),
        Some(Incoming::Measure) => tracing::error_span!("measure"),
        None => tracing::error_span!("event"),
    }
}

/// Returns the time until which a notice poisons, by the settings. The error says why the notice does not poison.
fn poison_until(notice: Notice, occurred: Timestamp, settings: &Settings) -> Result<Timestamp, EventOutcome> {
    let poison_for = match notice {
        Notice::InterruptionWarning => settings.poison_for(),
        Notice::RebalanceRecommendation if settings.rebalance_poisons => settings.rebalance_poison_for(),
        Notice::RebalanceRecommendation => return Err(EventOutcome::IgnoredRebalance),
    };
    match effect(occurred, poison_for, clock::now()) {
        Effect::PoisonUntil(until) => Ok(until),
        Effect::Stale => Err(EventOutcome::IgnoredStale),
    }
}
