"""Passes a request on to MiniStack unchanged (signature and Host header included) and returns the answer."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Response

from ..shapes import Shape

if TYPE_CHECKING:
    from .identities import Identities

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "te", "trailer", "upgrade"}


class Forwarder:
    def __init__(self, port: int, identities: Identities) -> None:
        self.port, self.identities = port, identities

    def __call__(self, environ: Shape, start_response: Callable[..., Any]) -> Iterable[bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            body = environ["wsgi.input"].read()
            connection.putrequest(environ["REQUEST_METHOD"], environ["REQUEST_URI"], skip_host=True, skip_accept_encoding=True)
            for name, value in _headers(environ):
                connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            headers = [(k, v) for k, v in answer.getheaders() if k.lower() not in HOP_BY_HOP]
            response = Response(answer.read(), answer.status, headers)
            self.identities.note(response.get_data())
        except OSError as error:
            response = Response(f"MiniStack did not answer: {error}", 502)
        finally:
            connection.close()
        return response(environ, start_response)


def _headers(environ: Shape):
    for name, value in environ.items():
        if name.startswith("HTTP_"):
            header = name[5:].replace("_", "-").lower()
            if header not in HOP_BY_HOP:
                yield header, value
    if environ.get("CONTENT_TYPE"):
        yield "content-type", environ["CONTENT_TYPE"]
