"""What deny.toml says of the crates, by cargo-deny: sources, licences and bans always; advisories where they can be had.

The advisories lie in a git repository of RustSec. Where it can't be fetched nobody knows of holes: that is said aloud and
is no failure, unless SPOT_OPTIMIZER_ADVISORIES=required asks for one.
"""

import enum
import os
import subprocess

from .build import cargo_lock
from .cargo_tool import ToolMissing, provide
from .paths import ROOT
from .progress import BOLD, RED, YELLOW, paint, say

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
NOT_CHECKED = "THE ADVISORIES ON CRATES WERE NOT CHECKED, nor what crates.io has withdrawn"


class Advisories(enum.Enum):
    """What a run of `cargo deny check advisories` came to."""

    CLEAR = "checked, nothing found"
    FOUND = "checked, and something found"
    NOT_FETCHED = "the database could not be fetched: nothing was checked"
    BROKEN = "something else failed: nothing was checked"


def deny():
    """Returns the exit code, and what has to be said at the end of a run: that the advisories were not checked, or None."""
    try:
        tool = provide("cargo-deny")
    except ToolMissing as missing:
        say(paint(f"  {missing}", RED))
        return 1, None
    with cargo_lock():
        code = subprocess.run(_command(tool, "bans", "licenses", "sources"), cwd=ROOT).returncode
        checked = _advisories(tool)
    if checked is not Advisories.NOT_FETCHED:
        return code or int(checked is not Advisories.CLEAR), None
    required = os.environ.get(VARIABLE) == "required"
    say(paint(f"  {NOT_CHECKED}: the database or the index could not be fetched.", RED if required else YELLOW, BOLD))
    return code or int(required), NOT_CHECKED


def _advisories(tool):
    """What is yanked stands in the index, which cargo asks again only if it has to: `cargo update` has to."""
    refreshed = _heard(["cargo", "update", "--dry-run", "--quiet"])
    if refreshed.returncode:
        return Advisories.NOT_FETCHED
    run = _heard(_command(tool, "advisories"))
    return judge(run.returncode, run.stdout, run.stderr)


def judge(code, stdout, stderr):
    """What cargo-deny's answer means. Only its own verdict counts as checked; it writes one only after it has checked.

    It exits with 1 for findings, for a database that it can't fetch and for one that it can't read.
    """
    verdict = stdout.strip()
    if verdict == "advisories ok" and code == 0:
        return Advisories.CLEAR
    if verdict == "advisories FAILED" and code != 0:
        return Advisories.FOUND
    if not verdict and code != 0 and "failed to fetch advisory database" in stderr:
        return Advisories.NOT_FETCHED
    return Advisories.BROKEN


def _command(tool, *checks):
    return [str(tool), "--locked", "check", *(word for lint in STRICT for word in ("--deny", lint)), *checks]


def _heard(command):
    """Runs the command, passes on what it says, and returns that, too."""
    run = subprocess.run(command, cwd=ROOT, env={**os.environ, "CARGO_TERM_COLOR": "never"}, capture_output=True, text=True)
    say((run.stderr + run.stdout).rstrip())
    return run
