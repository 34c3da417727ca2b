//! What one step hands to the next: the plan of the run, the swap in progress, and what came of
//! the others. It travels through the state machine's payload (256 KiB at most).

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use spot_cloud::tables::swaps::{Lease, Leased};
use spot_domain::ids::InstanceType;
use spot_domain::settings::Settings;
use spot_domain::swap::asked::Named;
use spot_domain::swap::fitness::{Hook, Transition, terminating_seconds};
use spot_domain::swap::group::Launch;
use spot_domain::swap::journal::{Journal, Retirement, SwapId, SwapKind, Undo};
use spot_domain::swap::market::Market;
use spot_domain::swap::report::{Continuation, EndedBy, GateView, NotSwapped, SwapRequest, Swapped};
use spot_domain::swap::selection::{Candidate, Change};
use spot_domain::{GroupArn, GroupName, InstanceId, Pool, Reason, Usd};

use crate::error::StepError;

/// Bytes of candidates that a run carries: the rest of Step Functions' 256 KiB is for its results.
const QUEUE_BYTES: usize = 100_000;
/// Bytes of instances that are left alone from the beginning.
const SKIPPED_BYTES: usize = 50_000;

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
    /// Candidates that found no room in the queue.
    pub deferred: usize,
    /// The swap in progress.
    pub current: Option<Current>,
    /// Why the swap in progress is to be undone.
    pub undo: Option<Undo>,
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

/// A hook of 48 hours takes 240 looks with it.
const LONGEST_PAUSE_SECONDS: u32 = 720;
/// The state machine of a group times out after 72 hours, and a terminating hook may take 48.
const HOURS_PER_RUN: i64 = 20;
/// Swaps that a run makes behind a load balancer, at some 32 steps each.
const SWAPS_PER_RUN: usize = 65;

/// Returns the group that a lease is on.
///
/// # Errors
/// It is on something else: a phase of groups was called for it.
pub fn group_of(lease: &Lease) -> Result<(&GroupArn, &GroupName), StepError> {
    match &lease.on {
        Leased::Group { arn, name } => Ok((arn, name)),
        other => Err(StepError::Protocol(format!("{other} is no Auto Scaling group").into())),
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
            spot_max_price: None,
            priced_at: None,
            to: Market::Spot,
            replace: None,
            kind: SwapKind::Group,
            drain_timeout_seconds: None,
            checked_at: Timestamp::now(),
            too_small: Vec::new(),
            queue: Vec::new(),
            deferred: 0,
            current: None,
            undo: None,
            rollback_deadline: None,
            launch_may_wait: true,
            unscheduled_until: None,
            short_since: None,
            launch_deadline: None,
            swapped: Vec::new(),
            skipped: Vec::new(),
            skipped_more: BTreeMap::new(),
            rolled_back: Vec::new(),
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
        self.checked_at = Timestamp::now();
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
        let next = || Some(SwapId::new(&self.queue.first()?.instance_id, self.lease.since));
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

    /// Keeps as many candidates as the payload has room for.
    pub fn enqueue(&mut self, candidates: Vec<Candidate>) {
        let mut bytes = 0;
        for candidate in candidates {
            bytes += serde_json::to_vec(&candidate).map_or(QUEUE_BYTES, |json| json.len());
            if bytes <= QUEUE_BYTES {
                self.queue.push(candidate);
            } else {
                self.deferred += 1;
            }
        }
    }

    /// Lists as many of the instances that stay as the payload has room for, and counts the others.
    pub fn leave_alone(&mut self, left: Vec<NotSwapped>) {
        let mut bytes = 0;
        for left in left {
            bytes += serde_json::to_vec(&left).map_or(SKIPPED_BYTES, |json| json.len());
            if bytes <= SKIPPED_BYTES {
                self.skipped.push(left);
            } else {
                *self.skipped_more.entry(left.reason).or_default() += 1;
            }
        }
    }

    /// The next candidate, or the end.
    #[must_use]
    pub fn next_candidate(&self) -> Next {
        let tried = self.swapped.len() + self.rolled_back.len();
        let may_go_on = self.ended_by.is_none() && !self.dry_run && tried < self.max_swaps as usize;
        if may_go_on && self.has_room() && !self.queue.is_empty() {
            Next::NextCandidate
        } else {
            Next::Report
        }
    }

    /// Step Functions ends an execution at 25,000 events of history, without a Catch. The last swap of a run may need
    /// some 20 looks in each phase, and 240 for a hook of 48 hours.
    fn has_room(&self) -> bool {
        let age = Timestamp::now().duration_since(self.lease.since);
        self.steps < self.settings.steps_per_execution && age < SignedDuration::from_hours(HOURS_PER_RUN)
    }

    /// Returns the execution that goes on where this one ends for want of room; `None` if nothing is left to do, or if
    /// the run ends for another reason. One that has swapped nothing is not gone on with: it would end no other way.
    #[must_use]
    pub fn continuation(&self) -> Option<Continuation> {
        let tried = u32::try_from(self.swapped.len() + self.rolled_back.len()).unwrap_or(u32::MAX);
        let left = NonZeroU32::new(self.max_swaps.saturating_sub(tried))?;
        let is_cut = !self.queue.is_empty() && !self.has_room() || self.deferred > 0;
        if !is_cut || self.dry_run || self.ended_by.is_some() || self.swapped.is_empty() {
            return None;
        }
        let done = self.swapped.iter().map(|swapped| &swapped.old_instance_id);
        let done: BTreeSet<&InstanceId> =
            done.chain(self.rolled_back.iter().map(|left| &left.instance_id)).collect();
        let Leased::Group { name, .. } = &self.lease.on else { return None };
        let input = SwapRequest {
            asg_name: name.clone(),
            account_id: Some(self.lease.account_id.clone()),
            region: Some(self.lease.region.clone()),
            max_swaps: Some(left),
            replace: self.replace.as_ref().and_then(|named| named.without(&done)),
            to: self.to,
            dry_run: false,
        };
        Some(Continuation::of(self.lease.owner.execution(), input))
    }

    /// Records why an instance stays. The run ends if the rest would meet the same fate.
    pub fn skip(&mut self, instance_id: &InstanceId, reason: Reason, detail: impl Into<String>) {
        let left = NotSwapped::new(instance_id, reason, detail);
        if reason == Reason::LaunchRejected {
            self.count_failure(&left);
        }
        self.end_if_account_wide(&left);
        self.skipped.push(left);
    }

    /// Records a swap that was done.
    pub fn done(&mut self, swapped: Swapped) {
        self.failures_in_a_row = 0;
        self.swapped.push(swapped);
    }

    /// Records that the swap in progress was done, with the remarks on its newcomer.
    pub fn complete(&mut self, current: &Current) {
        self.done(current.swapped());
        self.remark(&current.candidate.instance_id, current.remarks.clone());
    }

    /// Returns the Spot newcomers that serve, each with its pool.
    #[must_use]
    pub fn newcomers(&self) -> BTreeMap<InstanceId, Pool> {
        let of = |swapped: &Swapped| (swapped.new_instance_id.clone(), swapped.pool.clone());
        self.swapped.iter().filter(|swapped| swapped.to.is_spot()).map(of).collect()
    }

    /// Keeps what a person has to know of the swap of `old`, for the report.
    pub fn remark(&mut self, old: &InstanceId, remarks: Vec<String>) {
        self.remarks.extend(remarks.into_iter().map(|remark| format!("swap of {old}: {remark}")));
    }

    /// Records that an instance was swapped back.
    pub fn put_back(&mut self, instance_id: &InstanceId, undo: &Undo) {
        let left = NotSwapped::new(instance_id, undo.reason, &undo.detail);
        self.count_failure(&left);
        self.end_if_account_wide(&left);
        self.rolled_back.push(left);
    }

    fn count_failure(&mut self, left: &NotSwapped) {
        self.failures_in_a_row += 1;
        if self.failures_in_a_row >= self.settings.max_failures_in_a_row {
            let (count, reason, detail) = (self.failures_in_a_row, left.reason, &left.detail);
            self.end(reason, format!("{count} swaps in a row failed, the last one by {reason}: {detail}"));
        }
    }

    fn end_if_account_wide(&mut self, left: &NotSwapped) {
        if left.reason.ends_run() {
            self.end(left.reason, left.detail.clone());
        }
    }

    /// Ends the run after what is in progress; the first reason counts.
    pub fn end(&mut self, reason: Reason, detail: String) {
        if self.ended_by.is_none() {
            self.ended_by = Some(reason);
            self.ended_because = detail;
        }
    }

    /// Returns what ended the run before its time.
    #[must_use]
    pub fn ending(&self) -> Option<EndedBy> {
        Some(EndedBy { reason: self.ended_by?, detail: self.ended_because.clone() })
    }

    /// Returns how many executions the remaining candidates take, at the rate of this one; of a dry run, how many
    /// it would take if it takes more than one.
    #[must_use]
    pub fn executions_needed(&self) -> Option<usize> {
        let remaining = self.queue.len() + self.deferred;
        // One that ended early says nothing of how many another one makes.
        let is_cut = self.dry_run || self.ended_by.is_some();
        let tried =
            if is_cut { self.max_swaps as usize } else { self.swapped.len() + self.rolled_back.len() };
        let needed = remaining.div_ceil(tried.clamp(1, SWAPS_PER_RUN));
        (needed > usize::from(self.dry_run)).then_some(needed)
    }

    /// Begins a phase that may take this long, and says when it gives up.
    pub fn wait_at_most(&mut self, seconds: u32) -> Timestamp {
        let now = Timestamp::now();
        self.waiting_since = Some(now);
        self.pause_seconds = self.settings.poll_seconds;
        now.saturating_add(SignedDuration::from_secs(i64::from(seconds))).unwrap_or(Timestamp::MAX)
    }

    /// Sets the pause before the next look: half of what the phase has waited already, so that a long wait costs
    /// few steps.
    pub fn pace(&mut self) {
        let waited = self.waiting_since.map_or(0, |since| Timestamp::now().duration_since(since).as_secs());
        let half = u32::try_from(waited / 2).unwrap_or(0).min(LONGEST_PAUSE_SECONDS);
        // What is expected at a certain time is looked at then, and before a deadline more than once.
        let now = Timestamp::now();
        let until = |at: Timestamp| u32::try_from(at.duration_since(now).as_secs()).unwrap_or(0);
        let expected = self.look_at.take().map_or(u32::MAX, |at| until(at).saturating_add(1));
        let deadline = self.current.as_ref().map(|current| current.deadline).or(self.launch_deadline);
        let left = deadline.map_or(u32::MAX, |deadline| until(deadline) / 2);
        self.pause_seconds = self.settings.poll_seconds.max(half.min(expected).min(left));
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
