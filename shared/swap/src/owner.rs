//! The owner of a lab instance, looked at again: hours may lie between Discover and the end, if an image
//! is made, and what would be refused now must be undone.

use spot_cloud::twin::{Examined, examine};
use spot_cloud::{CallError, Target, addresses, targets};
use spot_domain::InstanceId;
use spot_domain::group::InstanceState;
use spot_domain::lab::{LabSwap, changed};
use spot_domain::settings::Settings;

/// What the owner has made of the instance since its swap began, in words; `None` if it is what it was,
/// or no longer runs, which is not this question. A search through the target groups of its VPC.
///
/// # Errors
/// A call fails.
pub async fn change(
    target: &Target,
    settings: &Settings,
    old: &InstanceId,
    lab: &LabSwap,
) -> Result<Option<String>, CallError> {
    let Some(examined) = examine(&target.ec2, old).await? else { return Ok(None) };
    if examined.original.instance.state != InstanceState::Running {
        return Ok(None);
    }
    let mut why = changed(&examined.original, lab.instance_type.as_ref(), settings);
    if why.is_none() {
        why = gained(target, &examined, lab).await?;
    }
    Ok(why.map(|why| format!("instance {old} is not what it was when its swap began: {why}")))
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
