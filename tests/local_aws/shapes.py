"""The shapes that pass between the tests, the endpoint and AWS."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypedDict

# Fields by the names of the service or of the manifest: what boto3 returns, Kubernetes holds, a test tells `control`.
Shape = dict[str, Any]
WSGIApp = Callable[[Shape, Callable[..., Any]], Iterable[bytes]]


class Call(TypedDict, total=False):
    """A call of AWS. `t` to `error` are known once it was answered."""

    service: str
    action: str
    region: str
    caller: str  # "lambda" or "test"
    access_key: str
    account: str
    params: Shape
    t: float  # When it arrived, as time.time() has it.
    ms: float
    status: int
    error: str


class Fault(TypedDict, total=False):
    """A fault that `control` injects; `endpoint/control.py` says what each field means."""

    action: str
    kind: str
    caller: str
    service: str
    account: str
    region: str
    match: dict[str, str]
    skip: int
    times: int
    delay_seconds: float
    status: int
    code: str
    message: str
    id: int
    hits: int
