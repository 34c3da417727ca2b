"""The owner's changes to a lab instance count until it stops: a swap that would be refused at the start is undone."""

import pytest

from lab_scene import held_up


def quarantine_group(web):
    """Makes a security group without an inbound rule."""
    vpc = web.old.describe()["VpcId"]
    name = f"quarantine-{web.old.id}"
    return web.old.ec2.create_security_group(GroupName=name, Description="isolated", VpcId=vpc)["GroupId"]


def attach_interface(web):
    made = web.old.ec2.create_network_interface(SubnetId=web.old.describe()["SubnetId"])["NetworkInterface"]
    web.old.ec2.attach_network_interface(NetworkInterfaceId=made["NetworkInterfaceId"], InstanceId=web.old.id, DeviceIndex=1)


def attach_volume(web):
    zone = web.old.describe()["Placement"]["AvailabilityZone"]
    volume = web.old.ec2.create_volume(Size=1, AvailabilityZone=zone)["VolumeId"]
    web.old.ec2.attach_volume(VolumeId=volume, InstanceId=web.old.id, Device="/dev/sdf")


ACTS = {
    "source/destination check is off": lambda w: w.old.modify(SourceDestCheck={"Value": False}),
    "2 network interfaces": attach_interface,
    "security groups were": lambda w: w.old.modify(Groups=[quarantine_group(w)]),
    "volumes were": attach_volume,
    "metadata options were": lambda w: w.old.ec2.modify_instance_metadata_options(InstanceId=w.old.id, HttpPutResponseHopLimit=5),
    "AWSElasticDisasterRecoveryManaged": lambda w: w.old.tag("AWSElasticDisasterRecoveryManaged", "drs"),
}


@pytest.mark.parametrize("said", ACTS)
def test_what_would_be_refused_or_makes_the_twin_another_is_undone(lab, said):
    web, _, let_go = held_up(lab, "PauseForHealth", target_groups=0)
    ACTS[said](web)
    report = let_go()
    assert (report["outcome"], report["reason"]) == ("ROLLED_BACK", "INSTANCE_CHANGED"), report
    assert said in report["detail"]
    assert web.aws.control.calls(action="StopInstances") == []
    web.assert_untouched()


def test_a_quarantine_while_it_drains_is_undone(lab):
    web = lab(address=True, target_groups=1)
    web.drains()
    group = quarantine_group(web)
    web.old.modify(Groups=[group])
    report = web.drained().end()
    assert (report["outcome"], report["reason"]) == ("ROLLED_BACK", "INSTANCE_CHANGED")
    web.assert_untouched()
    assert [g["GroupId"] for g in web.old.describe()["SecurityGroups"]] == [group]


def test_what_bears_on_nothing_stops_no_swap(lab):
    web, _, let_go = held_up(lab, "PauseForHealth", target_groups=0)
    web.old.tag("touched", "meanwhile")
    web.old.ec2.reboot_instances(InstanceIds=[web.old.id])
    web.assert_swapped(let_go())


def test_a_target_group_of_another_vpc_that_has_its_address_is_refused(lab):
    web = lab()
    elb = web.aws.client("elbv2")
    vpc = web.old.ec2.create_vpc(CidrBlock="172.20.0.0/16")["Vpc"]["VpcId"]
    made = elb.create_target_group(Name=f"peer-{web.old.id[-8:]}", Protocol="TCP", Port=80, VpcId=vpc, TargetType="ip")["TargetGroups"][0]
    arn, address = made["TargetGroupArn"], web.old.describe()["PrivateIpAddress"]
    elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": address, "Port": 80, "AvailabilityZone": "all"}])
    web.aws.control.clear_calls()
    report = web.swap()
    elb.delete_target_group(TargetGroupArn=arn)
    assert (report["outcome"], report["reason"]) == ("REFUSED", "NOT_REPRODUCIBLE"), report
    assert made["TargetGroupName"] in report["detail"]
    web.assert_nothing_changed()
