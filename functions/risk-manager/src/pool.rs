//! The pool of an interrupted instance. The event names neither type nor zone id. The event may be handled after
//! EC2 has forgotten the instance, out of a backlog or out of the dead-letter queue.

use spot_cloud::ec2::pools::{self, Lookup};
use spot_cloud::tables::swaps::Swaps;
use spot_domain::Pool;

use crate::error::RiskError;
use crate::interruption::Interruption;

/// Returns the pool of the event's instance; `None` if the instance is not Spot. Asks EC2 for the instance, then
/// for its Spot request, then the Swaps table for the swap that launched it.
///
/// The Swaps table is read only if EC2 does not tell the pool: it knows nothing of the instance any more, or can't be
/// asked where the instance is. The key has the account and region that AWS stamped on the event. A forged row there can
/// poison a wrong pool of that region, which keeps launches out for some days and harms no running instance. A forged
/// row can also keep the right pool clear, which is no worse than no row.
///
/// # Errors
/// Neither EC2 nor the table tells the pool. The error says why EC2 does not.
pub async fn of(
    event: &Interruption,
    ec2: &aws_sdk_ec2::Client,
    swaps: &Swaps,
) -> Result<Option<Pool>, RiskError> {
    let Interruption { account_id, region, instance_id: id, .. } = event;
    let untold: RiskError = match pools::of_instance(ec2, region, id).await {
        Ok(Lookup::Pool(pool)) => return Ok(Some(pool)),
        Ok(Lookup::NotSpot) => return Ok(None),
        Ok(Lookup::ZoneUnknown(zone)) => RiskError::ZoneUnknown(id.clone(), zone),
        Ok(Lookup::Gone) => RiskError::InstanceUnknown(id.clone()),
        Err(error) => error.into(),
    };
    let pool = swaps.pool_of(account_id, region, id).await?;
    if pool.is_some() {
        tracing::warn!(instance_id = %id, "its pool is that of the swap that launched it: {untold}");
    }
    pool.map(Some).ok_or(untold)
}
