//! Report: tells the bus, and people where a step failed. Releases the lease if Restore has kept it. Returns the answer.

use serde::Deserialize;
use spot_domain::response::evacuation::Evacuated;
use spot_swap::error::StepError;
use spot_swap::machine::StepAnswer;

use crate::announce::announce;
use crate::context::Responder;
use crate::work::{Answer, Answering};

/// The event of the step.
#[derive(Debug, Deserialize)]
pub struct ReportEvent {
    work: Answering,
    /// The result of the evacuation, if the instance is a node and its evacuation has come to an end.
    #[serde(default)]
    evacuated: Option<Evacuated>,
}

/// Ends the answer.
///
/// # Errors
/// The lease can't be released; the reconciler will release it. A bus that takes no event fails no answer.
pub async fn run(
    responder: &Responder,
    event: ReportEvent,
) -> Result<StepAnswer<Answering, Answer>, StepError> {
    let ReportEvent { work, evacuated } = event;
    let kept = work.keeps_lease.then(|| (work.lease.clone(), work.summary()));
    let about = Answer::about(&work.lease.account_id, &work.lease.region, &work.instance_id);
    let answer = Answer {
        asg_name: Some(work.group()?.1.clone()),
        cluster_name: work.node.map(|node| node.cluster_name),
        outcome: work.outcome,
        because: work.because,
        served_at_least: work.served_at_least,
        execution_arn: Some(work.lease.owner.execution().clone()),
        ..about
    };
    let answer = match evacuated {
        Some(result) => answer.evacuated(result),
        None => answer,
    };
    announce(responder, &answer).await;
    // Before, the row is what tells if nobody comes back to this step.
    if let Some((lease, summary)) = kept {
        responder.swaps.let_go(&lease, &summary).await?;
    }
    Ok(StepAnswer::Other(Box::new(answer)))
}
