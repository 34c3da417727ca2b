"""Whose account a caller works in: moto knows neither MiniStack's sessions nor its rule that a 12-digit key is an account."""

import re

import boto3
from botocore.exceptions import ClientError

from .world import ACCOUNT

MOTO_ACCOUNT = "HTTP_X_MOTO_ACCOUNT_ID"


class Accounts:
    def __init__(self, ministack_port):
        self.endpoint = f"http://127.0.0.1:{ministack_port}"
        self._known = {}

    def of(self, access_key, session_token):
        if re.fullmatch(r"\d{12}", access_key):
            return access_key
        if not access_key.startswith("ASIA"):
            return ACCOUNT
        if access_key not in self._known:
            self._known[access_key] = self._ask(access_key, session_token)
        return self._known[access_key]

    def _ask(self, access_key, session_token):
        session = boto3.Session(access_key, "test", session_token, region_name="us-east-1")
        try:
            return session.client("sts", endpoint_url=self.endpoint).get_caller_identity()["Account"]
        except ClientError:
            return ACCOUNT
