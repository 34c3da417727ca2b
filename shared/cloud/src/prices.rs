//! What an instance costs an hour: Spot from EC2's price history, On-Demand from the Price List
//! API. A price that can't be had is `None`, never a guess.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

use aws_sdk_ec2::types as ec2;
use aws_sdk_pricing::types::{Filter, FilterType};
use rust_decimal::Decimal;
use serde_json::Value;
use spot_domain::{InstanceType, Region, Usd};

use crate::clients::Stack;
use crate::error::{CallError, failed};

/// The Price List API answers in few regions; its answers cover all of them.
const PRICE_LIST_REGION: &str = "us-east-1";
/// Spot prices, USD an hour, by type and zone name.
pub type SpotPrices = HashMap<(InstanceType, String), Usd>;

/// A Lambda instance lives for hours; On-Demand prices change in years.
static ON_DEMAND: Mutex<Option<HashMap<(Region, InstanceType), Usd>>> = Mutex::new(None);

/// The Linux Spot prices of these types, USD an hour, now, by type and zone name.
///
/// # Errors
/// The call fails.
pub async fn spot(
    client: &aws_sdk_ec2::Client,
    instance_types: &BTreeSet<InstanceType>,
) -> Result<SpotPrices, CallError> {
    let types = instance_types.iter().map(|t| ec2::InstanceType::from(t.as_str())).collect();
    let mut prices = client
        .describe_spot_price_history()
        .set_instance_types(Some(types))
        .product_descriptions("Linux/UNIX")
        .start_time(std::time::SystemTime::now().into())
        .into_paginator()
        .items()
        .send();
    let mut found = SpotPrices::new();
    while let Some(price) = prices.next().await {
        let price = price.map_err(failed("ec2:DescribeSpotPriceHistory"))?;
        let key = price.instance_type().and_then(|t| t.as_str().parse().ok()).zip(price.availability_zone());
        if let (Some((instance_type, zone)), Some(usd)) =
            (key, price.spot_price().and_then(|p| p.parse().ok()))
        {
            // Newest first: the price in force comes before those it replaced.
            found.entry((instance_type, zone.to_owned())).or_insert(Usd::new(usd));
        }
    }
    Ok(found)
}

/// The Linux On-Demand price of a type in a region, USD an hour.
///
/// # Errors
/// The call fails.
pub async fn on_demand(
    stack: &Stack,
    region: &Region,
    instance_type: &InstanceType,
) -> Result<Option<Usd>, CallError> {
    let key = (region.clone(), instance_type.clone());
    let known = || ON_DEMAND.lock().ok()?.as_ref()?.get(&key).copied();
    if let Some(price) = known() {
        return Ok(Some(price));
    }
    let config = stack.config().to_builder().region(aws_config::Region::new(PRICE_LIST_REGION)).build();
    let price = list_price(&aws_sdk_pricing::Client::new(&config), region, instance_type).await?;
    if let (Some(price), Ok(mut prices)) = (price, ON_DEMAND.lock()) {
        prices.get_or_insert_default().insert(key, price);
    }
    Ok(price)
}

async fn list_price(
    client: &aws_sdk_pricing::Client,
    region: &Region,
    instance_type: &InstanceType,
) -> Result<Option<Usd>, CallError> {
    let call = "pricing:GetProducts";
    let mut request = client.get_products().service_code("AmazonEC2").max_results(10);
    let filters = [
        ("regionCode", region.as_str()),
        ("instanceType", instance_type.as_str()),
        ("operatingSystem", "Linux"),
        ("tenancy", "Shared"),
        ("preInstalledSw", "NA"),
        ("capacitystatus", "Used"),
        ("licenseModel", "No License required"),
    ];
    for (field, value) in filters {
        let filter = Filter::builder().r#type(FilterType::TermMatch).field(field).value(value).build();
        request = request.filters(filter.map_err(|e| CallError::malformed(call, e.to_string()))?);
    }
    let answer = request.send().await.map_err(failed(call))?;
    Ok(answer.price_list().iter().find_map(|product| hourly(product)))
}

/// The hourly On-Demand price in one product of the price list.
fn hourly(product: &str) -> Option<Usd> {
    let product: Value = serde_json::from_str(product).ok()?;
    let terms = product.get("terms")?.get("OnDemand")?.as_object()?;
    terms
        .values()
        .filter_map(|term| term.get("priceDimensions")?.as_object())
        .flat_map(serde_json::Map::values)
        .filter(|dimension| dimension.get("unit").and_then(Value::as_str) == Some("Hrs"))
        .filter_map(|dimension| dimension.get("pricePerUnit")?.get("USD")?.as_str()?.parse::<Decimal>().ok())
        .find(|price| !price.is_zero())
        .map(Usd::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_price_is_the_hourly_dimension_of_the_on_demand_term() {
        let product = r#"{"product":{"attributes":{"instanceType":"m5.large"}},"terms":{"OnDemand":{"A.B":{
            "priceDimensions":{"A.B.C":{"unit":"Hrs","pricePerUnit":{"USD":"0.0960000000"}}}}}}}"#;
        assert_eq!(hourly(product).map(|p| p.per_month().to_string()).as_deref(), Some("70.08"));
        assert_eq!(hourly(r#"{"terms":{"Reserved":{}}}"#), None);
        assert_eq!(hourly("not json"), None);
    }
}
