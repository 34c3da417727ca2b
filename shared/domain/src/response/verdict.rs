//! Which interrupted instance is rescued: a member of an enrolled group, or one that a swap launched. Everything else is
//! left to its owner. A member that is a Kubernetes node is evacuated; any other one is replaced.

use jiff::Timestamp;

use super::{AnswerReason, Because, NOTICE};
use crate::enrolment::Enrolment;
use crate::ids::{ClusterName, InstanceId};
use crate::own_tags::{like_disabled, like_opt_out};
use crate::owners::{Owner, kubernetes, service_of_group};
use crate::settings::Settings;
use crate::swap::group::{Group, Instance, MOST_MEMBERS_OF_ANSWER, Member, MemberState};
use crate::swap::journal::{Journal, Stage, SwapId};
use crate::swap::recovery::answer::is_time_up;
use crate::tags::{Tags, cluster_of};
use crate::watch::enrolment::{ENABLED_TAG, Terms, WINDOW_TAG, enabled, terms};

/// Returns the instance of a notice that is still there to be rescued.
///
/// # Errors
/// The reason for which nothing is done.
pub fn interrupted(instance: Option<&Instance>) -> Result<&Instance, Because> {
    let gone = |detail: &str| Because::of(AnswerReason::InstanceGone, detail);
    let instance = instance.ok_or_else(|| gone("EC2 does not describe it"))?;
    if !instance.is_alive() {
        return Err(gone("it no longer runs"));
    }
    if !instance.is_spot {
        return Err(Because::of(AnswerReason::NotSpot, instance.instance_type.to_string()));
    }
    Ok(instance)
}

/// The way in which an interrupted instance is rescued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rescue {
    /// A member of its group: a replacement comes first, then the instance leaves.
    Member,
    /// A Kubernetes node: its pods move. The cluster is that of its own tags, or of its group's; `None` if no tag names it.
    Node(Option<ClusterName>),
}

impl Rescue {
    /// Returns the cluster of a node.
    #[must_use]
    pub const fn cluster(&self) -> Option<&ClusterName> {
        match self {
            Self::Member => None,
            Self::Node(cluster) => cluster.as_ref(),
        }
    }
}

/// Returns the way in which the instance is rescued.
///
/// # Errors
/// The reason for which nothing is done.
pub fn rescued(instance: &Instance, group: Option<&Group>, settings: &Settings) -> Result<Rescue, Because> {
    let not_in_group = || Because::of(AnswerReason::NotInGroup, "it is a member of no Auto Scaling group");
    let group = group.ok_or_else(not_in_group)?;
    let member = group.member(&instance.id).ok_or_else(not_in_group)?;
    in_our_care(instance, group, settings)?;
    let leaving = || Because::of(AnswerReason::AlreadyLeaving, format!("it is leaving group {}", group.name));
    if is_node(instance, group) {
        let cluster = cluster_of(&instance.tags).or_else(|| cluster_of(&group.tags));
        // A node in Standby may still run pods.
        return if member.state == MemberState::Leaving { Err(leaving()) } else { Ok(Rescue::Node(cluster)) };
    }
    if let Some(marked) =
        service_of_group(&group.tags).filter(|marked| matches!(marked.owner, Owner::GroupService(_)))
    {
        return Err(Because::of(AnswerReason::ManagedElsewhere, marked.detail()));
    }
    if let Some(why) = group.unsupported_or_busy() {
        return Err(Because::of(AnswerReason::GroupNotSupported, format!("group {}: {why}", group.name)));
    }
    // Desired counts no member that is out of service: one more would be one too many.
    let out_of_service = |why: &str| Because::of(AnswerReason::OutOfService, why);
    match member.state {
        MemberState::Pending | MemberState::InService => Ok(Rescue::Member),
        MemberState::Leaving => Err(leaving()),
        MemberState::Standby => Err(out_of_service("its owner took it out of service (Standby)")),
        MemberState::Other => Err(out_of_service("its group has it in a state that is not known here")),
    }
}

fn is_node(instance: &Instance, group: &Group) -> bool {
    kubernetes(&instance.tags).or_else(|| kubernetes(&group.tags)).is_some()
}

/// Returns the reason for which a node is not evacuated although its notice is answered: nothing names its cluster.
#[must_use]
pub fn cluster_unknown() -> Because {
    let detail = "a Kubernetes node, and no tag of the instance or its group names its cluster (aws:eks:cluster-name, \
                  kubernetes.io/cluster/<name>): its pods can't be found";
    Because::of(AnswerReason::KubernetesNode, detail)
}

/// Returns the reason for which nothing is done for a node at risk: a node swap replaces On-Demand nodes alone.
#[must_use]
pub fn node_at_risk() -> Because {
    let detail = "a Kubernetes node at risk is not replaced: a node swap replaces On-Demand nodes alone. It is drained \
                  when its two-minute notice comes";
    Because::of(AnswerReason::KubernetesNode, detail)
}

fn in_our_care(instance: &Instance, group: &Group, settings: &Settings) -> Result<(), Because> {
    if let Some(why) = opted_out_of(instance, Some(group), settings) {
        return Err(why);
    }
    match enrolment(&group.tags) {
        Some(_) => Ok(()),
        None if settings.enrolment == Enrolment::OptOut => Ok(()),
        None if was_launched_by_a_swap(instance) => Ok(()),
        None => {
            let detail =
                format!("group {} has no tag {ENABLED_TAG}=true, and no swap launched it", group.name);
            Err(Because::of(AnswerReason::NotEnrolled, detail))
        }
    }
}

/// Returns why the loop starts no swap of the group for a recommendation: its owner has not enrolled it, its window is
/// closed, or the group itself acts on the recommendation. A recommendation has no deadline; what a swap once launched is
/// rescued at its two-minute notice.
#[must_use]
pub fn not_in_the_loop(group: &Group, settings: &Settings, now: Timestamp) -> Option<Because> {
    match terms(&group.tags, settings) {
        Err(bad) => Some(Because::of(AnswerReason::OptedOut, bad.to_string())),
        Ok(None) => {
            let detail = format!("group {} has no tag {ENABLED_TAG}=true", group.name);
            Some(Because::of(AnswerReason::NotEnrolled, detail))
        }
        Ok(Some(Terms { window: Some(window) })) if !window.is_open(now) => {
            Some(Because::of(AnswerReason::WindowClosed, format!("tag {WINDOW_TAG} of group {}", group.name)))
        }
        Ok(Some(_)) => group.capacity_rebalance.then(|| {
            let detail = format!("group {} itself launches a replacement (CapacityRebalance)", group.name);
            Because::of(AnswerReason::GroupRebalances, detail)
        }),
    }
}

/// Returns the owner's word against any change of the group; `None` if there is none. A misspelt word against it counts.
#[must_use]
pub fn opted_out(group: &Group, settings: &Settings) -> Option<Because> {
    let of_group = |tag: &str| Some(format!("tag {tag} of group {}", group.name));
    let misspelt = || like_opt_out(&group.tags, settings).or_else(|| like_disabled(&group.tags, settings));
    let detail = match enrolment(&group.tags) {
        Some(false) => of_group(ENABLED_TAG),
        _ if settings.opts_out(&group.tags) => of_group(&settings.opt_out_tag),
        _ => misspelt().map(|bad| bad.to_string()),
    };
    detail.map(|detail| Because::of(AnswerReason::OptedOut, detail))
}

/// Returns the owner's word against any change of the instance or its group; `None` if there is none.
pub(super) fn opted_out_of(
    instance: &Instance,
    group: Option<&Group>,
    settings: &Settings,
) -> Option<Because> {
    let of_instance = || {
        let tag = || format!("tag {} of the instance", settings.opt_out_tag);
        let misspelt = || like_opt_out(&instance.tags, settings).map(|bad| bad.of_instance());
        let detail = settings.opts_out(&instance.tags).then(tag).or_else(misspelt)?;
        Some(Because::of(AnswerReason::OptedOut, detail))
    };
    group.and_then(|group| opted_out(group, settings)).or_else(of_instance)
}

/// Returns the owner's word on the loop. A value that can't be read enrols nothing.
fn enrolment(tags: &Tags) -> Option<bool> {
    enabled(tags).unwrap_or(Some(false))
}

/// Says if the ClientToken of the launch is a swap's. Nobody can write the token later; a tag proves nothing.
fn was_launched_by_a_swap(instance: &Instance) -> bool {
    let token = instance.client_token.as_deref().unwrap_or_default();
    let swap = token.rsplit_once('-').and_then(|(swap, _)| swap.parse::<SwapId>().ok());
    swap.is_some_and(|swap| instance.was_launched_by(&swap))
}

/// Returns the end of an instance that was warned at `occurred`. A time that is still to come counts as now.
///
/// # Errors
/// The end is over.
pub fn end_of(occurred: Timestamp, now: Timestamp) -> Result<Timestamp, Because> {
    let ends_at = occurred.min(now).saturating_add(NOTICE).unwrap_or(Timestamp::MAX);
    if now < ends_at {
        return Ok(ends_at);
    }
    Err(Because::of(AnswerReason::TooLate, format!("its end was announced for {ends_at}")))
}

/// Returns why no replacement comes before the instance leaves; `None` if there is time, and the group rests or has launched a
/// replacement by itself.
#[must_use]
pub fn not_first(group: &Group, ends_at: Timestamp, now: Timestamp) -> Option<Because> {
    if is_time_up(ends_at, now) {
        let left = ends_at.duration_since(now).as_secs();
        return Some(Because::of(AnswerReason::NoTime, format!("{left} s are left")));
    }
    if let Some(why) = group.too_large(MOST_MEMBERS_OF_ANSWER) {
        return Some(Because::of(AnswerReason::NoRoom, why));
    }
    let counted = counted(group);
    (counted != group.desired as usize && !launches_first(group)).then(|| {
        let detail = format!("{} are desired and {counted} are members: it is scaling", group.desired);
        Because::of(AnswerReason::GroupBusy, detail)
    })
}

/// Says if the group has launched a replacement before the member that it replaces leaves, as it does for
/// `CapacityRebalance`, `MaxInstanceLifetime` and `AZRebalance`.
#[must_use]
pub fn launches_first(group: &Group) -> bool {
    let is_launching = group.members.iter().any(|member| member.state == MemberState::Pending);
    is_launching && has_surplus(group)
}

/// Says if the group has more members than it wants.
#[must_use]
pub fn has_surplus(group: &Group) -> bool {
    counted(group) > group.desired as usize
}

/// Returns the number of members that the group counts towards desired.
fn counted(group: &Group) -> usize {
    let is_counted = |member: &&Member| !matches!(member.state, MemberState::Leaving | MemberState::Standby);
    group.members.iter().filter(is_counted).count()
}

/// Returns the reason if the swap in progress sees to this very instance.
///
/// Until the old instance leaves, the swap's own checks find that its newcomer is interrupted, and the newcomer leaves on the
/// way back. Once the old instance leaves, nobody asks EC2 about the newcomer any more: the old one may drain for longer than
/// the newcomer has left. The old instance itself has its replacement by then, and is told to leave.
#[must_use]
pub fn is_of_swap(journal: &Journal, id: &InstanceId) -> Option<Because> {
    let is_retiring = journal.stage == Stage::Retiring;
    let part = if journal.newcomer.as_ref() == Some(id) && !is_retiring {
        "launched it, sees the interruption by itself and turns back"
    } else if &journal.old == id && is_retiring {
        "has replaced it"
    } else {
        return None;
    };
    Some(Because::of(AnswerReason::SwapInProgress, format!("{} {part}", journal.swap_id)))
}

#[cfg(test)]
mod tests;
