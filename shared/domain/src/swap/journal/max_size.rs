//! MaxSize of the group: raised by us where our one finds no room, and given back.
//!
//! A new MaxSize that is smaller than the size of the group sets desired to the new MaxSize.
//! <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_UpdateAutoScalingGroup.html>
//! So the call that gives MaxSize back may lower desired, as the termination of a member with decrement does.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Journal, Stage};

/// How far the call has come that gives the owner's MaxSize back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MaxRestore {
    /// The call was not made.
    #[default]
    NotAsked,
    /// The call may have been made: its answer is not known. A refusal says nothing of an earlier try.
    Asked,
    /// AWS has answered that MaxSize is the owner's.
    Made,
}

impl MaxRestore {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub(super) const fn is_not_asked(&self) -> bool {
        matches!(self, Self::NotAsked)
    }
}

impl Journal {
    /// Notes ahead that the old instance is retired, which gives MaxSize back if the group, which has `max`, has ours.
    pub fn foresee_retirement(&mut self, max: u32, now: Timestamp) {
        self.stage = Stage::Retiring;
        self.retire_refused = false;
        self.changed_at = Some(now);
        if self.raised_max(max).is_some() {
            self.max_restore = MaxRestore::Asked;
        }
    }

    /// Returns MaxSize as we raised it, if that is what the group has now.
    #[must_use]
    pub fn raised_max(&self, max: u32) -> Option<u32> {
        let original = self.original.as_ref()?;
        self.max_raised_to.filter(|raised| max == *raised && *raised > original.max)
    }

    /// Returns true if the group, which has this MaxSize, has room for our one still. Once MaxSize is the owner's again, AWS
    /// has cut desired: a description that shows our one is older, or shows what its owner has asked for since.
    #[must_use]
    pub fn has_our_room(&self, max: u32) -> bool {
        match self.max_restore {
            // A release that knew no other state took the raise out of the journal once it was given back.
            MaxRestore::NotAsked => {
                self.max_raised_to.is_some() || self.original.as_ref().is_none_or(|it| it.desired < it.max)
            }
            MaxRestore::Asked => self.max_raised_to == Some(max),
            MaxRestore::Made => false,
        }
    }

    /// Returns true if a call that gives MaxSize back may still land, and cut desired. Another call that lowers desired
    /// waits for it: both together would take the owner's.
    #[must_use]
    pub const fn max_may_go_back(&self, calls_may_land: bool) -> bool {
        calls_may_land && matches!(self.max_restore, MaxRestore::Asked)
    }
}
