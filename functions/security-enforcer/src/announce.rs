//! Who is told: every piece of news is an event on the default bus, and what needs a person is in a
//! message on the alerts topic, many instances in one.

use std::collections::BTreeSet;

use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use jiff::SignedDuration;
use serde_json::json;
use spot_cloud::error::{CallError, failed};
use spot_domain::InstanceId;
use spot_domain::enforcement::{News, Record};

use crate::place::Beat;

/// The source of our events.
const SOURCE: &str = "spot-optimizer";
/// EventBridge's limit for one `PutEvents`.
const EVENTS_PER_CALL: usize = 10;
/// Instances in one message: readable, and far below SNS's 256 KB.
const INSTANCES_PER_MESSAGE: usize = 50;

/// One piece of news.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// The instance.
    pub id: &'a InstanceId,
    /// What happened.
    pub news: News,
    /// Its row.
    pub record: &'a Record,
}

/// What came of telling.
#[derive(Debug, Default)]
pub struct Told {
    /// Instances that a person has been told of.
    pub people: BTreeSet<InstanceId>,
    /// What could not be told, and why.
    pub failures: Vec<String>,
}

/// Tells the bus and the people.
#[derive(Debug, Clone)]
pub struct Announcer {
    events: aws_sdk_eventbridge::Client,
    sns: aws_sdk_sns::Client,
    topic: String,
}

/// The event's `detail-type`.
#[must_use]
pub const fn detail_type(news: News) -> &'static str {
    match news {
        News::Flagged => "Instance Flagged",
        News::Cleared => "Instance Cleared",
        News::Suspicious => "Instance Suspicious",
        News::Terminated => "Instance Terminated",
        News::TerminationBlocked => "Instance Termination Blocked",
    }
}

impl Announcer {
    /// Over these clients and the alerts topic.
    #[must_use]
    pub fn new(events: aws_sdk_eventbridge::Client, sns: aws_sdk_sns::Client, topic: String) -> Self {
        Self { events, sns, topic }
    }

    /// Tells all items of one place. Nothing that fails here is lost from the table.
    pub async fn tell(&self, beat: &Beat, items: &[Item<'_>]) -> Told {
        let mut told = Told::default();
        for chunk in items.chunks(EVENTS_PER_CALL) {
            let entries = chunk.iter().filter_map(|item| entry(beat, item)).collect();
            if let Err(error) = self.put(entries).await {
                told.failures.push(format!("{}: {} events: {error}", beat.place, chunk.len()));
            }
        }
        for news in [News::Flagged, News::Suspicious, News::Terminated, News::TerminationBlocked] {
            let about: Vec<&Item<'_>> = items.iter().filter(|item| item.news == news).collect();
            for chunk in about.chunks(INSTANCES_PER_MESSAGE) {
                let (subject, body) = message(beat, news, chunk);
                match self.publish(&subject, &body).await {
                    Ok(()) => told.people.extend(chunk.iter().map(|item| item.id.clone())),
                    Err(error) => told.failures.push(format!("{}: notice: {error}", beat.place)),
                }
            }
        }
        told
    }

    /// Tells a person.
    ///
    /// # Errors
    /// The topic does not take it.
    pub async fn publish(&self, subject: &str, body: &str) -> Result<(), CallError> {
        let subject: String = subject.chars().filter(char::is_ascii).take(99).collect();
        let publish = self.sns.publish().topic_arn(&self.topic).subject(subject).message(body);
        publish.send().await.map_err(failed("sns:Publish")).map(drop)
    }

    /// Puts the run's own news on the bus: that it stopped at its blast radius.
    ///
    /// # Errors
    /// The bus does not take it.
    pub async fn put_run(&self, detail_type: &str, detail: &serde_json::Value) -> Result<(), CallError> {
        self.put(vec![plain_entry(detail_type, detail.to_string())]).await
    }

    /// Puts entries; those that the bus refuses are put once more.
    async fn put(&self, entries: Vec<PutEventsRequestEntry>) -> Result<(), CallError> {
        let refused = self.put_once(entries).await?;
        if refused.is_empty() {
            return Ok(());
        }
        let refused = self.put_once(refused).await?;
        if refused.is_empty() {
            return Ok(());
        }
        Err(CallError::malformed(
            "events:PutEvents",
            format!("the bus refused {} entries twice", refused.len()),
        ))
    }

    async fn put_once(
        &self,
        entries: Vec<PutEventsRequestEntry>,
    ) -> Result<Vec<PutEventsRequestEntry>, CallError> {
        let put = self.events.put_events().set_entries(Some(entries.clone()));
        let answer = put.send().await.map_err(failed("events:PutEvents"))?;
        if answer.failed_entry_count() == 0 {
            return Ok(Vec::new());
        }
        let results = answer.entries.unwrap_or_default().into_iter();
        Ok(entries.into_iter().zip(results).filter(|(_, r)| r.error_code.is_some()).map(|(e, _)| e).collect())
    }
}

fn entry(beat: &Beat, item: &Item<'_>) -> Option<PutEventsRequestEntry> {
    let detail = json!({
        "account_id": beat.place.account_id,
        "region": beat.place.region,
        "instance_id": item.id,
        "auth_status": item.record.status?.as_str(),
        "reason": item.record.reason,
        "flagged_at": item.record.flagged_at.map(|t| t.as_second()),
        "enforced": beat.enforce,
    });
    Some(plain_entry(detail_type(item.news), detail.to_string()))
}

fn plain_entry(detail_type: &str, detail: String) -> PutEventsRequestEntry {
    PutEventsRequestEntry::builder().source(SOURCE).detail_type(detail_type).detail(detail).build()
}

fn message(beat: &Beat, news: News, items: &[&Item<'_>]) -> (String, String) {
    let place = &beat.place;
    let n = items.len();
    let subject = format!("Spot Optimizer: {} {} in {} {}", n, words(news), place.account_id, place.region);
    let body = match news {
        News::Flagged => flag_notice(beat),
        News::Suspicious => {
            "These instances carry ManagedBy=SpotOptimizer, but no swap launched them. They are not terminated; \
             find out who tagged them."
                .to_owned()
        }
        News::Terminated => "Nobody answered for these instances; they have been terminated.".to_owned(),
        _ => "These instances were to be terminated, and something forbids it. They are tried again at every run."
            .to_owned(),
    };
    let lines: Vec<String> =
        items.iter().map(|item| format!("{}  {}", item.id, item.record.reason)).collect();
    (subject, format!("{body}\n\n{}\n", lines.join("\n")))
}

const fn words(news: News) -> &'static str {
    match news {
        News::Flagged => "unauthorised instance(s)",
        News::Cleared => "cleared instance(s)",
        News::Suspicious => "suspicious instance(s)",
        News::Terminated => "terminated instance(s)",
        News::TerminationBlocked => "blocked termination(s)",
    }
}

fn flag_notice(beat: &Beat) -> String {
    let hours = beat.settings.grace_hours;
    let after = jiff::Timestamp::now() + SignedDuration::from_hours(i64::from(hours));
    let end = if beat.enforce {
        format!("They will be terminated after {after} ({hours} hours from now)")
    } else {
        "Nothing is terminated here (auto_terminate is off). If it is switched on, they go after the grace"
            .to_owned()
    };
    format!("Nobody answers for these running instances. {end}, unless an owner's tag authorises them.")
}
