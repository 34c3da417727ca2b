//! Discover: reads the group and its instances, refuses what we don't touch, sorts the members,
//! and takes the lease. Changes nothing but the lease, and takes that last.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;
use spot_cloud::launcher::Blueprint;
use spot_cloud::swaps::{Lease, Leased, Owner};
use spot_cloud::{Kind, Target, accounts, groups, instances, launch_template, settings};
use spot_domain::group::{Group, LaunchSource};
use spot_domain::selection::{Selection, Zones, select};
use spot_domain::settings::Settings;
use spot_domain::swap::SwapRequest;
use spot_domain::{ExecutionArn, Region};

use spot_swap::Context;
use spot_swap::error::StepError;
use spot_swap::work::Work;

/// Plans the run.
///
/// # Errors
/// The request, the group or the settings are refused (nothing was changed), or a call fails.
pub async fn run(context: &Context, execution: ExecutionArn, input: Value) -> Result<Work, StepError> {
    let request = parse(input)?;
    let stack = &context.stack;
    let account_id = request.account_id.unwrap_or_else(|| stack.account_id.clone());
    let region = request.region.unwrap_or_else(|| stack.region.clone());
    let access = accounts::access(stack, &account_id).await?;
    let settings = settings::load(stack, &account_id, &region).await?;
    let target = stack.target(&access, &region, Some(&execution)).await;

    let group = groups::describe(&target.autoscaling, &request.asg_name).await?.ok_or_else(|| {
        let name = &request.asg_name;
        StepError::GroupNotFound(format!(
            "asg_name: account {account_id} has no Auto Scaling group {name:?} in {region}"
        ))
    })?;
    refuse(&target, &group).await?;
    let blueprint = blueprint(&target, &group).await?;
    let retirement = groups::retirement(&target.autoscaling, &group.name).await?;
    let selection = selection(&target, &group, &region, &settings).await?;

    let lease = Lease {
        on: Leased::Group { arn: group.arn.clone(), name: group.name.clone() },
        account_id,
        region,
        owner: Owner::Execution(execution),
        since: Timestamp::now(),
    };
    if !request.dry_run {
        context.swaps.take(&lease).await?;
    }
    let asked = request.max_swaps.map_or(settings.max_swaps, std::num::NonZeroU32::get);
    let mut work = Work::new(lease, access, settings, blueprint, retirement);
    work.dry_run = request.dry_run;
    work.max_swaps = asked.min(work.max_swaps);
    work.skipped = selection.skipped;
    work.enqueue(selection.candidates);
    tracing::info!(asg_name = %group.name, candidates = work.queue.len(), skipped = work.skipped.len(), "discovered");
    Ok(work)
}

fn parse(input: Value) -> Result<SwapRequest, StepError> {
    // Serde would read a struct from an array too, by position.
    if !input.is_object() {
        let shape = r#"{"asg_name": "...", "account_id"?, "region"?, "max_swaps"?, "dry_run"?}"#;
        return Err(StepError::InvalidInput(format!("the input must be a JSON object: {shape}")));
    }
    serde_path_to_error::deserialize(input).map_err(|error| {
        let field = error.path().to_string();
        let (at, why) = (if field == "." { "the input" } else { &field }, error.inner());
        StepError::InvalidInput(format!("{at}: {why}"))
    })
}

async fn refuse(target: &Target, group: &Group) -> Result<(), StepError> {
    if let Some(why) = group.unsupported() {
        return Err(StepError::GroupNotSupported(format!("group {}: {why}", group.name)));
    }
    let busy = match &group.busy_with {
        Some(why) => Some(why.clone()),
        None => groups::active_refresh(&target.autoscaling, &group.name).await?,
    };
    busy.map_or(Ok(()), |why| Err(StepError::GroupBusy(format!("group {}: {why}", group.name))))
}

async fn blueprint(target: &Target, group: &Group) -> Result<Blueprint, StepError> {
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

async fn selection(
    target: &Target,
    group: &Group,
    region: &Region,
    settings: &Settings,
) -> Result<Selection, StepError> {
    let ids: Vec<_> = group.members.iter().map(|m| m.id.clone()).collect();
    let described =
        if ids.is_empty() { BTreeMap::new() } else { instances::describe(&target.ec2, &ids).await? };
    let zones = if described.values().any(|i| i.az_id.is_none()) {
        instances::zones(&target.ec2).await?
    } else {
        Zones::new()
    };
    select(group, &described, &zones, region, settings)
        .map_err(|e| StepError::GroupNotSupported(format!("group {}: {e}", group.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_that_is_no_object_is_refused_with_its_shape() {
        for input in [serde_json::json!(["web"]), serde_json::json!("web"), Value::Null] {
            let error = parse(input).unwrap_err();
            assert_eq!(error.name(), "InvalidInput");
            assert!(error.to_string().contains("\"asg_name\""), "{error}");
        }
    }
}
