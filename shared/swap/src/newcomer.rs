//! The description of both instances of a swap. Every phase that terminates, attaches or starts an instance checks
//! here that the instance is the swap's own.

use spot_cloud::RegionClients;
use spot_cloud::ec2::instances;
use spot_cloud::ec2::instances::Launched;
use spot_cloud::tables::swaps::{Lease, SwapsError};
use spot_domain::InstanceId;
use spot_domain::swap::group::Instance;
use spot_domain::swap::journal::Journal;
use spot_domain::swap::proof::{Evidence, left_alone};

/// Both instances of a swap, as EC2 shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwapInstances {
    /// The old instance; `None` once EC2 no longer describes it.
    pub old: Option<Instance>,
    pub newcomer: Evidence,
    /// All instances that only bear the swap's tag, in words.
    pub left_alone: Vec<String>,
}

/// Describes the instances that the journal names. If the journal names no newcomer yet, describes the swap's
/// launches.
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
    let mut launched = Launched { by_swap: described.into_values().collect(), only_tagged: Vec::new() };
    if journal.newcomer.is_none() {
        launched = instances::launched_by(&clients.ec2, &journal.swap_id).await?;
    }
    let newcomer =
        Evidence::find(journal, launched.by_swap).map_err(|why| unproven(lease, &why.to_string()))?;
    let left_alone = launched.only_tagged.iter().map(|id| left_alone("instance", id.as_str())).collect();
    Ok(SwapInstances { old, newcomer, left_alone })
}

/// Returns the failure of a row that names an instance which is not proven to be its swap's.
#[must_use]
pub fn unproven(lease: &Lease, problem: &str) -> SwapsError {
    SwapsError::Unproven { target: lease.key(), problem: format!("{}: {problem}", lease.on) }
}
