"""Waste scanner and security enforcer in a second account, through its role; and their reports if they have no access."""

import json
import time
import uuid

import boto3
import pytest

from local_aws.build import load
from local_aws.paths import ACCOUNT, ACCOUNT_ROLE, REGION

CUSTOMER = "222222222222"
EXTERNAL_ID = "of-this-stack-alone"
SCANNER, ENFORCER = "WasteScannerFunctionName", "SecurityEnforcerFunctionName"


class Customer:
    """A second account with the role of `shared/cloud/account.yaml`."""

    def __init__(self, aws):
        self.aws, self.role = aws, f"SpotOptimizer-{uuid.uuid4().hex[:8]}"
        cloudformation = self.client("cloudformation")
        parameters = {"StackAccountId": ACCOUNT, "ExternalId": EXTERNAL_ID, "RoleName": self.role}
        cloudformation.create_stack(
            StackName=self.role, TemplateBody=json.dumps(load(ACCOUNT_ROLE)), Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
        )  # fmt: skip
        cloudformation.get_waiter("stack_create_complete").wait(StackName=self.role, WaiterConfig={"Delay": 1})
        self.arn = f"arn:aws:iam::{CUSTOMER}:role/{self.role}"
        self.rows = {"WasteResourceTableName": "resource", "InstanceAuthTableName": "instance_id"}

    def client(self, service, region=REGION):
        """Returns a client of the account itself: the account's id is the access key."""
        port = self.aws.ports["ec2" if service == "ec2" else "ministack"]
        session = boto3.Session(CUSTOMER, "test", region_name=region)
        return session.client(service, endpoint_url=f"http://127.0.0.1:{port}")

    def register(self, regions=(REGION,), external_id=EXTERNAL_ID, **row):
        self.aws.table("AccountsTableName").put_item(
            Item={
                "account_id": CUSTOMER, "environment_type": "PROD", "role_arn": self.arn, "external_id": external_id,
                "regions": set(regions), **row,
            }
        )  # fmt: skip

    def run(self, function, **input):
        answer, error = self.aws.invoke(function, input)
        assert error is None, error
        return answer

    def stored(self, table, place):
        """Returns the rows of an account and region, by their second key."""
        items = self.aws.table(table).scan(ConsistentRead=True)["Items"]
        return {row[self.rows[table]]: row for row in items if row["account_region"] == place}

    def clean(self):
        for region in (REGION, "eu-west-1"):
            ec2 = self.client("ec2", region)
            for address in ec2.describe_addresses()["Addresses"]:
                ec2.release_address(AllocationId=address["AllocationId"])
            for reservation in ec2.describe_instances()["Reservations"]:
                ec2.terminate_instances(InstanceIds=[i["InstanceId"] for i in reservation["Instances"]])
        for table, key in self.rows.items():
            for row in self.aws.table(table).scan()["Items"]:
                self.aws.table(table).delete_item(Key={name: row[name] for name in ("account_region", key)})

    def launch(self):
        ec2 = self.client("ec2")
        image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        launched = ec2.run_instances(ImageId=image, InstanceType="m5.large", MinCount=1, MaxCount=1)
        instance_id = launched["Instances"][0]["InstanceId"]
        ec2.get_waiter("instance_running").wait(InstanceIds=[instance_id], WaiterConfig={"Delay": 1, "MaxAttempts": 20})
        return instance_id

    def state(self, instance_id):
        found = self.client("ec2").describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
        return found["State"]["Name"]


@pytest.fixture
def customer(aws):
    customer = Customer(aws)
    customer.clean()
    yield customer
    customer.clean()
    customer.client("cloudformation").delete_stack(StackName=customer.role)


def test_waste_in_another_account_is_found_there_and_kept_under_its_key(customer):
    theirs = customer.client("ec2").allocate_address(Domain="vpc")["AllocationId"]
    abroad = customer.client("ec2", "eu-west-1").allocate_address(Domain="vpc")["AllocationId"]
    customer.register(regions=[REGION, "eu-west-1"])
    summary = customer.run(SCANNER, account_id=CUSTOMER)
    assert summary["partial"] is False, summary["failed"]
    assert {(s["account_id"], s["region"]) for s in summary["scopes"]} == {(CUSTOMER, REGION), (CUSTOMER, "eu-west-1")}
    assert list(customer.stored("WasteResourceTableName", f"{CUSTOMER}#{REGION}")) == [f"elastic-ip#{theirs}"]
    assert list(customer.stored("WasteResourceTableName", f"{CUSTOMER}#eu-west-1")) == [f"elastic-ip#{abroad}"]
    assert customer.stored("WasteResourceTableName", f"{ACCOUNT}#{REGION}") == {}


def test_an_audit_of_all_accounts_flags_each_instance_under_its_own(customer):
    stray = customer.launch()
    customer.register()
    answer = customer.run(ENFORCER)
    assert answer["partial"] is False, answer["failed"]
    assert {p["account_id"] for p in answer["places"]} == {ACCOUNT, CUSTOMER}
    row = customer.stored("InstanceAuthTableName", f"{CUSTOMER}#{REGION}")[stray]
    assert row["auth_status"] == "FLAGGED"
    assert stray not in customer.stored("InstanceAuthTableName", f"{ACCOUNT}#{REGION}")


def test_what_is_due_in_another_account_is_terminated_through_its_role(customer, inbox):
    stray = customer.launch()
    customer.register(auto_terminate=True)
    customer.aws.settings(max_terminations_percent=100)
    customer.run(ENFORCER, account_id=CUSTOMER)
    customer.aws.table("InstanceAuthTableName").update_item(
        Key={"account_region": f"{CUSTOMER}#{REGION}", "instance_id": stray},
        UpdateExpression="SET flagged_at = :at",
        ExpressionAttributeValues={":at": int(time.time()) - 90_000},
    )
    answer = customer.run(ENFORCER, account_id=CUSTOMER)
    assert (answer["terminated"], customer.state(stray)) == ([stray], "terminated"), answer


@pytest.mark.parametrize("function", [SCANNER, ENFORCER])
def test_a_role_that_cannot_be_assumed_is_named_and_the_others_are_visited(customer, function):
    customer.register(external_id="somebody-elses")
    answer = customer.run(function)
    assert answer["partial"] is True
    said = json.dumps(answer["failed"])
    assert CUSTOMER in said and "AccessDenied" in said and REGION in said
    visited = {p["account_id"] for p in answer.get("scopes") or answer["places"]}
    assert ACCOUNT in visited


@pytest.mark.parametrize(("function", "action"), [(SCANNER, "DescribeAddresses"), (ENFORCER, "DescribeInstances")])
def test_a_denied_region_is_named_and_the_other_one_is_looked_at(customer, function, action):
    customer.client("ec2").allocate_address(Domain="vpc")
    customer.register(regions=[REGION, "eu-west-1"])
    customer.aws.control.fault(action, code="UnauthorizedOperation", status=403, region="eu-west-1")
    answer = customer.run(function, account_id=CUSTOMER)
    assert answer["partial"] is True and len(answer["failed"]) == 1, answer["failed"]
    said = json.dumps(answer["failed"])
    assert CUSTOMER in said and "eu-west-1" in said and "UnauthorizedOperation" in said and REGION not in said
    if function == SCANNER:
        assert len(customer.stored("WasteResourceTableName", f"{CUSTOMER}#{REGION}")) == 1


@pytest.mark.parametrize("function", [SCANNER, ENFORCER])
def test_a_region_alone_means_every_account_that_lists_it(customer, function):
    customer.register(regions=["eu-west-1"])
    answer = customer.run(function, region="eu-west-1")
    places = answer.get("scopes") or answer["places"]
    assert [(p["account_id"], p["region"]) for p in places] == [(CUSTOMER, "eu-west-1")]
    _, error = customer.aws.invoke(function, {"region": "ap-south-1"})
    assert error["errorType"] == "InvalidInput" and "ap-south-1" in error["errorMessage"]
