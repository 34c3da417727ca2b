//! The journal's row against a scripted DynamoDB: of two recoveries that have read the same, one goes on.
//! A recovery whose own write was stored goes on, too, if only the answer was lost.

#![allow(clippy::unwrap_used, clippy::panic)]

mod outcome;
mod row;

use jiff::Timestamp;
use serde_json::json;
use spot_cloud::tables::swaps::{Claim, Entered, Release, SwapsError};
use spot_domain::clock;
use spot_domain::swap::journal::{Journal, Retirement, Stage, SwapKind};
use spot_domain::swap::recovery::End;

use crate::row::{Row, is_lease_lost, is_overtaken, journal, lease, table, with_two_ahead};

#[tokio::test]
async fn of_two_recoveries_the_first_to_write_goes_on() {
    let (mut one, mut other) = (journal(), journal());
    other.attempt = 1;
    let (swaps, _endpoint) = table(&Row::new(&one), 0).await;
    swaps.revise(&lease(), &mut one).await.unwrap();
    let refused = swaps.revise(&lease(), &mut other.clone()).await;
    assert!(is_overtaken(&refused), "another's write of the same revision: {refused:?}");
    swaps.revise(&lease(), &mut one).await.unwrap();
    let refused = swaps.revise(&lease(), &mut other).await;
    assert!(is_overtaken(&refused), "{refused:?}");
    swaps.revise(&lease(), &mut one).await.unwrap();
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_no_other_recoverys() {
    for lost in [1, 2] {
        let mut one = journal();
        let row = Row::new(&one);
        let (swaps, endpoint) = table(&row, lost).await;
        swaps.revise(&lease(), &mut one).await.unwrap();
        assert_eq!(endpoint.requests().len(), lost + 1, "the SDK asks again");
        let held = swaps.read(&lease()).await.unwrap().unwrap();
        assert_eq!(held.journal.as_ref(), Some(&one));
        swaps.revise(&lease(), &mut one).await.unwrap();
    }
}

/// The same words are no proof at another revision: then another recovery has written since.
#[tokio::test]
async fn our_journal_under_another_revision_is_not_our_write() {
    let mut ours = journal();
    let mut written = ours.clone();
    written.revision = 1;
    for stored in ["2", "7"] {
        let row = Row::new(&written);
        row.set("revision", json!({ "N": stored }));
        let (swaps, _endpoint) = table(&row, 0).await;
        let refused = swaps.revise(&lease(), &mut ours.clone()).await;
        assert!(is_overtaken(&refused), "{refused:?}");
    }
    let row = Row::new(&written);
    row.set("revision", json!({"N": "1"}));
    row.set("lease_owner", json!({"S": "arn:aws:states:us-east-1:123456789012:execution:swap:run-2"}));
    let (swaps, _endpoint) = table(&row, 0).await;
    let refused = swaps.revise(&lease(), &mut ours).await;
    assert!(is_lease_lost(&refused), "another's lease: {refused:?}");
}

/// Another recovery has ended the swap: the row holds the lease alone.
#[tokio::test]
async fn a_journal_that_was_closed_does_not_come_back() {
    let row = Row::new(&journal());
    for attribute in ["stage", "journal"] {
        row.0.lock().unwrap().as_object_mut().unwrap().remove(attribute);
    }
    let (swaps, _endpoint) = table(&row, 0).await;
    let refused = swaps.revise(&lease(), &mut journal()).await;
    assert!(is_overtaken(&refused), "{refused:?}");
    assert!(row.0.lock().unwrap().get("journal").is_none());
}

/// An older release writes the journal without a revision, and leaves the attribute as it is.
#[tokio::test]
async fn the_revision_is_the_rows() {
    let mut later = journal();
    later.revision = 7;
    for (journal, attribute, read) in
        [(journal(), Some("3"), 3), (later.clone(), Some("3"), 3), (later, None, 0)]
    {
        let row = Row::new(&journal);
        if let Some(revision) = attribute {
            row.set("revision", json!({ "N": revision }));
        }
        let (swaps, _endpoint) = table(&row, 0).await;
        let mut journal = swaps.read(&lease()).await.unwrap().unwrap().journal.unwrap();
        assert_eq!(journal.revision, read);
        swaps.revise(&lease(), &mut journal).await.unwrap();
        assert_eq!(row.0.lock().unwrap()["revision"]["N"], (read + 1).to_string());
    }
    for malformed in [json!({"N": "-1"}), json!({"S": "3"})] {
        let row = Row::new(&journal());
        row.set("revision", malformed);
        let (swaps, _endpoint) = table(&row, 0).await;
        let problem = swaps.read(&lease()).await.unwrap_err().to_string();
        assert!(problem.contains("revision"), "{problem}");
    }
}

#[tokio::test]
async fn a_step_that_a_recovery_has_overtaken_writes_nothing() {
    let step = journal();
    let (swaps, _endpoint) = table(&Row::new(&step), 0).await;
    swaps.write(&lease(), &step).await.unwrap();
    let mut recovered = step.clone();
    swaps.revise(&lease(), &mut recovered).await.unwrap();
    for lost in [swaps.write(&lease(), &step).await, swaps.note(&lease(), &step).await] {
        assert!(is_overtaken(&lost), "{lost:?}");
    }
    swaps.write(&lease(), &recovered).await.unwrap();
}

/// Two invocations of one step hold the same lease. Step Functions has given up the first, and repeats the step.
#[tokio::test]
async fn an_invocation_that_was_given_up_closes_no_swap_that_its_repetition_goes_on_with() {
    let given_up = journal();
    let row = Row::new(&given_up);
    let (swaps, _endpoint) = table(&row, 0).await;
    let mut repetition = given_up.clone();
    assert_eq!(swaps.claim(&lease(), &mut repetition).await.unwrap(), Claim::Granted);
    let refused = swaps.close(&lease(), &given_up, End::Undone, Release::Keep).await;
    assert!(is_overtaken(&refused), "{refused:?}");
    assert!(row.has("journal"));
    swaps.close(&lease(), &repetition, End::Undone, Release::Keep).await.unwrap();
    assert!(!row.has("journal"));
}

#[tokio::test]
async fn the_next_candidates_swap_is_closed_by_its_own_steps_alone() {
    let first = journal();
    let next = Journal::new(
        &"i-0fedcba9876543210".parse().unwrap(),
        Timestamp::UNIX_EPOCH,
        Retirement::Detach,
        SwapKind::Group,
    );
    let row = Row::new(&next);
    row.set("swap_id", json!({"S": next.swap_id.to_string()}));
    let (swaps, _endpoint) = table(&row, 0).await;
    for refused in [
        swaps.close(&lease(), &first, End::Finished, Release::Keep).await,
        swaps.write(&lease(), &first).await,
        swaps.claim(&lease(), &mut first.clone()).await.map(drop),
        // A step of the first that hung before it entered its stage.
        swaps
            .enter(
                &lease(),
                &mut Journal { stage: Stage::Attaching, newcomer: Some(first.old.clone()), ..first.clone() },
            )
            .await
            .map(drop),
    ] {
        assert!(is_overtaken(&refused) || is_lease_lost(&refused), "{refused:?}");
    }
    let stored = swaps.read(&lease()).await.unwrap().unwrap().journal.unwrap();
    assert_eq!(stored.swap_id, next.swap_id);
}

/// A node's second launch has the id of the first, and begins at revision 0 again.
#[tokio::test]
async fn a_late_close_of_the_first_launchs_undo_leaves_the_second_alone() {
    let mut undone = journal();
    undone.revision = 5;
    let row = Row::new(&journal());
    row.set("revision", json!({"N": "0"}));
    let (swaps, _endpoint) = table(&row, 0).await;
    let refused = swaps.close(&lease(), &undone, End::Undone, Release::Keep).await;
    assert!(is_overtaken(&refused), "{refused:?}");
    assert!(row.has("journal"));
}

#[tokio::test]
async fn of_two_that_claim_from_the_same_payload_the_last_goes_on() {
    let payload = journal();
    let (swaps, endpoint) = table(&Row::new(&payload), 0).await;
    let (mut first, mut last) = (payload.clone(), payload.clone());
    assert_eq!(swaps.claim(&lease(), &mut first).await.unwrap(), Claim::Granted);
    assert_eq!(swaps.claim(&lease(), &mut last).await.unwrap(), Claim::Granted);
    assert_eq!(endpoint.requests().len(), 3, "the refusal brings the row: nobody reads it once more");
    let refused = swaps.write(&lease(), &first).await;
    assert!(is_overtaken(&refused), "{refused:?}");
    swaps.write(&lease(), &last).await.unwrap();
}

#[tokio::test]
async fn a_redriven_step_learns_how_a_recovery_has_ended_its_swap() {
    for (end, expected) in [(End::Finished, Some(Claim::Finished)), (End::Undone, None)] {
        let swap = journal();
        let row = Row::new(&swap);
        let (swaps, _endpoint) = table(&row, 0).await;
        swaps.close(&lease(), &swap, end, Release::LetGo { summary: "by the reconciler" }).await.unwrap();
        swaps.close(&lease(), &swap, end, Release::Keep).await.unwrap(); // its answer was lost
        let claim = swaps.claim(&lease(), &mut swap.clone()).await;
        assert_eq!(claim.as_ref().ok().copied(), expected, "{end}");
        assert!(claim.is_ok() || is_lease_lost(&claim.map(drop)), "{end}");
    }
}

/// A swap with two that were launched ahead, each with its own newcomer.
#[tokio::test]
async fn a_swap_that_is_over_hands_the_row_to_the_next_that_was_launched_ahead() {
    let first = with_two_ahead();
    let row = Row::new(&first);
    let (swaps, _endpoint) = table(&row, 0).await;
    swaps.close(&lease(), &first, End::Finished, Release::LetGo { summary: "done" }).await.unwrap();
    let held = swaps.read(&lease()).await.unwrap().expect("the lease is kept");
    let second = held.journal.unwrap();
    assert_eq!(Some(&second), first.successor().as_ref());
    assert_eq!(held.closed.unwrap().swap_id, first.swap_id);

    // Its own step finds it launched, and closes it in turn.
    let entered = swaps.enter(&lease(), &mut Journal { ahead: vec![], ..second.clone() }).await.unwrap();
    let Entered::Again(second) = entered else { panic!("it was launched ahead") };
    swaps.close(&lease(), &second, End::Undone, Release::Keep).await.unwrap();
    let third = swaps.read(&lease()).await.unwrap().unwrap().journal.unwrap();
    assert_eq!((&third.old, third.ahead.len()), (&first.ahead[1].old, 0));
    swaps.close(&lease(), &third, End::Finished, Release::LetGo { summary: "done" }).await.unwrap();
    assert!(!row.has("journal") && !row.has("lease_owner"));
}

#[tokio::test]
async fn a_late_close_brings_no_swap_back_that_was_launched_ahead() {
    let first = with_two_ahead();
    let row = Row::new(&first);
    let (swaps, _endpoint) = table(&row, 0).await;
    for _ in 0..3 {
        let journal = swaps.read(&lease()).await.unwrap().unwrap().journal.unwrap();
        swaps.close(&lease(), &journal, End::Finished, Release::Keep).await.unwrap();
    }
    let late = swaps.close(&lease(), &first, End::Finished, Release::Keep).await;
    assert!(late.is_err(), "{late:?}");
    assert!(!row.has("journal"));
}

#[tokio::test]
async fn a_close_whose_answer_was_lost_has_handed_the_row_over_all_the_same() {
    let first = with_two_ahead();
    let row = Row::new(&first);
    let (swaps, _endpoint) = table(&row, 1).await;
    swaps.close(&lease(), &first, End::Finished, Release::Keep).await.unwrap();
    assert_eq!(swaps.read(&lease()).await.unwrap().unwrap().journal, first.successor());
}

#[tokio::test]
async fn a_run_ends_only_once_its_swaps_have_ended() {
    let row = Row::new(&journal());
    let (swaps, _endpoint) = table(&row, 0).await;
    let refused = swaps.let_go_once_ended(&lease(), "done").await;
    assert!(matches!(refused, Err(SwapsError::Unfinished { .. })), "{refused:?}");
    assert!(row.has("journal") && row.has("lease_owner"), "the reconciler ends it");
}

/// Launch was given up and runs on, while its repetition has gone on to Attach.
#[tokio::test]
async fn a_launch_that_was_given_up_writes_nothing_once_the_swap_has_gone_on_to_the_attach() {
    let launching = Journal { stage: Stage::Launching, ..journal() };
    let row = Row::new(&launching);
    let (swaps, _endpoint) = table(&row, 0).await;
    let Entered::Again(zombie) = swaps.enter(&lease(), &mut launching.clone()).await.unwrap() else {
        panic!("an earlier try has entered the stage")
    };
    let newcomer = Some("i-0123456789abcdeff".parse().unwrap());
    let mut attaching = Journal { stage: Stage::Attaching, newcomer, ..launching };
    assert_eq!(swaps.enter(&lease(), &mut attaching).await.unwrap(), Entered::First);

    let late = swaps.write(&lease(), &zombie).await;
    assert!(is_overtaken(&late), "no attach goes back to the launch: {late:?}");
    let stored = swaps.read(&lease()).await.unwrap().unwrap().journal.unwrap();
    assert_eq!((stored.stage, stored.revision), (Stage::Attaching, attaching.revision));
}

#[tokio::test]
async fn a_repeated_attach_says_when_so_that_nothing_is_closed_before_its_earlier_calls_have_landed() {
    let newcomer = Some("i-0123456789abcdeff".parse().unwrap());
    let attaching = Journal { stage: Stage::Attaching, newcomer, ..journal() };
    let row = Row::new(&attaching);
    let (swaps, _endpoint) = table(&row, 0).await;
    let entered = swaps.enter(&lease(), &mut attaching.clone()).await.unwrap();
    let Entered::Again(again) = entered else { panic!("an earlier try has entered the stage") };
    assert!(again.repeated_at.is_some(), "{again:?}");
    let mut earlier = attaching.clone(); // as the payload of another repetition has it
    assert_eq!(swaps.claim(&lease(), &mut earlier).await.unwrap(), Claim::Granted);
    assert!(earlier.repeated_at.is_some(), "{earlier:?}");
    let stored = swaps.read(&lease()).await.unwrap().unwrap().journal.unwrap();
    assert_eq!(stored.repeated_at, earlier.repeated_at);
}

/// LaunchAhead was given up and runs on, while its repetition has gone on to RetireOld.
#[tokio::test]
async fn what_an_earlier_step_has_launched_meanwhile_is_taken_over_by_the_retirement() {
    let of_payload = Journal {
        stage: Stage::Attaching,
        newcomer: Some("i-0123456789abcdeff".parse().unwrap()),
        ..journal()
    };
    let row = Row::new(&of_payload);
    let (swaps, _endpoint) = table(&row, 0).await;
    let mut zombie = of_payload.clone();
    zombie.ahead = with_two_ahead().ahead;
    zombie.repeated_at = Some(clock::now());
    swaps.revise_in_stage(&lease(), &mut zombie).await.unwrap();

    let mut retiring = Journal { stage: Stage::Retiring, ..of_payload };
    assert_eq!(swaps.enter_retiring(&lease(), &mut retiring).await.unwrap(), Entered::First);
    assert_eq!(retiring.ahead, zombie.ahead);
    assert_eq!(retiring.repeated_at, zombie.repeated_at, "its calls may still land");

    let late = swaps.revise_in_stage(&lease(), &mut zombie).await;
    assert!(is_overtaken(&late), "no retirement goes back to the attach: {late:?}");
    let stored = swaps.read(&lease()).await.unwrap().unwrap().journal.unwrap();
    assert_eq!((stored.stage, stored.ahead.len()), (Stage::Retiring, 2));
}
