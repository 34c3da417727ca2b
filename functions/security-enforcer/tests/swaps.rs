//! The swaps in progress: the newcomer of a real swap proves its row, and a row alone authorises nothing.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use spot_domain::audit::swaps_in_progress::SwapsInProgress;
use spot_scripted::ScriptedAnswer;
use support::{Account, Asked, due_row, instance, noticed_and_told, row};

/// Returns the swap of instance 1, as a row of Swaps claims it.
fn claimed() -> (String, SwapsInProgress) {
    let swap = format!("{}-1700000000000", instance(1));
    let mut swaps = SwapsInProgress::default();
    swaps.claim("row".into(), swap.parse().unwrap(), instance(1).parse().unwrap());
    (swap, swaps)
}

fn being_replaced(newcomer: Option<(&str, &'static str)>) -> Account {
    let (_, swaps) = claimed();
    let newcomer = newcomer.map(|(token, state)| (token.to_owned(), state, instance(7)));
    Account { swaps, newcomer, ..Account::with_due(1) }
}

#[tokio::test]
async fn what_a_proven_swap_replaces_is_left_to_it() {
    let token = format!("{}-0", claimed().0);
    for state in ["running", "pending"] {
        let run = being_replaced(Some((&token, state))).run().await;
        assert_eq!((run.audit.findings.being_replaced, run.summary.unauthorised), (1, 0), "{state}");
        assert!(run.writes().is_empty() && run.messages().is_empty() && run.terminations().is_empty());
        let filter = format!("client-token&Filter.1.Value.1={}-%2A", claimed().0);
        assert!(run.asked("DescribeInstances")[0].contains(&filter), "{:?}", run.calls[1]);
    }
}

/// The newcomer may not exist yet. So the instance is not terminated, and a person gets a notice of the row.
#[tokio::test]
async fn a_row_alone_hides_nothing() {
    let token = format!("{}-0", claimed().0);
    for newcomer in [None, Some(("mine-0", "running")), Some((token.as_str(), "terminated"))] {
        let run = being_replaced(newcomer).run().await;
        assert_eq!((run.audit.findings.being_replaced, run.summary.unauthorised), (0, 1), "{newcomer:?}");
        assert!(run.terminations().is_empty() && run.summary.terminated.is_empty());
        let [message] = run.messages().try_into().unwrap();
        assert!(
            message.contains("the row row of Swaps says") && message.contains("`lease_owner`"),
            "{message}"
        );
        assert!(run.writes().last().unwrap().contains(r#"{"S":"TERMINATION_BLOCKED"}"#));
    }
}

#[tokio::test]
async fn a_row_alone_keeps_no_instance_from_its_flag() {
    let mut account = being_replaced(None);
    account.rows = vec![];
    let run = account.run().await;
    assert_eq!(run.audit.findings.flagged, 1);
    assert!(run.messages()[0].contains(&instance(1)));
}

/// Once the claim is gone, the instance is due as any other.
#[tokio::test]
async fn without_the_row_it_goes() {
    let account = || Account { swaps: SwapsInProgress::default(), ..being_replaced(None) };
    let mut before = account();
    let blocked = row(1, "TERMINATION_BLOCKED", 90 * support::HOUR, &noticed_and_told(support::HOUR));
    before.rows = vec![blocked];
    assert_eq!(before.run().await.summary.terminated.len(), 1);
    let mut flagged = account();
    flagged.rows = vec![due_row(1)];
    let run = flagged.run().await;
    assert_eq!(run.summary.terminated.len(), 1);
    let asked_for_tokens = run.asked("DescribeInstances").iter().any(|body| body.contains("client-token"));
    assert!(!asked_for_tokens, "no swap is in progress");
}

#[tokio::test]
async fn while_newcomers_cannot_be_looked_for_nothing_is_judged_and_nothing_goes() {
    let denied = |asked: &Asked<'_>, _: usize| {
        let is_theirs = asked.action == "DescribeInstances" && asked.body.contains("client-token");
        is_theirs.then(|| ScriptedAnswer::ec2_error(403, "UnauthorizedOperation"))
    };
    let run = being_replaced(None).answering(denied).run().await;
    assert!(run.summary.partial && run.terminations().is_empty() && run.writes().is_empty());
}
