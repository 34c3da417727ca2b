"""A swap must save money: the price of a pool decides if it is launched into, and the report names the saving."""

import pytest

from scene import reasons

POOL = "us-east-1#use1-az6#{}"
HOURS = 730  # a month


def lone(scene, *overrides, **options):
    """Makes a group of one instance in zone a, of the first type."""
    more = {"overrides": list(overrides)} if overrides else {}
    return scene(**{"size": 1, "minimum": 0, "zones": ["us-east-1a"], **more, **options})


def launched(aws):
    return [c["params"]["InstanceType"] for c in aws.control.calls(action="RunInstances")]


def out_of(aws, kind):
    """Leaves the type without capacity."""
    aws.control.fault("RunInstances", code="InsufficientInstanceCapacity", status=500, match={"InstanceType": kind})


def poisoned(aws, kind):
    aws.poison(POOL.format(kind))


# -- dear pools --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [out_of, poisoned], ids=["has no capacity", "is poisoned"])
def test_a_dearer_type_does_not_step_in_where_the_own_pool(aws, scene, closed):
    web = lone(scene, "m5.large", "m5.xlarge")
    aws.control.prices(spot={"m5.xlarge": 0.134})  # More than m5.large costs On-Demand: 0.096.
    closed(aws, "m5.large")
    (left,) = web.swap()["skipped"]
    assert left["reason"] in ("NO_CAPACITY", "POOL_POISONED", "NOT_CHEAPER") and "m5.xlarge" in left["detail"]
    assert "m5.xlarge" not in launched(aws)
    web.assert_untouched()


def test_a_dearer_type_gives_way_to_a_cheaper_one_behind_it(aws, scene):
    web = lone(scene, "m5.large", "m5.xlarge", "m5a.large")
    aws.control.prices(spot={"m5.xlarge": 0.134})
    poisoned(aws, "m5.large")
    report = web.swap()
    web.assert_swapped(report)
    assert launched(aws) == ["m5a.large"]


def test_a_bigger_type_is_measured_by_the_price_of_the_old_instance(aws, scene):
    """A swap from t3.micro to m5.large was once reported to save −16.94 a month."""
    web = lone(scene, "t3.micro", "m5.large")
    poisoned(aws, "t3.micro")
    assert set(reasons(web.swap()["skipped"]).values()) <= {"NOT_CHEAPER", "POOL_POISONED"}
    assert launched(aws) == []
    web.assert_untouched()


@pytest.mark.parametrize("dry_run", [True, False], ids=["would be", "is"])
def test_where_spot_costs_what_on_demand_costs_nothing(aws, scene, dry_run):
    web = scene(size=2)
    aws.control.prices(spot_discount=0.05)
    report = web.swap(dry_run=dry_run)
    assert reasons(report["skipped"]) == dict.fromkeys(web.old, "NOT_CHEAPER")
    assert all("m5.large" in left["detail"] for left in report["skipped"])
    assert (report["swapped"], report["remaining"]) == ([], 0) and report.get("planned") == ([] if dry_run else None)
    web.assert_nothing_changed_in_ec2()


SAVINGS = {
    "20 percent are enough": (0.2, {}, True),
    "19 percent are not": (0.19, {}, False),
    "60 percent are not where the owner asks for 70": (0.6, {"min_saving_percent": 70}, False),
    "5 percent are where the owner asks for nothing": (0.05, {"min_saving_percent": 0}, True),
    "a loss is not even then": (-0.05, {"min_saving_percent": 0}, False),
}


@pytest.mark.parametrize("case", SAVINGS)
def test_of_what_is_saved(aws, scene, settings, case):
    discount, asked, enough = SAVINGS[case]
    settings(**asked)
    aws.control.prices(spot_discount=discount)
    web = lone(scene)
    report = web.swap(dry_run=True)
    assert [p["instance_id"] for p in report["planned"]] == (web.old if enough else [])
    assert reasons(report["skipped"]) == ({} if enough else {web.old[0]: "NOT_CHEAPER"})


@pytest.mark.parametrize("percent", [-1, 100, "twenty"])
def test_a_saving_that_no_swap_could_have_is_no_setting(scene, settings, percent):
    settings(min_saving_percent=percent)
    error, cause = lone(scene).refused()
    assert error == "InvalidSettings" and "min_saving_percent" in cause


# -- the policy's own maximum --------------------------------------------------------------------------------------------


def capped(scene, price, *types):
    return lone(scene, *types or ("m5.large",), distribution={"SpotMaxPrice": price})


def test_a_pool_above_the_policys_maximum_is_not_launched_into(aws, scene):
    web = capped(scene, "0.01")
    (left,) = web.swap()["skipped"]
    assert left["reason"] == "NOT_CHEAPER" and "SpotMaxPrice" in left["detail"]
    assert launched(aws) == []
    web.assert_untouched()


def test_a_pool_above_the_policys_maximum_gives_way_to_one_below(aws, scene):
    web = capped(scene, "0.032", "m5.large", "c5.large")  # 0.0336 and 0.02975
    report = web.swap()
    web.assert_swapped(report)
    assert launched(aws) == ["c5.large"]


@pytest.mark.parametrize("price, passed", [("0.05", 0.05), ("", None), (None, None)])
def test_the_launch_asks_for_the_policys_maximum_and_for_none_of_its_own(aws, scene, price, passed):
    """EC2 interrupts by this price. It has to be the owner's, and absent if the owner has none."""
    web = capped(scene, price) if price is not None else lone(scene, "m5.large")
    web.assert_swapped(web.swap())
    asked = aws.control.calls(action="RunInstances")[0]["params"].get("InstanceMarketOptions.SpotOptions.MaxPrice")
    assert (asked and float(asked)) == passed


def test_a_price_that_rises_above_the_policys_maximum_after_the_plan_costs_only_this_swap(aws, scene):
    web = scene(size=2, overrides=["m5.large"], distribution={"SpotMaxPrice": "0.05"})
    aws.control.fault("RunInstances", code="SpotMaxPriceTooLow", status=400, times=1)
    report = web.swap()
    assert list(reasons(report["skipped"]).values()) == ["NO_CAPACITY"]
    web.assert_swapped(report, report["swapped"][0]["old_instance_id"])


# -- what is billed ------------------------------------------------------------------------------------------------------

SYSTEMS = {
    "RunInstances": 0.0336 / 0.096,
    "RunInstances:0010": 0.0624 / 0.1248,
    "RunInstances:000g": 0.0896 / 0.152,
    "RunInstances:0002": 0.1256 / 0.188,
}


def test_prices_are_those_of_the_system_that_the_instance_is_billed_for(aws, scene, settings):
    """A licence costs the same on Spot, so that Windows saves a third where Linux saves two thirds."""
    settings(min_saving_percent=50)
    web = scene(size=len(SYSTEMS))
    for old, operation in zip(web.old, SYSTEMS):
        aws.control.instance(old, set={"UsageOperation": operation})
    report = web.swap(dry_run=True)
    cheap = [old for old, share in zip(web.old, SYSTEMS.values()) if share <= 0.5]
    assert [p["instance_id"] for p in report["planned"]] == cheap
    assert reasons(report["skipped"]) == {old: "NOT_CHEAPER" for old in web.old if old not in cheap}
    for planned in report["planned"]:
        assert float(planned["monthly_saving_usd"]) == pytest.approx((0.096 - 0.0336) * HOURS, abs=0.01)


UNKNOWN = {
    "a type without a price": ({"instance_type": "r5.large"}, {}),
    "SQL Server": ({}, {"UsageOperation": "RunInstances:0006"}),
    "a licence of the owner's": ({}, {"UsageOperation": "RunInstances:0800"}),
    "dedicated tenancy": ({}, {"Placement.Tenancy": "dedicated"}),
    "software of the Marketplace": ({}, {"ProductCodes": [{"ProductCodeId": "abc", "ProductCodeType": "marketplace"}]}),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_where_no_price_is_known_the_own_type_alone_will_do_for(aws, scene, case):
    options, told = UNKNOWN[case]
    web = lone(scene, **options, tags={"spot-optimizer:instance-types": "c5.large"})
    aws.control.instance(web.old[0], set=told)
    own = POOL.format(options.get("instance_type", "m5.large"))
    (planned,) = web.swap(dry_run=True)["planned"]
    assert planned == {"instance_id": web.old[0], "pool": own, "monthly_saving_usd": None}
    aws.poison(own)
    report = web.swap()
    assert set(reasons(report["skipped"]).values()) <= {"NOT_CHEAPER", "POOL_POISONED"} and report["swapped"] == []
    assert launched(aws) == []
    web.assert_untouched()


def test_a_type_whose_spot_price_is_unknown_is_none_to_change_to(aws, scene):
    web = lone(scene, "m5.large", "c5.large", "m5a.large")
    aws.control.prices(unknown=["c5.large"])
    poisoned(aws, "m5.large")
    report = web.swap()
    web.assert_swapped(report)
    assert launched(aws) == ["m5a.large"]


def test_prices_that_cannot_be_had_leave_the_own_type_and_no_saving_to_tell(aws, scene):
    web = lone(scene, "m5.large", "m5a.large")
    aws.control.fault("DescribeSpotPriceHistory", code="InternalError", status=500)
    report = web.swap()
    web.assert_swapped(report)
    assert [(s["pool"], s["monthly_saving_usd"]) for s in report["swapped"]] == [(POOL.format("m5.large"), None)]
