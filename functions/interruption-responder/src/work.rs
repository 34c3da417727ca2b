//! What one step of an answer hands to the next, and the answer as its readers see it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use spot_cloud::tables::swaps::Lease;
use spot_domain::response::evacuation::{DoomedNode, Evacuated};
use spot_domain::response::{AnswerOutcome, AnswerReason, Because};
use spot_domain::settings::Settings;
use spot_domain::swap::group::Group;
use spot_domain::swap::journal::Journal;
use spot_domain::swap::node::BlockedPod;
use spot_domain::{AccountId, ClusterName, ExecutionArn, GroupArn, GroupName, InstanceId, Region};
use spot_swap::error::StepError;
use spot_swap::machine::Payload;
use spot_swap::work::{Work, group_of};

/// The seconds between two looks: the notice leaves 120 in all.
const PAUSE_SECONDS: u32 = 5;

/// The input of an execution.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The instance that EC2 takes back.
    pub instance_id: InstanceId,
    /// Its group.
    pub asg_name: GroupName,
    /// The cluster of an instance that is a Kubernetes node, by default that of its tags.
    #[serde(default)]
    pub cluster_name: Option<ClusterName>,
    /// The account, by default the stack's own.
    #[serde(default)]
    pub account_id: Option<AccountId>,
    /// The region, by default the stack's own.
    #[serde(default)]
    pub region: Option<Region>,
    /// The time of the notice, by default the start.
    #[serde(default)]
    pub occurred: Option<Timestamp>,
}

/// The answer to a two-minute notice, in progress.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answering {
    /// The instance that EC2 takes back.
    pub instance_id: InstanceId,
    /// Its group, and the execution. The lease may be another's: see `journal`.
    pub lease: Lease,
    /// The settings in force when the answer began.
    pub settings: Settings,
    /// The time at which EC2 takes the instance back.
    pub ends_at: Timestamp,
    /// What the Swaps table says of the answer; `None` where nothing is raised, and no lease is held.
    pub journal: Option<Journal>,
    /// The node that is evacuated; `None` for an instance that is no Kubernetes node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<DoomedNode>,
    /// The result so far.
    pub outcome: Option<AnswerOutcome>,
    /// The reason for it.
    pub because: Option<Because>,
    /// The fewest members that were seen to serve.
    pub served_at_least: Option<u32>,
    /// Seconds that the state machine waits between two looks.
    pub pause_seconds: u32,
    /// When a way back in progress is handed over to the reconciler alone.
    #[serde(default)]
    pub give_up_at: Option<Timestamp>,
    /// Report releases the lease.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_lease: bool,
}

impl Payload for Answering {
    fn run(&mut self) -> Option<&mut Work> {
        None
    }
}

impl Answering {
    /// An answer of which nothing is decided yet.
    #[must_use]
    pub fn new(instance_id: InstanceId, lease: Lease, settings: Settings, ends_at: Timestamp) -> Self {
        Self {
            instance_id,
            lease,
            pause_seconds: settings.poll_seconds.min(PAUSE_SECONDS),
            settings,
            ends_at,
            journal: None,
            node: None,
            outcome: None,
            because: None,
            served_at_least: None,
            give_up_at: None,
            keeps_lease: false,
        }
    }

    /// Returns the group of the answer.
    ///
    /// # Errors
    /// The payload names none.
    pub fn group(&self) -> Result<(&GroupArn, &GroupName), StepError> {
        group_of(&self.lease)
    }

    /// Returns the result in a line, for readers of the row.
    #[must_use]
    pub fn summary(&self) -> String {
        let outcome = self.outcome.map_or_else(|| "undecided".to_owned(), |outcome| outcome.to_string());
        format!("interruption of {}: {outcome}", self.instance_id)
    }

    /// Notes how many serve in a look at the group.
    pub fn saw(&mut self, group: &Group) {
        let serving = group.in_service();
        self.served_at_least = Some(self.served_at_least.map_or(serving, |least| least.min(serving)));
    }

    /// Decides on the result. The first failure stays.
    pub fn decide(&mut self, outcome: AnswerOutcome, because: Option<Because>) {
        if self.outcome != Some(AnswerOutcome::Failed) {
            self.outcome = Some(outcome);
            self.because = because.or(self.because.take());
        }
    }

    /// Notes that a step failed.
    pub fn failed(&mut self, detail: String) {
        match &mut self.because {
            Some(first) if self.outcome == Some(AnswerOutcome::Failed) => {
                first.detail = format!("{}; {detail}", first.detail);
            }
            _ => self.decide(AnswerOutcome::Failed, Some(Because::of(AnswerReason::StepFailed, detail))),
        }
    }
}

/// The result of an answer: the output of its execution, and the detail of its event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The instance.
    pub instance_id: InstanceId,
    /// Its account.
    pub account_id: AccountId,
    /// Its region.
    pub region: Region,
    /// Its group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asg_name: Option<GroupName>,
    /// Its cluster, if it is a Kubernetes node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<ClusterName>,
    /// The result; `None` where an execution was started, which has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<AnswerOutcome>,
    /// Why it was not replaced before it left, or its node not drained.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub because: Option<Because>,
    /// The fewest members that were seen to serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served_at_least: Option<u32>,
    /// The pods that were evicted from a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evicted: Option<u32>,
    /// The pods that were left on a node, with the cause for each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blocked: Vec<BlockedPod>,
    /// The execution that answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_arn: Option<ExecutionArn>,
}

impl Answer {
    /// Returns an answer about an instance, without a result.
    #[must_use]
    pub fn about(account_id: &AccountId, region: &Region, instance_id: &InstanceId) -> Self {
        Self {
            instance_id: instance_id.clone(),
            account_id: account_id.clone(),
            region: region.clone(),
            asg_name: None,
            cluster_name: None,
            outcome: None,
            because: None,
            served_at_least: None,
            evicted: None,
            blocked: Vec::new(),
            execution_arn: None,
        }
    }

    /// Returns the answer with the result of an evacuation.
    #[must_use]
    pub fn evacuated(self, result: Evacuated) -> Self {
        let Evacuated { outcome, because, evicted, blocked } = result;
        Self { outcome: Some(outcome), because, evicted: Some(evicted), blocked, ..self }
    }

    /// Returns the answer that does nothing.
    #[must_use]
    pub fn ignored(self, because: Because) -> Self {
        Self { outcome: Some(AnswerOutcome::Ignored), because: Some(because), ..self }
    }
}
