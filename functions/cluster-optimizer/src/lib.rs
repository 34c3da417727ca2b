//! Replaces the On-Demand instances of an Auto Scaling group with Spot, N → N+1 → N.
//!
//! The state machine `swap.asl.yaml` beside this crate drives. Each invocation is one short step of one
//! phase, safe to repeat. [`phases`] holds a file for each phase, named as in the state machine. A step hands
//! a [`Work`] to the next one. The journal in the Swaps table holds everything that must survive a
//! crash.

pub mod phases;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use spot_domain::ExecutionArn;
use spot_domain::swap::SwapReport;
use spot_swap::error::StepError;
use spot_swap::phases::{attach, gate, launch, restore, retire_old, rollback};
use spot_swap::phases::{wait_for_health, wait_for_in_service, wait_for_retirement};
use spot_swap::recovery::Permission;
use spot_swap::work::{Next, Work};
use spot_swap::{Context, StepFailure};

use phases::{discover, report};

/// The cluster optimizer.
#[derive(Debug)]
pub struct Optimizer {
    context: Context,
}

/// The state machine's request for one step.
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

/// The answer to the state machine.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// The next state, and its input.
    Step {
        /// The next state.
        next: Next,
        /// The state's input.
        work: Box<Work>,
    },
    /// The execution's output.
    Report(Box<SwapReport>),
}

impl Optimizer {
    /// Reads the environment that the template sets.
    ///
    /// # Errors
    /// A variable is missing or malformed.
    pub async fn from_environment() -> Result<Self, spot_cloud::clients::BadEnvironment> {
        Ok(Self { context: Context::from_environment().await? })
    }

    /// Runs one step.
    ///
    /// # Errors
    /// The step failed. The error's name is the one that the state machine's Retry and Catch match on.
    pub async fn handle(&self, event: Value) -> Result<Answer, StepError> {
        let step: Step = serde_json::from_value(event).map_err(|e| StepError::Protocol(e.to_string()))?;
        let answer = self.run(step).await;
        if let Err(error) = &answer {
            tracing::warn!(error = error.name(), "{error}");
        }
        answer
    }

    async fn run(&self, step: Step) -> Result<Answer, StepError> {
        let context = &self.context;
        let (mut work, phase) = match step {
            Step::Discover { execution, input } => {
                return Ok(go(Next::Proceed, discover::run(context, execution, input).await?));
            }
            Step::Report { work } => {
                return report::run(context, work).await.map(|report| Answer::Report(Box::new(report)));
            }
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
            Phase::Gate => gate::run(context, &mut work).await?,
            Phase::Launch => launch::run(context, &mut work).await?,
            Phase::Rollback(failure) => {
                rollback::run(context, &mut work, failure.as_ref(), async |_, _, _| Permission::Granted)
                    .await?
            }
            phase => self.run_on_current(&mut work, phase).await?,
        };
        if next == Next::Wait {
            work.pace();
        }
        Ok(go(next, work))
    }

    /// Runs a phase of the swap in progress, which must exist.
    async fn run_on_current(&self, work: &mut Work, phase: Phase) -> Result<Next, StepError> {
        let context = &self.context;
        let mut current =
            work.current.take().ok_or_else(|| StepError::Protocol("no swap in progress".into()))?;
        let next = match phase {
            Phase::WaitForHealth => wait_for_health::run(context, work, &mut current).await?,
            Phase::Attach => attach::run(context, work, &mut current).await?,
            Phase::WaitForInService => wait_for_in_service::run(context, work, &mut current).await?,
            Phase::RetireOld => retire_old::run(context, work, &mut current).await?,
            Phase::WaitForRetirement => wait_for_retirement::run(context, work, &current).await?,
            Phase::Restore => restore::run(context, work, &current).await?,
            Phase::Gate | Phase::Launch | Phase::Rollback(_) => {
                return Err(StepError::Protocol("this phase has no swap in progress".into()));
            }
        };
        let is_done = matches!(next, Next::NextTarget | Next::Report);
        work.current = (!is_done).then_some(current);
        Ok(next)
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
    use spot_scripted::state_machine::StateMachine;

    const MACHINE: StateMachine = StateMachine(include_str!("../swap.asl.yaml"));

    #[test]
    fn every_phase_of_the_state_machine_is_a_step_here() {
        let phases = MACHINE.phases();
        assert_eq!(phases.len(), 11);
        for phase in phases {
            let error = serde_json::from_value::<Step>(serde_json::json!({ "phase": phase })).unwrap_err();
            assert!(error.to_string().starts_with("missing field"), "{phase}: {error}");
            assert!(MACHINE.has_state(phase), "the state of {phase} has another name");
        }
    }

    #[test]
    fn every_decision_that_the_state_machine_looks_for_is_made_here() {
        let known = [Next::Proceed, Next::Wait, Next::Undo, Next::NextTarget, Next::Report]
            .map(|next| serde_json::to_string(&next).unwrap());
        for decision in MACHINE.decisions() {
            assert!(known.contains(&decision.to_owned()), "{decision}");
        }
    }

    #[test]
    fn the_state_machine_retries_and_catches_by_the_names_used_here() {
        let transient = StepError::Transient(String::new()).name();
        let stuck = StepError::Stuck(String::new()).name();
        assert!(MACHINE.retries(transient) >= 11);
        assert!(MACHINE.catches(stuck));
    }
}
