"""Whose account a caller works in: moto knows neither MiniStack's sessions nor its rule that a 12-digit key is an account."""

import re

import boto3

from .world import ACCOUNT

MOTO_ACCOUNT = "HTTP_X_MOTO_ACCOUNT_ID"


class Accounts:
    def __init__(self, ministack_port):
        session = boto3.Session("test", "test", region_name="us-east-1")
        self.sts = session.client("sts", endpoint_url=f"http://127.0.0.1:{ministack_port}")
        self._known = {}

    def of(self, access_key):
        if re.fullmatch(r"\d{12}", access_key):
            return access_key
        if not access_key.startswith("ASIA"):
            return ACCOUNT
        if access_key not in self._known:
            self._known[access_key] = self.sts.get_access_key_info(AccessKeyId=access_key)["Account"]
        return self._known[access_key]
