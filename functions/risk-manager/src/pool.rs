//! The pool of an interrupted instance. The event names neither type nor zone id, and may come when EC2 has forgotten the
//! instance: out of a backlog, or again out of the dead-letter queue.

use spot_cloud::pools::{self, Lookup};
use spot_cloud::swaps::Swaps;
use spot_domain::Pool;

use crate::error::RiskError;
use crate::event::Interruption;

/// Returns the pool of the event's instance; `None` if it is not Spot. Asks EC2 for the instance, then for its Spot
/// request, then the Swaps table for the swap that launched it.
///
/// That table is asked only about what EC2 knows nothing of any more, under the account and region that AWS stamped on
/// the event. Whoever may write it could have a wrong pool of that region poisoned so, which keeps launches out for some
/// days and harms no running instance, and could let the right one go unpoisoned, as it would without the row.
///
/// # Errors
/// Nobody knows the instance or its zone, or a call fails.
pub async fn of(
    event: &Interruption,
    ec2: &aws_sdk_ec2::Client,
    swaps: &Swaps,
) -> Result<Option<Pool>, RiskError> {
    let Interruption { account_id, region, instance_id: id, .. } = event;
    match pools::of_instance(ec2, region, id).await? {
        Lookup::Pool(pool) => Ok(Some(pool)),
        Lookup::NotSpot => Ok(None),
        Lookup::ZoneUnknown(zone) => Err(RiskError::ZoneUnknown(id.clone(), zone)),
        Lookup::Gone => {
            let pool = swaps.pool_of(account_id, region, id).await?;
            pool.map(Some).ok_or_else(|| RiskError::InstanceUnknown(id.clone()))
        }
    }
}
