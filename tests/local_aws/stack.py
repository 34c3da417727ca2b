"""`LocalAws`: the deployed stack, with every operation of the tests, the demo and the benchmarks."""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import json
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from . import build, deploy, servers
from .control import CapacityWatcher, Control
from .groups import Network, create_group
from .kubernetes.cluster import Kubernetes
from .paths import ACCOUNT, GIVE_UP, GIVEN_UP, NAMES_RETURN, QUEUED_EVENTS, REGION, Home, credentials
from .progress import step
from .shapes import Shape

if TYPE_CHECKING:
    from .groups import Group

EC2_SIDE = {"ec2", "autoscaling", "elbv2", "pricing", "eks"}
INTERRUPTION = "EC2 Spot Instance Interruption Warning"
REBALANCE = "EC2 Instance Rebalance Recommendation"
ENDED = ("SUCCEEDED", "FAILED", "ABORTED", "TIMED_OUT")
ENDED_EVENTS = ("ExecutionSucceeded", "ExecutionFailed", "ExecutionAborted", "ExecutionTimedOut")


class LocalAws:
    def __init__(self, home: Home | None = None, account: str = ACCOUNT) -> None:
        self.home, self.account = home or Home(), account

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self) -> bool:
        """Starts the servers. Returns True if they were not running yet."""
        if servers.running(self.home.read_state()):
            return False
        with step("start local AWS (MiniStack, EC2 endpoint)"):
            servers.start(self.home)
        return True

    def stop(self) -> list[str]:
        return servers.stop(self.home)

    def deploy(self, parameters: dict[str, str] | None = None) -> dict[str, str]:
        """Builds and deploys; `parameters` override those of the template."""
        self.outputs = deploy.deploy(self.home, build.build(), parameters, self.account)
        return self.outputs

    def up(self) -> bool:
        """Builds, starts and deploys. If the deployment fails, stops the servers that it started. Returns True if it
        started them."""
        template = build.build()
        started = self.start()
        try:
            self.outputs = deploy.deploy(self.home, template)
        except BaseException:
            if started:
                self.stop()
            raise
        return started

    @functools.cached_property
    def outputs(self) -> dict[str, str]:
        return json.loads(self.home.outputs_file.read_text())

    @property
    def ports(self) -> dict[str, int]:
        return self.home.read_state()["ports"]

    # -- clients -------------------------------------------------------------------------------------------------

    @functools.cache
    def client(self, service: str) -> Any:
        port = self.ports["ec2" if service in EC2_SIDE else "ministack"]
        session = boto3.Session(*credentials(self.account).values(), region_name=REGION)
        config = Config(retries={"max_attempts": 2}, read_timeout=120, max_pool_connections=20)
        return session.client(service, endpoint_url=f"http://127.0.0.1:{port}", config=config)

    def client_of(self, function: str, service: str) -> Any:
        """Returns a client with the credentials of a function's role, to show what that role may not do."""
        described = self.client("lambda").get_function_configuration(FunctionName=self.outputs[function])
        digest = hashlib.sha256(f"{described['FunctionArn']}:{described['Role']}".encode()).hexdigest()
        secret, token = (hashlib.sha256(f"{part}:{digest}".encode()).hexdigest() for part in ("secret", "token"))
        session = boto3.Session(f"ASIA{digest[:16].upper()}", secret, token, region_name=REGION)
        # The forwarder records a session that STS opens.
        port = self.ports["ec2" if service in EC2_SIDE else "forward" if service == "sts" else "ministack"]
        return session.client(service, endpoint_url=f"http://127.0.0.1:{port}")

    @functools.cached_property
    def control(self) -> Control:
        return Control(self.ports["ec2"])

    @functools.cached_property
    def kubernetes(self) -> Kubernetes:
        """Returns a real control plane and its nodes, started at the first use."""
        return Kubernetes(self)

    # -- Lambdas and executions ----------------------------------------------------------------------------------

    def invoke(self, function: str, payload: Any) -> tuple[Any, Any]:
        """Returns (answer, error): `function` is a stack output ("RiskManagerFunctionName") or a function's name."""
        answer = self.client("lambda").invoke(FunctionName=self.outputs.get(function, function), Payload=json.dumps(payload).encode())
        body = json.loads(answer["Payload"].read() or b"null")
        return (None, body) if answer.get("FunctionError") else (body, None)

    def deliver(self, function: str, event: Shape) -> None:
        """Invokes asynchronously, with Lambda's retries and the dead-letter queue at their end, as EventBridge does on
        AWS."""
        name = self.outputs[function]
        self.client("lambda").invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(event).encode())

    def queued_events(self, function: str) -> Counter[str]:
        """Returns how many events were `sent` into the function's queue since the start, and what became of them
        (`delivery.Record`)."""
        lines = (self.home.directory / QUEUED_EVENTS).read_text().splitlines()
        return Counter(what for name, what in map(str.split, lines) if name == self.outputs[function])

    @contextlib.contextmanager
    def function_environment(self, function: str, **variables: str) -> Iterator[None]:
        """Gives the function other environment variables, as another stack's parameters would set them."""
        client, name = self.client("lambda"), self.outputs[function]
        usual = client.get_function_configuration(FunctionName=name)["Environment"]
        client.update_function_configuration(FunctionName=name, Environment={"Variables": {**usual["Variables"], **variables}})
        try:
            yield
        finally:
            client.update_function_configuration(FunctionName=name, Environment=usual)

    def start_execution(self, input: Shape, name: str | None = None, machine: str = "ClusterSwapStateMachineArn") -> str:
        answer = self.client("stepfunctions").start_execution(
            stateMachineArn=self.outputs[machine],
            name=name or f"test-{uuid.uuid4()}",
            input=json.dumps(input),
        )
        return answer["executionArn"]

    def wait_execution(self, arn: str, timeout: float = 120) -> Shape:
        """Returns the described execution once it has ended, `output` parsed."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            execution = self.client("stepfunctions").describe_execution(executionArn=arn)
            if execution["status"] in ENDED:
                execution["output"] = json.loads(execution.get("output") or "null")
                return execution
            time.sleep(0.1)
        raise TimeoutError(f"{arn} still runs after {timeout} s; last state: {self.states(arn)[-1:]}")

    def swap(self, group: str, timeout: float = 120, **more: Any) -> Shape:
        """Runs one execution to its end and returns it."""
        return self.wait_execution(self.start_execution({"asg_name": group, **more}), timeout)

    def stop_execution(self, arn: str, timeout: float = 90, then: Callable[[], object] | None = None) -> None:
        """Stops the execution, and returns once no Lambda of it is at work: a Lambda does not learn that its execution
        is over.

        `then` is called in between, for instance to release a call that a fault holds.

        On AWS the reconciler leaves a dead execution alone for longer than a Lambda may run
        (`reconcile_after_seconds`). A test that sets that to 0 after this call has waited as long.
        """
        self.client("stepfunctions").stop_execution(executionArn=arn, error="Operator", cause="stopped by a test")
        if then:
            then()
        deadline = time.monotonic() + timeout
        while self._is_at_work(arn):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{arn} was stopped {timeout} s ago, and a Lambda of it is still at work")
            time.sleep(0.02)

    def give_up(self, arn: str, phase: str, timeout: float = 30) -> None:
        """Makes Step Functions give up the invocation of this phase that is under way, and returns once it has: the state
        is retried beside it. `given_up_ended` waits for its end."""
        told = self.home.directory / GIVE_UP
        fresh = told.with_suffix(".new")
        fresh.write_text(json.dumps({"execution": arn, "phase": phase}))
        fresh.replace(told)
        _wait(lambda: not told.exists(), timeout, f"no invocation of {phase} was under way to be given up")

    def given_up_ended(self, timeout: float = 60) -> None:
        """Returns once the invocations that were given up have ended."""
        _wait(lambda: not any(self.home.directory.glob(GIVEN_UP)), timeout, "what was given up still runs")

    @contextlib.contextmanager
    def names_return(self) -> Iterator[None]:
        """Lets the name of an execution be used again once it has ended, as after 90 days: the loop gives its executions a name
        for each quarter of an hour."""
        told = self.home.directory / NAMES_RETURN
        told.touch()
        try:
            yield
        finally:
            told.unlink(missing_ok=True)

    def _is_at_work(self, arn: str):
        """Returns True while a Lambda works. MiniStack writes the end of a task into the history of a stopped
        execution, too."""
        for event in reversed(self.history(arn)):
            if event["type"] in ("TaskStateExited", "ExecutionFailed"):
                return False
            if event["type"] == "TaskStateEntered":
                return True
        return False

    def history(self, arn: str) -> list[Shape]:
        pages = self.client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=arn)
        return [event for page in pages for event in page["events"]]

    def states(self, arn: str) -> list[tuple[datetime.datetime, str]]:
        """Returns [(time, name)] of the states entered so far, in order."""
        return _entered(self.history(arn))

    def wait_state(self, arn: str, name: str, timeout: float = 60) -> None:
        """Returns once the execution has entered `name`: the moment at which a test wants to interfere."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            events = self.history(arn)
            if any(entered == name for _, entered in _entered(events)):
                return
            if any(event["type"] in ENDED_EVENTS for event in events):
                execution = self.client("stepfunctions").describe_execution(executionArn=arn)
                raise AssertionError(f"it ended before {name}: {execution['status']}, {execution.get('output')}, {_entered(events)}")
            time.sleep(0.02)
        raise TimeoutError(f"{arn} never entered {name}: {[s for _, s in self.states(arn)]}")

    def wait_scale(self, scale: float) -> None:
        """Sets SFN_WAIT_SCALE of the running MiniStack: slow it down to interfere, speed it up to be done."""
        import urllib.request

        body = json.dumps({"stepfunctions._SFN_WAIT_SCALE": scale}).encode()
        url = f"http://127.0.0.1:{self.ports['ministack']}/_ministack/config"
        urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})).read()

    # -- tables --------------------------------------------------------------------------------------------------

    @functools.cache
    def table(self, output: str) -> Any:
        port = self.ports["ministack"]
        return boto3.resource(
            "dynamodb", endpoint_url=f"http://127.0.0.1:{port}", region_name=REGION,
            **{name.lower(): value for name, value in credentials(self.account).items()},
        ).Table(self.outputs[output])  # fmt: skip

    def settings(self, scope: str = "global", **overrides: Any) -> None:
        """Writes the scope's row; without overrides, deletes it."""
        table = self.table("SettingsTableName")
        if overrides:
            table.put_item(Item={"scope": scope, **overrides})
        else:
            table.delete_item(Key={"scope": scope})

    def clear_memory(self) -> None:
        """Makes the loop forget every group."""
        table = self.table("GroupsTableName")
        for item in table.scan(ConsistentRead=True)["Items"]:
            table.delete_item(Key={"group": item["group"]})

    def pools(self) -> dict[str, Shape]:
        return {item["pool"]: item for item in self.table("SpotPoolRiskTableName").scan()["Items"]}

    def poison(self, pool: str, seconds: float = 15 * 86400) -> None:
        now = int(time.time())
        self.table("SpotPoolRiskTableName").put_item(
            Item={
                "pool": pool, "is_poisoned": True, "poisoned_at": now, "poison_expires_at": now + seconds,
                "cause": "test",
            }
        )  # fmt: skip

    def clear_pools(self) -> None:
        table = self.table("SpotPoolRiskTableName")
        for pool in self.pools():
            table.delete_item(Key={"pool": pool})

    def clear_registry(self) -> None:
        """Clears the registry: no overrides of settings, no accounts but the stack's own."""
        for output, key in (("SettingsTableName", "scope"), ("AccountsTableName", "account_id")):
            table = self.table(output)
            for item in table.scan()["Items"]:
                table.delete_item(Key={key: item[key]})

    # -- EC2 -----------------------------------------------------------------------------------------------------

    @functools.cached_property
    def network(self) -> Network:
        """Returns one VPC with a subnet in each of two zones, shared by all groups of the run."""
        return Network(self)

    def create_group(self, size: int = 2, **options: Any) -> Group:
        """Creates a group as `groups.create_group` says; returns a `Group`."""
        return create_group(self, size=size, **options)

    def watch(self, group: str, on_change: Callable[[Shape], None] | None = None) -> CapacityWatcher:
        return CapacityWatcher(self.control, group, on_change)

    def instance(self, instance_id: str) -> Shape:
        return self.client("ec2").describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]

    def instances(self, *states: str) -> list[Shape]:
        filters = [{"Name": "instance-state-name", "Values": list(states)}] if states else []
        pages = self.client("ec2").get_paginator("describe_instances").paginate(Filters=filters)
        return [i for page in pages for r in page["Reservations"] for i in r["Instances"]]

    def launch_spot(self, instance_type: str = "m5.large", zone: str = "us-east-1a") -> str:
        """Launches a stand-alone Spot instance, for a drill to interrupt."""
        launched = self.client("ec2").run_instances(
            ImageId=self.network.image, InstanceType=instance_type, MinCount=1, MaxCount=1,
            SubnetId=self.network.subnets[zone], InstanceMarketOptions={"MarketType": "spot"},
        )  # fmt: skip
        instance_id = launched["Instances"][0]["InstanceId"]
        self.client("ec2").get_waiter("instance_running").wait(InstanceIds=[instance_id], WaiterConfig={"Delay": 1, "MaxAttempts": 20})
        return instance_id

    def pool_of(self, instance_id: str) -> str:
        instance = self.instance(instance_id)
        zones = self.client("ec2").describe_availability_zones()["AvailabilityZones"]
        ids = {z["ZoneName"]: z["ZoneId"] for z in zones}
        return f"{REGION}#{ids[instance['Placement']['AvailabilityZone']]}#{instance['InstanceType']}"

    # -- events --------------------------------------------------------------------------------------------------

    def drill_event(
        self,
        instance_id: str,
        detail_type: str = INTERRUPTION,
        time: str | None = None,
        source: str = "spot-optimizer.drill",
        account: str | None = None,
    ) -> Shape:
        """Returns the event as EventBridge passes it to a Lambda, for a direct invocation."""
        zone = self.instance(instance_id)["Placement"]["AvailabilityZone"] if self._exists(instance_id) else "us-east-1a"
        at = time or datetime.datetime.now(datetime.timezone.utc)
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": detail_type,
            "source": source,
            "account": account or self.account,
            "time": at if isinstance(at, str) else at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": REGION,
            "resources": [f"arn:aws:ec2:{zone}:instance/{instance_id}"],
            "detail": {"instance-id": instance_id} | ({"instance-action": "terminate"} if detail_type == INTERRUPTION else {}),
        }

    def put_drill(self, instance_id: str, detail_type: str = INTERRUPTION, time: str | None = None) -> Shape:
        """Sends the drill through EventBridge, as a person would."""
        event = self.drill_event(instance_id, detail_type, time)
        entry = {
            "Source": event["source"],
            "DetailType": detail_type,
            "Detail": json.dumps(event["detail"]),
            "Resources": event["resources"],
            "Time": event["time"],
        }
        answer = self.client("events").put_events(Entries=[entry])
        if answer["FailedEntryCount"]:
            raise ValueError(answer["Entries"][0])
        return event

    def wait_pool(self, pool: str, timeout: float = 20) -> Shape:
        """Returns the pool's row once it exists."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if pool in (pools := self.pools()):
                return pools[pool]
            time.sleep(0.1)
        raise TimeoutError(f"{pool} was not poisoned within {timeout} s; the table has {list(self.pools())}")

    def _exists(self, instance_id: str):
        return bool(re.fullmatch(r"i-[0-9a-f]+", instance_id)) and any(i["InstanceId"] == instance_id for i in self.instances())


def _wait(condition: Callable[[], bool], timeout: float, otherwise: str) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(0.02)


def _entered(events: list[Shape]):
    return [(e["timestamp"], e["stateEnteredEventDetails"]["name"]) for e in events if "stateEnteredEventDetails" in e]
