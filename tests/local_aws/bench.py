"""`make bench`: what the README promises, measured. Release binaries for size, start and memory; local AWS for calls.

Limits are printed beside the figures; a figure beyond its limit makes the command fail.
"""

from __future__ import annotations

import functools
import http.server
import os
import platform
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from . import bench_drain, bench_governance, bench_loop, build
from .paths import LOCAL, ROOT, TEMPLATE, target_dir, without_aws
from .progress import BOLD, GREEN, RED, paint, say, step, table
from .shapes import Shape
from .stack import LocalAws
from .tally import by_visit, without_polling

if TYPE_CHECKING:
    from .progress import Step

STARTS = 15
TALK_TO_CLUSTERS = ("kubernetes-optimizer", "reconciler")
LIMITS = {
    "bootstrap": (9.0, "MB"),
    "bootstrap that talks to clusters": (13.0, "MB"),
    "start to first poll": (10.0, "ms"),
    "resident": (14.0, "MB"),
    "interruption event, warm": (3, "calls"),
    "gate of a batch": (1, "calls"),
    "price look of a batch, warm": (1, "calls"),
    "a swap, without polling": (20, "calls"),
    "audit, CPU": (0.3, "s CPU"),
    "audit, peak": (48.0, "MB"),
    "waste scan, CPU": (0.3, "s CPU"),
    "waste scan, peak": (48.0, "MB"),
    "waste scan, half of it a finding, CPU": (0.55, "s CPU"),
    "both, CPU": (0.3, "s CPU"),
    "audit of ten times, CPU": (10.0, "times"),
    "audit of ten times, peak": (1.3, "times"),
    "waste scan of ten times, CPU": (10.0, "times"),
    "waste scan of ten times, peak": (1.3, "times"),
    **bench_drain.LIMITS,
    **bench_loop.LIMITS,
}


def main() -> int:
    say(paint("Release binaries", BOLD))
    with step("cargo lambda build --release (minutes when cold: LTO over the SDK)") as progress:
        _release_build(progress)
    rows = []
    for name in build.rust_functions(build.load(TEMPLATE)).values():
        rows += _binary(name)
    rows += _governance()
    rows += _sweep()
    rows += _on_local_aws()
    say()
    table([(*row[:2], _shown(row[1:]), _verdict(*row[1:])) for row in rows], ("what", "measure", "measured", "limit"))
    return 0 if all(_holds(measure, value) for _, measure, value in rows) else 1


def _release_build(progress: Step):
    cargo_lambda = LOCAL / "tools" / "bin" / "cargo-lambda"
    environment = {**os.environ, "PATH": f"{cargo_lambda.parent}{os.pathsep}{os.environ['PATH']}"}
    # `sam build` builds each function by itself: what only the tests of the workspace need is in none.
    names = build.rust_functions(build.load(TEMPLATE)).values()
    packages = [argument for name in names for argument in ("--package", name)]
    command = [str(cargo_lambda), "lambda", "build", "--release", "--locked", *packages]
    with build.cargo_lock():
        run = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said = []
        for line in run.stdout:
            said.append(line)
            progress.update(line.strip())
        if run.wait():
            raise build.BuildFailed("".join(said[-30:]))


def _binary(name: str):
    bootstrap = target_dir() / "lambda" / name / "bootstrap"
    starts = [_start(bootstrap) for _ in range(STARTS)]
    size = "bootstrap that talks to clusters" if name in TALK_TO_CLUSTERS else "bootstrap"
    return [
        (name, size, bootstrap.stat().st_size / 1e6),
        (name, "start to first poll", statistics.median(s[0] for s in starts)),
        (name, "resident", statistics.median(s[1] for s in starts)),
    ]


def _governance():
    """Audit and scan alone, against pre-rendered pages: a large estate, and one of ten times its size.

    5,000 instances; 20,000 volumes, 20,000 snapshots, 2,000 addresses.
    """
    rows, total = [], 0.0
    for name, what, measure, size in (
        ("security-enforcer", "audit", bench_governance.audit, 5_000),
        ("waste-scanner", "waste scan", bench_governance.scan, 20_000),
    ):
        bootstrap = target_dir() / "lambda" / name / "bootstrap"
        cpu, peak = _least(measure, bootstrap, size)
        cpu_10, peak_10 = _least(measure, bootstrap, size * 10)
        total += cpu
        rows += [
            (name, f"{what}, CPU", cpu),
            (name, f"{what}, peak", peak),
            (name, f"{what} of ten times, CPU", cpu_10 / cpu),
            (name, f"{what} of ten times, peak", peak_10 / peak),
        ]
    half, _ = _least(functools.partial(bench_governance.scan, every=2), bootstrap, 20_000)  # 21,000 rows are written.
    return [*rows, ("both", "both, CPU", total), ("waste-scanner", "waste scan, half of it a finding, CPU", half)]


def _sweep():
    bootstrap = target_dir() / "lambda" / "group-watcher" / "bootstrap"
    cpu, calls = _least(lambda bootstrap, _, environment: bench_loop.sweep(bootstrap, environment), bootstrap, 0)
    return [("group-watcher", "a sweep over 500 groups", calls), ("group-watcher", "a sweep over 500 groups, CPU", cpu)]


def _least(measure: Callable[..., tuple[float, ...]], bootstrap: Path, size: int):
    """The least of three: other work on the machine only adds."""
    return map(min, zip(*(measure(bootstrap, size, _function_environment("unused")) for _ in range(3))))


def _start(bootstrap: Path):
    """(milliseconds, MB) from exec to the first request for work, against a Runtime API that never gives any."""
    polled = threading.Event()

    class Api(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.polled_at = time.perf_counter()
            polled.set()
            time.sleep(1)

        do_POST = do_GET
        log_message = lambda *_: None  # noqa: E731

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {**without_aws(os.environ), **_function_environment(f"127.0.0.1:{server.server_address[1]}")}
    began = time.perf_counter()
    process = subprocess.Popen([str(bootstrap)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        if not polled.wait(10):
            raise build.BuildFailed(f"{bootstrap} never asked for work (exit code {process.poll()})")
        return (server.polled_at - began) * 1000, _resident_mb(process.pid)
    finally:
        process.kill()
        process.wait()
        server.shutdown()
        server.server_close()


def _function_environment(runtime_api: str):
    """All variables that the template gives to any function, so that each binary starts as it does when deployed."""
    template = build.load(TEMPLATE)
    properties = [template.get("Globals", {}).get("Function", {})]
    properties += [r["Properties"] for r in template["Resources"].values() if r["Type"] == "AWS::Serverless::Function"]
    names = {n for p in properties for n in p.get("Environment", {}).get("Variables", {})}
    return {
        **{name: _plausible(name) for name in names},
        "AWS_LAMBDA_RUNTIME_API": runtime_api,
        "AWS_LAMBDA_FUNCTION_NAME": "bench",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_LOG_GROUP_NAME": "bench",
        "AWS_LAMBDA_LOG_STREAM_NAME": "bench",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


def _plausible(name: str):
    if "ENVIRONMENT" in name:
        return "PROD"
    if name == "STACK_ROLE":
        return "standalone"
    if name.endswith("_ARN"):
        return "arn:aws:sns:us-east-1:123456789012:bench"
    is_flag = name == "CONTINUOUS" or "ALLOW" in name
    return "123456789012" if "ACCOUNT" in name else "true" if is_flag else "bench"


def _resident_mb(pid: int):
    if platform.system() != "Linux":
        kilobytes = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True).stdout
        return int(kilobytes) / 1e3
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _on_local_aws():
    say(paint("\nOn local AWS: AWS calls, drains beside kubectl's", BOLD))
    aws = LocalAws()
    started = aws.up()
    try:
        aws.control.reset()
        aws.clear_registry()
        aws.clear_pools()
        return [*_event_calls(aws), *_swap_calls(aws), *bench_drain.rows(aws), *bench_loop.rows(aws)]
    finally:
        if started:
            aws.stop()


def _event_calls(aws: LocalAws):
    for instance_id in (aws.launch_spot(), aws.launch_spot("m5.xlarge")):  # The first one warms the Lambda up.
        aws.control.clear_calls()
        aws.invoke("RiskManagerFunctionName", aws.drill_event(instance_id))
    return [("risk-manager", "interruption event, warm", len(aws.control.calls()))]


def _swap_calls(aws: LocalAws):
    """What a run needs is told apart from what each swap in it needs: a run of three, minus a run of one, halved."""
    aws.clear_pools()
    one, three = (len(without_polling(*_measured(aws, size=size)[1:])) for size in (1, 3))
    say(f"  calls without polling: {one} for a run with one swap, {three} with three")
    _, calls, states = _measured(aws, size=4, overrides=["m5.large", "m5a.large", "m6i.large"], max_swaps=1)
    gate = [c for name, made in by_visit(calls, states) if name == "Gate" for c in made]
    asked = [c for c in gate if c["action"] == "BatchGetItem"]
    return [
        ("cluster-optimizer", "gate of a batch", len(asked)),
        ("cluster-optimizer", "price look of a batch, warm", len(gate) - len(asked)),
        ("cluster-optimizer", "a swap, without polling", (three - one) // 2),
    ]


def _measured(aws: LocalAws, max_swaps: int | None = None, **options):
    """(seconds, calls, states) of one execution over a new group."""
    group = aws.create_group(**options)
    aws.control.clear_calls()
    began = time.monotonic()
    execution = aws.swap(group.name, **({"max_swaps": max_swaps} if max_swaps else {}))
    if execution["status"] != "SUCCEEDED" or not execution["output"]["swapped"]:
        raise build.BuildFailed(f"the swap did not succeed: {execution.get('cause') or execution['output']}")
    seconds = round(time.monotonic() - began, 1)
    measured = seconds, aws.control.calls(), aws.states(execution["executionArn"])
    group.delete()
    return measured


def _holds(measure: str, value: float):
    return value <= LIMITS[measure][0]


def _shown(measured: Shape):
    measure, value = measured
    return f"{value:.{2 if value < 1 else 1}f} {LIMITS[measure][1]}" if isinstance(value, float) else f"{value} {LIMITS[measure][1]}"


def _verdict(measure: str, value: float):
    limit, unit = LIMITS[measure]
    return paint(f"≤ {limit:g} {unit}", GREEN if _holds(measure, value) else RED)
