//! Replaces an On-Demand node of a Kubernetes cluster with Spot: scale out, cordon, drain, terminate.
//!
//! The state machine `swap.asl.yaml` beside this crate drives; each invocation is one short step of
//! one phase, safe to repeat. The node's Auto Scaling group goes N → N+1 → N by the phases of
//! `spot_swap`; between them the pods move, by eviction only. What one step hands to the next is a
//! [`work::NodeWork`]; what must survive any death is the journal in the Swaps table.

pub mod phases;
pub mod work;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use spot_domain::ExecutionArn;
use spot_domain::node_swap::NodeSwapReport;
use spot_swap::error::StepError;
use spot_swap::work::Next;
use spot_swap::{Context, StepFailure};

use phases::{await_ready, cordon, drain, preflight, report, rollback, scale_out, terminate};
use work::NodeWork;

/// The function.
#[derive(Debug)]
pub struct Optimizer {
    context: Context,
}

/// What the state machine sends.
#[derive(Debug, Deserialize)]
#[serde(tag = "phase")]
enum Step {
    Preflight {
        execution: ExecutionArn,
        input: Value,
        /// Repetitions of this step by the state machine so far.
        #[serde(default)]
        tries: u32,
    },
    ScaleOut {
        work: NodeWork,
    },
    AwaitReady {
        work: NodeWork,
    },
    Cordon {
        work: NodeWork,
    },
    Drain {
        work: NodeWork,
    },
    Terminate {
        work: NodeWork,
    },
    Rollback {
        work: NodeWork,
        error: Option<StepFailure>,
    },
    Report {
        work: NodeWork,
    },
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
        work: Box<NodeWork>,
    },
    /// The execution's output.
    Report(Box<NodeSwapReport>),
}

impl Optimizer {
    /// Reads the environment that the template sets.
    ///
    /// # Errors
    /// A variable is missing or malformed.
    pub async fn from_environment() -> Result<Self, spot_cloud::clients::BadEnvironment> {
        Ok(Self { context: Context::from_environment().await? })
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
        let context = &self.context;
        let (next, work) = match step {
            Step::Preflight { execution, input, tries } => {
                preflight::run(context, execution, input, tries).await?
            }
            Step::Report { work } => {
                return report::run(context, work).await.map(|report| Answer::Report(Box::new(report)));
            }
            Step::ScaleOut { mut work } => {
                (paced(scale_out::run(context, &mut work).await?, &mut work), work)
            }
            Step::AwaitReady { mut work } => {
                (paced(await_ready::run(context, &mut work).await?, &mut work), work)
            }
            Step::Cordon { mut work } => (cordon::run(context, &mut work).await?, work),
            Step::Drain { mut work } => (drain::run(context, &mut work).await?, work),
            Step::Terminate { mut work } => {
                (paced(terminate::run(context, &mut work).await?, &mut work), work)
            }
            Step::Rollback { mut work, error } => {
                (paced(rollback::run(context, &mut work, error.as_ref()).await?, &mut work), work)
            }
        };
        Ok(Answer::Step { next, work: Box::new(work) })
    }
}

/// Sets the pause of a phase that goes on waiting. The drain has a pace of its own.
fn paced(next: Next, work: &mut NodeWork) -> Next {
    if let Some(run) = work.run.as_mut().filter(|_| next == Next::Wait) {
        run.swap.pace();
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use spot_scripted::state_machine::StateMachine;

    const MACHINE: StateMachine = StateMachine(include_str!("../swap.asl.yaml"));

    #[test]
    fn every_phase_of_the_state_machine_is_a_step_here() {
        let phases = MACHINE.phases();
        assert_eq!(phases.len(), 8);
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
    fn a_silent_cluster_is_asked_more_often_than_once_and_the_machine_goes_along() {
        let tries = "tries: '{% $states.context.State.RetryCount %}'";
        let (_, after) = MACHINE.0.split_once(tries).expect("Preflight hears how often it was asked");
        let (_, most) = after.split_once("MaxAttempts: ").unwrap();
        let most: u32 = most.split('\n').next().unwrap().parse().unwrap();
        assert!((1..=most).contains(&preflight::TRIES_OF_SILENCE));
    }

    #[test]
    fn the_state_machine_retries_and_catches_by_the_names_used_here() {
        let transient = StepError::Transient(String::new()).name();
        let stuck = StepError::Stuck(String::new()).name();
        assert_eq!(MACHINE.retries(transient), 8);
        assert!(MACHINE.catches(stuck));
    }
}
