"""The scanner's exceptions: each has a reason, names a resource that exists, and hides nothing else."""

import yaml

from local_aws.build import load
from local_aws.paths import ACCOUNT_ROLE, SCANNER_EXCEPTIONS, TEMPLATE
from local_aws.scan import judge

EXCEPTIONS = yaml.safe_load(SCANNER_EXCEPTIONS.read_text())
FOUND = {(e["check"], resource): "said" for e in EXCEPTIONS for resource in e["resources"]}


def test_every_exception_names_resources_of_the_templates_and_a_reason():
    resources = {**load(TEMPLATE)["Resources"], **load(ACCOUNT_ROLE)["Resources"]}
    for exception in EXCEPTIONS:
        assert set(exception["resources"]) <= set(resources), exception
        assert len(exception["reason"].split()) >= 5, exception


def test_what_is_excepted_passes_and_nothing_else_does():
    assert judge(FOUND, EXCEPTIONS) == []
    new = {("CKV_AWS_26", "AlertsTopic"): "Ensure all data stored in the SNS topic is encrypted"}
    assert judge({**FOUND, **new}, EXCEPTIONS) == ["CKV_AWS_26 AlertsTopic: Ensure all data stored in the SNS topic is encrypted"]


def test_an_exception_without_a_reason_excepts_nothing():
    assert judge({("A", "R"): "said"}, [{"check": "A", "resources": ["R"], "reason": " "}]) == ["A R: said"]


def test_an_exception_that_is_needed_no_longer_is_named():
    assert judge({}, [{"check": "A", "resources": ["R"], "reason": "why"}]) == ["A R: an exception that is needed no longer"]
