//! EC2's descriptions of what seldom changes: zones, subnets, prices, template versions, images. And the price list.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::fleet::catalog::{LaunchTemplate, ROOT_DEVICE, TemplateVersion, VPC, usd};
use crate::fleet::ec2::unknown_filter;
use crate::fleet::parameters::{matches, page};
use crate::fleet::xml::{Answered, ApiError, Xml};
use crate::wire::{ApiAnswer, ApiCall};

const LINUX: &str = "Linux/UNIX";

impl Fleet {
    pub(super) fn describe_zones(&self, _call: &ApiCall) -> Xml {
        let mut xml = Xml::default();
        xml.list("availabilityZoneInfo", "item", &self.catalog.zones, |xml, zone| {
            xml.text("zoneName", &zone.name);
            xml.text("zoneId", &zone.id);
            xml.text("zoneState", "available");
            xml.text("regionName", &self.region);
        });
        xml
    }

    pub(super) fn describe_subnets(&self, call: &ApiCall) -> Answered {
        let wanted = one_filter(call, "subnet-id")?;
        let asked = |id: &str| wanted.as_ref().is_none_or(|ids| ids.iter().any(|p| matches(p, id)));
        let shown = self.catalog.zones.iter().filter(|zone| asked(&zone.subnet_id));
        let shown = shown.map(|zone| (zone.subnet_id.clone(), zone));
        let page = page(shown, call.parameter("NextToken"), self.page_size(call, "MaxResults")?)?;
        let mut xml = Xml::default();
        xml.list("subnetSet", "item", page.items, |xml, zone| {
            xml.text("subnetId", &zone.subnet_id);
            xml.text("vpcId", VPC);
            xml.text("availabilityZone", &zone.name);
            xml.text("availabilityZoneId", &zone.id);
            xml.text("availableIpAddressCount", if zone.has_free_addresses { 250 } else { 0 });
            xml.text("defaultForAz", true);
        });
        xml.optional("nextToken", page.next);
        Ok(xml)
    }

    /// Returns the present prices. Plain Linux is the one product that is played.
    pub(super) fn describe_spot_prices(&self, call: &ApiCall, now: Timestamp) -> Answered {
        if let Some((name, _)) = call.filters().first() {
            return Err(unknown_filter(name));
        }
        let (types, products) = (call.list("InstanceType"), call.list("ProductDescription"));
        let plain = |product: &&str| product.trim_end_matches(" (Amazon VPC)") == LINUX;
        let is_linux = products.is_empty() || products.iter().any(plain);
        let zone = call.parameter("AvailabilityZone");
        let asked = |kind: &str, at: &str| {
            is_linux && (types.is_empty() || types.contains(&kind)) && zone.is_none_or(|zone| zone == at)
        };
        let shown = self.catalog.spot.iter().filter(|((kind, zone), _)| asked(kind, zone));
        let shown = shown.map(|((kind, zone), usd)| (format!("{kind} {zone}"), (kind, zone, *usd)));
        let page = page(shown, call.parameter("NextToken"), self.page_size(call, "MaxResults")?)?;
        let mut xml = Xml::default();
        xml.list("spotPriceHistorySet", "item", page.items, |xml, (kind, zone, price)| {
            xml.text("instanceType", kind);
            xml.text("productDescription", LINUX);
            xml.text("spotPrice", usd(price));
            xml.time("timestamp", now);
            xml.text("availabilityZone", zone);
        });
        xml.optional("nextToken", page.next);
        Ok(xml)
    }

    pub(super) fn describe_template_versions(&self, call: &ApiCall) -> Answered {
        let (id, name) = (call.parameter("LaunchTemplateId"), call.parameter("LaunchTemplateName"));
        let template = self.catalog.template(id, name).ok_or_else(|| no_template(id, name))?;
        let mut found = Vec::new();
        for text in call.list("LaunchTemplateVersion") {
            found.push(template.version(text).ok_or_else(|| no_version(template, text))?);
        }
        let mut xml = Xml::default();
        xml.list("launchTemplateVersionSet", "item", found, |xml, (number, version)| {
            xml.text("launchTemplateId", &template.id);
            xml.text("launchTemplateName", &template.name);
            xml.text("versionNumber", number);
            xml.text("defaultVersion", number == template.default_version);
            xml.within("launchTemplateData", |xml| template_data(xml, version));
        });
        Ok(xml)
    }

    /// Shows the public images that are asked for, with their root device alone.
    pub(super) fn write_public_images(&self, xml: &mut Xml, wanted: Option<&Vec<String>>) {
        let known = self.catalog.templates.values().flat_map(|template| template.versions.values());
        let of_configurations = self.catalog.configurations.values().map(|source| source.image_id.as_str());
        let known = known.map(|version| version.image_id.as_str()).chain(of_configurations);
        let known: BTreeSet<_> = known.collect();
        let asked = |id: &&str| wanted.is_none_or(|ids| ids.iter().any(|p| matches(p, id)));
        for id in known.into_iter().filter(asked) {
            xml.within("item", |xml| {
                xml.text("imageId", id);
                xml.text("imageState", "available");
                xml.text("rootDeviceName", ROOT_DEVICE);
                xml.list("blockDeviceMapping", "item", [ROOT_DEVICE], |xml, device| {
                    xml.text("deviceName", device);
                });
            });
        }
    }

    /// Answers the Price List API, as `endpoint/prices.py` of local AWS does. An unknown type has no product.
    pub(super) fn price_list(&self, call: &ApiCall) -> ApiAnswer {
        let filters = call.json().get("Filters").and_then(Value::as_array);
        let value = |field: &str| {
            let found = filters.into_iter().flatten().find(|filter| filter["Field"] == field);
            found.and_then(|filter| filter["Value"].as_str())
        };
        let is_plain = value("operation").is_none_or(|operation| operation == "RunInstances")
            && value("tenancy").is_none_or(|tenancy| tenancy == "Shared");
        let price = value("instanceType").and_then(|kind| self.catalog.on_demand.get(kind));
        let product = price.filter(|_| is_plain).map(|price| {
            let dimension = json!({"unit": "Hrs", "pricePerUnit": {"USD": usd(*price)}});
            let terms = json!({"OnDemand": {"T": {"priceDimensions": {"T.R": dimension}}}});
            json!({"product": {"attributes": {}}, "terms": terms}).to_string()
        });
        let products: Vec<String> = product.into_iter().collect();
        ApiAnswer::json(&json!({"FormatVersion": "aws_v1", "PriceList": products}))
    }
}

fn template_data(xml: &mut Xml, version: &TemplateVersion) {
    xml.text("imageId", &version.image_id);
    xml.text("instanceType", &version.instance_type);
    xml.text("disableApiTermination", version.disable_api_termination);
    xml.text("disableApiStop", version.disable_api_stop);
    if version.is_spot {
        xml.within("instanceMarketOptions", |xml| xml.text("marketType", "spot"));
    }
    let specifications = Some(&version.tags).filter(|tags| !tags.is_empty());
    xml.list("tagSpecificationSet", "item", specifications, |xml, tags| {
        xml.text("resourceType", "instance");
        xml.tags(tags);
    });
}

/// Returns the values of the only filter that the world plays for this call.
fn one_filter(call: &ApiCall, played: &str) -> Result<Option<Vec<String>>, ApiError> {
    let filters = call.filters();
    match filters.iter().find(|(name, _)| name != played) {
        Some((name, _)) => Err(unknown_filter(name)),
        None => Ok(filters.into_iter().next().map(|(_, values)| values)),
    }
}

/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>
pub(super) fn no_template(id: Option<&str>, name: Option<&str>) -> ApiError {
    let code = if id.is_some() {
        "InvalidLaunchTemplateId.NotFound"
    } else {
        "InvalidLaunchTemplateName.NotFoundException"
    };
    let called = id.or(name).unwrap_or_default();
    ApiError::new(code, format!("The specified launch template, {called}, does not exist."))
}

pub(super) fn no_version(template: &LaunchTemplate, text: &str) -> ApiError {
    let message = format!("Could not find launch template version {text} of {}", template.id);
    ApiError::new("InvalidLaunchTemplateId.VersionNotFound", message)
}
