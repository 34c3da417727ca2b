//! Which swaps a step tells of.

use spot_domain::Reason;
use spot_domain::events::OwnEvent;
use spot_domain::swap::journal::Undo;

use super::*;
use crate::machine::StepAnswer;
use crate::work::Next;

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
    let mut work = in_progress();
    work.put_back(&"i-00000000000000009".parse().unwrap(), &undo());
    let first: StepAnswer<Work, ()> = (Next::Proceed, work).into();
    assert!(matches!(first, StepAnswer::Step { ended, .. } if ended.is_empty()));
    let work = in_progress();
    let before = Before::of(&work);
    assert!(before.current.is_some());
    assert_eq!((before.swapped, before.rolled_back), (0, 0));
}
