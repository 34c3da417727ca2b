"""The tables of fields: every member of the shapes that a swap reads has its row in docs/reference/fields.

The service model is botocore's. A member that AWS adds fails here until its verdict is in the table.
"""

import re
from functools import cache

import botocore.session
import pytest
import yaml

from local_aws.paths import ROOT

TABLES = ROOT / "docs" / "reference" / "fields"
REASONS = ROOT / "shared" / "domain" / "src" / "reason.rs"
NAMES = sorted(path.stem for path in TABLES.glob("*.yaml"))
SHAPES = {
    ("autoscaling", "AutoScalingGroup"), ("autoscaling", "Instance"), ("autoscaling", "LaunchTemplateOverrides"),
    ("autoscaling", "InstancesDistribution"), ("autoscaling", "LaunchConfiguration"),
    ("ec2", "ResponseLaunchTemplateData"), ("ec2", "Instance"), ("ec2", "Volume"), ("ec2", "InstanceAttribute"),
}  # fmt: skip

# A lab swap launches from the instance itself, so that its members have another meaning there.
OF_LAB = "twin"
VERDICTS = {"honoured", "refused", "named", "irrelevant"}
KEYS = {"verdict", "why", "where", "reason"}
WORDS = 25
CARRIED = "Carried by the template id"
# A group or its template is refused before anything starts: the execution fails with this error.
GROUP_REFUSED = "GroupNotSupported"


class Rows(yaml.SafeLoader):
    """A YAML loader that refuses a duplicate key: the second would hide the first."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        assert not twice, f"twice in one table: {sorted(twice)}"
        return super().construct_mapping(node, deep)


@cache
def table(name):
    return yaml.load((TABLES / f"{name}.yaml").read_text(), Rows)


def rows(name):
    return table(name)["members"]


@cache
def model(service):
    return botocore.session.get_session().get_service_model(service)


@cache
def members(name):
    """Returns the paths of all members of a table's shape, nested ones too, except for shapes with their own table."""
    service = table(name)["service"]
    return set(_below(service, model(service).shape_for(table(name)["shape"]), ""))


def _below(service, shape, prefix):
    while shape.type_name == "list":
        shape = shape.member
    assert shape.type_name != "map", f"{prefix} is a map: none of these shapes had one when this was written"
    for member, inner in getattr(shape, "members", {}).items():
        yield f"{prefix}{member}"
        if not _has_own_table(service, inner):
            yield from _below(service, inner, f"{prefix}{member}.")


def _has_own_table(service, shape):
    while shape.type_name == "list":
        shape = shape.member
    return (service, shape.name) in SHAPES


def covers(row, path):
    """Returns true if the row covers the member: `X.*` stands for everything below X."""
    return row == path or (row.endswith(".*") and path.startswith(row[:-1]))


def snake(member):
    """Returns the Rust SDK's spelling of a member: VPCZoneIdentifier is vpc_zone_identifier."""
    member = re.sub(r"ARNs$", "Arns", member).replace("GiB", "Gib").replace("MiB", "Mib")
    member = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", member)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", member).lower()


@cache
def code(where):
    """Returns a Rust file without its comments and tests; empty if the file does not exist."""
    file = ROOT / where
    text = file.read_text().split("#[cfg(test)]")[0] if file.is_file() else ""
    return re.sub(r"//.*", "", text)


@pytest.mark.parametrize(
    ("member", "spelled"),
    [
        ("EbsOptimized", "ebs_optimized"),
        ("HttpTokens", "http_tokens"),
        ("HTTPTokens", "http_tokens"),
        ("AvailabilityZoneId", "availability_zone_id"),
        ("AutoScalingGroupARN", "auto_scaling_group_arn"),
        ("TargetGroupARNs", "target_group_arns"),
        ("VPCZoneIdentifier", "vpc_zone_identifier"),
        ("ClassicLinkVPCId", "classic_link_vpc_id"),
        ("Ipv6AddressCount", "ipv6_address_count"),
        ("EnableResourceNameDnsAAAARecord", "enable_resource_name_dns_aaaa_record"),
        ("MemoryGiBPerVCpu", "memory_gib_per_v_cpu"),
        ("MemoryMiB", "memory_mib"),
        ("TotalLocalStorageGB", "total_local_storage_gb"),
    ],
)
def test_members_are_spelled_as_the_rust_sdk_spells_them(member, spelled):
    assert snake(member) == spelled


def test_each_shape_has_one_table_for_groups_or_lab_swaps_or_one_for_each():
    described = [(table(name)["service"], table(name)["shape"], name.startswith(OF_LAB)) for name in NAMES]
    assert len(set(described)) == len(described)
    assert {shape[:2] for shape in described} == SHAPES


@pytest.mark.parametrize("name", NAMES)
def test_every_member_that_aws_knows_has_one_row(name):
    covered = {path: [row for row in rows(name) if covers(row, path)] for path in members(name)}
    undecided = sorted(path for path, by in covered.items() if not by)
    assert not undecided, f"decide in docs/reference/fields/{name}.yaml: {undecided}"
    assert not {path: by for path, by in covered.items() if len(by) > 1}


@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_of_a_member_that_aws_knows(name):
    unknown = [row for row in rows(name) if not any(covers(row, path) for path in members(name))]
    assert not unknown, f"no such member in the service model: {unknown}"


@pytest.mark.parametrize("name", NAMES)
def test_every_row_has_a_verdict_and_says_why(name):
    for path, row in rows(name).items():
        assert set(row) <= KEYS, path
        assert row["verdict"] in VERDICTS, path
        assert row["why"].endswith("."), path
        assert len(row["why"].split()) <= WORDS, f"{path}: {len(row['why'].split())} words"


@pytest.mark.parametrize("name", NAMES)
def test_a_member_that_our_code_obeys_names_the_file_that_reads_it(name):
    for path, row in rows(name).items():
        is_pattern = path.endswith(".*")
        assert not (is_pattern and "where" in row), f"{path}: a pattern can't be read, its members can"
        if row["verdict"] == "irrelevant":
            assert "where" not in row, f"{path} is read after all"
        elif row["verdict"] == "refused":
            assert is_pattern or "where" in row, f"{path}: which file refuses it?"
        else:
            assert "where" in row or row["why"].startswith(CARRIED), f"{path}: which file reads it?"
            assert not is_pattern or row["why"].startswith(CARRIED), f"{path}: a pattern can't be read"


@pytest.mark.parametrize("name", NAMES)
def test_the_file_that_reads_a_member_mentions_it(name):
    missing = []
    for path, row in rows(name).items():
        if where := row.get("where"):
            member = snake(path.rsplit(".", 1)[-1])
            if not re.search(rf"(\.|::)(r#)?{member}\b", code(where)):
                missing.append(f"{path} ({member} in {where})")
    assert not missing, "\n".join(["not read where the table says:", *missing])


@pytest.mark.parametrize("name", NAMES)
def test_a_refusal_carries_a_reason_that_exists(name):
    codes = set(re.findall(r'= "([A-Z_]+)"', REASONS.read_text())) | {GROUP_REFUSED}
    for path, row in rows(name).items():
        assert ("reason" in row) == (row["verdict"] == "refused"), path
        assert row.get("reason", GROUP_REFUSED) in codes, path
