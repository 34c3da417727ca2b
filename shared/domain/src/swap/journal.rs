//! The journal of the swap in progress. The journal alone tells a reader how to finish or undo the swap. Each
//! entry is written *before* the call that it announces.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{ClusterName, InstanceId, InstanceType, MalformedText, NodeName};
use crate::reason::Reason;
use crate::swap::asked::Market;
use crate::swap::eviction::Turns;
use crate::swap::lab::LabSwap;

/// The id of one swap of one instance: `<old instance>-<milliseconds>`.
///
/// The id is the stem of the swap's ClientTokens (at most 64 ASCII characters in all) and of its image's
/// name. No caller can write those later: tokens and image name prove what the swap made. The id is the value
/// of the swap's tag, too. The tag proves nothing: any caller can write a tag, and backups copy it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SwapId(String);

impl Stage {
    /// The name that the table holds beside the journal, for conditions.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Capturing => "Capturing",
            Self::Launching => "Launching",
            Self::Attaching => "Attaching",
            Self::Retiring => "Retiring",
            Self::Undoing => "Undoing",
        }
    }
}

impl SwapId {
    /// Returns the id of the swap of `old` in the run that began at `run_started`. Every repetition of a step
    /// has the same id; every run has another.
    #[must_use]
    pub fn new(old: &InstanceId, run_started: Timestamp) -> Self {
        Self(format!("{old}-{}", run_started.as_millisecond()))
    }

    /// Returns the time when the run began: nothing of the swap is older.
    #[must_use]
    pub fn run_started(&self) -> Option<Timestamp> {
        Timestamp::from_millisecond(self.0.rsplit_once('-')?.1.parse().ok()?).ok()
    }

    /// Returns the text of the tag.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns true if it is the id of a swap of this instance.
    #[must_use]
    pub fn is_of(&self, old: &InstanceId) -> bool {
        self.0.strip_prefix(old.as_str()).is_some_and(|rest| rest.rfind('-') == Some(0))
    }

    /// Returns the ClientToken of one Spot launch attempt.
    ///
    /// Every attempt has its own token: EC2 refuses the same token with other parameters
    /// (`IdempotentParameterMismatch`).
    #[must_use]
    pub fn client_token(&self, attempt: usize) -> String {
        format!("{}-{attempt}", self.0)
    }

    /// Returns the ClientToken of one On-Demand launch attempt. No Spot launch of the swap has it.
    #[must_use]
    pub fn on_demand_token(&self, attempt: usize) -> String {
        format!("{}-d{attempt}", self.0)
    }

    /// Returns true if this is the ClientToken of one of the swap's Spot launches. EC2 sets the token once, at the
    /// launch.
    #[must_use]
    pub fn has_token(&self, client_token: &str) -> bool {
        self.attempt_of(client_token).is_some_and(is_number)
    }

    /// Returns true if a launch of the swap made an instance of this market with this ClientToken.
    ///
    /// Each market has tokens of its own: an On-Demand instance never passes for a Spot newcomer.
    #[must_use]
    pub fn launched(&self, market: Market, client_token: Option<&str>) -> bool {
        let attempt = client_token.and_then(|token| self.attempt_of(token));
        attempt.is_some_and(|attempt| match market {
            Market::Spot => is_number(attempt),
            Market::OnDemand => attempt.strip_prefix('d').is_some_and(is_number),
        })
    }

    fn attempt_of<'a>(&self, client_token: &'a str) -> Option<&'a str> {
        client_token.strip_prefix(self.as_str())?.strip_prefix('-')
    }

    /// Returns the name of the swap's image. EC2 takes a name once in an account and region, and never
    /// changes it.
    #[must_use]
    pub fn image_name(&self) -> String {
        format!("spot-optimizer-{}", self.0)
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

impl TryFrom<String> for SwapId {
    type Error = MalformedText;

    fn try_from(text: String) -> Result<Self, MalformedText> {
        let is_valid = text
            .rsplit_once('-')
            .is_some_and(|(old, began)| old.parse::<InstanceId>().is_ok() && is_number(began));
        if is_valid {
            return Ok(Self(text));
        }
        let given = text.chars().take(80).collect();
        Err(MalformedText { kind: "swap id", given, expected: "<instance id>-<milliseconds>" })
    }
}

impl FromStr for SwapId {
    type Err = MalformedText;

    fn from_str(text: &str) -> Result<Self, MalformedText> {
        Self::try_from(text.to_owned())
    }
}

impl From<SwapId> for String {
    fn from(id: SwapId) -> Self {
        id.0
    }
}

impl fmt::Display for SwapId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The furthest stage that the swap may have reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// An image of the old instance may exist (lab swap only).
    Capturing,
    /// A newcomer may exist. The group is untouched.
    Launching,
    /// The newcomer may be in the group, and the group's settings may be ours. In a lab swap, the newcomer
    /// may have taken over.
    Attaching,
    /// The old instance may be leaving the group. In a lab swap, it may be stopping.
    Retiring,
    /// The swap goes back, whatever the state. Nothing goes forward from here unless the old instance is gone
    /// already.
    Undoing,
}

/// The group as its owner had it, right before the attach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    /// DesiredCapacity.
    pub desired: u32,
    /// MaxSize.
    pub max: u32,
    /// The owner had AZRebalance suspended: it then stays suspended.
    pub az_rebalance_suspended: bool,
    /// The number of members that served. If it was fewer than desired (the owner keeps an unhealthy member,
    /// say), the swap can't ask for more.
    pub serving: u32,
    /// The members of the group. An instance that is not among them came later.
    pub members: Vec<InstanceId>,
}

/// The way in which the old instance leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Retirement {
    /// Detaches the instance with decrement, waits for the drain, then terminates it.
    Detach,
    /// Calls `TerminateInstanceInAutoScalingGroup` with decrement: the group has a terminating lifecycle
    /// hook, which detach would not run.
    TerminateInGroup,
}

/// The Kubernetes side of a swap of nodes: the cluster to ask before a node goes, and the node to make
/// schedulable again. A node that we cordon bears the swap's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSwap {
    /// The cluster.
    pub cluster: ClusterName,
    /// The secret (ARN or name) that holds the cluster's kubeconfig; `None` for an EKS cluster.
    pub kubeconfig_secret: Option<String>,
    /// The node of the instance to be replaced.
    pub old: NodeName,
    /// The setting of that name, when the run began.
    pub evict_local_storage: bool,
    /// The setting of that name, when the run began.
    pub evict_unmanaged: bool,
}

/// The drain of an instance that leaves on the way back: the state that one visit hands to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeavingNode {
    /// The instance.
    pub instance_id: InstanceId,
    /// The time when the drain began.
    pub since: Timestamp,
    /// The evictions from its node.
    pub turns: Turns,
    /// The claims of the pods that move, as `namespace/name`. The volumes of those claims must be detached
    /// before the instance goes.
    pub claims: BTreeSet<String>,
    /// Visits in a row that have found a pod that can't be moved.
    #[serde(default)]
    pub stuck_visits: u32,
}

/// An instance that should leave on the way back, and stays in service: a pod on its node can't be moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The instance.
    pub instance_id: InstanceId,
    /// The pod, the reason, and the work that is left, in words.
    pub why: String,
}

/// The reason for which a swap is undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// The code.
    pub reason: Reason,
    /// The reason in words.
    pub detail: String,
}

/// The right to launch one On-Demand instance of a type.
///
/// Only the journal of a swap to On-Demand gives it: such a launch was asked for, and is written ahead.
///
/// ```compile_fail
/// use spot_domain::swap::journal::OnDemandLaunch;
/// let forged = OnDemandLaunch { instance_type: "m5.large".parse().unwrap() };
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct OnDemandLaunch {
    instance_type: InstanceType,
}

impl OnDemandLaunch {
    /// Returns the type.
    #[must_use]
    pub fn instance_type(&self) -> &InstanceType {
        &self.instance_type
    }
}

/// The swap in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The id of the swap. The newcomer's ClientToken begins with this id.
    pub swap_id: SwapId,
    /// The furthest stage that the swap may have reached.
    pub stage: Stage,
    /// The instance to be replaced.
    pub old: InstanceId,
    /// The market that the newcomer is launched in; absent for Spot.
    #[serde(default, skip_serializing_if = "Market::is_spot")]
    pub to: Market,
    /// The time when the launch began: an instance may become visible only some time after its launch.
    pub launching_since: Timestamp,
    /// The launch attempt that may have succeeded, as the launch numbers its attempts: pool, then subnet.
    pub attempt: usize,
    /// No launch attempt was made yet. The next one is recorded before its call.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_unattempted: bool,
    /// The instance that replaces the old one, known from the attach on.
    pub newcomer: Option<InstanceId>,
    /// The state to restore; `None` before the attach, when the group is untouched.
    pub original: Option<Original>,
    /// The MaxSize that we set; `None` if we did not raise it.
    pub max_raised_to: Option<u32>,
    /// The way in which the old instance leaves.
    pub retirement: Retirement,
    /// An undo has lowered desired by our one, or left desired to the owner. An undo does so once. Written before the call.
    pub desired_settled: bool,
    /// The instance whose leaving settles desired, until AWS has said that it leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taking_out: Option<InstanceId>,
    /// The old instance has left its group, and our one has left desired with it: AWS has answered so, or has shown the
    /// instance running outside.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retired: bool,
    /// The retirement was called off after it may have begun: the old instance comes back, and nothing turns forward again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub turned_back: bool,
    /// The number of times that AWS has refused to take the old instance back.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub refused_reattaches: u32,
    /// The time at which the last changing call was decided on. The call may land later, and show later still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Timestamp>,
    /// The number of times that a step has claimed the journal, or a recovery has written it. Of two at once, one goes on.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: u64,
    /// The reason for the undo, once the swap is undone.
    pub undo: Option<Undo>,
    /// Set if the instances are nodes of a Kubernetes cluster: no node goes undrained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeSwap>,
    /// The node that is being drained on the way back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving_node: Option<LeavingNode>,
    /// The instance that the way back leaves in service. The decision is made once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
    /// Set if the instance is in no group: the things that a lab swap moves, and how far it may have come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lab: Option<LabSwap>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(revision: &u64) -> bool {
    *revision == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_none_yet(count: &u32) -> bool {
    *count == 0
}

impl Journal {
    /// Returns the journal of a swap that is about to launch.
    #[must_use]
    pub fn new(old: &InstanceId, run_started: Timestamp, retirement: Retirement) -> Self {
        Self {
            swap_id: SwapId::new(old, run_started),
            stage: Stage::Launching,
            old: old.clone(),
            to: Market::Spot,
            launching_since: Timestamp::now(),
            attempt: 0,
            is_unattempted: true,
            newcomer: None,
            original: None,
            max_raised_to: None,
            retirement,
            desired_settled: false,
            taking_out: None,
            retired: false,
            turned_back: false,
            refused_reattaches: 0,
            changed_at: None,
            revision: 0,
            undo: None,
            node: None,
            leaving_node: None,
            kept: None,
            lab: None,
        }
    }

    /// Returns the ClientToken of one launch attempt, in the market of the newcomer.
    #[must_use]
    pub fn client_token(&self, attempt: usize) -> String {
        match self.to {
            Market::Spot => self.swap_id.client_token(attempt),
            Market::OnDemand => self.swap_id.on_demand_token(attempt),
        }
    }

    /// Returns the right to launch an On-Demand newcomer of this type; `None` unless the swap goes to On-Demand.
    #[must_use]
    pub fn on_demand_launch(&self, instance_type: &InstanceType) -> Option<OnDemandLaunch> {
        self.to.is_on_demand().then(|| OnDemandLaunch { instance_type: instance_type.clone() })
    }

    /// Returns the contradiction in the journal: a state that no step of ours can have written. A journal
    /// that contradicts itself is not carried out.
    #[must_use]
    pub fn contradiction(&self) -> Option<String> {
        let (id, old) = (&self.swap_id, &self.old);
        if !id.is_of(old) {
            return Some(format!("swap_id {id} names no swap of old instance {old}"));
        }
        if self.newcomer.as_ref() == Some(old) {
            return Some(format!("{old} is both the old instance and the newcomer"));
        }
        if let (Some(raised), Some(original)) = (self.max_raised_to, &self.original)
            && raised != original.max.saturating_add(1)
        {
            return Some(format!("MaxSize {raised} is not one more than the owner's {}", original.max));
        }
        let has_moved = self.lab.as_ref().is_some_and(|lab| lab.leaving || lab.stopping || lab.is_over);
        let names_one = matches!(self.stage, Stage::Attaching | Stage::Retiring);
        let needs_newcomer = names_one || has_moved || self.original.is_some();
        (needs_newcomer && self.newcomer.is_none())
            .then(|| format!("it names no newcomer, and is past the launch (stage {})", self.stage.name()))
    }

    /// Returns true if the way back leaves this instance in service.
    #[must_use]
    pub fn keeps(&self, id: &InstanceId) -> bool {
        self.kept.as_ref().is_some_and(|kept| &kept.instance_id == id)
    }

    /// Returns the reason for the undo, if the swap is undone.
    #[must_use]
    pub fn undo_reason(&self) -> Option<Reason> {
        self.undo.as_ref().map(|undo| undo.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_fit_into_ec2s_limit() {
        let id = SwapId::new(&"i-0123456789abcdef0".parse().unwrap(), Timestamp::MAX);
        assert!(id.client_token(9_999).len() <= 64, "{}", id.client_token(9_999));
        assert!(id.client_token(1).is_ascii());
        assert_ne!(id.client_token(1), id.client_token(2));
    }

    fn swap() -> SwapId {
        "i-0123456789abcdef0-1700000000000".parse().unwrap()
    }

    #[test]
    fn a_token_proves_a_launch_in_its_own_market_alone() {
        let (spot, on_demand) = (swap().client_token(7), swap().on_demand_token(7));
        assert!(on_demand.len() <= 64 && on_demand.is_ascii());
        assert!(swap().launched(Market::Spot, Some(&spot)));
        assert!(swap().launched(Market::OnDemand, Some(&on_demand)));
        assert!(
            !swap().launched(Market::OnDemand, Some(&spot))
                && !swap().launched(Market::Spot, Some(&on_demand))
        );
        for token in [
            None,
            Some(""),
            Some("i-0123456789abcdef0-1700000000000-d"),
            Some("i-0123456789abcdef0-17000000000001-d0"),
        ] {
            assert!(!swap().launched(Market::OnDemand, token), "{token:?}");
        }
    }

    #[test]
    fn only_a_swap_to_on_demand_gives_the_right_to_launch_it() {
        let old: InstanceId = "i-0123456789abcdef0".parse().unwrap();
        let to_spot = Journal::new(&old, Timestamp::UNIX_EPOCH, Retirement::Detach);
        let m5: InstanceType = "m5.large".parse().unwrap();
        assert_eq!(to_spot.on_demand_launch(&m5), None);
        assert_eq!(to_spot.client_token(3), to_spot.swap_id.client_token(3));
        let back = Journal { to: Market::OnDemand, ..to_spot };
        assert_eq!(back.on_demand_launch(&m5).unwrap().instance_type(), &m5);
        assert_eq!(back.client_token(3), back.swap_id.on_demand_token(3));
    }

    #[test]
    fn a_journal_of_the_release_before_goes_to_spot() {
        let old: InstanceId = "i-0123456789abcdef0".parse().unwrap();
        let journal = Journal::new(&old, Timestamp::UNIX_EPOCH, Retirement::Detach);
        let text = serde_json::to_string(&journal).unwrap();
        assert!(!text.contains("\"to\""), "{text}");
        assert_eq!(serde_json::from_str::<Journal>(&text).unwrap(), journal);
        let back = Journal { to: Market::OnDemand, ..journal };
        let text = serde_json::to_string(&back).unwrap();
        assert!(text.contains(r#""to":"ON_DEMAND""#), "{text}");
        assert_eq!(serde_json::from_str::<Journal>(&text).unwrap(), back);
    }

    #[test]
    fn a_launch_is_proven_by_its_client_token_alone() {
        assert!(swap().has_token(&swap().client_token(0)) && swap().has_token(&swap().client_token(37)));
        for token in [
            "",
            "i-0123456789abcdef0-1700000000000",
            "i-0123456789abcdef0-1700000000000-",
            "i-0123456789abcdef0-1700000000000-x",
            "i-0123456789abcdef0-17000000000001-0",
            "i-0123456789abcdef0-1700000000001-0",
            "i-0123456789abcdef1-1700000000000-0",
            "i-0123456789abcdef0-1700000000000-0-0",
        ] {
            assert!(!swap().has_token(token), "{token:?}");
        }
    }

    #[test]
    fn an_id_is_of_one_instance() {
        for text in
            ["", "mine", "i-0123456789abcdef0", "i-0123456789abcdef0-", "i-0123456789abcdef0-1-x", "web-1"]
        {
            assert!(text.parse::<SwapId>().is_err(), "{text:?}");
        }
        assert!(swap().is_of(&"i-0123456789abcdef0".parse().unwrap()));
        assert!(!swap().is_of(&"i-0123456789abcdef1".parse().unwrap()));
        assert!(!swap().is_of(&"i-01234567".parse().unwrap()), "the beginning of an id is another id");
    }

    #[test]
    fn a_journal_that_no_step_of_ours_can_have_written_contradicts_itself() {
        let (old, newcomer): (InstanceId, InstanceId) =
            ("i-0123456789abcdef0".parse().unwrap(), "i-0123456789abcdef1".parse().unwrap());
        let honest = Journal::new(&old, Timestamp::UNIX_EPOCH, Retirement::Detach);
        assert_eq!(honest.contradiction(), None);
        let served = Journal { stage: Stage::Retiring, newcomer: Some(newcomer.clone()), ..honest.clone() };
        assert_eq!(served.contradiction(), None);
        let group =
            Original { desired: 1, max: 1, az_rebalance_suspended: false, serving: 1, members: vec![] };
        let raised_to =
            |max| Journal { max_raised_to: Some(max), original: Some(group.clone()), ..served.clone() };
        assert_eq!(raised_to(2).contradiction(), None);
        for forged in [
            Journal { old: newcomer, ..honest.clone() },
            Journal { newcomer: Some(old), ..honest.clone() },
            Journal { newcomer: None, ..served.clone() },
            raised_to(7),
            Journal { stage: Stage::Attaching, ..honest.clone() },
            Journal { original: Some(group.clone()), ..honest },
        ] {
            assert!(forged.contradiction().is_some(), "{forged:?}");
        }
    }

    #[test]
    fn an_id_tells_when_its_run_began() {
        let began = Timestamp::from_millisecond(1_795_000_000_123).unwrap();
        let id = SwapId::new(&"i-0123456789abcdef0".parse().unwrap(), began);
        assert_eq!(id.run_started(), Some(began));
    }
}
