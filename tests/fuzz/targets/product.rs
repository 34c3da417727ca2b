//! Products of the Price List API, as far as prices need them.
//!
//! The parser promises: no panic. What is JSON is a product, with each price that it lists and no other. A rate is above
//! zero, and is made of the one price of a product that is priced here.

use rust_decimal::Decimal;
use serde_json::Value;
use spot_cloud::price_list::Product;
use spot_fuzz::Target;
use waste_scanner::price_list::rate;

use crate::promise;

#[test]
fn product() {
    let words = &[
        "EBS:VolumeUsage.gp3",
        "USE1-PublicIPv4:IdleAddress",
        "GiBps-mo",
        "IOPS-Mo",
        "Hrs",
        "79228162514264337593543950335",
        "0.0000000000000000000000000001",
    ];
    Target { name: "product", samples: &[], words, cases: 3_000 }.fuzz(check);
}

fn check(bytes: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(bytes);
    let Ok(json) = serde_json::from_str::<Value>(&text) else {
        return promise(Product::parse(&text).is_none(), || format!("{text} is a product"));
    };
    let Some(product) = Product::parse(&text) else { return Err(format!("{text} is no product")) };
    let told = json.pointer("/product/attributes/usagetype").and_then(Value::as_str);
    promise(product.usage_type.as_deref() == told, || format!("{told:?} is read as {product:?}"))?;
    let prices = prices(&json);
    let read: Vec<_> = product.on_demand.iter().map(|price| price.usd).collect();
    promise(read == prices, || format!("{prices:?} are read as {read:?}"))?;
    let Some((_, rate)) = rate(&product) else { return Ok(()) };
    promise(rate.usd.is_sign_positive() && !rate.usd.is_zero(), || {
        format!("{product:?} costs {}", rate.usd)
    })?;
    promise(prices.len() == 1 && product.as_of == Some(rate.as_of), || format!("{product:?} has {rate:?}"))
}

/// Returns every price of the On-Demand terms, as its text says.
fn prices(product: &Value) -> Vec<Option<Decimal>> {
    let objects = |value: Option<&Value>| value.and_then(Value::as_object).cloned().unwrap_or_default();
    let terms = objects(product.pointer("/terms/OnDemand"));
    let dimensions = terms.values().flat_map(|term| objects(term.get("priceDimensions")));
    let usd = |dimension: &Value| -> Option<Decimal> {
        dimension.pointer("/pricePerUnit/USD")?.as_str()?.parse().ok()
    };
    dimensions.map(|(_, dimension)| usd(&dimension)).collect()
}

#[test]
fn the_samples_have_a_rate() {
    for sample in [include_str!("../corpus/product/gp3.json"), include_str!("../corpus/product/address.json")]
    {
        assert!(rate(&Product::parse(sample).unwrap()).is_some(), "{sample}");
    }
}
