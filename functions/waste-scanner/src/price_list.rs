//! Prices of storage and addresses from the Price List API, laid over the shipped table.
//!
//! If the API does not answer, the scan does not fail: the shipped prices hold, and the rows say so.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rust_decimal::Decimal;
use spot_cloud::price_list::{PriceList, Product};
use spot_cloud::{CallError, Stack};
use spot_domain::Region;
use spot_domain::waste::prices::{PriceBook, PriceSource, PricedItem, Rate};

/// How long the API's prices are kept. A Lambda instance lives for hours; prices change in months.
const KEEP_FOR: Duration = Duration::from_hours(12);
/// How long the shipped prices are used after the API has failed.
const RETRY_AFTER: Duration = Duration::from_mins(15);
/// The queries for the products: service, and the attribute and value that narrow them down.
const QUERIES: [(&str, &str, &str); 5] = [
    ("AmazonEC2", "productFamily", "Storage"),
    ("AmazonEC2", "group", "EBS IOPS"),
    ("AmazonEC2", "group", "EBS Throughput"),
    ("AmazonEC2", "productFamily", "Storage Snapshot"),
    ("AmazonVPC", "group", "VPCPublicIPv4Address"),
];

/// The price books of the requested regions.
#[derive(Debug)]
pub struct StoragePrices {
    list: PriceList,
    books: Mutex<HashMap<Region, (PriceBook, Instant)>>,
}

impl StoragePrices {
    /// Creates the price books with the stack's configuration.
    #[must_use]
    pub fn new(stack: &Stack) -> Self {
        Self { list: PriceList::over(stack.config()), books: Mutex::new(HashMap::new()) }
    }

    /// Returns the prices of a region: the API's if it answers, else the shipped ones.
    pub async fn book(&self, region: &Region) -> PriceBook {
        if let Some(book) = self.known(region) {
            return book;
        }
        let mut book = PriceBook::shipped(region);
        let keep = match self.rates(region).await {
            Ok(rates) => {
                for (item, rate) in rates {
                    book.set(item, rate);
                }
                KEEP_FOR
            }
            Err(error) => {
                tracing::warn!(%region, "{error}; the shipped prices hold");
                RETRY_AFTER
            }
        };
        if let (Ok(mut books), Some(until)) = (self.books.lock(), Instant::now().checked_add(keep)) {
            books.insert(region.clone(), (book.clone(), until));
        }
        book
    }

    fn known(&self, region: &Region) -> Option<PriceBook> {
        let books = self.books.lock().ok()?;
        books.get(region).filter(|(_, until)| Instant::now() < *until).map(|(book, _)| book.clone())
    }

    async fn rates(&self, region: &Region) -> Result<Vec<(PricedItem, Rate)>, CallError> {
        let mut rates = Vec::new();
        for (service, field, value) in QUERIES {
            let attributes = [("regionCode", region.as_str()), (field, value)];
            rates.extend(self.list.products(service, &attributes).await?.iter().filter_map(rate));
        }
        Ok(rates)
    }
}

/// Returns the item and rate of one product; `None` for a product that we don't price, or whose price is not
/// one plain number.
#[must_use]
pub fn rate(product: &Product) -> Option<(PricedItem, Rate)> {
    let item = PricedItem::of_usage_type(product.usage_type.as_deref()?)?;
    let [price] = &product.on_demand[..] else { return None };
    let usd = in_our_unit(item, price.usd?, price.unit.as_deref()?)?;
    let rate = Rate { usd, source: PriceSource::PriceListApi, as_of: product.as_of? };
    (usd > Decimal::ZERO).then_some((item, rate))
}

/// Converts a price into our unit. The list's units are a GB-month and its like; only throughput comes per
/// GiB/s.
fn in_our_unit(item: PricedItem, price: Decimal, unit: &str) -> Option<Decimal> {
    match (item, unit.to_ascii_lowercase().as_str()) {
        (PricedItem::Gp3Throughput, "gibps-mo") => price.checked_div(Decimal::from(1_024)),
        (PricedItem::Gp3Throughput, "mibps-mo") => Some(price),
        (PricedItem::Gp3Throughput, _) => None,
        (
            PricedItem::Gp3Iops
            | PricedItem::Io1Iops
            | PricedItem::Io2Iops
            | PricedItem::Io2IopsTier2
            | PricedItem::Io2IopsTier3,
            unit,
        ) => (unit == "iops-mo").then_some(price),
        (PricedItem::IdleAddress, unit) => unit.starts_with("hr").then_some(price),
        (_, unit) => unit.starts_with("gb-mo").then_some(price),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(usage_type: &str, prices: &[(&str, &str)]) -> Product {
        let dimensions: serde_json::Map<String, serde_json::Value> = prices
            .iter()
            .enumerate()
            .map(|(n, (unit, usd))| {
                (format!("D{n}"), serde_json::json!({"unit": unit, "pricePerUnit": {"USD": usd}}))
            })
            .collect();
        let product = serde_json::json!({
            "product": {"attributes": {"usagetype": usage_type}},
            "terms": {"OnDemand": {"A.B": {"priceDimensions": dimensions}}},
            "publicationDate": "2026-11-18T20:11:59Z"
        });
        Product::parse(&product.to_string()).unwrap()
    }

    #[test]
    fn a_rate_is_read_with_its_date_and_in_our_unit() {
        let read = |usage_type, unit, usd| {
            rate(&product(usage_type, &[(unit, usd)]))
                .map(|(item, rate)| (item, rate.usd.normalize().to_string()))
        };
        let expect = |item, usd: &str| Some((item, usd.to_owned()));
        assert_eq!(read("EBS:VolumeUsage.gp3", "GB-Mo", "0.0800000000"), expect(PricedItem::Gp3, "0.08"));
        let throughput = read("EBS:VolumeP-Throughput.gp3", "GiBps-mo", "40.9600000000");
        assert_eq!(throughput, expect(PricedItem::Gp3Throughput, "0.04"));
        let address = read("USE1-PublicIPv4:IdleAddress", "Hrs", "0.0050000000");
        assert_eq!(address, expect(PricedItem::IdleAddress, "0.005"));
        assert_eq!(read("EBS:VolumeP-Throughput.gp3", "furlongs", "1"), None);
        let as_of = rate(&product("EBS:SnapshotUsage", &[("GB-Mo", "0.05")])).unwrap().1.as_of;
        assert_eq!(as_of, jiff::civil::date(2026, 11, 18));
    }

    #[test]
    fn what_is_not_one_plain_price_is_no_price() {
        for odd in [
            product("EBS:SnapshotUsage", &[]),
            product("EBS:SnapshotUsage", &[("GB-Mo", "0")]),
            product("EBS:SnapshotUsage", &[("GB-Mo", "0.05"), ("GB-Mo", "0.04")]),
            product("EBS:SnapshotUsage", &[("GB-Mo", "free")]),
            product("BoxUsage:m5.large", &[("Hrs", "0.096")]),
            Product::default(),
        ] {
            assert_eq!(rate(&odd), None, "{odd:?}");
        }
    }
}
