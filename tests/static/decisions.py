"""The rows of the decision table: the requests, and the functions that may make them. `test_permissions` judges them.

Sources: Service authorization reference, "Actions, resources, and condition keys", of each service.
"""

from local_aws.paths import ACCOUNT, REGION

CLUSTER, NODE, LAB = "ClusterOptimizer", "KubernetesOptimizer", "LabOptimizer"
RECONCILER, RISK, ENFORCER, SCANNER = "Reconciler", "RiskManager", "SecurityEnforcer", "WasteScanner"
WATCHER, RESPONDER = "GroupWatcher", "InterruptionResponder"
FUNCTIONS = [CLUSTER, NODE, LAB, RECONCILER, RISK, ENFORCER, SCANNER, WATCHER, RESPONDER]
# How each function names its sessions in another account.
SESSIONS = {
    CLUSTER: "spot-optimizer-run-1a2b", NODE: "spot-optimizer-node-1a2b", LAB: "spot-optimizer-lab-1a2b",
    RECONCILER: "spot-optimizer-recovery-1a2b", RISK: "spot-optimizer-risk", ENFORCER: "spot-optimizer-audit",
    SCANNER: "spot-optimizer-waste", WATCHER: "spot-optimizer-watch", RESPONDER: "spot-optimizer-respond",
}  # fmt: skip

LAUNCHERS = [CLUSTER, NODE, LAB]
SWAPS = [*LAUNCHERS, RECONCILER]
GROUPS = [CLUSTER, NODE, RECONCILER]
NOBODY = []

INSTANCE = "arn:aws:ec2:eu-west-1:{account}:instance/i-0a"
GROUP = "arn:aws:autoscaling:eu-west-1:{account}:autoScalingGroup:1f0e:autoScalingGroupName/web"
ROLE = "arn:aws:iam::{account}:role/"
IMAGE, SNAPSHOT = "arn:aws:ec2:eu-west-1::image/ami-0a", "arn:aws:ec2:eu-west-1::snapshot/snap-0a"
SECRET = "arn:aws:secretsmanager:eu-west-1:{account}:secret:"
KEY = "arn:aws:kms:eu-west-1:{account}:key/1a2b"


def table(name):
    return f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{name}Table"


def tagged(*keys, **tags):
    return {**{f"aws:ResourceTag/{key}": "x" for key in keys}, **{f"aws:ResourceTag/{k}": v for k, v in tags.items()}}


def requested(**tags):
    return {f"aws:RequestTag/{k}": v for k, v in tags.items()} | {"aws:TagKeys": list(tags)}


OURS = tagged("spot-optimizer:swap", ManagedBy="SpotOptimizer")
SPOT = {"ec2:InstanceMarketType": "spot"}
ON_DEMAND = {"ec2:InstanceMarketType": "on-demand"}
MARK = requested(ManagedBy="SpotOptimizer")
SWAP_MARK = requested(**{"ManagedBy": "SpotOptimizer", "spot-optimizer:swap": "i-0a-1"})
TO_EC2 = {"iam:PassedToService": "ec2.amazonaws.com"}
VIA_EC2 = {"kms:ViaService": "ec2.eu-west-1.amazonaws.com"}
MEMBER = "aws:autoscaling:groupName"
# Auto Scaling launches through EC2 Fleet: a member bears its tag, and keeps it when it is detached.
FLEET = "aws:ec2:fleet-id"
# Only AWS can set these, and nothing that a swap launches or retires bears one.
RESERVED = ["aws:ec2spot:fleet-request-id", "aws:elasticmapreduce:job-flow-id", "aws:cloud9:environment"]


def of_secret(name):
    arn = f"arn:aws:secretsmanager:eu-west-1:{{account}}:secret:{name}"
    return {"kms:ViaService": "secretsmanager.eu-west-1.amazonaws.com", "kms:EncryptionContext:SecretARN": arn}


# (what is asked, action, resource, condition keys, who may), the same in every account.
EVERYWHERE = [
    # Terminate.
    ("an instance without a mark", "ec2:TerminateInstances", INSTANCE, {}, [*SWAPS, ENFORCER]),
    ("a newcomer", "ec2:TerminateInstances", INSTANCE, OURS, SWAPS),
    ("a member of a group", "ec2:TerminateInstances", INSTANCE, tagged(MEMBER), GROUPS),
    ("a former member of a group", "ec2:TerminateInstances", INSTANCE, tagged(FLEET), GROUPS),
    ("an EKS node", "ec2:TerminateInstances", INSTANCE, tagged("aws:eks:cluster-name"), GROUPS),
    ("a node by its owner's tag", "ec2:TerminateInstances", INSTANCE, tagged("eks:cluster-name"), GROUPS),
    *[(key, "ec2:TerminateInstances", INSTANCE, tagged(key), NOBODY) for key in RESERVED],
    *[(f"a member with {key}", "ec2:TerminateInstances", INSTANCE, tagged(MEMBER, key), NOBODY) for key in RESERVED],
    # Start and stop.
    ("a stand-alone instance", "ec2:StopInstances", INSTANCE, {}, [LAB, RECONCILER]),
    ("a stand-alone instance", "ec2:StartInstances", INSTANCE, {}, [LAB, RECONCILER]),
    *[
        (f"an instance with {key}", action, INSTANCE, tagged(key), NOBODY)
        for action in ("ec2:StopInstances", "ec2:StartInstances")
        for key in [MEMBER, FLEET, "aws:eks:cluster-name", "eks:cluster-name", *RESERVED]
    ],
    ("an instance's attributes", "ec2:ModifyInstanceAttribute", INSTANCE, {}, NOBODY),
    # Groups.
    ("MaxSize", "autoscaling:UpdateAutoScalingGroup", GROUP, {"autoscaling:MaxSize": "5"}, [*GROUPS, RESPONDER]),
    *[
        (f"{key} beside MaxSize", "autoscaling:UpdateAutoScalingGroup", GROUP, {"autoscaling:MaxSize": "5", f"autoscaling:{key}": value}, NOBODY)
        for key, value in {
            "MinSize": "0", "LaunchConfigurationName": "mine", "LaunchTemplateVersionSpecified": "true",
            "VPCZoneIdentifiers": ["subnet-0a"], "InstanceTypes": ["m5.large"],
        }.items()
    ],
    # AWS may tell "false" of an update that names no template, too. The launches of another template are Spot or none.
    ("MaxSize, no template version", "autoscaling:UpdateAutoScalingGroup", GROUP, {"autoscaling:MaxSize": "5", "autoscaling:LaunchTemplateVersionSpecified": "false"}, [*GROUPS, RESPONDER]),
    ("anything but MaxSize", "autoscaling:UpdateAutoScalingGroup", GROUP, {}, NOBODY),
    *[
        ("members of a group", f"autoscaling:{action}", GROUP, {}, GROUPS)
        for action in ("AttachInstances", "DetachInstances", "ResumeProcesses")
    ],
    ("a member through its group", "autoscaling:TerminateInstanceInAutoScalingGroup", GROUP, {}, [*GROUPS, RESPONDER]),
    ("one more of a group", "autoscaling:SetDesiredCapacity", GROUP, {}, [RESPONDER]),
    ("a process", "autoscaling:SuspendProcesses", GROUP, {}, [CLUSTER, NODE]),
    *[
        (what, f"autoscaling:{action}", GROUP, keys, who)
        for action in ("CreateOrUpdateTags", "DeleteTags")
        for what, keys, who in (
            ("a run in tags", {"aws:TagKeys": ["spot-optimizer:last-run", "spot-optimizer:last-error"]}, [CLUSTER]),
            ("another tag", {"aws:TagKeys": ["spot-optimizer:enabled"]}, NOBODY),
            ("another tag beside it", {"aws:TagKeys": ["spot-optimizer:last-run", "team"]}, NOBODY),
            ("tags that are not told", {}, NOBODY),
        )
    ],
    *[
        ("a group", f"autoscaling:{action}", GROUP, {}, NOBODY)
        for action in ("CreateAutoScalingGroup", "DeleteAutoScalingGroup", "SetInstanceProtection")
    ],
    # Launch.
    ("Spot with our mark", "ec2:RunInstances", "arn:aws:ec2:eu-west-1:{account}:instance/*", {**SPOT, **MARK}, LAUNCHERS),
    ("Spot without it", "ec2:RunInstances", "arn:aws:ec2:eu-west-1:{account}:instance/*", SPOT, NOBODY),
    ("On-Demand of a swap", "ec2:RunInstances", "arn:aws:ec2:eu-west-1:{account}:instance/*", {**ON_DEMAND, **SWAP_MARK}, [CLUSTER]),
    ("On-Demand with our mark", "ec2:RunInstances", "arn:aws:ec2:eu-west-1:{account}:instance/*", {**ON_DEMAND, **MARK}, NOBODY),
    ("On-Demand without it", "ec2:RunInstances", "arn:aws:ec2:eu-west-1:{account}:instance/*", ON_DEMAND, NOBODY),
    ("a capacity block", "ec2:RunInstances", "arn:aws:ec2:eu-west-1:{account}:instance/*", {"ec2:InstanceMarketType": "capacity-block", **SWAP_MARK}, NOBODY),
    ("a subnet", "ec2:RunInstances", "arn:aws:ec2:eu-west-1:{account}:subnet/subnet-0a", {}, LAUNCHERS),
    ("a fleet", "ec2:CreateFleet", "arn:aws:ec2:eu-west-1:{account}:fleet/*", {}, NOBODY),
    ("a template", "ec2:CreateLaunchTemplateVersion", "arn:aws:ec2:eu-west-1:{account}:launch-template/lt-0a", {}, NOBODY),
    ("a role to EC2", "iam:PassRole", ROLE + "app", TO_EC2, LAUNCHERS),
    ("a role to Lambda", "iam:PassRole", ROLE + "app", {"iam:PassedToService": "lambda.amazonaws.com"}, NOBODY),
    ("a role to anybody", "iam:PassRole", ROLE + "app", {}, NOBODY),
    ("Spot's service-linked role", "iam:CreateServiceLinkedRole", ROLE + "aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot", {"iam:AWSServiceName": "spot.amazonaws.com"}, LAUNCHERS),
    ("another service-linked role", "iam:CreateServiceLinkedRole", ROLE + "aws-service-role/ops.amazonaws.com/AWSServiceRoleForOps", {"iam:AWSServiceName": "ops.amazonaws.com"}, NOBODY),
    ("an image's parameter", "ssm:GetParameters", "arn:aws:ssm:eu-west-1::parameter/aws/service/ami", {}, LAUNCHERS),
    *[("IAM", f"iam:{action}", ROLE + "app", {}, NOBODY) for action in ("CreateRole", "AttachRolePolicy", "PutRolePolicy", "UpdateAssumeRolePolicy")],
    # Tags.
    ("at a launch", "ec2:CreateTags", "arn:aws:ec2:eu-west-1:{account}:instance/*", {**MARK, "ec2:CreateAction": "RunInstances"}, LAUNCHERS),
    ("our mark, on our newcomer", "ec2:CreateTags", INSTANCE, {**MARK, **tagged("spot-optimizer:swap")}, [CLUSTER, NODE]),
    ("our mark, on another instance", "ec2:CreateTags", INSTANCE, MARK, NOBODY),
    ("another tag, on our newcomer", "ec2:CreateTags", INSTANCE, {**requested(team="web"), **tagged("spot-optimizer:swap")}, NOBODY),
    ("a tag", "ec2:DeleteTags", INSTANCE, OURS, NOBODY),
    # Disks.
    ("of an instance", "ec2:CreateImage", INSTANCE, {}, [LAB]),
    *[("with our mark", "ec2:CreateImage", resource, MARK, [LAB]) for resource in (IMAGE, SNAPSHOT)],
    *[("without our mark", "ec2:CreateImage", resource, {}, NOBODY) for resource in (IMAGE, SNAPSHOT)],
    *[
        (what, action, resource, tags, who)
        for action, resource in (
            ("ec2:DeregisterImage", IMAGE), ("ec2:DeleteSnapshot", SNAPSHOT),
            ("ec2:DeleteVolume", "arn:aws:ec2:eu-west-1:{account}:volume/vol-0a"),
        )
        for what, tags, who in (
            ("of ours", OURS, [LAB, RECONCILER]), ("of others", {}, NOBODY),
            ("without a swap", tagged(ManagedBy="SpotOptimizer"), NOBODY),
        )
    ],
    # What a lab swap moves.
    ("an address", "ec2:AssociateAddress", "arn:aws:ec2:eu-west-1:{account}:elastic-ip/eipalloc-0a", {}, [LAB, RECONCILER]),
    ("an address", "ec2:ReleaseAddress", "arn:aws:ec2:eu-west-1:{account}:elastic-ip/eipalloc-0a", {}, NOBODY),
    *[
        ("targets", f"elasticloadbalancing:{action}", "arn:aws:elasticloadbalancing:eu-west-1:{account}:targetgroup/web/1a2b", {}, [LAB, RECONCILER])
        for action in ("DeregisterTargets", "RegisterTargets")
    ],
    # Keys.
    *[("through EC2", f"kms:{action}", KEY, VIA_EC2, SWAPS) for action in ("Decrypt", "GenerateDataKeyWithoutPlaintext", "ReEncryptTo")],
    ("directly", "kms:Decrypt", KEY, {}, NOBODY),
    ("through another service", "kms:Decrypt", KEY, {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}, NOBODY),
    ("to an AWS resource", "kms:CreateGrant", KEY, {**VIA_EC2, "kms:GrantIsForAWSResource": "true"}, SWAPS),
    ("to anybody", "kms:CreateGrant", KEY, {**VIA_EC2, "kms:GrantIsForAWSResource": "false"}, NOBODY),
    ("of a kubeconfig", "kms:Decrypt", KEY, of_secret("spot-optimizer/prod"), [NODE, RECONCILER]),
    ("of another secret", "kms:Decrypt", KEY, of_secret("prod/database"), NOBODY),
    # Clusters.
    ("a cluster", "eks:DescribeCluster", "arn:aws:eks:eu-west-1:{account}:cluster/prod", {}, [NODE, RECONCILER]),
    ("a kubeconfig", "secretsmanager:GetSecretValue", SECRET + "spot-optimizer/prod-1a2b", {}, [NODE, RECONCILER]),
    ("another secret", "secretsmanager:GetSecretValue", SECRET + "prod/database-1a2b", {}, NOBODY),
    # User data can be read by it, and EC2 has no key for which attribute is asked.
    ("of any instance", "ec2:DescribeInstanceAttribute", INSTANCE, {}, [*SWAPS, ENFORCER]),
    *[
        (f"of an instance with {key}", "ec2:DescribeInstanceAttribute", INSTANCE, tagged(key), SWAPS)
        for key in [MEMBER, FLEET, "aws:eks:cluster-name", "eks:cluster-name"]
    ],
    # The rule that hands the notices of a place to the stack.
    *[
        (what, f"events:{action}", f"arn:aws:events:eu-west-1:{{account}}:rule/{rule}", {}, who)
        for action in ("DescribeRule", "ListTargetsByRule")
        for what, rule, who in (("of notices", "spot-optimizer-notices", LAUNCHERS), ("another rule", "payments", NOBODY))
    ],
    *[
        ("of notices", f"events:{action}", "arn:aws:events:eu-west-1:{account}:rule/spot-optimizer-notices", {}, NOBODY)
        for action in ("DeleteRule", "DisableRule", "PutRule", "PutTargets", "RemoveTargets")
    ],
    # Look.
    *[
        ("look", action, "*", {}, who)
        for action, who in {
            "autoscaling:DescribeAutoScalingGroups": [*GROUPS, WATCHER, RESPONDER],
            "autoscaling:DescribeInstanceRefreshes": [*LAUNCHERS, WATCHER, RESPONDER],
            "autoscaling:DescribeLaunchConfigurations": [*LAUNCHERS, SCANNER, WATCHER],
            "autoscaling:DescribeLifecycleHooks": [*LAUNCHERS, WATCHER],
            "autoscaling:DescribeScheduledActions": LAUNCHERS,
            "ec2:DescribeAddresses": [LAB, RECONCILER, SCANNER],
            "ec2:DescribeAvailabilityZones": [*LAUNCHERS, RISK, WATCHER],
            "ec2:DescribeImages": [*SWAPS, SCANNER, WATCHER],
            "ec2:DescribeInstances": [*SWAPS, RISK, ENFORCER, WATCHER, RESPONDER],
            "ec2:DescribeInstanceCreditSpecifications": [LAB, RECONCILER],
            "ec2:DescribeInstanceStatus": SWAPS,
            "ec2:DescribeInstanceTypes": [LAB, RECONCILER],
            "ec2:DescribeLaunchTemplateVersions": [*LAUNCHERS, SCANNER, WATCHER],
            "ec2:DescribeLockedSnapshots": [SCANNER],
            "ec2:DescribeSnapshotAttribute": [SCANNER],
            "ec2:DescribeSnapshots": [LAB, RECONCILER, SCANNER],
            "ec2:DescribeRegions": [RISK, ENFORCER, SCANNER, WATCHER],
            "ec2:DescribeSpotInstanceRequests": [*SWAPS, RISK],
            "ec2:DescribeSpotPriceHistory": LAUNCHERS,
            "ec2:DescribeSubnets": [*LAUNCHERS, WATCHER],
            "ec2:DescribeVolumes": [LAB, RECONCILER, SCANNER],
            "ec2:ListImagesInRecycleBin": [SCANNER],
            "ec2:ListSnapshotsInRecycleBin": [SCANNER],
            "ec2:ListVolumesInRecycleBin": [SCANNER],
            "elasticloadbalancing:DescribeTargetGroups": [*SWAPS, WATCHER],
            "elasticloadbalancing:DescribeTargetHealth": [*SWAPS, WATCHER, RESPONDER],
            "ec2:GetConsoleOutput": NOBODY,
            "ec2:GetPasswordData": NOBODY,
        }.items()
    ],
]  # fmt: skip

ADMIN = "arn:aws:iam::666666666666:role/OrganizationAdmin"
THERE = "arn:aws:iam::666666666666:role/SpotOptimizer"

QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:FailedEventsQueue"

# What only the stack's own account holds.
AT_HOME = [
    *[
        (name, f"dynamodb:{action}", table(name), {}, NOBODY)
        for name in ("Accounts", "Settings")
        for action in ("BatchWriteItem", "DeleteItem", "PutItem", "UpdateItem")
    ],
    *[
        (name, f"dynamodb:{action}", table(name), {}, NOBODY)
        for name in ("Swaps", "InstanceAuth", "SpotPoolRisk", "Sightings", "WasteResource", "Groups")
        for action in ("DeleteItem", "DeleteTable", "UpdateTable", "PutResourcePolicy")
    ],
    ("a lease", "dynamodb:UpdateItem", table("Swaps"), {}, [*SWAPS, RESPONDER]),
    ("a whole row", "dynamodb:PutItem", table("Swaps"), {}, NOBODY),
    ("the leases", "dynamodb:Scan", table("Swaps"), {}, [RECONCILER, ENFORCER]),
    ("the pools of newcomers", "dynamodb:BatchWriteItem", table("Swaps"), {"dynamodb:LeadingKeys": ["newcomer#a", "newcomer#b"]}, GROUPS),
    ("a lease beside them", "dynamodb:BatchWriteItem", table("Swaps"), {"dynamodb:LeadingKeys": ["newcomer#a", "arn:aws:autoscaling:b"]}, NOBODY),
    ("what a swap launched", "dynamodb:GetItem", table("Swaps"), {}, [*SWAPS, RISK, RESPONDER]),
    ("many leases", "dynamodb:BatchGetItem", table("Swaps"), {}, [WATCHER]),
    ("the memory of the loop", "dynamodb:UpdateItem", table("Groups"), {}, [WATCHER]),
    ("the memory of the loop", "dynamodb:Scan", table("Groups"), {}, [WATCHER]),
    ("a verdict", "dynamodb:UpdateItem", table("InstanceAuth"), {}, [ENFORCER]),
    ("a pool", "dynamodb:UpdateItem", table("SpotPoolRisk"), {}, [RISK]),
    ("the gate", "dynamodb:BatchGetItem", table("SpotPoolRisk"), {}, [*SWAPS, WATCHER]),
    ("a sighting", "dynamodb:UpdateItem", table("Sightings"), {}, [RISK]),
    ("a finding", "dynamodb:PutItem", table("WasteResource"), {}, [SCANNER]),
    ("the registry", "dynamodb:GetItem", table("Accounts"), {}, FUNCTIONS),
    ("the settings", "dynamodb:BatchGetItem", table("Settings"), {}, FUNCTIONS),
    ("an optimizer", "lambda:InvokeFunction", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:ClusterOptimizerFunction", {}, NOBODY),
    ("the optimizer of nodes", "lambda:InvokeFunction", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:KubernetesOptimizerFunction", {}, NOBODY),
    ("its code", "lambda:UpdateFunctionCode", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:spot-optimizer-ClusterOptimizerFunction-1ABC2DEF3GHI", {}, NOBODY),
    ("an execution", "states:StartExecution", f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:ClusterSwapStateMachine", {}, [WATCHER, RESPONDER]),
    ("a lab swap", "states:StartExecution", f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:LabSwapStateMachine", {}, [WATCHER]),
    ("an answer", "states:StartExecution", f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:spot-optimizer-interruptions", {}, [RESPONDER]),
    ("an execution of others", "states:StartExecution", f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:payments", {}, NOBODY),
    ("an execution", "states:DescribeExecution", f"arn:aws:states:{REGION}:{ACCOUNT}:execution:ClusterSwapStateMachine:1a2b", {}, [RECONCILER, WATCHER]),
    ("a lab swap", "states:DescribeExecution", f"arn:aws:states:{REGION}:{ACCOUNT}:execution:LabSwapStateMachine:1a2b", {}, [RECONCILER, WATCHER]),
    ("an execution", "states:StopExecution", f"arn:aws:states:{REGION}:{ACCOUNT}:execution:ClusterSwapStateMachine:1a2b", {}, NOBODY),
    ("an execution of others", "states:DescribeExecution", f"arn:aws:states:{REGION}:{ACCOUNT}:execution:payments:1a2b", {}, NOBODY),
    # Lambda delivers what failed in the name of a function that events or schedules invoke.
    ("what failed", "sqs:SendMessage", QUEUE, {}, [RECONCILER, RISK, ENFORCER, SCANNER, WATCHER, RESPONDER]),
    ("what failed", "sqs:ReceiveMessage", QUEUE, {}, NOBODY),
    ("the alerts", "sns:Publish", f"arn:aws:sns:{REGION}:{ACCOUNT}:AlertsTopic", {}, [*SWAPS, RISK, ENFORCER, SCANNER, WATCHER, RESPONDER]),
    ("another topic", "sns:Publish", f"arn:aws:sns:{REGION}:{ACCOUNT}:payments", {}, NOBODY),
    ("our events", "events:PutEvents", f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default", {"events:source": "spot-optimizer"}, [*SWAPS, ENFORCER, SCANNER, WATCHER, RESPONDER]),
    ("reports", "events:PutEvents", f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/spot-optimizer-reports", {"events:source": "spot-optimizer"}, NOBODY),
    ("events of others", "events:PutEvents", f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default", {"events:source": "payments"}, NOBODY),
    ("prices", "pricing:GetProducts", "*", {}, [*LAUNCHERS, ENFORCER, SCANNER]),
    ("offers", "ec2:DescribeInstanceTypeOfferings", "*", {}, [RISK]),
    *[
        (f"in another account, as {session}", "sts:AssumeRole", THERE, {"sts:RoleSessionName": session}, [f for f in FUNCTIONS if SESSIONS[f] == session])
        for session in [*SESSIONS.values(), "spot-optimizer-other-1a2b", "spot-optimizer-audit-2"]
    ],
    *[("another role", "sts:AssumeRole", ADMIN, {"sts:RoleSessionName": session}, NOBODY) for session in SESSIONS.values()],
]  # fmt: skip

# Actions of home that are not for another account, by service or in full, each with the reason.
AT_HOME_ALONE = {
    "dynamodb": "the tables lie with the stack",
    "events:PutEvents": "so does the bus",
    "pricing": "a price list is of no account",
    "sns": "the topic lies with the stack",
    "sqs": "so does the queue",
    "states": "so do the state machines",
    "sts": "the role there assumes no further one",
    "ec2:DescribeInstanceTypeOfferings": "the share of a region that is poisoned is measured with the offers of home",
}
