//! The notices about a run itself: at once, and once a day while the cause lasts.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use security_enforcer::failure::Failure;
use security_enforcer::summary::AuditSummary;
use spot_domain::audit::reminders::Notified;
use spot_domain::clock;
use spot_scripted::ScriptedAnswer;
use support::{Account, Asked, HOUR};

/// Returns an account in which EC2 denies every call, each time with other words, as AWS does.
fn denied() -> Account {
    Account::with(0).answering(|asked: &Asked<'_>, _| {
        let denial = || ScriptedAnswer::ec2_error(403, "UnauthorizedOperation");
        let words = format!("Encoded authorization failure message: {}", clock::now());
        (asked.action == "DescribeInstances").then(|| denial().saying(&words))
    })
}

const DENIED: &str = "account 123456789012, us-east-1: ec2:DescribeInstances: UnauthorizedOperation";

fn told(cause: &str, ago: i64) -> Vec<String> {
    let at = clock::now().as_second() - ago;
    vec![format!(r#"{{"told":{{"M":{{"{cause}":{{"N":"{at}"}}}}}}}}"#)]
}

#[tokio::test]
async fn a_partial_audit_is_told_at_once_and_noted_by_its_cause() {
    let run = denied().run().await;
    let [message] = run.messages().try_into().unwrap();
    assert!(message.contains("The audit is partial") && message.contains(DENIED), "{message}");
    let [noted] = run.told().try_into().unwrap();
    assert!(noted.contains(&format!(r#""{DENIED}":{{"N":""#)), "{noted}");
}

#[tokio::test]
async fn the_same_cause_is_told_again_after_a_day_only() {
    for (ago, messages) in [(HOUR, 0), (22 * HOUR, 0), (24 * HOUR, 1), (-48 * HOUR, 1)] {
        let run = Account { told: told(DENIED, ago), ..denied() }.run().await;
        assert_eq!((run.messages().len(), run.told().len()), (messages, messages), "{ago}");
        assert!(run.summary.partial, "the answer and the alarm say it every time");
    }
}

#[tokio::test]
async fn another_cause_is_news() {
    let run = Account { told: told("something else", HOUR), ..denied() }.run().await;
    assert_eq!(run.messages().len(), 1);
    let noted = run.told()[0];
    assert!(noted.contains(DENIED) && noted.contains("something else"), "{noted}");
}

#[tokio::test]
async fn where_the_memory_fails_people_are_told_once_too_often_and_never_too_rarely() {
    let unread = |asked: &Asked<'_>, _: usize| match asked.action {
        "DescribeInstances" => Some(ScriptedAnswer::ec2_error(403, "UnauthorizedOperation")),
        "Query" if asked.body.contains("runs") => {
            Some(ScriptedAnswer::json_error(400, "AccessDeniedException"))
        }
        _ => None,
    };
    assert_eq!(Account::with(0).answering(unread).run().await.messages().len(), 1);
    let unsent = |asked: &Asked<'_>, _: usize| match asked.action {
        "DescribeInstances" => Some(ScriptedAnswer::ec2_error(403, "UnauthorizedOperation")),
        "Publish" => Some(ScriptedAnswer::ec2_error(400, "AuthorizationError")),
        _ => None,
    };
    assert!(Account::with(0).answering(unsent).run().await.told().is_empty());
    let odd = vec![format!(r#"{{"told":{{"M":{{"{DENIED}":{{"S":"yesterday"}}}}}}}}"#)];
    assert_eq!(Account { told: odd, ..denied() }.run().await.messages().len(), 1);
}

/// A subscription that is confirmed tomorrow gets the notices of causes that last. A topic that can't be asked
/// does not repeat a notice every hour.
#[tokio::test]
async fn what_is_known_to_reach_nobody_is_not_noted() {
    for (heard, noted) in [(Some(true), 1), (None, 1), (Some(false), 0)] {
        let run = Account { heard, ..denied() }.run().await;
        assert_eq!((run.messages().len(), run.told().len()), (1, noted), "{heard:?}");
    }
}

#[tokio::test]
async fn a_whole_audit_tells_nothing_of_itself() {
    let run = Account::with(0).run().await;
    assert!(run.messages().is_empty() && run.told().is_empty());
}

#[tokio::test]
async fn a_blast_radius_that_stays_exceeded_is_told_once_a_day() {
    let account = |told: Vec<String>| {
        let mut account = Account { told, ..Account::with_due(11) };
        account.settings.max_terminations_per_run = 10;
        account
    };
    for (told, messages) in [
        (vec![], 1),
        (told("max_terminations_per_run", HOUR), 0),
        (told("max_terminations_per_run", 24 * HOUR), 1),
        (told("account 123456789012, us-east-1: max_terminations_percent", HOUR), 1),
    ] {
        let run = account(told).run().await;
        assert_eq!((run.messages().len(), run.told().len()), (messages, messages));
        assert!(run.asked("PutEvents")[0].contains("Blast Radius Exceeded"), "the bus hears it every time");
        assert!(run.summary.blast_radius_exceeded.is_some() && run.terminations().is_empty());
    }
}

/// A message names so many failures. What is new stands among them, however many old ones there are.
#[tokio::test]
async fn what_is_new_is_named_before_what_was_told() {
    let mut summary = AuditSummary::default();
    let old = |n: usize| Failure { cause: format!("region {n}"), words: format!("region {n} is denied") };
    summary.fail_all((0..60).map(old).collect());
    summary.fail(Failure { cause: "a row".to_owned(), words: "a row can't be read".to_owned() });
    let now = clock::now();
    let known: Notified = (0..60).map(|n| (format!("region {n}"), now)).collect();
    let (message, named) = summary.failures(&known, now);
    assert!(message.starts_with("a row can't be read\n") && message.ends_with("and 11 more"), "{message}");
    assert!(
        named.contains("a row") && !named.contains("region 59"),
        "what is not named is not noted as told"
    );
}
