//! What one step hands to the next: the plan of the run, the swap in progress, and what came of
//! the others. It travels through the state machine's payload (256 KiB at most).

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use spot_cloud::accounts::Access;
use spot_cloud::launcher::Blueprint;
use spot_cloud::swaps::Lease;
use spot_domain::journal::{Journal, Original, Retirement, Undo};
use spot_domain::selection::{Candidate, Change};
use spot_domain::settings::Settings;
use spot_domain::swap::{Left, Swapped};
use spot_domain::{InstanceId, Pool, Reason};

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
    /// The group as its owner has it.
    pub original: Original,
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
    /// Left alone.
    pub skipped: Vec<Left>,
    /// Tried and put back.
    pub rolled_back: Vec<Left>,
    /// What ended the run before its time.
    pub ended_by: Option<Reason>,
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

impl Work {
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
        let may_go_on = self.ended_by.is_none() && !self.dry_run && tried < self.max_swaps as usize;
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

/// This many seconds from now.
#[must_use]
pub fn deadline(seconds: u32) -> Timestamp {
    Timestamp::now().saturating_add(SignedDuration::from_secs(i64::from(seconds))).unwrap_or(Timestamp::MAX)
}
