//! The hourly price of an instance: Spot from EC2's price history, On-Demand from the Price List API. A price
//! that can't be had is `None`, never a guess.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_ec2::types as ec2;
use rust_decimal::Decimal;
use spot_domain::clock;
use spot_domain::swap::pricing::UsageOperation;
use spot_domain::{InstanceType, Region, Usd};

use crate::error::{CallError, failed};
use crate::price_list::{PriceList, Product};

/// Spot prices in US dollars an hour, by type, zone name and `ProductDescription`.
pub type SpotPrices = HashMap<(InstanceType, String, String), Usd>;

/// Returns the present Spot prices of these types and products, in US dollars an hour.
///
/// # Errors
/// The call fails.
pub async fn spot(
    client: &aws_sdk_ec2::Client,
    instance_types: &BTreeSet<&InstanceType>,
    products: &BTreeSet<&'static str>,
) -> Result<SpotPrices, CallError> {
    let types = instance_types.iter().map(|t| ec2::InstanceType::from(t.as_str())).collect();
    let mut prices = client
        .describe_spot_price_history()
        .set_instance_types(Some(types))
        .set_product_descriptions(Some(products.iter().map(ToString::to_string).collect()))
        .start_time(clock::system_time().into())
        .into_paginator()
        .items()
        .send();
    let mut found = SpotPrices::new();
    while let Some(price) = prices.next().await {
        let price = price.map_err(failed("ec2:DescribeSpotPriceHistory"))?;
        let usd = price.spot_price().and_then(|p| p.parse::<Decimal>().ok()).filter(|p| *p > Decimal::ZERO);
        let instance_type = price.instance_type().and_then(|t| t.as_str().parse().ok());
        let product = price.product_description().map(|p| p.as_str().to_owned());
        if let (Some(instance_type), Some(zone), Some(product), Some(usd)) =
            (instance_type, price.availability_zone(), product, usd)
        {
            // The answer is sorted newest first: the price in force comes before the prices that it replaced.
            found.entry((instance_type, zone.to_owned(), product)).or_insert(Usd::new(usd));
        }
    }
    Ok(found)
}

impl PriceList {
    /// Returns the On-Demand price of a type in a region, in US dollars an hour, in shared tenancy. It is not that of the
    /// region's Local and Wavelength Zones. The price
    /// includes the operating system and the licence that `billed_as` stands for. A price that was found is kept for the life of the process.
    ///
    /// # Errors
    /// The call fails.
    pub async fn on_demand(
        &self,
        region: &Region,
        instance_type: &InstanceType,
        billed_as: &UsageOperation,
    ) -> Result<Option<Usd>, CallError> {
        let key = (region.clone(), instance_type.clone(), billed_as.clone());
        let known = || self.on_demand.lock().ok()?.get(&key).copied();
        if let Some(price) = known() {
            return Ok(Some(price));
        }
        let price = list_price(self, region, instance_type, billed_as).await?;
        if let (Some(price), Ok(mut prices)) = (price, self.on_demand.lock()) {
            prices.insert(key, price);
        }
        Ok(price)
    }
}

/// Asks for one product. `operation` alone identifies the operating system, the software on it and the owner
/// of the licence.
async fn list_price(
    list: &PriceList,
    region: &Region,
    instance_type: &InstanceType,
    billed_as: &UsageOperation,
) -> Result<Option<Usd>, CallError> {
    let attributes = [
        ("regionCode", region.as_str()),
        ("instanceType", instance_type.as_str()),
        ("operation", billed_as.as_str()),
        ("tenancy", "Shared"),
        ("capacitystatus", "Used"),
    ];
    Ok(list.products("AmazonEC2", &attributes).await?.iter().find_map(hourly))
}

/// Returns the hourly On-Demand price of a product.
fn hourly(product: &Product) -> Option<Usd> {
    let hourly = product.on_demand.iter().filter(|price| price.unit.as_deref() == Some("Hrs"));
    hourly.filter_map(|price| price.usd).find(|usd| !usd.is_zero()).map(Usd::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_price_is_the_hourly_dimension_of_the_on_demand_term() {
        let product = r#"{"product":{"attributes":{"instanceType":"m5.large"}},"terms":{"OnDemand":{"A.B":{
            "priceDimensions":{"A.B.C":{"unit":"Hrs","pricePerUnit":{"USD":"0.0960000000"}}}}}}}"#;
        let hourly = |product| hourly(&Product::parse(product)?);
        assert_eq!(hourly(product).map(|p| p.per_month().to_string()).as_deref(), Some("70.08"));
        assert_eq!(hourly(r#"{"terms":{"Reserved":{}}}"#), None);
        assert_eq!(hourly("not json"), None);
    }
}
