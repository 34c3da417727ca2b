"""The `/_local/` API: what tests read (calls, capacity) and bend (faults, health, groups, timing). JSON in and out.

Kubernetes' part, below `/_local/kubernetes/`, is in `kubernetes.py`.

    GET    /_local/health
    POST   /_local/reset                all overrides, faults and the log; AWS resources stay, but for terminated instances
    GET    /_local/calls                [{t, ms, account, service, action, caller, params, status, error?}]
    POST   /_local/calls/clear
    GET    /_local/granted              [[account, role, action]] of the functions' answered calls since the start; no reset forgets them
    GET    /_local/faults               with `hits`
    POST   /_local/faults               {action, kind: error|error_after|delay|hold|late|twice, match?, skip?, times?, status?,
                                         code?, message?, delay_seconds?, service?, account?, caller?: lambda|test|any};
                                         `hold` keeps the calls back until the faults are cleared, or it is made another kind;
                                         `late` closes the connection without an answer, and the call is carried out when it
                                         lands; `twice` carries it out and answers, and once more when it lands
    PATCH  /_local/faults               {id, kind?, …}: what it holds back goes on as it says now
    DELETE /_local/faults               what is under way never lands
    POST   /_local/faults/land          carries out the calls that are under way; answers [call]
    GET    /_local/stale                group name → {fields, after, reads, answered, begun}
    POST   /_local/stale                {name, fields: [desired|max|suspended|tags|members|lifecycle], after?, reads?}: to Lambdas
                                         the group's description shows these as they are now, or as they were right before
                                         the first call of the action `after`; for so many reads, else until it is deleted
    DELETE /_local/stale
    GET    /_local/groups               every group's capacity and members now
    GET    /_local/history?group=NAME   every state that the group has had since it was created
    POST   /_local/timing               any of world.DEFAULT_TIMING, in seconds; holds for what is under way, too
    POST   /_local/newcomers            what the instances launched from now on do: {status?: ok|initializing|impaired|
                                         absent, stay_pending?, kill?: {after_seconds, code, message},
                                         lifecycle_state? (once attached), target_health?: {state, reason}}
    DELETE /_local/newcomers
    POST   /_local/instance             {instance_id, region?, status?, spot_request?: its status code, state?: pending|running|…, kill?: {code, message},
                                         lifecycle_state?, health_status?,
                                         set?: {"Placement.Tenancy": "host", "UsageOperation": "RunInstances:0002", …}}
    POST   /_local/group                {name, set: {"Operator": {…}, "WarmPoolConfiguration": {…}}, refreshes?: [{…}]}
    POST   /_local/launch_events        {on}: Auto Scaling tells of launches and attaches on the default bus (`notices.py`)
    POST   /_local/storage              {id: vol-…|snap-…|eipalloc-…, days_old?, set?: {"Operator": {…}, …}}
    POST   /_local/recycle_bin          {id: ami-…|snap-…|vol-…, leaves: its exit time | null: it has left the bin}
    POST   /_local/snapshot_lock        {id: snap-…, state: compliance|governance|… | null: it was never locked}
    POST   /_local/accounts             {accounts, regions}: opens them anew, with nothing in them, not even Amazon's images
    POST   /_local/zones                {account, shift}: its zone names stand for other zones, as AWS has it
    POST   /_local/images               {state?: available|failed: what images made from now on come to,
                                         snapshots_linger?: the first DeleteSnapshot after DeregisterImage finds them in use}
    POST   /_local/prices               {spot_discount?: of On-Demand, spot?: {type: USD an hour for Linux},
                                         unknown?: [types that have no price, neither On-Demand nor Spot]}
    POST   /_local/image_parameters     {name: image id, …}: Systems Manager parameters of `resolve:ssm:` templates
    POST   /_local/target_health        {target_group, instance_id | "*newcomers", state, reason?}; state null clears
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Request, Response

from ..shapes import Call, Fault, Shape
from . import account, ec2
from .eks import AUTHENTICATOR
from .nodes import NODES
from .stale import Stale
from .world import DEFAULT_NEWCOMERS, WORLD, describe, groups

if TYPE_CHECKING:
    from .identities import Identities
    from .recorder import Calls, Faults

KINDS = ("error", "error_after", "delay", "hold", "late", "twice")
STATE_CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}


class Control:
    def __init__(self, calls: Calls, faults: Faults, identities: Identities) -> None:
        self.calls, self.faults, self.identities = calls, faults, identities

    def __call__(self, environ: Shape, start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ)
        verb = f"{request.method.lower()}_{request.path.removeprefix('/_local/').strip('/').replace('/', '_')}"
        handler = getattr(self, verb, None)
        if handler is None:
            return Response(f"no such control: {request.method} {request.path}", 404)(environ, start_response)
        data = request.get_json(force=True, silent=True) or request.args.to_dict()
        try:
            with WORLD.lock:
                answer, status = handler(data), 200
                WORLD.observe()
        except (KeyError, ValueError, AttributeError, LookupError, StopIteration) as error:
            answer, status = {"error": f"{type(error).__name__}: {error}"}, 400
        body = json.dumps(answer, default=str)
        return Response(body, status, content_type="application/json")(environ, start_response)

    def get_health(self, _: Shape) -> Shape:
        return {"ok": True}

    def post_reset(self, _: Shape) -> None:
        history = WORLD.history
        WORLD.reset()
        WORLD.history = history
        self.calls.clear()
        self.faults.clear()
        AUTHENTICATOR.reset()
        NODES.reset()
        ec2.forget_the_dead()

    def get_calls(self, _: Shape) -> Sequence[Call]:
        return self.calls.list()

    def get_granted(self, _: Shape) -> list[tuple[str, str, str]]:
        return sorted({(account, self.identities.role(account, key) or key, action) for account, key, action in self.calls.granted()})

    def post_calls_clear(self, _: Shape) -> None:
        self.calls.clear()

    def post_accounts(self, told: Shape) -> None:
        account.open_anew(told["accounts"], told["regions"])

    def post_zones(self, told: Shape) -> None:
        WORLD.zone_shift[told["account"]] = int(told["shift"])

    def post_launch_events(self, told: Shape) -> None:
        WORLD.launch_events = bool(told["on"])

    def get_faults(self, _: Shape) -> Sequence[Fault]:
        return self.faults.list()

    def post_faults(self, fault: Fault) -> Fault:
        if fault.get("kind", "error") not in KINDS:
            raise ValueError(f"unknown kind of fault: {fault['kind']}")
        fault["action"]
        return self.faults.add(fault)

    def patch_faults(self, told: Fault) -> Fault:
        if told.get("kind", "error") not in KINDS:
            raise ValueError(f"unknown kind of fault: {told['kind']}")
        return self.faults.change(told["id"], told)

    def post_faults_land(self, _: Shape) -> Sequence[Call]:
        return self.faults.land()

    def get_stale(self, _: Shape) -> dict[str, Shape]:
        return {name: stale.told() for name, stale in WORLD.stale.items()}

    def post_stale(self, told: Shape) -> None:
        group = next(g for g in groups() if g.name == told["name"])
        stale = Stale(told["fields"], told.get("after"), told.get("reads"))
        if stale.after is None:
            stale.remember(group)
        WORLD.stale[group.name] = stale

    def delete_stale(self, _: Shape) -> None:
        WORLD.stale.clear()

    def delete_faults(self, _: Shape) -> None:
        self.faults.clear()

    def get_groups(self, _: Shape) -> dict[str, Shape]:
        return {g.name: describe(g) for g in groups()}

    def get_history(self, query: dict[str, str]) -> list[Shape]:
        return WORLD.history.get(query["group"], [])

    def post_timing(self, timing: dict[str, float]) -> dict[str, float]:
        if unknown := set(timing) - set(WORLD.timing):
            raise ValueError(f"unknown timing: {', '.join(unknown)}")
        WORLD.timing.update(timing)
        return WORLD.timing

    def post_newcomers(self, plan: Shape) -> Shape:
        if unknown := set(plan) - set(DEFAULT_NEWCOMERS):
            raise ValueError(f"unknown key: {', '.join(unknown)}")
        WORLD.newcomers.update(plan)
        return WORLD.newcomers

    def delete_newcomers(self, _: Shape) -> None:
        WORLD.newcomers = dict(DEFAULT_NEWCOMERS)

    def post_instance(self, told: Shape) -> None:
        region = told.get("region", "us-east-1")
        with WORLD.within(ec2.owner_of(told["instance_id"], region)):
            instance = ec2.backend(region).get_instance(told["instance_id"])
        if "status" in told:
            WORLD.status[instance.id] = told["status"]
        if "spot_request" in told:
            WORLD.spot_requests[instance.id] = told["spot_request"]
        if "state" in told:
            ec2.set_state(instance, (told["state"], STATE_CODES[told["state"]]))
        if death := told.get("kill"):
            ec2.kill(instance.id, death.get("code", "Server.InternalError"), death.get("message", ""))
        for state in _memberships(instance.id):
            state.lifecycle_state = told.get("lifecycle_state", state.lifecycle_state)
            state.health_status = told.get("health_status", state.health_status)
            for name in ("WeightedCapacity", "Operator"):
                if name in told.get("set", {}):
                    setattr(state, name, told["set"][name])
        _set(instance, told.get("set", {}))

    def post_group(self, told: Shape) -> None:
        group = next(g for g in groups() if g.name == told["name"])
        _set(group, told.get("set", {}))
        if "refreshes" in told:
            now = datetime.datetime.now(datetime.timezone.utc)
            base = {"AutoScalingGroupName": group.name, "StartTime": now, "PercentageComplete": 10}
            WORLD.refreshes[group.name] = [{**base, **r} for r in told["refreshes"]]

    def post_storage(self, told: Shape) -> None:
        backend, resource_id = ec2.backend(), told["id"]
        resource = next(
            r for r in [*backend.volumes.values(), *backend.snapshots.values(), *backend.addresses]
            if resource_id in (getattr(r, "id", None), getattr(r, "allocation_id", None))
        )  # fmt: skip
        if "days_old" in told:
            born = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=told["days_old"])
            setattr(resource, "start_time" if resource_id.startswith("snap-") else "create_time", born)
        _set(resource, told.get("set", {}))

    def post_recycle_bin(self, told: Shape) -> None:
        WORLD.recycle_bin.pop(told["id"], None)
        if told.get("leaves"):
            WORLD.recycle_bin[told["id"]] = told["leaves"]

    def post_snapshot_lock(self, told: Shape) -> None:
        WORLD.locked_snapshots.pop(told["id"], None)
        if told.get("state"):
            WORLD.locked_snapshots[told["id"]] = told["state"]

    def post_images(self, told: Shape) -> None:
        WORLD.image_state = told.get("state", WORLD.image_state)
        WORLD.snapshots_linger = bool(told.get("snapshots_linger", WORLD.snapshots_linger))

    def post_prices(self, told: Shape) -> None:
        if unknown := set(told) - {"spot_discount", "spot", "unknown"}:
            raise ValueError(f"unknown key: {', '.join(unknown)}")
        WORLD.spot_discount = float(told.get("spot_discount", WORLD.spot_discount))
        WORLD.spot_prices.update({kind: float(usd) for kind, usd in told.get("spot", {}).items()})
        WORLD.unpriced.update(told.get("unknown", []))

    def post_image_parameters(self, told: Shape) -> None:
        WORLD.image_parameters.update(told)

    def post_target_health(self, told: Shape) -> None:
        key = (told["target_group"], told["instance_id"])
        WORLD.target_health.pop(key, None)
        if told.get("state"):
            WORLD.target_health[key] = (told["state"], told.get("reason", "Target.FailedHealthChecks"))


def _set(target: Any, fields: Shape):
    """Sets response fields by their AWS names (`Placement.Tenancy`); null removes the override."""
    for path, value in fields.items():
        *parents, name = path.split(".")
        holder = target
        for parent in parents:
            holder = getattr(holder, parent.lower())
        if value is None:
            holder.__dict__.pop(name, None)
        else:
            setattr(holder, name, value)


def _memberships(instance_id: str):
    return [s for g in groups() for s in g.instance_states if s.instance.id == instance_id]
