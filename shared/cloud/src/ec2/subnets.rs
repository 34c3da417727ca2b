//! Subnets: the zones that they are in.

use std::collections::BTreeMap;

use aws_sdk_ec2::types as ec2;

use crate::error::{CallError, failed};

/// Returns the zone of each subnet, by its name in this account. Subnets that EC2 does not know are absent.
///
/// The request uses a filter, so that a subnet that is gone does not fail the others.
///
/// # Errors
/// The call fails.
pub async fn zones(
    client: &aws_sdk_ec2::Client,
    ids: &[String],
) -> Result<BTreeMap<String, String>, CallError> {
    let filter = ec2::Filter::builder().name("subnet-id").set_values(Some(ids.to_vec())).build();
    let mut found = BTreeMap::new();
    let mut subnets = client.describe_subnets().filters(filter).into_paginator().items().send();
    while let Some(subnet) = subnets.next().await {
        let subnet = subnet.map_err(failed("ec2:DescribeSubnets"))?;
        if let (Some(id), Some(zone)) = (subnet.subnet_id(), subnet.availability_zone()) {
            found.insert(id.to_owned(), zone.to_owned());
        }
    }
    Ok(found)
}
