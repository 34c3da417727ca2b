//! Leases: the right of one execution to work on a group, an instance or a node of a cluster.
//! [`crate::tables::swaps`] stores them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use spot_domain::swap::journal::{Journal, SwapKind};
use spot_domain::{AccountId, ClusterName, ExecutionArn, GroupArn, GroupName, InstanceId, Region};

/// The holder of a lease: an execution, or the reconciler in the place of a dead one. No holder writes under
/// another's name, so that a redriven execution can't undo the reconciler's work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Owner {
    /// The execution itself.
    Execution(ExecutionArn),
    /// The reconciler, after this execution died.
    ReconcilerFor(ExecutionArn),
}

const RECONCILER: &str = "reconciler for ";

impl Owner {
    /// Returns the execution that acquired the lease.
    #[must_use]
    pub fn execution(&self) -> &ExecutionArn {
        match self {
            Self::Execution(arn) | Self::ReconcilerFor(arn) => arn,
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Execution(arn) => write!(f, "{arn}"),
            Self::ReconcilerFor(arn) => write!(f, "{RECONCILER}{arn}"),
        }
    }
}

impl std::str::FromStr for Owner {
    type Err = spot_domain::ids::MalformedText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(RECONCILER) {
            Some(arn) => arn.parse().map(Self::ReconcilerFor),
            None => text.parse().map(Self::Execution),
        }
    }
}

impl TryFrom<String> for Owner {
    type Error = spot_domain::ids::MalformedText;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> Self {
        owner.to_string()
    }
}

/// The subject of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leased {
    /// An Auto Scaling group: one swap at a time.
    Group {
        /// The group's ARN, the row's key.
        arn: GroupArn,
        /// The group's name.
        name: GroupName,
    },
    /// An instance that is in no group.
    Instance(InstanceId),
    /// One slot of a Kubernetes cluster for a node that may be unavailable. The swap itself is under the
    /// lease on the node's group.
    ClusterSlot {
        /// The cluster.
        cluster: ClusterName,
        /// The slot's number, from 0 to the setting `max_unavailable_nodes` less one.
        slot: u32,
    },
}

impl std::fmt::Display for Leased {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Group { name, .. } => write!(f, "group {name}"),
            Self::Instance(id) => write!(f, "instance {id}"),
            Self::ClusterSlot { cluster, slot } => write!(f, "slot {slot} of cluster {cluster}"),
        }
    }
}

/// A lease: its subject and its holder. A lease names account and region, so that the reconciler finds the
/// subject with no other knowledge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The subject of the lease.
    pub on: Leased,
    /// The subject's account.
    pub account_id: AccountId,
    /// The subject's region.
    pub region: Region,
    /// The holder of the lease.
    pub owner: Owner,
    /// The time when the run began.
    pub since: Timestamp,
}

impl Lease {
    /// Returns the row's key.
    #[must_use]
    pub fn key(&self) -> String {
        match &self.on {
            Leased::Group { arn, .. } => arn.to_string(),
            Leased::Instance(id) => key_of_instance(&self.account_id, &self.region, id),
            Leased::ClusterSlot { cluster, slot } => slot_key(&self.account_id, &self.region, cluster, *slot),
        }
    }

    /// Returns the contradiction between this lease and a journal: a state that no step of ours can have
    /// written. Such a journal is not carried out.
    #[must_use]
    pub fn contradicts(&self, journal: &Journal) -> Option<String> {
        let fits = match (&self.on, &journal.kind) {
            (Leased::Group { .. }, SwapKind::Group | SwapKind::Node(_) | SwapKind::Answer(_)) => true,
            (Leased::Instance(id), SwapKind::Lab(_)) => &journal.old == id,
            _ => false,
        };
        if !fits {
            return Some(format!(
                "a swap of instance {} does not lie under a lease on {}",
                journal.old, self.on
            ));
        }
        journal.contradiction()
    }
}

/// Returns the key of the row of a cluster's slot.
#[must_use]
pub fn slot_key(account_id: &AccountId, region: &Region, cluster: &ClusterName, slot: u32) -> String {
    format!("{account_id}#{region}#{cluster}#{slot}")
}

/// Returns the key of an instance's row.
#[must_use]
pub fn key_of_instance(account_id: &AccountId, region: &Region, id: &InstanceId) -> String {
    format!("{account_id}#{region}#{id}")
}

#[cfg(test)]
mod tests {
    use spot_domain::swap::journal::Retirement;
    use spot_domain::swap::lab::{Captured, LabSwap, OldInstance, Traits};

    use super::*;

    fn journal(is_lab: bool) -> Journal {
        let lab = LabSwap {
            instance_type: None,
            old_instance: OldInstance::Stop,
            address: None,
            registrations: vec![],
            capture: false,
            leaving: false,
            let_out: std::collections::BTreeSet::new(),
            stopping: false,
            traits: Traits::new(),
            losses: vec![],
            captured_at: None,
            is_over: false,
            captured: Captured::default(),
            volumes: std::collections::BTreeSet::new(),
            kept: std::collections::BTreeMap::new(),
        };
        let old = "i-0123456789abcdef0".parse().unwrap();
        let kind = if is_lab { SwapKind::Lab(Box::new(lab)) } else { SwapKind::Group };
        Journal::new(&old, Timestamp::UNIX_EPOCH, Retirement::Detach, kind)
    }

    fn lease(on: Leased) -> Lease {
        Lease {
            on,
            account_id: "123456789012".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            owner: "arn:aws:states:us-east-1:123456789012:execution:swap:run-1".parse().unwrap(),
            since: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_journal_lies_under_the_lease_of_its_own_kind() {
        let arn = "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:u:autoScalingGroupName/web";
        let group = || lease(Leased::Group { arn: arn.parse().unwrap(), name: "web".parse().unwrap() });
        let instance = |id: &str| lease(Leased::Instance(id.parse().unwrap()));
        let slot = lease(Leased::ClusterSlot { cluster: "c".parse().unwrap(), slot: 0 });
        assert_eq!(group().contradicts(&journal(false)), None);
        assert_eq!(instance("i-0123456789abcdef0").contradicts(&journal(true)), None);
        for (lease, is_lab) in [
            (group(), true),
            (instance("i-0123456789abcdef0"), false),
            (instance("i-0123456789abcdef1"), true),
            (slot, false),
        ] {
            assert!(lease.contradicts(&journal(is_lab)).is_some(), "{}, lab: {is_lab}", lease.on);
        }
    }
}
