//! Announcements: every noteworthy thing as an event on the default bus, and every alert as a message on the
//! alerts topic.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_eventbridge::primitives::DateTime;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_eventbridge::types::builders::PutEventsRequestEntryBuilder;
use jiff::Timestamp;
use serde::Serialize;
use spot_domain::events::OwnEvent;

use crate::clients::Stack;
use crate::environment::{BadEnvironment, variable};
use crate::error::{CallError, Kind, failed, unreadable};

/// EventBridge's limit for one `PutEvents`.
pub const EVENTS_PER_CALL: usize = 10;
/// The most characters of a subject. SNS takes no longer one, and only ASCII.
const SUBJECT_CHARACTERS: usize = 99;
/// The topic's attribute for the number of confirmed subscriptions.
const CONFIRMED: &str = "SubscriptionsConfirmed";
const PUT_EVENTS: &str = "events:PutEvents";
const PUBLISH: &str = "sns:Publish";
/// The longest time that a swap waits for the bus or for the topic. A function in a VPC may have no way to either.
const PATIENCE: Duration = Duration::from_secs(5);

/// An event, ready to be put.
pub type Event = PutEventsRequestEntry;

/// The default event bus and the alerts topic of the stack.
#[derive(Debug, Clone)]
pub struct Announcements {
    events: aws_sdk_eventbridge::Client,
    sns: aws_sdk_sns::Client,
    topic_arn: String,
}

/// Returns an event of ours.
///
/// # Errors
/// The detail can't be written as JSON.
pub fn event(kind: OwnEvent, detail: &impl Serialize) -> Result<Event, CallError> {
    Ok(builder(kind, detail)?.build())
}

/// Returns an event of ours about something that happened at `time`, to the second.
///
/// # Errors
/// The detail can't be written as JSON.
pub fn event_at(kind: OwnEvent, detail: &impl Serialize, time: Timestamp) -> Result<Event, CallError> {
    Ok(builder(kind, detail)?.time(DateTime::from_secs(time.as_second())).build())
}

fn builder(kind: OwnEvent, detail: &impl Serialize) -> Result<PutEventsRequestEntryBuilder, CallError> {
    let detail = serde_json::to_string(detail).map_err(unreadable(PUT_EVENTS))?;
    let declared = kind.declared();
    Ok(Event::builder().source(declared.source).detail_type(declared.detail_type).detail(detail))
}

impl Announcements {
    /// Returns the announcements of this stack.
    ///
    /// # Errors
    /// `ALERTS_TOPIC_ARN` is missing from the environment.
    pub fn new(stack: &Stack) -> Result<Self, BadEnvironment> {
        Ok(Self::over(stack.config(), variable("ALERTS_TOPIC_ARN")?))
    }

    /// Returns announcements over one configuration and topic.
    #[must_use]
    pub fn over(config: &SdkConfig, topic_arn: String) -> Self {
        Self {
            events: aws_sdk_eventbridge::Client::new(config),
            sns: aws_sdk_sns::Client::new(config),
            topic_arn,
        }
    }

    /// Puts up to [`EVENTS_PER_CALL`] events on the bus that each names, or on the default one. Refused
    /// events are put once more.
    ///
    /// # Errors
    /// The call fails, or EventBridge refuses an event twice.
    pub async fn put(&self, events: Vec<Event>) -> Result<(), CallError> {
        let Some((refused, _)) = self.put_once(events).await? else {
            return Ok(());
        };
        self.put_once(refused).await?.map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Puts the events. Returns the refused ones, with the reason of the first; `None` if none was refused.
    async fn put_once(&self, events: Vec<Event>) -> Result<Option<(Vec<Event>, CallError)>, CallError> {
        let put = self.events.put_events().set_entries(Some(events.clone()));
        let answer = put.send().await.map_err(failed(PUT_EVENTS))?;
        if answer.failed_entry_count() == 0 {
            return Ok(None);
        }
        let results = answer.entries.unwrap_or_default();
        let first = results.iter().find(|result| result.error_code.is_some()).cloned();
        let pairs = events.into_iter().zip(results);
        let refused =
            pairs.filter(|(_, result)| result.error_code.is_some()).map(|(event, _)| event).collect();
        let error = CallError {
            call: PUT_EVENTS,
            kind: Kind::Retry,
            code: first.as_ref().and_then(|r| r.error_code.clone()).unwrap_or_default(),
            message: first.and_then(|r| r.error_message).unwrap_or_else(|| "the bus refuses it".to_owned()),
            source: None,
        };
        Ok(Some((refused, error)))
    }

    /// Returns true if a subscriber hears an alert. While no subscription of the topic is confirmed, SNS
    /// takes a message and drops it.
    ///
    /// # Errors
    /// The topic does not answer.
    pub async fn is_heard(&self) -> Result<bool, CallError> {
        let call = "sns:GetTopicAttributes";
        let answer = self.sns.get_topic_attributes().topic_arn(&self.topic_arn).send().await;
        let attributes = answer.map_err(failed(call))?.attributes.unwrap_or_default();
        let confirmed = attributes.get(CONFIRMED).and_then(|count| count.parse::<u64>().ok());
        confirmed.map(|count| count > 0).ok_or_else(|| CallError::malformed(call, format!("no {CONFIRMED}")))
    }

    /// Publishes an alert.
    ///
    /// # Errors
    /// The topic does not take the message.
    pub async fn alert(&self, subject: &str, message: &str) -> Result<(), CallError> {
        let subject: String = subject.chars().filter(char::is_ascii).take(SUBJECT_CHARACTERS).collect();
        let publish = self.sns.publish().topic_arn(&self.topic_arn).subject(subject).message(message);
        publish.send().await.map_err(failed(PUBLISH)).map(drop)
    }

    /// Puts any number of events, where nothing may depend on that: a failure is a warning, and the wait is short.
    pub async fn put_or_warn(&self, events: Vec<Event>) {
        let put = async {
            for events in events.chunks(EVENTS_PER_CALL) {
                self.put(events.to_vec()).await?;
            }
            Ok(())
        };
        if let Err(error) = in_time(PUT_EVENTS, PATIENCE, put).await {
            tracing::warn!("the bus is not told: {error}");
        }
    }

    /// Publishes an alert, where nothing may depend on that: a failure is a warning, and the wait is short.
    pub async fn alert_or_warn(&self, subject: &str, message: &str) {
        if let Err(error) = in_time(PUBLISH, PATIENCE, self.alert(subject, message)).await {
            tracing::warn!(subject, "nobody is alerted: {error}");
        }
    }
}

/// Gives a call up after so long.
async fn in_time(
    call: &'static str,
    patience: Duration,
    telling: impl Future<Output = Result<(), CallError>>,
) -> Result<(), CallError> {
    let told = tokio::time::timeout(patience, telling).await;
    told.unwrap_or_else(|_| {
        Err(CallError {
            call,
            kind: Kind::Retry,
            code: "NoAnswer".to_owned(),
            message: format!("no answer within {} s", patience.as_secs()),
            source: None,
        })
    })
}

#[cfg(test)]
mod tests {
    use spot_scripted::{Endpoint, ScriptedAnswer};

    use super::*;

    #[tokio::test]
    async fn a_bus_or_a_topic_that_does_not_answer_is_given_up() {
        let error = in_time(PUBLISH, Duration::from_millis(1), std::future::pending()).await.unwrap_err();
        assert_eq!((error.call, error.code.as_str()), ("sns:Publish", "NoAnswer"));
    }

    #[tokio::test]
    async fn a_bus_or_a_topic_that_refuses_is_a_warning() {
        let endpoint =
            Endpoint::answering(|_, _| ScriptedAnswer::json_error(400, "AccessDeniedException")).await;
        let announcements = Announcements::over(&endpoint.config().await, "arn:aws:sns:::alerts".to_owned());
        let some = vec![Event::builder().build(); EVENTS_PER_CALL + 1];
        announcements.put_or_warn(some).await;
        announcements.alert_or_warn("subject", "message").await;
        let put = endpoint.requests().iter().filter(|request| request.contains("Entries")).count();
        assert_eq!(put, 1, "a bus that refuses is not asked again");
    }
}
