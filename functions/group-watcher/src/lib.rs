//! The loop: keeps enrolled groups and lab instances on Spot. The group watcher looks, decides and starts executions; it
//! changes nothing else but its own table.
//!
//! A sweep, every 15 minutes, looks at every enrolled group in every enabled account and region, and at the enrolled
//! instances of LAB accounts. A launch event of Auto Scaling, or a person, names one group. What must rest, wait or be
//! repaired first is deferred, with a reason that is told once. [`turns`] orders the accounts and regions, [`visit`] walks
//! one of them, [`judge`] knows whose turn it is there, [`look`] asks of a group what Discover would ask.

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
pub mod turns;
pub mod visit;

use std::time::{Duration, SystemTime};

use serde_json::Value;
use spot_cloud::environment::BadEnvironment;
use spot_cloud::scopes::{AccountRegion, PlanError, Scope, Unreadable, plan};
use spot_cloud::tables::accounts::AccountError;
use spot_cloud::{CallError, Stack, metrics};
use spot_domain::clock;
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
        let plan = match plan(&self.stack, account_id, region).await {
            // An account that is switched off goes on launching: that is no event that failed.
            Err(PlanError::Account(error)) if request.is_launch() => {
                answer.failed.push(Failure { account_id: account_id.cloned(), ..Failure::own(&error) });
                return Ok(answer);
            }
            plan => plan?,
        };
        answer.failed.extend(plan.unreadable.iter().map(|error| self.unreadable(error)));
        let stop_at = deadline.checked_sub(RESERVE).unwrap_or(deadline);
        if request == Request::Sweep {
            self.sweep(plan.visits, stop_at, &mut answer).await?;
            metrics::emit(&answer.figures());
        } else {
            self.visit(&plan.visits, &request, &mut Memories::default(), stop_at, &mut answer).await;
        }
        Ok(answer)
    }

    /// Visits every place, and notes where the next sweep begins.
    async fn sweep(
        &self,
        mut visits: Vec<Scope>,
        stop_at: SystemTime,
        answer: &mut Answer,
    ) -> Result<(), CallError> {
        let mut memories = remember(&self.tools, answer).await?;
        turns::begin_after(&mut visits, memories.begin_after.as_ref());
        // A sweep that hangs at its first place until it is killed must not begin there again.
        let is_turn = visits.len() > 1 && clock::system_time() < stop_at;
        let first = visits.first().map(|scope| &scope.place).filter(|_| is_turn);
        self.note_turn(first, answer).await;
        let last = self.visit(&visits, &Request::Sweep, &mut memories, stop_at, answer).await;
        if last.is_none() && !visits.is_empty() {
            answer.failed.push(Failure::own(&"no time was left to look at any account and region"));
        }
        // After a sweep of all places another one begins, so that none is always the first to start executions.
        let turn = last.filter(|last| answer.partial && first.is_some_and(|first| first != *last));
        self.note_turn(turn, answer).await;
        Ok(())
    }

    async fn note_turn(&self, place: Option<&AccountRegion>, answer: &mut Answer) {
        if let Some(place) = place
            && let Err(error) = self.tools.table.note_turn(place, now()).await
        {
            answer.failed.push(Failure::own(&error));
        }
    }

    /// Visits places until the time is up. Returns the last one that had its turn.
    async fn visit<'a>(
        &self,
        visits: &'a [Scope],
        request: &Request,
        memories: &mut Memories,
        stop_at: SystemTime,
        answer: &mut Answer,
    ) -> Option<&'a AccountRegion> {
        let mut last = None;
        for scope in visits {
            if clock::system_time() >= stop_at {
                answer.partial = true;
                break;
            }
            let clients = self.stack.clients(&scope.access, &scope.place.region, None).await;
            let (tools, clients) = (&self.tools, &clients);
            let mut visit = Visit { tools, scope, clients, now: now(), stop_at, answer: &mut *answer };
            let span = tracing::error_span!("visit", place = %scope.place);
            if let Err(error) = visit.run(request, memories).instrument(span).await {
                answer.failed.push(Failure::at(&scope.place, &error));
            }
            // A place that was cut short is visited first by the next sweep, unless it had a whole sweep for itself.
            if !answer.partial || last.is_none() {
                last = Some(&scope.place);
            }
        }
        last
    }

    fn unreadable(&self, error: &Unreadable) -> Failure {
        let account_id = match error {
            Unreadable::Row(AccountError::Malformed { account_id, .. })
            | Unreadable::Regions { account_id, .. }
            | Unreadable::Settings { account_id, .. } => account_id,
            Unreadable::Row(_) => &self.stack.account_id, // the row lies in the stack's own table
        };
        let place = AccountRegion { account_id: account_id.clone(), region: self.stack.region.clone() };
        Failure { region: None, ..Failure::at(&place, error) }
    }
}
