//! What one step hands to the next: the plan of the run, the swap in progress, and what came of
//! the others. It travels through the state machine's payload (256 KiB at most).

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use spot_cloud::accounts::Access;
use spot_cloud::launcher::Blueprint;
use spot_cloud::swaps::{Lease, Leased};
use spot_domain::journal::{Journal, NodeSwap, Retirement, Undo};
use spot_domain::lab::LabSwap;
use spot_domain::selection::{Candidate, Change};
use spot_domain::settings::Settings;
use spot_domain::swap::{Left, Swapped};
use spot_domain::{GroupArn, GroupName, InstanceId, InstanceType, Pool, Reason};

use crate::error::StepError;

/// Bytes of candidates that a run carries: the rest of Step Functions' 256 KiB is for its results.
const QUEUE_BYTES: usize = 120_000;

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
    NextTarget,
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
    /// How to get into its account.
    pub access: Access,
    /// The settings in force when the run began.
    pub settings: Settings,
    /// Swaps at most.
    pub max_swaps: u32,
    /// What is launched.
    pub blueprint: Blueprint,
    /// How the old instances leave.
    pub retirement: Retirement,
    /// Where the instances are Kubernetes nodes, which cluster is theirs.
    pub node: Option<NodeSwap>,
    /// Where the instance is in no group, what its swap moves.
    #[serde(default)]
    pub lab: Option<LabSwap>,
    /// When the group was last asked for instance refreshes and lifecycle hooks.
    pub checked_at: Timestamp,
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
    /// Done.
    pub swapped: Vec<Swapped>,
    /// What the report needs to price the swaps that are done.
    pub to_price: Vec<ToPrice>,
    /// Left alone.
    pub skipped: Vec<Left>,
    /// Tried and put back.
    pub rolled_back: Vec<Left>,
    /// What ended the run before its time.
    pub ended_by: Option<Reason>,
    /// Seconds that the state machine waits between two looks.
    pub pause_seconds: u32,
    /// The last swap has let the lease go.
    pub lease_released: bool,
    /// Steps so far.
    pub steps: u32,
}

/// What the saving of a swap is worked out from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToPrice {
    /// The swap.
    pub new_instance_id: InstanceId,
    /// The type that was On-Demand.
    pub old_type: InstanceType,
    /// The zone of both, by its name in the account.
    pub availability_zone: String,
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
}

/// Step Functions ends an execution at 25,000 events of history, without a Catch. A step with its
/// wait makes up to 10; the last swap of a run may need [`LOOKS_PER_PHASE`] steps in each of 4 phases.
const STEPS_PER_RUN: u32 = 1_500;
/// Looks that a waiting phase takes at most, by waiting longer between them.
const LOOKS_PER_PHASE: u32 = 200;
/// The state machine times out after 24 hours; no swap is begun in its last six.
const HOURS_PER_RUN: i64 = 18;

impl Work {
    /// A run that has taken `lease`, or that is dry; nothing is queued yet.
    #[must_use]
    pub fn new(
        lease: Lease,
        access: Access,
        settings: Settings,
        blueprint: Blueprint,
        retirement: Retirement,
    ) -> Self {
        Self {
            dry_run: false,
            lease,
            access,
            max_swaps: settings.max_swaps,
            settings,
            blueprint,
            retirement,
            node: None,
            lab: None,
            checked_at: Timestamp::now(),
            queue: Vec::new(),
            deferred: 0,
            current: None,
            undo: None,
            rollback_deadline: None,
            swapped: Vec::new(),
            to_price: Vec::new(),
            skipped: Vec::new(),
            rolled_back: Vec::new(),
            ended_by: None,
            pause_seconds: 0,
            lease_released: false,
            steps: 0,
        }
    }

    /// The group that the run is over.
    ///
    /// # Errors
    /// It is over something else: a phase of groups was called for it.
    pub fn group(&self) -> Result<(&GroupArn, &GroupName), StepError> {
        match &self.lease.on {
            Leased::Group { arn, name } => Ok((arn, name)),
            other => Err(StepError::Protocol(format!("{other} is no Auto Scaling group"))),
        }
    }

    /// Something was made before the launch (an image), so that a launch that fails is a rollback.
    #[must_use]
    pub fn has_captured(&self) -> bool {
        self.lab.as_ref().is_some_and(|lab| lab.capture)
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

    /// The next candidate, or the end.
    #[must_use]
    pub fn next_target(&self) -> Next {
        let tried = self.swapped.len() + self.rolled_back.len();
        let age = Timestamp::now().duration_since(self.lease.since);
        let has_room = self.steps < STEPS_PER_RUN && age < SignedDuration::from_hours(HOURS_PER_RUN);
        let may_go_on =
            self.ended_by.is_none() && !self.dry_run && tried < self.max_swaps as usize && has_room;
        if may_go_on && !self.queue.is_empty() { Next::NextTarget } else { Next::Report }
    }

    /// Records why an instance stays. Where the rest would meet the same fate, the run ends.
    pub fn skip(&mut self, instance_id: &InstanceId, reason: Reason, detail: impl Into<String>) {
        self.skipped.push(Left::new(instance_id, reason, detail));
        self.end_if(reason);
    }

    /// Records that an instance was swapped back.
    pub fn put_back(&mut self, instance_id: &InstanceId, undo: &Undo) {
        self.rolled_back.push(Left::new(instance_id, undo.reason, &undo.detail));
        self.end_if(undo.reason);
    }

    fn end_if(&mut self, reason: Reason) {
        if reason.ends_run() {
            self.ended_by.get_or_insert(reason);
        }
    }

    /// Sets the pace of a phase that may take this long, and says when it gives up.
    pub fn wait_at_most(&mut self, seconds: u32) -> Timestamp {
        self.pause_seconds = self.settings.poll_seconds.max(seconds / LOOKS_PER_PHASE);
        Timestamp::now()
            .saturating_add(SignedDuration::from_secs(i64::from(seconds)))
            .unwrap_or(Timestamp::MAX)
    }

    /// Decides for the rollback after a change from outside.
    pub fn undo_for(&mut self, change: Change) -> Next {
        if change.whole_group {
            self.ended_by.get_or_insert(change.reason);
        }
        self.undo(change.reason, change.detail)
    }

    /// Decides for the rollback.
    pub fn undo(&mut self, reason: Reason, detail: impl Into<String>) -> Next {
        self.undo = Some(Undo { reason, detail: detail.into() });
        Next::Undo
    }
}
