//! Replaces the On-Demand instances of an Auto Scaling group with Spot, N → N+1 → N.
//!
//! The state machine `swap.asl.yaml` beside this crate drives; each invocation is one short step of
//! one phase, safe to repeat. [`phases`] holds a file for each phase, named as in the state machine.
//! What one step hands to the next is a [`work::Work`]; what must survive any death is the journal
//! in the Swaps table.

pub mod error;
pub mod phases;
pub mod work;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use spot_cloud::gatekeeper::Gatekeeper;
use spot_cloud::swaps::Swaps;
use spot_cloud::{Stack, Target, groups};
use spot_domain::ExecutionArn;
use spot_domain::group::Group;
use spot_domain::swap::SwapReport;

use error::StepError;
use phases::{attach, discover, gate, launch, report, restore, retire_old, rollback};
use phases::{wait_for_health, wait_for_in_service, wait_for_retirement};
use work::{Next, Work};

/// What every step needs.
#[derive(Debug)]
pub struct Optimizer {
    pub(crate) stack: Stack,
    pub(crate) swaps: Swaps,
    pub(crate) gatekeeper: Gatekeeper,
}

/// What the state machine sends.
#[derive(Debug, Deserialize)]
#[serde(tag = "phase")]
enum Step {
    Discover { execution: ExecutionArn, input: Value },
    Gate { work: Work },
    Launch { work: Work },
    WaitForHealth { work: Work },
    Attach { work: Work },
    WaitForInService { work: Work },
    RetireOld { work: Work },
    WaitForRetirement { work: Work },
    Restore { work: Work },
    Rollback { work: Work, error: Option<StepFailure> },
    Report { work: Work },
}

/// What Step Functions hands to a Catch.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StepFailure {
    /// The error's name.
    #[serde(default)]
    pub error: String,
    /// Its cause: the Lambda's error as JSON, or a text of Step Functions.
    #[serde(default)]
    pub cause: String,
}

/// What the state machine gets back.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// Where to go, and with what.
    Step {
        /// Where to go.
        next: Next,
        /// With what.
        work: Box<Work>,
    },
    /// The execution's output.
    Report(SwapReport),
}

impl Optimizer {
    /// Reads the environment that the template sets.
    ///
    /// # Errors
    /// A variable is missing or malformed.
    pub async fn from_environment() -> Result<Self, spot_cloud::clients::BadEnvironment> {
        let stack = Stack::from_environment().await?;
        Ok(Self { swaps: Swaps::new(&stack)?, gatekeeper: Gatekeeper::new(&stack)?, stack })
    }

    /// One step.
    ///
    /// # Errors
    /// The step failed: its name is what the state machine's Retry and Catch match on.
    pub async fn handle(&self, event: Value) -> Result<Answer, StepError> {
        let step: Step = serde_json::from_value(event).map_err(|e| StepError::Protocol(e.to_string()))?;
        let answer = self.run(step).await;
        if let Err(error) = &answer {
            tracing::warn!(error = error.name(), "{error}");
        }
        answer
    }

    async fn run(&self, step: Step) -> Result<Answer, StepError> {
        let (mut work, phase) = match step {
            Step::Discover { execution, input } => {
                return Ok(go(Next::Proceed, discover::run(self, execution, input).await?));
            }
            Step::Report { work } => return report::run(self, work).await.map(Answer::Report),
            Step::Gate { work } => (work, Phase::Gate),
            Step::Launch { work } => (work, Phase::Launch),
            Step::WaitForHealth { work } => (work, Phase::WaitForHealth),
            Step::Attach { work } => (work, Phase::Attach),
            Step::WaitForInService { work } => (work, Phase::WaitForInService),
            Step::RetireOld { work } => (work, Phase::RetireOld),
            Step::WaitForRetirement { work } => (work, Phase::WaitForRetirement),
            Step::Restore { work } => (work, Phase::Restore),
            Step::Rollback { work, error } => (work, Phase::Rollback(error)),
        };
        work.steps += 1;
        let next = match phase {
            Phase::Gate => gate::run(self, &mut work).await,
            Phase::Launch => launch::run(self, &mut work).await?,
            Phase::Rollback(failure) => rollback::run(self, &mut work, failure.as_ref()).await?,
            phase => self.run_on_current(&mut work, phase).await?,
        };
        Ok(go(next, work))
    }

    /// The phases that work on the swap in progress, which must be there.
    async fn run_on_current(&self, work: &mut Work, phase: Phase) -> Result<Next, StepError> {
        let mut current =
            work.current.take().ok_or_else(|| StepError::Protocol("no swap in progress".into()))?;
        let next = match phase {
            Phase::WaitForHealth => wait_for_health::run(self, work, &current).await?,
            Phase::Attach => attach::run(self, work, &mut current).await?,
            Phase::WaitForInService => wait_for_in_service::run(self, work, &current).await?,
            Phase::RetireOld => retire_old::run(self, work, &mut current).await?,
            Phase::WaitForRetirement => wait_for_retirement::run(self, work, &current).await?,
            Phase::Restore => restore::run(self, work, &current).await?,
            Phase::Gate | Phase::Launch | Phase::Rollback(_) => {
                return Err(StepError::Protocol("this phase has no swap in progress".into()));
            }
        };
        let is_done = matches!(next, Next::NextTarget | Next::Report);
        work.current = (!is_done).then_some(current);
        Ok(next)
    }

    pub(crate) async fn target(&self, work: &Work) -> Target {
        self.stack.target(&work.access, &work.lease.region, Some(work.lease.owner.execution())).await
    }

    /// The group as it is now; `None` if it was deleted, also where another bears its name by now.
    pub(crate) async fn group(&self, target: &Target, work: &Work) -> Result<Option<Group>, StepError> {
        let group = groups::describe(&target.autoscaling, &work.lease.asg_name).await?;
        Ok(group.filter(|group| group.arn == work.lease.target))
    }
}

enum Phase {
    Gate,
    Launch,
    WaitForHealth,
    Attach,
    WaitForInService,
    RetireOld,
    WaitForRetirement,
    Restore,
    Rollback(Option<StepFailure>),
}

fn go(next: Next, work: Work) -> Answer {
    Answer::Step { next, work: Box::new(work) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: &str = include_str!("../swap.asl.yaml");

    /// What follows `prefix` on the lines of the state machine, up to one of `ends`.
    fn after<'a>(prefix: &'a str, ends: &'a [char]) -> impl Iterator<Item = &'a str> {
        MACHINE.lines().filter_map(move |line| line.split_once(prefix)?.1.split(ends).next())
    }

    #[test]
    fn every_phase_of_the_state_machine_is_a_step_here() {
        let phases: Vec<&str> = after(" phase: ", &['\n']).collect();
        assert_eq!(phases.len(), 11);
        for phase in phases {
            let error = serde_json::from_value::<Step>(serde_json::json!({ "phase": phase })).unwrap_err();
            assert!(error.to_string().starts_with("missing field"), "{phase}: {error}");
            assert!(MACHINE.contains(&format!("\n  {phase}:\n")), "the state of {phase} has another name");
        }
    }

    #[test]
    fn every_decision_that_the_state_machine_looks_for_is_made_here() {
        let known = [Next::Proceed, Next::Wait, Next::Undo, Next::NextTarget, Next::Report]
            .map(|next| serde_json::to_string(&next).unwrap());
        for decision in after("$next = ", &[' ']) {
            assert!(known.contains(&decision.to_owned()), "{decision}");
        }
    }

    #[test]
    fn the_state_machine_retries_and_catches_by_the_names_used_here() {
        let transient = StepError::Transient(String::new()).name();
        let stuck = StepError::Stuck(String::new()).name();
        assert!(after("ErrorEquals: [", &[',']).filter(|name| *name == transient).count() >= 11);
        assert!(after("ErrorEquals: [", &[']']).any(|name| name == stuck));
    }
}
