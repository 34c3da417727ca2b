//! The look at the rule that hands a place's notices to the stack, with a scripted EventBridge.

#![allow(clippy::unwrap_used)]

use spot_cloud::forwarding::NeededRule;
use spot_domain::events::AwsEvent;
use spot_scripted::{Endpoint, ScriptedAnswer};

const BUS: &str = "arn:aws:events:us-east-1:123456789012:event-bus/spot-optimizer-notices";
const NOTICES: [AwsEvent; 2] = [AwsEvent::InterruptionWarning, AwsEvent::RebalanceRecommendation];

fn rule(state: &str) -> ScriptedAnswer {
    let types = NOTICES.map(|notice| format!("\\\"{}\\\"", notice.detail_type())).join(",");
    let pattern = format!(r#"{{\"source\":[\"aws.ec2\"],\"detail-type\":[{types}]}}"#);
    ScriptedAnswer::ok(format!(
        r#"{{"Name":"spot-optimizer-notices","State":"{state}","EventPattern":"{pattern}"}}"#
    ))
}

fn targets(more: &str) -> ScriptedAnswer {
    ScriptedAnswer::ok(format!(r#"{{"Targets":[{{"Id":"Stack","Arn":"{BUS}"{more}}}]}}"#))
}

/// Returns the verdict in words, and the number of calls.
async fn judged(rule: ScriptedAnswer, targets: ScriptedAnswer) -> (String, usize) {
    let endpoint = Endpoint::answering(move |action, body| match action {
        "DescribeRule" if body.contains("spot-optimizer-notices") => rule.clone(),
        "ListTargetsByRule" if body.contains("spot-optimizer-notices") => targets.clone(),
        other => ScriptedAnswer::json_error(400, other),
    })
    .await;
    let needed =
        NeededRule { name: "spot-optimizer-notices".to_owned(), target: BUS.to_owned(), shut_out: None };
    let found = needed.blindness(&endpoint.config().await, &NOTICES).await;
    let words = match found {
        Ok(None) => "sees".to_owned(),
        Ok(Some(blind)) => format!("blind: {blind}"),
        Err(error) => format!("again: {error}"),
    };
    (words, endpoint.requests().len())
}

#[tokio::test]
async fn an_enabled_rule_with_our_bus_is_seen_in_two_calls() {
    for state in ["ENABLED", "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"] {
        assert_eq!(judged(rule(state), targets("")).await, ("sees".to_owned(), 2), "{state}");
    }
}

#[tokio::test]
async fn a_rule_that_does_not_forward_is_blind() {
    for (rule, targets, because) in [
        (rule("DISABLED"), targets(""), "is disabled"),
        (rule("SUSPENDED"), targets(""), "is disabled"),
        (rule("ENABLED"), ScriptedAnswer::ok(r#"{"Targets":[]}"#), "does not hand whole events"),
        (rule("ENABLED"), targets(r#","Input":"{}""#), "does not hand whole events"),
        (rule("ENABLED"), targets(r#","InputPath":"$.detail""#), "does not hand whole events"),
        (
            rule("ENABLED"),
            targets(r#","InputTransformer":{"InputTemplate":"\"x\""}"#),
            "does not hand whole events",
        ),
    ] {
        let (words, _) = judged(rule, targets).await;
        assert!(words.starts_with("blind: ") && words.contains(because), "{because}: {words}");
    }
}

#[tokio::test]
async fn what_aws_refuses_is_blind_and_an_outage_is_asked_again() {
    let error = |status, code: &str| ScriptedAnswer::json_error(status, code);
    for (answer, expected) in [
        (error(400, "ResourceNotFoundException"), "blind: it has no rule"),
        (error(400, "AccessDeniedException"), "blind: its rule spot-optimizer-notices can't be looked at"),
        (
            error(403, "UnrecognizedClientException"),
            "blind: its rule spot-optimizer-notices can't be looked at",
        ),
        (error(400, "ValidationException"), "blind: its rule spot-optimizer-notices can't be looked at"),
        (error(500, "InternalException"), "again: "),
        (error(400, "ThrottlingException"), "again: "),
    ] {
        let described = judged(answer.clone(), targets("")).await.0;
        assert!(described.starts_with(expected), "{expected}: {described}");
        let listed = judged(rule("ENABLED"), answer).await.0;
        assert!(listed.starts_with(expected), "{expected}: {listed}");
    }
}
