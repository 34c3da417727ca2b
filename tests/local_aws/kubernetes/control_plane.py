"""Starts and stops the control plane's processes: etcd, kube-apiserver, controllers, scheduler and kwok.

They follow the rules of a home's other servers: loopback only, free ports, logs in the home, data below its scratch
directory. Their process ids are recorded with the command lines that they must still have.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from cryptography.hazmat.primitives.asymmetric import rsa

from .. import servers
from ..paths import choose_port, without_aws
from ..shapes import Shape
from .api import Api, ApiError
from .certificates import Authority, write_key

if TYPE_CHECKING:
    from ..paths import Home

START_SECONDS = 60
TOKEN_CACHE_SECONDS = 10  # The time for which kube-apiserver remembers that a token was good.
GROUP = "spot-optimizer"  # The Kubernetes group that access.yaml binds its role to.
CONTROLLERS = (
    "daemonset-controller", "deployment-controller", "disruption-controller", "endpoints-controller",
    "endpointslice-controller", "garbage-collector-controller", "job-controller", "namespace-controller",
    "node-lifecycle-controller", "persistentvolume-binder-controller", "persistentvolume-protection-controller",
    "persistentvolumeclaim-protection-controller", "pod-garbage-collector-controller", "replicaset-controller",
    "serviceaccount-controller", "statefulset-controller", "taint-eviction-controller",
)  # fmt: skip


class ControlPlane:
    """The control plane of one home. The home's state file records what `start` did, so that any process can continue
    with it."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.directory = home.directory / "tmp" / "kubernetes"

    @property
    def _state(self):
        return self.home.read_state().get("kubernetes", {})

    @property
    def running(self) -> bool:
        processes = self._state.get("processes", {})
        return bool(processes) and all(servers.runs(p["pid"], p["command"]) for p in processes.values())

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self._state['port']}"

    @property
    def authority(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def evictions(self) -> Path:
        """Returns kube-apiserver's audit log: a JSON object (audit.k8s.io/v1 Event) for each requested eviction."""
        return self.directory / "evictions.log"

    def certificate(self, name: str) -> tuple[str, str]:
        return str(self.directory / f"{name}.crt"), str(self.directory / f"{name}.key")

    def api(self, user: str = "admin") -> Api:
        return Api(self.server, self.authority, self.certificate(user))

    def start(self, assets: Path) -> None:
        """Starts the processes. Returns once the API server serves and every process that needs it has been started."""
        self.stop()
        self.directory.mkdir(parents=True, exist_ok=True)
        ports = {name: choose_port(f"LOCAL_KUBERNETES_{name.upper()}_PORT") for name in ("api", "etcd", "peer")}
        self._write_files(ports)
        commands = {name: [str(assets / name), *flags] for name, flags in self._flags(ports).items()}
        self._remember(port=ports["api"], processes={}, assets=str(assets))
        try:
            self._spawn("etcd", commands["etcd"])
            self._spawn("kube-apiserver", commands["kube-apiserver"])
            self._await("kube-apiserver", self._ready)
            for name in ("kube-controller-manager", "kube-scheduler", "kwok"):
                self._spawn(name, commands[name])
            # The controllers make this object first. By then the others have read their configuration, too.
            self._await("kube-controller-manager", lambda: self.api().get("ServiceAccount", "default", "default"))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> list[str]:
        return servers.stop_kubernetes(self.home)

    def restart_api_server(self, down_seconds: float = 0) -> None:
        """Kills the API server as a crash would; returns once a new one serves on the same address."""
        process = self._state["processes"]["kube-apiserver"]
        servers.end(process["pid"], signal.SIGKILL)
        time.sleep(down_seconds)
        self._spawn("kube-apiserver", process["command"])
        self._await("kube-apiserver", self._ready)

    def _ready(self):
        return self.api().call("GET", "/readyz", timeout=2)

    def resident_bytes(self) -> dict[str, int]:
        """Returns {process: resident memory}."""
        found = {}
        for name, process in self._state.get("processes", {}).items():
            status = Path(f"/proc/{process['pid']}/status").read_text()
            found[name] = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024
        return found

    def _remember(self, **more):
        state = self.home.read_state()
        self.home.write_state({**state, "kubernetes": {**state.get("kubernetes", {}), **more}})

    def _spawn(self, name: str, command: list[str]):
        pid = servers.spawn(self.home, name, command, without_aws(os.environ))
        self._remember(processes={**self._state["processes"], name: {"pid": pid, "command": command}})

    def _await(self, name: str, serves: Callable[[], Any]):
        """Returns once `serves` does so without an error; fails as soon as a process that it needs has ended."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                return serves()
            except (requests.RequestException, ApiError):
                time.sleep(0.1)
            if ended := [n for n, p in self._state["processes"].items() if not servers.runs(p["pid"], p["command"])]:
                name = ended[0]
                break
        log = self.home.log(name)
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise servers.ServerFailed(f"{name} did not start; the end of {log}:\n{tail}")

    def _write_files(self, ports: dict[str, int]):
        """Writes certificates, the service account key, tokens, and the processes' configuration. JSON is YAML, too."""
        authority = Authority(self.directory)
        authority.server("kube-apiserver")
        authority.client("admin", "admin", "system:masters")
        authority.client("spot-optimizer", "spot-optimizer", GROUP)
        write_key(self.directory / "service-account.key", rsa.generate_private_key(65537, 2048))
        token = secrets.token_urlsafe(24)
        self._write("tokens.csv", f'{token},spot-optimizer,spot-optimizer,"{GROUP}"\n')
        server = f"https://127.0.0.1:{ports['api']}"
        self._write("admin.kubeconfig", json.dumps(self._kubeconfig(server, *self.certificate("admin"))))
        webhook = f"http://127.0.0.1:{self.home.read_state()['ports']['ec2']}/_local/kubernetes/tokenreview"
        self._write("webhook.kubeconfig", json.dumps(_kubeconfig({"server": webhook}, {})))
        rules = [{"level": "Metadata", "resources": [{"group": "", "resources": ["pods/eviction"]}]}, {"level": "None"}]
        audit = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules}
        self._write("audit.yaml", json.dumps(audit))
        connection = {"kubeconfig": str(self.directory / "admin.kubeconfig"), "qps": 1000, "burst": 2000}
        scheduler = {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "clientConnection": connection,
            "leaderElection": {"leaderElect": False},
            "podInitialBackoffSeconds": 1,
            "podMaxBackoffSeconds": 1,
        }
        self._write("scheduler.yaml", json.dumps(scheduler))

    def _kubeconfig(self, server: str, certificate: str, key: str):
        cluster = {"server": server, "certificate-authority": str(self.authority)}
        return _kubeconfig(cluster, {"client-certificate": certificate, "client-key": key})

    def _write(self, name: str, text: str):
        (self.directory / name).write_text(text)
        (self.directory / name).chmod(0o600)

    def _flags(self, ports: dict[str, int]):
        here, etcd = self.directory, f"http://127.0.0.1:{ports['etcd']}"
        peer = f"http://127.0.0.1:{ports['peer']}"
        admin = f"--kubeconfig={here / 'admin.kubeconfig'}"
        return {
            "etcd": [
                f"--data-dir={here / 'etcd'}", f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}",
                f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}", "--unsafe-no-fsync", "--log-level=warn",
            ],
            "kube-apiserver": [
                f"--etcd-servers={etcd}", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
                f"--secure-port={ports['api']}", "--endpoint-reconciler-type=none",
                f"--tls-cert-file={here / 'kube-apiserver.crt'}",
                f"--tls-private-key-file={here / 'kube-apiserver.key'}", f"--client-ca-file={here / 'ca.crt'}",
                f"--cert-dir={here}", f"--token-auth-file={here / 'tokens.csv'}",
                f"--authentication-token-webhook-config-file={here / 'webhook.kubeconfig'}",
                # kube-apiserver still remembers an accepted token for TOKEN_CACHE_SECONDS, which no flag changes.
                "--authentication-token-webhook-version=v1", "--authentication-token-webhook-cache-ttl=0s",
                "--authorization-mode=RBAC", "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={here / 'service-account.key'}",
                f"--service-account-signing-key-file={here / 'service-account.key'}",
                "--service-cluster-ip-range=10.96.0.0/16", "--allow-privileged=true", "--profiling=false",
                f"--audit-policy-file={here / 'audit.yaml'}", f"--audit-log-path={self.evictions}",
                # Simulated pods call no server: without tokens they need not wait for their service account.
                "--disable-admission-plugins=ServiceAccount",
            ],
            "kube-controller-manager": [
                admin, f"--controllers={','.join(CONTROLLERS)}", "--leader-elect=false", "--bind-address=127.0.0.1",
                "--secure-port=0", "--kube-api-qps=1000", "--kube-api-burst=2000", "--profiling=false",
                "--node-monitor-period=1s", "--concurrent-gc-syncs=5",
            ],
            "kube-scheduler": [f"--config={here / 'scheduler.yaml'}", "--bind-address=127.0.0.1", "--secure-port=0"],
            "kwok": [
                admin, f"--config={Path(__file__).with_name('stages.yaml')}", "--node-lease-duration-seconds=40",
                "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            ],
        }  # fmt: skip


def _kubeconfig(cluster: Shape, user: Shape):
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": cluster}],
        "users": [{"name": "local", "user": user}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "local"}}],
        "current-context": "local",
    }
