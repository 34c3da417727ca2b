//! The changes that come by themselves, each at its time.

use jiff::Timestamp;

use crate::fleet::Fleet;
use crate::fleet::instances::EndOfInstance;

/// A change that comes by itself. It does nothing if what it is about has changed otherwise meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DueChange {
    /// An instance has booted.
    InstanceRuns(String),
    InstanceStopped(String),
    /// A snapshot that was deleted in progress is complete, and goes.
    SnapshotGoes(String),
    /// An image is available, or has failed.
    ImageIsMade(String),
    InstanceTerminated(String),
    /// EC2 shows the tags of an instance that has ended no more.
    TagsGo(String),
    InstanceForgotten(String),
    SpotRequestForgotten(String),
    /// The two minutes of a notice are over.
    SpotInterrupted(String),
    /// A member's group finds it dead.
    DeathNoticed(String),
    /// Descriptions show that a member leaves.
    LeavingShows(String),
    /// A member goes on to its next state.
    MemberProceeds {
        group: String,
        instance: String,
    },
    /// The time of a scheduled action has come.
    ActionRuns {
        group: String,
        action: String,
    },
    /// A target of a target group goes on to its next state.
    TargetProceeds {
        target_group: String,
        instance: String,
    },
}

impl Fleet {
    pub(super) fn at(&mut self, at: Timestamp, change: DueChange) {
        self.counter += 1;
        self.agenda.insert((at, self.counter), change);
    }

    /// Makes the changes that are due, in the order of their times.
    pub fn pass(&mut self, now: Timestamp) {
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((at, _), change) = entry.remove_entry();
            self.make(change, at);
        }
    }

    /// Returns the time of the next change that comes by itself.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        self.agenda.keys().next().map(|(at, _)| *at)
    }

    fn make(&mut self, change: DueChange, at: Timestamp) {
        match change {
            DueChange::InstanceRuns(id) => self.instance_runs(&id, at),
            DueChange::InstanceStopped(id) => self.instance_stopped(&id),
            DueChange::SnapshotGoes(id) => self.snapshot_goes(&id),
            DueChange::ImageIsMade(id) => self.image_is_made(&id),
            DueChange::InstanceTerminated(id) => self.instance_terminated(&id, at),
            DueChange::TagsGo(id) => self.tags_go(&id),
            DueChange::InstanceForgotten(id) => drop(self.instances.remove(&id)),
            DueChange::SpotRequestForgotten(id) => drop(self.spot_requests.remove(&id)),
            DueChange::SpotInterrupted(id) => self.end_instance(&id, EndOfInstance::SpotInterruption, at),
            DueChange::DeathNoticed(id) => self.death_noticed(&id, at),
            DueChange::LeavingShows(id) => self.leaving_shows(&id),
            DueChange::MemberProceeds { group, instance } => self.member_proceeds(&group, &instance, at),
            DueChange::ActionRuns { group, action } => self.action_runs(&group, &action),
            DueChange::TargetProceeds { target_group, instance } => {
                self.target_proceeds(&target_group, &instance, at);
            }
        }
    }
}
