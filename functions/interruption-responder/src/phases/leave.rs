//! Leave: the doomed instance leaves its group without decrement, and the group launches the replacement by itself. Its
//! terminating hooks run, and its targets deregister, while there is time.
//!
//! Records nothing: desired stays the owner's.
//! Undone by: nothing. EC2 would end the instance anyway.

use spot_cloud::auto_scaling::groups::{self, Desired};
use spot_domain::swap::group::MemberState;
use spot_swap::error::StepError;
use spot_swap::work::Next;

use crate::context::Responder;
use crate::work::Answering;

/// Makes the call, unless the instance is leaving already.
///
/// # Errors
/// A call fails.
pub async fn run(responder: &Responder, work: &mut Answering) -> Result<Next, StepError> {
    let clients = responder.clients(work).await?;
    let (arn, name) = work.group()?;
    let group = groups::describe_same(&clients.autoscaling, arn, name).await?;
    let Some(group) = group else { return Ok(Next::Proceed) };
    let member = group.member(&work.instance_id);
    if member.is_some_and(|member| member.state != MemberState::Leaving) {
        match groups::terminate(&clients.autoscaling, &work.instance_id, Desired::Keep).await {
            Err(error) if error.is_no_member() => {}
            answer => drop(answer?),
        }
    }
    Ok(Next::Proceed)
}
