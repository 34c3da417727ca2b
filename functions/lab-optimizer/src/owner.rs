//! The old instance's owner, looked at again: hours may lie between Discover and the end, if an image is
//! made, and what would be refused now must be undone.

use spot_cloud::twin::{Examined, examine};
use spot_cloud::{CallError, Target, addresses, targets};
use spot_domain::Reason;
use spot_domain::journal::Stage;
use spot_domain::lab::{LabSwap, changed};
use spot_swap::error::StepError;
use spot_swap::work::{Current, Next, Work};

/// Decides for the rollback, if the owner has made something else of the instance.
///
/// # Errors
/// A call fails.
pub async fn undo_if_changed(
    target: &Target,
    work: &mut Work,
    current: &Current,
) -> Result<Option<Next>, StepError> {
    let old = &current.candidate;
    let Some(examined) = examine(&target.ec2, &old.instance_id).await? else { return Ok(None) };
    let mut why = changed(&examined.original, &old.instance_type, &work.settings);
    // Once it drains there are many looks, and a search through all target groups is for a few.
    if why.is_none()
        && current.journal.stage != Stage::Retiring
        && let Some(lab) = &work.lab
    {
        why = gained(target, &examined, lab).await?;
    }
    Ok(why.map(|why| {
        let detail = format!("instance {} is not what it was when its swap began: {why}", old.instance_id);
        work.undo(Reason::InstanceChanged, detail)
    }))
}

/// What it serves by now that its twin was not told of.
async fn gained(target: &Target, examined: &Examined, lab: &LabSwap) -> Result<Option<String>, CallError> {
    let id = &examined.original.instance.id;
    let held = addresses::of(&target.ec2, id).await?;
    if let Some(address) = held.iter().find(|address| lab.address.as_ref() != Some(*address)) {
        return Ok(Some(format!("it has the Elastic IP {address}")));
    }
    let Some(vpc_id) = &examined.vpc_id else { return Ok(None) };
    let found = targets::of(&target.elbv2, vpc_id, id, examined.private_address.as_deref()).await?;
    let more = found.registrations.into_iter().find(|registration| !lab.registrations.contains(registration));
    let more = more.map(|registration| registration.target_group_arn).or(found.by_address_in);
    Ok(more.map(|group| format!("target group {group} has it")))
}
