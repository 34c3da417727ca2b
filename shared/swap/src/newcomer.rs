//! The description of both instances of a swap. Every phase that terminates, attaches or starts an instance checks
//! here that the instance is the swap's own.

use spot_cloud::ec2::instances;
use spot_cloud::ec2::instances::Launched;
use spot_cloud::tables::swaps::{Lease, SwapsError};
use spot_cloud::{CallError, RegionClients};
use spot_domain::InstanceId;
use spot_domain::swap::group::Instance;
use spot_domain::swap::journal::Journal;
use spot_domain::swap::proof::{Evidence, left_alone};
use spot_domain::tags::GROUP_NAME_TAG;

/// Both instances of a swap, as EC2 shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwapInstances {
    /// The old instance; `None` once EC2 no longer describes it.
    pub old: Option<Instance>,
    pub newcomer: Evidence,
    /// Further instances that launches of the swap made, alive and in no group: the answer to an earlier launch was lost.
    pub strays: Vec<InstanceId>,
    /// All instances that only bear the swap's tag, in words.
    pub left_alone: Vec<String>,
}

/// Describes the instances that the journal names, and all that the swap has launched.
///
/// # Errors
/// A call fails, or the journal names an instance that something else launched ([`SwapsError::Unproven`]).
pub async fn look(
    clients: &RegionClients,
    lease: &Lease,
    journal: &Journal,
) -> Result<SwapInstances, SwapsError> {
    let known: Vec<InstanceId> = journal.newcomer.iter().chain([&journal.old]).cloned().collect();
    let mut described = instances::describe(&clients.ec2, &known).await?;
    let old = described.remove(&journal.old);
    let launched = if journal.newcomer.is_none() {
        instances::launched_by(&clients.ec2, &journal.swap_id).await?
    } else {
        let by_swap = instances::launches_of(&clients.ec2, &journal.swap_id).await?;
        Launched { by_swap, only_tagged: Vec::new() }
    };
    let shown =
        if journal.newcomer.is_some() { described.into_values().collect() } else { launched.by_swap.clone() };
    let newcomer = Evidence::find(journal, shown)
        .map_err(|why| unproven(lease, &format!("{why}{}", journal.ahead_in_words())))?;
    let strays = strays_among(launched.by_swap, newcomer.id());
    let left_alone = launched.only_tagged.iter().map(|id| left_alone("instance", id.as_str())).collect();
    Ok(SwapInstances { old, newcomer, strays, left_alone })
}

/// Returns the further instances that launches of a swap made, whose newcomer is known.
///
/// # Errors
/// The call fails.
pub async fn strays(clients: &RegionClients, journal: &Journal) -> Result<Vec<InstanceId>, CallError> {
    let launched = instances::launches_of(&clients.ec2, &journal.swap_id).await?;
    Ok(strays_among(launched, journal.newcomer.as_ref()))
}

fn strays_among(launched: Vec<Instance>, newcomer: Option<&InstanceId>) -> Vec<InstanceId> {
    let is_stray = |instance: &Instance| {
        instance.is_alive() && Some(&instance.id) != newcomer && !instance.tags.contains_key(GROUP_NAME_TAG)
    };
    launched.into_iter().filter(is_stray).map(|instance| instance.id).collect()
}

/// Returns the failure of a row that names an instance which is not proven to be its swap's.
#[must_use]
pub fn unproven(lease: &Lease, problem: &str) -> SwapsError {
    SwapsError::Unproven { target: lease.key(), problem: format!("{}: {problem}", lease.on).into() }
}
