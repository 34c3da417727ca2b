"""What `make test` and CI run, in the order in which a mistake shows soonest at the least cost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping

from . import sbom, servers
from .build import build, cargo_lock
from .cargo_tool import ToolMissing
from .deny import deny
from .kubernetes import assets
from .paths import ACCOUNT_ROLE, ALL_GRANTED, GRANTED, IMPORT_TABLES, LOCAL, PYTHON, REGION, ROOT, SAM, TEMPLATE, Home, without_aws
from .progress import BOLD, GREEN, RED, YELLOW, paint, say, table
from .scan import ScannerMissing, scan

VENV_BIN = PYTHON.parent
# Each has a local AWS of its own, of some 2 GB. A test mostly waits: a worker uses half a core.
WORKERS = min(2 * (os.cpu_count() or 1), 4)
# A local AWS writes its journals, logs and the Lambdas' code; etcd and MiniStack end where the disk is full.
DISK_GB = 4
BUILD = "build: Lambdas and tests"


def run_all(ci: bool, pytest_arguments: list[str]) -> int:
    unchecked = []
    shutil.rmtree(GRANTED, ignore_errors=True)
    checks = [
        ("cargo fmt --check", lambda: _cargo("fmt", "--all", "--check"), ci),
        (
            "cargo clippy, warnings denied",
            lambda: _cargo("clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"),
            ci,
        ),
        ("cargo doc, warnings denied", _doc, ci),
        ("crates: sources, licences, bans, advisories (cargo deny)", lambda: _deny(unchecked), ci),
        ("bills of materials of the Lambdas", _sbom, ci),
        (BUILD, _build, True),
        ("cargo test", _cargo_test, True),
        ("lint: Python (ruff, mypy), templates (cfn-lint, sam validate, checkov)", lambda: lint(scanner_required=ci), True),
        ("static checks: the template, the fields of AWS's shapes", lambda: _pytest(["tests/static"]), True),
        ("Kubernetes' control plane", lambda: _kubernetes(ci), True),
        ("end-to-end on local AWS", lambda: _end_to_end(pytest_arguments), True),
        ("rights that no end-to-end test uses", lambda: _pytest(["tests/static/test_grants.py"]), not pytest_arguments),
    ]
    took = {}
    for title, check, wanted in checks:
        if not wanted:
            continue
        say(paint(f"\n▶ {title}", BOLD))
        began = time.monotonic()
        if code := check():
            say(paint(f"✗ {title}", RED))
            return code
        took[title] = time.monotonic() - began
    say()
    table(((f"{seconds:.0f}", title) for title, seconds in took.items()), ("seconds", "check"))
    after_the_build = sum(took.values()) - took[BUILD]
    say(paint(f"\n✓ everything passed, {after_the_build / 60:.1f} minutes beside the build", GREEN, BOLD))
    for what in unchecked:
        say(paint(f"! {what}", YELLOW, BOLD))
    return 0


def _build():
    """The Lambdas, and with them the tests: what follows only runs."""
    build()
    return 0


def _deny(unchecked: list[str]):
    code, what = deny()
    unchecked += [what] if what else []
    return code


def _sbom():
    try:
        sbom.write()
        return 0
    except (ToolMissing, sbom.SbomIncomplete) as error:
        say(paint(f"  {error}", RED))
        return 1


def lint(scanner_required: bool = True) -> int:
    environment = {**without_aws(os.environ), "AWS_DEFAULT_REGION": REGION, "SAM_CLI_TELEMETRY": "0"}
    lint = [str(VENV_BIN / "cfn-lint"), "--non-zero-exit-code", "warning", "--regions", REGION, "--"]
    validate = [str(SAM), "validate", "--lint", "--region", REGION, "--template-file", str(TEMPLATE)]
    cfn_lint = [*lint, str(TEMPLATE), str(ACCOUNT_ROLE), str(IMPORT_TABLES)]
    ruff = [str(VENV_BIN / "ruff"), "check", "--quiet", "--no-cache", "tests"]
    formatted = [str(VENV_BIN / "ruff"), "format", "--check", "--quiet", "--no-cache", "tests"]
    typed = [str(VENV_BIN / "mypy"), "--config-file", "tests/mypy.ini", "--no-error-summary"]
    return (
        _run(ruff, environment)
        or _run(formatted, environment)
        or _run(typed, environment)
        or _run(cfn_lint, environment)
        or _run(validate, environment)
        or _scan(scanner_required)
    )


def _scan(required: bool):
    """Where the scanner can't be installed it is passed over, and that is said; `make lint` and CI do not let it."""
    try:
        return scan(TEMPLATE, ACCOUNT_ROLE)
    except ScannerMissing as missing:
        say(paint(f"  {missing} The templates are not scanned.", RED if required else YELLOW))
        return int(required)


def _doc():
    environment = {**os.environ, "RUSTDOCFLAGS": "-D warnings"}
    with cargo_lock():
        return _run(["cargo", "doc", "--workspace", "--no-deps", "--locked"], environment)


def _cargo_test():
    """The same cases and histories each time: a change is judged by what it changes. `make test-deep` and `make fuzz` search."""
    with cargo_lock():
        return _run(["cargo", "test", "--workspace", "--locked"], {"PROPTEST_RNG_SEED": "1", **os.environ})


def _cargo(*arguments):
    with cargo_lock():
        return _run(["cargo", *arguments], os.environ)


def _kubernetes(ci: bool):
    """Without its binaries the tests on Kubernetes skip themselves, and say so; CI does not let them."""
    try:
        say(f"  {assets.release()} in {assets.provide()}")
        return 0
    except assets.AssetsMissing as missing:
        say(paint(f"  {missing}", RED if ci else YELLOW))
        if not ci:
            say(paint("  The end-to-end tests on Kubernetes are skipped.", YELLOW, BOLD))
        return int(ci)


def _end_to_end(arguments: list[str]):
    for home in LOCAL.glob("e2e*"):
        servers.stop(Home(home))  # What a run that was killed left running.
    if (free := shutil.disk_usage(LOCAL).free / 1e9) < DISK_GB:
        say(paint(f"  {free:.1f} GB of disk are free at {LOCAL}; the tests need up to {DISK_GB}.", YELLOW, BOLD))
    code = _pytest(["-n", str(WORKERS), "--dist", "loadfile", "--no-loadscope-reorder", *arguments])
    if not code and not arguments:
        ALL_GRANTED.touch()
    return code


def _pytest(arguments: list[str]):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    chosen = any((ROOT / a.partition("::")[0]).exists() for a in arguments if not a.startswith("-"))
    tests = [] if chosen else ["tests/e2e"]
    return _run([str(PYTHON), "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, *tests], environment)


def _run(command: list[str], environment: Mapping[str, str]):
    sys.stdout.flush()
    return subprocess.run(command, cwd=ROOT, env=environment).returncode
