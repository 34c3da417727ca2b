//! Which swaps a step or the reconciler tells of.

use serde_json::json;
use spot_domain::Reason;
use spot_domain::events::OwnEvent;
use spot_domain::swap::journal::Undo;

use super::*;

const IN_PROGRESS: &str = include_str!("../../tests/payloads/3fb1158-group-after-launch.json");

fn in_progress() -> Work {
    serde_json::from_str(IN_PROGRESS).unwrap()
}

fn undo() -> Undo {
    Undo { reason: Reason::NewcomerUnhealthy, detail: "why".to_owned() }
}

#[test]
fn a_step_tells_of_the_swap_that_it_has_completed_and_not_of_those_before() {
    let mut work = in_progress();
    let current = work.current.clone().unwrap();
    work.done(current.swapped());
    let before = Before::of(&work);
    assert_eq!(before.ended(&work), []);
    work.done(current.swapped());
    let ended = before.ended(&work);
    let [swap] = ended.as_slice() else { panic!("{ended:?}") };
    assert_eq!(swap.event(), OwnEvent::SwapCompleted);
    assert_eq!(&swap.execution_arn, work.lease.owner.execution());
    assert_eq!(swap.asg_name.as_ref(), Some(work.group().unwrap().1));
    assert_eq!(swap.old_instance_id, current.candidate.instance_id);
    assert_eq!((&swap.new_instance_id, &swap.pool), (&Some(current.newcomer), &Some(current.pool)));
}

#[test]
fn one_that_was_undone_is_told_with_the_newcomer_that_it_had() {
    let mut work = in_progress();
    let before = Before::of(&work);
    let current = work.current.take().unwrap();
    work.put_back(&current.candidate.instance_id, &undo());
    let other = "i-00000000000000009".parse().unwrap();
    work.put_back(&other, &undo());
    let ended = before.ended(&work);
    let [swap, unlaunched] = ended.as_slice() else { panic!("{ended:?}") };
    assert_eq!(swap.event(), OwnEvent::SwapRolledBack);
    assert_eq!(swap.end, SwapEnd::RolledBack { reason: Reason::NewcomerUnhealthy, detail: "why".to_owned() });
    assert_eq!((&swap.new_instance_id, &swap.pool), (&Some(current.newcomer), &Some(current.pool)));
    assert_eq!((&unlaunched.old_instance_id, &unlaunched.new_instance_id), (&other, &None));
}

#[test]
fn a_dry_run_and_a_first_step_tell_of_nothing() {
    let mut work = in_progress();
    work.dry_run = true;
    work.put_back(&"i-00000000000000009".parse().unwrap(), &undo());
    assert_eq!(Before::default().ended(&work), []);
    for event in [json!({}), json!({"work": null}), json!({"work": {"swapped": 1}})] {
        let before = Before::of_event::<Work>(&event);
        assert_eq!((before.swapped, before.rolled_back, before.current), (0, 0, None), "{event}");
    }
    let event = json!({ "work": serde_json::from_str::<Value>(IN_PROGRESS).unwrap() });
    assert!(Before::of_event::<Work>(&event).current.is_some());
}

#[test]
fn the_reconciler_tells_of_swaps_and_of_no_answer_to_a_notice() {
    let work = in_progress();
    let current = work.current.as_ref().unwrap();
    let mut journal = current.journal.clone();
    let of = |journal: &Journal, end| {
        let how = Ended {
            end,
            newcomer: (end == End::Finished).then(|| current.newcomer.clone()),
            pool: Some(current.pool.clone()),
            remarks: Vec::new(),
            doubt: None,
        };
        by_reconciler(&work.lease, journal, &how, "its words")
    };
    let finished = of(&journal, End::Finished).unwrap();
    assert_eq!(
        (finished.event(), finished.new_instance_id),
        (OwnEvent::SwapCompleted, Some(current.newcomer.clone()))
    );
    journal.undo = Some(Undo { reason: Reason::ExecutionDied, detail: String::new() });
    let undone = of(&journal, End::Undone).unwrap();
    assert_eq!(
        undone.end,
        SwapEnd::RolledBack { reason: Reason::ExecutionDied, detail: "its words".to_owned() }
    );
    let answer: SwapKind =
        serde_json::from_value(json!({"answer": {"ends_at": "2026-01-01T00:00:00Z", "raise": "Made"}}))
            .unwrap();
    journal.kind = answer;
    assert_eq!(of(&journal, End::Undone), None);
}
