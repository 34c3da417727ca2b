#![allow(clippy::unwrap_used)]

use super::*;
use crate::wire::CallBody;

const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:alerts";

fn mailbox() -> Mailbox {
    Mailbox::new("123456789012", TOPIC)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn sns(mailbox: &mut Mailbox, action: &str, parameters: &[(&str, &str)]) -> ApiAnswer {
    let parameters =
        parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let body = CallBody::Query(parameters);
    let (region, action) = ("us-east-1".to_owned(), action.to_owned());
    let call = ApiCall { service: Service::Sns, account: None, region, action, body };
    mailbox.carry_out(&call, &AwsHabits::default(), at(7))
}

fn events(mailbox: &mut Mailbox, action: &str, body: Value) -> (u16, Value) {
    events_of(mailbox, None, &AwsHabits::default(), action, body)
}

/// The call of a role of this account, or of a function of the stack.
fn events_of(
    mailbox: &mut Mailbox,
    account: Option<&str>,
    habits: &AwsHabits,
    action: &str,
    body: Value,
) -> (u16, Value) {
    let (region, action) = ("us-east-1".to_owned(), action.to_owned());
    let (service, account) = (Service::EventBridge, account.map(str::to_owned));
    let call = ApiCall { service, account, region, action, body: CallBody::Json(body) };
    let answer = mailbox.carry_out(&call, habits, at(7));
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

fn entry(detail: &str) -> Value {
    json!({"Source": "spot-optimizer", "DetailType": "Swap Completed", "Detail": detail})
}

#[test]
fn a_message_is_kept_with_its_subject_and_time() {
    let mut mailbox = mailbox();
    let sent = [("TopicArn", TOPIC), ("Subject", "swap failed"), ("Message", "because <of> it")];
    let answer = sns(&mut mailbox, "Publish", &sent);
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("<MessageId>"), "{answer:?}");
    let kept = PublishedMessage {
        subject: Some("swap failed".to_owned()),
        message: "because <of> it".to_owned(),
        at: at(7),
    };
    assert_eq!(mailbox.messages, [kept]);
}

#[test]
fn a_message_that_sns_does_not_take_is_not_kept() {
    let (long, large) = ("s".repeat(100), "m".repeat(256 * 1024 + 1));
    for (topic, subject, message, code) in [
        (TOPIC, long.as_str(), "m", "InvalidParameter"),
        (TOPIC, "two\nlines", "m", "InvalidParameter"),
        (TOPIC, "Gr\u{fc}n", "m", "InvalidParameter"),
        (TOPIC, "", "m", "InvalidParameter"),
        (TOPIC, "s", "", "InvalidParameter"),
        (TOPIC, "s", large.as_str(), "InvalidParameter"),
        ("arn:aws:sns:us-east-1:123456789012:gone", "s", "m", "NotFound"),
    ] {
        let mut mailbox = mailbox();
        let sent = [("TopicArn", topic), ("Subject", subject), ("Message", message)];
        let answer = sns(&mut mailbox, "Publish", &sent);
        assert!(answer.status >= 400 && answer.body.contains(&format!("<Code>{code}</Code>")), "{answer:?}");
        assert_eq!(mailbox.messages, []);
    }
    let mut mailbox = mailbox();
    let most = [("TopicArn", TOPIC), ("Subject", &long[1..]), ("Message", &large[1..])];
    assert_eq!(sns(&mut mailbox, "Publish", &most).status, 200);
}

#[test]
fn a_topic_tells_the_number_of_its_confirmed_subscriptions() {
    let mut mailbox = Mailbox { confirmed_subscriptions: 0, ..mailbox() };
    let answer = sns(&mut mailbox, "GetTopicAttributes", &[("TopicArn", TOPIC)]);
    assert!(answer.body.contains("<key>SubscriptionsConfirmed</key><value>0</value>"), "{answer:?}");
}

#[test]
fn an_event_is_kept_as_a_rule_sees_it() {
    let mut mailbox = mailbox();
    let mut timed = entry(r#"{"swap_id": "s"}"#);
    timed["Time"] = json!(1_700_000_000.5);
    let (_, answer) = events(&mut mailbox, "PutEvents", json!({"Entries": [timed, entry("{}")]}));
    assert_eq!((&answer["FailedEntryCount"], answer["Entries"].as_array().unwrap().len()), (&json!(0), 2));
    assert_eq!(
        mailbox.events[0],
        json!({
            "version": "0", "id": answer["Entries"][0]["EventId"], "account": "123456789012", "region": "us-east-1",
            "source": "spot-optimizer", "detail-type": "Swap Completed", "time": "2023-11-14T22:13:20Z",
            "resources": [], "detail": {"swap_id": "s"},
        })
    );
    assert_eq!(mailbox.events[1]["time"], json!("1970-01-01T00:00:07Z"));
    assert_ne!(mailbox.events[0]["id"], mailbox.events[1]["id"]);
}

#[test]
fn one_refused_entry_does_not_keep_the_others_back() {
    let mut mailbox = mailbox();
    let without = |name: &str| {
        let mut entry = entry("{}");
        entry.as_object_mut().unwrap().remove(name);
        entry
    };
    let mut of_aws = entry("{}");
    of_aws["Source"] = json!("aws.ec2");
    let entries =
        json!([without("Source"), without("Detail"), entry("no JSON"), entry("[]"), of_aws, entry("{}")]);
    let (status, answer) = events(&mut mailbox, "PutEvents", json!({"Entries": entries}));
    let codes: Vec<_> =
        answer["Entries"].as_array().unwrap().iter().map(|entry| entry["ErrorCode"].as_str()).collect();
    assert_eq!(
        codes,
        [
            Some("InvalidArgument"),
            Some("InvalidArgument"),
            Some("MalformedDetail"),
            Some("MalformedDetail"),
            Some("NotAuthorizedForSourceException"),
            None
        ]
    );
    assert_eq!((status, &answer["FailedEntryCount"], mailbox.events.len()), (200, &json!(5), 1));
}

#[test]
fn a_call_with_too_many_entries_or_bytes_is_refused_as_a_whole() {
    let mut mailbox = mailbox();
    let large = entry(&format!("{{\"x\": \"{}\"}}", "x".repeat(130 * 1024)));
    for entries in [json!([]), Value::from(vec![entry("{}"); 11]), json!([large, large])] {
        let (status, answer) = events(&mut mailbox, "PutEvents", json!({"Entries": entries}));
        assert_eq!((status, &answer["__type"]), (400, &json!("ValidationException")));
    }
    assert_eq!(mailbox, self::mailbox());
}

#[test]
fn the_bus_refuses_as_many_entries_as_it_was_told_to() {
    let mut mailbox = Mailbox { refused_entries: 1, ..mailbox() };
    let call = json!({"Entries": [entry("{}"), entry("{}")]});
    let (_, answer) = events(&mut mailbox, "PutEvents", call.clone());
    assert_eq!(answer["Entries"][0]["ErrorCode"], json!("InternalFailure"));
    assert_eq!(events(&mut mailbox, "PutEvents", call).1["FailedEntryCount"], json!(0));
    assert_eq!(mailbox.events.len(), 3);
}

#[test]
fn an_event_for_another_bus_is_not_on_the_default_one() {
    let mut mailbox = mailbox();
    let on = |bus: &str| {
        let mut entry = entry("{}");
        entry["EventBusName"] = json!(bus);
        entry
    };
    let hub = "arn:aws:events:us-east-1:210987654321:event-bus/hub";
    events(&mut mailbox, "PutEvents", json!({"Entries": [on("default"), on(hub)]}));
    assert_eq!((mailbox.events.len(), mailbox.events_elsewhere.len()), (1, 1));
    assert_eq!(mailbox.events_elsewhere[0].0, hub);
}

#[test]
fn a_rule_is_found_by_region_and_name() {
    let mut mailbox = mailbox();
    let rule = EventRule {
        state: "ENABLED".to_owned(),
        pattern: Some(r#"{"source":["aws.ec2"]}"#.to_owned()),
        targets: vec![json!({"Id": "bus", "Arn": "arn:bus"})],
    };
    mailbox.rules.insert(("us-east-1".to_owned(), "notices".to_owned()), rule.clone());
    mailbox.rules.insert(("eu-west-1".to_owned(), "other".to_owned()), EventRule { pattern: None, ..rule });
    let (_, told) = events(&mut mailbox, "DescribeRule", json!({"Name": "notices"}));
    assert_eq!(
        (&told["State"], &told["EventPattern"]),
        (&json!("ENABLED"), &json!(r#"{"source":["aws.ec2"]}"#))
    );
    let (_, told) = events(&mut mailbox, "ListTargetsByRule", json!({"Rule": "notices"}));
    assert_eq!(told, json!({"Targets": [{"Id": "bus", "Arn": "arn:bus"}]}));
    for (action, parameter) in [("DescribeRule", "Name"), ("ListTargetsByRule", "Rule")] {
        let (status, told) = events(&mut mailbox, action, json!({parameter: "other"}));
        assert_eq!((status, &told["__type"]), (400, &json!("ResourceNotFoundException")));
    }
}

#[test]
fn a_rule_shows_to_a_role_and_its_bus_by_arn_if_aws_has_these_habits() {
    let mut mailbox = mailbox();
    let bus = "arn:aws:events:us-east-1:123456789012:event-bus/notices";
    let targets = vec![json!({"Id": "1", "Arn": bus}), json!({"Id": "2", "Arn": TOPIC})];
    let rule = EventRule { state: "ENABLED".to_owned(), pattern: None, targets };
    mailbox.rules.insert(("us-east-1".to_owned(), "notices".to_owned()), rule);
    let other = Some("210987654321");
    for (shows, arn) in [(true, bus), (false, "notices")] {
        let habits =
            AwsHabits { targets_name_bus_by_arn: shows, rules_show_to_roles: shows, ..AwsHabits::default() };
        let mut ask = |account, action, body| events_of(&mut mailbox, account, &habits, action, body);
        let (_, told) = ask(other, "ListTargetsByRule", json!({"Rule": "notices"}));
        assert_eq!((&told["Targets"][0]["Arn"], &told["Targets"][1]["Arn"]), (&json!(arn), &json!(TOPIC)));
        let (status, told) = ask(other, "DescribeRule", json!({"Name": "notices"}));
        assert_eq!((status == 200, told["__type"] == "AccessDeniedException"), (shows, !shows), "{told}");
        let (status, told) = ask(None, "DescribeRule", json!({"Name": "notices"}));
        assert_eq!((status, &told["State"]), (200, &json!("ENABLED")), "the stack's own function sees it");
    }
    let (_, told) =
        events_of(&mut mailbox, other, &AwsHabits::default(), "DescribeRule", json!({"Name": "notices"}));
    assert_eq!(told["Arn"], json!("arn:aws:events:us-east-1:210987654321:rule/notices"));
}

#[test]
fn a_call_that_the_world_does_not_know_is_not_ignored() {
    assert_eq!(sns(&mut mailbox(), "CreateTopic", &[]).status, 501);
    assert_eq!(events(&mut mailbox(), "PutRule", json!({})).0, 501);
}
