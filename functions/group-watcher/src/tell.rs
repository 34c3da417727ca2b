//! Deferrals, told as events and noted in the table: once for each reason, and once a day where a person must act.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use spot_cloud::CallError;
use spot_cloud::announcements::{EVENTS_PER_CALL, Event, event};
use spot_domain::events::OwnEvent;
use spot_domain::watch::{Deferral, Deferred};

use crate::answer::{Answer, Failure, Subject};
use crate::table::{Seen, Told};
use crate::tools::Tools;

/// The time after which a deferral that a person must end is told again.
const TOLD_AGAIN_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// A deferral that is to be told or noted.
#[derive(Debug)]
pub struct Telling {
    subject: Subject,
    told: Told,
    /// The event; `None` if the deferral was told before.
    event: Option<Event>,
}

#[derive(Serialize)]
struct DeferredDetail<'a> {
    #[serde(flatten)]
    subject: &'a Subject,
    #[serde(flatten)]
    deferred: &'a Deferred,
}

impl Telling {
    /// Returns what is new of a deferral; `None` if all of it was told and noted `before`.
    ///
    /// # Errors
    /// The event can't be written as JSON.
    pub fn of(
        subject: Subject,
        before: Option<&Told>,
        deferred: Deferred,
        seen: Option<Seen>,
        now: Timestamp,
    ) -> Result<Option<Self>, CallError> {
        let is_told = before.is_some_and(|told| {
            let is_old = deferred.reason.needs_a_person() && now.duration_since(told.at) >= TOLD_AGAIN_AFTER;
            told.deferred.reason == deferred.reason && !is_old
        });
        if is_told && before.is_some_and(|told| told.deferred == deferred && told.seen == seen) {
            return Ok(None);
        }
        let detail = DeferredDetail { subject: &subject, deferred: &deferred };
        let event = if is_told { None } else { Some(event(OwnEvent::SwapDeferred, &detail)?) };
        let at = before.filter(|_| is_told).map_or(now, |told| told.at);
        Ok(Some(Self { subject, told: Told { deferred, at, seen }, event }))
    }
}

/// Tells deferrals, and notes them once they are told: what could not be told is told by the next sweep.
pub async fn tell(tools: &Tools, mut tellings: Vec<Telling>, now: Timestamp, answer: &mut Answer) {
    while !tellings.is_empty() {
        let some: Vec<Telling> = tellings.drain(..tellings.len().min(EVENTS_PER_CALL)).collect();
        let events: Vec<Event> = some.iter().filter_map(|telling| telling.event.clone()).collect();
        if !events.is_empty()
            && let Err(error) = tools.announcements.put(events).await
        {
            answer.failed.push(Failure::own(&error));
            continue;
        }
        for Telling { subject, told, event } in some {
            let alerts = event.is_some() && told.deferred.reason == Deferral::TooManyFailures;
            let alerted = if alerts { alert(tools, &subject, &told.deferred).await } else { Ok(()) };
            let noted = tools.table.note_deferral(&subject, &told, now).await;
            for error in [noted, alerted].into_iter().filter_map(Result::err) {
                answer.failed.push(Failure::of(&subject, &error));
            }
        }
    }
}

async fn alert(tools: &Tools, subject: &Subject, deferred: &Deferred) -> Result<(), CallError> {
    let Subject { name, place, .. } = subject;
    let message = format!(
        "The loop leaves {name} ({place}) alone: {}.\n\nRepair the cause, then delete its row in the Groups table.",
        deferred.detail
    );
    tools.announcements.alert(&format!("Swaps of {name} fail"), &message).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3_600;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Returns if the deferral is told again, and if anything is noted.
    fn again(before: &Deferred, now: &Deferred, later: i64) -> (bool, bool) {
        let place = spot_cloud::scopes::AccountRegion {
            account_id: "123456789012".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
        };
        let subject = Subject::of_instance(&"i-0123456789abcdef0".parse().unwrap(), &place);
        let before = Told { deferred: before.clone(), at: at(0), seen: None };
        let telling = Telling::of(subject, Some(&before), now.clone(), None, at(later)).unwrap();
        (telling.as_ref().is_some_and(|telling| telling.event.is_some()), telling.is_some())
    }

    #[test]
    fn a_reason_is_told_once_and_what_a_person_must_repair_once_a_day() {
        let closed = |until| Deferred::until(Deferral::WindowClosed, "closed", at(until));
        let bad = Deferred::new(Deferral::BadTag, "bad");
        assert_eq!(again(&closed(1), &closed(1), 900), (false, false));
        assert_eq!(again(&closed(1), &closed(2), 900), (false, true), "another time is noted");
        assert_eq!(again(&closed(1), &bad, 900), (true, true));
        assert_eq!(again(&closed(1), &closed(1), 10 * DAY), (false, false));
        assert_eq!(again(&bad, &bad, DAY - 1), (false, false));
        assert_eq!(again(&bad, &bad, DAY), (true, true));
    }
}
