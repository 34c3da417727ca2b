"""Local AWS itself: groups, launches and prices as a real fleet has them, shown with plain calls of the API."""

import json

import pytest
from botocore.exceptions import ClientError

from local_aws.groups import create_template
from scene import wait_for

SPOT = {"MarketType": "spot", "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}}


@pytest.fixture
def group(aws):
    made = []

    def make(**options):
        made.append(aws.create_group(**{"size": 1, "minimum": 0, **options}))
        return made[-1]

    yield make
    for one in made:
        one.delete()


def launch(aws, template=None, zone="us-east-1a", **more):
    request = {"InstanceMarketOptions": SPOT, "SubnetId": aws.network.subnets[zone], "InstanceType": "m5.large", **more}
    if template:
        request["LaunchTemplate"] = {"LaunchTemplateId": template, "Version": "$Latest"}
    else:
        request["ImageId"] = aws.network.image
    request = {k: v for k, v in request.items() if v is not None}
    return aws.client("ec2").run_instances(MinCount=1, MaxCount=1, **request)["Instances"][0]["InstanceId"]


def running(aws, instance_id):
    wait_for(lambda: aws.instance(instance_id)["State"]["Name"] == "running")
    return instance_id


def refusal(call, *args, **kwargs):
    with pytest.raises(ClientError) as raised:
        call(*args, **kwargs)
    return raised.value.response["Error"]["Code"]


def tags(aws, instance_id):
    return {t["Key"]: t["Value"] for t in aws.instance(instance_id).get("Tags", [])}


def specification(keys):
    return [{"ResourceType": "instance", "Tags": [{"Key": k, "Value": "v"} for k in keys]}]


def attach(aws, group, instance_id):
    aws.client("autoscaling").attach_instances(AutoScalingGroupName=group.name, InstanceIds=[instance_id])


def hook(aws, group, transition, **more):
    aws.client("autoscaling").put_lifecycle_hook(
        AutoScalingGroupName=group.name, LifecycleHookName="hook",
        LifecycleTransition=f"autoscaling:EC2_INSTANCE_{transition}", **more,
    )  # fmt: skip


def lifecycle(group, instance_id):
    found = [i["LifecycleState"] for i in group.describe()["Instances"] if i["InstanceId"] == instance_id]
    return found[0] if found else None


def member(group):
    return group.describe()["Instances"][0]


# -- tags ------------------------------------------------------------------------------------------------------------


def test_attach_copies_the_groups_propagated_tags_over_those_of_the_instance(aws, group):
    web = group(tags={"ManagedBy": "terraform", "stage": "prod"})
    newcomer = running(aws, launch(aws, TagSpecifications=specification(["ManagedBy", "own"])))
    attach(aws, web, newcomer)
    held = tags(aws, newcomer)
    assert (held["ManagedBy"], held["stage"], held["own"]) == ("terraform", "prod", "v")
    assert held["aws:autoscaling:groupName"] == web.name


def test_an_instance_has_50_tags_at_most_those_of_its_template_counted_and_those_of_aws_not(aws):
    keys = [f"k{n}" for n in range(50)]
    template = create_template(aws, more={"TagSpecifications": specification(keys[:49])})
    instance_id = launch(aws, template, TagSpecifications=specification([keys[0], keys[49]]))
    assert len(tags(aws, instance_id)) == 52  # two of the template's, which are AWS's own
    ec2 = aws.client("ec2")
    assert refusal(launch, aws, template, TagSpecifications=specification(["a", "b"])) == "TagLimitExceeded"
    one_more = {"Resources": [instance_id], "Tags": [{"Key": "a", "Value": "v"}]}
    assert refusal(ec2.create_tags, **one_more) == "TagLimitExceeded"
    ec2.create_tags(Resources=[instance_id], Tags=[{"Key": "k0", "Value": "new"}])
    assert tags(aws, instance_id)["k0"] == "new"


# -- lifecycle -------------------------------------------------------------------------------------------------------


def test_a_launching_hook_holds_the_groups_own_launches_and_no_attached_instance(aws, group):
    web = group(maximum=4)
    hook(aws, web, "LAUNCHING")
    aws.control.timing(launch_hook=60, group_launch=0.1, attach=0.1)
    newcomer = running(aws, launch(aws))
    attach(aws, web, newcomer)
    wait_for(lambda: lifecycle(web, newcomer) == "InService")
    before = web.instance_ids
    web.update(DesiredCapacity=3)
    (own,) = set(web.instance_ids) - set(before)
    wait_for(lambda: lifecycle(web, own) == "Pending:Wait")
    told = {"AutoScalingGroupName": web.name, "LifecycleHookName": "hook", "InstanceId": own}
    aws.client("autoscaling").complete_lifecycle_action(**told, LifecycleActionResult="CONTINUE")
    assert lifecycle(web, own) == "InService"


def test_an_abandoned_launch_is_replaced(aws, group):
    web = group(maximum=2)
    hook(aws, web, "LAUNCHING")
    aws.control.timing(launch_hook=60, group_launch=0.1)
    web.update(DesiredCapacity=2)
    (own,) = [i for i in web.instance_ids if lifecycle(web, i) != "InService"]
    wait_for(lambda: lifecycle(web, own) == "Pending:Wait")
    told = {"AutoScalingGroupName": web.name, "LifecycleHookName": "hook", "InstanceId": own}
    aws.client("autoscaling").complete_lifecycle_action(**told, LifecycleActionResult="ABANDON")
    assert own not in web.instance_ids and len(web.instance_ids) == 2


@pytest.mark.parametrize("heartbeat, most", [(30, 3000), (7200, 172800)])
def test_a_hook_says_how_long_it_may_hold_a_member(aws, group, heartbeat, most):
    web = group()
    hook(aws, web, "TERMINATING", HeartbeatTimeout=heartbeat)
    (found,) = aws.client("autoscaling").describe_lifecycle_hooks(AutoScalingGroupName=web.name)["LifecycleHooks"]
    assert (found["HeartbeatTimeout"], found["GlobalTimeout"]) == (heartbeat, most)


# -- what a group launches -------------------------------------------------------------------------------------------


def test_a_group_launches_into_its_placement_group(aws, group):
    ec2 = aws.client("ec2")
    ec2.create_placement_group(GroupName="hpc-1", Strategy="cluster")
    web = group(PlacementGroup="hpc-1")
    assert web.describe()["PlacementGroup"] == "hpc-1"
    assert web.instances[0]["Placement"]["GroupName"] == "hpc-1"
    newcomer = launch(aws, Placement={"GroupName": "hpc-1"})
    assert aws.instance(newcomer)["Placement"]["GroupName"] == "hpc-1"
    assert refusal(launch, aws, Placement={"GroupName": "hpc-2"}) == "InvalidPlacementGroup.Unknown"


def test_a_group_launches_from_the_template_of_the_override_and_says_so(aws, group):
    own = create_template(aws, more={"UserData": "I2Nsb3Vk", "InstanceType": "c5.large"})
    override = {"InstanceType": "c5.large", "LaunchTemplateSpecification": {"LaunchTemplateId": own, "Version": "$Latest"}}
    web = group(overrides=[override, "m5.large"])
    assert web.instances[0]["InstanceType"] == "c5.large"
    assert (member(web)["LaunchTemplate"]["LaunchTemplateId"], member(web)["LaunchTemplate"]["Version"]) == (own, "1")
    held = tags(aws, web.instance_ids[0])
    assert held["aws:ec2launchtemplate:id"] == own


def test_a_group_launches_the_image_of_the_override(aws, group):
    web = group(overrides=[{"InstanceType": "m6g.large", "ImageId": aws.network.arm_image}, "m5.large"])
    instance = web.instances[0]
    assert (instance["InstanceType"], instance["ImageId"], instance["Architecture"]) == (
        "m6g.large", aws.network.arm_image, "arm64",
    )  # fmt: skip
    policy = web.describe()["MixedInstancesPolicy"]["LaunchTemplate"]
    assert policy["Overrides"][0]["ImageId"] == aws.network.arm_image
    assert member(web)["LaunchTemplate"]["LaunchTemplateId"] == web.template_id


def test_a_group_keeps_its_policy_and_launches_by_it_after_an_update_of_its_sizes(aws, group):
    web = group(overrides=["c5.large", "m5.large"], maximum=2)
    web.update(DesiredCapacity=2)
    assert {i["InstanceType"] for i in web.instances} == {"c5.large"}


def test_a_group_gives_back_its_warm_up_and_its_grace(aws, group):
    plain, warm = group().describe(), group(DefaultInstanceWarmup=120, HealthCheckGracePeriod=60).describe()
    assert "DefaultInstanceWarmup" not in plain and plain["HealthCheckGracePeriod"] == 0
    assert (warm["DefaultInstanceWarmup"], warm["HealthCheckGracePeriod"]) == (120, 60)


def test_a_max_size_below_desired_lowers_desired_and_a_victim_goes(aws, group):
    web = group(size=3)
    aws.control.timing(detach=600)
    web.update(MaxSize=2)
    assert web.describe()["DesiredCapacity"] == 2
    assert sorted(i["LifecycleState"] for i in web.describe()["Instances"]) == ["InService", "InService", "Terminating"]
    aws.control.timing(detach=0.3)
    wait_for(lambda: len(web.instance_ids) == 2)


def test_a_max_size_that_is_the_desired_size_costs_nobody_while_a_member_detaches(aws, group):
    web = group(size=2, maximum=3)
    aws.control.timing(detach=600)
    aws.client("autoscaling").detach_instances(
        AutoScalingGroupName=web.name, InstanceIds=web.instance_ids[:1], ShouldDecrementDesiredCapacity=True
    )
    web.update(MaxSize=1)
    assert (web.describe()["DesiredCapacity"], aws.control.groups()[web.name]["in_service"]) == (1, 1)


def test_a_desired_capacity_outside_the_bounds_is_refused(aws, group):
    web = group(size=2, minimum=1, maximum=2)
    asg = aws.client("autoscaling")
    for wanted in (0, 3):
        with pytest.raises(ClientError, match=f"New SetDesiredCapacity value {wanted} is"):
            asg.set_desired_capacity(AutoScalingGroupName=web.name, DesiredCapacity=wanted)


def test_a_group_that_can_launch_nothing_stays_as_it_is_and_goes_on(aws, group):
    subnets = [aws.network.subnet("us-east-1a") for _ in range(2)]
    web = group(subnets=subnets, maximum=3)
    ec2 = aws.client("ec2")
    for _ in range(11):
        ec2.create_network_interface(SubnetId=subnets[1])
    web.update(DesiredCapacity=2)
    assert [i["SubnetId"] for i in web.instances] == subnets[:1] * 2
    for _ in range(9):
        ec2.create_network_interface(SubnetId=subnets[0])
    web.update(DesiredCapacity=3)
    assert len(web.instance_ids) == 2 and web.describe()["DesiredCapacity"] == 3


# -- what an instance has ----------------------------------------------------------------------------------------------


def test_a_description_tells_an_elastic_ip_from_an_automatic_address(aws):
    ec2 = aws.client("ec2")
    nic = {"DeviceIndex": 0, "AssociatePublicIpAddress": True, "SubnetId": aws.network.subnets["us-east-1a"]}
    automatic = launch(aws, SubnetId=None, NetworkInterfaces=[nic])
    elastic = running(aws, launch(aws))
    ec2.associate_address(InstanceId=elastic, AllocationId=ec2.allocate_address(Domain="vpc")["AllocationId"])
    owners = [aws.instance(i)["NetworkInterfaces"][0]["Association"]["IpOwnerId"] for i in (automatic, elastic)]
    assert owners == ["amazon", aws.account]
    assert "Association" not in aws.instance(launch(aws))["NetworkInterfaces"][0]


def test_a_description_shows_what_was_added_after_the_launch(aws):
    ec2, instance_id = aws.client("ec2"), running(aws, launch(aws))
    nic = ec2.create_network_interface(SubnetId=aws.network.subnets["us-east-1a"])["NetworkInterface"]["NetworkInterfaceId"]
    ec2.attach_network_interface(NetworkInterfaceId=nic, InstanceId=instance_id, DeviceIndex=1)
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]
    ec2.attach_volume(InstanceId=instance_id, VolumeId=volume, Device="/dev/sdf")
    ec2.modify_instance_attribute(InstanceId=instance_id, SourceDestCheck={"Value": False})
    found = aws.instance(instance_id)
    assert [n["Attachment"]["DeviceIndex"] for n in found["NetworkInterfaces"]] == [0, 1]
    assert found["NetworkInterfaces"][1]["NetworkInterfaceId"] == nic
    assert (found["SourceDestCheck"], found["NetworkInterfaces"][0]["SourceDestCheck"]) == (False, False)
    attached = {m["DeviceName"]: m["Ebs"] for m in found["BlockDeviceMappings"]}
    assert attached["/dev/sdf"]["VolumeId"] == volume and attached["/dev/sdf"]["AttachTime"] >= found["LaunchTime"]


def test_an_instance_has_the_volumes_of_its_image_and_its_template_and_no_others(aws, group):
    root = aws.client("ec2").describe_images(ImageIds=[aws.network.image])["Images"][0]["RootDeviceName"]
    mappings = [{"DeviceName": root, "Ebs": {"VolumeSize": 30}}, {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 5}}]
    web = group(template_data={"BlockDeviceMappings": mappings})
    for instance in (web.instances[0], aws.instance(launch(aws, web.template_id))):
        assert sorted(m["DeviceName"] for m in instance["BlockDeviceMappings"]) == sorted([root, "/dev/sdf"])


def test_a_description_says_what_the_instance_is_billed_as_and_a_test_may_change_it(aws):
    instance_id = launch(aws)
    assert [aws.instance(instance_id)[k] for k in ("UsageOperation", "PlatformDetails")] == ["RunInstances", "Linux/UNIX"]
    codes = [{"ProductCodeId": "abc", "ProductCodeType": "marketplace"}]
    told = {"UsageOperation": "RunInstances:0010", "PlatformDetails": "Red Hat Enterprise Linux", "ProductCodes": codes}
    aws.control.instance(instance_id, set=told)
    assert told.items() <= aws.instance(instance_id).items()


def test_a_subnet_counts_its_free_addresses_and_refuses_what_has_none(aws):
    ec2, subnet = aws.client("ec2"), aws.network.subnet("us-east-1a")

    def free():
        return ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["AvailableIpAddressCount"]

    assert free() == 11
    held = launch(aws, SubnetId=subnet)
    nics = [ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"] for _ in range(10)]
    assert free() == 0
    assert refusal(launch, aws, SubnetId=subnet) == "InsufficientFreeAddressesInSubnet"
    ec2.terminate_instances(InstanceIds=[held])
    ec2.delete_network_interface(NetworkInterfaceId=nics[0])
    assert free() == 2
    launch(aws, SubnetId=subnet)


# -- what RunInstances refuses -----------------------------------------------------------------------------------------

ATTRIBUTES = {"InstanceRequirements": {"VCpuCount": {"Min": 2}, "MemoryMiB": {"Min": 4096}}, "InstanceType": None}
HIBERNATES = {"HibernationOptions": {"Configured": True}}
CODES = {
    "a template that selects types by attributes": (ATTRIBUTES, SPOT, "InvalidParameterCombination"),
    "hibernation of what is to be terminated": (HIBERNATES, SPOT, "InvalidParameterCombination"),
    "a price below the Spot price": ({}, {"MarketType": "spot", "SpotOptions": {"MaxPrice": "0.01"}}, "SpotMaxPriceTooLow"),
    "a price of nothing": ({}, {"MarketType": "spot", "SpotOptions": {"MaxPrice": "0.0005"}}, "InvalidParameterValue"),
}


@pytest.mark.parametrize("case", CODES)
def test_a_launch_is_refused_for(aws, case):
    data, market, code = CODES[case]
    assert refusal(launch, aws, create_template(aws, more=data), InstanceMarketOptions=market) == code


def test_a_price_above_the_spot_price_is_taken(aws):
    launch(aws, InstanceMarketOptions={"MarketType": "spot", "SpotOptions": {"MaxPrice": "0.05"}})


def test_a_group_launches_from_a_template_that_selects_types_by_attributes(aws, group):
    assert len(group(template_data=ATTRIBUTES).instance_ids) == 1


def test_an_image_of_a_parameter_is_resolved_at_each_launch(aws, group):
    web = group(template_data={"ImageId": "resolve:ssm:/golden/web"})
    assert web.instances[0]["ImageId"].startswith("ami-")
    aws.control.image_parameters({"/golden/web": aws.network.arm_image})
    assert aws.instance(launch(aws, web.template_id))["ImageId"] == aws.network.arm_image


def test_a_snapshot_may_linger_after_its_image(aws):
    ec2, instance_id = aws.client("ec2"), running(aws, launch(aws))
    aws.control.images(snapshots_linger=True)
    image = ec2.create_image(InstanceId=instance_id, Name=f"of {instance_id}")["ImageId"]
    wait_for(lambda: ec2.describe_images(ImageIds=[image])["Images"][0]["State"] == "available")
    snapshot = ec2.describe_images(ImageIds=[image])["Images"][0]["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    ec2.deregister_image(ImageId=image)
    assert refusal(ec2.delete_snapshot, SnapshotId=snapshot) == "InvalidSnapshot.InUse"
    ec2.delete_snapshot(SnapshotId=snapshot)


# -- prices ------------------------------------------------------------------------------------------------------------


def listed(aws, **attributes):
    filters = [{"Type": "TERM_MATCH", "Field": k, "Value": v} for k, v in attributes.items()]
    rows = aws.client("pricing").get_products(ServiceCode="AmazonEC2", Filters=filters)["PriceList"]
    terms = [t for row in rows for t in json.loads(row)["terms"]["OnDemand"].values()]
    return [float(d["pricePerUnit"]["USD"]) for t in terms for d in t["priceDimensions"].values()]


def spot_prices(aws, kind, product):
    found = aws.client("ec2").describe_spot_price_history(InstanceTypes=[kind], ProductDescriptions=[product])
    return {float(row["SpotPrice"]) for row in found["SpotPriceHistory"]}


OPERATIONS = {"RunInstances": 0.096, "RunInstances:0002": 0.188, "RunInstances:0010": 0.1248, "RunInstances:000g": 0.152}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_price_list_has_a_row_for_each_operation(aws, operation):
    shared = {"instanceType": "m5.large", "operation": operation, "tenancy": "Shared"}
    assert listed(aws, **shared) == [OPERATIONS[operation]]
    assert listed(aws, **{**shared, "tenancy": "Dedicated"}) > listed(aws, **shared)


def test_spot_prices_are_those_of_the_product(aws):
    linux, windows = spot_prices(aws, "m5.large", "Linux/UNIX"), spot_prices(aws, "m5.large", "Windows")
    assert (linux, windows) == ({0.0336}, {0.1256})


def test_a_test_sets_prices_until_the_next_reset(aws):
    aws.control.prices(spot_discount=0.1, spot={"m5a.large": 0.2}, unknown=["c5.large"])
    assert spot_prices(aws, "m5.large", "Linux/UNIX") == {0.0864}
    assert spot_prices(aws, "m5a.large", "Linux/UNIX") == {0.2}
    assert spot_prices(aws, "c5.large", "Linux/UNIX") == set() and listed(aws, instanceType="c5.large") == []
    aws.control.reset()
    assert spot_prices(aws, "c5.large", "Linux/UNIX") == {0.02975}
