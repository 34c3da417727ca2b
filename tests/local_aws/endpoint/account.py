"""The parts of an account that EC2 knows and moto does not: its enabled regions, and its Recycle Bin."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
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
    EC2Response.list_images_in_recycle_bin = _bin("Images", "ImageId", "ami-")
    EC2Response.list_snapshots_in_recycle_bin = _bin("Snapshots", "SnapshotId", "snap-")
    EC2Response.list_volumes_in_recycle_bin = _bin("Volumes", "VolumeId", "vol-")


def _describe_regions(self: Any):
    wanted = (self._filters_from_querystring() or {}).get("opt-in-status", set(REGIONS.values()))
    regions = [
        {"RegionName": name, "Endpoint": f"ec2.{name}.amazonaws.com", "OptInStatus": status}
        for name, status in REGIONS.items()
        if status in wanted
    ]
    return ActionResult({"Regions": regions})


def _bin(listed: str, key: str, prefix: str):
    def listing(self: Any):
        binned = WORLD.recycle_bin.items() if self.region == "us-east-1" else []
        items = [{key: i, "RecycleBinExitTime": leaves} for i, leaves in binned if i.startswith(prefix)]
        return ActionResult({listed: items})

    return listing
