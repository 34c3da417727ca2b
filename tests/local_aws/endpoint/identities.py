"""Which account and role a call comes from. MiniStack knows: it hands out the keys.

A 12-digit access key is the root of that account, as MiniStack has it; `test` is the root of the usual one.
"""

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from .world import ACCOUNT


class Identities:
    def __init__(self, ministack_port):
        self.endpoint = f"http://127.0.0.1:{ministack_port}"
        self._arns = {}  # access key of a session → ARN of the assumed role

    def account(self, access_key, token=""):
        if access_key.isdigit():
            return access_key
        arn = self.arn(access_key, token)
        return arn.split(":")[4] if arn else ACCOUNT

    def arn(self, access_key, token=""):
        """`arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`; None for who is nobody's session."""
        if access_key.startswith("ASIA") and access_key not in self._arns:
            session = boto3.Session(access_key, "test", token or None, region_name="us-east-1")
            try:
                identity = session.client("sts", endpoint_url=self.endpoint).get_caller_identity()
            except (BotoCoreError, ClientError):
                return None  # A function that has not run yet has no session yet.
            self._arns[access_key] = identity["Arn"]
        return self._arns.get(access_key)
