//! The instance that stays a node in service, for its pods' sake: when nothing is left to wait for, and what a person is
//! told.

use jiff::SignedDuration;
use spot_cluster::drain::{self, Pass};
use spot_cluster::node::NodeName;
use spot_cluster::pods::Blocked;
use spot_domain::InstanceId;
use spot_domain::swap::group::{AZ_REBALANCE, Group};
use spot_domain::swap::journal::Journal;

/// The time that the rollback waits for a pod that ends by itself, or that was evicted and does not end, or for a
/// controller that brings no evicted pod back. The same time holds for a newcomer that is at risk or not Ready.
/// Afterwards the newcomer stays, for its pods' sake.
pub(super) const MAY_END_WITHIN: SignedDuration = SignedDuration::from_mins(30);

/// Returns the pods that hold the node for good; none while waiting may help. A wait for a budget has no end. On a
/// node whose kubelet is dead no such wait is needed: Kubernetes deletes the pods there after some minutes, and
/// they are overdue.
pub(super) fn held_for_good(pass: &Pass, may_be_lost: bool, waited: SignedDuration) -> Vec<Blocked> {
    let is_patient = waited < MAY_END_WITHIN;
    // A drain goes back at once for an overdue pod that it has not evicted. Here the pod may end yet.
    let stuck: Vec<Blocked> = pass.stuck.iter().filter(|pod| !pass.overdue.contains(pod)).cloned().collect();
    match (is_patient, stuck.is_empty()) {
        (true, false) if !may_be_lost => stuck,
        (true, _) => Vec::new(),
        (false, false) => stuck,
        (false, true) => [pass.ending.as_slice(), &pass.overdue, &pass.unreplaced].concat(),
    }
}

/// The group that keeps an instance beyond the capacity that its owner had.
pub(super) struct Grown<'a> {
    pub(super) name: &'a str,
    pub(super) desired: u32,
    /// The owner's MaxSize, if it is lower than the group's.
    pub(super) owners_max: Option<u32>,
    /// Set if AZRebalance was suspended for the swap and stays suspended: otherwise it could choose the instance.
    pub(super) is_rebalance_suspended: bool,
}

impl<'a> Grown<'a> {
    /// Returns the grown group; `None` if the instance is no member.
    pub(super) fn by(id: &InstanceId, journal: &Journal, group: Option<&'a Group>) -> Option<Self> {
        let group = group.filter(|group| group.member(id).is_some())?;
        let owners_max = journal.original.as_ref().map(|original| original.max);
        let owners_max = owners_max.filter(|max| *max < group.max && journal.max_raised_to.is_some());
        let was_running = journal.original.as_ref().is_some_and(|original| !original.az_rebalance_suspended);
        let is_rebalance_suspended = was_running && group.suspended.contains(AZ_REBALANCE);
        Some(Self { name: group.name.as_str(), desired: group.desired, owners_max, is_rebalance_suspended })
    }
}

/// Says that the instance stays, which pods hold it, and what is left to do.
pub(super) fn stays(id: &InstanceId, node: &NodeName, pods: &[Blocked], group: Option<&Grown<'_>>) -> String {
    let pods = drain::in_words(pods);
    let Some(Grown { name, desired, owners_max, is_rebalance_suspended }) = group else {
        return format!(
            "instance {id} stays in service, in no Auto Scaling group, since pods can't leave its node {node}: {pods}. Once \
             they are gone, terminate it"
        );
    };
    let max = owners_max.map(|max| format!(", set MaxSize back to {max}")).unwrap_or_default();
    let rebalance = if *is_rebalance_suspended {
        format!(
            ", then resume {AZ_REBALANCE}, which stays suspended since it could terminate the instance undrained"
        )
    } else {
        String::new()
    };
    format!(
        "instance {id} stays in service as a member of group {name}, whose DesiredCapacity is {desired} by it, since pods \
         can't leave its node {node}: {pods}. Once they are gone, drain the node and call \
         terminate-instance-in-auto-scaling-group --instance-id {id} --should-decrement-desired-capacity{max}{rebalance}"
    )
}
