//! No pool is launched into that does not save what the owner asks for, by the Spot prices that EC2 has told last.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::inheritance::{launched, swap_of};
use super::{JUST_BEFORE, Oracles};
use crate::fleet::Fleet;
use crate::virtual_time::now;

/// The age of a price at a launch: half an hour, and the time of a step with its repetition.
const PRICED_FOR: SignedDuration = SignedDuration::from_mins(35);

/// Spot prices by (type, zone name), in millionths of a US dollar an hour.
type PriceOfPool = BTreeMap<(String, String), u32>;

/// The Spot prices of a history, and when EC2 was asked for them.
#[derive(Debug, Clone)]
pub(super) struct SpotPrices {
    /// Each change with its time.
    changes: Vec<(Timestamp, PriceOfPool)>,
    /// The times of EC2's answers.
    told_at: Vec<Timestamp>,
}

impl SpotPrices {
    /// Returns the prices of the beginning, which EC2 has told nobody yet.
    pub(super) fn of(fleet: &Fleet) -> Self {
        Self { changes: vec![(Timestamp::MIN, fleet.catalog().spot.clone())], told_at: Vec::new() }
    }

    /// Notes a change of the prices.
    pub(super) fn look(&mut self, fleet: &Fleet) {
        let present = &fleet.catalog().spot;
        if self.changes.last().is_none_or(|(_, last)| last != present) {
            self.changes.push((now(), present.clone()));
        }
    }

    /// Notes that EC2 tells the prices.
    pub(super) fn are_told(&mut self) {
        self.told_at.push(now());
    }

    /// Returns the lowest price of a pool that EC2 may have told since then.
    fn lowest_told(&self, pool: &(String, String), since: Timestamp) -> Option<u32> {
        let told = self.told_at.iter().filter(|at| **at >= since);
        told.flat_map(|at| self.shown_at(*at)).filter_map(|prices| prices.get(pool).copied()).min()
    }

    /// Returns the prices that an answer may have shown. It may be old.
    fn shown_at(&self, at: Timestamp) -> impl Iterator<Item = &PriceOfPool> {
        let until = move |number: usize| self.changes.get(number + 1).map(|(next, _)| *next);
        let may_show = move |number: usize, from: Timestamp| {
            from <= at && until(number).is_none_or(|until| until >= at - JUST_BEFORE)
        };
        let changes = self.changes.iter().enumerate();
        changes.filter(move |(number, (from, _))| may_show(*number, *from)).map(|(_, (_, prices))| prices)
    }
}

impl Oracles {
    /// Asks what must hold after a launch of ours. A Spot instance of another type than the old one's is launched only into a
    /// pool whose price was known, and saves enough beside the old type On-Demand; for an instance at risk, it costs no more.
    ///
    /// Spot of the old one's own type never costs more than On-Demand, so that its price may be unknown.
    pub(super) fn after_purchase(&mut self, sent_at: Timestamp, before: &Fleet, after: &Fleet) {
        for newcomer in launched(before, after).filter(|newcomer| newcomer.is_spot()) {
            let old = swap_of(&newcomer.client_token).and_then(|(_, old)| before.instances().get(old));
            let Some(old) = old.filter(|old| old.instance_type != newcomer.instance_type) else { continue };
            let on_demand = after.catalog().on_demand.get(&old.instance_type).copied().unwrap_or_default();
            let asked = self.settings.min_saving_percent.min(100);
            let percent = u64::from(if old.is_spot() { 100 } else { 100 - asked });
            let pool = (newcomer.instance_type.clone(), newcomer.zone.clone());
            let told = self.spot_prices.lowest_told(&pool, sent_at - PRICED_FOR);
            let is_worth_it =
                told.is_some_and(|price| u64::from(price) * 100 <= u64::from(on_demand) * percent);
            self.holds(is_worth_it, || {
                format!(
                    "{} replaces {} in {pool:?}, whose price was {told:?}; {} costs {on_demand} On-Demand",
                    newcomer.id, old.id, old.instance_type
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtual_time::BEGIN;

    fn at(minutes: i64) -> Timestamp {
        BEGIN + SignedDuration::from_mins(minutes)
    }

    #[test]
    fn a_price_counts_from_its_change_until_a_moment_after_the_next() {
        let pool = ("m5.large".to_owned(), "us-east-1a".to_owned());
        let prices = |price| PriceOfPool::from([(pool.clone(), price)]);
        let changes = vec![(Timestamp::MIN, prices(30)), (at(10), prices(90)), (at(20), prices(50))];
        let told = |minutes: &[i64], since| {
            let told_at = minutes.iter().map(|minutes| at(*minutes)).collect();
            SpotPrices { changes: changes.clone(), told_at }.lowest_told(&pool, at(since))
        };
        assert_eq!(told(&[], 0), None, "nobody has asked");
        assert_eq!(told(&[5], 0), Some(30));
        assert_eq!(told(&[5], 6), None, "that was long ago");
        assert_eq!(told(&[10], 0), Some(30), "the answer may be old");
        assert_eq!(told(&[12], 0), Some(90));
        assert_eq!(told(&[12, 25], 0), Some(50));
    }
}
