"""The `/_local/kubernetes/` API: connects the control plane, bends its nodes and its authenticator. JSON in and out.

POST   /_local/kubernetes/connect      {cluster, server, authority, certificate, key}: paths of files
POST   /_local/kubernetes/tokenreview  kube-apiserver's webhook
GET    /_local/kubernetes/tokens       [{t, signed_at, user, refused}] since the last reset
POST   /_local/kubernetes/tokens       {expire?: true, refuse?: how many}
GET    /_local/kubernetes/nodes        {instance id: {name, joined}}
POST   /_local/kubernetes/nodes        {instance_id, ready?, labels?, annotations?, taints?}
POST   /_local/kubernetes/newcomers    any of nodes.DEFAULT_PLAN, for the instances that are seen from now on
DELETE /_local/kubernetes/newcomers
POST   /_local/kubernetes/timing       any of nodes.DEFAULT_TIMING, in seconds
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Request, Response

from ..kubernetes.api import Api, ApiError
from ..shapes import Shape
from .eks import AUTHENTICATOR
from .nodes import DEFAULT_PLAN, NODES

if TYPE_CHECKING:
    from .permissions import Permissions

PREFIX = "/_local/kubernetes/"


class KubernetesControl:
    """Runs without the world's lock: a token is reviewed while the node simulator waits for the API server, and vice
    versa."""

    def __init__(self, permissions: Permissions) -> None:
        self.permissions = permissions

    def __call__(self, environ: Shape, start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ)
        handler = getattr(self, f"{request.method.lower()}_{request.path.removeprefix(PREFIX)}", None)
        if handler is None:
            return Response(f"no such control: {request.method} {request.path}", 404)(environ, start_response)
        try:
            answer, status = handler(request.get_json(force=True, silent=True) or {}), 200
        except (KeyError, ValueError, TypeError, ApiError) as error:
            answer, status = {"error": f"{type(error).__name__}: {error}"}, 400
        return Response(json.dumps(answer), status, content_type="application/json")(environ, start_response)

    def post_connect(self, told: Shape) -> None:
        api = Api(told["server"], told["authority"], (told["certificate"], told["key"]))
        AUTHENTICATOR.connect(told["cluster"], told["server"], Path(told["authority"]).read_text())
        NODES.connect(told["cluster"], api)

    def post_tokenreview(self, request: Shape) -> Shape:
        return AUTHENTICATOR.review(request, self.permissions)

    def get_tokens(self, _: Shape) -> list[Shape]:
        return AUTHENTICATOR.seen

    def post_tokens(self, told: Shape) -> None:
        if told.get("expire"):
            AUTHENTICATOR.expire()
        if "refuse" in told:
            AUTHENTICATOR.refuse(told["refuse"])

    def get_nodes(self, _: Shape) -> dict[str, Shape]:
        return NODES.list()

    def post_nodes(self, told: Shape) -> None:
        NODES.change(**told)

    def post_newcomers(self, plan: Shape) -> Shape:
        _check(plan, NODES.newcomers)
        NODES.newcomers = {**NODES.newcomers, **plan}
        return NODES.newcomers

    def delete_newcomers(self, _: Shape) -> None:
        NODES.newcomers = dict(DEFAULT_PLAN)

    def post_timing(self, timing: dict[str, float]) -> dict[str, float]:
        _check(timing, NODES.timing)
        NODES.timing = {**NODES.timing, **timing}
        return NODES.timing


def _check(told: Shape, known: Shape):
    if unknown := set(told) - set(known):
        raise ValueError(f"unknown key: {', '.join(unknown)}")
