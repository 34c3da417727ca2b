"""Runs checkov over the templates and compares its findings with the exceptions, each of which has a reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from .paths import CHECKOV, ROOT, SCANNER_EXCEPTIONS, without_aws
from .progress import RED, paint, say

INSTALL = ROOT / "tests" / "local_aws" / "install.py"


class ScannerMissing(Exception):
    pass


def scan(*templates: Path) -> int:
    """Returns 0 if the scanner's findings are exactly the exceptions; else 1.

    Raises ScannerMissing if checkov is not installed and can't be.
    """
    if subprocess.run([sys.executable, str(INSTALL), "scanner"]).returncode:
        raise ScannerMissing("checkov could not be installed.")
    complaints = judge(findings(templates), yaml.safe_load(SCANNER_EXCEPTIONS.read_text()))
    for complaint in complaints:
        say(paint(f"  {complaint}", RED))
    return int(bool(complaints))


def findings(templates: Iterable[Path]) -> dict[tuple[str, str], str]:
    """Returns {(check, logical id): the check's demand} for every check that fails. Makes no call over the network."""
    files = [argument for template in templates for argument in ("--file", str(template))]
    command = [str(CHECKOV), "--framework", "cloudformation", "--output", "json", "--compact", "--quiet", "--skip-download", *files]
    environment = {**without_aws(os.environ), "LOG_LEVEL": "ERROR"}
    told = json.loads(subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True).stdout)
    if told.get("summary", {}).get("parsing_errors", 1):
        raise ValueError(f"checkov could not read every template: {told.get('summary', told)}")
    if told["summary"]["passed"] == 0:
        raise ValueError("checkov checked nothing")
    return {(f["check_id"], f["resource"].rsplit(".", 1)[-1]): f["check_name"] for f in told["results"]["failed_checks"]}


def judge(found: dict[tuple[str, str], str], exceptions: Any) -> list[str]:
    """Returns the findings without an exception, and the exceptions without a finding."""
    allowed = {(e["check"], resource) for e in exceptions for resource in e["resources"] if e["reason"].strip()}
    new = [f"{check} {resource}: {found[check, resource]}" for check, resource in sorted(set(found) - allowed)]
    stale = [f"{check} {resource}: an exception that is needed no longer" for check, resource in sorted(allowed - set(found))]
    return new + stale
