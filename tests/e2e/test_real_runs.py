"""Runs over whole groups: full subnets, members that fail one after another, templates that change in the middle."""

import pytest

from scene import reasons

# -- full subnets ------------------------------------------------------------------------------------------------------


def fill(aws, subnet):
    ec2 = aws.client("ec2")
    for _ in range(ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["AvailableIpAddressCount"]):
        ec2.create_network_interface(SubnetId=subnet)


def test_a_full_subnet_costs_its_zone_the_swap_and_the_others_nothing(aws, scene):
    full = aws.network.subnet("us-east-1a")
    web = scene(size=4, subnets=[full, aws.network.subnets["us-east-1b"]])
    fill(aws, full)
    report = web.swap()
    there = [i for i in web.old if aws.instance(i)["SubnetId"] == full]
    assert reasons(report["skipped"]) == dict.fromkeys(there, "SUBNET_FULL")
    assert all(full in left["detail"] for left in report["skipped"]) and report["remaining"] == 0
    assert "ended_by" not in report
    web.assert_swapped(report, *[i for i in web.old if i not in there])


@pytest.mark.parametrize("seen", [True, False], ids=["that is seen", "that only the launch meets"])
def test_a_full_subnet_gives_way_to_another_of_the_zone(aws, scene, seen):
    first, second = (aws.network.subnet("us-east-1a") for _ in range(2))
    web = scene(size=1, minimum=0, subnets=[first, second])
    if seen:
        fill(aws, first)
    else:
        aws.control.fault("RunInstances", code="InsufficientFreeAddressesInSubnet", status=400, match={"SubnetId": first})
    report = web.swap()
    web.assert_swapped(report)
    assert aws.instance(report["swapped"][0]["new_instance_id"])["SubnetId"] == second


def test_a_zone_whose_subnets_are_all_full_names_them(aws, scene):
    subnets = [aws.network.subnet("us-east-1a") for _ in range(2)]
    web = scene(size=1, minimum=0, subnets=subnets)
    for subnet in subnets:
        fill(aws, subnet)
    (left,) = web.swap()["skipped"]
    assert left["reason"] == "SUBNET_FULL" and all(subnet in left["detail"] for subnet in subnets)
    web.assert_untouched()


# -- runs that end early -----------------------------------------------------------------------------------------------

BROKEN = {"code": "Client.InternalError", "message": "Client.InternalError: Client error on launch"}


@pytest.mark.parametrize("most", [None, 1], ids=["three, if nobody says otherwise", "as many as the setting says"])
def test_a_template_that_never_serves_ends_the_run_after(aws, scene, settings, most):
    settings(**({"max_failures_in_a_row": most} if most else {}))
    web = scene(size=5)
    aws.control.newcomers(kill={**BROKEN, "after_seconds": 0.05})
    report = web.swap()
    web.assert_rolled_back(report, "NEWCOMER_UNHEALTHY", count=most or 3)
    assert len(web.newcomers) == (most or 3) and report["remaining"] == 5 - (most or 3)
    assert report["ended_by"]["reason"] == "NEWCOMER_UNHEALTHY" and report["ended_by"]["detail"]
    assert report["executions_needed"] >= 1


def test_a_long_run_goes_on_in_another_execution(aws, scene, settings):
    settings(steps_per_execution=10)
    web = scene(size=3)
    reports = [web.swap()]
    while "continued_in" in reports[-1]:
        reports.append(aws.wait_execution(reports[-1]["continued_in"])["output"])
    swapped = [s["old_instance_id"] for report in reports for s in report["swapped"]]
    assert len(reports) > 1 and sorted(swapped) == sorted(web.old)
    assert reports[-1]["remaining"] == 0 and "continuation" not in reports[-1]
    assert web.capacity.lowest >= 3
    web.assert_owners()


def test_launches_that_ec2_rejects_end_the_run_only_in_a_row(aws, scene, settings):
    """Zone a is rejected and zone b is not: the failures of two zones are never two in a row."""
    settings(max_failures_in_a_row=2)
    web = scene(size=4)
    zone_a = aws.network.subnets["us-east-1a"]
    aws.control.fault("RunInstances", code="InvalidParameterValue", status=400, match={"SubnetId": zone_a})
    report = web.swap()
    there = [i for i in web.old if aws.instance(i)["SubnetId"] == zone_a]
    assert reasons(report["skipped"]) == dict.fromkeys(there, "LAUNCH_REJECTED")
    assert report["remaining"] == 0 and not {"ended_by", "executions_needed"} & set(report)
    web.assert_swapped(report, *[i for i in web.old if i not in there])


def test_rejected_launches_in_a_row_end_the_run(aws, scene, settings):
    settings(max_failures_in_a_row=2)
    web = scene(size=4)
    aws.control.fault("RunInstances", code="InvalidParameterValue", status=400)
    report = web.swap()
    assert list(reasons(report["skipped"]).values()) == ["LAUNCH_REJECTED"] * 2
    assert (report["remaining"], report["ended_by"]["reason"]) == (2, "LAUNCH_REJECTED")
    web.assert_untouched()


def test_members_that_are_skipped_are_no_failures(aws, scene, settings):
    settings(max_failures_in_a_row=1)
    web = scene(size=3)
    aws.control.fault("RunInstances", code="InsufficientInstanceCapacity", status=500, times=2)
    report = web.swap()
    assert list(reasons(report["skipped"]).values()) == ["NO_CAPACITY"] * 2
    assert "ended_by" not in report
    web.assert_swapped(report, report["swapped"][0]["old_instance_id"])


# -- templates that change -----------------------------------------------------------------------------------------------


def roll(web, by_number):
    """Makes a new version of the template, as Terraform does in the middle of the day."""
    web.new_template_version(ImageId=web.aws.network.image, InstanceType="m5.large", KeyName="rotated")
    if by_number:
        template = {"LaunchTemplateId": web.group.template_id, "Version": "2"}
        web.group.update(LaunchTemplate=template)


def versions(web, report):
    return [web.tags(s["new_instance_id"])["aws:ec2launchtemplate:version"] for s in report["swapped"]]


@pytest.mark.parametrize("by_number", [True, False], ids=["by its number", "as the latest"])
def test_each_launch_is_of_the_version_that_the_group_has_by_then(aws, scene, by_number):
    web = scene(size=2)
    if by_number:
        web.group.update(LaunchTemplate={"LaunchTemplateId": web.group.template_id, "Version": "1"})
    aws.control.timing(detach=600)
    web.start().reach("PauseForRetirement")
    roll(web, by_number)
    aws.control.timing(detach=0.3)
    report = web.end()["output"]
    web.assert_swapped(report)
    assert versions(web, report) == ["1", "2"]


def test_a_version_rolled_while_a_newcomer_boots_lets_none_of_the_old_version_in(aws, scene):
    web = scene(size=2)
    web.group.update(LaunchTemplate={"LaunchTemplateId": web.group.template_id, "Version": "1"})
    aws.control.newcomers(status="initializing")
    first = web.start().reach("PauseForHealth").newcomer()
    aws.control.newcomers(status="ok")
    roll(web, by_number=True)
    aws.control.instance(first, status="ok")
    report = web.end()["output"]
    assert [left["reason"] for left in report["rolled_back"]] == ["GROUP_CHANGED"]
    assert set(versions(web, report)) <= {"2"} and first not in web.group.instance_ids
    web.assert_owners()
