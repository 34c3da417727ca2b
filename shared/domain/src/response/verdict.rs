//! Which interrupted instance is rescued: a member of an enrolled group, or one that a swap launched. Everything else is
//! left to its owner. A member that is a Kubernetes node is evacuated; any other one is replaced.

use jiff::Timestamp;

use super::{AnswerReason, Because, NOTICE};
use crate::enrolment::Enrolment;
use crate::ids::{ClusterName, InstanceId};
use crate::own_tags::{like_disabled, like_opt_out};
use crate::owners::{Owner, kubernetes, service};
use crate::settings::Settings;
use crate::swap::group::{Group, Instance, Member, MemberState};
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
    let stays = member.state != MemberState::Leaving;
    if is_node(instance, group) {
        let cluster = cluster_of(&instance.tags).or_else(|| cluster_of(&group.tags));
        return if stays { Ok(Rescue::Node(cluster)) } else { Err(leaving()) };
    }
    if let Some(marked) = service(&group.tags).filter(|marked| matches!(marked.owner, Owner::GroupService(_)))
    {
        return Err(Because::of(AnswerReason::ManagedElsewhere, marked.detail()));
    }
    if let Some(why) = group.unsupported_or_busy() {
        return Err(Because::of(AnswerReason::GroupNotSupported, format!("group {}: {why}", group.name)));
    }
    if stays { Ok(Rescue::Member) } else { Err(leaving()) }
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
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::swap::group::InstanceState;
    use crate::swap::group::tests::{group_of, id, member, on_demand};
    use crate::swap::journal::{Retirement, SwapKind};
    use crate::tags::{CLUSTER_TAG, MANAGED_BY, SWAP_TAG};

    fn spot(n: u32) -> Instance {
        Instance { is_spot: true, ..on_demand(n) }
    }

    fn enrolled(value: &str) -> Group {
        let mut group = group_of(2);
        group.tags.insert(ENABLED_TAG.to_owned(), value.to_owned());
        group
    }

    fn why(instance: &Instance, group: &Group) -> Option<AnswerReason> {
        rescued(instance, Some(group), &Settings::default()).err().map(|because| because.reason)
    }

    #[test]
    fn a_spot_member_of_an_enrolled_group_is_rescued() {
        assert!(interrupted(Some(&spot(1))).is_ok());
        assert_eq!(why(&spot(1), &enrolled("true")), None);
    }

    #[test]
    fn what_is_not_enrolled_is_left_alone_whatever_its_tags_claim() {
        assert_eq!(why(&spot(1), &group_of(2)), Some(AnswerReason::NotEnrolled));
        let mut claims = spot(1);
        claims.tags.insert(MANAGED_BY.0.into(), MANAGED_BY.1.into());
        claims.tags.insert(SWAP_TAG.into(), "i-00000000000000009-1700000000000".into());
        assert_eq!(why(&claims, &group_of(2)), Some(AnswerReason::NotEnrolled), "a tag is no proof");
        let all = Settings { enrolment: Enrolment::OptOut, ..Settings::default() };
        assert!(
            rescued(&spot(1), Some(&group_of(2)), &all).is_ok(),
            "each group without the tag is enrolled"
        );
        for value in ["True", "yes", ""] {
            assert_eq!(why(&spot(1), &enrolled(value)), Some(AnswerReason::OptedOut), "{value:?}");
        }
    }

    #[test]
    fn a_recommendation_is_heard_for_enrolled_groups_in_their_window_alone() {
        let why = |group: &Group| {
            let noon = "2026-11-25T12:00:00Z".parse().unwrap();
            not_in_the_loop(group, &Settings::default(), noon).map(|because| because.reason)
        };
        assert_eq!(why(&group_of(2)), Some(AnswerReason::NotEnrolled));
        assert_eq!(why(&enrolled("true")), None);
        for (window, reason) in [
            ("Mon-Fri 08:00-13:00 UTC", None),
            ("Sat-Sun UTC", Some(AnswerReason::WindowClosed)),
            ("always", Some(AnswerReason::OptedOut)),
        ] {
            let mut group = enrolled("true");
            group.tags.insert(WINDOW_TAG.to_owned(), window.to_owned());
            assert_eq!(why(&group), reason, "{window}");
        }
    }

    #[test]
    fn the_newcomer_of_a_swap_is_rescued_by_its_client_token() {
        let token = |token: &str| Instance { client_token: Some(token.to_owned()), ..spot(1) };
        let swap = SwapId::new(&id(9), Timestamp::UNIX_EPOCH);
        assert_eq!(why(&token(&swap.client_token(2)), &group_of(2)), None);
        assert_eq!(why(&token("owner's-own-1"), &group_of(2)), Some(AnswerReason::NotEnrolled));
        assert_eq!(why(&token(&swap.client_token(2)), &enrolled("false")), Some(AnswerReason::OptedOut));
    }

    #[test]
    fn an_owner_who_opts_out_is_obeyed() {
        let settings = Settings::default();
        let mut group = enrolled("true");
        group.tags.insert(settings.opt_out_tag.clone(), "yes".into());
        assert_eq!(why(&spot(1), &group), Some(AnswerReason::OptedOut));
        let mut instance = spot(1);
        instance.tags.insert(settings.opt_out_tag, "yes".into());
        assert_eq!(why(&instance, &enrolled("true")), Some(AnswerReason::OptedOut));
    }

    /// Any other misspelt key keeps nothing from its rescue, as a value that can't be read does not.
    #[test]
    fn a_misspelt_word_against_is_heard_at_a_notice() {
        let group = |key: &str, value: &str| {
            let mut group = enrolled("true");
            group.tags.insert(key.to_owned(), value.to_owned());
            group
        };
        for (key, value, heard) in [
            ("spot-optimizer:opt_out", "true", true),
            ("spot-optimizer:opt_out", "false", false),
            ("spot-optimizer:Enabled", "false", true),
            ("spot-optimizer:Enabled", "true", false),
            ("spot-optimizer:min_on_demand", "2", false),
        ] {
            let heard = heard.then_some(AnswerReason::OptedOut);
            assert_eq!(why(&spot(1), &group(key, value)), heard, "{key}={value}");
            let noon = "2026-11-25T12:00:00Z".parse().unwrap();
            let ignored = not_in_the_loop(&group(key, value), &Settings::default(), noon).unwrap();
            assert_eq!(ignored.reason, AnswerReason::OptedOut, "a recommendation starts a swap");
            assert!(ignored.detail.contains(key), "{ignored:?}");
        }
        let mut instance = spot(1);
        instance.tags.insert("spot-optimizer:opt_out".into(), "true".into());
        let because = rescued(&instance, Some(&enrolled("true")), &Settings::default()).unwrap_err();
        assert_eq!(because.reason, AnswerReason::OptedOut);
        assert!(because.detail.contains("spot-optimizer:opt_out"), "{because:?}");
    }

    #[test]
    fn what_others_replace_or_can_t_be_replaced_is_left_alone_by_name() {
        let mut ecs = enrolled("true");
        ecs.tags.insert("AmazonECSManaged".into(), "true".into());
        assert_eq!(why(&spot(1), &ecs), Some(AnswerReason::ManagedElsewhere));
        let mut weighted = enrolled("true");
        weighted.obstacles.push("its overrides carry weights".into());
        assert_eq!(why(&spot(1), &weighted), Some(AnswerReason::GroupNotSupported));
        let mut suspended = enrolled("true");
        suspended.suspended.insert("Launch".into());
        assert_eq!(why(&spot(1), &suspended), Some(AnswerReason::GroupNotSupported));
        let mut leaving = enrolled("true");
        leaving.members[1].state = MemberState::Leaving;
        assert_eq!(why(&spot(1), &leaving), Some(AnswerReason::AlreadyLeaving));
        assert_eq!(why(&spot(7), &enrolled("true")), Some(AnswerReason::NotInGroup));
    }

    #[test]
    fn a_node_is_evacuated_in_its_cluster_whatever_its_group_could_launch() {
        let rescue =
            |instance: &Instance, group: &Group| rescued(instance, Some(group), &Settings::default());
        let mut node = spot(1);
        node.tags.insert("kubernetes.io/cluster/shop".into(), "owned".into());
        let shop = Ok(Rescue::Node(Some("shop".parse().unwrap())));
        assert_eq!(rescue(&node, &enrolled("true")), shop);
        let mut by_its_swap = spot(1);
        by_its_swap.tags.insert(CLUSTER_TAG.into(), "shop".into());
        assert_eq!(rescue(&by_its_swap, &enrolled("true")), shop, "its cluster marks nothing by itself");
        let mut weighted = enrolled("true");
        weighted.obstacles.push("its overrides carry weights".into());
        assert_eq!(rescue(&node, &weighted), shop, "its group is not changed");
        let mut by_group = enrolled("true");
        by_group.tags.insert("kubernetes.io/cluster/shop".into(), "owned".into());
        assert_eq!(rescue(&spot(1), &by_group), shop, "a group may keep its tags to itself");
        let mut nameless = spot(1);
        nameless.tags.insert("k8s.io/role/node".into(), "1".into());
        assert_eq!(rescue(&nameless, &enrolled("true")), Ok(Rescue::Node(None)));
        assert_eq!(rescue(&spot(1), &enrolled("true")), Ok(Rescue::Member));
        let mut leaving = enrolled("true");
        leaving.members[1].state = MemberState::Leaving;
        assert_eq!(why(&node, &leaving), Some(AnswerReason::AlreadyLeaving));
        assert_eq!(why(&node, &group_of(2)), Some(AnswerReason::NotEnrolled));
        assert_eq!(why(&node, &enrolled("false")), Some(AnswerReason::OptedOut));
    }

    #[test]
    fn only_a_living_spot_instance_is_interrupted() {
        let reason = |instance: Option<&Instance>| interrupted(instance).unwrap_err().reason;
        assert_eq!(reason(None), AnswerReason::InstanceGone);
        assert_eq!(reason(Some(&on_demand(1))), AnswerReason::NotSpot);
        let dead = Instance { state: InstanceState::Dead, ..spot(1) };
        assert_eq!(reason(Some(&dead)), AnswerReason::InstanceGone);
    }

    #[test]
    fn a_replacement_comes_first_where_there_is_rest_and_time() {
        let now = Timestamp::UNIX_EPOCH;
        let in_seconds = |s| now + SignedDuration::from_secs(s);
        let reason = |group: &Group, left| not_first(group, in_seconds(left), now).map(|b| b.reason);
        assert_eq!(reason(&group_of(2), 110), None);
        assert_eq!(reason(&group_of(2), 40), Some(AnswerReason::NoTime));
        for desired in [1, 3] {
            let scaling = Group { desired, ..group_of(2) };
            assert_eq!(reason(&scaling, 110), Some(AnswerReason::GroupBusy), "{desired} are desired");
        }
        assert_eq!(end_of(now, in_seconds(119)), Ok(in_seconds(120)));
        assert_eq!(end_of(now, in_seconds(120)).unwrap_err().reason, AnswerReason::TooLate);
    }

    #[test]
    fn a_member_in_standby_is_not_counted() {
        let (now, end) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH + NOTICE);
        let mut group = group_of(3);
        group.members[2].state = MemberState::parse("Standby");
        group.desired = 2;
        assert_eq!(not_first(&group, end, now), None, "desired was lowered with it");
        group.desired = 3;
        let busy = not_first(&group, end, now).map(|because| because.reason);
        assert_eq!(busy, Some(AnswerReason::GroupBusy), "another is still to be launched in its place");
        group.members.push(Member { state: MemberState::Pending, ..member(7) });
        assert_eq!(not_first(&group, end, now), None, "another was launched in its place");
        assert!(!launches_first(&group));
    }

    #[test]
    fn a_replacement_that_the_group_has_launched_by_itself_is_waited_for() {
        let now = Timestamp::UNIX_EPOCH;
        let reason = |group: &Group, left| {
            not_first(group, now + SignedDuration::from_secs(left), now).map(|because| because.reason)
        };
        let mut group = group_of(2);
        assert!(!launches_first(&group));
        group.members.push(Member { state: MemberState::Pending, ..member(7) });
        assert!(launches_first(&group));
        assert_eq!(reason(&group, 110), None);
        assert_eq!(reason(&group, 40), Some(AnswerReason::NoTime));
        group.members[2].state = MemberState::InService;
        assert!(!launches_first(&group), "the group is about to choose a victim");
        assert_eq!(reason(&group, 110), Some(AnswerReason::GroupBusy));
        group.members[2].state = MemberState::Pending;
        group.desired = 3;
        assert!(!launches_first(&group), "it scales out");
    }

    #[test]
    fn a_group_that_acts_on_a_recommendation_by_itself_is_left_to_it() {
        let noon = "2026-11-25T12:00:00Z".parse().unwrap();
        let why = |group: &Group| not_in_the_loop(group, &Settings::default(), noon).map(|b| b.reason);
        let group = Group { capacity_rebalance: true, ..enrolled("true") };
        assert_eq!(why(&group), Some(AnswerReason::GroupRebalances));
        assert_eq!(why(&Group { capacity_rebalance: true, ..group_of(2) }), Some(AnswerReason::NotEnrolled));
    }

    #[test]
    fn an_old_instance_that_is_replaced_is_its_swaps_own_affair() {
        let mut journal = Journal::new(&id(1), Timestamp::UNIX_EPOCH, Retirement::Detach, SwapKind::Group);
        assert_eq!(is_of_swap(&journal, &id(1)), None, "its swap takes longer than its notice");
        journal.stage = Stage::Retiring;
        assert_eq!(is_of_swap(&journal, &id(1)).map(|b| b.reason), Some(AnswerReason::SwapInProgress));
    }

    /// The notice of a plain member is answered then, and the pods of a node move.
    #[test]
    fn a_swap_sees_to_its_newcomer_only_until_the_old_instance_leaves() {
        let mut journal = Journal::new(&id(1), Timestamp::UNIX_EPOCH, Retirement::Detach, SwapKind::Group);
        journal.newcomer = Some(id(2));
        for (stage, sees_to_it) in [
            (Stage::Launching, true),
            (Stage::Attaching, true),
            (Stage::Undoing, true),
            (Stage::Retiring, false),
        ] {
            journal.stage = stage;
            assert_eq!(is_of_swap(&journal, &id(2)).is_some(), sees_to_it, "{stage:?}");
            assert_eq!(is_of_swap(&journal, &id(3)), None, "another member of the group");
        }
    }
}
