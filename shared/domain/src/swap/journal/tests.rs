use super::*;

fn journal() -> Journal {
    let old = "i-0123456789abcdef0".parse().unwrap();
    Journal::new(&old, Timestamp::UNIX_EPOCH, Retirement::Detach, SwapKind::Group)
}

#[test]
fn only_a_swap_to_on_demand_gives_the_right_to_launch_it() {
    let (to_spot, m5) = (journal(), "m5.large".parse().unwrap());
    assert_eq!(to_spot.on_demand_launch(&m5), None);
    assert_eq!(to_spot.client_token(3), to_spot.swap_id.client_token(3));
    let back = Journal { to: Market::OnDemand, ..to_spot };
    assert_eq!(back.contradiction(), None);
    assert_eq!(back.on_demand_launch(&m5).unwrap().instance_type(), &m5);
    assert_eq!(back.client_token(3), back.swap_id.on_demand_token(3));
}

#[test]
fn a_journal_of_the_release_before_goes_to_spot() {
    let to_spot = journal();
    let text = serde_json::to_string(&to_spot).unwrap();
    assert!(!text.contains("\"to\""), "{text}");
    assert_eq!(serde_json::from_str::<Journal>(&text).unwrap(), to_spot);
    let back = Journal { to: Market::OnDemand, ..to_spot };
    let text = serde_json::to_string(&back).unwrap();
    assert!(text.contains(r#""to":"ON_DEMAND""#), "{text}");
    assert_eq!(serde_json::from_str::<Journal>(&text).unwrap(), back);
}

#[test]
fn a_max_size_that_nobody_has_given_back_is_not_written() {
    let text = serde_json::to_string(&journal()).unwrap();
    assert!(!text.contains("max_restore"), "as the release before wrote it: {text}");
    for restore in [MaxRestore::Asked, MaxRestore::Made] {
        let restored = Journal { max_restore: restore, ..journal() };
        let text = serde_json::to_string(&restored).unwrap();
        assert!(text.contains(&format!(r#""max_restore":"{restore:?}""#)), "{text}");
        assert_eq!(serde_json::from_str::<Journal>(&text).unwrap(), restored);
    }
}

#[test]
fn the_time_of_hooks_is_read_from_a_journal_of_any_release() {
    let without = journal();
    let text = serde_json::to_string(&without).unwrap();
    assert!(!text.contains("hook_seconds"), "as the release before wrote it: {text}");
    assert_eq!(serde_json::from_str::<Journal>(&text).unwrap(), without);
    let with = Journal { hook_seconds: 7_200, ..without };
    let text = serde_json::to_string(&with).unwrap();
    assert!(text.contains(r#""hook_seconds":7200"#), "{text}");
    assert_eq!(serde_json::from_str::<Journal>(&text).unwrap(), with);
}

#[test]
fn no_node_is_launched_on_demand() {
    let node = serde_json::json!({
        "cluster": "one", "kubeconfig_secret": null, "old": "ip-10-0-0-1", "evict_local_storage": false,
        "evict_unmanaged": false
    });
    let kind = SwapKind::of_node(serde_json::from_value(node).unwrap());
    let forged = Journal { to: Market::OnDemand, kind, ..journal() };
    assert!(forged.contradiction().unwrap().contains("On-Demand"));
}

#[test]
fn a_journal_that_no_step_of_ours_can_have_written_contradicts_itself() {
    let (old, newcomer): (InstanceId, InstanceId) =
        ("i-0123456789abcdef0".parse().unwrap(), "i-0123456789abcdef1".parse().unwrap());
    let honest = Journal::new(&old, Timestamp::UNIX_EPOCH, Retirement::Detach, SwapKind::Group);
    assert_eq!(honest.contradiction(), None);
    let served = Journal { stage: Stage::Retiring, newcomer: Some(newcomer.clone()), ..honest.clone() };
    assert_eq!(served.contradiction(), None);
    let group = Original {
        desired: 1,
        max: 1,
        az_rebalance_suspended: false,
        serving: 1,
        members: vec![],
        not_serving: vec![],
    };
    let raised_to =
        |max| Journal { max_raised_to: Some(max), original: Some(group.clone()), ..served.clone() };
    assert_eq!(raised_to(2).contradiction(), None);
    for forged in [
        Journal { old: newcomer, ..honest.clone() },
        Journal { newcomer: Some(old), ..honest.clone() },
        Journal { newcomer: None, ..served.clone() },
        raised_to(7),
        Journal { stage: Stage::Attaching, ..honest.clone() },
        Journal { original: Some(group.clone()), ..honest },
    ] {
        assert!(forged.contradiction().is_some(), "{forged:?}");
    }
}

#[test]
fn a_size_that_no_group_has_is_refused_by_its_field() {
    let most = i32::MAX.unsigned_abs();
    let with = |desired, max, serving, max_raised_to| Journal {
        newcomer: Some("i-0123456789abcdef1".parse().unwrap()),
        original: Some(Original {
            desired,
            max,
            az_rebalance_suspended: false,
            serving,
            members: vec![],
            not_serving: vec![],
        }),
        max_raised_to,
        ..journal()
    };
    assert_eq!(with(most, most, most, None).contradiction(), None);
    assert_eq!(with(1, most - 1, 1, Some(most)).contradiction(), None);
    for absurd in [most + 1, u32::MAX] {
        for (field, forged) in [
            ("original.desired", with(absurd, 1, 1, None)),
            ("original.max", with(1, absurd, 1, Some(absurd))),
            ("original.serving", with(1, 1, absurd, None)),
            ("max_raised_to", with(1, most, 1, Some(absurd))),
            ("max_raised_to", Journal { max_raised_to: Some(absurd), ..journal() }),
        ] {
            let expected = format!("{field} is {absurd}, and no group has a size above {most}");
            assert_eq!(forged.contradiction(), Some(expected));
        }
    }
}

#[test]
fn the_next_swap_takes_those_behind_it_along() {
    let swap = |n: u32| {
        let old = format!("i-0123456789abcdef{n}").parse().unwrap();
        let new = Journal::new(&old, Timestamp::UNIX_EPOCH, Retirement::Detach, SwapKind::Group);
        Journal { launching_since: Timestamp::UNIX_EPOCH, ..new }
    };
    assert_eq!(swap(0).successor(), None);
    let first = Journal { ahead: vec![swap(1), swap(2)], ..swap(0) };
    assert_eq!(first.contradiction(), None);
    let second = first.successor().unwrap();
    assert_eq!(second, Journal { ahead: vec![swap(2)], ..swap(1) });
    assert_eq!(second.successor().unwrap(), swap(2));
    assert_eq!(swap(0).ahead_in_words(), "");
    let words = first.ahead_in_words();
    assert!(words.contains("i-0123456789abcdef1-0-*, i-0123456789abcdef2-0-*"), "{words}");
    let text = serde_json::to_string(&first).unwrap();
    assert_eq!(serde_json::from_str::<Journal>(&text).unwrap(), first);
}

#[test]
fn what_was_launched_ahead_can_have_touched_nothing() {
    let (own, next) = (journal(), "i-0123456789abcdef1".parse().unwrap());
    let next = Journal::new(&next, Timestamp::UNIX_EPOCH, Retirement::Detach, SwapKind::Group);
    let with = |ahead: Vec<Journal>| Journal { ahead, ..own.clone() };
    assert_eq!(with(vec![next.clone()]).contradiction(), None);
    let answer = SwapKind::Answer(AnswerJournal::new(Timestamp::UNIX_EPOCH));
    for forged in [
        with(vec![own.clone()]),
        with(vec![next.clone(), next.clone()]),
        with(vec![Journal { stage: Stage::Undoing, ..next.clone() }]),
        with(vec![Journal { newcomer: Some(own.old.clone()), ..next.clone() }]),
        with(vec![Journal { ahead: vec![own.clone()], ..next.clone() }]),
        with(vec![Journal { kind: answer.clone(), ..next.clone() }]),
        with(vec![Journal { old: "i-0123456789abcdef2".parse().unwrap(), ..next.clone() }]),
        Journal { kind: answer, ..with(vec![next]) },
    ] {
        assert!(forged.contradiction().is_some(), "{forged:?}");
    }
}

#[test]
fn an_answer_names_no_newcomer_and_knows_the_group_before_it_begins() {
    let (old, newcomer): (InstanceId, InstanceId) =
        ("i-0123456789abcdef0".parse().unwrap(), "i-0123456789abcdef1".parse().unwrap());
    let kind = SwapKind::Answer(AnswerJournal::new(Timestamp::UNIX_EPOCH));
    let honest = Journal::new(&old, Timestamp::UNIX_EPOCH, Retirement::TerminateInGroup, kind);
    assert_eq!(honest.contradiction(), None);
    let group = Original {
        desired: 1,
        max: 1,
        az_rebalance_suspended: false,
        serving: 1,
        members: vec![],
        not_serving: vec![],
    };
    let begun = Journal { stage: Stage::Attaching, original: Some(group), ..honest.clone() };
    assert_eq!(begun.contradiction(), None);
    for forged in [
        Journal { newcomer: Some(newcomer), ..begun.clone() },
        Journal { original: None, ..begun.clone() },
        Journal { max_raised_to: Some(9), ..begun },
    ] {
        assert!(forged.contradiction().is_some(), "{forged:?}");
    }
}
