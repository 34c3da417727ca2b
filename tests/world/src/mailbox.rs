//! The services that carry news: SNS with the alerts topic, and EventBridge with its buses and rules.
//!
//! Nothing is delivered from here. The mailbox keeps what was published, and the world decides who hears of it and when.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::fleet::AwsHabits;
use crate::wire::{ApiAnswer, ApiCall, Service, escape};

/// The most entries of one `PutEvents`, and the most bytes of all its entries.
/// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html>
const MOST_ENTRIES: usize = 10;
const MOST_ENTRY_BYTES: usize = 256 * 1024;
/// The largest message of a topic in bytes, and the first length in characters that a subject must not have.
/// <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>
const MOST_MESSAGE_BYTES: usize = 256 * 1024;
const SUBJECT_TOO_LONG: usize = 100;
const DEFAULT_BUS: &str = "default";

/// A message that a topic has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedMessage {
    pub subject: Option<String>,
    pub message: String,
    pub at: Timestamp,
}

/// A rule on a default bus.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRule {
    /// `ENABLED`, `DISABLED`, or another state.
    pub state: String,
    /// The pattern as JSON text; a rule with a schedule has none.
    pub pattern: Option<String>,
    /// The targets, as `ListTargetsByRule` tells them.
    pub targets: Vec<Value>,
}

/// SNS and EventBridge of one account.
#[derive(Debug, Clone, PartialEq)]
pub struct Mailbox {
    pub account_id: String,
    pub topic_arn: String,
    /// The confirmed subscriptions of the topic. Without one, SNS takes a message and drops it.
    pub confirmed_subscriptions: u32,
    /// The rules of the default buses by region and name.
    pub rules: BTreeMap<(String, String), EventRule>,
    /// The number of the next entries that EventBridge refuses with an internal failure.
    pub refused_entries: u32,
    /// The events on the default buses, as their rules see them.
    pub events: Vec<Value>,
    /// The events on other buses, each with the bus that its entry names.
    pub events_elsewhere: Vec<(String, Value)>,
    /// The messages that the topic has taken, also those that nobody hears.
    pub messages: Vec<PublishedMessage>,
}

impl Mailbox {
    /// Returns a mailbox whose topic has one subscriber.
    #[must_use]
    pub fn new(account_id: &str, topic_arn: &str) -> Self {
        Self {
            account_id: account_id.to_owned(),
            topic_arn: topic_arn.to_owned(),
            confirmed_subscriptions: 1,
            rules: BTreeMap::new(),
            refused_entries: 0,
            events: Vec::new(),
            events_elsewhere: Vec::new(),
            messages: Vec::new(),
        }
    }

    /// Carries a call of SNS or EventBridge out and answers it.
    pub fn carry_out(&mut self, call: &ApiCall, habits: &AwsHabits, now: Timestamp) -> ApiAnswer {
        match (call.service, call.action.as_str()) {
            (Service::Sns, "Publish") => self.publish(call, now),
            (Service::Sns, "GetTopicAttributes") => self.topic_attributes(call),
            (Service::EventBridge, "PutEvents") => self.put_events(call, now),
            (Service::EventBridge, "DescribeRule") => self.describe_rule(call, habits),
            (Service::EventBridge, "ListTargetsByRule") => self.list_targets(call, habits),
            (Service::EventBridge, action) => {
                ApiAnswer::json_error(501, "NotInTheWorld", &format!("the world has no events:{action}"))
            }
            (service, action) => {
                ApiAnswer::query_error(501, "NotInTheWorld", &format!("the world has no {service}:{action}"))
            }
        }
    }

    fn publish(&mut self, call: &ApiCall, at: Timestamp) -> ApiAnswer {
        if let Err(refusal) = self.require_topic(call) {
            return refusal;
        }
        let message = call.parameter("Message").unwrap_or_default();
        let subject = call.parameter("Subject");
        if message.is_empty() {
            return invalid_parameter("Empty message");
        }
        if message.len() > MOST_MESSAGE_BYTES {
            return invalid_parameter("Message too long");
        }
        if subject.is_some_and(|subject| !is_subject(subject)) {
            return invalid_parameter("Subject");
        }
        let subject = subject.map(str::to_owned);
        self.messages.push(PublishedMessage { subject, message: message.to_owned(), at });
        let id = id_of(self.messages.len());
        ApiAnswer::xml(format!(
            "<PublishResponse><PublishResult><MessageId>{id}</MessageId></PublishResult></PublishResponse>"
        ))
    }

    fn topic_attributes(&self, call: &ApiCall) -> ApiAnswer {
        if let Err(refusal) = self.require_topic(call) {
            return refusal;
        }
        let confirmed = self.confirmed_subscriptions.to_string();
        let attributes = [("TopicArn", self.topic_arn.as_str()), ("SubscriptionsConfirmed", &confirmed)];
        let entry = |(key, value): (&str, &str)| {
            format!("<entry><key>{key}</key><value>{}</value></entry>", escape(value))
        };
        let entries: String = attributes.into_iter().map(entry).collect();
        ApiAnswer::xml(format!(
            "<GetTopicAttributesResponse><GetTopicAttributesResult><Attributes>{entries}</Attributes>\
             </GetTopicAttributesResult></GetTopicAttributesResponse>"
        ))
    }

    fn require_topic(&self, call: &ApiCall) -> Result<(), ApiAnswer> {
        match call.parameter("TopicArn") {
            Some(arn) if arn == self.topic_arn => Ok(()),
            Some(_) => Err(ApiAnswer::query_error(404, "NotFound", "Topic does not exist")),
            None => Err(invalid_parameter("TopicArn or TargetArn Reason: no value for required parameter")),
        }
    }

    fn put_events(&mut self, call: &ApiCall, now: Timestamp) -> ApiAnswer {
        let entries = call.json()["Entries"].as_array().map(Vec::as_slice).unwrap_or_default();
        if !(1..=MOST_ENTRIES).contains(&entries.len()) {
            let problem = "1 validation error detected: Value at 'entries' failed to satisfy constraint: Member must have \
                           length less than or equal to 10, Member must have length greater than or equal to 1";
            return ApiAnswer::json_error(400, "ValidationException", problem);
        }
        if entries.iter().map(entry_bytes).sum::<usize>() > MOST_ENTRY_BYTES {
            let problem = "Total size of the entries in the request is over the limit.";
            return ApiAnswer::json_error(400, "ValidationException", problem);
        }
        let results: Vec<_> = entries.iter().map(|entry| self.put_event(entry, &call.region, now)).collect();
        let failed = results.iter().filter(|result| result.is_err()).count();
        let result = |result: Result<String, EntryFault>| match result {
            Ok(id) => json!({"EventId": id}),
            Err((code, message)) => json!({"ErrorCode": code, "ErrorMessage": message}),
        };
        let results: Vec<_> = results.into_iter().map(result).collect();
        ApiAnswer::json(&json!({"FailedEntryCount": failed, "Entries": results}))
    }

    /// Puts one event, and returns its id. The refusal of one entry does not touch the others.
    fn put_event(&mut self, entry: &Value, region: &str, now: Timestamp) -> Result<String, EntryFault> {
        if self.refused_entries > 0 {
            self.refused_entries -= 1;
            return Err(("InternalFailure", "Internal failure".to_owned()));
        }
        let id = id_of(self.events.len() + self.events_elsewhere.len() + 1);
        let event = json!({
            "version": "0", "id": id, "account": self.account_id, "region": region,
            "source": required(entry, "Source")?,
            "detail-type": required(entry, "DetailType")?,
            "time": time_of(entry, now),
            "resources": entry.get("Resources").cloned().unwrap_or_else(|| json!([])),
            "detail": detail(entry)?,
        });
        if event["source"].as_str().is_some_and(|source| source.starts_with("aws.")) {
            return Err(("NotAuthorizedForSourceException", "Not authorized for the source.".to_owned()));
        }
        match entry.get("EventBusName").and_then(Value::as_str) {
            None => self.events.push(event),
            Some(bus) if bus == DEFAULT_BUS || bus.ends_with(":event-bus/default") => self.events.push(event),
            Some(bus) => self.events_elsewhere.push((bus.to_owned(), event)),
        }
        Ok(id)
    }

    /// Shows a rule of the caller's account. The words of the refusal are ours: docs/to-try-on-aws.md asks if there is one.
    fn describe_rule(&self, call: &ApiCall, habits: &AwsHabits) -> ApiAnswer {
        if call.account.is_some() && !habits.rules_show_to_roles {
            let problem = "the role is not authorized to perform: events:DescribeRule";
            return ApiAnswer::json_error(400, "AccessDeniedException", problem);
        }
        let account_id = call.account.as_ref().unwrap_or(&self.account_id);
        let found = self.rule(call, "Name").map(|(name, rule)| {
            let arn = format!("arn:aws:events:{}:{account_id}:rule/{name}", call.region);
            let mut told =
                json!({"Name": name, "Arn": arn, "State": rule.state, "EventBusName": DEFAULT_BUS});
            if let Some(pattern) = &rule.pattern {
                told["EventPattern"] = json!(pattern);
            }
            ApiAnswer::json(&told)
        });
        found.unwrap_or_else(|refusal| refusal)
    }

    fn list_targets(&self, call: &ApiCall, habits: &AwsHabits) -> ApiAnswer {
        let shown =
            |target: &Value| if habits.targets_name_bus_by_arn { target.clone() } else { named(target) };
        let found = self.rule(call, "Rule").map(|(_, rule)| {
            ApiAnswer::json(&json!({"Targets": rule.targets.iter().map(shown).collect::<Vec<_>>()}))
        });
        found.unwrap_or_else(|refusal| refusal)
    }

    fn rule<'a>(&'a self, call: &'a ApiCall, parameter: &str) -> Result<(&'a str, &'a EventRule), ApiAnswer> {
        let name = call.json()[parameter].as_str().unwrap_or_default();
        let rule = self.rules.get(&(call.region.clone(), name.to_owned()));
        rule.map(|rule| (name, rule)).ok_or_else(|| {
            let problem = format!("Rule {name} does not exist on EventBus {DEFAULT_BUS}.");
            ApiAnswer::json_error(400, "ResourceNotFoundException", &problem)
        })
    }
}

/// The code and the message of a refused entry.
type EntryFault = (&'static str, String);

/// Returns a target with a bus's name in the place of its ARN.
fn named(target: &Value) -> Value {
    let mut named = target.clone();
    if let Some((_, bus)) = target["Arn"].as_str().and_then(|arn| arn.split_once(":event-bus/")) {
        named["Arn"] = json!(bus);
    }
    named
}

fn invalid_parameter(problem: &str) -> ApiAnswer {
    ApiAnswer::query_error(400, "InvalidParameter", &format!("Invalid parameter: {problem}"))
}

/// Returns true for printable ASCII on one line. The present document allows UTF-8; the earlier one did not.
fn is_subject(subject: &str) -> bool {
    let is_printable = subject.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    is_printable && !subject.is_empty() && subject.len() < SUBJECT_TOO_LONG
}

/// Returns the id of the n-th of its kind.
fn id_of(n: usize) -> String {
    format!("00000000-0000-4000-8000-{n:012x}")
}

fn required<'a>(entry: &'a Value, name: &str) -> Result<&'a str, EntryFault> {
    entry[name].as_str().filter(|text| !text.is_empty()).ok_or_else(|| {
        let problem = format!("Parameter {name} is not valid. Reason: {name} is a required argument.");
        ("InvalidArgument", problem)
    })
}

fn detail(entry: &Value) -> Result<Map<String, Value>, EntryFault> {
    let detail = required(entry, "Detail")?;
    serde_json::from_str(detail).map_err(|_| ("MalformedDetail", "Detail is malformed.".to_owned()))
}

/// Returns the time of the event to the second: that of the entry, or that of the call.
fn time_of(entry: &Value, now: Timestamp) -> String {
    let given = entry.get("Time").and_then(Value::as_f64);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a fraction of a second is not part of an event's time"
    )]
    let second = given.map_or(now.as_second(), |seconds| seconds as i64);
    Timestamp::from_second(second).unwrap_or(now).to_string()
}

/// Returns the size of an entry.
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html>
fn entry_bytes(entry: &Value) -> usize {
    let texts = ["Source", "DetailType", "Detail"].into_iter().filter_map(|name| entry[name].as_str());
    let resources = entry["Resources"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let time = if entry["Time"].is_null() { 0 } else { 14 };
    time + texts.chain(resources).map(str::len).sum::<usize>()
}

#[cfg(test)]
mod tests;
