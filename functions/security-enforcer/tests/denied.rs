//! Regions that a service control policy denies: left out where nobody names them, and a failure where somebody does.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use serde_json::{Value, json};
use spot_domain::metrics::Metric;
use spot_scripted::ScriptedAnswer;
use support::{Account, Outcome, due_row, instance};

/// EC2's words for the denial of a whole region.
const BY_ORGANIZATION: &str = "You are not authorized to perform this operation. User: arn:aws:sts::123456789012:assumed-role/a/b \
     is not authorized to perform: ec2:DescribeInstances with an explicit deny in a service control policy";
const BY_ROLE: &str = "You are not authorized to perform this operation. User: arn:aws:sts::123456789012:assumed-role/a/b \
     is not authorized to perform: ec2:DescribeInstances because no identity-based policy allows the action";

/// Runs against an account whose listing is refused with these words, from its page `from` on.
async fn refused(account: Account, words: &'static str, from: usize) -> Outcome {
    let answer = ScriptedAnswer::ec2_error(403, "UnauthorizedOperation").saying(words);
    let refuse = move |asked: &support::Asked<'_>, before: usize| {
        (asked.action == "DescribeInstances" && before >= from).then(|| answer.clone())
    };
    account.answering(refuse).run().await
}

fn unnamed(account: Account) -> Account {
    Account { is_named: false, ..account }
}

fn figure(run: &Outcome, metric: Metric) -> Value {
    run.summary.figures().into_iter().find(|(of, _)| *of == metric).unwrap().1
}

#[tokio::test]
async fn a_region_that_nobody_names_is_not_audited_and_no_failure() {
    let run = refused(unnamed(Account::with(1)), BY_ORGANIZATION, 0).await;
    assert!(!run.summary.partial && run.summary.places.is_empty(), "{:?}", run.summary);
    assert_eq!(figure(&run, Metric::SecurityAuditFailures), json!(0));
    assert_eq!(figure(&run, Metric::RegionsNotAudited), json!(1));
    let not_audited = json!([{"account_id": "123456789012", "regions": ["us-east-1"], "reason": "DENIED"}]);
    assert_eq!(json!(run.summary.not_audited), not_audited);
    assert!(run.messages().is_empty());
}

#[tokio::test]
async fn any_other_denial_is_a_failure() {
    let mut pages = Account::with(0);
    pages.pages = vec![vec![(instance(1), vec![])], vec![(instance(2), vec![])]];
    let mut flagged = Account::with(0);
    flagged.rows = vec![due_row(1)];
    for (name, account, words, from) in [
        ("the row or the input names the region", Account::with(1), BY_ORGANIZATION, 0),
        ("the role lacks the right", unnamed(Account::with(1)), BY_ROLE, 0),
        ("the denial comes after a page", unnamed(pages), BY_ORGANIZATION, 1),
        ("an instance is flagged there", unnamed(flagged), BY_ORGANIZATION, 0),
    ] {
        let run = refused(account, words, from).await;
        assert_eq!(figure(&run, Metric::SecurityAuditFailures), json!(1), "{name}: {:?}", run.summary);
        assert!(run.summary.not_audited.is_empty(), "{name}");
        assert_eq!(run.summary.places.len(), 1, "{name}");
    }
}
