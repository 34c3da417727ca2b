"""A template as CloudFormation would render it: SAM's translation, conditions, parameters. No I/O but files."""

import copy
import functools
import os
import re
from contextlib import contextmanager
from types import SimpleNamespace

from samtranslator.translator.transform import transform

from local_aws.build import load
from local_aws.paths import REGION, TEMPLATE

NO_POLICIES = SimpleNamespace(load=dict)
GONE = object()


@functools.cache
def translated():
    """Returns the stack's template after the SAM translator, as CloudFormation gets it."""
    template = load(TEMPLATE)
    for resource in template["Resources"].values():
        for location in ("CodeUri", "DefinitionUri"):
            if location in resource.get("Properties", {}):
                resource["Properties"][location] = "s3://artifacts/local"
    with _region():
        return transform(template, {}, NO_POLICIES)


@contextmanager
def _region():
    """Sets the region: the translator reads it from the environment, and needs botocore's session for nothing else."""
    before = os.environ.get("AWS_DEFAULT_REGION")
    os.environ["AWS_DEFAULT_REGION"] = REGION
    try:
        yield
    finally:
        if before is None:
            del os.environ["AWS_DEFAULT_REGION"]
        else:
            os.environ["AWS_DEFAULT_REGION"] = before


class Rendered:
    """`template` with the given parameters, pseudo parameters of its conditions among them. `resources` holds the created
    ones, with conditions resolved and references kept.
    """

    def __init__(self, template, parameters):
        self.template = template
        defaults = {name: p["Default"] for name, p in template["Parameters"].items() if "Default" in p}
        self.parameters = {**defaults, **parameters}
        self.resources = {
            name: self._filled(copy.deepcopy(resource))
            for name, resource in template["Resources"].items()
            if self.holds(resource.get("Condition"))
        }

    def of_type(self, kind):
        return {name: r["Properties"] for name, r in self.resources.items() if r["Type"] == kind}

    def holds(self, condition):
        return condition is None or self.truth(self.template["Conditions"][condition])

    def truth(self, expression):
        ((function, arguments),) = expression.items()
        if function == "Fn::Equals":
            left, right = (self._plain(a) for a in arguments)
            return left == right
        if function == "Fn::Not":
            return not self.truth(arguments[0])
        if function in ("Fn::And", "Fn::Or"):
            return (all if function == "Fn::And" else any)(self.truth(a) for a in arguments)
        if function == "Condition":
            return self.holds(arguments)
        raise ValueError(f"no condition: {expression}")

    def broken_rules(self):
        """Returns the assertions of the template's Rules that these parameters break."""
        return [
            assertion["AssertDescription"]
            for rule in self.template.get("Rules", {}).values()
            if self.truth(rule["RuleCondition"])
            for assertion in rule["Assertions"]
            if not self.truth(assertion["Assert"])
        ]

    def _plain(self, value):
        if isinstance(value, dict) and "Ref" in value:
            return self.parameters[value["Ref"]]
        if isinstance(value, dict) and "Fn::Join" in value:
            separator, parts = value["Fn::Join"]
            parts = self._plain(parts)
            return parts if isinstance(parts, str) else separator.join(parts)
        if isinstance(value, dict) and "Fn::Select" in value:
            index, parts = value["Fn::Select"]
            return self._plain(parts)[index]
        if isinstance(value, dict) and "Fn::Split" in value:
            separator, text = value["Fn::Split"]
            return self._plain(text).split(separator)
        if isinstance(value, dict) and "Fn::Sub" in value:
            return re.sub(r"\$\{([^}]+)\}", lambda found: self.parameters[found[1]], value["Fn::Sub"])
        return value

    def _filled(self, node):
        if isinstance(node, list):
            return [filled for filled in map(self._filled, node) if filled is not GONE]
        if not isinstance(node, dict):
            return node
        if node == {"Ref": "AWS::NoValue"}:
            return GONE
        if "Fn::If" in node:
            condition, then, otherwise = node["Fn::If"]
            return self._filled(then if self.holds(condition) else otherwise)
        filled = {key: self._filled(value) for key, value in node.items()}
        return {key: value for key, value in filled.items() if value is not GONE}
