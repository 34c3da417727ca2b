//! The Price List API: the products of AWS, each with its On-Demand prices.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use aws_config::SdkConfig;
use aws_sdk_pricing::types::{Filter, FilterType};
use jiff::civil::Date;
use rust_decimal::Decimal;
use serde_json::{Map, Value};
use spot_domain::swap::pricing::UsageOperation;
use spot_domain::{InstanceType, Region, Usd};

use crate::error::{CallError, failed, unreadable};

/// The Price List API answers in few regions. Its answers cover all regions.
const REGION: &str = "us-east-1";
const CALL: &str = "pricing:GetProducts";

/// On-Demand prices in US dollars an hour, by region, type and what is billed.
type OnDemandPrices = HashMap<(Region, InstanceType, UsageOperation), Usd>;

/// The Price List API.
#[derive(Debug, Clone)]
pub struct PriceList {
    client: aws_sdk_pricing::Client,
    /// The prices that are known. A Lambda instance lives for hours; On-Demand prices change in years.
    pub(crate) on_demand: Arc<Mutex<OnDemandPrices>>,
}

/// A product, as far as prices need it. A field is `None` if the product lacks it, or has it in a form that can't be
/// read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Product {
    /// `EBS:VolumeUsage.gp3`, in some regions behind a prefix.
    pub usage_type: Option<String>,
    /// The date of publication.
    pub as_of: Option<Date>,
    /// Every price of the On-Demand terms.
    pub on_demand: Vec<UnitPrice>,
}

/// A price for a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitPrice {
    /// `Hrs`, `GB-Mo` and others, as the list spells them.
    pub unit: Option<String>,
    /// US dollars.
    pub usd: Option<Decimal>,
}

impl PriceList {
    /// Returns the API as this configuration reaches it.
    #[must_use]
    pub fn over(config: &SdkConfig) -> Self {
        let config = config.to_builder().region(aws_config::Region::new(REGION)).build();
        Self { client: aws_sdk_pricing::Client::new(&config), on_demand: Arc::default() }
    }

    /// Returns the products of a service that have all these attributes (name, value). A product that can't be read is
    /// left out.
    ///
    /// # Errors
    /// The call fails.
    pub async fn products(
        &self,
        service: &str,
        attributes: &[(&str, &str)],
    ) -> Result<Vec<Product>, CallError> {
        let mut request = self.client.get_products().service_code(service);
        for (field, value) in attributes {
            let filter = Filter::builder().r#type(FilterType::TermMatch).field(*field).value(*value).build();
            request = request.filters(filter.map_err(unreadable(CALL))?);
        }
        let mut answers = request.into_paginator().items().send();
        let mut products = Vec::new();
        while let Some(product) = answers.next().await {
            products.extend(Product::parse(&product.map_err(failed(CALL))?));
        }
        Ok(products)
    }
}

impl Product {
    /// Parses one product of the list; `None` if it is no JSON.
    #[must_use]
    pub fn parse(product: &str) -> Option<Self> {
        let product: Value = serde_json::from_str(product).ok()?;
        let text = |value: Option<&Value>| value?.as_str().map(str::to_owned);
        let terms = product.pointer("/terms/OnDemand").and_then(Value::as_object);
        let dimensions = terms.into_iter().flat_map(Map::values);
        let dimensions = dimensions.filter_map(|term| term.get("priceDimensions")?.as_object());
        let price = |dimension: &Value| UnitPrice {
            unit: text(dimension.get("unit")),
            usd: text(dimension.pointer("/pricePerUnit/USD")).and_then(|usd| usd.parse().ok()),
        };
        Some(Self {
            usage_type: text(product.pointer("/product/attributes/usagetype")),
            as_of: text(product.get("publicationDate")).and_then(|at| at.get(..10)?.parse().ok()),
            on_demand: dimensions.flat_map(Map::values).map(price).collect(),
        })
    }
}
