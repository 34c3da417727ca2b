//! What AWS shows of a lab swap, and what a person should know of it at the end.

use std::collections::BTreeSet;

use crate::ids::InstanceId;
use crate::swap::lab::{CapturedImage, LabSwap, OldInstance};

/// What the old instance is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldState {
    /// Running.
    Running,
    /// Pending: it was started again.
    Starting,
    /// Stopping or stopped.
    Stopped,
    /// Terminated, or forgotten by EC2.
    Gone,
}

/// Who has the Elastic IP that the journal names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressAt {
    /// The old instance.
    Old,
    /// The newcomer.
    Newcomer,
    /// Nobody: it is allocated and free.
    Nobody,
    /// Something else, or it was released; or there never was one. Not ours to move.
    Elsewhere,
}

/// What a target group says of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetState {
    /// Healthy, or in a group that no load balancer uses.
    Healthy,
    /// Registered; the first checks are under way.
    Checking,
    /// Registered, and not healthy.
    Unhealthy,
    /// Leaving.
    Draining,
    /// Not registered.
    Absent,
    /// The target group was deleted: there is nothing to be registered in, or to leave.
    NoGroup,
}

impl TargetState {
    pub(super) const fn is_registered(self) -> bool {
        matches!(self, Self::Healthy | Self::Checking | Self::Unhealthy)
    }

    /// Returns true for an instance that is on its way out of the target group, or not in it.
    #[must_use]
    pub const fn is_out(self) -> bool {
        matches!(self, Self::Draining | Self::Absent)
    }

    pub(super) const fn serves(self) -> bool {
        matches!(self, Self::Healthy | Self::NoGroup)
    }
}

/// Both instances in one target group of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Targets {
    /// The old instance.
    pub old: TargetState,
    /// The newcomer.
    pub newcomer: TargetState,
}

/// The newcomer as EC2 shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newcomer {
    /// Its id. An instance that lives is here only if [`crate::swap::proof`] holds.
    pub id: InstanceId,
    /// Pending or running.
    pub alive: bool,
}

/// A volume of the newcomer that would outlive it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftVolume {
    /// Its id.
    pub id: String,
    /// The newcomer still has it.
    pub is_attached: bool,
}

/// What AWS shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The old instance.
    pub old: OldState,
    /// The newcomer, if any was launched.
    pub newcomer: Option<Newcomer>,
    /// Further instances that the swap launched, alive.
    pub strays: Vec<InstanceId>,
    /// The launch, or the request for an image, is so recent that EC2 may not show what came of it.
    pub launch_may_be_invisible: bool,
    /// The last changing call is so recent that it may still land, or not show yet.
    pub calls_may_land: bool,
    /// The Elastic IP.
    pub address: AddressAt,
    /// The target groups, in the order of the journal's registrations.
    pub targets: Vec<Targets>,
    /// The images that the swap made: they have its image's name, and the old instance as their source.
    pub images: Vec<CapturedImage>,
    /// The snapshots that the journal holds of those images.
    pub snapshots: Vec<String>,
    /// The volumes that the newcomer was launched with, while EC2 shows them on it.
    pub newcomers_volumes: BTreeSet<String>,
    /// Volumes that the journal holds of the newcomer's launch and that don't go with it.
    pub volumes: Vec<LeftVolume>,
    /// Everything that only bears the swap's tag, in words: it was left alone.
    pub left_alone: Vec<String>,
}

impl Observed {
    pub(super) fn newcomer_lives(&self) -> bool {
        self.newcomer.as_ref().is_some_and(|newcomer| newcomer.alive)
    }

    /// Names all that a person should know at the end: what was left alone, and what the newcomer leaves to its owner.
    #[must_use]
    pub fn remarks(&self, lab: &LabSwap) -> Vec<String> {
        let stays = |volume: &LeftVolume| {
            format!(
                "volume {} of the new instance stays, and costs: that instance had begun to serve",
                volume.id
            )
        };
        // All that may go has gone by then.
        let volumes = self.volumes.iter().filter(|_| !self.newcomer_lives()).map(stays);
        let left_out = |n: &usize| {
            let registration = lab.registrations.get(*n)?;
            let group = &registration.target_group_arn;
            Some(format!(
                "the old instance is stopped, and left target group {group}: register it again once it runs"
            ))
        };
        let stays_out = self.old == OldState::Stopped && !self.newcomer_lives();
        let outside = (0..self.targets.len()).filter(|n| stays_out && self.is_let_out(lab, *n));
        let left_out: Vec<String> = outside.filter_map(|n| left_out(&n)).collect();
        let is_kept = self.old == OldState::Stopped
            && self.newcomer_lives()
            && lab.old_instance == OldInstance::Terminate;
        let kept =
            is_kept.then(|| "the old instance was stopped by another, and is not terminated".to_owned());
        let used = lab.kept.iter().map(|(id, why)| format!("the new instance {id} stays, and costs: {why}"));
        self.left_alone.iter().cloned().chain(used).chain(volumes).chain(left_out).chain(kept).collect()
    }

    /// The old instance is out of a target group, and may be so by our call. AWS does not tell whose call it was.
    pub(super) fn is_let_out(&self, lab: &LabSwap, n: usize) -> bool {
        let may_be_ours = lab.leaving && (lab.let_out.is_empty() || lab.let_out.contains(&n));
        may_be_ours && self.targets.get(n).is_some_and(|target| target.old.is_out())
    }

    pub(super) fn target(&self, wanted: impl Fn(&Targets) -> bool) -> Option<usize> {
        self.targets.iter().position(wanted)
    }
}
