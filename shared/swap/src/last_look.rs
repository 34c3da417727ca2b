//! The last look at a newcomer before the old instance leaves for good. Its pool may have been poisoned since the launch, and
//! EC2 may be about to take it back. The phases ask, and so does every way back.

use spot_cloud::ec2::instances;
use spot_cloud::launch::gatekeeper::{Gatekeeper, PoolVerdict};
use spot_cloud::{CallError, RegionClients};
use spot_domain::swap::group::Instance;
use spot_domain::{InstanceId, Pool, Region};

/// What the last look has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastLook {
    /// The swap may go on.
    Clear,
    /// The pool is poisoned, or EC2 is about to interrupt the newcomer.
    AtRisk(String),
    /// The gate does not answer: the old instance stays.
    Unknown(String),
}

/// Looks at a Spot newcomer. In a LAB account, or below a threshold of several accounts, an interruption poisons nothing; the
/// Spot request shows it.
///
/// # Errors
/// EC2 does not answer.
pub async fn last_look(
    gatekeeper: &Gatekeeper,
    clients: &RegionClients,
    newcomer: &InstanceId,
    pool: &Pool,
) -> Result<LastLook, CallError> {
    if let Some(why) = taken_back(clients, newcomer).await? {
        return Ok(LastLook::AtRisk(why));
    }
    Ok(match gatekeeper.ask_one(pool).await {
        Ok(PoolVerdict::Cleared(_)) => LastLook::Clear,
        Ok(PoolVerdict::PoisonedUntil(until)) => {
            LastLook::AtRisk(format!("pool {pool} was poisoned meanwhile, until {until}"))
        }
        Ok(PoolVerdict::Unreadable(row)) => LastLook::Unknown(row.to_string()),
        Err(closed) => LastLook::Unknown(closed.to_string()),
    })
}

/// Looks at a newcomer as EC2 describes it. EC2 takes no On-Demand one back, and what has died needs no look.
///
/// # Errors
/// EC2 does not answer.
pub(crate) async fn last_look_at_described(
    gatekeeper: &Gatekeeper,
    clients: &RegionClients,
    newcomer: &Instance,
    region: &Region,
) -> Result<LastLook, CallError> {
    if !newcomer.is_spot || !newcomer.is_alive() {
        return Ok(LastLook::Clear);
    }
    match pool_of(newcomer, region) {
        Some(pool) => last_look(gatekeeper, clients, &newcomer.id, &pool).await,
        None => Ok(LastLook::Unknown(format!("EC2 does not show the zone of newcomer {}", newcomer.id))),
    }
}

/// Says that EC2 reclaims a Spot newcomer, by its Spot request.
///
/// # Errors
/// EC2 does not answer.
pub(crate) async fn taken_back(
    clients: &RegionClients,
    newcomer: &InstanceId,
) -> Result<Option<String>, CallError> {
    let taken = instances::taken_back(&clients.ec2, std::slice::from_ref(newcomer)).await?;
    Ok(taken.get(newcomer).map(|code| format!("newcomer {newcomer}: its Spot request is {code}")))
}

/// Says if EC2 takes a Spot old instance back. A way back would have it for two minutes.
///
/// # Errors
/// EC2 does not answer.
pub(crate) async fn is_lost(
    clients: &RegionClients,
    old: &InstanceId,
    is_spot: bool,
) -> Result<bool, CallError> {
    Ok(is_spot && !instances::taken_back(&clients.ec2, std::slice::from_ref(old)).await?.is_empty())
}

/// Returns the pool of a Spot instance. An On-Demand one is in none.
pub(crate) fn pool_of(instance: &Instance, region: &Region) -> Option<Pool> {
    if !instance.is_spot {
        return None;
    }
    let (az_id, instance_type) = (instance.az_id.clone()?, instance.instance_type.clone());
    Some(Pool { region: region.clone(), az_id, instance_type })
}
