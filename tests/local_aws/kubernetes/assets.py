"""The control plane's binaries: the user's own (KUBEBUILDER_ASSETS), else built once with Go into a shared cache.

tests/kubernetes/go.mod pins the versions. The cache is outside the checkout, so that a fresh clone finds it. Its key is
the release and a digest of the pins. A directory in the cache is always complete: it gets its name at the end.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..paths import ROOT, cache
from ..progress import say, step

if TYPE_CHECKING:
    from ..progress import Step

MODULE = ROOT / "tests" / "kubernetes"
PACKAGES = {
    "etcd": "./etcd",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    "kwok": "sigs.k8s.io/kwok/cmd/kwok",
}
VARIABLE = "KUBEBUILDER_ASSETS"


class AssetsMissing(Exception):
    """Names the missing part and the fix."""


def find() -> Path | None:
    """Returns the directory that holds all binaries, or None if they have to be built first."""
    if given := os.environ.get(VARIABLE):
        return _complete(Path(given))
    built = cached()
    return built if built.is_dir() else None


def provide() -> Path:
    """Returns the directory that holds all binaries; builds them if necessary."""
    if found := find():
        return found
    if not shutil.which("go"):
        raise AssetsMissing(
            f"Kubernetes' binaries are not here, and there is no Go to build them with. Install Go {_go_version()} or newer "
            f"and run `make k8s-assets`, or set {VARIABLE} to a directory with {', '.join(PACKAGES)}."
        )
    target = cached()
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Two checkouts share the cache, and one build is enough.
        if not target.is_dir():
            _build(target)
    return target


def cached() -> Path:
    pins = b"".join((MODULE / name).read_bytes() for name in ("go.mod", "etcd/main.go"))
    return cache() / "kubernetes" / f"{release()}-{hashlib.sha256(pins).hexdigest()[:8]}"


def release() -> str:
    """Returns Kubernetes' release as go.mod pins it: "v1.36.3"."""
    return _pinned(r"k8s\.io/kubernetes (v\S+)")


def _go_version():
    return _pinned(r"^go (\S+)$")


def _pinned(pattern: str):
    return re.search(pattern, (MODULE / "go.mod").read_text(), re.MULTILINE)[1]


def _complete(directory: Path):
    missing = [name for name in PACKAGES if not os.access(directory / name, os.X_OK)]
    if missing:
        raise AssetsMissing(f"{VARIABLE} is {directory}, which lacks {', '.join(missing)}.")
    return directory


def _build(target: Path):
    say(f"  Kubernetes {release()} is built from its Go modules; this takes minutes, once, and about 3 GB of disk meanwhile.")
    with step(f"build {', '.join(PACKAGES)}") as progress:
        scratch = Path(tempfile.mkdtemp(prefix="building-", dir=target.parent))
        try:
            with tempfile.TemporaryDirectory(prefix="compiled-", dir=target.parent) as compiled:
                _go_build(scratch, Path(compiled), progress)
            scratch.chmod(0o755)
            scratch.rename(target)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        progress.detail = f"{sum(f.stat().st_size for f in target.iterdir()) // 2**20} MiB in {target}"


def _go_build(scratch: Path, compiled: Path, progress: Step):
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOCACHE": str(compiled)}
    command = [
        "go", "build", "-v", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", _link_flags(),
        "-o", f"{scratch}/", *PACKAGES.values(),
    ]  # fmt: skip
    run = subprocess.Popen(command, cwd=MODULE, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = []
    for line in run.stdout:  # `-v` names each package as it is compiled.
        said.append(line.rstrip())
        progress.update(f"{len(said)} packages, {said[-1]}")
    if run.wait():
        raise AssetsMissing("Kubernetes' binaries could not be built; the end of what Go says:\n" + "\n".join(said[-15:]))


def _link_flags():
    """Returns flags for no symbols, and for the version that the release's own build would write in: clients ask for
    it."""
    major, minor = re.match(r"v(\d+)\.(\d+)", release()).groups()
    version = {"gitVersion": release(), "gitMajor": major, "gitMinor": minor}
    return " ".join(["-s -w", *(f"-X k8s.io/component-base/version.{name}={value}" for name, value in version.items())])
