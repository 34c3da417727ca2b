"""Load: a thousand notices at once, twenty groups at once, and the waste scan of two hundred places.

Each test asserts effects, and no duration. `pytest` prints at its end what they have measured.
"""

import concurrent.futures
import json
import random
import time
from collections import defaultdict

import boto3
import pytest

from local_aws.build import load
from local_aws.paths import ACCOUNT, ACCOUNT_ROLE, REGION
from local_aws.stack import INTERRUPTION
from places import EXTERNAL_ID
from scene import wait_for

DAYS_15 = 15 * 86400


@pytest.fixture
def measured(record_property):
    return lambda told: record_property("measured", told)


# -- a thousand notices ------------------------------------------------------------------------------------------------

EVENTS, INSTANCES, POOLS = 1000, 400, 60
FAMILIES = ("c5", "c5a", "c6a", "c6i", "m5", "m5a", "m6a", "m6i", "r5", "r5a", "r6a", "r6i")
TYPES = [f"{family}.{size}" for family in FAMILIES for size in ("large", "xlarge", "2xlarge")]
BATCH = 10  # The most entries of one PutEvents.
POLL_SECONDS = 0.2
HEARERS = ("RiskManagerFunctionName", "InterruptionResponderFunctionName")


def launch(aws, instance_type, zone, count):
    launched = aws.client("ec2").run_instances(
        ImageId=aws.network.image, InstanceType=instance_type, MinCount=count, MaxCount=count,
        SubnetId=aws.network.subnets[zone], InstanceMarketOptions={"MarketType": "spot"},
    )  # fmt: skip
    return [instance["InstanceId"] for instance in launched["Instances"]]


@pytest.fixture
def spots(aws):
    """Returns Spot instances in more pools than are interrupted: pool → instance ids."""
    zones = {z["ZoneName"]: z["ZoneId"] for z in aws.client("ec2").describe_availability_zones()["AvailabilityZones"]}
    places = [(kind, zone) for kind in TYPES for zone in aws.network.subnets]
    pools = {}
    for n, (kind, zone) in enumerate(places):
        count = len(range(n, INSTANCES, POOLS)) if n < POOLS else 1
        pools[f"{REGION}#{zones[zone]}#{kind}"] = launch(aws, kind, zone, count)
    ours = [i for ids in pools.values() for i in ids]
    wait_for(lambda: set(ours) <= {i["InstanceId"] for i in aws.instances("running")})
    yield pools
    aws.client("ec2").terminate_instances(InstanceIds=ours)


@pytest.fixture
def dead_letters(aws):
    """Returns the number of messages in the dead-letter queue, which is empty when the test begins."""
    sqs = aws.client("sqs")
    (url,) = [u for u in sqs.list_queues()["QueueUrls"] if "FailedEvents" in u]
    sqs.purge_queue(QueueUrl=url)
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    return lambda: sum(int(n) for n in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"].values())


def notices(instance_ids):
    """Returns [(instance id, time)] out of order: two or three for each instance, one of which is hours older."""
    order, now, told = random.Random(1), int(time.time()), []
    for n, instance_id in enumerate(instance_ids):
        at = now - order.randrange(60, 7200)
        told += [(instance_id, at)] * (1 + n % 2) + [(instance_id, at - order.randrange(600, 86_400))]
    order.shuffle(told)
    return told


def put(aws, told):
    """Puts the notices on the bus as EC2 does, with the account's rules behind it."""
    entries = [
        {
            "Source": "local.aws.ec2",  # `local_aws/ministack.py` lets it through as aws.ec2.
            "DetailType": INTERRUPTION,
            "Detail": json.dumps({"instance-id": instance_id, "instance-action": "terminate"}),
            "Resources": [f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{instance_id}"],
            "Time": at,
        }
        for instance_id, at in told
    ]
    batches, events = [entries[n : n + BATCH] for n in range(0, len(entries), BATCH)], aws.client("events")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda batch: events.put_events(Entries=batch), batches))
    assert [a["FailedEntryCount"] for a in answers] == [0] * len(batches)


@pytest.fixture
def deliveries(aws):
    """Returns for each of the two functions what became of the events that it got since the test began."""
    wait_for(lambda: not any(under_way(aws.queued_events(function)) for function in HEARERS))
    before = {function: aws.queued_events(function) for function in HEARERS}
    return lambda: {function: aws.queued_events(function) - before[function] for function in HEARERS}


def under_way(events):
    return events["sent"] - events["handled"] - events["given_up"]


def settled(deliveries, count, timeout=300):
    """Returns what became of so many notices at both functions, once none is under way any more. An event that fails comes into
    the dead-letter queue only after its last attempt, and is under way until then."""
    deadline = time.monotonic() + timeout
    while True:
        found = deliveries()
        if all(events["sent"] >= count and not under_way(events) for events in found.values()):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(POLL_SECONDS)


def judged_at(aws, count):
    """Returns when the last of so many notices was judged. For each of them the risk manager updates its pool's row, and both it
    and the responder look at the instance."""
    table, calls = aws.outputs["SpotPoolRiskTableName"], aws.control.calls()
    updates = [c for c in calls if c["action"] == "UpdateItem" and c["params"]["TableName"] == table]
    looks = [c for c in calls if c["action"] == "DescribeInstances"]
    assert len(updates) >= count and len(looks) >= 2 * count, (len(updates), len(looks))
    return max(c["t"] + c["ms"] / 1000 for c in updates)


def answers_begun(aws):
    machine = aws.outputs["InterruptionResponseStateMachineArn"]
    return {e["executionArn"] for e in aws.client("stepfunctions").list_executions(stateMachineArn=machine)["executions"]}


def test_of_a_thousand_notices_each_pool_is_poisoned_once_until_15_days_after_its_latest(aws, spots, deliveries, dead_letters, measured):
    pool_of = {instance_id: pool for pool, ids in list(spots.items())[:POOLS] for instance_id in ids}
    told, times, begun = notices(pool_of), defaultdict(set), answers_begun(aws)
    for instance_id, at in told:
        times[pool_of[instance_id]].add(at)
    assert (len(told), len(pool_of), len(times), len(spots)) == (EVENTS, INSTANCES, POOLS, len(TYPES) * 2)
    began = time.time()
    put(aws, told)
    sent = time.time() - began
    ends = settled(deliveries, len(told))
    assert (dead_letters(), [events["given_up"] for events in ends.values()]) == (0, [0, 0]), ends
    took = judged_at(aws, len(told)) - began
    rows = aws.pools()
    assert rows.keys() == times.keys(), "the others were not interrupted"
    latest = {pool: max(at) for pool, at in times.items()}
    assert {pool: row["poisoned_at"] for pool, row in rows.items()} == latest
    assert {pool: row["poison_expires_at"] - DAYS_15 for pool, row in rows.items()} == latest
    assert all(1 <= row["interruptions"] <= len(times[pool]) for pool, row in rows.items()), "a repeated notice counts once"
    assert answers_begun(aws) == begun, "no group is concerned"
    repeated = sum(events["failed"] for events in ends.values())
    measured(
        f"{EVENTS} notices put in {sent:.1f} s, poisoned and looked at within {took:.1f} s: {EVENTS / took:.0f} a second; "
        f"{repeated} attempts failed and were repeated"
    )


# -- twenty groups -----------------------------------------------------------------------------------------------------

GROUPS = 20


def test_twenty_groups_are_swapped_at_once_and_each_serves_all_the_time(aws, scene, measured):
    webs = [scene(size=1 + n % 2) for n in range(GROUPS)]
    began = time.time()
    for web in webs:
        web.start()
    executions = [web.end(timeout=600) for web in webs]
    took = time.time() - began
    assert {e["status"] for e in executions} == {"SUCCEEDED"}, [e.get("cause") for e in executions]
    assert max(e["startDate"] for e in executions) < min(e["stopDate"] for e in executions), "they ran side by side"
    for web, execution in zip(webs, executions):
        web.assert_swapped(execution["output"])
        assert web.group.on_demand == []
        assert web.capacity.highest_desired == web.before["DesiredCapacity"] + 1
    measured(f"{GROUPS} groups of one and two ({sum(len(web.old) for web in webs)} instances) swapped at once in {took:.1f} s")


# -- fifty accounts ----------------------------------------------------------------------------------------------------

ACCOUNTS = [str(700_000_000_000 + n) for n in range(50)]
REGIONS = [REGION, "eu-west-1", "us-west-2", "ap-southeast-2"]
ROLE, ROLE_STACK = "SpotOptimizer", "spot-optimizer-account"


class Customers:
    """Fifty accounts with the role of `shared/cloud/account.yaml`, and an address without use in one region of each."""

    def __init__(self, aws):
        self.aws, self.session = aws, boto3.Session()
        aws.control.open_accounts(ACCOUNTS, REGIONS)
        self.stacks = {account: self.client(account, "cloudformation") for account in ACCOUNTS}
        self.make_roles()
        self.register()
        self.addresses = {}  # (account, region) → its address

    def client(self, account, service, region=REGION):
        """Returns a client of the account's root. One session reads the model of the service once."""
        port = self.aws.ports["ec2" if service == "ec2" else "ministack"]
        return self.session.client(
            service, region_name=region, endpoint_url=f"http://127.0.0.1:{port}", aws_access_key_id=account, aws_secret_access_key="test"
        )

    def make_roles(self):
        template, values = json.dumps(load(ACCOUNT_ROLE)), {"StackAccountId": ACCOUNT, "ExternalId": EXTERNAL_ID, "RoleName": ROLE}
        parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()]
        for stack in self.stacks.values():
            stack.create_stack(
                StackName=ROLE_STACK, TemplateBody=template, Parameters=parameters, Capabilities=["CAPABILITY_NAMED_IAM"]
            )  # fmt: skip
        for stack in self.stacks.values():
            wait_for(lambda stack=stack: self.status(stack) == "CREATE_COMPLETE")

    @staticmethod
    def status(stack):
        return stack.describe_stacks(StackName=ROLE_STACK)["Stacks"][0]["StackStatus"]

    def register(self):
        with self.aws.table("AccountsTableName").batch_writer() as rows:
            for account in ACCOUNTS:
                rows.put_item({
                    "account_id": account, "environment_type": "PROD", "regions": set(REGIONS),
                    "role_arn": f"arn:aws:iam::{account}:role/{ROLE}", "external_id": EXTERNAL_ID,
                })  # fmt: skip

    def waste_one_address_each(self):
        """The region is another one from account to account, and the next region has a volume that is too young to be waste."""
        for n, account in enumerate(ACCOUNTS):
            region, beside = REGIONS[n % len(REGIONS)], REGIONS[(n + 1) % len(REGIONS)]
            made = self.client(account, "ec2", region).allocate_address(Domain="vpc")
            self.client(account, "ec2", beside).create_volume(AvailabilityZone=f"{beside}a", Size=1)
            self.addresses[f"{account}#{region}"] = made["AllocationId"]

    def rows(self):
        """Returns the rows of the findings and of the scans: [{account_region, resource, …}]."""
        table, found, more = self.aws.table("WasteResourceTableName"), [], {}
        while True:
            page = table.scan(ConsistentRead=True, **more)
            found += page["Items"]
            if "LastEvaluatedKey" not in page:
                return [r for r in found if {*r["account_region"].split("#"), *r["resource"].split("#")} & {*ACCOUNTS}]
            more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def clean(self):
        with self.aws.table("WasteResourceTableName").batch_writer() as rows:
            for row in self.rows():
                rows.delete_item({key: row[key] for key in ("account_region", "resource")})
        self.aws.clear_registry()
        self.aws.control.open_accounts(ACCOUNTS, REGIONS)
        for stack in self.stacks.values():
            stack.delete_stack(StackName=ROLE_STACK)


@pytest.fixture
def customers(aws):
    customers = Customers(aws)
    yield customers
    customers.clean()


def test_fifty_accounts_in_four_regions_are_scanned_to_the_end_and_each_address_is_found_in_its_place(aws, customers, inbox, measured):
    """The scan is asked for as its schedule asks for it. The event of its end comes after the last continuation."""
    customers.waste_one_address_each()
    aws.control.clear_calls()
    began = time.time()
    aws.deliver("WasteScannerFunctionName", {})
    told = wait_for(lambda: [m["detail"] for m in inbox() if m.get("detail-type") == "Waste Scan Completed"], timeout=600)[0]
    took = time.time() - began
    places = {f"{account}#{region}" for account in ACCOUNTS for region in REGIONS}
    assert (told["partial"], told["failures"], told["overtaken"]) == (False, 0, 0), told["failed"]
    assert told["accounts_and_regions"] == len(places) + 1, "and the stack's own"
    rows = customers.rows()
    scans = {r["resource"]: (r["status"], float(r["total_monthly_waste_usd"])) for r in rows if r["account_region"] == "summary"}
    assert scans == {place: ("COMPLETE", 3.6 if place in customers.addresses else 0) for place in places}
    found = {(row["account_region"], row["resource"], row["status"]) for row in rows if row["account_region"] != "summary"}
    assert found == {(place, f"elastic-ip#{address}", "OPEN") for place, address in customers.addresses.items()}
    assert told["types"]["elastic-ip"]["count"] >= len(ACCOUNTS)
    sessions = [c for c in aws.control.calls(action="AssumeRole") if c["params"]["RoleSessionName"] == "spot-optimizer-waste"]
    assert len(sessions) <= 2 * len(places), "one for each place and each visit, and none for each call"
    measured(f"waste scan of {told['accounts_and_regions']} accounts and regions in {took:.1f} s, {len(found)} findings")
