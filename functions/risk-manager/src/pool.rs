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
/// The Swaps table is read only if EC2 knows nothing of the instance any more. The key has the account and region
/// that AWS stamped on the event. A forged row there can poison a wrong pool of that region, which keeps launches
/// out for some days and harms no running instance. A forged row can also keep the right pool clear, which is no
/// worse than no row.
///
/// # Errors
/// Neither EC2 nor the table knows the instance or its zone, or a call fails.
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
