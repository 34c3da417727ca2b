//! The reason for which an instance was not swapped, or was swapped back. Each reason has one stable code. The
//! codes are an interface: users alarm on them.
//!
//! A reason is declared once, in the list below; docs/reference/reasons.md follows from it.

use crate::codes::codes;

/// The reach of a reason beyond its instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// The run goes on with the next instance.
    Nothing,
    /// The run ends if the whole group is concerned.
    RunOfGroup,
    /// The run ends: every other instance would fail alike.
    Run,
}

/// Makes the reasons from `Name = "CODE", way_out: "…";`. A reason that ends its run says so by `ends:`.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $(ends: $ends:ident,)? way_out: $way_out:literal;)+) => {
        codes! {
            /// A reason code.
            Reason { $($(#[doc = $doc])+ $name = $code;)+ }
        }

        impl Reason {
            /// Returns what a person can do about it, in Markdown. Links are relative to docs/reference.
            #[must_use]
            pub const fn way_out(self) -> &'static str {
                match self { $(Self::$name => $way_out,)+ }
            }

            /// Returns what the reason ends beside the swap of its instance.
            #[must_use]
            pub const fn ends(self) -> Ends {
                match self { $(Self::$name => reasons!(@ends $($ends)?),)+ }
            }
        }
    };
    (@ends) => { Ends::Nothing };
    (@ends $ends:ident) => { Ends::$ends };
}

reasons! {
    /// The instance is Spot already.
    AlreadySpot = "ALREADY_SPOT",
        way_out: "None is needed.";
    /// The instance is On-Demand already, and the run goes to On-Demand.
    AlreadyOnDemand = "ALREADY_ON_DEMAND",
        way_out: "None is needed.";
    /// The instance is not InService or not healthy. Only a serving instance is worth replacing.
    NotInService = "NOT_IN_SERVICE",
        way_out: "Start again once it serves.";
    /// The owner protects the instance from scale-in.
    ScaleInProtected = "SCALE_IN_PROTECTED",
        way_out: "Remove the protection if the instance may go (`SetInstanceProtection`).";
    /// The instance is protected from termination (`DisableApiTermination`).
    TerminationProtected = "TERMINATION_PROTECTED",
        way_out: "Switch the protection off if the instance may go.";
    /// The instance or its group carries the opt-out tag. Or the instance has a tag with a misspelt
    /// key of ours, which may be meant so; the detail names it.
    OptedOut = "OPTED_OUT", ends: RunOfGroup,
        way_out: "Remove the tag that the setting `opt_out_tag` names, or set it to `false`. Correct a key that is \
            misspelt.";
    /// The owner keeps this many On-Demand instances.
    OnDemandFloor = "ON_DEMAND_FLOOR",
        way_out: "Lower the tag `spot-optimizer:min-on-demand`, the setting `min_on_demand`, or the On-Demand part of \
            the group's policy.";
    /// The instance is bound to a dedicated host or a capacity reservation, which Spot can't give.
    NotSpotCapable = "NOT_SPOT_CAPABLE",
        way_out: "None: leave it On-Demand.";
    /// Another service operates the instance; the detail names it.
    ManagedElsewhere = "MANAGED_ELSEWHERE",
        way_out: "Ask that service for Spot.";
    /// The instance is a Kubernetes node, which only the node swap may replace: its pods must move first.
    KubernetesNode = "KUBERNETES_NODE",
        way_out: "[Swap the node](../nodes.md).";
    /// The cluster has no node whose providerID names the instance, or more than one.
    NotANode = "NOT_A_NODE",
        way_out: "Check `cluster_name`. Of two Node objects, delete the stale one.";
    /// The node is in no Auto Scaling group, which would keep its place; or the instance that `replace` names is no
    /// member of the group.
    NotInGroup = "NOT_IN_GROUP",
        way_out: "None for a node: only a node of a group can be swapped. For an instance, name its own group.";
    /// Another party has cordoned (or uncordoned) the node.
    CordonedByOthers = "CORDONED_BY_OTHERS",
        way_out: "Start again once that party is done and the node is schedulable.";
    /// A pod could never be evicted, or a budget never be met; `blocked` lists such pods. With `ROLLED_BACK`, the pod
    /// came after the preflight or came back to the node.
    PodsNotEvictable = "PODS_NOT_EVICTABLE",
        way_out: "See the [way out of each case](../nodes.md#which-nodes-and-pods-are-refused).";
    /// The instance is protected from being stopped (`DisableApiStop`), and a lab swap stops the old instance.
    StopProtected = "STOP_PROTECTED",
        way_out: "Switch the protection off if the instance may stop.";
    /// A lab swap is not possible in a PROD account.
    ProdAccount = "PROD_ACCOUNT",
        way_out: "If it is a LAB, say so: `environment_type` in its row of the Accounts table, or the parameter \
            `EnvironmentType`.";
    /// A lab swap is not possible for a member of an Auto Scaling group.
    GroupMember = "GROUP_MEMBER",
        way_out: "[Swap the group](../groups.md).";
    /// Data on an instance store would be lost, or the root device is an instance store.
    InstanceStore = "INSTANCE_STORE",
        way_out: "`capture_image` accepts the loss of the data. An instance-store root has no way out.";
    /// The instance has something that a replacement could not have; the detail names it.
    NotReproducible = "NOT_REPRODUCIBLE",
        way_out: "Remove what the detail names, or leave the instance On-Demand.";
    /// No image of the instance's disks could be made, or the image was not available in time.
    ImageFailed = "IMAGE_FAILED",
        way_out: "Start again. For large disks, raise `image_timeout_seconds`.";
    /// The lab instance is not what it was when its swap began; the detail names the change.
    InstanceChanged = "INSTANCE_CHANGED",
        way_out: "Start again: the plan is made anew.";
    /// EC2 does not describe the instance (any more).
    InstanceGone = "INSTANCE_GONE",
        way_out: "Check id, account and region. If it has ended, none is needed.";
    /// Every allowed pool in its zone is poisoned; the detail says until when.
    PoolPoisoned = "POOL_POISONED",
        way_out: "Wait, or allow other types (tag `spot-optimizer:instance-types`). [Risk](../risk.md) says how to \
            unpoison a pool.";
    /// The instance is Spot and is to be replaced by Spot, which takes another pool than its own. Or its group does not
    /// launch its type any more. The group allows no other type.
    NoOtherPool = "NO_OTHER_POOL",
        way_out: "Allow other types (tag `spot-optimizer:instance-types`), or take the instance back (`\"to\": \
            \"ON_DEMAND\"`).";
    /// No pool of the instance's zone is known to be clear. Either a row of the risk table can't be read, or the zone's
    /// id is not known.
    PoolUnreadable = "POOL_UNREADABLE",
        way_out: "Repair or delete the row that the detail names. For an unknown zone, start again.";
    /// The risk table did not answer within a second, or a member's hub within three, at two tries. Nothing was
    /// launched.
    GateUnreachable = "GATE_UNREACHABLE", ends: Run,
        way_out: "Start again. If it lasts, look at the risk table; in a member, at the [hub](../hub.md).";
    /// No rule hands the interruptions of this account and region to the stack, so that the gate can't know its pools;
    /// the detail names the lack. Nothing was launched.
    GateBlind = "GATE_BLIND", ends: Run,
        way_out: "Deploy [account.yaml](../forwarding.md) there. The setting `blind_gate` may allow swaps all the same.";
    /// No pool of the zone saves `min_saving_percent`, or is below the group's `SpotMaxPrice`. Or the newcomer's image is
    /// billed otherwise than the old instance, whose prices were compared.
    NotCheaper = "NOT_CHEAPER",
        way_out: "Allow other types, lower `min_saving_percent`, or raise `SpotMaxPrice`. If the image is another one, let \
            the group replace its members first.";
    /// No subnet of the group in the instance's zone has a free address; the detail names them.
    SubnetFull = "SUBNET_FULL",
        way_out: "Free addresses, or add a subnet of that zone to the group.";
    /// No cleared pool had capacity.
    NoCapacity = "NO_CAPACITY",
        way_out: "Start again later, or allow other types.";
    /// A quota of the account stops the launch in every pool that the gate cleared; the detail names it.
    QuotaExceeded = "QUOTA_EXCEEDED", ends: Run,
        way_out: "Raise the quota (Service Quotas), then start again.";
    /// A permission is missing; the detail names the call. A launch was denied in every pool that the gate cleared.
    NotAuthorized = "NOT_AUTHORIZED", ends: Run,
        way_out: "Grant the call: deploy the stack anew, or [account.yaml](../../shared/cloud/account.yaml) in the \
            other account; for a cluster, see [access](../nodes.md#access-to-the-cluster). A policy of your \
            organization or of a key may deny it, too.";
    /// The replacement of this instance can't be launched as Spot, or EC2 refuses it; the detail says why.
    LaunchRejected = "LAUNCH_REJECTED",
        way_out: "Correct what the detail names in the launch template or its image.";
    /// The newcomer died while it started, or failed its status checks until the deadline.
    NewcomerUnhealthy = "NEWCOMER_UNHEALTHY",
        way_out: "Look at its console output, and at the [key of its disks](parameters.md). A slow start needs a \
            longer `health_timeout_seconds`.";
    /// The newcomer's pool was poisoned, or the newcomer was interrupted, before it took over.
    NewcomerAtRisk = "NEWCOMER_AT_RISK",
        way_out: "Start again: another pool is chosen.";
    /// Auto Scaling refused to attach the newcomer; the detail has its message. In a lab swap, EC2 or a target group
    /// refused it.
    AttachRejected = "ATTACH_REJECTED",
        way_out: "Correct what the message names, then start again.";
    /// The newcomer did not serve by the deadline: InService, healthy in every target group, and ready.
    NewcomerNotServing = "NEWCOMER_NOT_SERVING",
        way_out: "Look at its health checks and its ready tag. A slow start needs a longer \
            `in_service_timeout_seconds`.";
    /// By the deadline, the newcomer did not join its cluster, was not Ready and free of startup taints, or could not
    /// hold the old node's pods.
    NodeNotReady = "NODE_NOT_READY",
        way_out: "The detail names the lack: see the \
            [way out of each](../nodes.md#which-nodes-and-pods-are-refused). A slow boot needs a longer \
            `node_ready_timeout_seconds`.";
    /// The drain did not end by the deadline; `detail` and `blocked` name the pods that are left, and why.
    DrainTimedOut = "DRAIN_TIMED_OUT",
        way_out: "Repair what blocks them, or give the drain more time (`drain_timeout_seconds`).";
    /// The group is not what it was when the swap began; the detail names the change.
    GroupChanged = "GROUP_CHANGED", ends: RunOfGroup,
        way_out: "Start again: the plan is made anew.";
    /// The group was scaling until the deadline, or was about to scale by its schedule. Nothing was launched.
    GroupScaling = "GROUP_SCALING", ends: Run,
        way_out: "Start again while the group rests.";
    /// Auto Scaling refused to release the old instance; the detail has its message. In a lab swap, EC2 or a target
    /// group refused it.
    RetireRejected = "RETIRE_REJECTED",
        way_out: "Correct what the message names, then start again.";
    /// After the swap, desired capacity is higher than it was, and nothing proves whose that is. The detail has both figures.
    CapacityInDoubt = "CAPACITY_IN_DOUBT", ends: Run,
        way_out: "If neither you nor a scaling policy has raised it, lower it by one, and then MaxSize to what it was. \
            Start again.";
    /// The execution was stopped, timed out or lost; the reconciler restored the state before it.
    ExecutionDied = "EXECUTION_DIED", ends: Run,
        way_out: "Start again.";
    /// A step failed in a way that has no better name; the detail holds the error.
    StepFailed = "STEP_FAILED", ends: Run,
        way_out: "Correct what the error names, then start again. The log has all lines of the swap.";
}

impl Reason {
    /// Returns true if the rest of the run would fail alike: the account, its permissions, a quota, the gate or a
    /// group that scales stands against it. The run then stops.
    #[must_use]
    pub const fn ends_run(self) -> bool {
        matches!(self.ends(), Ends::Run)
    }

    /// Returns true if it is a failure of the run, and not of the one instance that the run was for. A blind gate is none: the
    /// place is as it is, and every plan says so.
    #[must_use]
    pub const fn fails_run(self) -> bool {
        self.ends_run() && !matches!(self, Self::GateBlind)
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
        let whole = [
            "GATE_UNREACHABLE",
            "GATE_BLIND",
            "QUOTA_EXCEEDED",
            "NOT_AUTHORIZED",
            "GROUP_SCALING",
            "CAPACITY_IN_DOUBT",
            "EXECUTION_DIED",
            "STEP_FAILED",
        ];
        assert_eq!(ending, whole);
    }
}
