//! What a notice of EC2 does to the pool of its instance: it is poisoned once. The poison lasts as many days from the notice's
//! own time as the settings say.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Oracles, POOL_RISK};
use crate::tables::Tables;
use crate::tables::attribute::AttributeMap;
use crate::virtual_time::now;

/// The notices of a history, and what their pools' rows have said so far.
#[derive(Debug, Clone, Default)]
pub struct Notices {
    given: Vec<GivenNotice>,
    rows: BTreeMap<String, PoolRow>,
}

#[derive(Debug, Clone)]
struct GivenNotice {
    id: String,
    pool: String,
    /// The second at which its poison ends; `None` if it poisons nothing.
    until: Option<i64>,
}

/// The row of a pool, as far as a notice changes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct PoolRow {
    until: i64,
    interruptions: i64,
}

impl Notices {
    fn of<'a>(&'a self, pool: &'a str) -> impl Iterator<Item = &'a GivenNotice> {
        self.given.iter().filter(move |notice| notice.pool == pool)
    }
}

impl Oracles {
    /// EC2 has given a notice to an instance of this pool.
    pub fn notice_is_given(&mut self, event: &Value, pool: String) {
        let occurred = event["time"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
        let lasts = occurred.zip(self.poison_of(event));
        let until = lasts.map(|(occurred, lasts)| (occurred + lasts).as_second());
        self.notices.given.push(GivenNotice { id: id(event), pool, until });
    }

    /// Returns the time for which a notice poisons the pool of its instance; `None` if the settings let it poison nothing.
    #[must_use]
    pub fn poison_of(&self, event: &Value) -> Option<SignedDuration> {
        let settings = &self.settings;
        let is_recommendation = event["detail-type"] == "EC2 Instance Rebalance Recommendation";
        let days = if is_recommendation { settings.rebalance_poison_days } else { settings.poison_days };
        // The notices of a history are of one account.
        let is_enough = settings.poison_threshold_accounts <= 1;
        let poisons = is_enough && (settings.rebalance_poisons || !is_recommendation);
        poisons.then(|| SignedDuration::from_hours(24 * i64::from(days)))
    }

    /// Asks what must hold after a write, if the risk manager runs. No row says more than the notices do.
    pub(super) fn after_poison(&mut self, tables: &Tables) {
        if self.notices.given.is_empty() {
            return;
        }
        for row in tables.items(POOL_RISK) {
            let Some(pool) = row.get("pool").and_then(|pool| pool.as_s()).map(str::to_owned) else {
                continue;
            };
            let is = PoolRow {
                until: number(row, "poison_expires_at"),
                interruptions: number(row, "interruptions"),
            };
            let known = self.notices.rows.insert(pool.clone(), is);
            let was = known.unwrap_or_default();
            if known.is_none() {
                self.is_poisoned(&pool, now());
            }
            let notices = self.notices.of(&pool).count();
            let is_asked = self.notices.of(&pool).any(|notice| notice.until == Some(is.until));
            self.holds(is_asked, || {
                format!("{pool} is poisoned until {}, and no notice asks for that", is.until)
            });
            self.holds(is.until >= was.until, || {
                format!("the poison of {pool} ends earlier: at {}, and before at {}", is.until, was.until)
            });
            let counts = is.interruptions == was.interruptions || is.until > was.until;
            let is_few = usize::try_from(is.interruptions).is_ok_and(|count| count <= notices);
            self.holds(counts && is_few, || {
                format!("{pool} counts {} interruptions of {notices} notices", is.interruptions)
            });
        }
    }

    /// The delivery of a notice has come to its end: the risk manager has handled it, or failed for good.
    pub fn notice_is_over(&mut self, event: &Value, is_handled: bool, tables: &Tables) {
        let id = id(event);
        let Some(notice) = self.notices.given.iter().find(|notice| notice.id == id).cloned() else { return };
        self.holds(is_handled, || format!("notice {id} ends in the dead-letter queue"));
        let until = poisoned_until(tables, &notice.pool);
        let is_poisoned = notice.until.is_none_or(|asked| until.is_some_and(|until| until >= asked));
        self.holds(!is_handled || is_poisoned, || {
            format!("{} is poisoned until {until:?} after a notice until {:?}", notice.pool, notice.until)
        });
    }

    /// Every pool is poisoned until the end of its last notice, in whatever order they came.
    pub(super) fn notices_at_rest(&mut self, tables: &Tables) {
        for GivenNotice { pool, .. } in self.notices.given.clone() {
            let last = self.notices.of(&pool).filter_map(|notice| notice.until).max();
            let until = poisoned_until(tables, &pool);
            self.holds(until == last, || format!("at rest {pool} is poisoned until {until:?}, not {last:?}"));
        }
    }
}

/// Returns the second until which the gate is closed to a pool.
fn poisoned_until(tables: &Tables, pool: &str) -> Option<i64> {
    let row = tables.item(POOL_RISK, pool, None)?;
    let is_poisoned = row.get("is_poisoned").is_some_and(|flag| flag.to_json()["BOOL"] == true);
    is_poisoned.then(|| number(row, "poison_expires_at"))
}

fn number(row: &AttributeMap, name: &str) -> i64 {
    let number = row.get(name).map(|value| value.to_json());
    number.and_then(|number| number["N"].as_str()?.parse().ok()).unwrap_or_default()
}

fn id(event: &Value) -> String {
    event["id"].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::fault::Plan;
    use crate::scene::Scene;
    use crate::world::World;

    const POOL: &str = "us-east-1#use1-az1#m5.large";
    /// 15 days after the notice.
    const END: i64 = 1_768_899_600;

    /// Returns a world with a notice, and the notice.
    fn noticed() -> (World, Value) {
        let mut world = Scene::default().world(Plan::none());
        let event = json!({"id": "1", "time": "2026-01-05T09:00:00Z"});
        world.oracles.notice_is_given(&event, POOL.to_owned());
        (world, event)
    }

    /// Writes the row of the pool, and returns the promise that is broken then.
    fn writes(world: &mut World, until: i64, interruptions: u32) -> Option<String> {
        let row = json!({
            "pool": {"S": POOL}, "is_poisoned": {"BOOL": true},
            "poison_expires_at": {"N": until.to_string()}, "interruptions": {"N": interruptions.to_string()},
        });
        world.tables.put(POOL_RISK, &row).unwrap();
        world.oracles.after_poison(&world.tables);
        world.oracles.broken.take()
    }

    #[test]
    fn a_pool_that_is_poisoned_as_the_notice_asks_keeps_every_promise() {
        let (mut world, event) = noticed();
        assert_eq!(writes(&mut world, END, 1), None);
        assert_eq!(writes(&mut world, END, 1), None);
        world.notice_is_over(&event, true);
        world.oracles.notices_at_rest(&world.tables);
        assert_eq!(world.oracles.broken, None);
    }

    #[test]
    fn another_end_and_a_second_count_are_broken_promises() {
        for (until, interruptions, promise) in [(END + 1, 1, "no notice asks"), (END, 2, "counts 2")] {
            let (mut world, _) = noticed();
            let broken = writes(&mut world, until, interruptions).unwrap();
            assert!(broken.contains(promise), "{broken}");
        }
    }

    #[test]
    fn an_end_that_moves_back_is_a_broken_promise() {
        let (mut world, _) = noticed();
        let earlier = json!({"id": "2", "time": "2026-01-05T08:00:00Z"});
        world.oracles.notice_is_given(&earlier, POOL.to_owned());
        assert_eq!(writes(&mut world, END, 1), None);
        let broken = writes(&mut world, END - 3600, 2).unwrap();
        assert!(broken.contains("ends earlier"), "{broken}");
    }

    #[test]
    fn a_notice_without_effect_is_a_broken_promise_when_it_is_handled_and_when_it_is_not() {
        for (is_handled, promise) in [(true, "is poisoned until None"), (false, "dead-letter")] {
            let (mut world, event) = noticed();
            world.notice_is_over(&event, is_handled);
            let broken = world.oracles.broken.unwrap();
            assert!(broken.contains(promise), "{broken}");
        }
        let (mut world, _) = noticed();
        world.oracles.notices_at_rest(&world.tables);
        assert!(world.oracles.broken.unwrap().contains("at rest"));
    }
}
