//! What is asked of a group before a run over it begins: whether we may touch it, what it launches, in
//! which zones its members lie. Changes nothing.

use std::collections::BTreeMap;

use spot_cloud::launcher::Blueprint;
use spot_cloud::{CallError, Kind, Target, groups, instances, launch_template};
use spot_domain::InstanceId;
use spot_domain::group::{Group, Instance, LaunchSource};
use spot_domain::selection::Zones;

use crate::error::StepError;

/// Refuses a group that we don't touch, or not now.
///
/// # Errors
/// [`StepError::GroupNotSupported`] or [`StepError::GroupBusy`] with the reason, or a call fails.
pub async fn refuse_unfit(target: &Target, group: &Group) -> Result<(), StepError> {
    if let Some(why) = group.unsupported() {
        return Err(StepError::GroupNotSupported(format!("group {}: {why}", group.name)));
    }
    let busy = match &group.busy_with {
        Some(why) => Some(why.clone()),
        None => groups::active_refresh(&target.autoscaling, &group.name).await?,
    };
    busy.map_or(Ok(()), |why| Err(StepError::GroupBusy(format!("group {}: {why}", group.name))))
}

/// What the group launches from, its template's version resolved.
///
/// # Errors
/// [`StepError::GroupNotSupported`] if that can't be launched as Spot, or a call fails.
pub async fn blueprint(target: &Target, group: &Group) -> Result<Blueprint, StepError> {
    let refused = |why: String| StepError::GroupNotSupported(format!("group {}: {why}", group.name));
    match &group.launch_source {
        Some(LaunchSource::Template { id, version }) => {
            match launch_template::resolve(&target.ec2, id, version).await {
                Ok(resolved) => resolved.map(Blueprint::Template).map_err(refused),
                Err(error) if error.kind == Kind::NotFound => Err(refused(error.to_string())),
                Err(error) => Err(error.into()),
            }
        }
        Some(LaunchSource::Configuration(name)) => Ok(Blueprint::Configuration(name.clone())),
        None => Err(refused("it has nothing to launch from".to_owned())),
    }
}

/// The members as EC2 describes them, and the ids of zones where EC2 does not give them itself.
///
/// # Errors
/// A call fails.
pub async fn members(
    target: &Target,
    group: &Group,
) -> Result<(BTreeMap<InstanceId, Instance>, Zones), CallError> {
    let ids: Vec<_> = group.members.iter().map(|m| m.id.clone()).collect();
    let described =
        if ids.is_empty() { BTreeMap::new() } else { instances::describe(&target.ec2, &ids).await? };
    let zones = if described.values().any(|i| i.az_id.is_none()) {
        instances::zones(&target.ec2).await?
    } else {
        Zones::new()
    };
    Ok((described, zones))
}
