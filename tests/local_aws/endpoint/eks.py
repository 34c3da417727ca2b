"""EKS in front of the local control plane: the answers of DescribeCluster, and the authenticator behind the API server.

The API server asks `review` about each bearer token, by TokenReview webhook. A token is `k8s-aws-v1.` and the URL of a
presigned STS GetCallerIdentity. The authenticator judges it as aws-iam-authenticator and STS do, with its signature.
"""

from __future__ import annotations

import base64
import binascii
import calendar
import hashlib
import hmac
import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit

from moto.eks.models import EKSBackend

from ..shapes import Shape
from .world import ACCOUNT

if TYPE_CHECKING:
    from .permissions import Permissions

PREFIX = "k8s-aws-v1."
GROUP = "spot-optimizer"  # The Kubernetes group of the access entry.
HOSTS = re.compile(r"sts(\.[a-z0-9-]+)?\.amazonaws\.com")
LIFETIME_SECONDS = 15 * 60  # A token is good for this long, whatever its X-Amz-Expires says.
LONGEST_EXPIRES = 60
TEST_KEY, TEST_SECRET = "test", "test"
OPERATIONS = {
    ("POST", r"/clusters"): "CreateCluster",
    ("GET", r"/clusters"): "ListClusters",
    ("GET", r"/clusters/[^/]+"): "DescribeCluster",
    ("DELETE", r"/clusters/[^/]+"): "DeleteCluster",
    ("POST", r"/clusters/[^/]+/update-config"): "UpdateClusterConfig",
    ("POST", r"/clusters/[^/]+/node-groups"): "CreateNodegroup",
    ("GET", r"/clusters/[^/]+/node-groups"): "ListNodegroups",
    ("GET", r"/clusters/[^/]+/node-groups/[^/]+"): "DescribeNodegroup",
    ("DELETE", r"/clusters/[^/]+/node-groups/[^/]+"): "DeleteNodegroup",
}


class Refused(Exception):
    """The reason why a token is not accepted."""


def operation(method: str, path: str) -> str | None:
    """Returns the operation's name, which EKS' REST protocol has in neither header nor body; None for an unknown
    one."""
    return next((name for (verb, form), name in OPERATIONS.items() if verb == method and re.fullmatch(form, path)), None)


def cluster_name(path: str) -> str | None:
    found = re.match(r"/clusters/([^/]+)", path)
    return found[1] if found else None


class Authenticator:
    """Judges tokens for one cluster. Tests make it refuse tokens, and read the tokens that it saw."""

    def __init__(self) -> None:
        self.cluster: str | None = None
        self._server: str | None = None
        self._authority: str | None = None
        self.reset()

    def reset(self) -> None:
        self.seen = []  # [{t, signed_at, user, refused}]
        self._refuse_next = 0
        self._expired_until = 0  # Tokens signed up to this second are refused as expired.

    def connect(self, cluster: str, server: str, authority: str) -> None:
        """Makes the control plane at `server` EKS' cluster of this name; `authority` is its CA in PEM."""
        self.cluster, self._server, self._authority = cluster, server, authority

    def expire(self) -> None:
        """Refuses every token that was signed before now; accepts the next one that is signed."""
        self._expired_until = int(time.time())

    def refuse(self, times: int) -> None:
        """Refuses the next `times` tokens, however good."""
        self._refuse_next = times

    def install(self) -> None:
        describe = EKSBackend.describe_cluster

        def real(backend: Any, name: str):
            cluster = describe(backend, name)
            if name == self.cluster:
                cluster.endpoint = self._server
                cluster.certificate_authority = {"data": base64.b64encode(self._authority.encode()).decode()}
                cluster.access_config = {"authenticationMode": "API"}
            return cluster

        EKSBackend.describe_cluster = real

    def review(self, request: Shape, permissions: Permissions) -> Shape:
        """Answers a TokenReview."""
        status: Shape = {"authenticated": False}
        record: Shape = {"t": time.time(), "signed_at": None, "user": None, "refused": None}
        try:
            user = self._user(request["spec"]["token"], permissions, record)
            status = {"authenticated": True, "user": {"username": user, "uid": user, "groups": [GROUP]}}
            record["user"] = user
        except Refused as why:
            status["error"] = record["refused"] = str(why)
        self.seen.append(record)
        return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status}

    def _user(self, token: str, permissions: Permissions, record: Shape):
        url, query = _parse(token)
        record["signed_at"] = signed_at = _signed_at(query)
        _check(url, query)
        age = time.time() - signed_at
        if not -LIFETIME_SECONDS <= age <= LIFETIME_SECONDS or signed_at <= self._expired_until:
            raise Refused("X-Amz-Date parameter is expired (15 minutes)")
        if self._refuse_next:
            self._refuse_next -= 1
            raise Refused("refused by local AWS")
        return _identity(url, query, self.cluster, permissions)


def _parse(token: str):
    if not token.startswith(PREFIX):
        raise Refused(f"token is missing expected {PREFIX!r} prefix")
    encoded = token.removeprefix(PREFIX)
    if "=" in encoded:
        raise Refused("the URL must be encoded without padding")
    try:
        url = urlsplit(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode())
    except (binascii.Error, ValueError) as error:
        raise Refused(f"the URL is not base64url: {error}") from error
    return url, dict(parse_qsl(url.query, keep_blank_values=True))


def _signed_at(query: dict[str, str]):
    try:
        return calendar.timegm(time.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ"))
    except (KeyError, ValueError) as error:
        raise Refused(f"X-Amz-Date: {error}") from error


def _check(url: SplitResult, query: dict[str, str]):
    if url.scheme != "https" or not HOSTS.fullmatch(url.netloc) or url.path != "/":
        raise Refused(f"unexpected endpoint in pre-signed URL: {url.scheme}://{url.netloc}{url.path}")
    if query.get("Action") != "GetCallerIdentity" or query.get("Version") != "2011-06-15":
        raise Refused("unexpected action in pre-signed URL")
    if query.get("X-Amz-SignedHeaders") != "host;x-k8s-aws-id":
        raise Refused(f"the signed headers are {query.get('X-Amz-SignedHeaders')}, not host;x-k8s-aws-id")
    if not query.get("X-Amz-Expires", "").isdigit() or int(query["X-Amz-Expires"]) > LONGEST_EXPIRES:
        raise Refused(f"X-Amz-Expires is {query.get('X-Amz-Expires')}, not at most {LONGEST_EXPIRES}")
    if query.get("X-Amz-Algorithm") != "AWS4-HMAC-SHA256":
        raise Refused(f"unexpected algorithm: {query.get('X-Amz-Algorithm')}")


def _identity(url: SplitResult, query: dict[str, str], cluster: str, permissions: Permissions):
    """Returns the ARN behind the access key, as STS does for a request that is signed right, for this very cluster."""
    key, *scope = query.get("X-Amz-Credential", "").split("/")
    if len(scope) != 4 or scope[2:] != ["sts", "aws4_request"]:
        raise Refused("unexpected credential scope in pre-signed URL")
    known = permissions.function_of(key)
    if known:
        arn, secrets = known["arn"], [known["secret"], TEST_SECRET]
    elif key == TEST_KEY:
        arn, secrets = f"arn:aws:iam::{ACCOUNT}:root", [TEST_SECRET]
    else:
        raise Refused(f"InvalidClientTokenId: no function and no user has the access key {key}")
    if not any(hmac.compare_digest(_signature(url, query, scope, cluster, s), query.get("X-Amz-Signature", "")) for s in secrets):
        raise Refused("SignatureDoesNotMatch: wrong secret, or signed for another cluster")
    return arn


def _signature(url: SplitResult, query: dict[str, str], scope: list[str], cluster: str, secret: str):
    """Returns the Signature Version 4 of the URL with the header that binds it to the cluster."""
    signed = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in query.items() if k != "X-Amz-Signature")
    request = "\n".join(
        ["GET", "/", "&".join(f"{k}={v}" for k, v in signed), f"host:{url.netloc}", f"x-k8s-aws-id:{cluster}", "",
         "host;x-k8s-aws-id", hashlib.sha256(b"").hexdigest()]
    )  # fmt: skip
    to_sign = "\n".join(["AWS4-HMAC-SHA256", query["X-Amz-Date"], "/".join(scope), hashlib.sha256(request.encode()).hexdigest()])
    key = f"AWS4{secret}".encode()
    for part in [*scope, to_sign]:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key.hex()


AUTHENTICATOR = Authenticator()
