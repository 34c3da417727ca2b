//! How long a run and each of its waits may be: Step Functions limits the events of an execution and its time.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use jiff::{SignedDuration, Timestamp};
use spot_cloud::tables::swaps::Leased;
use spot_domain::InstanceId;
use spot_domain::clock;
use spot_domain::swap::report::{Continuation, SwapRequest};

use super::{Next, Work};

/// A hook of 48 hours takes 240 looks with it.
const LONGEST_PAUSE_SECONDS: u32 = 720;
/// The state machine of a group times out after 72 hours, and a terminating hook may take 48.
const HOURS_PER_RUN: i64 = 20;
/// Swaps that a run makes behind a load balancer, at some 32 steps each.
const SWAPS_PER_RUN: usize = 65;

impl Work {
    /// The next candidate, or the end.
    #[must_use]
    pub fn next_candidate(&self) -> Next {
        let tried = self.swapped.len() + self.rolled_back.len();
        let may_go_on = self.ended_by.is_none() && !self.dry_run && tried < self.max_swaps as usize;
        // What was launched ahead has its turn, or is taken away.
        let is_ahead = !self.ahead.is_empty();
        if (is_ahead || may_go_on && self.has_room()) && !self.queue.is_empty() {
            Next::NextCandidate
        } else {
            Next::Report
        }
    }

    /// Step Functions ends an execution at 25,000 events of history, without a Catch. The last swap of a run may need
    /// some 20 looks in each phase, and 240 for a hook of 48 hours.
    pub(super) fn has_room(&self) -> bool {
        let age = clock::now().duration_since(self.lease.since);
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

    /// Returns how many executions the remaining candidates take, at the rate of this one; of a dry run, how many
    /// it would take if it takes more than one.
    #[must_use]
    pub fn executions_needed(&self) -> Option<usize> {
        let remaining = self.queue.len().saturating_add(self.deferred);
        // One that ended early says nothing of how many another one makes.
        let is_cut = self.dry_run || self.ended_by.is_some();
        let tried =
            if is_cut { self.max_swaps as usize } else { self.swapped.len() + self.rolled_back.len() };
        let needed = remaining.div_ceil(tried.clamp(1, SWAPS_PER_RUN));
        (needed > usize::from(self.dry_run)).then_some(needed)
    }

    /// Begins a phase that may take this long, and says when it gives up.
    pub fn wait_at_most(&mut self, seconds: u32) -> Timestamp {
        let now = clock::now();
        self.waiting_since = Some(now);
        self.pause_seconds = self.settings.poll_seconds;
        now.saturating_add(SignedDuration::from_secs(i64::from(seconds))).unwrap_or(Timestamp::MAX)
    }

    /// Sets the pause before the next look: half of what the phase has waited already, so that a long wait costs
    /// few steps.
    pub fn pace(&mut self) {
        let waited = self.waiting_since.map_or(0, |since| clock::now().duration_since(since).as_secs());
        let half = u32::try_from(waited / 2).unwrap_or(0).min(LONGEST_PAUSE_SECONDS);
        // What is expected at a certain time is looked at then, and before a deadline more than once.
        let now = clock::now();
        let until = |at: Timestamp| u32::try_from(at.duration_since(now).as_secs()).unwrap_or(0);
        let expected = self.look_at.take().map_or(u32::MAX, |at| until(at).saturating_add(1));
        let deadline = self.current.as_ref().map(|current| current.deadline).or(self.launch_deadline);
        let left = deadline.map_or(u32::MAX, |deadline| until(deadline) / 2);
        self.pause_seconds = self.settings.poll_seconds.max(half.min(expected).min(left));
    }
}
