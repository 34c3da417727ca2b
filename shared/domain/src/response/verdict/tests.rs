use jiff::SignedDuration;

use super::*;
use crate::swap::group::InstanceState;
use crate::swap::group::tests::{group_of, id, member, on_demand};
use crate::swap::journal::{AnswerJournal, Retirement, SwapKind};
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
    assert!(rescued(&spot(1), Some(&group_of(2)), &all).is_ok(), "each group without the tag is enrolled");
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
    let mut swapped_by_another = enrolled("true");
    swapped_by_another.tags.insert("spot-enabled".into(), "true".into());
    assert_eq!(why(&spot(1), &swapped_by_another), Some(AnswerReason::ManagedElsewhere));
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
fn a_member_that_its_group_does_not_count_is_not_replaced() {
    let why = |state: &str, is_node: bool| {
        let (mut group, mut instance) = (enrolled("true"), spot(1));
        group.members[1].state = MemberState::parse(state);
        if is_node {
            instance.tags.insert("kubernetes.io/cluster/shop".into(), "owned".into());
        }
        why(&instance, &group)
    };
    for state in ["Standby", "EnteringStandby", "Warmed:Running"] {
        assert_eq!(why(state, false), Some(AnswerReason::OutOfService), "{state}");
        assert_eq!(why(state, true), None, "a node in {state} may run pods");
    }
    for state in ["Pending", "Pending:Wait", "InService"] {
        assert_eq!((why(state, false), why(state, true)), (None, None), "{state}");
    }
    let leaving = Some(AnswerReason::AlreadyLeaving);
    assert_eq!((why("Terminating:Wait", false), why("Terminating:Wait", true)), (leaving, leaving));
}

#[test]
fn a_node_is_evacuated_in_its_cluster_whatever_its_group_could_launch() {
    let rescue = |instance: &Instance, group: &Group| rescued(instance, Some(group), &Settings::default());
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
    assert_eq!(reason(&group_of(8_000), 110), None);
    assert_eq!(reason(&group_of(8_001), 110), Some(AnswerReason::NoRoom), "the journal can't name them all");
    assert_eq!(end_of(now, in_seconds(119)), Ok(in_seconds(120)));
    assert_eq!(end_of(now, in_seconds(120)).unwrap_err().reason, AnswerReason::TooLate);
}

#[test]
fn the_journal_of_an_answer_in_the_largest_group_leaves_room_in_the_payload() {
    let now = Timestamp::UNIX_EPOCH;
    let kind = SwapKind::Answer(AnswerJournal::new(now));
    let mut journal = Journal::new(&id(1), now, Retirement::TerminateInGroup, kind);
    let original = journal.foresee_raise(&group_of(8_000), now);
    assert_eq!(original.members.len(), MOST_MEMBERS_OF_ANSWER);
    assert!(
        serde_json::to_vec(&journal).unwrap().len() < 200_000,
        "256 KiB, with the settings and the result"
    );
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
    for (stage, sees_to_it) in
        [(Stage::Launching, true), (Stage::Attaching, true), (Stage::Undoing, true), (Stage::Retiring, false)]
    {
        journal.stage = stage;
        assert_eq!(is_of_swap(&journal, &id(2)).is_some(), sees_to_it, "{stage:?}");
        assert_eq!(is_of_swap(&journal, &id(3)), None, "another member of the group");
    }
}
