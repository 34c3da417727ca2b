//! Leases: the right of one execution to work on a group, an instance or a node of a cluster. Where they are
//! kept, and what lies under them, is [`crate::swaps`].

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use spot_domain::journal::Journal;
use spot_domain::{AccountId, ClusterName, ExecutionArn, GroupArn, GroupName, InstanceId, Region};

/// Who holds a lease: an execution, or the reconciler in the place of a dead one. Nobody writes
/// under another's name, so a redriven execution can't undo what the reconciler does.
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
    /// The execution that took the lease.
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
    type Err = spot_domain::ids::Malformed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(RECONCILER) {
            Some(arn) => arn.parse().map(Self::ReconcilerFor),
            None => text.parse().map(Self::Execution),
        }
    }
}

impl TryFrom<String> for Owner {
    type Error = spot_domain::ids::Malformed;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> Self {
        owner.to_string()
    }
}

/// What a lease is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leased {
    /// An Auto Scaling group: one swap at a time.
    Group {
        /// Its ARN, the row's key.
        arn: GroupArn,
        /// Its name.
        name: GroupName,
    },
    /// An instance that is in no group.
    Instance(InstanceId),
    /// One of the nodes of a Kubernetes cluster that may be unavailable at a time. The swap itself lies
    /// under the lease on its group.
    ClusterSlot {
        /// The cluster.
        cluster: ClusterName,
        /// From 0 to the setting `max_unavailable_nodes` less one.
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

/// What is under lease, and who holds it. It says where that lies, so that the reconciler finds it
/// again knowing nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// What is under lease.
    pub on: Leased,
    /// Its account.
    pub account_id: AccountId,
    /// Its region.
    pub region: Region,
    /// Who holds the lease.
    pub owner: Owner,
    /// When the run began.
    pub since: Timestamp,
}

impl Lease {
    /// The row's key.
    #[must_use]
    pub fn key(&self) -> String {
        let place = format!("{}#{}", self.account_id, self.region);
        match &self.on {
            Leased::Group { arn, .. } => arn.to_string(),
            Leased::Instance(id) => key_of_instance(&self.account_id, &self.region, id),
            Leased::ClusterSlot { cluster, slot } => format!("{place}#{cluster}#{slot}"),
        }
    }

    /// Says what no step of ours can have written under this lease; such a journal is not carried out.
    #[must_use]
    pub fn contradicts(&self, journal: &Journal) -> Option<String> {
        let fits = match &self.on {
            Leased::Group { .. } => journal.lab.is_none(),
            Leased::Instance(id) => journal.lab.is_some() && &journal.old == id,
            Leased::ClusterSlot { .. } => false,
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

/// Returns the key of an instance's row.
pub(crate) fn key_of_instance(account_id: &AccountId, region: &Region, id: &InstanceId) -> String {
    format!("{account_id}#{region}#{id}")
}

#[cfg(test)]
mod tests {
    use spot_domain::journal::Retirement;
    use spot_domain::lab::{Captured, LabSwap, OldInstance, Traits};

    use super::*;

    fn journal(is_lab: bool) -> Journal {
        let lab = LabSwap {
            instance_type: None,
            old_instance: OldInstance::Stop,
            address: None,
            registrations: vec![],
            capture: false,
            leaving: false,
            stopping: false,
            traits: Traits::new(),
            losses: vec![],
            captured_at: None,
            is_over: false,
            captured: Captured::default(),
            volumes: std::collections::BTreeSet::new(),
        };
        let old = "i-0123456789abcdef0".parse().unwrap();
        let journal = Journal::new(&old, Timestamp::UNIX_EPOCH, Retirement::Detach);
        Journal { lab: is_lab.then_some(lab), ..journal }
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
