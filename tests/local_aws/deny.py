"""Checks the crates against deny.toml with cargo-deny: sources, licences and bans always, advisories where they can be had.

The advisories lie in a git repository of RustSec; what is yanked stands in crates.io's index. Where one can't be fetched,
that is said aloud and is no failure, unless SPOT_OPTIMIZER_ADVISORIES=required asks for one.
"""

from __future__ import annotations

import enum
import os
import re
import subprocess
from pathlib import Path

from .build import cargo_lock
from .cargo_tool import ToolMissing, provide
from .paths import ROOT
from .progress import BOLD, RED, YELLOW, paint, say

RULES = ROOT / "deny.toml"
# An entry of deny.toml that nothing needs any more fails, and so does an index that can't tell what is yanked.
STRICT = (
    "license-exception-not-encountered",
    "unmatched-skip",
    "unnecessary-skip",
    "unused-wrapper",
    "index-failure",
    "index-cache-load-failure",
)
VARIABLE = "SPOT_OPTIMIZER_ADVISORIES"
NOT_CHECKED = (
    "ADVISORIES AND YANKED CRATES WERE NOT CHECKED, or not all: RustSec's database or the index of crates.io could not be fetched."
)


class Advisories(enum.Enum):
    """What the look for advisories and yanked crates came to."""

    CLEAR = "checked, nothing found"
    FOUND = "checked, and something found"
    NOT_FETCHED = "not checked, or not all: what is needed for it could not be fetched"
    BROKEN = "not checked, or not all: something failed that is not the network"


def deny() -> tuple[int, str | None]:
    """Returns the exit code, and what has to be said at the end of a run: that the advisories were not checked, or None."""
    try:
        tool = provide("cargo-deny")
    except ToolMissing as missing:
        say(paint(f"  {missing}", RED))
        return 1, None
    with cargo_lock():
        code = subprocess.run(command(tool, "bans", "licenses", "sources"), cwd=ROOT).returncode
        found = advisories(tool)
    say(f"  advisories: {found.value}")
    code, unchecked = conclude(code, found, required=os.environ.get(VARIABLE) == "required")
    if unchecked:
        say(paint(f"  {unchecked}", RED if code else YELLOW, BOLD))
    return code, unchecked


def conclude(code: int, found: Advisories, required: bool) -> tuple[int, str | None]:
    """Returns the exit code of all checks together, and what was not checked, or None."""
    if found is Advisories.NOT_FETCHED:
        return code or int(required), NOT_CHECKED
    return code or int(found is not Advisories.CLEAR), None


def advisories(tool: Path, rules: Path = RULES) -> Advisories:
    index = fetch_index()
    run = _heard(command(tool, "advisories", rules=rules))
    return judge(index, (run.returncode, run.stdout, run.stderr))


def fetch_index() -> tuple[int, str]:
    """cargo-deny reads the index as cargo last fetched it, maybe long ago. `cargo update` fetches it; a dry run changes nothing.

    Offline it would take the old one and say nothing.
    """
    run = _heard(["cargo", "--config", "net.offline=false", "update", "--dry-run", "--quiet"])
    return run.returncode, run.stderr


def judge(index: tuple[int, str], database: tuple[int, str, str]) -> Advisories:
    """Reads both answers. Only cargo-deny's own verdict counts as checked; it gives one only after it has checked.

    It exits with 1 for findings, for a database that it can't fetch and for one that it can't read. A pinned version that
    is yanked makes `cargo update` fail, too: that is no network that is down.
    """
    found = _verdict(*database)
    code, stderr = index
    if found is Advisories.CLEAR and code != 0:
        return Advisories.NOT_FETCHED if re.search(r"download of \S+ failed", stderr) else Advisories.BROKEN
    return found


def _verdict(code: int, stdout: str, stderr: str):
    said = stdout.strip()
    if said == "advisories ok" and code == 0:
        return Advisories.CLEAR
    if said == "advisories FAILED" and code != 0:
        return Advisories.FOUND
    if not said and code != 0 and "failed to fetch advisory database" in stderr:
        return Advisories.NOT_FETCHED
    return Advisories.BROKEN


def command(tool: Path, *checks: str, rules: Path = RULES) -> list[str]:
    lints = [word for lint in STRICT for word in ("--deny", lint)]
    return [str(tool), "--locked", "--config", str(rules), "check", *lints, *checks]


def _heard(words: list[str]):
    """Runs the command, passes on what it says, and returns that, too."""
    run = subprocess.run(words, cwd=ROOT, env={**os.environ, "CARGO_TERM_COLOR": "never"}, capture_output=True, text=True)
    if said := (run.stderr + run.stdout).strip():
        say(said)
    return run
