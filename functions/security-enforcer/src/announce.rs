//! The announcements. Every piece of news is an event on the default bus. News that needs a person is also in a
//! message on the alerts topic, many instances in one.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde_json::{Map, json};
use spot_cloud::announcements::{Announcements, EVENTS_PER_CALL, Event, event};
use spot_cloud::error::CallError;
use spot_cloud::scopes::Scope;
use spot_domain::audit::enforcement::{AuditNotice, AuthStatus, Record, grace_ends};
use spot_domain::clock;
use spot_domain::events::OwnEvent;
use spot_domain::{InstanceId, Usd};

use crate::failure::Failure;
use crate::fleet::facts::Facts;

/// The most instances in one message, which stays readable and below SNS's 256 KB, even with the longest tags.
const INSTANCES_PER_MESSAGE: usize = 50;

/// The news that goes to people, in this order.
const TOLD_TO_PEOPLE: [AuditNotice; 6] = [
    AuditNotice::Flagged,
    AuditNotice::NoticeOwed,
    AuditNotice::Suspicious,
    AuditNotice::StillRuns,
    AuditNotice::Terminated,
    AuditNotice::TerminationBlocked,
];

/// One piece of news.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    pub id: &'a InstanceId,
    pub news: AuditNotice,
    /// The instance's row.
    pub record: &'a Record,
    /// The facts of the instance, if EC2 still describes it, and its price in USD an hour, if that is known.
    pub facts: Option<(&'a Facts, Option<Usd>)>,
}

/// The result of the announcements.
#[derive(Debug, Default)]
pub struct Announced {
    /// The instances that a message to people has named.
    pub people: BTreeSet<InstanceId>,
    /// The announcements that failed, and why.
    pub failures: Vec<Failure>,
}

/// Announces news on the bus and to people.
#[derive(Debug, Clone)]
pub struct Announcer {
    announcements: Announcements,
}

/// Returns the event that the news is on the bus; `None` if it is none.
const fn on_the_bus(news: AuditNotice) -> Option<OwnEvent> {
    match news {
        AuditNotice::Flagged => Some(OwnEvent::InstanceFlagged),
        AuditNotice::NoticeOwed => None,
        AuditNotice::StillRuns => Some(OwnEvent::InstanceStillRunning),
        AuditNotice::Cleared => Some(OwnEvent::InstanceCleared),
        AuditNotice::Suspicious => Some(OwnEvent::InstanceSuspicious),
        AuditNotice::Terminated => Some(OwnEvent::InstanceTerminated),
        AuditNotice::TerminationBlocked => Some(OwnEvent::InstanceTerminationBlocked),
    }
}

impl Announcer {
    /// Returns an announcer over this bus and topic.
    #[must_use]
    pub fn new(announcements: Announcements) -> Self {
        Self { announcements }
    }

    /// Announces all items of one account and region. A failure here loses nothing from the table.
    pub async fn tell(&self, visit: &Scope, items: &[Item<'_>]) -> Announced {
        let mut told = Announced::default();
        if let Err(error) = self.put_all(visit, items).await {
            told.failures.push(Failure::of(format!("{}: events", visit.place), &error));
        }
        for news in TOLD_TO_PEOPLE {
            let about: Vec<&Item<'_>> = items.iter().filter(|item| item.news == news).collect();
            for chunk in about.chunks(INSTANCES_PER_MESSAGE) {
                let (subject, body) = message(visit, news, chunk);
                match self.publish(&subject, &body).await {
                    Ok(()) => told.people.extend(chunk.iter().map(|item| item.id.clone())),
                    Err(error) => {
                        told.failures.push(Failure::of(format!("{}: notice", visit.place), &error));
                    }
                }
            }
        }
        told
    }

    async fn put_all(&self, visit: &Scope, items: &[Item<'_>]) -> Result<(), CallError> {
        let events: Result<Vec<_>, _> = items.iter().filter_map(|item| news_event(visit, item)).collect();
        let mut events = events?;
        let mut outcome = Ok(());
        while !events.is_empty() {
            let rest = events.split_off(events.len().min(EVENTS_PER_CALL));
            outcome = outcome.and(self.announcements.put(events).await); // one refusal stops no other event
            events = rest;
        }
        outcome
    }

    /// Returns true if a notice reaches at least one subscriber.
    ///
    /// # Errors
    /// The topic does not answer.
    pub async fn is_heard(&self) -> Result<bool, CallError> {
        self.announcements.is_heard().await
    }

    /// Sends a message to people.
    ///
    /// # Errors
    /// The topic does not accept the message.
    pub async fn publish(&self, subject: &str, body: &str) -> Result<(), CallError> {
        self.announcements.alert(subject, body).await
    }

    /// Puts on the bus that the run stopped at its blast radius.
    ///
    /// # Errors
    /// The bus does not accept the event.
    pub async fn put_blast_radius(&self, problem: &str, due: usize) -> Result<(), CallError> {
        let detail = json!({"problem": problem, "due": due});
        self.announcements.put(vec![event(OwnEvent::BlastRadiusExceeded, &detail)?]).await
    }
}

fn news_event(visit: &Scope, item: &Item<'_>) -> Option<Result<Event, CallError>> {
    let kind = on_the_bus(item.news)?;
    let mut detail = Map::from_iter([
        ("account_id".to_owned(), json!(visit.place.account_id)),
        ("region".to_owned(), json!(visit.place.region)),
        ("instance_id".to_owned(), json!(item.id)),
        ("auth_status".to_owned(), json!(item.record.status.map(|status| status.as_str()))),
        ("reason".to_owned(), json!(item.record.reason)),
        ("flagged_at".to_owned(), json!(item.record.flagged_at.map(|t| t.as_second()))),
        ("enforced".to_owned(), json!(visit.auto_terminate)),
    ]);
    if let Some((facts, usd_an_hour)) = item.facts {
        facts.add_to(&mut detail, usd_an_hour);
    }
    Some(event(kind, &detail))
}

fn message(visit: &Scope, news: AuditNotice, items: &[&Item<'_>]) -> (String, String) {
    let place = &visit.place;
    let n = items.len();
    let subject = format!("Spot Optimizer: {} {} in {} {}", n, words(news), place.account_id, place.region);
    let body = match news {
        AuditNotice::Flagged | AuditNotice::NoticeOwed => flag_notice(visit),
        AuditNotice::Suspicious => {
            "These instances carry ManagedBy=SpotOptimizer, but no swap launched them. They are not terminated; \
             find out who tagged them."
                .to_owned()
        }
        AuditNotice::StillRuns => {
            "These instances still run, and you have been told of them before. A message comes every day until they \
             end, or until somebody answers for them."
                .to_owned()
        }
        AuditNotice::Terminated => "Nobody answered for these instances; they have been terminated.".to_owned(),
        _ => "These instances were to be terminated, and something forbids it. They are tried again at every run."
            .to_owned(),
    };
    let paragraphs: Vec<String> = items.iter().map(|item| paragraph(visit, item)).collect();
    (subject, format!("{body}\n\n{}", paragraphs.join("\n")))
}

/// Returns all facts of one instance, as a paragraph.
fn paragraph(visit: &Scope, item: &Item<'_>) -> String {
    let Item { id, news, record, facts } = item;
    let status = record.status.map_or("", |status| status.as_str());
    let facts = facts.map(|(facts, usd_an_hour)| facts.lines(usd_an_hour)).unwrap_or_default();
    let since = record.flagged_at.filter(|_| *news == AuditNotice::StillRuns);
    let since =
        since.map(|flagged| format!("    flagged {flagged}{}\n", end(visit, record))).unwrap_or_default();
    format!("{id}  {status}  {}\n{facts}{since}", record.reason)
}

/// Says when a flagged instance will be terminated, if it will be.
fn end(visit: &Scope, record: &Record) -> String {
    let is_flagged = record.status == Some(AuthStatus::Flagged) && visit.auto_terminate;
    let ends = grace_ends(record, visit.settings.grace()).filter(|_| is_flagged);
    ends.map(|ends| format!(", to be terminated after {ends}")).unwrap_or_default()
}

const fn words(news: AuditNotice) -> &'static str {
    match news {
        AuditNotice::Flagged | AuditNotice::NoticeOwed => "unauthorised instance(s)",
        AuditNotice::StillRuns => "flagged instance(s) still running",
        AuditNotice::Cleared => "cleared instance(s)",
        AuditNotice::Suspicious => "suspicious instance(s)",
        AuditNotice::Terminated => "terminated instance(s)",
        AuditNotice::TerminationBlocked => "blocked termination(s)",
    }
}

fn flag_notice(visit: &Scope) -> String {
    let hours = visit.settings.grace_hours;
    let after = clock::now() + SignedDuration::from_hours(i64::from(hours));
    let end = if visit.auto_terminate {
        format!("They will be terminated after {after} ({hours} hours from now)")
    } else {
        "Nothing is terminated here (auto_terminate is off). If it is switched on, they go after the grace"
            .to_owned()
    };
    format!("Nobody answers for these running instances. {end}, unless an owner's tag authorises them.")
}
