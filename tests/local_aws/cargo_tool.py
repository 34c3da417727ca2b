"""Tools that cargo compiles: pinned, built once into the cache that checkouts share, found again by name and version.

They come from crates.io, with the dependencies of the lock file that their authors published. They are built apart from
our crates, so that nothing of ours is compiled anew. A directory in the cache is complete: it gets its name at the end.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .build import cargo_lock, run_cargo
from .paths import cache
from .progress import say, step

if TYPE_CHECKING:
    from .progress import Step

# The newest that the Rust of rust-toolchain.toml compiles.
PINNED = {"cargo-deny": "0.20.2", "cargo-cyclonedx": "0.5.9"}
# They run for seconds and are compiled for minutes: with full optimisation the compilation takes longer, and saves nothing.
PROFILE = {"OPT_LEVEL": "1", "LTO": "off", "CODEGEN_UNITS": "16", "DEBUG": "0"}
# What the caller wants of our own crates is nothing to the tools.
NOT_THEIRS = ("RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET")


class ToolMissing(Exception):
    """Says which tool is missing and what to do about it."""


def installed(name: str) -> Path:
    """Names the tool's binary in the cache, where it lies once it is compiled."""
    return cache() / f"{name}-{PINNED[name]}" / "bin" / name


def provide(name: str) -> Path:
    """Returns the tool's binary; compiles it if need be. Raises ToolMissing if that fails."""
    binary = installed(name)
    if not os.access(binary, os.X_OK):
        if not shutil.which("cargo"):
            raise ToolMissing(f"{name} is not here, and there is no cargo to compile it with. Install Rust (https://rustup.rs).")
        cache().mkdir(parents=True, exist_ok=True)
        with open(cache() / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # Another checkout may be at it.
            if not os.access(binary, os.X_OK):
                _compile(name, binary.parent.parent)
    return binary


def _compile(name: str, target: Path):
    say(f"  {name} {PINNED[name]} is compiled from crates.io into {target}; this takes some minutes, once.")
    scratch = Path(tempfile.mkdtemp(prefix="compiling-", dir=target.parent))
    try:
        with step(f"compile {name} {PINNED[name]}") as progress, cargo_lock():
            _cargo_install(name, scratch, progress)
        shutil.rmtree(target, ignore_errors=True)
        (scratch / "root").rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _cargo_install(name: str, scratch: Path, progress: Step):
    exact = ["--version", f"={PINNED[name]}", "--locked", "--root", str(scratch / "root")]
    command = ["cargo", "install", name, *exact, "--color", "never"]
    environment = {k: v for k, v in os.environ.items() if k not in NOT_THEIRS}
    environment["CARGO_TARGET_DIR"] = str(scratch / "target")
    environment.update({f"CARGO_PROFILE_RELEASE_{option}": value for option, value in PROFILE.items()})
    code, said, crates = run_cargo(command, progress, environment)
    if code:
        raise ToolMissing(f"{name} could not be compiled; the end of what cargo says:\n" + "".join(said[-15:]))
    progress.detail = f"{crates} crates"
