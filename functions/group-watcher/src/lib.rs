//! The loop: keeps enrolled groups and lab instances on Spot. The group watcher looks, decides and starts executions; it
//! changes nothing else but its own table.
//!
//! A sweep, every 15 minutes, looks at every enrolled group in every enabled account and region, and at the enrolled
//! instances of LAB accounts. A launch event of Auto Scaling, or a person, names one group. What must rest, wait or be
//! repaired first is deferred, with a reason that is told once. [`visit`] walks one account and region, [`judge`] knows
//! whose turn it is, [`look`] asks of a group what Discover would ask.

pub mod answer;
pub mod error;
pub mod executions;
pub mod input;
pub mod judge;
pub mod look;
pub mod remember;
pub mod start;
pub mod table;
pub mod tell;
pub mod tools;
pub mod visit;

use std::time::{Duration, SystemTime};

use serde_json::Value;
use spot_cloud::Stack;
use spot_cloud::environment::BadEnvironment;
use spot_cloud::scopes::{AccountRegion, PlanError, Unreadable, plan};
use spot_cloud::tables::accounts::AccountError;
use spot_domain::clock;
use spot_domain::watch::name::NAMED_FOR_SECONDS;
use tracing::Instrument;

use answer::{Answer, Failure};
use error::WatchError;
use input::Request;
use remember::remember;
use table::Memories;
use tools::{Tools, now};
use visit::Visit;

/// Time that is kept free at the end, for what was decided to be told and written down.
const RESERVE: Duration = Duration::from_secs(20);

/// The group watcher.
#[derive(Debug)]
pub struct GroupWatcher {
    stack: Stack,
    tools: Tools,
}

impl GroupWatcher {
    /// Reads the environment that the template sets.
    ///
    /// # Errors
    /// A variable is missing or malformed.
    pub async fn new(stack: Stack) -> Result<Self, BadEnvironment> {
        Ok(Self { tools: Tools::new(&stack).await?, stack })
    }

    /// Runs once, until Lambda ends it at `deadline`.
    ///
    /// # Errors
    /// The input, an account or a setting is wrong, or a table does not answer. Nothing was started.
    pub async fn handle(&self, event: Value, deadline: SystemTime) -> Result<Answer, WatchError> {
        let work = async {
            let answer = self.run(event, deadline).await;
            match &answer {
                Ok(answer) => tracing::info!(
                    looked_at = answer.looked_at,
                    started = ?answer.started,
                    deferred = answer.deferred.len(),
                    partial = answer.partial,
                    failed = ?answer.failed,
                    "watched"
                ),
                Err(error) => tracing::error!(error = error.name(), "{error}"),
            }
            answer
        };
        work.instrument(tracing::error_span!("watch")).await
    }

    async fn run(&self, event: Value, deadline: SystemTime) -> Result<Answer, WatchError> {
        let request = input::parse(event)?;
        let (account_id, region) = match &request {
            Request::Sweep => (None, None),
            Request::Group { account_id, region, .. } => (
                Some(account_id.as_ref().unwrap_or(&self.stack.account_id)),
                Some(region.as_ref().unwrap_or(&self.stack.region)),
            ),
        };
        let mut answer = Answer::default();
        let mut plan = match plan(&self.stack, account_id, region).await {
            // An account that is switched off goes on launching: that is no event that failed.
            Err(PlanError::Account(error)) if request.is_launch() => {
                answer.failed.push(Failure { account_id: account_id.cloned(), ..Failure::own(&error) });
                return Ok(answer);
            }
            plan => plan?,
        };
        answer.failed.extend(plan.unreadable.iter().map(|error| self.unreadable(error)));
        let mut memories = Memories::default();
        if request == Request::Sweep {
            memories = remember(&self.tools, &mut answer).await?;
        }
        // Whose place the time did not suffice for is not the last again.
        let places = plan.visits.len().max(1);
        plan.visits.rotate_left(usize::try_from(now().as_second() / NAMED_FOR_SECONDS).unwrap_or(0) % places);
        let stop_at = deadline.checked_sub(RESERVE).unwrap_or(deadline);
        for scope in &plan.visits {
            if clock::system_time() >= stop_at {
                answer.partial = true;
                break;
            }
            let clients = self.stack.clients(&scope.access, &scope.place.region, None).await;
            let mut visit = Visit {
                tools: &self.tools,
                scope,
                clients: &clients,
                now: now(),
                stop_at,
                answer: &mut answer,
            };
            let span = tracing::error_span!("visit", place = %scope.place);
            if let Err(error) = visit.run(&request, &mut memories).instrument(span).await {
                answer.failed.push(Failure::at(&scope.place, &error));
            }
        }
        Ok(answer)
    }

    fn unreadable(&self, error: &Unreadable) -> Failure {
        let account_id = match error {
            Unreadable::Row(AccountError::Malformed { account_id, .. })
            | Unreadable::Regions { account_id, .. } => account_id,
            Unreadable::Row(_) => &self.stack.account_id, // the row lies in the stack's own table
        };
        let place = AccountRegion { account_id: account_id.clone(), region: self.stack.region.clone() };
        Failure { region: None, ..Failure::at(&place, error) }
    }
}
