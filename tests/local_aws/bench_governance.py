"""CPU and memory of one audit: the security enforcer's binary against an endpoint that serves pre-rendered pages.

The endpoint does no work of its own per instance, so that the client alone is measured. Every tenth instance is unauthorised
and gets its row, its event and its place in a message.
"""

import contextlib
import http.server
import json
import os
import re
import subprocess
import threading
import time
from pathlib import Path

from .paths import without_aws

PAGE = 250
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
XML = "<PublishResponse><PublishResult><MessageId>m</MessageId></PublishResult></PublishResponse>"
JSON = {"BatchGetItem": {"Responses": {"bench": []}, "UnprocessedKeys": {}}, "Query": {"Items": []}, "Scan": {"Items": []}}


class Estate(http.server.ThreadingHTTPServer):
    """The AWS endpoint and the Lambda Runtime API in one."""

    daemon_threads = True

    def __init__(self, instances):
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages = [_page(first, instances) for first in range(0, instances, PAGE)]
        self.invoked, self.answer, self.done = False, None, threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    log_message = lambda *_: None  # noqa: E731

    def handle(self):
        with contextlib.suppress(ConnectionError):  # The measured process is killed at the end.
            super().handle()

    def do_GET(self):
        if self.server.invoked:
            time.sleep(60)  # No more work.
            return
        self.server.invoked = True
        deadline = str(int(time.time() * 1000) + 600_000)
        headers = {"Lambda-Runtime-Aws-Request-Id": "bench", "Lambda-Runtime-Deadline-Ms": deadline}
        self._send("{}", {**headers, "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:bench"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if "/runtime/" in self.path:
            self._send("{}")
            self.server.answer = json.loads(body)
            self.server.done.set()
        elif target := self.headers.get("X-Amz-Target"):
            self._send(json.dumps(JSON.get(target.rsplit(".")[-1], {"FailedEntryCount": 0, "Entries": []})))
        elif "Action=Publish" in body:
            self._send(XML)
        else:
            token = re.search(r"NextToken=(\d+)", body)
            self._send(self.server.pages[int(token[1]) if token else 0])

    def _send(self, body, headers=None):
        data = body if isinstance(body, bytes) else body.encode()
        self.send_response(200)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()


def _page(first, instances):
    last = min(first + PAGE, instances)
    items = "".join(INSTANCE.format(n=n, owned="" if n % 10 == 0 else OWNED) for n in range(first, last))
    following = f"<nextToken>{first // PAGE + 1}</nextToken>" if last < instances else ""
    return (
        f"<DescribeInstancesResponse><reservationSet><item><instancesSet>{items}</instancesSet></item></reservationSet>"
        f"{following}</DescribeInstancesResponse>"
    ).encode()


def measure(bootstrap, instances, environment):
    """(seconds of CPU, peak MB resident) of one invocation, the start of the process included; Linux only."""
    estate = Estate(instances)
    environment = {
        **without_aws(os.environ), **environment, "AWS_LAMBDA_RUNTIME_API": estate.address,
        "AWS_ENDPOINT_URL": f"http://{estate.address}", "RUST_LOG": "warn",
    }  # fmt: skip
    process = subprocess.Popen([str(bootstrap)], env=environment, stdout=subprocess.DEVNULL)
    try:
        if not estate.done.wait(300):
            raise RuntimeError(f"{bootstrap} did not answer (exit code {process.poll()})")
        found = estate.answer
        if found.get("running") != instances or found.get("partial"):
            raise RuntimeError(f"{bootstrap} did not audit {instances} instances: {str(found)[:500]}")
        return _cpu_seconds(process.pid), _peak_mb(process.pid)
    finally:
        process.kill()
        process.wait()
        estate.shutdown()
        estate.server_close()


def _cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_mb(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024 / 1e6
