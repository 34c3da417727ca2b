//! The journal of the swap in progress. The journal alone tells a reader how to finish or undo the swap. Each
//! entry is written *before* the call that it announces.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::ids::{InstanceId, InstanceType};
use crate::reason::Reason;
use crate::swap::market::Market;

mod kind;
mod max_size;
mod swap_id;

pub use kind::{AnswerJournal, Kept, LeavingNode, NodeJournal, NodeSwap, Raise, SwapKind};
pub use max_size::MaxRestore;
pub use swap_id::SwapId;

/// The largest size of a group: AWS's type of desired and MaxSize is a signed integer of 32 bits.
const LARGEST_SIZE: u32 = i32::MAX.unsigned_abs();

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
    /// The members of the group; for an answer, those that were not starting. An instance that is not among them came later.
    pub members: Vec<InstanceId>,
    /// Those of them that did not serve yet; none for an answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_serving: Vec<InstanceId>,
}

impl Original {
    /// Returns true for an instance that came after the attach, beside the newcomer.
    #[must_use]
    pub fn came_later(&self, id: &InstanceId, newcomer: Option<&InstanceId>) -> bool {
        !self.members.contains(id) && Some(id) != newcomer
    }

    /// Returns true for a member that did not serve before the attach, beside the newcomer. Once its group calls it InService,
    /// it may have no requests yet.
    #[must_use]
    pub fn served_later(&self, id: &InstanceId, newcomer: Option<&InstanceId>) -> bool {
        self.came_later(id, newcomer) || self.not_serving.contains(id)
    }
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

/// The reason for which a swap is undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// The code.
    pub reason: Reason,
    /// The reason in words.
    pub detail: String,
}

impl Undo {
    /// Adds what has come to light since.
    pub fn add(&mut self, detail: &str) {
        self.detail = format!("{}; {detail}", self.detail);
    }
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
    /// How far the call of a recovery has come that gives the owner's MaxSize back.
    #[serde(default, skip_serializing_if = "MaxRestore::is_not_asked")]
    pub max_restore: MaxRestore,
    /// A way back has terminated the old instance, which ran outside its group.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub old_terminated: bool,
    /// The swap has resumed AZRebalance: if it is suspended again, its owner has done so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub az_rebalance_resumed: bool,
    /// The way in which the old instance leaves.
    pub retirement: Retirement,
    /// Seconds that the group's terminating hooks may take, as the swap saw them last. A journal of an earlier release has
    /// none.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub hook_seconds: u32,
    /// An undo has lowered desired by our one, or left desired to the owner. An undo does so once. Written before the call.
    pub desired_settled: bool,
    /// The instance whose leaving settles desired, until AWS has said that it leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taking_out: Option<InstanceId>,
    /// AWS has refused every call so far that was to take the old instance out. False again before the next one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retire_refused: bool,
    /// The old instance has left its group, and our one has left desired with it: AWS has answered so, or has shown the
    /// instance running outside.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retired: bool,
    /// The retirement was called off after it may have begun: the old instance comes back, and nothing turns forward again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub turned_back: bool,
    /// The old instance serves in its group again, and no call of ours can take it out any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub old_came_back: bool,
    /// The last look has shown the newcomer as a member that was not leaving, or dead with the tag of its group. EC2 may show no
    /// tags of it some minutes later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub newcomer_joined: bool,
    /// A way back has found the newcomer's pool poisoned, or EC2 taking the newcomer back. The old instance comes back if it can.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub newcomer_at_risk: bool,
    /// The number of times that AWS has refused to take the old instance back.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub refused_reattaches: u32,
    /// The time at which the last changing call was decided on. The call may land later, and show later still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Timestamp>,
    /// The time at which a step was last repeated. Calls of its earlier try may still land, whatever the repetition has
    /// seen: the swap is not closed before they can't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeated_at: Option<Timestamp>,
    /// Grows with each claim of a step and each write of a recovery: of two at once, one goes on. A stage begins with a higher
    /// number than the stages before it have.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: u64,
    /// The reason for the undo, once the swap is undone.
    pub undo: Option<Undo>,
    /// The kind of the swap, and what the journal holds of that kind alone.
    #[serde(flatten)]
    pub kind: SwapKind,
    /// The newcomer was launched ahead of its turn: the group may have changed since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_ahead: bool,
    /// The swaps whose newcomers were launched ahead of their turn, in the order of their turns. None of them has touched
    /// the group. The first one takes this journal's place once this swap is over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ahead: Vec<Self>,
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
    pub fn new(old: &InstanceId, run_started: Timestamp, retirement: Retirement, kind: SwapKind) -> Self {
        Self {
            swap_id: SwapId::new(old, run_started),
            stage: Stage::Launching,
            old: old.clone(),
            to: Market::Spot,
            launching_since: clock::now(),
            attempt: 0,
            is_unattempted: true,
            newcomer: None,
            original: None,
            max_raised_to: None,
            max_restore: MaxRestore::NotAsked,
            retirement,
            hook_seconds: 0,
            desired_settled: false,
            taking_out: None,
            retired: false,
            retire_refused: false,
            old_terminated: false,
            az_rebalance_resumed: false,
            turned_back: false,
            old_came_back: false,
            newcomer_joined: false,
            newcomer_at_risk: false,
            refused_reattaches: 0,
            changed_at: None,
            repeated_at: None,
            revision: 0,
            undo: None,
            kind,
            is_ahead: false,
            ahead: Vec::new(),
        }
    }

    /// Returns the journal of the next swap that was launched ahead, which carries those behind it; `None` if this one
    /// carries none.
    #[must_use]
    pub fn successor(&self) -> Option<Self> {
        let (next, behind) = self.ahead.split_first()?;
        Some(Self { ahead: behind.to_vec(), ..next.clone() })
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
        if self.to.is_on_demand() && self.kind != SwapKind::Group {
            return Some(
                "it goes to On-Demand, and only a member of a group that is no node does".to_owned(),
            );
        }
        if let Some(problem) = self.contradiction_of_sizes() {
            return Some(problem);
        }
        if let (Some(raised), Some(original)) = (self.max_raised_to, &self.original)
            && raised != original.max.saturating_add(1)
        {
            return Some(format!("MaxSize {raised} is not one more than the owner's {}", original.max));
        }
        if let Some(problem) = self.contradiction_ahead() {
            return Some(problem);
        }
        if self.kind.answer().is_some() {
            return self.contradiction_of_answer();
        }
        let has_moved = self.kind.lab().is_some_and(|lab| lab.leaving || lab.stopping || lab.is_over);
        let names_one = matches!(self.stage, Stage::Attaching | Stage::Retiring);
        let needs_newcomer = names_one || has_moved || self.original.is_some();
        (needs_newcomer && self.newcomer.is_none())
            .then(|| format!("it names no newcomer, and is past the launch (stage {})", self.stage.name()))
    }

    /// Refuses a size that no group has. A recovery adds our one to these sizes: the sum must not overflow.
    fn contradiction_of_sizes(&self) -> Option<String> {
        let of_owner = |size: fn(&Original) -> u32| self.original.as_ref().map(size);
        let sizes = [
            ("original.desired", of_owner(|original| original.desired)),
            ("original.max", of_owner(|original| original.max)),
            ("original.serving", of_owner(|original| original.serving)),
            ("max_raised_to", self.max_raised_to),
        ];
        sizes.into_iter().find_map(|(field, size)| {
            let size = size.filter(|size| *size > LARGEST_SIZE)?;
            Some(format!("{field} is {size}, and no group has a size above {LARGEST_SIZE}"))
        })
    }

    /// Refuses a swap ahead that can have touched the group, and a second one of the same instance.
    fn contradiction_ahead(&self) -> Option<String> {
        let mut known = BTreeSet::from([&self.old]);
        self.ahead.iter().find_map(|ahead| {
            let swap = &ahead.swap_id;
            if self.kind != SwapKind::Group || ahead.kind != SwapKind::Group {
                return Some(format!("swap {swap} was launched ahead, and only a group's swaps are"));
            }
            if ahead.stage != Stage::Launching || ahead.newcomer.is_some() || !ahead.ahead.is_empty() {
                return Some(format!("swap {swap} was launched ahead, and is past its launch"));
            }
            let is_new = known.insert(&ahead.old);
            let again = || Some(format!("swap {swap} was launched ahead for an instance that has a swap"));
            ahead.contradiction().or_else(|| if is_new { None } else { again() })
        })
    }

    /// The group launches the replacement: an answer has no newcomer of its own.
    fn contradiction_of_answer(&self) -> Option<String> {
        if let Some(newcomer) = &self.newcomer {
            return Some(format!(
                "it names newcomer {newcomer}, and an answer to an interruption launches none"
            ));
        }
        let is_begun = matches!(self.stage, Stage::Attaching | Stage::Retiring);
        (is_begun && self.original.is_none()).then(|| {
            format!(
                "it does not say what the group was like, and is past the beginning (stage {})",
                self.stage.name()
            )
        })
    }

    /// Returns true if the way back leaves this instance in service.
    #[must_use]
    pub fn keeps(&self, id: &InstanceId) -> bool {
        self.kind.kept().is_some_and(|kept| &kept.instance_id == id)
    }

    /// Names the swaps ahead to a person who ends this one by hand, as a further clause of a sentence; empty if there are none.
    #[must_use]
    pub fn ahead_in_words(&self) -> String {
        if self.ahead.is_empty() {
            return String::new();
        }
        let tokens: Vec<String> = self.ahead.iter().map(|ahead| format!("{}-*", ahead.swap_id)).collect();
        format!("; terminate first what was launched ahead (ClientToken {})", tokens.join(", "))
    }

    /// Returns the reason for the undo, if the swap is undone.
    #[must_use]
    pub fn undo_reason(&self) -> Option<Reason> {
        self.undo.as_ref().map(|undo| undo.reason)
    }
}

#[cfg(test)]
mod tests;
