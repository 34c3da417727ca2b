use super::*;
use crate::swap::group::tests::{group_of, id, member};
use crate::swap::journal::{Retirement, SwapKind};

const DOOMED: u32 = 0;
const LATER: u32 = 7;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The answer for the first member of a group of two at its MaxSize of two, whose raise AWS has answered.
fn journal() -> Journal {
    let kind = SwapKind::Answer(AnswerJournal { raise: Raise::Made, ..AnswerJournal::new(at(120)) });
    let mut journal = Journal::new(&id(DOOMED), at(0), Retirement::TerminateInGroup, kind);
    journal.stage = Stage::Attaching;
    journal.original = Some(Original {
        desired: 2,
        max: 2,
        az_rebalance_suspended: false,
        serving: 2,
        members: vec![id(0), id(1)],
        not_serving: Vec::new(),
    });
    journal.max_raised_to = Some(3);
    journal
}

fn raise(journal: &mut Journal, raise: Raise) {
    journal.kind = SwapKind::Answer(AnswerJournal { raise, ..journal.kind.answer().unwrap() });
}

/// The group of two after the raise, with these members.
fn seen(desired: u32, max: u32, members: Vec<Member>) -> Observed {
    let group = Group { max, desired, members, ..group_of(2) };
    Observed { group: Some(group), not_serving: vec![], calls_may_land: false, now: at(10) }
}

fn in_state(n: u32, state: MemberState) -> Member {
    Member { state, ..member(n) }
}

fn act(action: Action) -> Decision<Action> {
    Decision::Do(action)
}

fn waits(decision: &Decision<Action>) -> bool {
    matches!(decision, Decision::Wait(_))
}

#[test]
fn the_doomed_one_leaves_once_as_many_serve_without_it() {
    let release = act(Action::Release(id(DOOMED)));
    let all = || vec![member(0), member(1), member(LATER)];
    assert_eq!(next(&journal(), &seen(3, 3, all())), release);
    let pending = vec![member(0), member(1), in_state(LATER, MemberState::Pending)];
    assert!(waits(&next(&journal(), &seen(3, 3, pending.clone()))));
    let unregistered = Observed { not_serving: vec![id(LATER)], ..seen(3, 3, all()) };
    assert!(waits(&next(&journal(), &unregistered)), "its target group does not find it healthy");
    let late = Observed { now: at(80), ..seen(3, 3, pending) };
    assert_eq!(next(&journal(), &late), release, "40 s before the end");
    let another_died = vec![member(0), member(LATER)];
    assert!(waits(&next(&journal(), &seen(3, 3, another_died))), "fewer would serve than before");
}

#[test]
fn max_size_goes_back_once_desired_fits_and_then_the_answer_is_over() {
    let mut settled = journal();
    settled.foresee_answer(&Action::Release(id(DOOMED)), at(20));
    assert_eq!(settled.stage, Stage::Retiring);
    settled.acknowledge_answer(&Action::Release(id(DOOMED)), &journal(), None);
    let left = vec![in_state(0, MemberState::Leaving), member(1), member(LATER)];
    assert_eq!(next(&settled, &seen(2, 3, left.clone())), act(Action::RestoreMaxSize(2)));
    assert!(waits(&next(&settled, &seen(3, 3, left.clone()))), "the description lags: never below desired");
    assert_eq!(next(&settled, &seen(2, 2, left.clone())), Decision::Done(End::Finished));
    assert_eq!(next(&settled, &seen(2, 5, left)), Decision::Done(End::Finished), "the owner's own MaxSize");
    assert_eq!(doubt(&settled, &seen(2, 2, vec![])), None);
}

#[test]
fn what_ended_before_the_raise_has_nothing_to_give_back() {
    let mut fresh = journal();
    (fresh.original, fresh.max_raised_to) = (None, None);
    raise(&mut fresh, Raise::NotAsked);
    assert_eq!(next(&fresh, &seen(2, 2, vec![member(0), member(1)])), Decision::Done(End::Undone));
    let deleted = Observed { group: None, ..seen(2, 2, vec![]) };
    assert_eq!(next(&journal(), &deleted), Decision::Done(End::Undone));
}

#[test]
fn a_raise_that_was_refused_leaves_max_size_to_restore_and_no_member_to_remove() {
    let mut refused = journal();
    raise(&mut refused, Raise::Refused);
    let as_before = vec![member(0), member(1)];
    assert_eq!(next(&refused, &seen(2, 3, as_before.clone())), act(Action::RestoreMaxSize(2)));
    // The owner has scaled out meanwhile.
    let scaled = vec![member(0), member(1), member(LATER)];
    assert!(next(&refused, &seen(3, 5, scaled)).action().is_none());
    assert_eq!(next(&refused, &seen(2, 2, as_before)), Decision::Done(End::Undone));
}

#[test]
fn a_raise_without_an_answer_counts_only_where_nobody_else_can_have_made_it() {
    let mut asked = journal();
    raise(&mut asked, Raise::Asked);
    let all = || vec![member(0), member(1), member(LATER)];
    assert_eq!(
        next(&asked, &seen(3, 3, all())),
        act(Action::Release(id(DOOMED))),
        "above the owner's MaxSize"
    );
    let soon = Observed { calls_may_land: true, ..seen(2, 3, vec![member(0), member(1)]) };
    assert!(waits(&next(&asked, &soon)), "it may still land");
    // Below the owner's MaxSize a policy may have raised it: nobody is removed, and a person is told.
    asked.original.as_mut().unwrap().max = 9;
    asked.max_raised_to = None;
    let raised = seen(3, 9, all());
    assert_eq!(next(&asked, &raised), Decision::Done(End::Undone));
    assert!(doubt(&asked, &raised).unwrap().contains("desired capacity is 3"));
}

#[test]
fn a_replacement_that_the_group_launched_by_itself_is_waited_for_and_nobody_is_taken_out_for_it() {
    let kind = SwapKind::Answer(AnswerJournal::new(at(120)));
    let mut journal = Journal::new(&id(DOOMED), at(0), Retirement::TerminateInGroup, kind);
    let beside = |state| seen(2, 2, vec![member(0), member(1), in_state(LATER, state)]);
    let starting = beside(MemberState::Pending);
    let original = journal.foresee_own_replacement(starting.group.as_ref().unwrap());
    assert_eq!((original.desired, original.serving, journal.max_raised_to), (2, 2, None));
    assert!(journal.counts_on_own_replacement() && !is_replaced(&journal, &starting));
    for observed in [starting, beside(MemberState::InService)] {
        assert_eq!(next(&journal, &observed), Decision::Done(End::Undone));
        assert!(!has_to_wait(&journal, &observed), "desired holds none of ours");
        assert_eq!(doubt(&journal, &observed), None);
    }
    assert!(is_replaced(&journal, &beside(MemberState::InService)));
    // The owner scales out: none of it is ours.
    let scaled = seen(3, 3, vec![member(0), member(1), member(LATER)]);
    assert_eq!((next(&journal, &scaled), doubt(&journal, &scaled)), (Decision::Done(End::Undone), None));
}

#[test]
fn the_one_that_the_group_launched_in_place_of_the_dead_goes_with_our_one() {
    let extra = |id| act(Action::TerminateExtra(id));
    let idle = vec![member(1), member(LATER), in_state(8, MemberState::Pending)];
    assert_eq!(next(&journal(), &seen(3, 3, idle)), extra(id(8)), "the one that does not serve");
    let served = vec![member(1), member(LATER), member(8)];
    assert_eq!(next(&journal(), &seen(3, 3, served)), extra(id(LATER)));
    let protected = |n| Member { protected: true, ..member(n) };
    let at_work = vec![member(1), protected(LATER), member(8)];
    assert_eq!(next(&journal(), &seen(3, 3, at_work)), extra(id(8)), "the one that nobody protects");
    let all_at_work = vec![member(1), protected(LATER), protected(8)];
    assert!(next(&journal(), &seen(3, 3, all_at_work)).action().is_none());
    let short = vec![in_state(0, MemberState::Leaving), member(1), in_state(LATER, MemberState::Pending)];
    assert!(waits(&next(&journal(), &seen(3, 3, short))), "one serves, and two were served");
    let owner_scaled = vec![member(1), member(LATER), member(8), member(9)];
    assert!(next(&journal(), &seen(4, 4, owner_scaled)).action().is_none(), "nobody knows whose the rest is");
}

#[test]
fn desired_never_falls_twice() {
    let mut asked = journal();
    asked.foresee_answer(&Action::Release(id(DOOMED)), at(20));
    let stays = vec![member(0), member(1), member(LATER)];
    let soon = Observed { calls_may_land: true, ..seen(3, 3, stays.clone()) };
    assert!(waits(&next(&asked, &soon)));
    assert_eq!(next(&asked, &seen(3, 3, stays)), act(Action::Release(id(DOOMED))), "it never landed");
    // It is gone, by our call or by EC2: whose the third is, nothing proves.
    let gone = seen(3, 3, vec![member(1), member(LATER), member(8)]);
    assert_eq!(next(&asked, &gone), Decision::Done(End::Finished));
    assert!(doubt(&asked, &gone).is_some());
    let landed = seen(2, 3, vec![member(1), member(LATER)]);
    assert_eq!(next(&asked, &landed), act(Action::RestoreMaxSize(2)));
}

#[test]
fn a_refusal_of_the_first_call_alone_proves_that_nothing_has_left() {
    let release = Action::Release(id(DOOMED));
    let before = journal();
    let mut first = before.clone();
    first.foresee_answer(&release, at(20));
    let mut second = first.clone();
    first.retract_answer(&release, &before);
    assert!(!first.desired_settled && first.taking_out.is_none());
    let asked = second.clone();
    second.retract_answer(&release, &asked);
    assert!(second.desired_settled);
}

#[test]
fn a_max_size_that_may_go_back_is_waited_for_before_desired_is_lowered() {
    let mut restoring = journal();
    restoring.foresee_answer(&Action::RestoreMaxSize(2), at(20));
    let soon =
        |max| Observed { calls_may_land: true, ..seen(3, max, vec![member(0), member(1), member(LATER)]) };
    assert!(waits(&next(&restoring, &soon(3))), "it may land, and cut desired");
    let later = |max| Observed { calls_may_land: false, ..soon(max) };
    assert_eq!(next(&restoring, &later(3)), act(Action::Release(id(DOOMED))), "it never landed");
    // It landed, or the owner has set MaxSize, and desired with it: nobody knows whose the third is.
    assert_eq!(next(&restoring, &later(5)), Decision::Done(End::Undone));
    assert!(doubt(&restoring, &later(5)).is_some());
    let before = restoring.clone();
    restoring.retract_answer(&Action::RestoreMaxSize(2), &before);
    assert!(waits(&next(&restoring, &soon(3))), "an earlier try may land");
}

#[test]
fn a_look_that_is_older_than_max_size_lowers_nothing() {
    // The owner asked for one more in the moment of the call, which cut desired to his MaxSize: our one is out of it.
    let mut restored = journal();
    let all = vec![member(1), member(LATER), member(8)];
    assert!(next(&restored, &seen(3, 3, all.clone())).action().is_some());
    restored.foresee_answer(&Action::RestoreMaxSize(2), at(20));
    restored.acknowledge_answer(&Action::RestoreMaxSize(2), &journal(), None);
    assert!(next(&restored, &seen(3, 3, all)).action().is_none());
}
