"""moto's WSGI application with AWS's behaviour added, and the two servers of the process."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Response

from ..shapes import Call, Shape, WSGIApp
from . import account, autoscaling, ec2, elb, interfaces, kubernetes, launches, lifecycle, notices, scaling, scheduled, stale, standalone
from .control import Control
from .eks import AUTHENTICATOR
from .forwarder import Forwarder
from .identities import Identities
from .permissions import Permissions
from .prices import get_products
from .recorder import Calls, Faults, Recorder, error_response, parse
from .world import WORLD

if TYPE_CHECKING:
    from .kubernetes import KubernetesControl

TICK_SECONDS = 0.02


INSTANCE_ID = re.compile("<instanceId>(i-[0-9a-f]+)</instanceId>")


class Ec2App:
    """Serves one request at a time: moto is not thread-safe, and the capacity history must see every single change."""

    def __init__(self, identities: Identities, permissions: Permissions) -> None:
        self.identities, self.permissions = identities, permissions
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.launches = {}  # (account, ClientToken) → (parameters, response body)

    def __call__(self, environ: Shape, start_response: Callable[..., Any]) -> Iterable[bytes]:
        call = parse(environ)
        call["account"] = self.identities.account(call["access_key"])
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = call["account"]
        if denial := self.permissions.denial(call):
            return error_response(call, denial)(environ, start_response)
        if call["service"] == "pricing" and call["action"] == "GetProducts":
            body = json.dumps(get_products(call["params"]))
            return Response(body, content_type="application/x-amz-json-1.1")(environ, start_response)
        with WORLD.lock:
            WORLD.tick()
            stale.about_to(call)
            with WORLD.within(call["account"], call["caller"]):
                response = self._launch_once(call, environ)
            WORLD.observe()
        return response(environ, start_response)

    def _launch_once(self, call: Call, environ: Shape):
        """Answers the same ClientToken with the same parameters by the same launch; refuses it with other parameters, and once
        the instance has ended. Amazon EC2 API Reference, "Error codes"."""
        token = call["params"].get("ClientToken") if call["action"] == "RunInstances" else None
        token = token and (call["account"], token)
        if token in self.launches:
            params, body = self.launches[token]
            code = "IdempotentParameterMismatch"
            if params == call["params"]:
                if not all(ec2.has_ended(instance_id) for instance_id in INSTANCE_ID.findall(body.decode())):
                    return Response(body, content_type="text/xml")
                code = "IdempotentInstanceTerminated"
            return error_response(call, {"status": 400, "code": code, "message": "The client token was used before."})
        response = Response.from_app(self.moto, environ, buffered=True)
        if token and response.status_code == 200:
            self.launches[token] = call["params"], response.get_data()
        return response


class Router:
    """Routes `/_local/…` to the control API, and everything else to AWS."""

    def __init__(self, control: Control, cluster: KubernetesControl, aws: WSGIApp) -> None:
        self.apps: dict[str, WSGIApp] = {kubernetes.PREFIX: cluster, "/_local/": control, "": aws}

    def __call__(self, environ: Shape, start_response: Callable[..., Any]) -> Iterable[bytes]:
        app = next(app for prefix, app in self.apps.items() if environ["PATH_INFO"].startswith(prefix))
        return app(environ, start_response)


class QuietHandler(MotoRequestHandler):
    protocol_version = "HTTP/1.1"  # Keeps connections alive, as AWS does.
    disable_nagle_algorithm = True
    log_request = log = lambda *_, **__: None


class ForwardHandler(QuietHandler):
    make_environ = WSGIRequestHandler.make_environ


def serve(ec2_port: int, forward_port: int, ministack_port: int) -> None:
    for part in (ec2, launches, elb, lifecycle, scaling, scheduled, autoscaling, stale, standalone, interfaces, account, AUTHENTICATOR):
        part.install()
    calls, faults, identities = Calls(), Faults(), Identities(ministack_port)
    notices.start(identities)
    permissions = Permissions(identities)
    control, cluster = Control(calls, faults, identities), kubernetes.KubernetesControl(permissions)
    forwarded = Recorder(Forwarder(ministack_port, identities), calls, faults, identities)
    ours = Recorder(Ec2App(identities, permissions), calls, faults, identities)
    _serve(forward_port, Router(control, cluster, forwarded), ForwardHandler)
    _serve(ec2_port, Router(control, cluster, ours), QuietHandler)
    while True:
        WORLD.tick()
        time.sleep(TICK_SECONDS)


def _serve(port: int, app: WSGIApp, handler: type[QuietHandler]):
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
