"""A few rows of AWS's public AmazonEC2 price list (us-east-1, Linux, On-Demand), served as pricing:GetProducts does.

Unknown types answer an empty list, like a type that the region does not offer.
"""

import json

ON_DEMAND = {
    "m5.large": 0.096,
    "m5a.large": 0.086,
    "m6i.large": 0.096,
    "c5.large": 0.085,
    "m5.xlarge": 0.192,
    "t3.micro": 0.0104,
}
LIST_VERSION, LIST_DATE = "20251101000000", "2025-11-01T00:00:00Z"


def get_products(request):
    wanted = {f["Field"]: f["Value"] for f in request.get("Filters", [])}
    found = [p for p in map(_product, ON_DEMAND) if _matches(p["product"]["attributes"], wanted)]
    return {"FormatVersion": "aws_v1", "PriceList": [json.dumps(p) for p in found]}


def _matches(attributes, wanted):
    return all(attributes.get(field, "").lower() == value.lower() for field, value in wanted.items())


def _product(kind):
    sku = "LOCAL" + kind.replace(".", "").upper()
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
                "operatingSystem": "Linux",
                "licenseModel": "No License required",
                "tenancy": "Shared",
                "preInstalledSw": "NA",
                "capacitystatus": "Used",
                "marketoption": "OnDemand",
                "operation": "RunInstances",
                "usagetype": f"BoxUsage:{kind}",
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
                            "description": f"${ON_DEMAND[kind]} per On Demand Linux {kind} Instance Hour",
                            "appliesTo": [],
                            "rateCode": rate,
                            "beginRange": "0",
                            "pricePerUnit": {"USD": f"{ON_DEMAND[kind]:.10f}"},
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
