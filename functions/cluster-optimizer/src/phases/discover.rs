//! Discover: reads the group and its instances, refuses unsupported groups, sorts the members, and acquires
//! the lease. The phase changes nothing but the lease, and acquires the lease last.

use serde_json::Value;
use spot_cloud::RegionClients;
use spot_cloud::auto_scaling::groups;
use spot_cloud::load_balancing::targets;
use spot_cloud::tables::swaps::Leased;
use spot_domain::ExecutionArn;
use spot_domain::swap::report::SwapRequest;
use spot_domain::swap::selection::select;

use spot_swap::error::StepError;
use spot_swap::group::GroupLook;
use spot_swap::request::{Site, parse};
use spot_swap::work::Work;
use spot_swap::{Context, group};

/// Plans the run.
///
/// # Errors
/// The request, the group or the settings are refused (nothing was changed), or a call fails.
pub async fn run(context: &Context, execution: ExecutionArn, input: Value) -> Result<Work, StepError> {
    let request: SwapRequest = parse(input, SHAPE)?;
    let site = Site::of(context, request.account_id, request.region, execution).await?;
    let Site { account_id, region, settings, clients, .. } = &site;
    let group = groups::describe(&clients.autoscaling, &request.asg_name).await?.ok_or_else(|| {
        let name = &request.asg_name;
        StepError::GroupNotFound(
            format!("asg_name: account {account_id} has no Auto Scaling group {name:?} in {region}").into(),
        )
    })?;
    let hooks = group::refuse_unfit(clients, &group).await?;
    let mut look = group::look(clients, region, settings, group).await?;
    note_addresses(clients, &mut look).await?;
    let selection = select(look.view(), settings).map_err(|bad| group::malformed(&look.group, &bad))?;

    let group = &look.group;
    let lease = site.lease(Leased::Group { arn: group.arn.clone(), name: group.name.clone() });
    if !request.dry_run {
        context.swaps.take(&lease).await?;
    }
    let asked = request.max_swaps.map_or(settings.max_swaps, std::num::NonZeroU32::get);
    let mut work = Work::new(lease, site.settings);
    work.note_hooks(&hooks);
    work.spot_max_price = look.spot_max_price();
    work.dry_run = request.dry_run;
    work.max_swaps = asked.min(work.max_swaps);
    work.leave_alone(selection.skipped);
    work.enqueue(selection.candidates);
    tracing::info!(asg_name = %group.name, candidates = work.queue.len(), skipped = work.skipped.len(), "discovered");
    Ok(work)
}

/// Notes the members that a target group has by their address, which no replacement can have.
async fn note_addresses(clients: &RegionClients, look: &mut GroupLook) -> Result<(), StepError> {
    let on_demand = look.instances.values().filter(|instance| !instance.is_spot);
    if on_demand.clone().next().is_none() {
        return Ok(());
    }
    let found = targets::by_others(&clients.elbv2, on_demand, &look.group.target_group_arns).await?;
    for (id, name) in found.by_address {
        if let Some(instance) = look.instances.get_mut(&id) {
            instance.belongings.by_address_in = Some(name);
        }
    }
    Ok(())
}

const SHAPE: &str = r#"{"asg_name": "...", "account_id"?, "region"?, "max_swaps"?, "dry_run"?}"#;
