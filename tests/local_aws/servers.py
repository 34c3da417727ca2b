"""Starts and stops the two server processes of a home: MiniStack and the EC2 endpoint (with the forwarder)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .paths import ACCOUNT, CREDENTIALS, EC2_SERVICES, PYTHON, REGION, ROOT, choose_port, without_aws
from .shapes import Shape

if TYPE_CHECKING:
    from .paths import Home

START_SECONDS = 60
STOP_SECONDS = 10
DEFAULT_WAIT_SCALE = "0.05"


class ServerFailed(Exception):
    pass


def start(home: Home) -> Shape:
    """Starts both servers, or returns the state of those that already run."""
    state = home.read_state()
    if running(state):
        return state
    stop(home)
    ports = {
        "ministack": choose_port("LOCAL_AWS_PORT"),
        "ec2": choose_port("LOCAL_EC2_PORT"),
        "forward": choose_port("LOCAL_FORWARD_PORT"),
    }
    state = {"ports": ports, "wait_scale": os.environ.get("SFN_WAIT_SCALE", DEFAULT_WAIT_SCALE), "pids": {}}
    state["pids"]["endpoint"] = _spawn(home, "endpoint", _endpoint_command(ports), without_aws(os.environ))
    state["pids"]["ministack"] = _spawn(home, "ministack", ["-m", "local_aws.ministack"], _ministack_environment(home, state))
    home.write_state(state)
    _await(home, "endpoint", state, f"http://127.0.0.1:{ports['ec2']}/_local/health")
    _await(home, "ministack", state, f"http://127.0.0.1:{ports['ministack']}/_ministack/health")
    return state


def stop(home: Home) -> list[str]:
    """Stops the processes that `start` recorded, if they are still ours. Returns the names of those stopped."""
    stopped = stop_kubernetes(home)
    for name, pid in home.read_state().get("pids", {}).items():
        if _is_ours(name, pid):
            end(pid)
            stopped.append(name)
    for file in (home.state_file, home.env_file, home.outputs_file):
        file.unlink(missing_ok=True)
    shutil.rmtree(home.directory / "tmp", ignore_errors=True)
    return stopped


def stop_kubernetes(home: Home) -> list[str]:
    """Kills the control plane if it runs, as `kubernetes/control_plane.py` recorded it: its data goes with it."""
    state = home.read_state()
    stopped = []
    for name, process in reversed(state.pop("kubernetes", {}).get("processes", {}).items()):
        if runs(process["pid"], process["command"]):
            end(process["pid"], signal.SIGKILL)
            stopped.append(name)
    if state:
        home.write_state(state)
    shutil.rmtree(home.directory / "tmp" / "kubernetes", ignore_errors=True)
    return stopped


def running(state: Shape) -> bool:
    pids = state.get("pids", {})
    return bool(pids) and all(_is_ours(name, pid) for name, pid in pids.items())


def _endpoint_command(ports: dict[str, int]):
    return ["-m", "local_aws.endpoint", str(ports["ec2"]), str(ports["forward"]), str(ports["ministack"])]


def _ministack_environment(home: Home, state: Shape):
    """Returns MiniStack's environment. MiniStack passes it on to the Lambdas, so they use the endpoints that are set
    here."""
    scratch = home.directory / "tmp"
    scratch.mkdir(exist_ok=True)
    ports = state["ports"]
    ec2 = f"http://127.0.0.1:{ports['ec2']}"
    return {
        **without_aws(os.environ),
        **CREDENTIALS,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['forward']}",
        **{f"AWS_ENDPOINT_URL_{service}": ec2 for service in EC2_SERVICES},
        "AUTH": "true",  # IAM is enforced: the template's policies are proven by every run.
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "MINISTACK_REGION": REGION,
        "GATEWAY_PORT": str(ports["ministack"]),
        "BIND_HOST": "127.0.0.1",
        "SFN_WAIT_SCALE": state["wait_scale"],
        "LAMBDA_EXECUTOR": "local",
        "SHORTEST_RECONCILE_AFTER_SECONDS": "0",  # Tests wait for the step in progress to end (`stop_execution`).
        "LAMBDA_ASYNC_RETRY_BASE_SECONDS": "0.2",  # A minute on AWS.
        "IOT_MTLS_ENABLED": "0",  # It would listen on a fixed port of all interfaces.
        "LOG_LEVEL": os.environ.get("LOCAL_AWS_LOG_LEVEL", "INFO"),
        "TMPDIR": str(scratch),
        "S3_DATA_DIR": str(scratch / "s3"),
        "STATE_DIR": str(scratch / "state"),
    }


def _spawn(home: Home, name: str, arguments: list[str], environment: Mapping[str, str]):
    environment = {**environment, "PYTHONPATH": str(ROOT / "tests"), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return spawn(home, name, [str(PYTHON), *arguments], environment)


def spawn(home: Home, name: str, command: list[str], environment: Mapping[str, str]) -> int:
    """Starts a server that logs into the home; returns its process id."""
    with open(home.log(name), "w") as log:
        # A session of its own: Ctrl-C in the terminal must not take the servers down half-way.
        process = subprocess.Popen(
            command, cwd=home.directory, env=environment, stdin=subprocess.DEVNULL,
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    return process.pid


def runs(pid: int, command: list[str]) -> bool:
    """Returns True if the process is (still) the one that was started with this command line."""
    return _command_line(pid).split() == " ".join(command).split()


def _await(home: Home, name: str, state: Shape, url: str):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        if not _is_ours(name, state["pids"][name]):
            break
        time.sleep(0.05)
    tail = "".join(home.log(name).read_text(errors="replace").splitlines(keepends=True)[-20:])
    stop(home)
    raise ServerFailed(f"{name} did not start; the end of {home.log(name)}:\n{tail}")


def _is_ours(name: str, pid: int):
    """Compares the command line, venv path included: the PID may belong to another process by now."""
    module = {"ministack": "-m local_aws.ministack", "endpoint": "-m local_aws.endpoint"}[name]
    return f"{PYTHON} {module}" in _command_line(pid)


def _command_line(pid: int):
    """Returns the command line; empty for a process that is gone or a zombie. `ps` is for systems without /proc."""
    proc = Path("/proc")
    if (proc / "self").exists():
        with contextlib.suppress(OSError):
            return (proc / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return ""
    return subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True).stdout


def end(pid: int, by: signal.Signals = signal.SIGTERM) -> None:
    """Ends the process and its children (the Lambdas): they share the session that `spawn` made."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, by)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            os.killpg(pid, 0)
            time.sleep(0.05)
        os.killpg(pid, signal.SIGKILL)
