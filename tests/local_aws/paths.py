"""The paths and parts of this installation of local AWS. No I/O beyond its own state file."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .shapes import Shape

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / ".local"
TEMPLATE = ROOT / "template.yaml"
# The template for the accounts in which a stack works through a role.
ACCOUNT_ROLE = ROOT / "shared" / "cloud" / "account.yaml"
# The template of the tables alone, to import the tables of an earlier stack.
IMPORT_TABLES = ROOT / "docs" / "import-tables.yaml"
PYTHON = LOCAL / "venv" / "bin" / "python"
SAM = LOCAL / "tools" / "bin" / "sam"
CHECKOV = LOCAL / "scanner" / "bin" / "checkov"
SCANNER_EXCEPTIONS = ROOT / "tests" / "scanner-exceptions.yaml"
BUILD = LOCAL / "build"
# The template with the paths of what was built.
RENDERED = BUILD / "template.json"
# What the functions were granted in the end-to-end tests, a file for each worker.
GRANTED = LOCAL / "granted"
# Exists once all of these tests have run.
ALL_GRANTED = GRANTED / "complete"

# In a home, MiniStack's working directory: the invocation that Step Functions are to give up; one file for each that runs on.
GIVE_UP, GIVEN_UP = Path("give-up"), "given-up-*"
NAMES_RETURN = Path("names-return")
# What becomes of the events that MiniStack queues for functions, a line each: the function, and `sent`, `handled`, `failed` or
# `given_up`.
QUEUED_EVENTS = Path("queued-events")

ACCOUNT = "123456789012"
REGION = "us-east-1"
STACK = "spot-optimizer"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
# moto's services. All others are MiniStack's.
EC2_SERVICES = ("EC2", "AUTO_SCALING", "ELASTIC_LOAD_BALANCING_V2", "PRICING", "EKS")


@dataclass
class Home:
    """One running local AWS: its processes, ports, logs and scratch files, all below one directory."""

    directory: Path = LOCAL

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)

    @property
    def state_file(self) -> Path:
        return self.directory / "state.json"

    @property
    def outputs_file(self) -> Path:
        return self.directory / "outputs.json"

    @property
    def env_file(self) -> Path:
        return self.directory / "env"

    def log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def read_state(self) -> Shape:
        try:
            return json.loads(self.state_file.read_text())
        except (FileNotFoundError, ValueError):
            return {}

    def write_state(self, state: Shape) -> None:
        self.state_file.write_text(json.dumps(state, indent=2) + "\n")


def target_dir() -> Path:
    return Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")


def cache() -> Path:
    """What takes minutes to build and depends on no checkout: outside of all, so that a fresh clone finds it."""
    if chosen := os.environ.get("SPOT_OPTIMIZER_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spot-optimizer"


def choose_port(variable: str) -> int:
    """Returns the port that the user set, else any free one: two checkouts never collide, nor do the workers of pytest-xdist."""
    if (chosen := os.environ.get(variable)) and "PYTEST_XDIST_WORKER" not in os.environ:
        return int(chosen)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def credentials(account: str = ACCOUNT) -> dict[str, str]:
    """Returns the credentials of an account's root: MiniStack takes 12 digits as the key of the account of that
    name."""
    return CREDENTIALS if account == ACCOUNT else {**CREDENTIALS, "AWS_ACCESS_KEY_ID": account}


def client_environment(ports: dict[str, int], account: str = ACCOUNT) -> dict[str, str]:
    """Returns the environment in which an AWS client talks to local AWS and to nothing else."""
    ec2 = f"http://127.0.0.1:{ports['ec2']}"
    return {
        **credentials(account),
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['ministack']}",
        **{f"AWS_ENDPOINT_URL_{service}": ec2 for service in EC2_SERVICES},
    }


def without_aws(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment without the user's own AWS settings: neither servers nor Lambdas may see those."""
    kept = {k: v for k, v in environment.items() if not k.startswith(("AWS_", "MINISTACK_", "MOTO_", "PYTHON"))}
    return {
        **kept,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
