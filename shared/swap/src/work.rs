//! What one step hands to the next: the plan of the run, the swap in progress, and what came of
//! the others. It travels through the state machine's payload (256 KiB at most).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use spot_cloud::tables::swaps::{Lease, Leased};
use spot_domain::clock;
use spot_domain::ids::InstanceType;
use spot_domain::settings::Settings;
use spot_domain::swap::asked::Named;
use spot_domain::swap::fitness::{Hook, Transition, terminating_seconds};
use spot_domain::swap::group::Launch;
use spot_domain::swap::journal::{Journal, Original, Retirement, SwapId, SwapKind, Undo};
use spot_domain::swap::market::Market;
use spot_domain::swap::report::{GateView, NotSwapped, Swapped};
use spot_domain::swap::selection::{Candidate, Change};
use spot_domain::{GroupArn, GroupName, InstanceId, Pool, Reason, Usd};

use crate::error::StepError;

pub mod ahead;
mod length;
mod recorded;
mod results;
mod room;

use ahead::Ahead;
pub use recorded::Recorded;

/// Where the state machine goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Next {
    /// The next phase.
    Proceed,
    /// The same phase, later.
    Wait,
    /// The rollback.
    Undo,
    /// The launch for the next candidate.
    NextCandidate,
    /// The end.
    Report,
}

/// A run over one group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Work {
    /// Look only.
    pub dry_run: bool,
    /// The group, where it lies, and who holds its lease.
    pub lease: Lease,
    /// The settings in force when the run began.
    pub settings: Settings,
    /// Why the gate is blind where the run works, as its first step saw it; absent if the gate hears of interruptions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blind: Option<String>,
    /// Swaps at most.
    pub max_swaps: u32,
    /// How the old instances leave.
    pub retirement: Retirement,
    /// Seconds that the group's terminating hooks may take.
    #[serde(default)]
    pub hook_seconds: u32,
    /// The members of the group when the run began; 0 for a run over something else, or of an earlier release.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub group_size: usize,
    /// The most that the group's owner pays for Spot, USD an hour.
    #[serde(default)]
    pub spot_max_price: Option<Usd>,
    /// When the candidates were priced.
    #[serde(default)]
    pub priced_at: Option<Timestamp>,
    /// The market that the request asks for.
    #[serde(default, skip_serializing_if = "Market::is_spot")]
    pub to: Market,
    /// The members that the request names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<Named>,
    /// The kind of the run's swaps, as each begins.
    #[serde(flatten)]
    pub kind: SwapKind,
    /// Seconds that the drain of a node may take, if the request says so. Else the settings do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_timeout_seconds: Option<u32>,
    /// When the group was last asked for instance refreshes and lifecycle hooks.
    pub checked_at: Timestamp,
    /// Types whose newcomers could not hold what they were launched for: no pool of theirs is tried again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub too_small: Vec<TooSmall>,
    /// Candidates still to come.
    pub queue: Vec<Candidate>,
    /// The first candidates of the queue, whose newcomers may have been launched already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ahead: Vec<Ahead>,
    /// The instances that have their second turn: the newcomer of the first one was launched ahead and given up.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub second_turns: BTreeSet<InstanceId>,
    /// Candidates that found no room in the queue.
    pub deferred: usize,
    /// The swap in progress.
    pub current: Option<Current>,
    /// Why the swap in progress is to be undone.
    pub undo: Option<Undo>,
    /// Other candidates may launch all the same, also if the undo's reason is one that ends a run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub others_may_launch: bool,
    /// When a rollback in progress is handed over to the reconciler alone.
    pub rollback_deadline: Option<Timestamp>,
    /// Its state machine knows how to wait before a launch; that of a release before this one does not.
    #[serde(default)]
    pub launch_may_wait: bool,
    /// No scheduled action of the group comes before.
    #[serde(default)]
    pub unscheduled_until: Option<Timestamp>,
    /// Since when the group has been seen with fewer members than are desired.
    #[serde(default)]
    pub short_since: Option<Timestamp>,
    /// When a launch that waits for its group to come to rest gives up.
    #[serde(default)]
    pub launch_deadline: Option<Timestamp>,
    /// Done.
    pub swapped: Vec<Swapped>,
    /// NotSwapped alone.
    pub skipped: Vec<NotSwapped>,
    /// NotSwapped alone, beyond those: counted by reason.
    #[serde(default)]
    pub skipped_more: BTreeMap<Reason, usize>,
    /// Tried and put back.
    pub rolled_back: Vec<NotSwapped>,
    /// The swap whose end by a rollback the run has recorded last: the row may still tell of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Recorded>,
    /// What ended the run before its time.
    pub ended_by: Option<Reason>,
    /// The same for a person.
    #[serde(default)]
    pub ended_because: String,
    /// Swaps that failed since one succeeded.
    #[serde(default)]
    pub failures_in_a_row: u32,
    /// Seconds that the state machine waits between two looks.
    pub pause_seconds: u32,
    /// When the phase in progress began to wait.
    #[serde(default)]
    pub waiting_since: Option<Timestamp>,
    /// When what it waits for is expected.
    #[serde(default)]
    pub look_at: Option<Timestamp>,
    /// Remarks for a person on a swap that is done: the resources that were left alone, and what may be left in desired.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// The last swap has let the lease go.
    pub lease_released: bool,
    /// Steps so far.
    pub steps: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(size: &usize) -> bool {
    *size == 0
}

/// A type that proved too small.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TooSmall {
    /// The type.
    pub instance_type: InstanceType,
    /// The lack of its newcomer, for a person.
    pub why: String,
}

/// The swap in progress.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Current {
    /// What is replaced.
    pub candidate: Candidate,
    /// What the Swaps table says of it.
    pub journal: Journal,
    /// What replaces it.
    pub newcomer: InstanceId,
    /// Where that came from.
    pub pool: Pool,
    /// When the phase in progress gives up.
    pub deadline: Timestamp,
    /// The launch that the newcomer came from.
    #[serde(default)]
    pub came_from: Option<Launch>,
    /// When the newcomer was first seen InService and healthy.
    #[serde(default)]
    pub serving_since: Option<Timestamp>,
    /// When its owner was last asked whether the old instance may go.
    #[serde(default)]
    pub owner_asked_at: Option<Timestamp>,
    /// Target groups in which others have registered the old instance: they, too, must have drained it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_in: Vec<String>,
    /// Remarks for a person on the newcomer, for the report of a swap that is done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

impl Current {
    /// A swap whose newcomer was launched a moment ago.
    #[must_use]
    pub fn new(
        candidate: Candidate,
        journal: Journal,
        newcomer: InstanceId,
        pool: Pool,
        deadline: Timestamp,
    ) -> Self {
        Self {
            candidate,
            journal,
            newcomer,
            pool,
            deadline,
            came_from: None,
            serving_since: None,
            owner_asked_at: None,
            also_in: Vec::new(),
            remarks: Vec::new(),
        }
    }

    /// Returns the group as its owner had it.
    ///
    /// # Errors
    /// The newcomer was not attached: the state machine entered the wrong phase.
    pub fn original(&self) -> Result<Original, StepError> {
        let none =
            || StepError::Protocol("work.current.journal.original: the newcomer was not attached".into());
        self.journal.original.clone().ok_or_else(none)
    }

    /// Returns the swap as the report tells it.
    #[must_use]
    pub fn swapped(&self) -> Swapped {
        Swapped {
            old_instance_id: self.candidate.instance_id.clone(),
            new_instance_id: self.newcomer.clone(),
            from: self.candidate.from,
            to: self.candidate.to,
            pool: self.pool.clone(),
            monthly_saving_usd: self.candidate.monthly_saving(&self.pool.instance_type),
        }
    }
}

/// Returns the group that a lease is on.
///
/// # Errors
/// It is on something else: a phase of groups was called for it.
pub fn group_of(lease: &Lease) -> Result<(&GroupArn, &GroupName), StepError> {
    match &lease.on {
        Leased::Group { arn, name } => Ok((arn, name)),
        other => Err(StepError::Protocol(format!("work.lease.on: {other} is no Auto Scaling group").into())),
    }
}

impl Work {
    /// A run that has taken `lease`, or that is dry; nothing is queued yet.
    #[must_use]
    pub fn new(lease: Lease, settings: Settings) -> Self {
        Self {
            dry_run: false,
            lease,
            max_swaps: settings.max_swaps,
            settings,
            blind: None,
            retirement: Retirement::Detach,
            hook_seconds: 0,
            group_size: 0,
            spot_max_price: None,
            priced_at: None,
            to: Market::Spot,
            replace: None,
            kind: SwapKind::Group,
            drain_timeout_seconds: None,
            checked_at: clock::now(),
            too_small: Vec::new(),
            queue: Vec::new(),
            ahead: Vec::new(),
            second_turns: BTreeSet::new(),
            deferred: 0,
            current: None,
            undo: None,
            others_may_launch: false,
            rollback_deadline: None,
            launch_may_wait: true,
            unscheduled_until: None,
            short_since: None,
            launch_deadline: None,
            swapped: Vec::new(),
            skipped: Vec::new(),
            skipped_more: BTreeMap::new(),
            rolled_back: Vec::new(),
            recorded: None,
            ended_by: None,
            ended_because: String::new(),
            failures_in_a_row: 0,
            pause_seconds: 0,
            waiting_since: None,
            look_at: None,
            remarks: Vec::new(),
            lease_released: false,
            steps: 0,
        }
    }

    /// Returns the gate's view of the account and region, as the report tells it.
    #[must_use]
    pub fn gate_view(&self) -> Option<GateView> {
        self.blind.as_ref().map(|_| GateView::Blind)
    }

    /// Says if a newcomer of this type has proved too small.
    #[must_use]
    pub fn is_too_small(&self, instance_type: &InstanceType) -> bool {
        self.too_small.iter().any(|known| &known.instance_type == instance_type)
    }

    /// Notes what the group's lifecycle hooks ask of a retirement.
    pub fn note_hooks(&mut self, hooks: &[Hook]) {
        let is_terminating = |hook: &Hook| hook.transition == Transition::Terminating;
        let runs_hooks = hooks.iter().any(is_terminating);
        self.retirement = if runs_hooks { Retirement::TerminateInGroup } else { Retirement::Detach };
        self.hook_seconds = terminating_seconds(hooks);
        self.checked_at = clock::now();
    }

    /// Notes in the journal of a launch how the old instance leaves, and how long the owner's hooks may take.
    pub fn note_retirement(&self, journal: &mut Journal) {
        (journal.retirement, journal.hook_seconds) = (self.retirement, self.hook_seconds);
    }

    /// Returns the seconds that the old instance may take to leave: the setting for the target groups, and then as
    /// long as the owner's hooks may take.
    #[must_use]
    pub fn retire_seconds(&self) -> u32 {
        self.settings.retire_timeout_seconds.saturating_add(self.hook_seconds)
    }

    /// Returns the seconds that the drain of the node may take: the request's own, else the setting.
    #[must_use]
    pub fn drain_seconds(&self) -> u32 {
        self.drain_timeout_seconds.unwrap_or(self.settings.drain_timeout_seconds)
    }

    /// The group that the run is over.
    ///
    /// # Errors
    /// It is over something else: a phase of groups was called for it.
    pub fn group(&self) -> Result<(&GroupArn, &GroupName), StepError> {
        group_of(&self.lease)
    }

    /// Returns the id of the swap in progress, or else of the next candidate's.
    #[must_use]
    pub fn swap_id(&self) -> Option<SwapId> {
        let next = || {
            let old = &self.queue.first()?.instance_id;
            Some(SwapId::new(old, self.swap_began(old)))
        };
        self.current.as_ref().map(|current| current.journal.swap_id.clone()).or_else(next)
    }

    /// Something was made before the launch (an image), so that a launch that fails is a rollback.
    #[must_use]
    pub fn has_captured(&self) -> bool {
        self.kind.lab().is_some_and(|lab| lab.capture)
    }

    /// What came of the run, in a line.
    #[must_use]
    pub fn summary(&self) -> String {
        let (swapped, skipped) = (self.swapped.len(), self.skipped.len());
        format!("{swapped} swapped, {skipped} skipped, {} rolled back", self.rolled_back.len())
    }

    /// Decides for the rollback after a change from outside.
    pub fn undo_for(&mut self, change: Change) -> Next {
        if change.whole_group {
            self.end(change.reason, change.detail.clone());
        }
        self.undo(change.reason, change.detail)
    }

    /// Decides for the rollback.
    pub fn undo(&mut self, reason: Reason, detail: impl Into<String>) -> Next {
        self.undo = Some(Undo { reason, detail: detail.into() });
        Next::Undo
    }
}

#[cfg(test)]
mod tests;
