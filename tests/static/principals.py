"""The principals of the templates: each role with its rendered policies, judged by the evaluator that local AWS enforces."""

import json
import re
from dataclasses import dataclass, field

from ministack.core.iam_evaluator import parse_policy_document

from local_aws.endpoint.permissions import allows
from local_aws.paths import ACCOUNT, REGION, STACK

ARNS = {
    "AWS::DynamoDB::Table": "arn:aws:dynamodb:{region}:{account}:table/{name}",
    "AWS::Events::EventBus": "arn:aws:events:{region}:{account}:event-bus/{name}",
    "AWS::IAM::ManagedPolicy": "arn:aws:iam::{account}:policy/{name}",
    "AWS::IAM::Role": "arn:aws:iam::{account}:role/{stack}-{name}-1ABC2DEF3GHI",
    "AWS::Lambda::Function": "arn:aws:lambda:{region}:{account}:function:{stack}-{name}-1ABC2DEF3GHI",
    "AWS::Logs::LogGroup": "arn:aws:logs:{region}:{account}:log-group:{name}:*",
    "AWS::SNS::Topic": "arn:aws:sns:{region}:{account}:{name}",
    "AWS::SQS::Queue": "arn:aws:sqs:{region}:{account}:{name}",
    "AWS::StepFunctions::StateMachine": "arn:aws:states:{region}:{account}:stateMachine:{name}",
}
REF_IS_THE_ARN = ("AWS::IAM::ManagedPolicy", "AWS::SNS::Topic", "AWS::StepFunctions::StateMachine")


@dataclass
class Principal:
    """A role, or a session of one. `documents` are its policies with every reference filled in."""

    name: str
    arn: str
    documents: list
    session: str = ""
    parsed: list = field(init=False)

    def __post_init__(self):
        self.parsed = [parse_policy_document(document) for document in self.documents]

    @property
    def account(self):
        return self.arn.split(":")[4]

    def may(self, action, resource, keys=None):
        keys = {"aws:userid": f"AROALOCAL:{self.session}", **(keys or {})}
        return allows(self.parsed, self.arn, action, resource, keys)

    def as_session(self, name):
        """Returns a session of this role; the caller that assumes the role chooses the session's name."""
        return Principal(f"{self.name}/{name}", self.arn, self.documents, name)

    def allowed_actions(self):
        found = set()
        for statement in self.statements():
            if statement["Effect"] == "Allow":
                found |= set(as_list(statement["Action"]))
        return found

    def statements(self):
        return [statement for document in self.documents for statement in as_list(document["Statement"])]


def roles_of(rendered, account=ACCOUNT):
    """Returns {logical id: Principal} of every role that the template makes in `account`."""
    filled = Filled(rendered, account)
    managed = rendered.of_type("AWS::IAM::ManagedPolicy")
    found = {}
    for name, role in rendered.of_type("AWS::IAM::Role").items():
        documents = [policy["PolicyDocument"] for policy in role.get("Policies", [])]
        for arn in role.get("ManagedPolicyArns", []):
            if isinstance(arn, dict) and arn.get("Ref") in managed:
                documents.append(managed[arn["Ref"]]["PolicyDocument"])
        documents += [policy["PolicyDocument"] for policy in managed.values() if {"Ref": name} in policy.get("Roles", [])]
        found[name] = Principal(name, filled.arn(name), [filled(document) for document in documents])
    return found


class Filled:
    """Fills Ref, Fn::GetAtt and Fn::Sub of a rendered template with names and ARNs as CloudFormation would."""

    def __init__(self, rendered, account):
        self.rendered, self.account = rendered, account
        self.pseudo = {
            "AWS::AccountId": account, "AWS::Partition": "aws", "AWS::Region": REGION, "AWS::StackName": STACK,
            "AWS::URLSuffix": "amazonaws.com",
        }  # fmt: skip

    def __call__(self, node):
        if isinstance(node, list):
            return [self(part) for part in node]
        if not isinstance(node, dict):
            return node
        if "Ref" in node:
            return self.reference(node["Ref"])
        if "Fn::GetAtt" in node:
            return self.attribute(*node["Fn::GetAtt"])
        if "Fn::Sub" in node:
            return self.substituted(*as_list(node["Fn::Sub"]))
        return {key: self(value) for key, value in node.items()}

    def substituted(self, text, variables=None):
        values = {name: self(value) for name, value in (variables or {}).items()}
        return re.sub(r"\$\{([^}]+)\}", lambda found: values.get(found[1]) or self.named(found[1]), text)

    def named(self, name):
        return self.attribute(*name.split(".", 1)) if "." in name else self.reference(name)

    def reference(self, name):
        if name in self.pseudo:
            return self.pseudo[name]
        if name in self.rendered.parameters:
            return self.rendered.parameters[name]
        return self.arn(name) if self.rendered.resources[name]["Type"] in REF_IS_THE_ARN else name

    def attribute(self, name, attribute):
        return self.arn(name) if attribute == "Arn" else name

    def arn(self, name):
        resource = self.rendered.resources[name]
        name = resource.get("Properties", {}).get("RoleName", name)
        if name != (told := self(name)):
            return f"arn:aws:iam::{self.account}:role/{told}"
        pattern = ARNS[resource["Type"]]
        return pattern.format(region=REGION, account=self.account, stack=STACK, name=name)


def as_list(value):
    return value if isinstance(value, list) else [value]


def trusts(role, filled, caller, keys):
    """Returns true if the role's trust policy lets `caller` assume it with these keys; `role` is its rendered properties."""
    document = filled(role["AssumeRolePolicyDocument"])
    for statement in document["Statement"]:
        principals = as_list(statement["Principal"].get("AWS", []))
        assert all(re.fullmatch(r"\d{12}", p) for p in principals), "a principal that this test can't judge"
        if caller.split(":")[4] not in principals:
            continue
        judged = parse_policy_document({"Statement": [{**without_principal(statement), "Resource": "*"}]})
        if allows([judged], caller, "sts:AssumeRole", "*", keys):
            return True
    return False


def without_principal(statement):
    return {key: value for key, value in json.loads(json.dumps(statement)).items() if key != "Principal"}
