"""Groups as real fleets have them: the groups that are fit for a swap, the members left alone, and the replacements."""

import uuid

import pytest

from local_aws.groups import create_template
from scene import reasons

CONSENT = "spot-optimizer:ignore-launch-hooks"
CODEDEPLOY = "CodeDeploy-managed-automatic-launch-deployment-hook-shop-4c1f"

# -- fitness -----------------------------------------------------------------------------------------------------------


def hooked(name="bootstrap", **more):
    return lambda web: web.hook("LAUNCHING", name, DefaultResult="ABANDON", **more)


def interface(**more):
    return {"NetworkInterfaces": [{"DeviceIndex": 0, **more}], "SecurityGroupIds": None}


ATTRIBUTES = {"VCpuCount": {"Min": 2}, "MemoryMiB": {"Min": 4096}}
ONLY_RESERVED = {"CapacityReservationPreference": "capacity-reservations-only"}
UNFIT = {
    "a launching hook": ({}, hooked(), ["bootstrap", CONSENT]),
    "a launching hook without consent": ({"tags": {CONSENT: "false"}}, hooked(), ["bootstrap"]),
    "a hook of CodeDeploy": ({}, hooked(CODEDEPLOY), ["CodeDeploy", CODEDEPLOY]),
    "ECS, by an empty tag": ({"tags": {"AmazonECSManaged": ""}}, None, ["AmazonECSManaged", "ECS"]),
    "ECS, by a tag that says true": ({"tags": {"AmazonECSManaged": "true"}}, None, ["ECS"]),
    "Beanstalk, by its id": ({"tags": {"elasticbeanstalk:environment-id": "e-1234567890"}}, None, ["Elastic Beanstalk"]),
    "Beanstalk, by its name": ({"tags": {"elasticbeanstalk:environment-name": "shop"}}, None, ["Elastic Beanstalk"]),
    "a tag that would overwrite ours": ({"tags": {"spot-optimizer:swap": "mine"}}, None, ["spot-optimizer:swap"]),
    "types by attributes in its template": (
        {"template_data": {"InstanceRequirements": ATTRIBUTES, "InstanceType": None}}, None, ["InstanceRequirements"],
    ),
    "hibernation": ({"template_data": {"HibernationOptions": {"Configured": True}}}, None, ["ibernat"]),
    "a capacity reservation only": (
        {"template_data": {"CapacityReservationSpecification": ONLY_RESERVED}}, None, ["eservation"],
    ),
    "a fixed network interface": ({"template_data": interface(NetworkInterfaceId="eni-0123456789")}, None, ["interface"]),
    "a fixed private address": ({"template_data": interface(PrivateIpAddress="10.0.0.99")}, None, ["address"]),
    "a maximum price that is none": (
        {"overrides": ["m5.large"], "distribution": {"SpotMaxPrice": "cheap"}}, None, ["SpotMaxPrice"],
    ),
    "a Spot price that is none": ({"launch_configuration": {"SpotPrice": "cheap"}}, None, ["SpotPrice"]),
}  # fmt: skip
MALFORMED = [
    (CONSENT, "yes"),
    ("spot-optimizer:warm-up-seconds", "7201"),
    ("spot-optimizer:warm-up-seconds", "5m"),
    ("spot-optimizer:ready-tag", "=yes"),
    ("spot-optimizer:instance-types", "m5.large,what?"),
]


@pytest.mark.parametrize("case", UNFIT)
def test_a_group_is_refused_before_its_lease_for(scene, case):
    options, change, named = UNFIT[case]
    web = scene(**{"size": 1, "minimum": 0, **options})
    if change:
        change(web)
    for dry_run in (True, False):
        error, cause = web.refused(dry_run=dry_run)
        assert error == "GroupNotSupported", cause
        assert all(word in cause for word in [*named, web.name]), cause
        web.assert_never_leased()


@pytest.mark.parametrize("tag, value", MALFORMED)
def test_a_wish_of_the_owner_that_cannot_be_read_stops_the_run(scene, tag, value):
    web = scene(size=1, minimum=0)
    web.tag_group(tag, value)
    error, cause = web.refused()
    assert error == "GroupNotSupported" and all(word in cause for word in (web.name, tag)), cause
    web.assert_never_leased()


@pytest.mark.parametrize("name", ["bootstrap", CODEDEPLOY])
def test_the_owners_consent_lets_a_launching_hook_be(scene, name):
    web = scene(size=1, minimum=0, tags={CONSENT: "true"})
    web.hook("LAUNCHING", name)
    web.assert_swapped(web.swap())


# -- members -----------------------------------------------------------------------------------------------------------

NODES = {
    "kubernetes.io/cluster/prod": "owned",
    "kubernetes.io/cluster/test": "true",
    "kubernetes.io/cluster/x": "",
    "KubernetesCluster": "prod.example.com",
    "k8s.io/cluster-autoscaler/enabled": "true",
    "k8s.io/cluster-autoscaler/node-template/label/team": "web",
    "k8s.io/role/node": "1",
    "k8s.io/role/control-plane": "1",
    "kops.k8s.io/instancegroup": "nodes",
    "karpenter.sh/nodepool": "default",
    "eks:nodegroup-name": "ng-1",
    "eks:cluster-name": "shop",
    "alpha.eksctl.io/cluster-name": "shop",
    "sigs.k8s.io/cluster-api-provider-aws/cluster/prod": "owned",
}
SERVICES = {
    "AWSBatchServiceTag": "batch",
    "aws:batch:compute-environment": "queue",
    "aws:ec2spot:fleet-request-id": "sfr-1",
    "aws:elasticmapreduce:job-flow-id": "j-1",
    "aws:cloud9:environment": "c9",
    "CreatedBy": "EC2 Image Builder",
    "AWSApplicationMigrationServiceManaged": "",
    "AWSElasticDisasterRecoveryManaged": "drs.amazonaws.com",
    "AWSRDSCustom": "custom-oracle",
    "awsbackup-restore-test": "plan",
}


@pytest.mark.parametrize("reason, marks", [("KUBERNETES_NODE", NODES), ("MANAGED_ELSEWHERE", SERVICES)])
def test_members_that_bear_a_mark_are_left_alone_whatever_its_value(aws, scene, reason, marks):
    web = scene(size=len(marks))
    for instance_id, mark in zip(web.old, marks):
        web.tag(instance_id, mark, marks[mark])
    dry, wet = web.swap(dry_run=True), web.swap()
    for report in (dry, wet):
        left = {left["instance_id"]: left for left in report["skipped"]}
        for instance_id, mark in zip(web.old, marks):
            assert left[instance_id]["reason"] == reason, (mark, left[instance_id])
            assert mark in left[instance_id]["detail"]
    assert aws.control.calls(action="RunInstances") == [] and dry["planned"] == []
    web.assert_untouched()


GROUP_MARKS = {
    "k8s.io/cluster-autoscaler/enabled": ("true", "KUBERNETES_NODE"),
    "kubernetes.io/cluster/prod": ("", "KUBERNETES_NODE"),
    "KubernetesCluster": ("prod", "KUBERNETES_NODE"),
    "eks:nodegroup-name": ("ng-1", "KUBERNETES_NODE"),
    "AWSBatchServiceTag": ("batch", "MANAGED_ELSEWHERE"),
}


@pytest.mark.parametrize("mark", GROUP_MARKS)
def test_a_mark_on_the_group_counts_though_no_member_bears_it(aws, scene, mark):
    value, reason = GROUP_MARKS[mark]
    web = scene(size=2)
    web.tag_group(mark, value)
    assert set(reasons(web.swap()["skipped"]).values()) == {reason}
    assert aws.control.calls(action="RunInstances") == []
    web.assert_untouched()


def test_the_mark_of_ec2_fleet_is_on_ordinary_members_of_mixed_groups(scene):
    web = scene(size=1, minimum=0, overrides=["m5.large"])
    web.tag(web.old[0], "aws:ec2:fleet-id", "fleet-1")
    web.assert_swapped(web.swap())


def elastic_ip(web, old):
    ec2 = web.aws.client("ec2")
    ec2.associate_address(InstanceId=old, AllocationId=ec2.allocate_address(Domain="vpc")["AllocationId"])


def data_volume(web, old):
    ec2, zone = web.aws.client("ec2"), web.aws.instance(old)["Placement"]["AvailabilityZone"]
    volume = ec2.create_volume(AvailabilityZone=zone, Size=10)["VolumeId"]
    ec2.attach_volume(InstanceId=old, VolumeId=volume, Device="/dev/sdf")


def second_interface(web, old):
    ec2, subnet = web.aws.client("ec2"), web.aws.instance(old)["SubnetId"]
    nic = ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    ec2.attach_network_interface(NetworkInterfaceId=nic, InstanceId=old, DeviceIndex=1)


def second_address(web, old):
    nic = web.aws.instance(old)["NetworkInterfaces"][0]["NetworkInterfaceId"]
    web.aws.client("ec2").assign_private_ip_addresses(NetworkInterfaceId=nic, SecondaryPrivateIpAddressCount=1)


def forwards(web, old):
    web.aws.client("ec2").modify_instance_attribute(InstanceId=old, SourceDestCheck={"Value": False})


def served_by_address(web, old):
    web.foreign_target_group(web.aws.instance(old)["PrivateIpAddress"], kind="ip")


HAVES = {
    elastic_ip: "Elastic IP",
    data_volume: "vol-",
    second_interface: "eni-",
    second_address: "address",
    forwards: "source/destination",
    served_by_address: "target group",
}


def test_members_that_have_what_a_replacement_would_not_get_are_left_alone(aws, scene):
    web = scene(size=len(HAVES) + 1)
    for old, give in zip(web.old, HAVES):
        give(web, old)
    dry, report = web.swap(dry_run=True), web.swap()
    for said in (dry, report):
        left = {left["instance_id"]: left for left in said["skipped"]}
        assert {left[i]["reason"] for i in web.old[:-1]} == {"NOT_REPRODUCIBLE"}, left
        for old, word in zip(web.old, HAVES.values()):
            assert word in left[old]["detail"]
    assert [p["instance_id"] for p in dry["planned"]] == web.old[-1:]
    web.assert_swapped(report, web.old[-1])


def test_a_lone_bastion_keeps_its_address_and_its_volume(aws, scene):
    web = scene(size=1, minimum=1, maximum=1)
    elastic_ip(web, web.old[0])
    data_volume(web, web.old[0])
    assert reasons(web.swap()["skipped"]) == {web.old[0]: "NOT_REPRODUCIBLE"}
    assert aws.instance(web.old[0])["NetworkInterfaces"][0]["Association"]["IpOwnerId"] == aws.account
    web.assert_nothing_changed_in_ec2()


def test_what_template_and_subnet_give_to_each_instance_is_no_obstacle(aws, scene):
    """The data volume is the template's, and the automatic public address the subnet's."""
    subnet = aws.network.subnet("us-east-1a")
    aws.client("ec2").modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": True})
    mappings = [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 5, "DeleteOnTermination": False}}]
    web = scene(size=1, minimum=0, subnets=[subnet], template_data={"BlockDeviceMappings": mappings})
    assert aws.instance(web.old[0])["NetworkInterfaces"][0]["Association"]["IpOwnerId"] == "amazon"
    web.assert_swapped(web.swap())


def template_tags(count, prefix="k"):
    """Returns this number of template tags, with the two of every test's template included."""
    return {f"{prefix}{n}": "v" for n in range(count - 2)}


TAGS = {
    "48 of the template": ({"instance_tags": template_tags(48)}, True),
    "49 of the template": ({"instance_tags": template_tags(49)}, False),
    "47 of the template and one of the group": ({"instance_tags": template_tags(47), "tags": {"g0": "v"}}, True),
    "47 of the template and two of the group": (
        {"instance_tags": template_tags(47), "tags": {"g0": "v", "g1": "v"}},
        False,
    ),
    "48 of the template of which the group has one": ({"instance_tags": template_tags(48), "tags": {"k0": "g"}}, True),
}


@pytest.mark.parametrize("case", TAGS)
def test_a_member_is_swapped_if_its_tags_leave_room_for_two_of_ours(scene, case):
    options, fits = TAGS[case]
    web = scene(size=1, minimum=0, **options)
    report = web.swap()
    if fits:
        web.assert_swapped(report)
        held = [k for k in web.tags(report["swapped"][0]["new_instance_id"]) if not k.startswith("aws:")]
        assert len(held) == 50
    else:
        assert reasons(report["skipped"]) == {web.old[0]: "NOT_REPRODUCIBLE"}
        assert "51 tags" in report["skipped"][0]["detail"]
        web.assert_nothing_changed_in_ec2()


def test_a_member_whose_zone_the_group_has_left_stays(aws, scene):
    web = scene(size=2)
    web.group.update(VPCZoneIdentifier=aws.network.subnets["us-east-1a"])
    report = web.swap()
    assert reasons(report["skipped"]) == {web.old[1]: "NOT_REPRODUCIBLE"}
    assert "us-east-1b" in report["skipped"][0]["detail"]
    web.assert_swapped(report, web.old[0])


def test_a_member_whose_subnet_the_group_has_left_moves_to_another_of_its_zone(aws, scene):
    subnets = [aws.network.subnet("us-east-1a") for _ in range(2)]
    web = scene(size=1, minimum=0, subnets=subnets[:1])
    web.group.update(VPCZoneIdentifier=",".join([aws.network.subnets["us-east-1b"], subnets[1]]))
    report = web.swap()
    web.assert_swapped(report)
    assert aws.instance(report["swapped"][0]["new_instance_id"])["SubnetId"] == subnets[1]


# -- launches ----------------------------------------------------------------------------------------------------------


def came_from(web, report):
    """Returns (template, version, image, type) of the only newcomer."""
    (swapped,) = report["swapped"]
    instance, tags = web.aws.instance(swapped["new_instance_id"]), web.tags(swapped["new_instance_id"])
    return (
        tags["aws:ec2launchtemplate:id"], tags["aws:ec2launchtemplate:version"],
        instance["ImageId"], instance["InstanceType"],
    )  # fmt: skip


def own(template=None, name=None, kind="c5.large", version="$Latest"):
    named = {"LaunchTemplateName": name} if name else {"LaunchTemplateId": template}
    return {"InstanceType": kind, "LaunchTemplateSpecification": {**named, "Version": version}}


@pytest.mark.parametrize("by_name", [False, True], ids=["named by its id", "named by its name"])
def test_the_newcomer_comes_from_the_template_of_its_types_override(aws, scene, by_name):
    name = f"own-{uuid.uuid4().hex[:8]}"
    template = create_template(aws, name, {"UserData": "I2Ntb3VudCBudm1l", "InstanceType": "c5.large"})
    override = own(name=name) if by_name else own(template)
    web = scene(size=1, minimum=0, overrides=[override, "m5.large"])
    report = web.swap()
    web.assert_swapped(report)
    assert came_from(web, report) == (template, "1", aws.network.image, "c5.large")


def test_another_type_comes_from_the_base_template(aws, scene):
    web = scene(size=1, minimum=0, zones=["us-east-1a"], overrides=[own(create_template(aws)), "m5.large"])
    aws.poison("us-east-1#use1-az6#c5.large")
    report = web.swap()
    web.assert_swapped(report)
    assert came_from(web, report) == (web.group.template_id, "1", aws.network.image, "m5.large")


def test_the_newcomer_has_the_image_of_its_types_override(aws, scene):
    web = scene(size=1, minimum=0, overrides=[{"InstanceType": "m6g.large", "ImageId": aws.network.arm_image}, "m5.large"])
    report = web.swap()
    web.assert_swapped(report)
    assert came_from(web, report) == (web.group.template_id, "1", aws.network.arm_image, "m6g.large")


@pytest.mark.parametrize("first, then", [("m6g.large", "m5.large"), ("m5.large", "m6g.large")])
def test_a_change_of_architecture_takes_the_template_of_the_other_type(aws, scene, first, then):
    arm = create_template(aws, more={"ImageId": aws.network.arm_image, "InstanceType": "m6g.large"})
    overrides = {"m6g.large": own(arm, kind="m6g.large"), "m5.large": "m5.large"}
    web = scene(size=1, minimum=0, zones=["us-east-1a"], overrides=[overrides[first], overrides[then]])
    aws.poison(f"us-east-1#use1-az6#{first}")
    report = web.swap()
    web.assert_swapped(report)
    template, image = (arm, aws.network.arm_image) if then == "m6g.large" else (web.group.template_id, aws.network.image)
    assert came_from(web, report) == (template, "1", image, then)


@pytest.mark.parametrize("of", ["the group", "its template"])
def test_the_newcomer_is_in_the_placement_group_of(aws, scene, of):
    name = f"hpc-{uuid.uuid4().hex[:8]}"
    aws.client("ec2").create_placement_group(GroupName=name, Strategy="spread")
    options = {"PlacementGroup": name} if of == "the group" else {"template_data": {"Placement": {"GroupName": name}}}
    web = scene(size=1, minimum=0, **options)
    report = web.swap()
    web.assert_swapped(report)
    assert aws.instance(report["swapped"][0]["new_instance_id"])["Placement"]["GroupName"] == name


def requirements(**more):
    return [{"InstanceRequirements": {**ATTRIBUTES, **more}}]


LISTS = {
    "allowed": ({"AllowedInstanceTypes": ["m5.large", "m5a.*"]}, "c5.large,m5a.large", "m5a.large"),
    "excluded": ({"ExcludedInstanceTypes": ["c5*"]}, "c5.large,m5a.large", "m5a.large"),
    "none of the tag's": ({"AllowedInstanceTypes": ["m5.large"]}, "c5.large,m5a.large", None),
}


@pytest.mark.parametrize("case", LISTS)
def test_of_a_group_that_selects_by_attributes_the_tags_types_count_as_its_lists_let_them(aws, scene, settings, case):
    lists, types, expected = LISTS[case]
    settings(instance_types="m6i.large")  # Nobody knows whether the owner's attributes let these through.
    tags = {"spot-optimizer:instance-types": types}
    web = scene(size=1, minimum=0, zones=["us-east-1a"], overrides=requirements(**lists), tags=tags)
    aws.poison("us-east-1#use1-az6#m5.large")
    report = web.swap()
    if expected:
        web.assert_swapped(report)
        assert report["swapped"][0]["pool"].endswith(f"#{expected}")
    else:
        assert reasons(report["skipped"]) == {web.old[0]: "POOL_POISONED"}
        web.assert_nothing_changed_in_ec2()


def test_a_group_that_selects_by_attributes_is_swapped_to_its_own_type(scene):
    web = scene(size=1, minimum=0, overrides=requirements())
    report = web.swap()
    web.assert_swapped(report)
    assert report["swapped"][0]["pool"].endswith("#m5.large")


def test_our_mark_is_put_back_where_the_group_propagates_one_of_its_own(scene):
    web = scene(size=1, minimum=0, tags={"ManagedBy": "terraform", "stage": "prod"})
    report = web.swap()
    web.assert_swapped(report)
    held = web.tags(report["swapped"][0]["new_instance_id"])
    assert (held["ManagedBy"], held["stage"]) == ("SpotOptimizer", "prod")
    assert held["spot-optimizer:swap"].startswith(web.old[0])


LICENSE = "arn:aws:license-manager:us-east-1:123456789012:license-configuration:lic-0123456789abcdef0123456789abcdef"
PERMITTED = {
    "a public parameter": {"ImageId": "resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"},
    "a parameter of the owner": {"ImageId": "resolve:ssm:/golden/web"},
    "a licence": {"LicenseSpecifications": [{"LicenseConfigurationArn": LICENSE}]},
}


@pytest.mark.parametrize("case", PERMITTED)
def test_the_role_may_launch_what_a_template_asks_for_beside_instances(scene, case):
    web = scene(size=1, minimum=0, template_data=PERMITTED[case])
    report = web.swap()
    web.assert_swapped(report)
    assert web.aws.instance(report["swapped"][0]["new_instance_id"])["ImageId"].startswith("ami-")
