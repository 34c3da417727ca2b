//! The audit of a scripted account: its listing, its rows and its notices, and that it changes nothing.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::collections::BTreeSet;

use security_enforcer::audit::findings::Findings;
use spot_domain::events::OwnEvent;
use spot_domain::owner_marks::OwnerMark;
use spot_scripted::ScriptedAnswer;
use support::{Account, HOUR, due_row, instance, noticed_and_told, reservations, row};

fn counts(findings: &Findings) -> (usize, usize, usize) {
    (findings.running, findings.authorised, findings.flagged)
}

#[tokio::test]
async fn every_page_is_audited_an_empty_one_in_between_included() {
    let mut account = Account::with(0);
    account.pages = vec![
        vec![(instance(1), vec![("aws:autoscaling:groupName", "web")])],
        vec![],
        vec![(instance(2), vec![("Name", "pet")]), (instance(3), vec![])],
    ];
    let run = account.run().await;
    assert_eq!(counts(&run.audit.findings), (3, 1, 2));
    assert!(!run.summary.partial, "{:?}", run.summary.failed);
    assert_eq!(run.asked("DescribeInstances").len(), 3);
    assert!(run.writes().iter().all(|w| w.contains(r#"":auth_status":{"S":"FLAGGED"}"#)));
}

#[tokio::test]
async fn an_audit_makes_not_one_changing_call_to_ec2() {
    let mut account = Account::with_due(3);
    account.enforce = false;
    let run = account.run().await;
    assert_eq!(run.summary.due, 3);
    for (action, _) in &run.calls {
        assert!(
            action.starts_with("Describe")
                || matches!(action.as_str(), "Query" | "TransactWriteItems" | "PutEvents"),
            "{action}"
        );
    }
}

#[tokio::test]
async fn a_throttled_page_is_asked_again() {
    let account = Account::with(2).answering(|asked, before| {
        (asked.action == "DescribeInstances" && before == 0)
            .then(|| ScriptedAnswer::ec2_error(503, "RequestLimitExceeded"))
    });
    let run = account.run().await;
    assert_eq!(counts(&run.audit.findings), (2, 0, 2));
    assert!(!run.summary.partial);
}

/// Returns a page of instances that look as they do on AWS.
fn described(count: usize, instance_type: &str) -> String {
    let facts = format!(
        "<instanceType>{instance_type}</instanceType><launchTime>2026-11-20T10:00:00.000Z</launchTime>\
         <placement><availabilityZone>us-east-1a</availabilityZone><tenancy>default</tenancy></placement>\
         <ipAddress>203.0.113.5</ipAddress><privateIpAddress>10.0.0.5</privateIpAddress>\
         <iamInstanceProfile><arn>arn:aws:iam::123456789012:instance-profile/admin</arn></iamInstanceProfile>\
         <usageOperation>RunInstances</usageOperation><tagSet>"
    );
    let listed: Vec<_> = (1..=count).map(|n| (instance(n), vec![("Name", "xmrig")])).collect();
    reservations(listed.iter(), None)
        .replace("<instanceType>m5.large</instanceType>", "")
        .replace("<tagSet>", &facts)
}

#[tokio::test]
async fn a_notice_says_what_an_incident_begins_with() {
    let page = described(1, "g5.48xlarge");
    let listing = move |asked: &support::Asked<'_>, _| {
        (asked.action == "DescribeInstances").then(|| ScriptedAnswer::ok(page.clone()))
    };
    let run = Account::with(1).answering(listing).run().await;
    let [message] = run.messages().try_into().unwrap();
    for told in [
        &instance(1),
        "g5.48xlarge",
        "named \"xmrig\"",
        "launched 2026-11-20T10:00:00Z in us-east-1a",
        "public 203.0.113.5, private 10.0.0.5",
        "instance-profile/admin",
        "$0.096 an hour",
    ] {
        assert!(message.contains(told), "{told}: {message}");
    }
    let event = run.asked("PutEvents")[0].replace('\\', "");
    for told in [r#""instance_type":"g5.48xlarge""#, r#""usd_an_hour":0.096"#, r#""name":"xmrig""#] {
        assert!(event.contains(told), "{told}: {event}");
    }
}

#[tokio::test]
async fn an_event_about_an_instance_has_the_declared_fields_and_leaves_out_what_is_not_known() {
    let flagged = OwnEvent::InstanceFlagged.declared();
    let page = described(1, "g5.48xlarge");
    let listing = move |asked: &support::Asked<'_>, _: usize| {
        (asked.action == "DescribeInstances").then(|| ScriptedAnswer::ok(page.clone()))
    };
    let all: BTreeSet<_> = flagged.fields().map(str::to_owned).collect();
    let known = Account::with(1).answering(listing).run().await;
    assert_eq!(known.events(), [(flagged.detail_type.to_owned(), all.clone())]);

    let [(detail_type, fields)] = Account::with(1).run().await.events().try_into().unwrap();
    assert_eq!(detail_type, flagged.detail_type);
    let of_all = flagged.fields_of_all().map(str::to_owned).collect();
    assert!(fields.is_superset(&of_all) && fields.is_subset(&all) && fields != all, "{fields:?}");
}

#[tokio::test]
async fn a_price_that_cannot_be_had_keeps_no_notice_back_and_is_asked_for_once() {
    let page = described(3, "g6.48xlarge");
    let listing = move |asked: &support::Asked<'_>, _| match asked.action {
        "DescribeInstances" => Some(ScriptedAnswer::ok(page.clone())),
        "GetProducts" => Some(ScriptedAnswer::json_error(400, "AccessDeniedException")),
        _ => None,
    };
    let run = Account::with(3).answering(listing).run().await;
    assert_eq!((run.audit.findings.flagged, run.summary.partial), (3, false), "{:?}", run.summary.failed);
    let [message] = run.messages().try_into().unwrap();
    assert_eq!(message.matches("price: unknown").count(), 3);
    assert_eq!(run.asked("GetProducts").len(), 1);
}

#[tokio::test]
async fn a_flagged_one_is_told_of_again_after_a_day_and_its_clock_stays() {
    let mut account = Account::with(1);
    account.enforce = false;
    account.rows = vec![row(1, "FLAGGED", 100 * HOUR, &noticed_and_told(24 * HOUR))];
    let run = account.run().await;
    let [message] = run.messages().try_into().unwrap();
    assert!(message.contains("still run") && message.contains("FLAGGED"), "{message}");
    assert!(run.asked("PutEvents")[0].contains("Instance Still Running"));
    let write: serde_json::Value = serde_json::from_str(&run.writes()[0]).unwrap();
    let seconds = |name: &str| -> i64 {
        write["ExpressionAttributeValues"][name]["N"].as_str().unwrap().parse().unwrap()
    };
    assert!(seconds(":told_at") - seconds(":flagged_at") >= 100 * HOUR);
    assert_eq!(seconds(":notice_delay_seconds"), 0);
}

#[tokio::test]
async fn a_reminder_that_fails_is_not_noted() {
    let failing = |asked: &support::Asked<'_>, _: usize| {
        (asked.action == "Publish").then(|| ScriptedAnswer::ec2_error(400, "AuthorizationError"))
    };
    let mut account = Account::with(1);
    account.enforce = false;
    account.rows = vec![row(1, "FLAGGED", 100 * HOUR, r#","notice_delay_seconds":{"N":"0"}"#)];
    let run = account.answering(failing).run().await;
    assert!(run.summary.partial && run.writes()[0].contains("REMOVE #told_at"), "{}", run.writes()[0]);
}

/// Returns the part of a page that arrives before the connection breaks.
fn half_a_page() -> ScriptedAnswer {
    ScriptedAnswer::ok(format!(
        "<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>{}</instanceId>\
         <instanceState><code>16</code><name>running</name></instanceState></item>",
        instance(1)
    ))
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_asked_for_again_and_nothing_counts_twice() {
    let account = Account::with(2)
        .answering(|asked, before| (asked.action == "DescribeInstances" && before == 0).then(half_a_page));
    let run = account.run().await;
    assert_eq!(counts(&run.audit.findings), (2, 0, 2));
    assert!(!run.summary.partial);
}

#[tokio::test]
async fn half_a_page_is_no_listing() {
    let account =
        Account::with_due(3).answering(|asked, _| (asked.action == "DescribeInstances").then(half_a_page));
    let run = account.run().await;
    assert_eq!((run.summary.partial, run.summary.due, run.audit.findings.running), (true, 0, 0));
    assert!(run.terminations().is_empty() && run.writes().is_empty());
}

#[tokio::test]
async fn a_listing_that_breaks_off_flags_but_clears_and_terminates_nothing() {
    let mut account = Account::with(0);
    account.pages = vec![vec![(instance(1), vec![]), (instance(2), vec![])], vec![(instance(3), vec![])]];
    account.rows = vec![due_row(1), due_row(3), due_row(9)]; // 9 is on no page that was seen
    let run = account
        .answering(|asked, before| {
            (asked.action == "DescribeInstances" && before > 0)
                .then(|| ScriptedAnswer::ec2_error(503, "RequestLimitExceeded"))
        })
        .run()
        .await;
    assert_eq!((run.summary.partial, run.summary.due), (true, 0));
    assert_eq!(run.audit.findings.flagged, 1);
    assert!(run.writes().iter().all(|w| w.contains(r#"":auth_status":{"S":"FLAGGED"}"#)));
    assert!(run.writes().iter().all(|w| !w.contains(&instance(9))));
    assert!(run.terminations().is_empty());
}

#[tokio::test]
async fn a_denied_region_is_named_and_nothing_is_said_of_it() {
    let account = Account::with_due(2).answering(|asked, _| {
        (asked.action == "DescribeInstances").then(|| ScriptedAnswer::ec2_error(403, "UnauthorizedOperation"))
    });
    let run = account.run().await;
    assert!(run.summary.partial);
    let said = run.summary.failed.iter().map(|failure| failure.words.as_str()).collect::<Vec<_>>().join("\n");
    assert!(
        said.contains("us-east-1") && said.contains("ec2:DescribeInstances: UnauthorizedOperation"),
        "{said}"
    );
    assert!(run.writes().is_empty() && run.terminations().is_empty());
}

#[tokio::test]
async fn a_notice_that_fails_is_not_noted_as_gone_out() {
    let failing = |asked: &support::Asked<'_>, _: usize| {
        (asked.action == "Publish").then(|| ScriptedAnswer::ec2_error(400, "AuthorizationError"))
    };
    let run = Account::with(1).answering(failing).run().await;
    assert_eq!(run.audit.findings.flagged, 1);
    assert!(run.summary.partial);
    assert!(!run.writes()[0].contains(":notice_delay_seconds"), "{}", run.writes()[0]);
    let told = Account::with(1).run().await;
    assert!(told.writes()[0].contains(r#"":notice_delay_seconds":{"N":"0"}"#), "{}", told.writes()[0]);
    assert!(told.asked("Publish")[0].contains(&instance(1)));
    assert!(told.asked("PutEvents")[0].contains("Instance Flagged"));
}

#[tokio::test]
async fn a_second_run_moves_last_seen_and_tells_nobody() {
    let mut account = Account::with(1);
    account.rows = vec![row(1, "FLAGGED", 2 * HOUR, r#","notice_delay_seconds":{"N":"0"}"#)];
    let flagged_at =
        account.rows[0].split("flagged_at\":").nth(1).unwrap().split('}').next().unwrap().to_owned();
    let run = account.run().await;
    assert_eq!(run.writes().len(), 1);
    assert!(run.writes()[0].contains(&format!(r#"":flagged_at":{flagged_at}"#)), "{}", run.writes()[0]);
    assert!(run.asked("Publish").is_empty() && run.asked("PutEvents").is_empty());
}

#[tokio::test]
async fn a_malformed_flag_is_replaced_only_where_it_still_stands() {
    let mut account = Account::with(1);
    account.rows =
        vec![row(1, "FLAGGED", 0, "").replacen("\"flagged_at\":{\"N\"", "\"flagged_at\":{\"S\"", 1)];
    let run = account.run().await;
    assert_eq!(run.audit.findings.flagged, 1);
    assert!(run.writes()[0].contains(r#"":was_flagged_at":{"S":"#), "{}", run.writes()[0]);
}

#[tokio::test]
async fn an_owner_found_clears_the_flag_and_a_gone_instance_too() {
    let mut account = Account::with(0);
    account.pages = vec![vec![(instance(1), vec![("eks:cluster-name", "prod")])]];
    account.rows = vec![due_row(1), due_row(2)];
    let run = account.run().await;
    assert_eq!((run.audit.findings.cleared, run.summary.due), (2, 0));
    assert!(run.writes().iter().all(|w| w.contains(r#"":auth_status":{"S":"CLEARED"}"#)));
    let events = run.asked("PutEvents").join("");
    assert!(events.contains("Instance Cleared") && run.asked("Publish").is_empty());
}

#[tokio::test]
async fn what_another_run_wrote_meanwhile_holds() {
    let account =
        Account::with_due(1).answering(|asked, _| (asked.action == "UpdateItem").then(support::refused));
    let run = account.run().await;
    assert_eq!((run.summary.due, run.summary.partial), (0, false));
    assert!(run.terminations().is_empty());
}

#[tokio::test]
async fn one_row_that_another_run_wrote_does_not_void_the_others() {
    let account = Account::with_due(3).answering(|asked, _| match asked.action {
        "TransactWriteItems" => Some(ScriptedAnswer::json_error(400, "TransactionCanceledException")),
        "UpdateItem" if asked.body.contains(&instance(2)) => Some(support::refused()),
        _ => None,
    });
    let run = account.run().await;
    let due: Vec<String> = run.audit.due.iter().map(|(id, _)| id.to_string()).collect();
    assert_eq!(due, [instance(1), instance(3)]);
    assert!(!run.summary.partial, "{:?}", run.summary.failed);
}

#[tokio::test]
async fn a_row_that_another_run_has_in_hand_is_written_a_moment_later() {
    let account = Account::with_due(2).answering(|asked, before| match asked.action {
        "TransactWriteItems" => Some(ScriptedAnswer::json_error(400, "TransactionCanceledException")),
        "UpdateItem" if before < 2 => Some(ScriptedAnswer::json_error(400, "TransactionConflictException")),
        _ => None,
    });
    let run = account.run().await;
    assert_eq!((run.summary.due, run.summary.partial), (2, false), "{:?}", run.summary.failed);
}

#[tokio::test]
async fn an_operator_that_cannot_be_read_is_no_stray() {
    let page = |managed: &str| {
        let operated = format!("<operator><managed>{managed}</managed></operator><tagSet>");
        reservations([(instance(1), vec![])].iter(), None).replace("<tagSet>", &operated)
    };
    for (managed, unauthorised, partial) in [("true", 0, false), ("false", 1, false), ("1", 0, true)] {
        let page = page(managed);
        let listing = move |asked: &support::Asked<'_>, _| {
            (asked.action == "DescribeInstances").then(|| ScriptedAnswer::ok(page.clone()))
        };
        let run = Account::with(1).answering(listing).run().await;
        let found = (run.audit.findings.unauthorised, run.summary.partial);
        assert_eq!(found, (unauthorised, partial), "{managed}");
    }
}

#[tokio::test]
async fn a_page_of_flags_is_a_few_writes() {
    let run = Account::with(250).run().await;
    assert_eq!(run.audit.findings.flagged, 250);
    assert_eq!(run.writes().len(), 250);
    let batches: Vec<&str> = run.asked("TransactWriteItems");
    assert_eq!((batches.len(), run.asked("UpdateItem").len()), (3, 0));
}

#[tokio::test]
async fn events_that_the_bus_refuses_are_put_once_more_and_then_reported() {
    let refusal = r#"{"FailedEntryCount":1,"Entries":[{"ErrorCode":"ThrottlingException"}]}"#;
    let once = move |asked: &support::Asked<'_>, before: usize| {
        (asked.action == "PutEvents" && before == 0).then(|| ScriptedAnswer::ok(refusal))
    };
    let run = Account::with(1).answering(once).run().await;
    assert_eq!((run.asked("PutEvents").len(), run.summary.partial), (2, false));
    let always = move |asked: &support::Asked<'_>, _: usize| {
        (asked.action == "PutEvents").then(|| ScriptedAnswer::ok(refusal))
    };
    assert!(Account::with(1).answering(always).run().await.summary.partial);
}

/// The row was flagged 25 hours ago, and seen an hour ago.
#[tokio::test]
async fn grace_and_gap_of_the_settings_say_when_an_instance_is_due() {
    for (grace_hours, audit_gap_minutes, due) in [(24, 90, 1), (26, 90, 0), (24, 30, 0), (24, 65, 1)] {
        let mut account = Account::with_due(1);
        (account.settings.grace_hours, account.settings.audit_gap_minutes) = (grace_hours, audit_gap_minutes);
        assert_eq!(account.run().await.summary.due, due, "{grace_hours} hours, {audit_gap_minutes} minutes");
    }
}

#[tokio::test]
async fn owner_marks_of_the_settings_say_which_tag_authorises_an_instance() {
    for (mark, authorised) in [("team", 1), ("squad", 0)] {
        let mut account = Account::with(0);
        account.settings.owner_marks = vec![OwnerMark::parse(mark).unwrap()];
        account.pages = vec![vec![(instance(1), vec![("team", "shop")])]];
        let run = account.run().await;
        assert_eq!(counts(&run.audit.findings), (1, authorised, 1 - authorised), "{mark}");
    }
}
