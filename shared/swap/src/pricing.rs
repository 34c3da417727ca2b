//! The prices of a phase: one call for all Spot prices, and the On-Demand price of each kind of old instance,
//! which the function remembers. If a price can't be had, it is unknown, and only the old instance's own type
//! remains.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use spot_cloud::prices::SpotPrices;
use spot_cloud::{CallError, RegionClients, prices};
use spot_domain::ids::InstanceType;
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
    work.priced_at.is_none_or(|at| Timestamp::now().duration_since(at) > PRICED_FOR)
}

/// A candidate with the pools that are cheaper than its old instance, or the reason why there is none.
pub type Priced = Result<Candidate, NotSwapped>;

/// Notes the prices of each candidate, and drops its pools that save too little.
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
    let limits =
        Limits { min_saving_percent: work.settings.min_saving_percent, spot_max_price: work.spot_max_price };
    candidates.into_iter().map(|candidate| cheaper(candidate, limits)).collect()
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
    let types: BTreeSet<&InstanceType> =
        priced().flat_map(|(c, _)| c.pools.iter().map(|p| &p.instance_type)).collect();
    if types.is_empty() {
        return Ok(SpotPrices::new());
    }
    prices::spot(&clients.ec2, &types, &products).await
}

type OnDemand = BTreeMap<(InstanceType, UsageOperation), Usd>;

/// Returns the On-Demand prices. After the first failure the other prices are unknown: each call would wait for
/// the same failure.
async fn on_demand_prices(context: &Context, work: &Work, candidates: &[Candidate]) -> OnDemand {
    let kinds: BTreeSet<_> =
        candidates.iter().filter_map(|c| Some((c.instance_type.clone(), c.billed_as.clone()?))).collect();
    let mut found = OnDemand::new();
    for (instance_type, billed_as) in kinds {
        match prices::on_demand(&context.stack, &work.lease.region, &instance_type, &billed_as).await {
            Ok(price) => found.extend(price.map(|price| ((instance_type, billed_as), price))),
            Err(error) => {
                tracing::warn!("On-Demand prices are not known: {error}");
                break;
            }
        }
    }
    found
}

fn prices_of(candidate: &Candidate, spot: &SpotPrices, on_demand: &OnDemand) -> Prices {
    let Some(billed_as) = &candidate.billed_as else { return Prices::default() };
    let price = |instance_type: &InstanceType| {
        let product = billed_as.spot_product()?.to_owned();
        let key = (instance_type.clone(), candidate.availability_zone.clone(), product);
        Some((instance_type.clone(), *spot.get(&key)?))
    };
    Prices {
        on_demand: on_demand.get(&(candidate.instance_type.clone(), billed_as.clone())).copied(),
        spot: candidate.pools.iter().filter_map(|pool| price(&pool.instance_type)).collect(),
    }
}
