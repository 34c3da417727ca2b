//! Restore: MaxSize as its owner had it (only once the group fits below it), AZRebalance resumed if
//! we suspended it; then the journal is closed and the saving noted.

use spot_cloud::swaps::Release;
use spot_cloud::{CallError, Target, groups, prices};
use spot_domain::Usd;
use spot_domain::recovery::{Action, Observed, next};
use spot_domain::swap::Swapped;

use crate::Optimizer;
use crate::error::StepError;
use crate::work::{Current, Next, Work};

/// Puts the owner's settings back and closes the swap.
///
/// # Errors
/// A call fails.
pub async fn run(optimizer: &Optimizer, work: &mut Work, current: &Current) -> Result<Next, StepError> {
    let target = optimizer.target(work).await;
    let name = &work.lease.asg_name;
    if current.journal.max_raised_to.is_some()
        && let Some(group) = groups::describe(&target.autoscaling, name).await?
    {
        let observed = Observed { group: Some(group), old_alive: false, newcomer: None, draining: vec![] };
        match next(&current.journal, &observed) {
            Action::Wait(_) => return Ok(Next::Wait),
            Action::RestoreMaxSize(max) => groups::set_max(&target.autoscaling, name, max).await?,
            _ => {}
        }
    }
    if !current.journal.original.az_rebalance_suspended {
        groups::resume_az_rebalance(&target.autoscaling, name).await?;
    }
    optimizer.swaps.close(&work.lease, Release::Keep).await?;
    let monthly_saving_usd = saving(optimizer, &target, current).await.unwrap_or_else(|error| {
        tracing::warn!("the swap is done, its saving is unknown: {error}");
        None
    });
    work.swapped.push(Swapped {
        old_instance_id: current.candidate.instance_id.clone(),
        new_instance_id: current.newcomer.clone(),
        pool: current.pool.clone(),
        monthly_saving_usd,
    });
    Ok(work.next_target())
}

/// On-Demand price of the old minus Spot price of the new, a month.
async fn saving(optimizer: &Optimizer, target: &Target, current: &Current) -> Result<Option<Usd>, CallError> {
    if !current.candidate.is_plain_linux {
        return Ok(None);
    }
    let before =
        prices::on_demand(&optimizer.stack, &current.pool.region, &current.candidate.instance_type).await?;
    let zone = &current.candidate.availability_zone;
    let after = prices::spot(&target.ec2, &current.pool.instance_type, zone).await?;
    Ok(before.zip(after).map(|(before, after)| (before - after).per_month()))
}
