"""Holds the Lambdas to their roles on the EC2 side, too: moto lets every caller do everything.

The policies come from MiniStack's IAM, where the deployed template put them. MiniStack's evaluator judges them, per
resource and with the condition keys that AWS sets (tags, market type). A missing permission fails here as it would on
AWS.
"""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document
from moto.autoscaling.models import autoscaling_backends
from moto.ec2.models import ec2_backends

from ..shapes import Call, Fault, Shape
from .launches import SSM
from .world import WORLD

if TYPE_CHECKING:
    from .identities import Identities

CACHE_SECONDS = 30
NAMES_A_RESOURCE = ("InstanceId", "ResourceId.", "ImageId", "SnapshotId", "AllocationId", "VolumeId")
CODES = {"ec2": "UnauthorizedOperation", "pricing": "AccessDeniedException"}


class Permissions:
    def __init__(self, identities: Identities) -> None:
        self.identities = identities
        self._roles, self._policies, self._read_at = {}, {}, 0.0
        self._reading = threading.Lock()  # Each request has a thread of its own: one of them reads the roles for all.

    def denial(self, call: Call) -> Fault | None:
        """Returns None if the call is allowed, else the error for `error_response`. Other callers than Lambdas are the
        account's root."""
        if call["caller"] != "lambda":
            return None
        with WORLD.lock, WORLD.within(call["account"]):
            needed = list(_needed(call))
        refused = self._refused(call, needed)
        if refused and time.time() - self._read_at > 1:  # The stack may have been updated since.
            self._read_at = 0
            refused = self._refused(call, needed)
        return refused

    def _refused(self, call: Call, needed: list[tuple[str, str, Shape]]):
        role = self._role(call["access_key"], call["account"])
        if role is None:
            return None
        for action, resource, keys in needed:
            keys = {**keys, "aws:userid": f"AROALOCAL:{role.get('session', '')}"}
            if not allows(role["policies"], role["arn"], action, resource, keys, call["region"]):
                message = f"{role['arn']} is not authorized to perform: {action} on resource: {resource}"
                return {"status": 403, "code": CODES.get(call["service"], "AccessDenied"), "message": message}
        return None

    def function_of(self, access_key: str) -> Shape | None:
        """Returns {arn: the role's, secret} of the function that signs with this key, or None."""
        account = self.identities.account(access_key)
        role = self._role(access_key, account)
        if role is None and time.time() - self._read_at > 1:  # The stack may have been updated since.
            self._read_at = 0
            role = self._role(access_key, account)
        return role if role and "secret" in role else None

    def _role(self, access_key: str, account: str):
        with self._reading:
            if time.time() - self._read_at > CACHE_SECONDS:
                self._roles, self._policies, self._read_at = {}, {}, time.time()
            if access_key not in self._roles:
                self._roles.update(self._read_roles(access_key, account))
            return self._roles.get(access_key)

    def _read_roles(self, access_key: str, account: str):
        """Yields the role of the session; without a session of AssumeRole, the roles of the account's functions."""
        if session := self.identities.session(access_key):
            name = session.split("/")[1]
            arn, policies = f"arn:aws:iam::{account}:role/{name}", self._policies_of(name, account)
            yield access_key, {"arn": arn, "policies": policies, "session": session.split("/")[2]}
            return
        for key, arn, secret in self.identities.functions(account):
            policies = self._policies_of(arn.rsplit("/", 1)[-1], account)
            yield key, {"arn": arn, "secret": secret, "policies": policies}

    def _policies_of(self, role: str, account: str):
        """Returns the policies of a role, which may have a session for each call."""
        if (account, role) not in self._policies:
            self._policies[account, role] = list(self._read_policies(role, account))
        return self._policies[account, role]

    def _read_policies(self, role: str, account: str):
        iam = self.identities.client("iam", account)
        for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
            yield _parse(iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"])
        for attached in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
            policy = iam.get_policy(PolicyArn=attached["PolicyArn"])["Policy"]
            version = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])
            yield _parse(version["PolicyVersion"]["Document"])


def allows(policies: list[Any], role_arn: str, action: str, resource: str, keys: Shape, region: str = "us-east-1") -> bool:
    """Says if a session of the role may do this; `policies` are parsed, `keys` the condition keys of the request."""
    context = EvalContext(
        principal_arn=role_arn, principal_type="AssumedRole", principal_account=role_arn.split(":")[4], action=action,
        resource_arn=resource, region=region,
        # A request that names no tags has no aws:TagKeys.
        service_context={"aws:tagkeys": None, **{k.lower(): v for k, v in keys.items()}},
    )  # fmt: skip
    return evaluate(context, policies).decision == "Allow"


def _parse(document: str | Shape):
    return parse_policy_document(document if isinstance(document, (str, dict)) else json.dumps(document))


def _needed(call: Call):
    """Yields (action, resource ARN, condition keys) of every permission that the call takes on AWS."""
    action, params = f"{call['service']}:{call['action']}", call["params"]
    if call["action"] == "RunInstances":
        yield from _run_instances(params)
    elif call["service"] == "eks":
        yield action, f"arn:aws:eks:{call['region']}:{call['account']}:cluster/{params.get('name', '*')}", {}
    elif call["action"] == "DescribeInstanceAttribute":  # The Describes of ours that EC2 judges by resource.
        yield action, _arn(params["InstanceId"]), _tags(params["InstanceId"])
    elif call["action"] == "DescribeSnapshotAttribute":
        yield action, _arn(params["SnapshotId"]), _tags(params["SnapshotId"])
    elif call["action"].startswith(("Describe", "Get", "List")):
        yield action, "*", {}
    elif call["action"] == "CreateImage":
        yield from _create_image(params)
    elif call["service"] == "elasticloadbalancing":
        yield action, params.get("TargetGroupArn", "*"), {}
    elif call["service"] == "ec2":
        ids = [v for k, v in params.items() if k.startswith(NAMES_A_RESOURCE)] or ["*"]
        requested = _requested_tags(params, "Tag.")
        for resource_id in ids:
            yield action, _arn(resource_id), {**_tags(resource_id), **requested}
    elif call["action"] in ("CreateOrUpdateTags", "DeleteTags"):
        tagged = [v for k, v in params.items() if k.endswith(".ResourceId")]
        for name in dict.fromkeys(tagged):
            arn, keys = _group({"AutoScalingGroupName": name})
            yield action, arn, {**keys, **_requested_tags(params, "Tags.member.")}
    elif call["service"] == "autoscaling":
        arn, keys = _group(params)
        yield action, arn, {**keys, **_group_update(params)}
    else:
        yield action, "*", {}


def _group_update(params: dict[str, str]):
    """Service authorization reference, "Actions, resources, and condition keys for Amazon EC2 Auto Scaling"."""
    names = ("LaunchConfigurationName", "MaxSize", "MinSize")
    keys: Shape = {f"autoscaling:{name}": params[name] for name in names if name in params}
    if subnets := params.get("VPCZoneIdentifier"):
        keys["autoscaling:VPCZoneIdentifiers"] = subnets.split(",")
    template = [k for k in params if k.startswith(("LaunchTemplate.", "MixedInstancesPolicy."))]
    if template:
        keys["autoscaling:LaunchTemplateVersionSpecified"] = str(any(k.endswith(".Version") for k in template)).lower()
    if types := [v for k, v in params.items() if k.startswith("MixedInstancesPolicy.") and k.endswith(".InstanceType")]:
        keys["autoscaling:InstanceTypes"] = types
    return keys


def _run_instances(params: dict[str, str]):
    """Service authorization reference, "Actions, resources, and condition keys for Amazon EC2"."""
    template, data = params.get("LaunchTemplate.LaunchTemplateId"), _template(params)
    tags = _requested_tags(params, "TagSpecification.1.Tag.")
    market = {"ec2:InstanceMarketType": params.get("InstanceMarketOptions.MarketType", "on-demand")}
    kind = {"ec2:InstanceType": params["InstanceType"]} if "InstanceType" in params else {}
    common = {"ec2:LaunchTemplate": _arn(template)} if template else {}
    tagged = {v for k, v in params.items() if k.endswith(".ResourceType")}
    resources = {
        "instance/*": {**market, **kind},
        "volume/*": {},
        "network-interface/*": {},
        "security-group/sg-local": {},
        "image/ami-local": {},
        f"subnet/{params.get('SubnetId', 'subnet-local')}": {},
    }
    if group := params.get("Placement.GroupName") or (data.get("Placement") or {}).get("GroupName"):
        resources[f"placement-group/{group}"] = {}
    for resource, keys in resources.items():
        requested = tags if resource.split("/")[0] in tagged else {}
        yield "ec2:RunInstances", _arn(resource), {**common, **keys, **requested}
    for license in data.get("LicenseSpecifications") or []:
        yield "ec2:RunInstances", license["LicenseConfigurationArn"], common
    if template:
        yield "ec2:RunInstances", _arn(template), common
    for tagged_kind in tagged:
        yield "ec2:CreateTags", _arn(f"{tagged_kind}/*"), {**tags, "ec2:CreateAction": "RunInstances"}
    image = params.get("ImageId") or data.get("ImageId", "")
    if image.startswith(SSM):
        yield "ssm:GetParameters", _parameter_arn(image.removeprefix(SSM)), {}
    if profile := _profile(data) or params.get("IamInstanceProfile.Arn", "").rsplit("/", 1)[-1]:
        yield "iam:PassRole", f"arn:aws:iam::{WORLD.account}:role/{profile}", {"iam:PassedToService": "ec2.amazonaws.com"}


def _create_image(params: dict[str, str]):
    """Yields the permissions on the instance, and on the image and snapshots that the call makes."""
    yield "ec2:CreateImage", _arn(params["InstanceId"]), _tags(params["InstanceId"])
    kinds = {v: k.split(".")[1] for k, v in params.items() if k.endswith(".ResourceType")}
    for kind in ("image", "snapshot"):
        number = kinds.get(kind)
        tags = _requested_tags(params, f"TagSpecification.{number}.Tag.") if number else {}
        yield "ec2:CreateImage", _arn(f"{kind}/new"), tags
        if tags:
            yield "ec2:CreateTags", _arn(f"{kind}/new"), {**tags, "ec2:CreateAction": "CreateImage"}


def _requested_tags(params: dict[str, str], prefix: str):
    """Returns `Tag.1.Key=team&Tag.1.Value=web` as condition keys."""
    keys = {v: params.get(k[:-3] + "Value", "") for k, v in params.items() if k.startswith(prefix) and k.endswith("Key")}
    return {f"aws:RequestTag/{k}": v for k, v in keys.items()} | ({"aws:TagKeys": list(keys)} if keys else {})


def _template(params: dict[str, str]):
    """Returns the data of the template version that the call names; empty without a template."""
    template = ec2_backends[WORLD.account]["us-east-1"].launch_templates.get(params.get("LaunchTemplate.LaunchTemplateId"))
    return template.get_version(params.get("LaunchTemplate.Version", "$Default")).data if template else {}


def _profile(template: Shape):
    profile = template.get("IamInstanceProfile") or {}
    return profile.get("Name") or profile.get("Arn", "").rsplit("/", 1)[-1]


def _parameter_arn(name: str):
    """EC2 User Guide, "Use a Systems Manager parameter instead of an AMI ID". AWS's public parameters belong to no
    account."""
    owner = "" if name.startswith("/aws/") else WORLD.account
    return f"arn:aws:ssm:us-east-1:{owner}:parameter/{name.split(':')[0].lstrip('/')}"


def _arn(resource_id: str):
    kinds = {
        "ami": "image",
        "snap": "snapshot",
        "eipalloc": "elastic-ip",
        "i": "instance",
        "lt": "launch-template",
        "vol": "volume",
        "eni": "network-interface",
    }
    if "/" not in resource_id:
        resource_id = f"{kinds.get(resource_id.split('-')[0], '*')}/{resource_id}"
    account = "" if resource_id.startswith(("image/", "snapshot/")) else WORLD.account
    return f"arn:aws:ec2:us-east-1:{account}:{resource_id}"


def _tags(resource_id: str):
    tags = {t["key"]: t["value"] for t in ec2_backends[WORLD.account]["us-east-1"].describe_tags({"resource-id": [resource_id]})}
    return {f"{prefix}:ResourceTag/{k}": v for k, v in tags.items() for prefix in ("aws", "ec2")}


def _group(params: dict[str, str]):
    groups = autoscaling_backends[WORLD.account]["us-east-1"].autoscaling_groups
    name = params.get("AutoScalingGroupName") or next(
        (g.name for g in groups.values() for s in g.instance_states if s.instance.id == params.get("InstanceId")), None
    )
    if name not in groups:
        wild = f"arn:aws:autoscaling:us-east-1:{WORLD.account}:autoScalingGroup:*:autoScalingGroupName/{name or '*'}"
        return wild, {}
    tags = {t["Key"]: t["Value"] for t in groups[name].tags}
    keys = {f"{prefix}:ResourceTag/{k}": v for k, v in tags.items() for prefix in ("aws", "autoscaling")}
    return groups[name].arn, keys
