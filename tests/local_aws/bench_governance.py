"""CPU and memory of one audit and of one waste scan: the functions' binaries against an endpoint that serves pre-rendered pages.

The endpoint does no work of its own per resource, and stands in for DynamoDB, EventBridge and SNS as well, so that the client
alone is measured. Every tenth resource is a finding, or every second one: an unauthorised instance gets its row, its event and its place in a message;
waste gets its row. EC2 is asked for `available` volumes only, so all volumes served are; nine of ten are too young to be waste.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .paths import without_aws

OWNED = "<item><key>aws:autoscaling:groupName</key><value>web</value></item>"
INSTANCE = (
    "<item><instanceId>i-{n:017x}</instanceId><imageId>ami-0abcdef1234567890</imageId>"
    "<instanceState><code>16</code><name>running</name></instanceState><privateDnsName>ip-10-0-0-1.ec2.internal</privateDnsName>"
    "<dnsName/><reason/><keyName>key</keyName><amiLaunchIndex>0</amiLaunchIndex><productCodes/>"
    "<instanceType>m5.large</instanceType><launchTime>2026-11-01T10:00:00.000Z</launchTime>"
    "<placement><availabilityZone>us-east-1a</availabilityZone><groupName/><tenancy>default</tenancy></placement>"
    "<monitoring><state>disabled</state></monitoring><subnetId>subnet-0abcdef1234567890</subnetId>"
    "<vpcId>vpc-0abcdef1234567890</vpcId><privateIpAddress>10.0.0.1</privateIpAddress><sourceDestCheck>true</sourceDestCheck>"
    "<groupSet><item><groupId>sg-0abcdef1234567890</groupId><groupName>web</groupName></item></groupSet>"
    "<architecture>x86_64</architecture><rootDeviceType>ebs</rootDeviceType><rootDeviceName>/dev/xvda</rootDeviceName>"
    "<blockDeviceMapping><item><deviceName>/dev/xvda</deviceName><ebs><volumeId>vol-0abcdef1234567890</volumeId>"
    "<status>attached</status><attachTime>2026-11-01T10:00:00.000Z</attachTime>"
    "<deleteOnTermination>true</deleteOnTermination></ebs></item></blockDeviceMapping>"
    "<virtualizationType>hvm</virtualizationType><clientToken/><tagSet><item><key>Name</key><value>web-{n}</value></item>"
    "<item><key>team</key><value>payments</value></item>{owned}</tagSet><hypervisor>xen</hypervisor></item>"
)
VOLUME = (
    "<item><volumeId>vol-{n:017x}</volumeId><size>100</size><snapshotId/><availabilityZone>us-east-1a</availabilityZone>"
    "<status>available</status><createTime>{time}</createTime><attachmentSet/><tagSet><item><key>Name</key><value>data-{n}</value>"
    "</item><item><key>team</key><value>payments</value></item></tagSet><volumeType>gp3</volumeType><iops>3000</iops>"
    "<encrypted>true</encrypted><kmsKeyId>arn:aws:kms:us-east-1:123456789012:key/0abcdef1-2345-6789-0abc-def123456789</kmsKeyId>"
    "<multiAttachEnabled>false</multiAttachEnabled><throughput>125</throughput></item>"
)
SNAPSHOT = (
    "<item><snapshotId>snap-{n:017x}</snapshotId><volumeId>vol-{volume:017x}</volumeId><status>completed</status>"
    "<startTime>{time}</startTime><progress>100%</progress><ownerId>123456789012</ownerId><volumeSize>100</volumeSize>"
    "<description>nightly</description><tagSet><item><key>team</key><value>payments</value></item></tagSet>"
    "<encrypted>true</encrypted><storageTier>standard</storageTier><fullSnapshotSizeInBytes>42949672960</fullSnapshotSizeInBytes></item>"
)
ADDRESS = (
    "<item><publicIp>198.51.{high}.{low}</publicIp><allocationId>eipalloc-{n:017x}</allocationId><domain>vpc</domain>{association}"
    "<tagSet><item><key>team</key><value>payments</value></item></tagSet><publicIpv4Pool>amazon</publicIpv4Pool>"
    "<networkBorderGroup>us-east-1</networkBorderGroup></item>"
)
ASSOCIATION = (
    "<instanceId>i-{n:017x}</instanceId><associationId>eipassoc-{n:017x}</associationId>"
    "<networkInterfaceId>eni-{n:017x}</networkInterfaceId><networkInterfaceOwnerId>123456789012</networkInterfaceOwnerId>"
    "<privateIpAddress>10.0.0.1</privateIpAddress>"
)
IMAGE = (
    "<item><imageId>ami-{n:017x}</imageId><imageLocation>123456789012/golden-{n}</imageLocation><imageState>available</imageState>"
    "<imageOwnerId>123456789012</imageOwnerId><isPublic>false</isPublic><architecture>x86_64</architecture>"
    "<imageType>machine</imageType><name>golden-{n}</name><rootDeviceType>ebs</rootDeviceType><rootDeviceName>/dev/xvda</rootDeviceName>"
    "<blockDeviceMapping><item><deviceName>/dev/xvda</deviceName><ebs><snapshotId>snap-{n:017x}</snapshotId><volumeSize>100</volumeSize>"
    "<deleteOnTermination>true</deleteOnTermination><volumeType>gp3</volumeType></ebs></item></blockDeviceMapping>"
    "<virtualizationType>hvm</virtualizationType><hypervisor>xen</hypervisor></item>"
)
QUERY = {
    "DescribeRegions": "<DescribeRegionsResponse><regionInfo><item><regionName>us-east-1</regionName></item></regionInfo>"
    "</DescribeRegionsResponse>",
    "DescribeLaunchTemplateVersions": "<DescribeLaunchTemplateVersionsResponse><launchTemplateVersionSet/>"
    "</DescribeLaunchTemplateVersionsResponse>",
    "DescribeLaunchConfigurations": "<DescribeLaunchConfigurationsResponse><DescribeLaunchConfigurationsResult><LaunchConfigurations/>"
    "</DescribeLaunchConfigurationsResult></DescribeLaunchConfigurationsResponse>",
    "DescribeLockedSnapshots": "<DescribeLockedSnapshotsResponse><snapshotSet/></DescribeLockedSnapshotsResponse>",
    "DescribeSnapshotAttribute": "<DescribeSnapshotAttributeResponse><createVolumePermission/></DescribeSnapshotAttributeResponse>",
    "ListImagesInRecycleBin": "<ListImagesInRecycleBinResponse><imageSet/></ListImagesInRecycleBinResponse>",
    "Publish": "<PublishResponse><PublishResult><MessageId>m</MessageId></PublishResult></PublishResponse>",
    "GetTopicAttributes": "<GetTopicAttributesResponse><GetTopicAttributesResult><Attributes><entry><key>SubscriptionsConfirmed</key>"
    "<value>1</value></entry></Attributes></GetTopicAttributesResult></GetTopicAttributesResponse>",
}
JSON = {
    "BatchGetItem": {"Responses": {"bench": []}, "UnprocessedKeys": {}},
    "GetProducts": {"FormatVersion": "aws_v1", "PriceList": []},
    "Query": {"Items": []},
    "Scan": {"Items": []},
}
OLD = "2024-01-01T00:00:00.000Z"


# The pages of an action's answer, or what renders the answer from the request's body.
Pages = Mapping[str, list[str] | list[bytes] | Callable[[str], str]]


class Measured(NamedTuple):
    answer: Any
    cpu: float  # Seconds.
    peak: float  # MB resident.
    calls: int


class Estate(http.server.ThreadingHTTPServer):
    """The AWS endpoint and the Lambda Runtime API in one. `pages` holds those of each action, or renders one from the request."""

    daemon_threads = True

    def __init__(self, pages: Pages) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages = pages
        self.invoked, self.answer, self.calls, self.done = False, None, 0, threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    log_message = lambda *_: None  # noqa: E731

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # The measured process is killed at the end.
            super().handle()

    def do_GET(self) -> None:
        if self.server.invoked:
            time.sleep(60)  # No more work.
            return
        self.server.invoked = True
        deadline = str(int(time.time() * 1000) + 600_000)
        headers = {"Lambda-Runtime-Aws-Request-Id": "bench", "Lambda-Runtime-Deadline-Ms": deadline}
        self._send("{}", {**headers, "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:bench"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if "/runtime/" in self.path:
            self._send("{}")
            self.server.answer = json.loads(body)
            self.server.done.set()
            return
        self.server.calls += 1
        if target := self.headers.get("X-Amz-Target"):
            self._send(json.dumps(JSON.get(target.rsplit(".")[-1], {"FailedEntryCount": 0, "Entries": []})))
            return
        action = re.search(r"Action=(\w+)", body)[1]
        if action in QUERY:
            self._send(QUERY[action])
        else:
            token = re.search(r"NextToken=(\d+)", body)
            pages = self.server.pages[action]
            self._send(pages(body) if callable(pages) else pages[int(token[1]) if token else 0])

    def _send(self, body: str, headers: dict[str, str] | None = None):
        data = body if isinstance(body, bytes) else body.encode()
        self.send_response(200)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()


def audit(bootstrap: Path, instances: int, environment: Mapping[str, str]) -> tuple[float, float]:
    """(seconds of CPU, peak MB) of one audit of so many instances."""
    items = [INSTANCE.format(n=n, owned="" if n % 10 == 0 else OWNED) for n in range(instances)]
    pages = _pages("DescribeInstances", "reservationSet", 500, items, "<item><instancesSet>", "</instancesSet></item>")
    answer, cpu, peak, _ = measure(bootstrap, {"DescribeInstances": pages}, environment)
    if answer.get("running") != instances or answer.get("partial"):
        raise RuntimeError(f"{bootstrap} did not audit {instances} instances: {str(answer)[:500]}")
    return cpu, peak


def scan(bootstrap: Path, volumes: int, environment: Mapping[str, str], every: int = 10) -> tuple[float, float]:
    """(seconds of CPU, peak MB) of one waste scan of so many volumes, as many snapshots, and a tenth of that in addresses.

    One of `every` is waste.
    """
    young = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    waste = [n % every == 0 for n in range(volumes)]
    in_images = [n for n in range(volumes) if n % 20 == 1]  # Old as well, but an image needs them.
    old_snapshots = {n for n in range(volumes) if waste[n]}.union(in_images)
    rendered = {
        "DescribeVolumes": ("volumeSet", 500, [VOLUME.format(n=n, time=OLD if waste[n] else young) for n in range(volumes)]),
        "DescribeSnapshots": ("snapshotSet", 1000, [
            SNAPSHOT.format(n=n, volume=n // 3, time=OLD if n in old_snapshots else young) for n in range(volumes)
        ]),
        "DescribeAddresses": ("addressesSet", volumes, [  # EC2 does not page them.
            ADDRESS.format(n=n, high=n // 256 % 256, low=n % 256, association="" if waste[n] else ASSOCIATION.format(n=n))
            for n in range(volumes // 10)
        ]),
        "DescribeImages": ("imagesSet", 1000, [IMAGE.format(n=n) for n in in_images]),
    }  # fmt: skip
    pages = {action: _pages(action, *what) for action, what in rendered.items()}
    answer, cpu, peak, _ = measure(bootstrap, pages, environment)
    found = {kind: listing["count"] for kind, listing in answer.get("types", {}).items()}
    expected = {"elastic-ip": volumes // 10 // every, "volume": volumes // every, "snapshot": volumes // every}
    if found != expected or answer.get("partial"):
        raise RuntimeError(f"{bootstrap} did not find {expected}: {str(answer)[:500]}")
    return cpu, peak


def _pages(action: str, set_name: str, size: int, items: list[str], before: str = "", after: str = ""):
    firsts = range(0, len(items), size)
    following = [f"<nextToken>{number}</nextToken>" for number in range(1, len(firsts))] + [""]
    return [
        f"<{action}Response><{set_name}>{before}{''.join(items[first : first + size])}{after}</{set_name}>{token}</{action}Response>".encode()
        for first, token in zip(firsts, following)
    ]


def measure(bootstrap: Path, pages: Pages, environment: Mapping[str, str]) -> Measured:
    """One invocation, the start of the process included; Linux only."""
    estate = Estate(pages)
    environment = {
        **without_aws(os.environ), **environment, "AWS_LAMBDA_RUNTIME_API": estate.address,
        "AWS_ENDPOINT_URL": f"http://{estate.address}", "RUST_LOG": "warn",
    }  # fmt: skip
    process = subprocess.Popen([str(bootstrap)], env=environment, stdout=subprocess.DEVNULL)
    try:
        if not estate.done.wait(300):
            raise RuntimeError(f"{bootstrap} did not answer (exit code {process.poll()})")
        peak = _peak_mb(process.pid)
    finally:
        process.kill()
        _, process.returncode, used = os.wait4(process.pid, 0)
        estate.shutdown()
        estate.server_close()
    return Measured(estate.answer, used.ru_utime + used.ru_stime, peak, estate.calls)


def _peak_mb(pid: int):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024 / 1e6
