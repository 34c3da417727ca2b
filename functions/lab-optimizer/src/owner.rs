//! The old instance's owner, looked at again: hours may lie between Discover and the end, if an image is
//! made, and what would be refused now must be undone.

use spot_cloud::Target;
use spot_cloud::twin::examine;
use spot_domain::Reason;
use spot_domain::lab::changed;
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
    let why = changed(&examined.original, &old.instance_type, &work.settings);
    Ok(why.map(|why| {
        let detail = format!("instance {} is not what it was when its swap began: {why}", old.instance_id);
        work.undo(Reason::InstanceChanged, detail)
    }))
}
