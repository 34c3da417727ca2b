//! Which swaps the reconciler tells of.

use serde_json::json;
use spot_domain::Reason;
use spot_domain::events::OwnEvent;
use spot_domain::swap::journal::Undo;

use super::*;
use crate::work::Work;

const IN_PROGRESS: &str = include_str!("../../tests/payloads/3fb1158-group-after-launch.json");

fn in_progress() -> Work {
    serde_json::from_str(IN_PROGRESS).unwrap()
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
