//! The journal's row against a scripted DynamoDB: of two recoveries that have read the same, one goes on.
//! A recovery whose own write was stored goes on, too, if only the answer was lost.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde_json::{Value, json};
use spot_cloud::tables::swaps::{Claim, Entered, Lease, Leased, Owner, Release, Swaps, SwapsError};
use spot_domain::clock;
use spot_domain::swap::journal::{Journal, Retirement, Stage, SwapKind};
use spot_domain::swap::recovery::{End, Ended};
use spot_scripted::{Endpoint, ScriptedAnswer};

const ARN: &str = "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:u:autoScalingGroupName/web";

fn lease() -> Lease {
    let owner = "arn:aws:states:us-east-1:123456789012:execution:swap:run-1".parse().unwrap();
    Lease {
        on: Leased::Group { arn: ARN.parse().unwrap(), name: "web".parse().unwrap() },
        account_id: "123456789012".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        owner: Owner::ReconcilerFor(owner),
        since: Timestamp::UNIX_EPOCH,
    }
}

fn journal() -> Journal {
    Journal::new(
        &"i-0123456789abcdef0".parse().unwrap(),
        Timestamp::UNIX_EPOCH,
        Retirement::Detach,
        SwapKind::Group,
    )
}

/// A row as DynamoDB stores it, as far as the conditions of `revise`, `write` and `note` ask for it.
struct Row(Mutex<Value>);

impl Row {
    /// The row of our lease, without an attribute `revision`.
    fn new(journal: &Journal) -> Arc<Self> {
        let lease = lease();
        Arc::new(Self(Mutex::new(json!({
            "target": {"S": lease.key()},
            "leased": {"S": serde_json::to_string(&lease.on).unwrap()},
            "account_id": {"S": lease.account_id.to_string()},
            "region": {"S": lease.region.to_string()},
            "lease_owner": {"S": lease.owner.to_string()},
            "lease_since": {"N": "0"},
            "stage": {"S": journal.stage.name()},
            "journal": {"S": serde_json::to_string(journal).unwrap()},
        }))))
    }

    fn has(&self, attribute: &str) -> bool {
        self.0.lock().unwrap().get(attribute).is_some()
    }

    fn set(&self, attribute: &str, value: Value) {
        self.0.lock().unwrap()[attribute] = value;
    }

    /// Answers a read, or a write by its conditions.
    fn answer(&self, action: &str, body: &str) -> ScriptedAnswer {
        let mut row = self.0.lock().unwrap();
        if action == "GetItem" {
            return ScriptedAnswer::ok(json!({ "Item": *row }).to_string());
        }
        let request: Value = serde_json::from_str(body).unwrap();
        let condition = request["ConditionExpression"].as_str().unwrap();
        let given = &request["ExpressionAttributeValues"];
        let number = |value: &Value| value["N"].as_str().map(|n| n.parse::<u64>().unwrap());
        let stored = number(&row["revision"]);
        let holds = [
            ("lease_owner = :me", row["lease_owner"] == given[":me"]),
            ("attribute_not_exists(journal)", condition.contains(" OR ") || row.get("journal").is_none()),
            ("attribute_exists(journal)", row.get("journal").is_some()),
            ("revision = :read", stored.is_none() || stored == number(&given[":read"])),
            ("revision = :revision)", stored.is_none() || stored == number(&given[":revision"])),
            ("stage = :before", given.get(":before").is_some_and(|before| &row["stage"] == before)),
            ("revision <= :revision", stored.is_none() || stored <= number(&given[":revision"])),
            ("revision <= :known", stored.is_none() || stored <= number(&given[":known"])),
            ("stage = :stage", row["stage"] == given[":stage"]),
            ("swap_id = :swap", row.get("swap_id").is_none_or(|id| id == &given[":swap"])),
            ("closed_swap = :swap", row.get("closed_swap") == given.get(":swap")),
        ];
        let is_closed =
            condition.contains("attribute_not_exists(journal) OR") && row.get("journal").is_none();
        let begins = condition.contains("attribute_not_exists(stage) OR") && row.get("stage").is_none();
        let is_either = is_closed || begins;
        let asked = |asked: &str| condition.contains(asked) && !(is_either && asked != "lease_owner = :me");
        if holds.iter().any(|(condition, holds)| asked(condition) && !holds) {
            let wants_row = request["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD";
            return ScriptedAnswer::condition_failed(wants_row.then(|| row.to_string()).as_deref());
        }
        let update = request["UpdateExpression"].as_str().unwrap();
        for (attribute, value) in [
            ("journal", ":journal"),
            ("stage", ":stage"),
            ("revision", ":revision"),
            ("swap_id", ":swap"),
            ("closed_swap", ":swap"),
            ("closed_as", ":end"),
            ("closed_outcome", ":outcome"),
            ("journal", ":next"),
            ("revision", ":next_revision"),
            ("swap_id", ":next_swap"),
        ] {
            let set = format!("{attribute} = {value}");
            let is_set = |end: &str| update.contains(&format!("{set}{end}"));
            if is_set(",") || is_set(" ") || update.ends_with(&set) {
                row[attribute] = given[value].clone();
            }
        }
        if let Some((_, removed)) = update.split_once("REMOVE ") {
            let row = row.as_object_mut().unwrap();
            removed.split(", ").for_each(|attribute| drop(row.remove(attribute)));
        }
        ScriptedAnswer::ok("{}")
    }
}

/// Returns the table over this row. The answers to the first `lost` writes are lost: each is carried out.
async fn table(row: &Arc<Row>, lost: usize) -> (Swaps, Endpoint) {
    let (row, left) = (Arc::clone(row), AtomicUsize::new(lost));
    let endpoint = Endpoint::answering(move |action, body| {
        let answer = row.answer(action, body);
        let is_lost = left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        if is_lost { ScriptedAnswer::json_error(500, "InternalServerError") } else { answer }
    })
    .await;
    let client = aws_sdk_dynamodb::Client::new(&endpoint.config().await);
    (Swaps::over(client, "swaps"), endpoint)
}

fn is_overtaken(answer: &Result<(), SwapsError>) -> bool {
    matches!(answer, Err(SwapsError::Overtaken { .. }))
}

fn is_lease_lost(answer: &Result<(), SwapsError>) -> bool {
    matches!(answer, Err(SwapsError::LeaseLost { .. }))
}

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
fn with_two_ahead() -> Journal {
    let ahead = |id: &str| {
        Journal::new(&id.parse().unwrap(), Timestamp::UNIX_EPOCH, Retirement::Detach, SwapKind::Group)
    };
    Journal { ahead: vec![ahead("i-0123456789abcdef1"), ahead("i-0123456789abcdef2")], ..journal() }
}

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

fn ended(end: End) -> Ended {
    let remarks = vec!["image ami-1 stays".to_owned()];
    Ended { end, newcomer: None, pool: None, remarks, doubt: Some("lower desired by one".to_owned()) }
}

#[tokio::test]
async fn what_the_end_of_a_swap_tells_stays_in_the_row_until_it_is_told() {
    let (undone, row) = (with_two_ahead(), Row::new(&with_two_ahead()));
    let (swaps, _endpoint) = table(&row, 0).await;
    let outcome = swaps.close_with_outcome(&lease(), &undone, &ended(End::Undone)).await.unwrap();
    assert_eq!(outcome.journal, Journal { ahead: Vec::new(), ..undone.clone() });
    let held = swaps.read(&lease()).await.unwrap().unwrap();
    assert_eq!((held.outcome, &held.journal), (Some(outcome), &undone.successor()), "beside the next swap");

    let of_another = swaps.told(&lease(), &held.journal.unwrap().swap_id).await;
    assert!(is_lease_lost(&of_another) && row.has("closed_outcome"), "{of_another:?}");
    swaps.told(&lease(), &undone.swap_id).await.unwrap();
    let held = swaps.read(&lease()).await.unwrap().unwrap();
    assert_eq!((held.outcome, held.closed.unwrap().end), (None, End::Undone), "it was told");
}

#[tokio::test]
async fn the_next_end_and_the_end_of_the_lease_take_the_place_of_what_was_to_be_told() {
    for lets_go in [false, true] {
        let row = Row::new(&with_two_ahead());
        let (swaps, _endpoint) = table(&row, 0).await;
        swaps.close_with_outcome(&lease(), &with_two_ahead(), &ended(End::Undone)).await.unwrap();
        assert!(row.has("closed_outcome"));
        if lets_go {
            swaps.let_go(&lease(), "done").await.unwrap();
        } else {
            let next = swaps.read(&lease()).await.unwrap().unwrap().journal.unwrap();
            swaps.close(&lease(), &next, End::Finished, Release::Keep).await.unwrap();
        }
        assert!(!row.has("closed_outcome"), "lets go: {lets_go}");
    }
}

/// The reconciler would tell of it a second time, in the place of the swap that its execution has died in.
#[tokio::test]
async fn the_next_swap_begins_without_what_the_last_one_had_to_tell() {
    for is_ahead in [false, true] {
        let undone = if is_ahead { with_two_ahead() } else { journal() };
        let row = Row::new(&undone);
        let (swaps, _endpoint) = table(&row, 0).await;
        swaps.close_with_outcome(&lease(), &undone, &ended(End::Undone)).await.unwrap();
        let mut next = undone.successor().unwrap_or_else(journal);
        let entered = swaps.enter(&lease(), &mut next).await.unwrap();
        assert_eq!(matches!(entered, Entered::Again(_)), is_ahead);
        assert!(row.has("journal") && !row.has("closed_outcome"), "ahead: {is_ahead}");
    }
}

/// An older release closes a swap without it, and leaves the attribute as it is.
#[tokio::test]
async fn what_another_swap_or_another_run_had_to_tell_is_not_told_again() {
    let other_run =
        Owner::Execution("arn:aws:states:us-east-1:123456789012:execution:swap:run-2".parse().unwrap());
    for (attribute, value) in [
        ("closed_swap", json!({"S": "i-0123456789abcdef1-0"})),
        ("closed_as", json!({"S": "Finished"})),
        ("lease_owner", json!({"S": other_run.to_string()})),
        ("closed_outcome", json!({"S": "garbage"})),
        ("closed_outcome", json!({"M": {}})),
    ] {
        let row = Row::new(&journal());
        let (swaps, _endpoint) = table(&row, 0).await;
        swaps.close_with_outcome(&lease(), &journal(), &ended(End::Undone)).await.unwrap();
        row.set(attribute, value);
        let owner = if attribute == "lease_owner" { other_run.clone() } else { lease().owner };
        let held = swaps.read(&Lease { owner, ..lease() }).await.unwrap();
        assert_eq!(held.expect("it locks no row").outcome, None, "{attribute}");
    }
}
