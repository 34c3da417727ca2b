"""The account and role of a call. MiniStack issues the keys, so this module asks MiniStack.

A 12-digit access key is the root of that account, as in MiniStack; `test` is the root of the usual one. Functions sign
with a key that MiniStack derives from their ARN and role. A session of AssumeRole is recorded as it passes the
forwarder.
"""

from __future__ import annotations

import functools
import hashlib
import re
import threading
from collections.abc import Iterator
from typing import Any

import boto3

from .world import ACCOUNT

ASSUMED = re.compile(rb"<AccessKeyId>(ASIA\w+)</AccessKeyId>.*<Arn>(arn:[\w-]+:sts::\d{12}:assumed-role/[^<]+)</Arn>", re.DOTALL)


class Identities:
    def __init__(self, ministack_port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{ministack_port}"
        self._accounts, self._sessions = {}, {}
        self._clients, self._making = boto3.Session(region_name="us-east-1"), threading.Lock()

    @functools.cache
    def client(self, service: str, account: str = ACCOUNT) -> Any:
        """Returns a client of the account's root. One session reads the model of a service once: 10 MB for IAM."""
        key = "test" if account == ACCOUNT else account
        with self._making:  # boto3's guide, "Session": it is not to be shared between threads.
            return self._clients.client(service, endpoint_url=self.endpoint, aws_access_key_id=key, aws_secret_access_key="test")

    def account(self, access_key: str) -> str:
        if access_key.isdigit():
            return access_key
        if not access_key.startswith("ASIA"):
            return ACCOUNT
        if access_key in self._sessions:
            return self._sessions[access_key].split(":")[4]
        if access_key not in self._accounts:
            self._accounts[access_key] = self._account_of(access_key)
        return self._accounts[access_key]

    def _account_of(self, access_key: str):
        """Returns the account of a key. MiniStack knows a function's key only once it has run; the usual account's are
        known by name."""
        if any(key == access_key for key, _, _ in self.functions(ACCOUNT)):
            return ACCOUNT
        return self.client("sts").get_access_key_info(AccessKeyId=access_key)["Account"]

    def note(self, response: bytes) -> None:
        """Records the session that an answer of STS opens, if it opens one."""
        if found := ASSUMED.search(response):
            self._sessions[found[1].decode()] = found[2].decode()

    def session(self, access_key: str) -> str | None:
        """Returns `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION` for a session of AssumeRole; else None."""
        return self._sessions.get(access_key)

    def role(self, account: str, access_key: str) -> str | None:
        """Returns the name of the role that signs with the key; of a session of AssumeRole `ROLE/SESSION`."""
        if session := self.session(access_key):
            return session.split("/", 1)[1]
        return next((role.rsplit("/", 1)[-1] for key, role, _ in self.functions(account) if key == access_key), None)

    def functions(self, account: str) -> Iterator[tuple[str, str, str]]:
        """Returns (access key, role ARN, secret) of each function of the account, derived as MiniStack does."""
        for page in self.client("lambda", account).get_paginator("list_functions").paginate():
            for function in page["Functions"]:
                digest = hashlib.sha256(f"{function['FunctionArn']}:{function['Role']}".encode()).hexdigest()
                secret = hashlib.sha256(f"secret:{digest}".encode()).hexdigest()
                yield f"ASIA{digest[:16].upper()}", function["Role"], secret
