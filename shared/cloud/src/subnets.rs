//! Subnets: in which zone they are, and whether they have room.

use std::collections::BTreeMap;

use aws_sdk_ec2::types as ec2;

use crate::error::{CallError, failed};

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// Its zone's name in this account.
    pub zone: String,
    /// Addresses that are free.
    pub free_addresses: u32,
}

/// Describes subnets by id; those that EC2 does not know are absent from the answer. Asked by filter, so that one
/// that is gone does not fail the others.
///
/// # Errors
/// The call fails.
pub async fn describe(
    client: &aws_sdk_ec2::Client,
    ids: &[String],
) -> Result<BTreeMap<String, Subnet>, CallError> {
    let filter = ec2::Filter::builder().name("subnet-id").set_values(Some(ids.to_vec())).build();
    let mut found = BTreeMap::new();
    let mut subnets = client.describe_subnets().filters(filter).into_paginator().items().send();
    while let Some(subnet) = subnets.next().await {
        let subnet = subnet.map_err(failed("ec2:DescribeSubnets"))?;
        let free = subnet.available_ip_address_count().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        if let (Some(id), Some(zone)) = (subnet.subnet_id(), subnet.availability_zone()) {
            found.insert(id.to_owned(), Subnet { zone: zone.to_owned(), free_addresses: free });
        }
    }
    Ok(found)
}
