"""The parts of an account that EC2 knows and moto does not: its enabled regions, its Recycle Bin, the locks of its
snapshots. New accounts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from moto import settings
from moto.core.responses import ActionResult
from moto.ec2.models import ec2_backends
from moto.ec2.responses import EC2Response

from .world import WORLD

# Regions that are enabled in every account, and two that ask for an opt-in. The accounts here have opted in to one.
NO_OPT_IN = [
    "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-southeast-1", "ap-southeast-2", "ca-central-1",
    "eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3", "sa-east-1", "us-east-1", "us-east-2", "us-west-1",
    "us-west-2",
]  # fmt: skip
REGIONS = {**dict.fromkeys(NO_OPT_IN, "opt-in-not-required"), "eu-south-1": "opted-in", "af-south-1": "not-opted-in"}


def install() -> None:
    EC2Response.describe_regions = _describe_regions
    EC2Response.describe_locked_snapshots = _describe_locked_snapshots
    EC2Response.list_images_in_recycle_bin = _bin("Images", "ImageId", "ami-")
    EC2Response.list_snapshots_in_recycle_bin = _bin("Snapshots", "SnapshotId", "snap-")
    EC2Response.list_volumes_in_recycle_bin = _bin("Volumes", "VolumeId", "vol-")


def open_anew(accounts: Iterable[str], regions: Iterable[str]) -> None:
    """Opens accounts with nothing in them. moto makes an account and region at its first use, with 1,300 images of Amazon's and
    their snapshots: a tenth of a second and 4 MB each."""
    usual, settings.ec2_load_default_amis = settings.ec2_load_default_amis, lambda: False
    try:
        for account in accounts:
            ec2_backends.pop(account, None)
            for region in regions:
                ec2_backends[account].__getitem__(region)
    finally:
        settings.ec2_load_default_amis = usual


def _describe_regions(self: Any):
    wanted = (self._filters_from_querystring() or {}).get("opt-in-status", set(REGIONS.values()))
    regions = [
        {"RegionName": name, "Endpoint": f"ec2.{name}.amazonaws.com", "OptInStatus": status}
        for name, status in REGIONS.items()
        if status in wanted
    ]
    return ActionResult({"Regions": regions})


def _describe_locked_snapshots(self: Any):
    locked = WORLD.locked_snapshots.items() if self.region == "us-east-1" else []
    return ActionResult({"Snapshots": [{"SnapshotId": i, "LockState": state} for i, state in locked]})


def _bin(listed: str, key: str, prefix: str):
    def listing(self: Any):
        binned = WORLD.recycle_bin.items() if self.region == "us-east-1" else []
        items = [{key: i, "RecycleBinExitTime": leaves} for i, leaves in binned if i.startswith(prefix)]
        return ActionResult({listed: items})

    return listing
