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
use spot_cloud::{Stack, Target};
use spot_domain::ExecutionArn;
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
        let mut work = match step {
            Step::Discover { execution, input } => {
                return Ok(go(Next::Proceed, discover::run(self, execution, input).await?));
            }
            Step::Report { work } => return report::run(self, work).await.map(Answer::Report),
            Step::Gate { mut work } => {
                let next = gate::run(self, &mut work).await;
                return Ok(go(next, work));
            }
            Step::Rollback { mut work, error } => {
                let next = rollback::run(self, &mut work, error.as_ref()).await?;
                return Ok(go(next, work));
            }
            Step::Launch { mut work } => {
                let next = launch::run(self, &mut work).await?;
                return Ok(go(next, work));
            }
            Step::WaitForHealth { work } => (work, Phase::WaitForHealth),
            Step::Attach { work } => (work, Phase::Attach),
            Step::WaitForInService { work } => (work, Phase::WaitForInService),
            Step::RetireOld { work } => (work, Phase::RetireOld),
            Step::WaitForRetirement { work } => (work, Phase::WaitForRetirement),
            Step::Restore { work } => (work, Phase::Restore),
        };
        // These phases work on the swap in progress, which must be there.
        let mut current =
            work.0.current.take().ok_or_else(|| StepError::Protocol("no swap in progress".into()))?;
        let next = match work.1 {
            Phase::WaitForHealth => wait_for_health::run(self, &mut work.0, &current).await?,
            Phase::Attach => attach::run(self, &mut work.0, &mut current).await?,
            Phase::WaitForInService => wait_for_in_service::run(self, &mut work.0, &current).await?,
            Phase::RetireOld => retire_old::run(self, &mut work.0, &mut current).await?,
            Phase::WaitForRetirement => wait_for_retirement::run(self, &mut work.0, &current).await?,
            Phase::Restore => {
                let next = restore::run(self, &mut work.0, &current).await?;
                if next != Next::Wait {
                    return Ok(go(next, work.0));
                }
                next
            }
        };
        work.0.current = Some(current);
        Ok(go(next, work.0))
    }

    pub(crate) async fn target(&self, work: &Work) -> Target {
        self.stack.target(&work.access, &work.lease.region, Some(&work.lease.owner)).await
    }
}

/// The phases that work on the swap in progress.
enum Phase {
    WaitForHealth,
    Attach,
    WaitForInService,
    RetireOld,
    WaitForRetirement,
    Restore,
}

fn go(next: Next, work: Work) -> Answer {
    Answer::Step { next, work: Box::new(work) }
}
