//! What is told of an answer: an event on the bus, and an alert where a step failed.

use serde::Serialize;
use spot_cloud::announcements::event;
use spot_domain::events::OwnEvent;
use spot_domain::response::AnswerOutcome;

use crate::context::Responder;
use crate::work::Answer;

#[derive(Serialize)]
struct Detail<'a> {
    #[serde(flatten)]
    answer: &'a Answer,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
}

/// Tells of an answer. A failure to tell is a warning: the answer counts.
pub(crate) async fn announce(responder: &Responder, answer: &Answer) {
    let started = answer.outcome.is_none().then_some("STARTED");
    match event(OwnEvent::InterruptionAnswered, &Detail { answer, outcome: started }) {
        Ok(event) => responder.announcements.put_or_warn(vec![event]).await,
        Err(error) => tracing::warn!(instance = %answer.instance_id, "the bus is not told: {error}"),
    }
    // A bus that is out keeps nothing from people.
    if answer.outcome == Some(AnswerOutcome::Failed) {
        let subject = format!("Spot Optimizer: the interruption of {} was not answered", answer.instance_id);
        let text = serde_json::to_string_pretty(answer).unwrap_or_default();
        responder.announcements.alert_or_warn(&subject, &text).await;
    }
}
