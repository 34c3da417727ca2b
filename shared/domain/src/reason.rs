//! The reason for which an instance was not swapped, or was swapped back. Each reason has one stable code,
//! listed in docs/reference/reasons.md. The codes are an interface: users alarm on them.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// A reason code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Reason { $($(#[$doc])* #[serde(rename = $code)] $name,)* }

        impl Reason {
            /// Every reason that exists.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Returns the code as outputs and logs spell it.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }
        }
    };
}

reasons! {
    /// The instance is Spot already.
    AlreadySpot = "ALREADY_SPOT",
    /// The instance is not InService or not healthy: only a serving instance is worth replacing.
    NotInService = "NOT_IN_SERVICE",
    /// The owner protects the instance from scale-in.
    ScaleInProtected = "SCALE_IN_PROTECTED",
    /// The instance is protected from termination (`DisableApiTermination`).
    TerminationProtected = "TERMINATION_PROTECTED",
    /// The instance or its group carries the opt-out tag.
    OptedOut = "OPTED_OUT",
    /// The owner keeps this many On-Demand instances.
    OnDemandFloor = "ON_DEMAND_FLOOR",
    /// The instance is bound to a dedicated host or a capacity reservation, which Spot can't give.
    NotSpotCapable = "NOT_SPOT_CAPABLE",
    /// Another AWS service operates the instance.
    ManagedElsewhere = "MANAGED_ELSEWHERE",
    /// The instance is a Kubernetes node, which only the node swap may replace: its pods must move first.
    KubernetesNode = "KUBERNETES_NODE",
    /// The instance is no node of that cluster.
    NotANode = "NOT_A_NODE",
    /// The node is in no Auto Scaling group that would keep its place.
    NotInGroup = "NOT_IN_GROUP",
    /// Another party has cordoned the node.
    CordonedByOthers = "CORDONED_BY_OTHERS",
    /// A pod of the node could never be evicted, or a budget never be met; the output lists such pods.
    PodsNotEvictable = "PODS_NOT_EVICTABLE",
    /// The instance is protected from being stopped (`DisableApiStop`).
    StopProtected = "STOP_PROTECTED",
    /// The request asked for a lab swap in a PROD account.
    ProdAccount = "PROD_ACCOUNT",
    /// The request asked for a lab swap of a member of an Auto Scaling group.
    GroupMember = "GROUP_MEMBER",
    /// Data on an instance store would be lost.
    InstanceStore = "INSTANCE_STORE",
    /// The instance has something that a twin could not have; the detail names it.
    NotReproducible = "NOT_REPRODUCIBLE",
    /// No image of the instance's disks could be made.
    ImageFailed = "IMAGE_FAILED",
    /// The instance is not what it was when its swap began.
    InstanceChanged = "INSTANCE_CHANGED",
    /// EC2 does not describe the instance (any more).
    InstanceGone = "INSTANCE_GONE",
    /// Every allowed pool in its zone is poisoned.
    PoolPoisoned = "POOL_POISONED",
    /// No pool of the instance's zone is known to be clear. Either a row of the risk table can't be read, or
    /// the zone's id is not known.
    PoolUnreadable = "POOL_UNREADABLE",
    /// The risk table did not answer in time, so that nothing was launched.
    GateUnreachable = "GATE_UNREACHABLE",
    /// No pool is so much cheaper than the old instance that a swap would be worth it.
    NotCheaper = "NOT_CHEAPER",
    /// No subnet of the group in the instance's zone has a free address; the detail names them.
    SubnetFull = "SUBNET_FULL",
    /// No cleared pool had capacity.
    NoCapacity = "NO_CAPACITY",
    /// A quota of the account stops every launch; the detail names it.
    QuotaExceeded = "QUOTA_EXCEEDED",
    /// A permission is missing; the detail names the call.
    NotAuthorized = "NOT_AUTHORIZED",
    /// EC2 refuses the launch of the replacement; the detail holds EC2's words.
    LaunchRejected = "LAUNCH_REJECTED",
    /// The newcomer died while it started, or failed its status checks until the deadline.
    NewcomerUnhealthy = "NEWCOMER_UNHEALTHY",
    /// The newcomer's pool was poisoned, or the newcomer was interrupted, before it took over.
    NewcomerAtRisk = "NEWCOMER_AT_RISK",
    /// Auto Scaling refused to attach the newcomer. In a lab swap, EC2 or a target group refused it.
    AttachRejected = "ATTACH_REJECTED",
    /// The newcomer did not serve (InService, healthy in every target group) by the deadline.
    NewcomerNotServing = "NEWCOMER_NOT_SERVING",
    /// The newcomer did not join its cluster, or was not Ready, by the deadline.
    NodeNotReady = "NODE_NOT_READY",
    /// The drain did not end by the deadline; the output lists the pods that blocked it.
    DrainTimedOut = "DRAIN_TIMED_OUT",
    /// The group is not what it was when the swap began.
    GroupChanged = "GROUP_CHANGED",
    /// The group was scaling until the deadline, or was about to scale by its schedule. Nothing was launched.
    GroupScaling = "GROUP_SCALING",
    /// Auto Scaling refused to release the old instance. In a lab swap, EC2 or a target group refused it.
    RetireRejected = "RETIRE_REJECTED",
    /// The execution was stopped, timed out or lost; the reconciler restored the state before it.
    ExecutionDied = "EXECUTION_DIED",
    /// A step failed in a way that has no better name; the detail holds the error.
    StepFailed = "STEP_FAILED",
}

impl Reason {
    /// Returns true if the rest of the run would fail alike: the account, its permissions, a quota or the
    /// gate stands against it. The run then stops.
    #[must_use]
    pub const fn ends_run(self) -> bool {
        matches!(
            self,
            Self::GateUnreachable
                | Self::QuotaExceeded
                | Self::NotAuthorized
                | Self::ExecutionDied
                | Self::StepFailed
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_screaming_snake_and_unique() {
        let codes: std::collections::HashSet<_> = Reason::ALL.iter().map(|r| r.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert!(reason.code().bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{reason}");
            assert_eq!(serde_json::to_string(reason).unwrap(), format!("\"{reason}\""));
        }
    }

    #[test]
    fn only_what_concerns_every_candidate_ends_a_run() {
        let ending: Vec<_> =
            Reason::ALL.iter().filter(|reason| reason.ends_run()).map(|r| r.code()).collect();
        let account =
            ["GATE_UNREACHABLE", "QUOTA_EXCEEDED", "NOT_AUTHORIZED", "EXECUTION_DIED", "STEP_FAILED"];
        assert_eq!(ending, account);
    }

    #[test]
    fn the_docs_list_every_code() {
        let page = include_str!("../../../docs/reference/reasons.md");
        for reason in Reason::ALL {
            assert!(
                page.contains(&format!("`{reason}`")),
                "docs/reference/reasons.md does not explain {reason}"
            );
        }
    }
}
