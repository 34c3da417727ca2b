"""Client of the endpoint's `/_local/` API (`endpoint/control.py` says what each call takes)."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any

from .shapes import Call, Fault, Shape


class Control:
    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}/_local"

    def _call(self, method: str, path: str, data: Any | None = None):
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(f"{self.base}/{path}", data=body, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise ValueError(f"{method} {path}: {error.read().decode()}") from None

    def reset(self) -> None:
        """Resets to healthy: no faults, no overrides, an empty log. AWS resources stay."""
        self._call("POST", "reset", {})

    def calls(self, caller: str = "lambda", action: str | None = None) -> list[Call]:
        """Returns the AWS calls in order; by default only the Lambdas' calls."""
        found = self._call("GET", "calls")
        return [c for c in found if caller in ("any", c["caller"]) and action in (None, c["action"])]

    def granted(self) -> list[list[str]]:
        """Returns [account, role, action] of each call of a function that was answered since the server started."""
        return self._call("GET", "granted")

    def clear_calls(self) -> None:
        self._call("POST", "calls/clear", {})

    def fault(
        self, action: str, code: str = "InternalError", status: int = 500, kind: str = "error", times: int | None = None, **more: Any
    ) -> Fault:
        """Makes the Lambdas' next `times` calls of `action` fail (all if None). With `kind="hold"`, makes them wait."""
        fault = {"action": action, "code": code, "status": status, "kind": kind, **more}
        return self._call("POST", "faults", fault if times is None else {**fault, "times": times})

    def change_fault(self, fault: Fault, **fields: Any) -> Fault:
        """Changes a fault; the calls that it holds back go on as it says now."""
        return self._call("PATCH", "faults", {"id": fault["id"], **fields})

    def land(self) -> list[Call]:
        """Carries out the calls that the faults `late` and `twice` have left under way; returns them with their answers."""
        return self._call("POST", "faults/land", {})

    def stale(self, group: str, *fields: str, after: str | None = None, reads: int | None = None) -> None:
        """Makes the group's description lag in these fields, for Lambdas, as `endpoint/control.py` says; until `fresh`."""
        self._call("POST", "stale", {"name": group, "fields": fields, "after": after, "reads": reads})

    def stale_answers(self, group: str) -> int:
        """Returns how often a Lambda was shown the past."""
        return self._call("GET", "stale")[group]["answered"]

    def fresh(self) -> None:
        self._call("DELETE", "stale")

    def faults(self) -> list[Fault]:
        return self._call("GET", "faults")

    def clear_faults(self) -> None:
        self._call("DELETE", "faults")

    def timing(self, **seconds: float) -> dict[str, float]:
        """Sets how long things take, also those under way. A long time holds them, a short one releases them."""
        return self._call("POST", "timing", seconds)

    def newcomers(self, **plan: Any) -> Shape:
        """Sets how later launches behave: status, stay_pending, kill, lifecycle_state, target_health."""
        return self._call("POST", "newcomers", plan)

    def instance(self, instance_id: str, **told: Any) -> None:
        self._call("POST", "instance", {"instance_id": instance_id, **told})

    def kill(
        self, instance_id: str, code: str = "Server.InternalError", message: str = "Server.InternalError: internal error on launch"
    ) -> None:
        self.instance(instance_id, kill={"code": code, "message": message})

    def group(self, name: str, refreshes: list[Shape] | None = None, **fields: Any) -> None:
        """Sets fields of the group's description by their AWS names; None takes an override away."""
        told = {"name": name, "set": fields}
        self._call("POST", "group", told if refreshes is None else {**told, "refreshes": refreshes})

    def launch_events(self, on: bool = True) -> None:
        """Lets Auto Scaling tell of its launches on the default bus, which invokes the group watcher; off after a reset."""
        self._call("POST", "launch_events", {"on": on})

    def storage(self, resource_id: str, days_old: float | None = None, **fields: Any) -> None:
        """Dates a volume or snapshot back. Sets fields of its description (an address's, too) by their AWS names."""
        told = {"id": resource_id, "set": fields}
        self._call("POST", "storage", told if days_old is None else {**told, "days_old": days_old})

    def recycle_bin(self, resource_id: str, leaves: str | None = "2030-01-01T00:00:00Z") -> None:
        """Puts a deleted image, snapshot or volume into the Recycle Bin until `leaves`; None: it has left the bin."""
        self._call("POST", "recycle_bin", {"id": resource_id, "leaves": leaves})

    def snapshot_lock(self, snapshot_id: str, state: str | None = "compliance") -> None:
        """Locks a snapshot, in this state of a lock; None: it was never locked."""
        self._call("POST", "snapshot_lock", {"id": snapshot_id, "state": state})

    def open_accounts(self, accounts: Iterable[str], regions: Iterable[str]) -> None:
        """Opens accounts in these regions anew, with nothing in them, not even Amazon's images."""
        self._call("POST", "accounts", {"accounts": list(accounts), "regions": list(regions)})

    def shift_zones(self, account: str, places: int = 1) -> None:
        """Makes the account's zone names stand for other zones than in other accounts, as in AWS's older regions."""
        self._call("POST", "zones", {"account": account, "shift": places})

    def target_health(
        self, target_group: str, instance_id: str = "*newcomers", state: str | None = "unhealthy", reason: str = "Target.FailedHealthChecks"
    ) -> None:
        told = {"target_group": target_group, "instance_id": instance_id, "state": state, "reason": reason}
        self._call("POST", "target_health", told)

    def kubernetes(self, method: str, path: str, data: Any | None = None) -> Any:
        """Calls `endpoint/kubernetes.py`; `aws.kubernetes` has a method for each call."""
        return self._call(method, f"kubernetes/{path}", data)

    def images(self, state: str = "available", snapshots_linger: bool = False) -> None:
        """Sets the state of later images ("available" or "failed"), and whether deregistering one takes a moment."""
        self._call("POST", "images", {"state": state, "snapshots_linger": snapshots_linger})

    def prices(self, spot_discount: float | None = None, spot: dict[str, float] | None = None, unknown: Iterable[str] = ()) -> None:
        """Sets Spot prices as a discount on On-Demand, or of one type in USD an hour, and types that have no price at
        all."""
        told = {"spot": spot or {}, "unknown": list(unknown)}
        self._call("POST", "prices", told if spot_discount is None else {**told, "spot_discount": spot_discount})

    def image_parameters(self, parameters: dict[str, str]) -> None:
        """Sets the Systems Manager parameters that templates name by `resolve:ssm:` → image id."""
        self._call("POST", "image_parameters", parameters)

    def groups(self) -> dict[str, Shape]:
        return self._call("GET", "groups")

    def history(self, group: str) -> list[Shape]:
        """Returns every state of the group: [{t, in_service, desired, min, max, suspended, members}]. The history
        misses none."""
        return self._call("GET", f"history?group={urllib.parse.quote(group)}")


class CapacityWatcher:
    """The capacity of a group inside a `with` block, from the endpoint's gapless history.

    `on_change` is called with each new state while the block runs (the demo's timeline).
    """

    POLL_SECONDS = 0.05

    def __init__(self, control: Control, group: str, on_change: Callable[[Shape], None] | None = None) -> None:
        self.control, self.group, self.on_change = control, group, on_change
        self._stop = threading.Event()

    def __enter__(self) -> CapacityWatcher:
        past = self.control.history(self.group)
        self._first = max(len(past) - 1, 0)  # The state at the start counts, too.
        self._thread = threading.Thread(target=self._watch, daemon=True)
        if self.on_change:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self.on_change:
            self._thread.join()

    @property
    def samples(self) -> list[Shape]:
        return self.control.history(self.group)[self._first :]

    @property
    def lowest(self) -> int:
        return min(s["in_service"] for s in self.samples)

    @property
    def highest_desired(self) -> int:
        return max(s["desired"] for s in self.samples)

    def _watch(self):
        shown = 0
        while True:
            last_round = self._stop.is_set()
            samples = self.samples
            for sample in samples[shown:]:
                self.on_change(sample)
            shown = len(samples)
            if last_round:
                return
            time.sleep(self.POLL_SECONDS)
