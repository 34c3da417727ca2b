//! The swaps whose newcomers were launched ahead of their turn, as the run knows them. The journal in the row is the truth
//! of them: a step's answer may have been lost.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use spot_domain::swap::group::Launch;
use spot_domain::swap::journal::{Journal, SwapKind};
use spot_domain::swap::selection::Candidate;
use spot_domain::{InstanceId, Pool, Reason};

use super::Work;

/// Steps that a swap takes behind a load balancer, with some to spare.
const STEPS_PER_SWAP: u32 = 40;
/// The longest that a terminating hook may take: what was launched ahead is paid for while it waits.
const LONGEST_HOOK_SECONDS: u32 = 3_600;

/// A candidate whose newcomer may have been launched ahead of its turn. It stays in the queue until its turn comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ahead {
    /// The instance that is replaced.
    pub old: InstanceId,
    /// Its newcomer; absent if the answer was lost, so that Launch has to look for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newcomer: Option<LaunchedNewcomer>,
}

/// A newcomer, as its launch left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchedNewcomer {
    /// The instance.
    pub id: InstanceId,
    /// The pool that it was launched into.
    pub pool: Pool,
    /// The launch of its group that it came from; `None` if it is an instance's twin, or if an earlier run of the step launched
    /// it.
    pub came_from: Option<Launch>,
    /// A remark on it for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
}

impl Work {
    /// Returns how many more newcomers may be launched ahead now, while a swap is in progress.
    ///
    /// None before the first swap of the run has succeeded, nor after one that failed: the next may fail for the same
    /// reason. None either, if the run has no room left for their swaps, or if the group's hooks may hold an old instance
    /// for hours.
    #[must_use]
    pub fn room_ahead(&self) -> usize {
        let most = match self.settings.launch_ahead {
            0 | 1 => return 0,
            most => most,
        };
        let needs = most.saturating_add(1).saturating_mul(STEPS_PER_SWAP);
        let has_room =
            self.has_room() && self.steps.saturating_add(needs) < self.settings.steps_per_execution;
        let is_proven = !self.swapped.is_empty() && self.failures_in_a_row == 0;
        let is_brisk = self.hook_seconds <= LONGEST_HOOK_SECONDS;
        let may_go_on = self.ended_by.is_none() && is_proven && has_room && is_brisk;
        if self.kind != SwapKind::Group || !may_go_on {
            return 0;
        }
        let begun = self.swapped.len() + self.rolled_back.len() + 1;
        let left = (self.max_swaps as usize).saturating_sub(begun).min(self.queue.len());
        left.min(most as usize).saturating_sub(self.ahead.len())
    }

    /// Takes over what the row says of the swaps that were launched ahead.
    pub fn note_ahead<'a>(&mut self, journals: impl IntoIterator<Item = &'a Journal>) {
        let mut known = std::mem::take(&mut self.ahead);
        let noted = journals.into_iter().map(|journal| {
            let position = known.iter().position(|ahead| ahead.old == journal.old);
            let unknown = || Ahead { old: journal.old.clone(), newcomer: None };
            position.map_or_else(unknown, |position| known.swap_remove(position))
        });
        self.ahead = noted.collect();
    }

    /// Takes out the entry of this instance, now that its turn has come.
    pub fn take_ahead(&mut self, old: &InstanceId) -> Option<Ahead> {
        let position = self.ahead.iter().position(|ahead| &ahead.old == old)?;
        Some(self.ahead.remove(position))
    }

    /// Returns the time that stands in the id of a swap of this instance: when the run began, and a millisecond later for its
    /// second turn, so that no call of the first turn is taken for one of the second.
    #[must_use]
    pub fn swap_began(&self, old: &InstanceId) -> Timestamp {
        let later = SignedDuration::from_millis(i64::from(self.second_turns.contains(old)));
        self.lease.since.saturating_add(later).unwrap_or(self.lease.since)
    }

    /// Says if a swap that is undone gets a second turn. Its newcomer was launched ahead, and the group, the pool or the
    /// owner's wishes have changed since: that says nothing against another newcomer.
    #[must_use]
    pub fn has_second_turn(&self, journal: &Journal, reason: Reason) -> bool {
        let is_untouched = journal.is_ahead && journal.original.is_none();
        let is_unwell = matches!(reason, Reason::NewcomerUnhealthy | Reason::LaunchRejected);
        is_untouched && !is_unwell && self.ended_by.is_none() && !self.second_turns.contains(&journal.old)
    }

    /// Queues a candidate once more, behind those that were launched ahead.
    pub fn queue_again(&mut self, candidate: Candidate) {
        self.second_turns.insert(candidate.instance_id.clone());
        let behind = self.ahead.len().min(self.queue.len());
        self.queue.insert(behind, candidate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Next;
    use spot_cloud::tables::swaps::Lease;
    use spot_domain::clock;
    use spot_domain::swap::journal::{Original, Retirement, SwapId};

    /// A run in its second swap, with so many candidates behind it.
    fn work(behind: u32) -> Work {
        let payload = include_str!("../../tests/payloads/3fb1158-group-after-launch.json");
        let work: Work = serde_json::from_str(payload).unwrap();
        let like = work.current.clone().unwrap().candidate;
        let candidate = |n| Candidate { instance_id: id(n), ..like.clone() };
        let swapped = vec![work.current.as_ref().unwrap().swapped()];
        let lease = Lease { since: clock::now(), ..work.lease };
        Work { queue: (0..behind).map(candidate).collect(), max_swaps: 500, swapped, lease, ..work }
    }

    fn id(n: u32) -> InstanceId {
        format!("i-0000000000000000{n}").parse().unwrap()
    }

    fn journals(of: impl IntoIterator<Item = u32>) -> Vec<Journal> {
        let new = |n| Journal::new(&id(n), Timestamp::UNIX_EPOCH, Retirement::Detach, SwapKind::Group);
        of.into_iter().map(new).collect()
    }

    #[test]
    fn three_are_launched_ahead_of_their_turn() {
        assert_eq!((work(9).room_ahead(), work(2).room_ahead(), work(0).room_ahead()), (3, 2, 0));
        let mut begun = work(9);
        begun.note_ahead(&journals([0, 1]));
        assert_eq!(begun.room_ahead(), 1);
        begun.settings.launch_ahead = 1;
        assert_eq!(begun.room_ahead(), 0, "each in its turn");
    }

    #[test]
    fn a_run_launches_none_ahead_that_it_would_not_swap() {
        let last_but_one = Work { max_swaps: 3, ..work(9) };
        assert_eq!(last_but_one.room_ahead(), 1);
        assert_eq!(Work { ended_by: Some(Reason::GroupChanged), ..work(9) }.room_ahead(), 0);
        let failed = Work { failures_in_a_row: 1, ..work(9) };
        assert_eq!(failed.room_ahead(), 0, "the next may fail for the same reason");
        let held = Work { hook_seconds: 172_800, ..work(9) };
        assert_eq!(held.room_ahead(), 0, "an owner's hook may hold each old one for two days");
        let near_its_end = Work { steps: 1_900, ..work(9) };
        assert_eq!(near_its_end.room_ahead(), 0, "it goes on in another execution");
        let node =
            serde_json::from_str::<Work>(include_str!("../../tests/payloads/3fb1158-node-after-launch.json"));
        assert_eq!(node.unwrap().room_ahead(), 0);
    }

    #[test]
    fn the_row_says_what_was_launched_ahead() {
        let mut work = work(3);
        let newcomer = |n: u32| LaunchedNewcomer {
            id: format!("i-000000000000000f{n}").parse().unwrap(),
            pool: "us-east-1#use1-az6#m5.large".parse().unwrap(),
            came_from: None,
            remark: None,
        };
        work.ahead = vec![Ahead { old: id(0), newcomer: Some(newcomer(0)) }];
        work.note_ahead(&journals([0, 1]));
        assert_eq!(work.ahead[0].newcomer, Some(newcomer(0)), "the run knows it");
        assert_eq!(work.ahead[1], Ahead { old: id(1), newcomer: None }, "an answer was lost");
        assert_eq!(work.take_ahead(&id(0)).and_then(|ahead| ahead.newcomer), Some(newcomer(0)));
        assert_eq!(work.take_ahead(&id(2)), None);
        work.note_ahead(&journals([]));
        assert_eq!(work.ahead, []);
    }

    #[test]
    fn a_run_that_ends_takes_what_was_launched_ahead_away_first() {
        let mut work = work(3);
        work.end(Reason::GroupChanged, "a refresh began".to_owned());
        assert_eq!(work.next_candidate(), Next::Report);
        work.note_ahead(&journals([0]));
        assert_eq!(work.next_candidate(), Next::NextCandidate);
        let mut full = Work { steps: work.settings.steps_per_execution, ended_by: None, ..work };
        assert_eq!(full.next_candidate(), Next::NextCandidate, "its newcomer is there");
        full.ahead.clear();
        assert_eq!(full.next_candidate(), Next::Report);
    }

    #[test]
    fn a_newcomer_that_grew_stale_ahead_gives_its_candidate_a_second_turn() {
        let mut work = work(3);
        let stale = Journal { is_ahead: true, ..journals([0]).remove(0) };
        assert!(work.has_second_turn(&stale, Reason::GroupChanged));
        assert!(work.has_second_turn(&stale, Reason::NewcomerAtRisk));
        assert!(!work.has_second_turn(&stale, Reason::NewcomerUnhealthy), "the next one would be, too");
        let in_its_turn = Journal { is_ahead: false, ..stale.clone() };
        assert!(!work.has_second_turn(&in_its_turn, Reason::GroupChanged));
        let group = Original {
            desired: 1,
            max: 1,
            az_rebalance_suspended: false,
            serving: 1,
            members: vec![],
            not_serving: vec![],
        };
        let attached = Journal { original: Some(group), ..stale.clone() };
        assert!(!work.has_second_turn(&attached, Reason::GroupChanged), "the group was touched");
        let ended = Work { ended_by: Some(Reason::OptedOut), ..work.clone() };
        assert!(!ended.has_second_turn(&stale, Reason::OptedOut));

        let first = SwapId::new(&id(0), work.swap_began(&id(0)));
        let candidate = work.queue.remove(0);
        work.note_ahead(&journals([1]));
        work.queue_again(candidate);
        let order: Vec<_> = work.queue.iter().map(|candidate| candidate.instance_id.clone()).collect();
        assert_eq!(order, [id(1), id(0), id(2)], "behind those that were launched ahead");
        assert_ne!(SwapId::new(&id(0), work.swap_began(&id(0))), first);
        assert!(!work.has_second_turn(&stale, Reason::GroupChanged), "there is no third");
    }
}
