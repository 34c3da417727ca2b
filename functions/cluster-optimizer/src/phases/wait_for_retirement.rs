//! WaitForRetirement: the old instance must have left the group and be drained by every target
//! group; then, if it was detached, it is terminated. It is terminated only while as many instances
//! serve as are desired: should the newcomer have failed meanwhile, the rollback takes the old one
//! back in.

use jiff::Timestamp;
use spot_cloud::target_groups::{self, TargetHealth};
use spot_cloud::{Target, groups, instances};
use spot_domain::Reason;
use spot_domain::group::Group;
use spot_domain::journal::Retirement;
use spot_domain::recovery::{Action, Newcomer, Observed, next};
use spot_domain::selection::Change;

use crate::Optimizer;
use crate::error::StepError;
use crate::work::{Current, Next, Work};

/// Looks once, and terminates the old instance if it is time.
///
/// # Errors
/// A call fails, or the old instance has not left by the deadline ([`StepError::Stuck`]).
pub async fn run(optimizer: &Optimizer, work: &mut Work, current: &Current) -> Result<Next, StepError> {
    let target = optimizer.target(work).await;
    let old = &current.candidate.instance_id;
    let group = groups::describe(&target.autoscaling, &work.lease.asg_name).await?;
    let Some(group) = group.filter(|g| g.arn == work.lease.target) else {
        return Ok(work.undo_for(Change::deleted()));
    };
    let observed = observe(&target, group, current).await?;
    let waiting_for = match next(&current.journal, &observed) {
        Action::Wait(why) => why,
        Action::TerminateOld => {
            instances::terminate(&target.ec2, old).await?;
            return Ok(Next::Proceed);
        }
        // The old instance is gone already; what remains is Restore's.
        Action::RestoreMaxSize(_) | Action::ResumeAzRebalance | Action::Done(_) => return Ok(Next::Proceed),
        action => {
            return Ok(work.undo(Reason::NewcomerNotServing, format!("while {old} was leaving: {action:?}")));
        }
    };
    if Timestamp::now() < current.deadline {
        return Ok(Next::Wait);
    }
    let seconds = work.settings.retire_timeout_seconds;
    Err(StepError::Stuck(format!(
        "instance {old} has not left {seconds} s after its retirement began: {waiting_for}"
    )))
}

/// The group's own view of both instances is enough here; the rollback looks closer.
async fn observe(target: &Target, group: Group, current: &Current) -> Result<Observed, StepError> {
    let old = &current.candidate.instance_id;
    let mut draining = Vec::new();
    let detached = current.journal.retirement == Retirement::Detach;
    if detached && group.member(old).is_none() && !group.target_group_arns.is_empty() {
        let health = target_groups::health(&target.elbv2, &group.target_group_arns, old).await?;
        if health == TargetHealth::Draining {
            draining.push(old.clone());
        }
    }
    let alive = group.member(&current.newcomer).is_some();
    let newcomer = Newcomer { id: current.newcomer.clone(), alive, has_group_tag: alive };
    Ok(Observed { group: Some(group), old_alive: detached, newcomer: Some(newcomer), draining })
}
