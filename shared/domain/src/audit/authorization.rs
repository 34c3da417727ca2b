//! The rules that decide if a running instance is authorised. An instance with one of the marks below belongs to
//! us, to an Auto Scaling group, or to an AWS service that needs it.
//!
//! Marks compare by exact case, and an empty value authorises nothing. `ManagedBy=SpotOptimizer` is the one mark
//! that any caller may write and that is ours to prove: see `LaunchProof`.

use crate::audit::subject::Subject;
use crate::audit::swaps_in_progress::SwapsInProgress;
pub use crate::owner_marks::{OwnerMark, Trust};
use crate::swap::journal::SwapId;
use crate::tags::{GROUP_NAME_TAG, MANAGED_BY, NODE_GROUP_TAG, SWAP_TAG};

/// The proof that a swap of ours launched an instance that says so.
///
/// Any caller with the permission can write tags and rows. The proof is an instance that carries the swap's id in
/// `spot-optimizer:swap`, and has a ClientToken of that swap from its launch: the one for its market.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LaunchProof {
    Proven,
    Unproven(&'static str),
}

fn launched_by_us(subject: &Subject) -> LaunchProof {
    let Some(swap_id) = subject.tags.get(SWAP_TAG).and_then(|id| id.parse::<SwapId>().ok()) else {
        return LaunchProof::Unproven("no spot-optimizer:swap tag with the id of a swap");
    };
    if subject.was_launched_by(&swap_id) {
        return LaunchProof::Proven;
    }
    LaunchProof::Unproven(
        "its launch bears no ClientToken of the swap in its tag, as an instance of its market has it",
    )
}

/// The verdict on an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorization {
    /// The instance is authorised: by the mark, or by the service.
    Authorised(String),
    /// A swap of ours is replacing the instance right now, as its newcomer proves, and will terminate it by
    /// itself.
    BeingReplaced,
    /// The instance bears our mark and nothing proves it; the text says why not. A person has to check.
    Suspicious(&'static str),
    /// Nothing authorises the instance.
    Unauthorised,
}

/// Judges one instance.
#[must_use]
pub fn standing(subject: &Subject, trust: Trust<'_>, swaps: &SwapsInProgress) -> Authorization {
    if let Some(operator) = &subject.operator {
        return Authorization::Authorised(format!("operated by {operator}"));
    }
    let has = |key| subject.tags.get(key).is_some_and(|value| !value.is_empty());
    if has(GROUP_NAME_TAG) && trust.trusts_group_of(&subject.tags) {
        return Authorization::Authorised(GROUP_NAME_TAG.to_owned());
    }
    if has(NODE_GROUP_TAG) {
        return Authorization::Authorised(NODE_GROUP_TAG.to_owned());
    }
    if let Some(mark) = trust.mark_of_owner(&subject.tags) {
        return Authorization::Authorised(mark.to_string());
    }
    let claims_to_be_ours = subject.tags.get(MANAGED_BY.0).is_some_and(|value| value == MANAGED_BY.1);
    if claims_to_be_ours {
        return match launched_by_us(subject) {
            LaunchProof::Proven => Authorization::Authorised("ManagedBy=SpotOptimizer".to_owned()),
            LaunchProof::Unproven(why) => Authorization::Suspicious(why),
        };
    }
    if swaps.replace(&subject.id) {
        return Authorization::BeingReplaced;
    }
    Authorization::Unauthorised
}

#[cfg(test)]
mod tests;
