//! The regions that an account has enabled.

use aws_sdk_ec2::types::Filter;
use spot_domain::Region;

use crate::error::{CallError, failed, unreadable};

const DESCRIBE: &str = "ec2:DescribeRegions";

/// Returns the regions that the client's account has enabled, sorted: those without opt-in, and those that it
/// has opted into. <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeRegions.html>
///
/// # Errors
/// The call fails, or its answer names a region that is none. The result is never "no region" then.
pub async fn enabled(client: &aws_sdk_ec2::Client) -> Result<Vec<Region>, CallError> {
    let enabled =
        Filter::builder().name("opt-in-status").values("opt-in-not-required").values("opted-in").build();
    let answer = client.describe_regions().filters(enabled).send().await.map_err(failed(DESCRIBE))?;
    let mut regions = answer
        .regions()
        .iter()
        .filter(|region| region.opt_in_status() != Some("not-opted-in"))
        .map(|region| region.region_name().unwrap_or_default().parse::<Region>())
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable(DESCRIBE))?;
    if regions.is_empty() {
        return Err(CallError::malformed(DESCRIBE, "the answer names no region"));
    }
    regions.sort();
    Ok(regions)
}
