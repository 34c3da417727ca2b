//! Tells others: every noteworthy thing as an event on the default bus, and what needs a person as a
//! message on the alerts topic.

use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use serde::Serialize;

use spot_cloud::clients::{BadEnvironment, variable};
use spot_cloud::error::failed;
use spot_cloud::{CallError, Kind, Stack};

/// The `source` of all our events.
pub const SOURCE: &str = "spot-optimizer";
/// SNS takes no longer subject.
const SUBJECT_CHARACTERS: usize = 100;

/// The default event bus and the alerts topic of the stack.
#[derive(Debug, Clone)]
pub struct Notices {
    events: aws_sdk_eventbridge::Client,
    sns: aws_sdk_sns::Client,
    topic_arn: String,
}

impl Notices {
    /// Those of this stack.
    ///
    /// # Errors
    /// `ALERTS_TOPIC_ARN` is missing from the environment.
    pub fn new(stack: &Stack) -> Result<Self, BadEnvironment> {
        Ok(Self {
            events: aws_sdk_eventbridge::Client::new(stack.config()),
            sns: aws_sdk_sns::Client::new(stack.config()),
            topic_arn: variable("ALERTS_TOPIC_ARN")?,
        })
    }

    /// Puts one event on the default bus.
    ///
    /// # Errors
    /// The call fails, or EventBridge refuses the entry.
    pub async fn event(&self, detail_type: &str, detail: &impl Serialize) -> Result<(), CallError> {
        let call = "events:PutEvents";
        let detail = serde_json::to_string(detail).map_err(|e| CallError::malformed(call, e.to_string()))?;
        let entry =
            PutEventsRequestEntry::builder().source(SOURCE).detail_type(detail_type).detail(detail).build();
        let answer = self.events.put_events().entries(entry).send().await.map_err(failed(call))?;
        match answer.entries().iter().find(|entry| entry.error_code().is_some()) {
            None => Ok(()),
            Some(refused) => Err(CallError {
                call,
                kind: Kind::Retry,
                code: refused.error_code().unwrap_or_default().to_owned(),
                message: refused.error_message().unwrap_or_default().to_owned(),
            }),
        }
    }

    /// Tells a person.
    ///
    /// # Errors
    /// The call fails.
    pub async fn alert(&self, subject: &str, message: &str) -> Result<(), CallError> {
        let subject: String = subject.chars().take(SUBJECT_CHARACTERS).collect();
        self.sns
            .publish()
            .topic_arn(&self.topic_arn)
            .subject(subject)
            .message(message)
            .send()
            .await
            .map_err(failed("sns:Publish"))
            .map(drop)
    }
}
