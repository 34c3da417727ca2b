use spot_cluster::pods::Blocked;

use super::kept::MAY_END_WITHIN;
use super::*;

fn blocked(pod: &str) -> Blocked {
    Blocked { pod: pod.to_owned(), namespace: "shop".to_owned(), budget: None, why: "emptyDir".to_owned() }
}

fn pass(stuck: &[&str], ending: &[&str]) -> Pass {
    let named = |pods: &[&str]| pods.iter().map(|pod| blocked(pod)).collect::<Vec<_>>();
    Pass {
        state: State::default(),
        remaining: vec![],
        blocked: [named(stuck), named(ending)].concat(),
        stuck: named(stuck),
        ending: named(ending),
        overdue: vec![],
        unreplaced: vec![],
        is_done: false,
        trouble: None,
    }
}

#[test]
fn a_pod_that_cant_leave_holds_for_good_and_one_that_ends_holds_for_a_while() {
    let (soon, late) = (SignedDuration::from_mins(1), MAY_END_WITHIN);
    let held = |pass: &Pass, may_be_lost, waited| {
        held_for_good(pass, may_be_lost, waited).iter().map(|b| b.pod.clone()).collect::<Vec<_>>()
    };
    let (timed_out, at_risk) = (false, true);
    assert_eq!(held(&pass(&["web"], &[]), timed_out, soon), ["web"]);
    assert_eq!(held(&pass(&[], &["job"]), timed_out, soon), [""; 0], "it ends");
    assert_eq!(held(&pass(&[], &["job"]), timed_out, late), ["job"]);
    assert_eq!(held(&pass(&["web"], &[]), at_risk, soon), [""; 0], "AWS may take it in a moment");
    assert_eq!(held(&pass(&["web"], &["job"]), at_risk, late), ["web"]);
    assert_eq!(held(&pass(&[], &[]), timed_out, late), [""; 0], "a budget is waited for");
}

#[test]
fn a_pod_whose_peers_do_not_come_back_keeps_the_newcomer_after_a_while() {
    let unreplaced = Pass { unreplaced: vec![blocked("web")], ..pass(&[], &[]) };
    assert_eq!(held_for_good(&unreplaced, false, SignedDuration::from_mins(1)), []);
    assert_eq!(held_for_good(&unreplaced, false, MAY_END_WITHIN), [blocked("web")]);
}

/// Evicted pods that a dead kubelet or a finalizer keeps may end yet.
#[test]
fn a_pod_that_was_told_to_end_and_does_not_holds_for_good_after_a_while() {
    // A drain of three passes calls such a pod stuck, too.
    let overdue =
        Pass { overdue: vec![blocked("held")], blocked: vec![blocked("held")], ..pass(&["held"], &["job"]) };
    for may_be_lost in [false, true] {
        let held = |waited| held_for_good(&overdue, may_be_lost, waited).into_iter().map(|b| b.pod);
        assert_eq!(held(SignedDuration::from_mins(1)).count(), 0, "it may end yet");
        assert_eq!(held(MAY_END_WITHIN).collect::<Vec<_>>(), ["job", "held"]);
    }
    let only = Pass { ending: vec![], ..overdue };
    assert_eq!(held_for_good(&only, true, MAY_END_WITHIN), [blocked("held")]);
}

#[test]
fn a_person_is_told_which_pod_and_what_is_left_to_do() {
    let new: InstanceId = "i-0000000000000000b".parse().unwrap();
    let node: NodeName = "n1".parse().unwrap();
    let said = |group: Option<&Grown<'_>>| stays(&new, &node, &[blocked("web")], group);
    let alone = said(None);
    assert!(alone.contains("in no Auto Scaling group") && alone.contains("shop/web: emptyDir"), "{alone}");
    let member =
        said(Some(&Grown { name: "web", desired: 3, owners_max: Some(2), is_rebalance_suspended: true }));
    for words in [
        "DesiredCapacity is 3",
        "shop/web: emptyDir",
        "decrement",
        "MaxSize back to 2",
        "resume AZRebalance",
        "n1",
    ] {
        assert!(member.contains(words), "{words}: {member}");
    }
    let with_room =
        said(Some(&Grown { name: "web", desired: 3, owners_max: None, is_rebalance_suspended: false }));
    assert!(!with_room.contains("MaxSize") && !with_room.contains("AZRebalance"), "{with_room}");
}

#[test]
fn a_node_that_its_group_may_be_terminating_keeps_its_cordon() {
    let (old, new): (InstanceId, InstanceId) =
        ("i-0000000000000000a".parse().unwrap(), "i-0000000000000000b".parse().unwrap());
    let journal = |retirement| Journal {
        stage: Stage::Undoing,
        desired_settled: true,
        ..Journal::new(&old, jiff::Timestamp::UNIX_EPOCH, retirement, SwapKind::Group)
    };
    let soon = Observed { calls_may_land: true, ..Observed::default() };
    let hooked = journal(Retirement::TerminateInGroup);
    assert!(may_be_leaving(Some(&new), false, &hooked, &soon));
    assert!(!may_be_leaving(Some(&new), false, &hooked, &Observed::default()), "it never landed");
    assert!(!may_be_leaving(Some(&old), true, &hooked, &soon), "the old one comes back");
    assert!(
        !may_be_leaving(Some(&new), false, &journal(Retirement::Detach), &soon),
        "it runs on when it leaves"
    );
    let kept = Journal { desired_settled: false, ..hooked };
    assert!(!may_be_leaving(Some(&new), false, &kept, &soon), "nobody has told it to leave");
    let retiring = Journal { stage: Stage::Retiring, ..kept };
    assert!(may_be_leaving(Some(&old), true, &retiring, &soon));
}
