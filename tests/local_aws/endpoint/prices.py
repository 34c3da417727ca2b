"""A few rows of AWS's public AmazonEC2 price list (us-east-1), served as pricing:GetProducts does, and Spot prices.

Each type has a row for each `operation` (EC2 User Guide, "AMI billing information fields") and tenancy. Unknown types
answer an empty list, like a type that the region does not offer.
"""

from __future__ import annotations

import json

from ..shapes import Shape
from .world import WORLD

# Linux, On-Demand, USD an hour; vCPUs, by which licences are paid.
ON_DEMAND = {
    "m5.large": 0.096,
    "m5a.large": 0.086,
    "m6i.large": 0.096,
    "m6g.large": 0.077,
    "c5.large": 0.085,
    "m5.xlarge": 0.192,
    "t3.micro": 0.0104,
}
VCPUS = {"m5.xlarge": 4}
# Platform details, which are the Spot price history's ProductDescription → operation, operating system, USD a vCPU-hour.
PRODUCTS = {
    "Linux/UNIX": ("RunInstances", "Linux", 0.0),
    "Windows": ("RunInstances:0002", "Windows", 0.046),
    "Red Hat Enterprise Linux": ("RunInstances:0010", "RHEL", 0.0144),
    "SUSE Linux": ("RunInstances:000g", "SUSE", 0.028),
}
TENANCIES = {"Shared": ("BoxUsage", 1.0), "Dedicated": ("DedicatedUsage", 1.06)}
LIST_VERSION, LIST_DATE = "20251101000000", "2025-11-01T00:00:00Z"


def known() -> list[str]:
    """Returns the types that have a price."""
    return [kind for kind in {**ON_DEMAND, **WORLD.spot_prices} if kind not in WORLD.unpriced]


def spot(kind: str, product: str = "Linux/UNIX") -> float | None:
    """Returns USD an hour now, or None. A licence costs the same on Spot as On-Demand."""
    if kind not in known():
        return None
    linux = WORLD.spot_prices.get(kind)
    if linux is None:
        linux = ON_DEMAND[kind] * (1 - WORLD.spot_discount)
    return round(linux + _licence(kind, product), 6)


def _licence(kind: str, product: str):
    return PRODUCTS[product][2] * VCPUS.get(kind, 2)


def get_products(request: Shape) -> Shape:
    wanted = {f["Field"]: f["Value"] for f in request.get("Filters", [])}
    rows = [
        _product(kind, product, tenancy)
        for kind in known() if kind in ON_DEMAND
        for product in PRODUCTS
        for tenancy in TENANCIES
    ]  # fmt: skip
    found = [p for p in rows if _matches(p["product"]["attributes"], wanted)]
    return {"FormatVersion": "aws_v1", "PriceList": [json.dumps(p) for p in found]}


def _matches(attributes: dict[str, str], wanted: dict[str, str]):
    return all(attributes.get(field, "").lower() == value.lower() for field, value in wanted.items())


def _product(kind: str, product: str, tenancy: str):
    operation, system, _ = PRODUCTS[product]
    usage, factor = TENANCIES[tenancy]
    price = ON_DEMAND[kind] * factor + _licence(kind, product)
    sku = f"LOCAL{kind}{operation}{tenancy}".replace(".", "").replace(":", "").upper()
    term, rate = f"{sku}.JRTCKXETXF", f"{sku}.JRTCKXETXF.6YS6EN2CT7"
    return {
        "product": {
            "productFamily": "Compute Instance",
            "attributes": {
                "servicecode": "AmazonEC2",
                "servicename": "Amazon Elastic Compute Cloud",
                "location": "US East (N. Virginia)",
                "locationType": "AWS Region",
                "regionCode": "us-east-1",
                "instanceType": kind,
                "operatingSystem": system,
                "licenseModel": "No License required",
                "tenancy": tenancy,
                "preInstalledSw": "NA",
                "capacitystatus": "Used",
                "marketoption": "OnDemand",
                "operation": operation,
                "usagetype": f"{usage}:{kind}",
            },
            "sku": sku,
        },
        "serviceCode": "AmazonEC2",
        "terms": {
            "OnDemand": {
                term: {
                    "priceDimensions": {
                        rate: {
                            "unit": "Hrs",
                            "endRange": "Inf",
                            "description": f"${price:g} per {tenancy} {system} {kind} Instance Hour",
                            "appliesTo": [],
                            "rateCode": rate,
                            "beginRange": "0",
                            "pricePerUnit": {"USD": f"{price:.10f}"},
                        }
                    },
                    "sku": sku,
                    "effectiveDate": LIST_DATE,
                    "offerTermCode": "JRTCKXETXF",
                    "termAttributes": {},
                }
            }
        },
        "version": LIST_VERSION,
        "publicationDate": LIST_DATE,
    }
