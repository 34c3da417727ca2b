"""Both templates in every partition of AWS: patterns of parameters, and names of services in conditions."""

import re
from fnmatch import fnmatchcase

import pytest
from botocore.loaders import Loader

from local_aws.build import load
from local_aws.paths import ACCOUNT_ROLE, TEMPLATE
from test_reference import dicts

# Region → partition, domain of its services.
PLACES = {
    region: (partition["id"], partition["outputs"]["dnsSuffix"])
    for partition in Loader().load_data("partitions")["partitions"]
    for region in partition["regions"]
    if not region.endswith("-global")
}
VALUES = {
    "RoleRegion": "{region}",
    "NoticesBusArn": "arn:{partition}:events:{region}:111122223333:event-bus/spot-optimizer-notices",
    "AlarmTopicArn": "arn:{partition}:sns:{region}:111122223333:alarms",
    "PermissionsBoundaryArn": "arn:{partition}:iam::111122223333:policy/boundary",
    "HubEventBusArn": "arn:{partition}:events:{region}:111122223333:event-bus/spot-optimizer-hub",
    "HubReaderRoleArn": "arn:{partition}:iam::111122223333:role/reader",
    "KmsKeyArn": "arn:{partition}:kms:{region}:111122223333:key/1a2b3c4d",
}
BOTH = pytest.mark.parametrize("path", [TEMPLATE, ACCOUNT_ROLE], ids=lambda path: path.name)


def test_the_partitions_are_those_that_we_know_of():
    assert {partition for partition, _ in PLACES.values()} >= {"aws", "aws-cn", "aws-us-gov", "aws-eusc", "aws-iso", "aws-iso-b"}


@BOTH
def test_a_place_and_an_arn_of_every_region_are_allowed(path):
    parameters = {name: p["AllowedPattern"] for name, p in load(path)["Parameters"].items() if name in VALUES}
    assert len(parameters) >= 4
    for region, (partition, _) in PLACES.items():
        for name, pattern in parameters.items():
            value = VALUES[name].format(partition=partition, region=region)
            assert re.fullmatch(pattern, value), f"{name}: {value}"


@BOTH
def test_keys_are_used_through_the_services_of_every_region(path):
    """KMS names the service by its endpoint, whose domain is that of the partition."""
    found = [d["kms:ViaService"] for d in dicts(load(path)["Resources"]) if "kms:ViaService" in d]
    assert len(found) >= 3
    for patterns in found:
        (service,) = {pattern.split(".")[0] for pattern in patterns}
        for region, (_, domain) in PLACES.items():
            assert any(fnmatchcase(f"{service}.{region}.{domain}", pattern) for pattern in patterns), f"{service} in {region}"
