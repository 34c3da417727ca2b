//! The terminations in a scripted account: one instance a call, after a fresh check, within the blast radius.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use spot_domain::clock;
use spot_domain::events::OwnEvent;
use spot_domain::owner_marks::OwnerMark;
use spot_scripted::ScriptedAnswer;
use support::{Account, Asked, HOUR, due_row, instance, noticed_and_told, protection, reservations, row};

/// Answers only the check right before a termination, which describes the instance by id.
fn fresh_look(
    tags: &'static [(&'static str, &'static str)],
) -> impl Fn(&Asked<'_>, usize) -> Option<ScriptedAnswer> {
    move |asked, _| {
        let by_id = asked.action == "DescribeInstances" && asked.body.contains("instance-id");
        by_id.then(|| ScriptedAnswer::ok(reservations([(instance(1), tags.to_vec())].iter(), None)))
    }
}

#[tokio::test]
async fn what_is_due_goes_one_instance_a_call_and_the_intent_is_written_first() {
    let run = Account::with_due(2).run().await;
    assert_eq!(run.summary.terminated.len(), 2);
    assert_eq!(run.terminations().len(), 2);
    for call in run.terminations() {
        assert_eq!(call.matches("InstanceId.").count(), 1, "{call}");
    }
    let position =
        |wanted: &str| run.calls.iter().position(|(a, b)| a == wanted || b.contains(wanted)).unwrap();
    assert!(position(":terminating_at\"") < position("TerminateInstances"));
    let last = run.writes().into_iter().filter(|w| w.contains(r#"{"S":"TERMINATED"}"#)).count();
    assert_eq!(last, 2);
}

#[tokio::test]
async fn tags_that_changed_since_the_audit_save_the_instance() {
    for tags in [&[("aws:autoscaling:groupName", "web")][..], &[("karpenter.sh/nodepool", "x")][..]] {
        let run = Account::with_due(1).answering(fresh_look(tags)).run().await;
        assert_eq!((run.summary.due, run.summary.spared.len()), (1, 1));
        assert!(run.terminations().is_empty());
        assert!(run.writes().last().unwrap().contains(r#"{"S":"CLEARED"}"#));
    }
    let run = Account::with_due(1).answering(fresh_look(&[("ManagedBy", "SpotOptimizer")])).run().await;
    assert!(run.terminations().is_empty());
    assert!(run.writes().last().unwrap().contains(r#"{"S":"SUSPICIOUS"}"#));
}

#[tokio::test]
async fn one_that_stopped_since_the_audit_is_left_to_the_next_run() {
    let stopped = |asked: &Asked<'_>, _: usize| {
        let by_id = asked.action == "DescribeInstances" && asked.body.contains("instance-id");
        by_id.then(|| {
            ScriptedAnswer::ok(
                reservations([(instance(1), vec![])].iter(), None).replace("running", "stopped"),
            )
        })
    };
    let run = Account::with_due(1).answering(stopped).run().await;
    assert_eq!(run.summary.spared.len(), 1);
    assert!(run.terminations().is_empty());
}

#[tokio::test]
async fn protection_blocks_and_is_never_switched_off() {
    let protected = |asked: &Asked<'_>, _: usize| {
        (asked.action == "DescribeInstanceAttribute").then(|| ScriptedAnswer::ok(protection(true)))
    };
    let run = Account::with_due(1).answering(protected).run().await;
    assert_eq!(run.summary.blocked.len(), 1);
    assert!(run.terminations().is_empty() && run.asked("ModifyInstanceAttribute").is_empty());
    assert!(run.writes().last().unwrap().contains(r#"{"S":"TERMINATION_BLOCKED"}"#));
    assert!(run.asked("Publish")[0].contains("protection"));
}

#[tokio::test]
async fn a_refusal_or_a_denial_blocks_with_its_words() {
    for code in ["OperationNotPermitted", "UnauthorizedOperation"] {
        let refusal = move |asked: &Asked<'_>, _: usize| {
            (asked.action == "TerminateInstances").then(|| ScriptedAnswer::ec2_error(400, code))
        };
        let run = Account::with_due(1).answering(refusal).run().await;
        assert!(run.summary.blocked[0].reason.contains(code));
        let last = run.writes().pop().unwrap();
        assert!(
            last.contains(r#"{"S":"TERMINATION_BLOCKED"}"#) && last.contains("REMOVE #terminating_at"),
            "{last}"
        );
    }
}

#[tokio::test]
async fn the_same_obstacle_as_before_is_no_news() {
    let words = "its termination protection is on (DisableApiTermination)";
    let mut account = Account::with(1);
    let blocked = row(1, "TERMINATION_BLOCKED", 30 * HOUR, &noticed_and_told(HOUR));
    account.rows = vec![blocked.replace(r#"{"S":"r"}"#, &format!(r#"{{"S":"{words}"}}"#))];
    let protected = |asked: &Asked<'_>, _: usize| {
        (asked.action == "DescribeInstanceAttribute").then(|| ScriptedAnswer::ok(protection(true)))
    };
    let run = account.answering(protected).run().await;
    assert_eq!(run.summary.blocked.len(), 1);
    assert!(run.asked("Publish").is_empty() && run.asked("PutEvents").is_empty());
}

/// Without this rule, a miner that enables its protection would cause one message and then silence.
#[tokio::test]
async fn whoever_blocks_its_termination_is_told_of_every_day() {
    let words = "its termination protection is on (DisableApiTermination)";
    let protected = |asked: &Asked<'_>, _: usize| {
        (asked.action == "DescribeInstanceAttribute").then(|| ScriptedAnswer::ok(protection(true)))
    };
    for (more, told) in [(noticed_and_told(24 * HOUR), 1), (noticed_and_told(22 * HOUR), 0)] {
        let mut account = Account::with(1);
        let blocked = row(1, "TERMINATION_BLOCKED", 90 * HOUR, &more);
        account.rows = vec![blocked.replace(r#"{"S":"r"}"#, &format!(r#"{{"S":"{words}"}}"#))];
        let run = account.answering(protected).run().await;
        assert_eq!(run.summary.blocked.len(), 1);
        assert_eq!((run.messages().len(), run.asked("PutEvents").len()), (told, told));
        for message in run.messages() {
            assert!(message.contains("TERMINATION_BLOCKED") && message.contains(words), "{message}");
        }
        let moved = run.writes().last().unwrap().contains(r#"":told_at":{"N":"#);
        assert!(moved, "{:?}", run.writes());
    }
}

#[tokio::test]
async fn a_first_block_counts_as_told() {
    let protected = |asked: &Asked<'_>, _: usize| {
        (asked.action == "DescribeInstanceAttribute").then(|| ScriptedAnswer::ok(protection(true)))
    };
    let told_at = |run: &support::Outcome| -> i64 {
        let written: serde_json::Value = serde_json::from_str(run.writes().last().unwrap()).unwrap();
        let told_at = &written["ExpressionAttributeValues"][":told_at"]["N"];
        told_at.as_str().unwrap().parse().unwrap()
    };
    let now = clock::now().as_second();
    let run = Account::with_due(1).answering(protected).run().await;
    assert_eq!(run.messages().len(), 1);
    assert!((now..now + HOUR).contains(&told_at(&run)), "the next reminder comes in a day");
    let unheard = |asked: &Asked<'_>, _: usize| match asked.action {
        "DescribeInstanceAttribute" => Some(ScriptedAnswer::ok(protection(true))),
        "Publish" => Some(ScriptedAnswer::ec2_error(400, "AuthorizationError")),
        _ => None,
    };
    let run = Account::with_due(1).answering(unheard).run().await;
    assert!(told_at(&run) < now - HOUR, "nobody was told");
}

/// A group would launch another instance in its place, and the role is denied the termination.
#[tokio::test]
async fn a_member_of_a_group_that_is_not_trusted_is_flagged_and_never_terminated() {
    let mut account = Account::with_due(1);
    account.settings.group_marks = vec![OwnerMark::parse("team").unwrap()];
    account.pages = vec![vec![(instance(1), vec![("aws:autoscaling:groupName", "gpu-9f2c")])]];
    let run = account.run().await;
    assert_eq!((run.summary.unauthorised, run.summary.blocked.len()), (1, 1));
    let reason = &run.summary.blocked[0].reason;
    assert!(reason.contains("gpu-9f2c") && reason.contains("group_marks"), "{reason}");
    assert!(run.terminations().is_empty());
    let mut trusted = Account::with_due(1);
    trusted.settings.group_marks = vec![OwnerMark::parse("team").unwrap()];
    trusted.pages = vec![vec![(instance(1), vec![("aws:autoscaling:groupName", "web"), ("team", "shop")])]];
    let run = trusted.run().await;
    assert_eq!((run.summary.unauthorised, run.audit.findings.cleared), (0, 1));
}

const MEMBER: (&str, &str) = ("aws:autoscaling:groupName", "gpu-9f2c");

/// Returns an account whose settings trust only the groups with the tag `team`.
fn trusting_teams(mut account: Account) -> Account {
    account.settings.group_marks = vec![OwnerMark::parse("team").unwrap()];
    account
}

/// Denies the attributes of group members: the role may read none, because user data is one of them.
fn attributes_of_members_denied(asked: &Asked<'_>, _: usize) -> Option<ScriptedAnswer> {
    (asked.action == "DescribeInstanceAttribute")
        .then(|| ScriptedAnswer::ec2_error(403, "UnauthorizedOperation"))
}

#[tokio::test]
async fn a_member_is_blocked_although_its_attributes_are_denied() {
    let mut account = trusting_teams(Account::with_due(1));
    account.pages = vec![vec![(instance(1), vec![MEMBER])]];
    let run = account.answering(attributes_of_members_denied).run().await;
    assert!(!run.summary.partial, "{:?}", run.summary.failed);
    assert!(run.summary.blocked[0].reason.contains("gpu-9f2c"), "{:?}", run.summary.blocked);
    assert!(run.writes().iter().any(|write| write.contains(r#"{"S":"TERMINATION_BLOCKED"}"#)));
    assert!(run.messages()[0].contains("gpu-9f2c") && run.terminations().is_empty());
}

/// The listing showed no group; the fresh check shows one.
#[tokio::test]
async fn one_that_has_joined_a_group_since_the_audit_is_blocked_although_its_attributes_are_denied() {
    let joined = |asked: &Asked<'_>, before: usize| {
        fresh_look(&[MEMBER])(asked, before).or_else(|| attributes_of_members_denied(asked, before))
    };
    let run = trusting_teams(Account::with_due(1)).answering(joined).run().await;
    assert!(!run.summary.partial, "{:?}", run.summary.failed);
    assert!(run.summary.blocked[0].reason.contains("gpu-9f2c"), "{:?}", run.summary.blocked);
    assert!(run.writes().last().unwrap().contains(r#"{"S":"TERMINATION_BLOCKED"}"#));
    assert!(run.terminations().is_empty() && run.asked("DescribeInstanceAttribute").is_empty());
}

#[tokio::test]
async fn protection_that_cannot_be_read_blocks_with_the_words_of_the_denial() {
    let run = Account::with_due(1).answering(attributes_of_members_denied).run().await;
    assert!(!run.summary.partial, "{:?}", run.summary.failed);
    let reason = &run.summary.blocked[0].reason;
    assert!(reason.contains("protection") && reason.contains("ec2:DescribeInstanceAttribute"), "{reason}");
    assert!(run.terminations().is_empty());
}

#[tokio::test]
async fn a_mark_that_comes_while_its_protection_is_asked_for_saves_the_instance() {
    let late = |asked: &Asked<'_>, before: usize| {
        (before >= 2).then(|| fresh_look(&[("karpenter.sh/nodepool", "x")])(asked, before)).flatten()
    };
    let run = Account::with_due(1).answering(late).run().await;
    assert_eq!((run.summary.due, run.summary.spared.len()), (1, 1));
    assert_eq!(run.asked("DescribeInstanceAttribute").len(), 1);
    assert!(run.terminations().is_empty());
}

/// An account of 60 instances, of which a cluster made by hand is a tenth: only the nodes' marks keep the cluster
/// alive.
#[tokio::test]
async fn a_self_built_cluster_survives_an_enforced_audit() {
    let mut account = Account::with(0);
    account.settings.max_terminations_per_run = 10;
    account.settings.max_terminations_percent = 10;
    let members = (1..=54).map(|n| (instance(n), vec![("aws:autoscaling:groupName", "web")]));
    let nodes = (55..=60).map(|n| {
        let mark = if n % 2 == 0 {
            "kubernetes.io/cluster/shop-x7k2p"
        } else {
            "sigs.k8s.io/cluster-api-provider-aws/role"
        };
        (instance(n), vec![("Name", "shop-x7k2p-master-0"), (mark, "owned")])
    });
    account.pages = vec![members.chain(nodes).collect()];
    account.rows = (55..=60).map(due_row).collect();
    let run = account.run().await;
    assert_eq!((run.summary.running, run.summary.unauthorised), (60, 0));
    assert!(run.terminations().is_empty() && run.summary.terminated.is_empty());
    assert_eq!(run.audit.findings.cleared, 6);
}

#[tokio::test]
async fn one_more_than_a_run_may_terminate_and_none_goes() {
    let mut account = Account::with_due(11);
    account.settings.max_terminations_per_run = 10;
    let run = account.run().await;
    assert!(
        run.summary.blast_radius_exceeded.as_ref().unwrap().words.contains("max_terminations_per_run = 10")
    );
    assert!(run.terminations().is_empty() && run.asked("DescribeInstanceAttribute").is_empty());
    let exceeded = OwnEvent::BlastRadiusExceeded.declared();
    let fields = exceeded.fields().map(str::to_owned).collect();
    assert!(run.events().contains(&(exceeded.detail_type.to_owned(), fields)), "{:?}", run.events());
    assert_eq!(run.asked("Publish").len(), 1);

    let mut account = Account::with_due(10);
    account.settings.max_terminations_per_run = 10;
    assert_eq!(account.run().await.summary.terminated.len(), 10);
}

#[tokio::test]
async fn a_tenth_of_the_running_may_go_and_not_one_more() {
    let percent = |running: usize, due: usize| {
        let mut account = Account::with(running);
        account.settings.max_terminations_percent = 10;
        account.rows = (1..=due).map(due_row).collect();
        account.run()
    };
    assert_eq!(percent(20, 2).await.summary.terminated.len(), 2);
    let run = percent(20, 3).await;
    assert!(run.summary.blast_radius_exceeded.unwrap().words.contains("max_terminations_percent = 10"));
    assert!(percent(9, 1).await.terminations().is_empty());
}

/// One unauthorised group must not disable the enforcement for everything else.
#[tokio::test]
async fn what_cannot_be_terminated_is_blocked_where_it_is_judged_and_counts_in_no_blast_radius() {
    for tag in [MEMBER, ("spot-optimizer:opt-out", "true"), ("spot-optimizer:opt_out", "true")] {
        let mut account = trusting_teams(Account::with_due(12));
        account.settings.max_terminations_per_run = 1;
        account.settings.max_terminations_percent = 10;
        account.pages =
            vec![(1..=11).map(|n| (instance(n), vec![tag])).collect(), vec![(instance(12), vec![])]];
        let run = account.run().await;
        assert_eq!(run.summary.blast_radius_exceeded, None, "{tag:?}");
        assert_eq!((run.summary.due, run.summary.blocked.len()), (1, 11), "{tag:?}");
        assert_eq!(run.summary.terminated, [instance(12).parse().unwrap()], "{tag:?}");
        assert_eq!(run.asked("DescribeInstanceAttribute").len(), 1, "of the one that may go");
        let blocked =
            run.writes().into_iter().filter(|w| w.contains(r#"{"S":"TERMINATION_BLOCKED"}"#)).count();
        assert_eq!(blocked, 11, "{tag:?}");
        assert_eq!(
            run.messages()[0].matches("TERMINATION_BLOCKED").count(),
            11,
            "{tag:?}: told once, in one message"
        );
    }
}

#[tokio::test]
async fn a_blocked_member_is_told_of_once_and_then_every_day() {
    let first = || {
        let mut account = trusting_teams(Account::with_due(1));
        account.pages = vec![vec![(instance(1), vec![MEMBER])]];
        account
    };
    let run = first().run().await;
    assert_eq!((run.messages().len(), run.asked("PutEvents").len()), (1, 1));
    let reason = run.summary.blocked[0].reason.clone();
    let told_at = |run: &support::Outcome| run.writes().last().unwrap().contains(r#"":told_at":{"N":"#);
    assert!(told_at(&run));
    for (ago, told) in [(HOUR, 0), (24 * HOUR, 1)] {
        let mut account = first();
        let blocked = row(1, "TERMINATION_BLOCKED", 90 * HOUR, &noticed_and_told(ago));
        account.rows = vec![blocked.replace(r#"{"S":"r"}"#, &format!(r#"{{"S":"{reason}"}}"#))];
        let run = account.run().await;
        assert_eq!((run.messages().len(), run.summary.blocked.len()), (told, 1));
        assert!(run.messages().iter().all(|message| message.contains("still run")));
    }
}

#[tokio::test]
async fn where_nothing_is_enforced_a_member_stays_flagged() {
    let mut account = trusting_teams(Account::with_due(1));
    account.pages = vec![vec![(instance(1), vec![MEMBER])]];
    account.enforce = false;
    let run = account.run().await;
    assert_eq!((run.summary.due, run.summary.blocked.len(), run.messages().len()), (0, 0, 0));
    assert!(run.writes()[0].contains(r#"{"S":"FLAGGED"}"#));
}

/// Protection may be removed at any time: only instances that are protected right now are left out of the count,
/// and of the run.
#[tokio::test]
async fn what_protection_blocked_counts_again_once_the_protection_is_lifted() {
    let words = "its termination protection is on (DisableApiTermination)";
    let account = || {
        let mut account = Account::with_due(12);
        account.settings.max_terminations_per_run = 10;
        let blocked = |n| row(n, "TERMINATION_BLOCKED", 90 * HOUR, &noticed_and_told(HOUR));
        let blocked = |n| blocked(n).replace(r#"{"S":"r"}"#, &format!(r#"{{"S":"{words}"}}"#));
        account.rows = (1..=11).map(blocked).chain([due_row(12)]).collect();
        account
    };
    let protected = |asked: &Asked<'_>, _: usize| {
        let is_last = asked.body.contains(&instance(12));
        (asked.action == "DescribeInstanceAttribute").then(|| ScriptedAnswer::ok(protection(!is_last)))
    };
    let run = account().answering(protected).run().await;
    assert_eq!((run.summary.blocked.len(), run.terminations().len()), (11, 1));
    assert_eq!(run.summary.blast_radius_exceeded, None);
    assert!(run.messages().iter().all(|message| !message.contains("TERMINATION_BLOCKED")), "no news");

    let lifted = account().run().await;
    assert!(lifted.summary.blast_radius_exceeded.unwrap().words.contains("12 instances are due"));
    let unread = account().answering(|asked, _| {
        (asked.action == "DescribeInstanceAttribute")
            .then(|| ScriptedAnswer::ec2_error(403, "UnauthorizedOperation"))
    });
    let unread = unread.run().await;
    assert!(unread.summary.blast_radius_exceeded.is_some() && unread.terminations().is_empty());
}

#[tokio::test]
async fn a_row_changed_during_the_run_is_somebody_elses_word() {
    // The audit's own write succeeds, the intent's does not.
    let changed = |asked: &Asked<'_>, before: usize| {
        (asked.action == "UpdateItem" && before > 0).then(support::refused)
    };
    let run = Account::with_due(1).answering(changed).run().await;
    assert_eq!((run.summary.due, run.summary.spared.len()), (1, 1));
    assert!(run.terminations().is_empty());
}

#[tokio::test]
async fn a_call_whose_answer_is_lost_leaves_the_intent_for_the_next_run() {
    let lost = |asked: &Asked<'_>, _: usize| {
        (asked.action == "TerminateInstances").then(|| ScriptedAnswer::ec2_error(503, "Unavailable"))
    };
    let run = Account::with_due(1).answering(lost).run().await;
    assert!(run.summary.partial && run.summary.terminated.is_empty());
    assert!(run.writes().last().unwrap().contains(":terminating_at\""));

    let mut account = Account::with(0);
    account.rows = vec![row(1, "FLAGGED", 26 * HOUR, r#","terminating_at":{"N":"1700000000"}"#)];
    let next = account.run().await;
    assert!(next.writes()[0].contains(r#"{"S":"TERMINATED"}"#), "{}", next.writes()[0]);
    assert!(next.asked("PutEvents")[0].contains("Instance Terminated"));
}

#[tokio::test]
async fn an_opted_out_one_is_flagged_and_left_alone() {
    let mut account = Account::with_due(1);
    account.pages = vec![vec![(instance(1), vec![("spot-optimizer:opt-out", "true")])]];
    let run = account.run().await;
    assert!(run.summary.blocked[0].reason.contains("opted out"));
    assert!(run.terminations().is_empty());
}

#[tokio::test]
async fn the_day_before_nothing_goes() {
    let mut account = Account::with(4);
    account.rows = vec![
        row(1, "FLAGGED", 23 * HOUR, r#","notice_delay_seconds":{"N":"0"}"#), // its grace runs
        row(2, "FLAGGED", 25 * HOUR, ""),                                     // no notice went out
        due_row(3).replace("seen_by", "_"),                                   // not seen in the run before
        row(4, "FLAGGED", -25 * HOUR, r#","notice_delay_seconds":{"N":"0"}"#), // in the future
    ];
    let run = account.run().await;
    assert_eq!(run.summary.due, 0);
    assert!(run.terminations().is_empty());
}
