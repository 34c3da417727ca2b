//! Discover: inspects the instance, refuses an instance that must be left alone, notes what its twin has to
//! take over, and acquires the lease. Changes nothing but the lease, and acquires that last.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use spot_cloud::ec2::instances;
use spot_cloud::launch::twin::examine;
use spot_cloud::tables::swaps::Leased;
use spot_domain::settings::Settings;
use spot_domain::swap::group::Instance;
use spot_domain::swap::journal::SwapKind;
use spot_domain::swap::lab::losses::losses;
use spot_domain::swap::lab::{
    Captured, LabSwap, LabSwapRequest, OldInstance, Original, refused, refused_account,
};
use spot_domain::swap::market::Market;
use spot_domain::swap::pricing::Prices;
use spot_domain::swap::report::NotSwapped;
use spot_domain::swap::selection::Candidate;
use spot_domain::{AzId, ExecutionArn, Pool, Reason, Region};

use spot_swap::Context;
use spot_swap::error::StepError;
use spot_swap::owner::{self, Traffic};
use spot_swap::request::{Site, parse};
use spot_swap::work::Work;

use super::bring_back;

/// The outcome of a request.
#[derive(Debug)]
pub enum Discovery {
    /// The instance is left alone.
    Refused(NotSwapped),
    /// The instance is the one candidate of a run.
    Swap(Box<Work>),
    /// A finished swap is undone.
    BringBack(Box<Work>),
}

/// Plans the run.
///
/// # Errors
/// The request or the settings can't be applied (nothing was changed), or a call fails.
pub async fn run(context: &Context, execution: ExecutionArn, input: Value) -> Result<Discovery, StepError> {
    let request: LabSwapRequest = parse(input, SHAPE)?;
    bring_back::check(&request)?;
    let (account_id, region) = (request.account_id.clone(), request.region.clone());
    let site = Site::of(context, account_id, region, execution).await?;
    if !request.bring_back
        && let Some(left) = refused_account(&request, site.access.environment_type)
    {
        return Ok(Discovery::Refused(left));
    }
    if request.bring_back {
        return bring_back(context, &request, site).await;
    }
    let (candidate, lab) = match inspect(&site, &request).await? {
        Ok(found) => found,
        Err(left) => return Ok(Discovery::Refused(left)),
    };
    let blind = site.blindness(context).await?;
    let mut work = work(&request, site);
    work.blind = blind;
    work.kind = SwapKind::Lab(Box::new(lab));
    work.enqueue(vec![candidate]);
    if !request.dry_run {
        context.swaps.take(&work.lease).await?;
    }
    tracing::info!(instance_id = %request.instance_id, kind = ?work.kind, "discovered");
    Ok(Discovery::Swap(Box::new(work)))
}

async fn bring_back(context: &Context, request: &LabSwapRequest, site: Site) -> Result<Discovery, StepError> {
    let clients = site.clients.clone();
    let mut work = work(request, site);
    let found =
        bring_back::journal(context, &clients, &work.lease, &work.settings, &request.instance_id).await?;
    match found {
        Err(left) => Ok(Discovery::Refused(left)),
        Ok(journal) => {
            bring_back::begin(context, &mut work, &journal).await?;
            Ok(Discovery::BringBack(Box::new(work)))
        }
    }
}

const SHAPE: &str =
    r#"{"instance_id": "i-…", "account_id"?, "region"?, "capture_image"?, "dry_run"?, "bring_back"?}"#;

type Found = Result<(Candidate, LabSwap), NotSwapped>;

/// Reads everything that a swap has to know of the instance, or returns the reason to leave it alone.
async fn inspect(site: &Site, request: &LabSwapRequest) -> Result<Found, StepError> {
    let Site { region, settings, clients, .. } = site;
    let id = &request.instance_id;
    let Some(mut original) = examine(&clients.ec2, id).await? else {
        let detail = format!("EC2 does not describe it in {region}");
        return Ok(Err(NotSwapped::new(id, Reason::InstanceGone, detail)));
    };
    // An instance that its own marks refuse costs no search through the target groups.
    if let Some(left) = refused(&original, request, settings) {
        return Ok(Err(left));
    }
    let traffic = owner::traffic(clients, &mut original).await?;
    if let Some(left) = refused(&original, request, settings) {
        return Ok(Err(left));
    }
    let lab = to_take_over(request, settings, &original, traffic);
    let instance = original.instance;
    let az_id = match &instance.az_id {
        Some(az_id) => Some(az_id.clone()),
        None => instances::zones(&clients.ec2).await?.remove(&instance.availability_zone),
    };
    Ok(candidate(instance, az_id, region).map(|candidate| (candidate, lab)))
}

/// Returns the journal's part of a lab swap: all that the twin has to take over, and the settings for the old
/// instance.
fn to_take_over(
    request: &LabSwapRequest,
    settings: &Settings,
    original: &Original,
    mut traffic: Traffic,
) -> LabSwap {
    // Without an image, only the old instance has the old disks.
    let old_instance = if request.capture_image { settings.lab_old_instance } else { OldInstance::Stop };
    LabSwap {
        instance_type: Some(original.instance.instance_type.clone()),
        old_instance,
        address: traffic.addresses.pop(),
        registrations: traffic.registrations,
        capture: request.capture_image,
        leaving: false,
        let_out: BTreeSet::new(),
        stopping: false,
        traits: original.traits.clone(),
        losses: losses(original, request.capture_image, old_instance),
        captured_at: None,
        is_over: false,
        captured: Captured::default(),
        volumes: BTreeSet::new(),
        kept: BTreeMap::new(),
    }
}

fn candidate(instance: Instance, az_id: Option<AzId>, region: &Region) -> Result<Candidate, NotSwapped> {
    let left = |reason, detail: String| NotSwapped::new(&instance.id, reason, detail);
    let Some(az_id) = az_id else {
        let detail = format!("no zone id is known for {}", instance.availability_zone);
        return Err(left(Reason::PoolUnreadable, detail));
    };
    let Some(subnet_id) = instance.subnet_id.clone() else {
        return Err(left(Reason::NotSpotCapable, "it is in no subnet (EC2-Classic)".to_owned()));
    };
    let billed_as = instance.billed_as();
    let instance_type = instance.instance_type;
    Ok(Candidate {
        pools: vec![Pool { region: region.clone(), az_id, instance_type: instance_type.clone() }],
        instance_id: instance.id,
        instance_type,
        from: Market::OnDemand,
        to: Market::Spot,
        availability_zone: instance.availability_zone,
        billed_as,
        prices: Prices::default(),
        not_cheaper: String::new(),
        holds: BTreeSet::new(),
        addresses: BTreeSet::new(),
        subnet_id,
        tags: instance.tags,
    })
}

fn work(request: &LabSwapRequest, site: Site) -> Work {
    let lease = site.lease(Leased::Instance(request.instance_id.clone()));
    let mut work = Work::new(lease, site.settings);
    work.dry_run = request.dry_run;
    work.max_swaps = 1;
    work
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_that_is_no_object_is_refused_with_its_shape() {
        for input in [serde_json::json!(["i-0123456789abcdef0"]), serde_json::json!("i"), Value::Null] {
            let error = parse::<LabSwapRequest>(input, SHAPE).unwrap_err();
            assert_eq!(error.name(), "InvalidInput");
            assert!(error.to_string().contains("\"instance_id\""), "{error}");
        }
    }
}
