//! Messages about interruptions in LAB accounts. Such an interruption poisons nothing. If it ends an instance that
//! a lab swap launched, the owner gets a message with the way back. The newcomer is a one-time Spot instance, and
//! AWS launches no other in its place.

use spot_cloud::announcements::Announcements;
use spot_cloud::tables::swaps::Swaps;

use crate::error::RiskError;
use crate::interruption::Interruption;

/// Notifies the owner, if the event's instance has replaced another.
///
/// # Errors
/// The table does not answer, or the message could not be sent. The event is then handled again.
pub async fn tell_the_owner(
    swaps: &Swaps,
    announcements: &Announcements,
    event: &Interruption,
) -> Result<(), RiskError> {
    let Interruption { account_id, region, instance_id, .. } = event;
    let Some(old) = swaps.replaced_by(account_id, region, instance_id).await? else { return Ok(()) };
    tracing::warn!(%instance_id, %old, "a lab swap's newcomer is interrupted");
    let subject = format!("Spot Optimizer: {instance_id}, which replaced {old}, is interrupted");
    let message = format!(
        "EC2 takes Spot instance {instance_id} back within two minutes (account {account_id}, region {region}). A lab \
         swap had put it in the place of {old}.\n\n\
         If {old} was stopped (the default), it can serve again: start the lab swap's state machine with \
         {{\"instance_id\": \"{old}\", \"account_id\": \"{account_id}\", \"region\": \"{region}\", \
         \"bring_back\": true}}. Its address and its places in target groups come back with it; what was written on \
         {instance_id} does not."
    );
    Ok(announcements.alert(&subject, &message).await?)
}
