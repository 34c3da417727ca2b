//! The prices of a phase: one call for all Spot prices, and the On-Demand price of each kind of old instance,
//! which the function remembers. If a price can't be had, it is unknown, and only the old instance's own type
//! remains.
//!
//! A replacement by On-Demand is asked for, whatever it costs: prices only say what it costs.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use spot_cloud::prices::SpotPrices;
use spot_cloud::{CallError, RegionClients, prices};
use spot_domain::clock;
use spot_domain::ids::InstanceType;
use spot_domain::swap::market::Market;
use spot_domain::swap::pricing::{Limits, Prices, UsageOperation};
use spot_domain::swap::report::NotSwapped;
use spot_domain::swap::selection::Candidate;
use spot_domain::words::first_few;
use spot_domain::{Reason, Usd};

use crate::Context;
use crate::work::Work;

/// The age up to which Spot prices are used: they move slowly.
const PRICED_FOR: SignedDuration = SignedDuration::from_mins(30);

/// Returns true if the prices in `work` are too old for a launch.
#[must_use]
pub fn is_stale(work: &Work) -> bool {
    work.priced_at.is_none_or(|at| clock::now().duration_since(at) > PRICED_FOR)
}

/// A candidate with the pools that are cheaper than its old instance, or the reason why there is none.
pub type Priced = Result<Candidate, NotSwapped>;

/// Notes the prices of each candidate, and drops the Spot pools that save too little.
pub async fn keep_cheaper(
    context: &Context,
    clients: &RegionClients,
    work: &Work,
    mut candidates: Vec<Candidate>,
) -> Vec<Priced> {
    let spot = spot_prices(clients, &candidates).await.unwrap_or_else(|error| {
        tracing::warn!("Spot prices are not known: {error}");
        SpotPrices::new()
    });
    let on_demand = on_demand_prices(context, work, &candidates).await;
    for candidate in &mut candidates {
        candidate.prices = prices_of(candidate, &spot, &on_demand);
    }
    candidates.into_iter().map(|candidate| judged(work, candidate)).collect()
}

fn judged(work: &Work, candidate: Candidate) -> Priced {
    let limits = limits(work, candidate.from);
    if candidate.to.is_spot() { cheaper(candidate, limits) } else { Ok(candidate) }
}

/// Returns the limits for the replacement of an instance in this market. A Spot instance that is named is at risk: On-Demand
/// would take its place, and need not be undercut by more than nothing.
fn limits(work: &Work, from: Market) -> Limits {
    let min_saving_percent = if from.is_spot() { 0 } else { work.settings.min_saving_percent };
    Limits { min_saving_percent, spot_max_price: work.spot_max_price }
}

fn cheaper(mut candidate: Candidate, limits: Limits) -> Priced {
    let mut refused = Vec::new();
    let (prices, old) = (candidate.prices.clone(), candidate.instance_type.clone());
    candidate.pools.retain(|pool| match prices.refusal(&pool.instance_type, &old, limits) {
        None => true,
        Some(why) => {
            refused.push(format!("{pool}: {why}"));
            false
        }
    });
    let refused = first_few(refused);
    if candidate.pools.is_empty() {
        return Err(NotSwapped::new(&candidate.instance_id, Reason::NotCheaper, refused));
    }
    candidate.not_cheaper = refused;
    Ok(candidate)
}

async fn spot_prices(clients: &RegionClients, candidates: &[Candidate]) -> Result<SpotPrices, CallError> {
    let priced = || candidates.iter().filter_map(|c| Some((c, c.billed_as.as_ref()?.spot_product()?)));
    let products: BTreeSet<&'static str> = priced().map(|(_, product)| product).collect();
    let types: BTreeSet<&InstanceType> = priced().flat_map(|(c, _)| types_in(Market::Spot, c)).collect();
    if types.is_empty() {
        return Ok(SpotPrices::new());
    }
    prices::spot(&clients.ec2, &types, &products).await
}

type OnDemand = BTreeMap<(InstanceType, UsageOperation), Usd>;

/// Returns true if the candidate is in a Local Zone. On-Demand costs more there than in the region, whose prices are the
/// only ones that are asked for. Spot prices are published for each zone.
fn is_in_local_zone(candidate: &Candidate) -> bool {
    candidate.pools.iter().any(|pool| pool.az_id.is_local_zone())
}

/// Returns the On-Demand prices. After the first failure the other prices are unknown: each call would wait for
/// the same failure.
async fn on_demand_prices(context: &Context, work: &Work, candidates: &[Candidate]) -> OnDemand {
    let listed = candidates.iter().filter(|candidate| !is_in_local_zone(candidate));
    let priced = listed.filter_map(|c| Some((c, c.billed_as.as_ref()?)));
    let kinds: BTreeSet<(InstanceType, UsageOperation)> = priced
        .flat_map(|(c, billed_as)| {
            // The price of the old instance's type as On-Demand is the measure, whatever its market is.
            let types = types_in(Market::OnDemand, c).chain([&c.instance_type]);
            types.map(|instance_type| (instance_type.clone(), billed_as.clone()))
        })
        .collect();
    let mut found = OnDemand::new();
    for (instance_type, billed_as) in kinds {
        match context.price_list.on_demand(&work.lease.region, &instance_type, &billed_as).await {
            Ok(price) => found.extend(price.map(|price| ((instance_type, billed_as), price))),
            Err(error) => {
                tracing::warn!("On-Demand prices are not known: {error}");
                break;
            }
        }
    }
    found
}

/// Returns the types whose price in this market the swap of a candidate turns on: its own, and its replacements'.
fn types_in(market: Market, candidate: &Candidate) -> impl Iterator<Item = &InstanceType> {
    let own = (candidate.from == market).then_some(&candidate.instance_type);
    let of_pools = candidate.pools.iter().filter(move |_| candidate.to == market);
    own.into_iter().chain(of_pools.map(|pool| &pool.instance_type))
}

fn prices_of(candidate: &Candidate, spot: &SpotPrices, on_demand: &OnDemand) -> Prices {
    let Some(billed_as) = &candidate.billed_as else { return Prices::default() };
    let price = |instance_type: &InstanceType| {
        let product = billed_as.spot_product()?.to_owned();
        let key = (instance_type.clone(), candidate.availability_zone.clone(), product);
        Some((instance_type.clone(), *spot.get(&key)?))
    };
    let is_listed = !is_in_local_zone(candidate);
    let on_demand_price = |instance_type: &InstanceType| {
        let found = on_demand.get(&(instance_type.clone(), billed_as.clone())).filter(|_| is_listed);
        found.map(|price| (instance_type.clone(), *price))
    };
    let own = &candidate.instance_type;
    let spot: BTreeSet<&InstanceType> = types_in(Market::Spot, candidate).collect();
    let others = types_in(Market::OnDemand, candidate).filter(|other| *other != own);
    Prices {
        on_demand: on_demand_price(own).map(|(_, price)| price),
        spot: spot.into_iter().filter_map(price).collect(),
        on_demand_of_others: others.filter_map(on_demand_price).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Work {
        serde_json::from_str(include_str!("../tests/payloads/3fb1158-group-after-discover.json")).unwrap()
    }

    fn candidate(from: Market, to: Market, pools: &[&str]) -> Candidate {
        let candidate = run().queue.remove(0);
        let pool = |kind: &&str| format!("us-east-1#use1-az6#{kind}").parse().unwrap();
        let (instance_type, billed_as) = ("m5.large".parse().unwrap(), Some(UsageOperation::linux()));
        Candidate { from, to, instance_type, billed_as, pools: pools.iter().map(pool).collect(), ..candidate }
    }

    fn priced(candidate: Candidate, spot: &[(&str, &str)], on_demand: &[(&str, &str)]) -> Priced {
        let usd = |text: &str| Usd::new(text.parse().unwrap());
        let zone = candidate.availability_zone.clone();
        let spot = spot.iter().map(|(kind, price)| {
            ((kind.parse().unwrap(), zone.clone(), "Linux/UNIX".to_owned()), usd(price))
        });
        let on_demand = on_demand
            .iter()
            .map(|(kind, price)| ((kind.parse().unwrap(), UsageOperation::linux()), usd(price)));
        let prices = prices_of(&candidate, &spot.collect(), &on_demand.collect());
        judged(&run(), Candidate { prices, ..candidate })
    }

    const SPOT: [(&str, &str); 3] = [("m5.large", "0.034"), ("c5.large", "0.095"), ("r5.large", "0.097")];
    const ON_DEMAND: [(&str, &str); 2] = [("m5.large", "0.096"), ("c5.large", "0.085")];

    #[test]
    fn a_rescue_is_measured_by_what_on_demand_costs() {
        let spot = candidate(Market::Spot, Market::Spot, &["c5.large", "r5.large"]);
        let rescued = priced(spot, &SPOT, &ON_DEMAND).unwrap();
        assert_eq!(rescued.pools.len(), 1, "a cent below On-Demand will do, a cent above it will not");
        assert!(rescued.not_cheaper.contains("more than the $0.096 of m5.large On-Demand"), "{rescued:?}");
        let c5 = "c5.large".parse().unwrap();
        assert_eq!(rescued.monthly_saving(&c5).unwrap().to_string(), "-44.53", "than the Spot price before");
        let on_demand = candidate(Market::OnDemand, Market::Spot, &["m5.large", "c5.large"]);
        let swapped = priced(on_demand, &SPOT, &ON_DEMAND).unwrap();
        assert_eq!(swapped.pools.len(), 1, "an ordinary swap still saves what the setting asks for");
    }

    #[test]
    fn the_on_demand_price_of_the_region_is_none_of_a_local_zone() {
        let mut on_demand = candidate(Market::OnDemand, Market::Spot, &["m5.large", "c5.large"]);
        for pool in &mut on_demand.pools {
            pool.az_id = "use1-bos1-az1".parse().unwrap();
        }
        let cheap = [("m5.large", "0.034"), ("c5.large", "0.035")];
        let swapped = priced(on_demand, &cheap, &ON_DEMAND).unwrap();
        let m5 = "m5.large".parse().unwrap();
        assert_eq!((swapped.pools.len(), &swapped.pools[0].instance_type), (1, &m5), "the own type alone");
        assert_eq!(swapped.monthly_saving(&m5), None, "never a guess");
        assert!(swapped.not_cheaper.contains("the On-Demand price of m5.large is not known"), "{swapped:?}");
    }

    #[test]
    fn the_way_back_is_refused_by_no_price_and_says_what_it_costs() {
        let asked = candidate(Market::Spot, Market::OnDemand, &["m5.large", "c5.large", "r5.large"]);
        let back = priced(asked, &SPOT, &ON_DEMAND).unwrap();
        assert_eq!(back.pools.len(), 3);
        let saving = |kind: &str| back.monthly_saving(&kind.parse().unwrap()).map(|usd| usd.to_string());
        assert_eq!(saving("m5.large").as_deref(), Some("-45.26"));
        assert_eq!(saving("c5.large").as_deref(), Some("-37.23"));
        assert_eq!(saving("r5.large"), None, "its On-Demand price is not known");
    }
}
