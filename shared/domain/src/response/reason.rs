//! The reasons for which an interrupted instance was not replaced first, or its node not drained. Each has one stable code.

use crate::codes::codes;

codes! {
    /// The code of a reason. Codes are an interface: users alarm on them.
    AnswerReason {
        /// `IGNORED`: EC2 does not describe the instance, or it has ended.
        InstanceGone = "INSTANCE_GONE";
        /// `IGNORED`: the instance is not Spot, so that EC2 interrupts it not.
        NotSpot = "NOT_SPOT";
        /// `IGNORED`: the instance is in no Auto Scaling group, which would replace it.
        NotInGroup = "NOT_IN_GROUP";
        /// `IGNORED`: the group is not enrolled (tag `spot-optimizer:enabled=true`), and no swap launched the instance.
        NotEnrolled = "NOT_ENROLLED";
        /// `IGNORED`: the instance or its group is opted out, or its group is tagged `spot-optimizer:enabled=false`. A misspelt
        /// key counts. `FAILED`: the owner opted out while pods were being evicted from a node, and nothing more was evicted.
        OptedOut = "OPTED_OUT";
        /// `IGNORED`, a recommendation alone: the tag `spot-optimizer:window` of the group allows no start now.
        WindowClosed = "WINDOW_CLOSED";
        /// `IGNORED`, a recommendation alone: the parameter `Continuous` or `SchedulesEnabled` of the stack is `false`.
        LoopIsOff = "LOOP_IS_OFF";
        /// `IGNORED`, a recommendation alone: the group itself launches a replacement (`CapacityRebalance`).
        GroupRebalances = "GROUP_REBALANCES";
        /// `IGNORED`: a recommendation for a Kubernetes node, which a node swap replaces only if it is On-Demand; or a notice
        /// for a node whose cluster no tag names.
        KubernetesNode = "KUBERNETES_NODE";
        /// `IGNORED`: the cluster of the instance has no node that names it, so that no pod runs there.
        NotANode = "NOT_A_NODE";
        /// `IGNORED`: another system drains the node; the detail names it.
        DrainedElsewhere = "DRAINED_ELSEWHERE";
        /// `IGNORED`: another service fills the group and replaces its instances; the detail names it.
        ManagedElsewhere = "MANAGED_ELSEWHERE";
        /// `IGNORED`: the group can't take one more for a while as it is configured; the detail says why.
        GroupNotSupported = "GROUP_NOT_SUPPORTED";
        /// `IGNORED`: the instance is leaving its group already.
        AlreadyLeaving = "ALREADY_LEAVING";
        /// `IGNORED`: the group does not count the instance towards desired, since its owner put it into Standby; or its state
        /// in the group is not known.
        OutOfService = "OUT_OF_SERVICE";
        /// `IGNORED`: a swap in progress has replaced the instance, or launched it and turns back by itself.
        SwapInProgress = "SWAP_IN_PROGRESS";
        /// `IGNORED` for a rebalance recommendation, `RELEASED` for a notice: a swap or another answer works on the group.
        GroupLeased = "GROUP_LEASED";
        /// `IGNORED`: within the last hour, as many of the group were replaced as `max_at_risk_percent` allows.
        ShareAtRisk = "SHARE_AT_RISK";
        /// `IGNORED`: the event came after the end that it announces.
        TooLate = "TOO_LATE";
        /// `RELEASED`: the group is scaling, or is being refreshed.
        GroupBusy = "GROUP_BUSY";
        /// `RELEASED`: too little time is left for a replacement, or to know if desired was raised. `REPLACED`: the replacement
        /// did not serve in time.
        NoTime = "NO_TIME";
        /// `RELEASED`: MaxSize or desired could not be raised; the detail has Auto Scaling's message. Or the group has more
        /// members than a journal can name.
        NoRoom = "NO_ROOM";
        /// `FAILED`: pods are left on a node at its end. The detail names them, and the budgets that kept them.
        PodsLeft = "PODS_LEFT";
        /// `FAILED`: a step failed; the detail holds the error.
        StepFailed = "STEP_FAILED";
    }
}

impl AnswerReason {
    /// Returns true if the instance is none of the stack's affair: the event of every other instance of the account has
    /// such a reason, and nobody needs to be told.
    #[must_use]
    pub const fn is_none_of_ours(self) -> bool {
        matches!(self, Self::InstanceGone | Self::NotSpot | Self::NotInGroup | Self::NotEnrolled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_screaming_snake_and_unique_and_explained() {
        let codes: std::collections::HashSet<_> = AnswerReason::ALL.iter().map(|r| r.code()).collect();
        assert_eq!(codes.len(), AnswerReason::ALL.len());
        for reason in AnswerReason::ALL {
            assert!(reason.code().bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{reason}");
            assert_eq!(serde_json::to_string(reason).unwrap(), format!("\"{reason}\""));
            assert!(reason.doc().starts_with('`'), "{reason}: its outcome comes first");
        }
    }
}
