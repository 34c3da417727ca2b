//! The actions of a recovery. It does one at a time.

use crate::ids::InstanceId;

/// A change of the group or of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Take the serving newcomer out of the group, desired minus one.
    DetachNewcomer(InstanceId),
    /// Have the group terminate the newcomer, desired minus one. A newcomer that does not serve (dead, or still pending)
    /// leaves so before the group replaces it; one that serves, if the group has a terminating lifecycle hook.
    RemoveNewcomer(InstanceId),
    /// Take a newcomer that is of no use out of a group whose desired is the owner's: the group
    /// launches another.
    ReplaceNewcomer(InstanceId),
    /// The group has replaced the dead newcomer by itself: take that replacement out, desired minus
    /// one.
    TerminateExtra(InstanceId),
    /// Terminate the newcomer, which is in no group.
    TerminateNewcomer(InstanceId),
    /// Terminate an instance that an earlier launch of the swap made, and that is in no group.
    TerminateStray(InstanceId),
    /// The newcomer failed after the old instance had left: take the old one back in.
    ReattachOld,
    /// Terminate the old instance, which has left the group and is drained.
    TerminateOld,
    /// Resume AZRebalance, which we suspended.
    ResumeAzRebalance,
    /// MaxSize one higher again, so that the old instance finds room.
    RaiseMaxSize(u32),
    /// MaxSize back to the owner's.
    RestoreMaxSize(u32),
}

impl Action {
    /// The instance that leaves its group or is terminated by it. Where that is a node, it must be
    /// drained before.
    #[must_use]
    pub fn removes<'a>(&'a self, old: &'a InstanceId) -> Option<&'a InstanceId> {
        match self {
            Self::DetachNewcomer(id)
            | Self::RemoveNewcomer(id)
            | Self::ReplaceNewcomer(id)
            | Self::TerminateExtra(id)
            | Self::TerminateNewcomer(id)
            | Self::TerminateStray(id) => Some(id),
            Self::TerminateOld => Some(old),
            Self::ReattachOld | Self::ResumeAzRebalance | Self::RaiseMaxSize(_) | Self::RestoreMaxSize(_) => {
                None
            }
        }
    }

    /// Returns true if it ends, moves or admits an instance. It is done only while EC2 shows a newcomer that the swap
    /// launched: that launch names the old instance, and a journal alone is no order.
    #[must_use]
    pub const fn needs_proof(&self) -> bool {
        // A stray is shown by its own launch.
        !matches!(self, Self::ResumeAzRebalance | Self::RestoreMaxSize(_) | Self::TerminateStray(_))
    }

    /// After it, nothing of our one is left in desired.
    #[must_use]
    pub const fn settles_desired(&self) -> bool {
        matches!(
            self,
            Self::DetachNewcomer(_)
                | Self::RemoveNewcomer(_)
                | Self::ReplaceNewcomer(_)
                | Self::TerminateExtra(_)
        )
    }
}
