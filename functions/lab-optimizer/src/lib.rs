//! Replaces one stand-alone On-Demand instance of a LAB account with Spot. A twin is launched and takes over
//! the Elastic IP and the registrations in target groups; then the old instance stops.
//!
//! The state machine `swap.asl.yaml` beside this crate drives the swap. Each invocation is one short step of
//! one phase, safe to repeat. [`phases`] holds the phases that only a lab swap has; every swap shares gate,
//! launch, health and rollback.

pub mod phases;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use spot_domain::ExecutionArn;
use spot_domain::lab::LabReport;
use spot_domain::swap::Left;
use spot_swap::error::StepError;
use spot_swap::phases::{gate, launch, rollback, wait_for_health};
use spot_swap::recovery::Permission;
use spot_swap::work::{Next, Work};
use spot_swap::{Context, StepFailure};

use phases::discover::{self, Discovery};
use phases::{capture_image, report, retire_old, take_over};

#[derive(Debug)]
pub struct Optimizer {
    context: Context,
}

/// The event of the state machine.
#[derive(Debug, Deserialize)]
#[serde(tag = "phase")]
enum Step {
    Discover { execution: ExecutionArn, input: Value },
    Gate { work: Work },
    CaptureImage { work: Work },
    Launch { work: Work },
    WaitForHealth { work: Work },
    TakeOver { work: Work },
    RetireOld { work: Work },
    Rollback { work: Work, error: Option<StepFailure> },
    Report { work: Option<Work>, refused: Option<Left> },
}

/// The function's answer to the state machine.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum StepAnswer {
    /// The result of a step.
    Step {
        /// The decision that the state machine's Choice reads.
        next: Next,
        /// The input of the next step; `null` after a refusal.
        work: Option<Box<Work>>,
        /// The refusal of Discover, if it leaves the instance alone.
        refused: Option<Left>,
    },
    /// The execution's output.
    Report(LabReport),
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
    /// The step failed. Retry and Catch of the state machine match on the error's name.
    pub async fn handle(&self, event: Value) -> Result<StepAnswer, StepError> {
        let step: Step = serde_json::from_value(event).map_err(|e| StepError::Protocol(e.to_string()))?;
        let answer = self.run(step).await;
        if let Err(error) = &answer {
            tracing::warn!(error = error.name(), "{error}");
        }
        answer
    }

    async fn run(&self, step: Step) -> Result<StepAnswer, StepError> {
        let context = &self.context;
        let (mut work, phase) = match step {
            Step::Discover { execution, input } => {
                return Ok(match discover::run(context, execution, input).await? {
                    Discovery::Refused(left) => {
                        StepAnswer::Step { next: Next::Report, work: None, refused: Some(left) }
                    }
                    Discovery::Swap(work) => go(Next::Proceed, *work),
                    Discovery::BringBack(work) => go(Next::Undo, *work),
                });
            }
            Step::Report { refused: Some(left), .. } => return Ok(StepAnswer::Report(report::refused(left))),
            Step::Report { work: Some(work), .. } => {
                return report::run(context, work).await.map(StepAnswer::Report);
            }
            Step::Report { .. } => return Err(StepError::Protocol("nothing to report".into())),
            Step::Gate { work } => (work, Phase::Gate),
            Step::CaptureImage { work } => (work, Phase::CaptureImage),
            Step::Launch { work } => (work, Phase::Launch),
            Step::WaitForHealth { work } => (work, Phase::WaitForHealth),
            Step::TakeOver { work } => (work, Phase::TakeOver),
            Step::RetireOld { work } => (work, Phase::RetireOld),
            Step::Rollback { work, error } => (work, Phase::Rollback(error)),
        };
        work.steps += 1;
        let next = match phase {
            Phase::Gate => gate::run(context, &mut work).await?,
            Phase::CaptureImage => capture_image::run(context, &mut work).await?,
            Phase::Launch => launch::run(context, &mut work).await?,
            Phase::Rollback(failure) => {
                let permit = async |_: &mut _, _: &_, _: &_| Permission::Granted;
                rollback::run(context, &mut work, failure.as_ref(), permit).await?
            }
            phase => self.run_on_current(&mut work, phase).await?,
        };
        if next == Next::Wait {
            work.pace();
        }
        Ok(go(next, work))
    }

    /// Runs a phase that works on the swap in progress, which must be there.
    async fn run_on_current(&self, work: &mut Work, phase: Phase) -> Result<Next, StepError> {
        let context = &self.context;
        let mut current =
            work.current.take().ok_or_else(|| StepError::Protocol("no swap in progress".into()))?;
        let next = match phase {
            Phase::WaitForHealth => wait_for_health::run(context, work, &mut current).await?,
            Phase::TakeOver => take_over::run(context, work, &mut current).await?,
            Phase::RetireOld => retire_old::run(context, work, &mut current).await?,
            Phase::Gate | Phase::CaptureImage | Phase::Launch | Phase::Rollback(_) => {
                return Err(StepError::Protocol("this phase has no swap in progress".into()));
            }
        };
        work.current = Some(current);
        Ok(next)
    }
}

enum Phase {
    Gate,
    CaptureImage,
    Launch,
    WaitForHealth,
    TakeOver,
    RetireOld,
    Rollback(Option<StepFailure>),
}

fn go(next: Next, work: Work) -> StepAnswer {
    StepAnswer::Step { next, work: Some(Box::new(work)), refused: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spot_scripted::state_machine::StateMachine;

    const MACHINE: StateMachine = StateMachine(include_str!("../swap.asl.yaml"));

    #[test]
    fn every_phase_of_the_state_machine_is_a_step_here() {
        let phases = MACHINE.phases();
        assert_eq!(phases.len(), 9);
        for phase in phases {
            let error = serde_json::from_value::<Step>(serde_json::json!({ "phase": phase, "work": 1 }));
            let error = error.unwrap_err().to_string();
            assert!(!error.starts_with("unknown variant"), "{phase}: {error}");
            assert!(MACHINE.has_state(phase), "the state of {phase} has another name");
        }
    }

    #[test]
    fn every_decision_that_the_state_machine_looks_for_is_made_here() {
        let known = [Next::Proceed, Next::Wait, Next::Undo, Next::NextTarget, Next::Report]
            .map(|next| serde_json::to_string(&next).unwrap());
        let looked_for = MACHINE.decisions();
        assert!(looked_for.len() >= 9);
        for decision in looked_for {
            assert!(known.contains(&decision.to_owned()), "{decision}");
        }
    }

    #[test]
    fn the_state_machine_retries_and_catches_by_the_names_used_here() {
        let transient = StepError::Transient(String::new()).name();
        let stuck = StepError::Stuck(String::new()).name();
        assert_eq!(MACHINE.retries(transient), 9);
        assert!(MACHINE.catches(stuck));
    }
}
