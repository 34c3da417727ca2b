//! The end of a swap, as an event tells it.

use serde::Serialize;

use crate::events::OwnEvent;
use crate::ids::{AccountId, ClusterName, ExecutionArn, GroupName, InstanceId, Region};
use crate::money::Usd;
use crate::reason::Reason;
use crate::risk::pool::Pool;
use crate::swap::market::Market;

/// A swap that has ended: the detail of [`OwnEvent::SwapCompleted`] and of [`OwnEvent::SwapRolledBack`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndedSwap {
    /// The execution that began the swap.
    pub execution_arn: ExecutionArn,
    /// The account of the instance.
    pub account_id: AccountId,
    /// The region of the instance.
    pub region: Region,
    /// The group of the instance; `None` in a lab swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asg_name: Option<GroupName>,
    /// The cluster of the node; `None` if the instance is no node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<ClusterName>,
    /// The instance that was to be replaced.
    pub old_instance_id: InstanceId,
    /// The instance that replaces it, or was to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_instance_id: Option<InstanceId>,
    /// The pool of that instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// How the swap ended.
    #[serde(flatten)]
    pub end: SwapEnd,
}

/// The way in which a swap ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum SwapEnd {
    /// The new instance serves.
    Completed {
        /// The market of the new instance.
        to: Market,
        /// The price of the old instance minus the price of the new one, a month.
        #[serde(skip_serializing_if = "Option::is_none")]
        monthly_saving_usd: Option<Usd>,
        /// What finished the swap, if that was not its own execution.
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// The old instance serves.
    RolledBack {
        /// The code.
        reason: Reason,
        /// The reason in words.
        detail: String,
    },
}

impl EndedSwap {
    /// Returns the event that tells of the end.
    #[must_use]
    pub const fn event(&self) -> OwnEvent {
        match self.end {
            SwapEnd::Completed { .. } => OwnEvent::SwapCompleted,
            SwapEnd::RolledBack { .. } => OwnEvent::SwapRolledBack,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn full(end: SwapEnd) -> EndedSwap {
        EndedSwap {
            execution_arn: "arn:aws:states:us-east-1:123456789012:execution:swap:run-1".parse().unwrap(),
            account_id: "123456789012".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            asg_name: Some("web".parse().unwrap()),
            cluster_name: Some("shop".parse().unwrap()),
            old_instance_id: "i-0123456789abcdef0".parse().unwrap(),
            new_instance_id: Some("i-0123456789abcdef1".parse().unwrap()),
            pool: Some("us-east-1#use1-az6#m5.large".parse().unwrap()),
            end,
        }
    }

    fn least(swap: EndedSwap) -> EndedSwap {
        let end = match swap.end {
            SwapEnd::Completed { to, .. } => {
                SwapEnd::Completed { to, monthly_saving_usd: None, detail: None }
            }
            end @ SwapEnd::RolledBack { .. } => end,
        };
        EndedSwap { asg_name: None, cluster_name: None, new_instance_id: None, pool: None, end, ..swap }
    }

    fn fields(swap: &EndedSwap) -> BTreeSet<String> {
        serde_json::to_value(swap).unwrap().as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn the_details_have_the_declared_fields_and_no_others() {
        let completed = SwapEnd::Completed {
            to: Market::Spot,
            monthly_saving_usd: Some(serde_json::from_str("1.5").unwrap()),
            detail: Some("finished by the reconciler".to_owned()),
        };
        let undone = SwapEnd::RolledBack { reason: Reason::StepFailed, detail: "why".to_owned() };
        for (end, event) in [(completed, OwnEvent::SwapCompleted), (undone, OwnEvent::SwapRolledBack)] {
            let swap = full(end);
            assert_eq!(swap.event(), event);
            let declared = event.declared();
            assert_eq!(fields(&swap), declared.fields().map(str::to_owned).collect(), "{event:?}");
            let always = declared.fields_of_all().map(str::to_owned).collect();
            assert_eq!(fields(&least(swap)), always, "{event:?}");
        }
    }
}
