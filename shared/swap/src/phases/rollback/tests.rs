//! What a rollback takes for its own swap, and what it records of its end.

use spot_domain::swap::journal::{Kept, SwapKind};

use super::*;
use crate::phases::gate::Refusal;

#[test]
fn a_journal_of_another_run_is_no_order() {
    let payload = include_str!("../../../tests/payloads/3fb1158-group-after-launch.json");
    let work: Work = serde_json::from_str(payload).unwrap();
    let own = work.current.as_ref().unwrap().journal.clone();
    assert!(is_of_this_run(&work, &own), "also if an older release began the swap");
    let earlier = work.lease.since - jiff::SignedDuration::from_secs(1);
    assert!(!is_of_this_run(&work, &Journal::new(&own.old, earlier, own.retirement, SwapKind::Group)));
}

#[test]
fn a_rollback_whose_close_was_answered_to_nobody_leaves_the_next_swap_alone() {
    let payload = include_str!("../../../tests/payloads/3fb1158-group-after-launch.json");
    let mut work: Work = serde_json::from_str(payload).unwrap();
    let own = work.current.as_ref().unwrap().journal.clone();
    let next = Journal::new(
        &"i-0123456789abcdef1".parse().unwrap(),
        work.lease.since,
        own.retirement,
        SwapKind::Group,
    );
    let closed = Closed { swap_id: own.swap_id.clone(), end: End::Undone };
    assert!(is_successor(&work, Some(&closed), &next));
    assert!(!is_successor(&work, Some(&closed), &own));
    assert!(!is_successor(&work, None, &next), "ours is not over");
    let another = Closed { swap_id: next.swap_id.clone(), ..closed };
    assert!(!is_successor(&work, Some(&another), &next), "ours is not over");
    work.current = None;
    work.queue.clear();
    assert!(!is_successor(&work, Some(&another), &next));
}

#[test]
fn the_answer_to_the_retirement_comes_with_the_payload_of_its_own_swap() {
    let payload = include_str!("../../../tests/payloads/3fb1158-group-after-launch.json");
    let mut work: Work = serde_json::from_str(payload).unwrap();
    let row = work.current.as_ref().unwrap().journal.clone();
    assert!(!has_retired(&work, &row));
    work.current.as_mut().unwrap().journal.retired = true;
    assert!(has_retired(&work, &row));
    let earlier = work.lease.since - jiff::SignedDuration::from_secs(1);
    assert!(!has_retired(&work, &Journal::new(&row.old, earlier, row.retirement, SwapKind::Group)));
}

#[test]
fn reader_1_what_a_person_has_to_know_is_reported_whichever_way_the_swap_ended() {
    let payload = include_str!("../../../tests/payloads/3fb1158-group-after-launch.json");
    let after = |end| {
        let mut work: Work = serde_json::from_str(payload).unwrap();
        let current = work.current.clone().unwrap();
        let undo = Undo { reason: Reason::StepFailed, detail: "its words".into() };
        let newcomer = Some(current.newcomer);
        record(&mut work, &current.journal, end, newcomer, undo, vec!["lower it by one".into()]);
        (work, current.journal.old)
    };
    let (finished, old) = after(End::Finished);
    assert_eq!((finished.swapped.len(), finished.rolled_back.len()), (1, 0));
    assert_eq!(finished.remarks, [format!("swap of {old}: lower it by one")]);
    let (undone, _) = after(End::Undone);
    assert_eq!(undone.rolled_back[0].detail, "its words; lower it by one");
    assert_eq!((undone.swapped.len(), undone.remarks.len()), (0, 0), "it is said once");
}

#[test]
fn a_quota_that_leaves_others_their_turn_ends_no_run_and_the_next_one_does() {
    let payload = include_str!("../../../tests/payloads/3fb1158-group-after-launch.json");
    let mut work: Work = serde_json::from_str(payload).unwrap();
    let journal = work.current.take().unwrap().journal;
    let refusal = Refusal::new(Reason::QuotaExceeded, "its words");
    for (others_may_launch, ended_by) in [(true, None), (false, Some(Reason::QuotaExceeded))] {
        assert_eq!(work.undo_refused(Refusal { others_may_launch, ..refusal.clone() }), Next::Undo);
        work = serde_json::from_value(serde_json::to_value(&work).unwrap()).unwrap();
        let undo = work.undo.clone().unwrap();
        record(&mut work, &journal, End::Undone, None, undo, Vec::new());
        let reason = work.rolled_back.last().unwrap().reason;
        assert_eq!((work.ended_by, reason), (ended_by, Reason::QuotaExceeded));
        assert!(!work.others_may_launch, "it was for that undo");
    }
    let sent = serde_json::to_value(&work).unwrap();
    assert!(sent.get("others_may_launch").is_none(), "{sent}");
}

#[test]
fn a_rollback_waits_for_a_drain_and_then_for_the_hooks() {
    let payload = include_str!("../../../tests/payloads/3fb1158-group-after-launch.json");
    let mut work: Work = serde_json::from_str(payload).unwrap();
    let mut journal = work.current.as_ref().unwrap().journal.clone();
    let mut seconds = |of_run, of_journal| {
        (work.hook_seconds, journal.hook_seconds) = (of_run, of_journal);
        let until = deadline(&mut work, &journal);
        until.duration_since(work.waiting_since.unwrap()).as_secs()
    };
    assert_eq!(seconds(0, 0), 3_900);
    assert_eq!(seconds(7_200, 0), 11_100, "the journal of an earlier release does not know of the hook");
    assert_eq!(seconds(0, 7_200), 11_100, "the step that has seen the hook has failed");
}

#[test]
fn a_lambda_error_is_told_in_its_own_words() {
    let failure = |error: &str, cause: &str| StepFailure { error: error.into(), cause: cause.into() };
    let denied = undo_for(&failure(
        "NotAuthorized",
        r#"{"errorMessage":"ec2:RunInstances: denied","errorType":"NotAuthorized"}"#,
    ));
    assert_eq!(
        (denied.reason, denied.detail.as_str()),
        (Reason::NotAuthorized, "NotAuthorized: ec2:RunInstances: denied")
    );
    let killed = undo_for(&failure("Lambda.Unknown", "The cause could not be determined"));
    assert_eq!(
        (killed.reason, killed.detail.as_str()),
        (Reason::StepFailed, "Lambda.Unknown: The cause could not be determined")
    );
}

const BEGUN: [&str; 3] = [
    include_str!("../../../tests/payloads/3fb1158-group-after-launch.json"),
    include_str!("../../../tests/payloads/3fb1158-node-after-launch.json"),
    include_str!("../../../tests/payloads/3fb1158-lab-after-launch.json"),
];

/// A run, and how its swap has ended, as the row keeps it.
fn ended(payload: &str, end: End) -> (Work, Outcome) {
    let work: Work = serde_json::from_str(payload).unwrap();
    let current = work.current.clone().unwrap();
    let undo = Undo { reason: Reason::NodeNotReady, detail: "what the recovery has added".to_owned() };
    let mut journal = Journal { undo: Some(undo), ..current.journal };
    if let SwapKind::Node(node) = &mut journal.kind {
        node.kept = Some(Kept { instance_id: current.newcomer.clone(), why: "its pods".to_owned() });
    }
    let remarks = vec!["image ami-1 stays".to_owned()];
    let newcomer = Some("i-0fedcba9876543210".parse().unwrap());
    let ended = Ended { end, newcomer, pool: None, remarks, doubt: Some("lower desired by one".to_owned()) };
    let (by, at) = (work.lease.owner.clone(), clock::now());
    (work, Outcome { journal, ended, by, at })
}

fn undo() -> Undo {
    Undo { reason: Reason::StepFailed, detail: "what the step knew".to_owned() }
}

/// The Lambda dies between the last write and the message, and the step is repeated.
#[test]
fn a_repeated_last_visit_records_all_that_the_first_one_knew() {
    for (payload, end) in BEGUN.iter().flat_map(|payload| [(payload, End::Undone), (payload, End::Finished)])
    {
        let (mut first, outcome) = ended(payload, end);
        let mut repeated = first.clone();
        let in_row = serde_json::to_string(&outcome).unwrap();
        note_end(&mut first, &outcome.journal, outcome.ended.clone(), undo());

        let read: Outcome = serde_json::from_str(&in_row).unwrap();
        assert!(is_news(&repeated, &read), "{payload}");
        assert_eq!(kept_by(&read.journal), kept_by(&outcome.journal));
        note_end(&mut repeated, &read.journal, read.ended, undo());
        assert_eq!(serde_json::to_value(&repeated).unwrap(), serde_json::to_value(&first).unwrap());

        let told = serde_json::to_string(&repeated).unwrap();
        for words in ["lower desired by one", "image ami-1 stays"] {
            assert!(told.contains(words), "{end} {words}: {told}");
        }
        assert_eq!(told.contains("what the recovery has added"), end == End::Undone, "{told}");
        assert_eq!(told.contains("i-0fedcba9876543210"), end == End::Finished, "{told}");
        assert!(repeated.ending().is_some_and(|ending| ending.detail == "lower desired by one"));
    }
}

#[test]
fn the_end_of_a_swap_is_recorded_once() {
    for payload in BEGUN {
        let (mut work, outcome) = ended(payload, End::Undone);
        let journal = outcome.journal.clone();
        let with = |journal: Journal| Outcome { journal, ..outcome.clone() };
        let other = SwapId::new(&"i-0123456789abcdef9".parse().unwrap(), work.lease.since);
        assert!(
            !is_news(&work, &with(Journal { swap_id: other, ..journal.clone() })),
            "the run is in a swap"
        );
        let candidate = work.current.clone().unwrap().candidate;
        note_end(&mut work, &journal, outcome.ended.clone(), undo());
        work.queue = vec![candidate]; // as a second launch for a node begins

        let work: Work = serde_json::from_value(serde_json::to_value(&work).unwrap()).unwrap();
        assert!(!is_news(&work, &outcome), "the second launch failed before it wrote its journal");
        let second = Journal { launching_since: clock::now(), ..journal.clone() };
        assert!(is_news(&work, &with(second)), "the way back of the second launch");
    }
}
