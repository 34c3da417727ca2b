"""Client of the endpoint's `/_local/` API (`endpoint/control.py` says what each call takes)."""

import json
import threading
import time
import urllib.error
import urllib.request


class Control:
    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}/_local"

    def _call(self, method, path, data=None):
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(f"{self.base}/{path}", data=body, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise ValueError(f"{method} {path}: {error.read().decode()}") from None

    def reset(self):
        """Resets to healthy: no faults, no overrides, an empty log. AWS resources stay."""
        self._call("POST", "reset", {})

    def calls(self, caller="lambda", action=None):
        """Returns the AWS calls in order; by default only the Lambdas' calls."""
        found = self._call("GET", "calls")
        return [c for c in found if caller in ("any", c["caller"]) and action in (None, c["action"])]

    def granted(self):
        """Returns [account, role, action] of each call of a function that was answered since the server started."""
        return self._call("GET", "granted")

    def clear_calls(self):
        self._call("POST", "calls/clear", {})

    def fault(self, action, code="InternalError", status=500, kind="error", times=None, **more):
        """Makes the Lambdas' next `times` calls of `action` fail (all if None). With `kind="hold"`, makes them wait."""
        fault = {"action": action, "code": code, "status": status, "kind": kind, **more}
        return self._call("POST", "faults", fault if times is None else {**fault, "times": times})

    def faults(self):
        return self._call("GET", "faults")

    def clear_faults(self):
        self._call("DELETE", "faults")

    def timing(self, **seconds):
        """Sets how long things take, also those under way. A long time holds them, a short one releases them."""
        return self._call("POST", "timing", seconds)

    def newcomers(self, **plan):
        """Sets how later launches behave: status, stay_pending, kill, lifecycle_state, target_health."""
        return self._call("POST", "newcomers", plan)

    def instance(self, instance_id, **told):
        self._call("POST", "instance", {"instance_id": instance_id, **told})

    def kill(self, instance_id, code="Server.InternalError", message="Server.InternalError: internal error on launch"):
        self.instance(instance_id, kill={"code": code, "message": message})

    def group(self, name, refreshes=None, **fields):
        """Sets fields of the group's description by their AWS names; None takes an override away."""
        told = {"name": name, "set": fields}
        self._call("POST", "group", told if refreshes is None else {**told, "refreshes": refreshes})

    def storage(self, resource_id, days_old=None, **fields):
        """Dates a volume or snapshot back. Sets fields of its description (an address's, too) by their AWS names."""
        told = {"id": resource_id, "set": fields}
        self._call("POST", "storage", told if days_old is None else {**told, "days_old": days_old})

    def recycle_bin(self, resource_id, leaves="2030-01-01T00:00:00Z"):
        """Puts a deleted image, snapshot or volume into the Recycle Bin until `leaves`; None: it has left the bin."""
        self._call("POST", "recycle_bin", {"id": resource_id, "leaves": leaves})

    def shift_zones(self, account, places=1):
        """Makes the account's zone names stand for other zones than in other accounts, as in AWS's older regions."""
        self._call("POST", "zones", {"account": account, "shift": places})

    def target_health(self, target_group, instance_id="*newcomers", state="unhealthy", reason="Target.FailedHealthChecks"):
        told = {"target_group": target_group, "instance_id": instance_id, "state": state, "reason": reason}
        self._call("POST", "target_health", told)

    def kubernetes(self, method, path, data=None):
        """Calls `endpoint/kubernetes.py`; `aws.kubernetes` has a method for each call."""
        return self._call(method, f"kubernetes/{path}", data)

    def images(self, state="available", snapshots_linger=False):
        """Sets the state of later images ("available" or "failed"), and whether deregistering one takes a moment."""
        self._call("POST", "images", {"state": state, "snapshots_linger": snapshots_linger})

    def prices(self, spot_discount=None, spot=None, unknown=()):
        """Sets Spot prices as a discount on On-Demand, or of one type in USD an hour, and types that have no price at
        all."""
        told = {"spot": spot or {}, "unknown": list(unknown)}
        self._call("POST", "prices", told if spot_discount is None else {**told, "spot_discount": spot_discount})

    def image_parameters(self, parameters):
        """Sets the Systems Manager parameters that templates name by `resolve:ssm:` → image id."""
        self._call("POST", "image_parameters", parameters)

    def groups(self):
        return self._call("GET", "groups")

    def history(self, group):
        """Returns every state of the group: [{t, in_service, desired, min, max, suspended, members}]. The history
        misses none."""
        return self._call("GET", f"history?group={urllib.request.quote(group)}")


class CapacityWatcher:
    """The capacity of a group inside a `with` block, from the endpoint's gapless history.

    `on_change` is called with each new state while the block runs (the demo's timeline).
    """

    POLL_SECONDS = 0.05

    def __init__(self, control, group, on_change=None):
        self.control, self.group, self.on_change = control, group, on_change
        self._stop = threading.Event()

    def __enter__(self):
        past = self.control.history(self.group)
        self._first = max(len(past) - 1, 0)  # The state at the start counts, too.
        self._thread = threading.Thread(target=self._watch, daemon=True)
        if self.on_change:
            self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        if self.on_change:
            self._thread.join()

    @property
    def samples(self):
        return self.control.history(self.group)[self._first :]

    @property
    def lowest(self):
        return min(s["in_service"] for s in self.samples)

    @property
    def highest_desired(self):
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
