//! Report: tells the bus, and people where a step failed. Returns the answer.

use spot_swap::error::StepError;

use crate::announce::announce;
use crate::context::Responder;
use crate::work::{Answer, Answering};

/// Ends the answer.
///
/// # Errors
/// None: a bus that takes no event fails no answer.
pub async fn run(responder: &Responder, work: Answering) -> Result<Answer, StepError> {
    let about = Answer::about(&work.lease.account_id, &work.lease.region, &work.instance_id);
    let answer = Answer {
        asg_name: Some(work.group()?.1.clone()),
        outcome: work.outcome,
        because: work.because,
        served_at_least: work.served_at_least,
        execution_arn: Some(work.lease.owner.execution().clone()),
        ..about
    };
    announce(responder, &answer).await;
    Ok(answer)
}
