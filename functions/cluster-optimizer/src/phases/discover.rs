//! Discover: reads the group and its instances, refuses unsupported groups, sorts the members that the request is about,
//! and acquires the lease. The phase changes nothing but the lease, and acquires the lease last.

use serde_json::Value;
use spot_cloud::auto_scaling::groups;
use spot_cloud::ec2::instances;
use spot_cloud::tables::swaps::Leased;
use spot_domain::swap::asked::Asked;
use spot_domain::swap::group::Group;
use spot_domain::swap::report::SwapRequest;
use spot_domain::{ExecutionArn, InstanceId};

use spot_swap::error::StepError;
use spot_swap::group::Plan;
use spot_swap::request::{Site, parse};
use spot_swap::work::Work;
use spot_swap::{Context, group};

/// Plans the run.
///
/// # Errors
/// The request, the group or the settings are refused (nothing was changed), or a call fails.
pub async fn run(context: &Context, execution: ExecutionArn, input: Value) -> Result<Work, StepError> {
    let request: SwapRequest = parse(input, SHAPE)?;
    let asked = request.asked();
    let site = Site::of(context, request.account_id, request.region, execution).await?;
    let Site { account_id, region, settings, clients, .. } = &site;
    let group = groups::describe(&clients.autoscaling, &request.asg_name).await?.ok_or_else(|| {
        let name = &request.asg_name;
        StepError::GroupNotFound(
            format!("asg_name: account {account_id} has no Auto Scaling group {name:?} in {region}").into(),
        )
    })?;
    refuse_unknown(&site, &group, &asked).await?;
    let Plan { hooks, look, selection } = group::plan(clients, region, settings, group, &asked).await?;
    // On-Demand has no pool: no gate is asked.
    let blind = if request.to.is_spot() { site.blindness(context).await? } else { None };
    let group = &look.group;
    let lease = site.lease(Leased::Group { arn: group.arn.clone(), name: group.name.clone() });
    if !request.dry_run {
        context.swaps.take(&lease).await?;
    }
    let asked = request.max_swaps.map_or(settings.max_swaps, std::num::NonZeroU32::get);
    let mut work = Work::new(lease, site.settings);
    work.blind = blind;
    work.note_hooks(&hooks);
    work.spot_max_price = look.spot_max_price();
    work.dry_run = request.dry_run;
    work.max_swaps = asked.min(work.max_swaps);
    work.to = request.to;
    work.replace = request.replace;
    work.group_size = group.members.len();
    work.leave_alone(selection.skipped);
    work.enqueue(selection.candidates);
    tracing::info!(asg_name = %group.name, candidates = work.queue.len(), skipped = work.skipped.len(), "discovered");
    Ok(work)
}

/// Refuses a request that names an instance which EC2 does not know: an id that was mistyped, or of another account or
/// region. An instance that is in no group, or in another one, is left to the selection.
async fn refuse_unknown(site: &Site, group: &Group, asked: &Asked) -> Result<(), StepError> {
    let Some(named) = &asked.replace else { return Ok(()) };
    let strangers: Vec<InstanceId> =
        named.ids().iter().filter(|id| group.member(id).is_none()).cloned().collect();
    if strangers.is_empty() {
        return Ok(());
    }
    let known = instances::describe(&site.clients.ec2, &strangers).await?;
    let unknown = strangers.iter().find(|id| !known.contains_key(id));
    unknown.map_or(Ok(()), |id| {
        let (account_id, region) = (&site.account_id, &site.region);
        let why = format!("replace: account {account_id} has no instance {id} in {region}");
        Err(StepError::InvalidInput(why.into()))
    })
}

const SHAPE: &str = r#"{"asg_name": "...", "account_id"?, "region"?, "max_swaps"?, "replace"?: ["i-..."], "to"?: "SPOT" | "ON_DEMAND", "dry_run"?}"#;
