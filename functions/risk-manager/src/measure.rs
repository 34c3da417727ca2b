//! The hourly measure of the poisoned share of each region. More than `max_poisoned_share_of_region` rings an
//! alarm, and stops nothing. A gate that opened because too much is poisoned would open in the very hour that
//! needs it closed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_ec2::types::{InstanceTypeOffering, LocationType};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use serde_json::json;
use spot_cloud::Stack;
use spot_cloud::ec2::regions;
use spot_cloud::error::{CallError, failed};
use spot_cloud::metrics;
use spot_cloud::tables::settings;
use spot_domain::clock;
use spot_domain::metrics::Metric;
use spot_domain::risk::poison::poisoned_share_percent;
use spot_domain::words::first_few;
use spot_domain::{Pool, Region};
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::RiskError;
use crate::poison::RiskTable;

/// The number of regions that are measured at a time.
const SIDE_BY_SIDE: usize = 8;
/// The time for all regions: the function has half a minute. A region that has not answered by then is not
/// measured.
const ALL_REGIONS: Duration = Duration::from_secs(20);
/// The part of it for the list of the enabled regions. Without that list, every region is tried.
const LIST: Duration = Duration::from_secs(5);

/// The result of the measure.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Measure {
    /// Every region that has a poisoned pool and that the stack's own account has enabled, and the stack's own.
    pub regions: Vec<Share>,
    /// Those of these regions whose pools could not be counted, and why.
    pub unmeasured: Vec<String>,
    /// The number of other regions with a poisoned pool. The stack's own account has not enabled them, a service control
    /// policy denies them, or a member has made them up: nothing counts their pools.
    pub left_out: usize,
}

/// The poisoned pools of each region.
type Poisoned = BTreeMap<Region, BTreeSet<Pool>>;

/// The poisoned share of a region.
#[derive(Debug, PartialEq, Serialize)]
pub struct Share {
    pub region: Region,
    /// The number of the region's pools that are poisoned, or whose row can't be read.
    pub poisoned: usize,
    /// The number of pools that the region offers: instance types, in each zone that has them.
    pub pools: usize,
    /// The part of `pools` that is poisoned, in percent.
    pub share_percent: f64,
    /// True if the share is more than `max_poisoned_share_of_region`.
    pub exceeded: bool,
}

/// The answer of one region.
enum Measured {
    /// Its share; `None` if it offers nothing.
    Share(Option<Share>),
    /// A service control policy denies the region, for as long as the organization wants.
    LeftOut(CallError),
    /// It could not be measured, for this reason.
    Failed(String),
}

/// Measures all regions. A region that can't be measured hides no other.
///
/// # Errors
/// The table does not answer, or not one region could be measured.
pub async fn run(stack: &Stack, table: &RiskTable) -> Result<Measure, RiskError> {
    let now = clock::now();
    let mut poisoned = Poisoned::from([(stack.region.clone(), BTreeSet::new())]);
    for (pool, expires_at) in table.poisoned().await? {
        let Ok(pool) = pool.parse::<Pool>() else { continue };
        if expires_at.is_none_or(|end| end > now) {
            poisoned.entry(pool.region.clone()).or_default().insert(pool);
        }
    }
    let end = Instant::now() + ALL_REGIONS;
    let left_out = match enabled(stack).await {
        Some(enabled) => leave_out(&mut poisoned, &enabled, &stack.region),
        None => 0,
    };
    let measured: BTreeMap<Region, Measured> = stream::iter(poisoned)
        .map(|(region, pools)| async move {
            let measured = match timeout_at(end, one(stack, region.clone(), &pools)).await {
                Ok(share) => Measured::of(share, region == stack.region),
                Err(_) => Measured::Failed(format!("no answer within {} s", ALL_REGIONS.as_secs())),
            };
            (region, measured)
        })
        .buffer_unordered(SIDE_BY_SIDE) // a region that hangs takes one place, and delays no other
        .collect()
        .await;
    let mut measure = Measure { left_out, ..Measure::default() };
    for (region, measured) in measured {
        measure.add(&region, measured);
    }
    metrics::emit(&[(Metric::UnmeasuredRegions, json!(measure.unmeasured.len()))]);
    if measure.regions.is_empty() && !measure.unmeasured.is_empty() {
        return Err(RiskError::Unmeasured(measure.unmeasured));
    }
    for share in &measure.regions {
        let figures = [
            (Metric::PoisonedSharePercent, json!(share.share_percent)),
            (Metric::PoisonedShareExceeded, json!(u8::from(share.exceeded))),
        ];
        metrics::emit_of(&share.region, &figures);
    }
    Ok(measure)
}

impl Measured {
    /// Sorts the answer of a region. In the stack's own region a denial is a failure: the stack works there, so that the
    /// policy is about the call and not about the region.
    fn of(share: Result<Option<Share>, RiskError>, is_own: bool) -> Self {
        match share {
            Ok(share) => Self::Share(share),
            Err(RiskError::Call(error)) if !is_own && error.is_denied_by_organization() => {
                Self::LeftOut(error)
            }
            Err(error) => Self::Failed(error.to_string()),
        }
    }
}

impl Measure {
    fn add(&mut self, region: &Region, measured: Measured) {
        match measured {
            Measured::Share(share) => self.regions.extend(share),
            Measured::LeftOut(error) => {
                tracing::info!(%region, "left out: {error}");
                self.left_out += 1;
            }
            Measured::Failed(error) => {
                tracing::warn!(%region, "not measured: {error}");
                self.unmeasured.push(format!("{region}: {error}"));
            }
        }
    }
}

/// Returns the regions that the stack's own account has enabled; `None` if EC2 does not tell.
async fn enabled(stack: &Stack) -> Option<BTreeSet<Region>> {
    let own = stack.own_access();
    let ec2 = stack.clients(&own, &stack.region, None).await.ec2;
    let why = match timeout(LIST, regions::enabled(&ec2)).await {
        Ok(Ok(enabled)) => return Some(enabled.into_iter().collect()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", LIST.as_secs()),
    };
    tracing::warn!("every region is tried, whether it is enabled or not: {why}");
    None
}

/// Takes out the regions in which the stack's own account can count no pools, and returns their number. A hub has a region
/// by its members' word alone, and one that is made up would take time from the others.
fn leave_out(poisoned: &mut Poisoned, enabled: &BTreeSet<Region>, own: &Region) -> usize {
    let is_measured = |region: &Region| region == own || enabled.contains(region);
    let others: Vec<String> =
        poisoned.keys().filter(|&region| !is_measured(region)).map(ToString::to_string).collect();
    poisoned.retain(|region, _| is_measured(region));
    let number = others.len();
    if number > 0 {
        tracing::info!("left out, as the stack's own account has not enabled them: {}", first_few(others));
    }
    number
}

async fn one(stack: &Stack, region: Region, poisoned: &BTreeSet<Pool>) -> Result<Option<Share>, RiskError> {
    let most = settings::load(stack, &stack.account_id, &region).await?.max_poisoned_share_of_region;
    let (pools, poisoned) = offered(stack, &region, poisoned).await?;
    Ok(share(region, poisoned, pools, most))
}

fn share(region: Region, poisoned: usize, pools: usize, most: u32) -> Option<Share> {
    let share_percent = poisoned_share_percent(poisoned, pools)?;
    Some(Share { region, poisoned, pools, share_percent, exceeded: share_percent > f64::from(most) })
}

/// Returns the number of pools that the region offers to the stack's own account, and how many of these are
/// poisoned. A type is offered by zone. A row for a pool that is not offered, which a member may have made up,
/// does not count.
async fn offered(
    stack: &Stack,
    region: &Region,
    poisoned: &BTreeSet<Pool>,
) -> Result<(usize, usize), CallError> {
    let own = stack.own_access();
    let mut offerings = stack
        .clients(&own, region, None)
        .await
        .ec2
        .describe_instance_type_offerings()
        .location_type(LocationType::AvailabilityZoneId)
        .into_paginator()
        .items()
        .send();
    let (mut pools, mut of_them_poisoned) = (0, 0);
    while let Some(offering) = offerings.next().await {
        let offering = offering.map_err(failed("ec2:DescribeInstanceTypeOfferings"))?;
        pools += 1;
        let is_poisoned = pool(region, &offering).is_some_and(|pool| poisoned.contains(&pool));
        of_them_poisoned += usize::from(is_poisoned);
    }
    Ok((pools, of_them_poisoned))
}

fn pool(region: &Region, offering: &InstanceTypeOffering) -> Option<Pool> {
    let az_id = offering.location()?.parse().ok()?;
    let instance_type = offering.instance_type()?.as_str().parse().ok()?;
    Some(Pool { region: region.clone(), az_id, instance_type })
}

#[cfg(test)]
mod tests {
    use spot_cloud::Kind;

    use super::*;

    #[test]
    fn a_region_that_a_member_has_made_up_takes_no_time_from_the_others() {
        let region = |name: &str| name.parse::<Region>().unwrap();
        let pools =
            |name: &str| BTreeSet::from([format!("{name}#use1-az6#m5.large").parse::<Pool>().unwrap()]);
        let all = ["aa-narnia-1", "eu-west-1", "us-east-1", "zz-narnia-2"];
        let mut poisoned: Poisoned = all.into_iter().map(|name| (region(name), pools(name))).collect();
        let enabled = BTreeSet::from([region("eu-west-1"), region("us-west-2")]);
        assert_eq!(leave_out(&mut poisoned, &enabled, &region("us-east-1")), 2);
        assert_eq!(poisoned.into_keys().collect::<Vec<_>>(), [region("eu-west-1"), region("us-east-1")]);
    }

    #[test]
    fn a_region_that_the_organization_denies_is_left_out_and_rings_no_alarm() {
        let refused = |policy: &str| {
            let words = format!(
                "User: arn:aws:sts::123456789012:assumed-role/a/b is not authorized to perform: \
                 ec2:DescribeInstanceTypeOfferings with an explicit deny in {policy}"
            );
            let error = CallError::malformed("ec2:DescribeInstanceTypeOfferings", words);
            let code = "UnauthorizedOperation".to_owned();
            Err(RiskError::Call(CallError { kind: Kind::Denied, code, ..error }))
        };
        let (by_organization, by_account) = ("a service control policy", "an identity-based policy");
        let mut measure = Measure { left_out: 1, ..Measure::default() };
        let region: Region = "eu-west-1".parse().unwrap();
        for (policy, is_own) in [(by_organization, false), (by_account, false), (by_organization, true)] {
            measure.add(&region, Measured::of(refused(policy), is_own));
        }
        assert_eq!((measure.left_out, measure.unmeasured.len()), (2, 2), "{:?}", measure.unmeasured);
        assert!(
            measure.unmeasured[0].contains(by_account) && measure.unmeasured[1].contains(by_organization)
        );
    }

    #[test]
    fn the_alarm_rings_above_the_setting_not_at_it() {
        let exceeded = |poisoned| share("us-east-1".parse().unwrap(), poisoned, 10, 20).unwrap().exceeded;
        assert!(!exceeded(2));
        assert!(exceeded(3));
        assert_eq!(share("us-east-1".parse().unwrap(), 1, 0, 20), None);
    }
}
