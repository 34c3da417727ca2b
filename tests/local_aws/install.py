"""Makes the virtual environments of the checkout; run by the system's Python, so standard library only.

Two by default, because aws-sam-cli pins a boto3 of its own. The scanner, which pins much more, has a third that only
`make lint` needs: `install.py scanner` makes it. Each is stamped with a hash of its lock file and made again when that
changes. A lock file names every package with its hashes, the compiler's (zig) among them; the .txt file beside it says
what it was made from, and how. Wheels come from pip's own cache where it has them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / ".local"
ENVIRONMENTS = {"venv": "requirements.lock", "tools": "requirements-tools.lock", "scanner": "requirements-scanner.lock"}
ALWAYS = ("venv", "tools")
OLDEST_PYTHON = (3, 10)


def main(names: Iterable[str] = ALWAYS) -> None:
    if sys.version_info < OLDEST_PYTHON:
        sys.exit(f"Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} or newer is needed, this is {sys.version.split()[0]}.")
    LOCAL.mkdir(exist_ok=True)
    for name in names:
        _install(LOCAL / name, ROOT / "tests" / ENVIRONMENTS[name])


def _install(venv: Path, requirements: Path):
    stamp = venv / "installed.sha256"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode() + str(venv).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    started = time.monotonic()
    print(f"  installing {requirements.relative_to(ROOT)} into {venv.relative_to(ROOT)} …", flush=True)
    stamp.unlink(missing_ok=True)
    if not _works(venv):
        shutil.rmtree(venv, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(venv)], "Is the venv module installed (python3-venv)?")
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # The lock is complete. pip's resolver would ask for hashes of extras by another name.
    locked = ["--no-deps", "--require-hashes", "-r", str(requirements)]
    _run([*pip, *locked], "Is a Python package index reachable?")
    stamp.write_text(wanted)
    print(f"  installed {venv.relative_to(ROOT)} ({time.monotonic() - started:.0f} s)", flush=True)


def _works(venv: Path):
    """A venv that another Python made, or that was moved, is of no use."""
    python = venv / "bin" / "python"
    probe = "import sys; print(sys.version, sys.prefix)"
    if not python.exists():
        return False
    found = subprocess.run([str(python), "-c", probe], capture_output=True, text=True)
    return found.returncode == 0 and found.stdout.strip() == f"{sys.version} {venv}"


def _run(command: list[str], hint: str):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")}
    if subprocess.run(command, env=environment).returncode:
        sys.exit(f"failed: {' '.join(command)}\n{hint}")


if __name__ == "__main__":
    main(sys.argv[1:] or ALWAYS)
