"""A WSGI layer that records every AWS call and, on request, makes it fail, hang, lose its answer, land late or twice."""

from __future__ import annotations

import io
import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from werkzeug.wrappers import Response

from ..shapes import Call, Fault, Shape, WSGIApp
from . import eks

if TYPE_CHECKING:
    from .identities import Identities

JSON_TARGET = "HTTP_X_AMZ_TARGET"
NOT_LOGGED = {"Version", "UserData", "SecretString"}
HOLD_SECONDS = 0.02  # Pause between two checks whether a call is still held.
NO_ANSWER = 0  # The status, in the log, of a call whose caller was left without an answer.


class Calls:
    """The log of calls, and which key was granted which action: `clear` forgets the log alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls = []
        self._granted = set()
        self._since = 0.0

    def add(self, call: Call) -> None:
        with self._lock:
            # A call that a fault of an earlier test has delayed is none of the test that has cleared the log since.
            if call["t"] >= self._since:
                self._calls.append(call)
            if call["caller"] == "lambda" and NO_ANSWER < call["status"] < 400:
                self._granted.add((call["account"], call["access_key"], f"{call['service']}:{call['action']}"))

    def granted(self) -> set[tuple[str, str, str]]:
        """Returns (account, access key, action) of each call of a function that was answered since the server started."""
        with self._lock:
            return set(self._granted)

    def clear(self) -> None:
        with self._lock:
            self._calls.clear()
            self._since = time.time()

    def list(self) -> Sequence[Call]:
        with self._lock:
            return list(self._calls)


class Faults:
    """Faults to inject: each lets `skip` matching calls pass (none if absent), then hits `times` of them (all if
    absent)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._faults = []
        self._under_way: list[Callable[[], Call]] = []  # Calls that are still to be carried out.

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            fault = {"kind": "error", "caller": "lambda", "skip": 0, **fault, "id": next(self._ids), "hits": 0}
            self._faults.append(fault)
            return fault

    def change(self, fault_id: int, fields: Fault) -> Fault:
        """Changes a fault. The calls that it holds back go on as it says now."""
        with self._lock:
            fault = next(f for f in self._faults if f["id"] == fault_id)
            fault.update(fields)
            return fault

    def clear(self) -> None:
        """Lets go of what is held back. What is under way never lands."""
        with self._lock:
            self._faults.clear()
            self._under_way.clear()

    def keep(self, carry_out: Callable[[], Call]) -> None:
        with self._lock:
            self._under_way.append(carry_out)

    def land(self) -> Sequence[Call]:
        """Carries out what is under way, in order; returns the calls with their answers, which nobody hears."""
        with self._lock:
            under_way, self._under_way = self._under_way, []
        return [carry_out() for carry_out in under_way]

    def list(self) -> Sequence[Fault]:
        with self._lock:
            return list(self._faults)

    def holds(self, fault: Fault) -> bool:
        """Returns True until the fault is cleared."""
        with self._lock:
            return fault["kind"] == "hold" and fault in self._faults

    def take(self, call: Call) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if not _matches(fault, call):
                    continue
                if fault["skip"]:
                    fault["skip"] -= 1
                    continue
                fault["hits"] += 1
                return fault
        return None


def _matches(fault: Fault, call: Call):
    if fault["action"] not in ("*", call["action"]) or fault["caller"] not in ("any", call["caller"]):
        return False
    if any(name in fault and fault[name] != call[name] for name in ("service", "account", "region")):
        return False
    if "times" in fault and fault["hits"] >= fault["times"]:
        return False
    params = call["params"]
    return all(wanted in str(params.get(name, "")) for name, wanted in (fault.get("match") or {}).items())


class Recorder:
    def __init__(self, app: WSGIApp, calls: Calls, faults: Faults, identities: Identities) -> None:
        self.app, self.calls, self.faults, self.identities = app, calls, faults, identities

    def __call__(self, environ: Shape, start_response: Callable[..., Any]) -> Iterable[bytes]:
        call = parse(environ)
        call["account"] = self.identities.account(call["access_key"])
        started = time.time()
        response = self._answer(call, environ)
        if response is None:
            self._record(call, started, NO_ANSWER, "NoAnswer")
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return Response()(environ, start_response)  # Reaches nobody, and werkzeug closes the connection.
        self._record(call, started, response.status_code, _error_code(response) if response.status_code >= 400 else None)
        return response(environ, start_response)

    def _record(self, call: Call, started: float, status: int, error: str | None) -> Call:
        record: Call = {"t": started, "ms": round((time.time() - started) * 1000, 1), **call, "status": status}
        if error:
            record["error"] = error
        self.calls.add(record)
        return record

    def _answer(self, call: Call, environ: Shape) -> Response | None:
        """Returns None if the caller is to hear nothing."""
        fault = self.faults.take(call)
        if fault is None:
            return Response.from_app(self.app, environ, buffered=True)
        time.sleep(fault.get("delay_seconds", 0))
        while self.faults.holds(fault):
            time.sleep(HOLD_SECONDS)
        if fault["kind"] == "error":
            return error_response(call, fault)
        if fault["kind"] in ("late", "twice"):
            self._keep(call, environ)
        if fault["kind"] == "late":
            return None
        response = Response.from_app(self.app, environ, buffered=True)
        return error_response(call, fault) if fault["kind"] == "error_after" else response

    def _keep(self, call: Call, environ: Shape) -> None:
        """Keeps the call, to be carried out when `Faults.land` says so."""
        body = environ["wsgi.input"].getvalue()

        def carry_out() -> Call:
            started = time.time()
            response = Response.from_app(self.app, {**environ, "wsgi.input": io.BytesIO(body)}, buffered=True)
            return self._record(call, started, response.status_code, _error_code(response) if response.status_code >= 400 else None)

        self.faults.keep(carry_out)


def parse(environ: Shape) -> Call:
    """Returns the call and its caller: Lambdas sign with the session key of their role (ASIA…), people don't."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    signed = re.search(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
    key, region, service = signed.groups() if signed else ("", "us-east-1", "")
    if target := environ.get(JSON_TARGET):
        action = target.rsplit(".", 1)[-1]
        params = _json(body)
    else:
        params = dict(parse_qsl(body.decode("utf-8", "replace")) or parse_qsl(environ.get("QUERY_STRING", "")))
        asked = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        action = params.pop("Action", "") or (service == "eks" and eks.operation(*asked)) or " ".join(asked)
        if service == "eks" and (cluster := eks.cluster_name(environ["PATH_INFO"])):
            params["name"] = cluster
    return {
        "service": service,
        "action": action,
        "region": region,
        "caller": "lambda" if key.startswith("ASIA") else "test",
        "access_key": key,
        "params": {k: v for k, v in params.items() if k not in NOT_LOGGED},
    }


def _json(body: bytes):
    try:
        parsed = json.loads(body or b"{}")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def error_response(call: Call, fault: Fault) -> Response:
    """Returns the error in the form of the service's own protocol, since the SDK reads the code from there."""
    code, message = fault.get("code", "InternalError"), fault.get("message", "injected by local AWS")
    status = fault.get("status", 500)
    if call["service"] == "ec2":
        body = (
            '<?xml version="1.0" encoding="UTF-8"?><Response><Errors><Error>'
            f"<Code>{code}</Code><Message>{message}</Message></Error></Errors>"
            "<RequestID>local</RequestID></Response>"
        )
    elif call["service"] in ("autoscaling", "elasticloadbalancing", "sts", "iam"):
        kind = "Sender" if status < 500 else "Receiver"
        body = (
            f"<ErrorResponse><Error><Type>{kind}</Type><Code>{code}</Code><Message>{message}</Message></Error>"
            "<RequestId>local</RequestId></ErrorResponse>"
        )
    else:
        body = json.dumps({"__type": code, "message": message})
        return Response(body, status, headers={"x-amzn-errortype": code}, content_type="application/x-amz-json-1.0")
    return Response(body, status, content_type="text/xml")


def _error_code(response: Response):
    text = response.get_data(as_text=True)
    if found := re.search(r"<Code>(.*?)</Code>", text):
        return found[1]
    return (_json(text.encode()).get("__type") or str(response.status_code)).rsplit("#", 1)[-1]
