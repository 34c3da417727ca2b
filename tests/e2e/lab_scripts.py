"""Scripts for `test_fidelity.py`: the calls of the swap of a LAB instance, and what a swap looks up beside its group."""

from __future__ import annotations

from lab_steps import (
    BY_PROBE,
    address,
    addresses_of,
    associate,
    create_image,
    delete_snapshot,
    deregister,
    image_by_id,
    own_images,
    own_snapshots,
    rule,
    scheduled_actions,
    snapshot_of_image,
    start_again,
    stop,
    subnets,
    tagged,
    target_groups,
    targets_of_rule,
    template_versions,
    volume_of,
    volumes,
)
from local_aws.shapes import Shape
from steps import LOOK, SCHEDULE, SETTLE, Script, ec2, launch, targets, terminate

SPOT: Shape = {"InstanceMarketOptions": {"MarketType": "spot"}}
UNKNOWN = "i-0123456789abcdef0"


def _stop_protection(answer: Shape) -> bool:
    return answer["DisableApiStop"]["Value"]


SCRIPTS = {
    "stop and start": Script(
        size=0,
        steps=[
            launch("new"), stop("$new"), SETTLE, start_again("$new"), stop("$new"), stop("$new"), LOOK, start_again("$new"), SETTLE,
            start_again("$new"), LOOK, stop("$new"), SETTLE, terminate("$new"), SETTLE,
        ],
    ),
    "stop and start what is gone": Script(
        size=0,
        steps=[
            launch("new"), SETTLE, terminate("$new"), SETTLE, stop("$new"), start_again("$new"), LOOK,
            stop(UNKNOWN), start_again(UNKNOWN),
        ],
    ),
    "stop a Spot instance": Script(
        size=0,
        steps=[launch("new", **SPOT), SETTLE, stop("$new"), LOOK],
    ),
    "protection from stops": Script(
        size=0,
        steps=[
            launch("new", DisableApiStop=True), SETTLE, stop("$new"),
            ec2("describe_instance_attribute", _stop_protection, InstanceId="$new", Attribute="disableApiStop"), LOOK, terminate("$new"),
        ],
    ),
    "a target that stops": Script(
        size=0, has_target_group=True,
        steps=[
            launch("new"), SETTLE, targets("register_targets", "$new"), SETTLE, stop("$new"), SETTLE,
            targets("describe_target_health", "$new"), targets("register_targets", "$new"), start_again("$new"), SETTLE,
        ],
    ),
    "an address": Script(
        size=0, has_address=True,
        steps=[
            launch("new"), launch("other"), associate("$new"), LOOK, SETTLE, address(), associate("$new"), associate("$new"), address(),
            addresses_of("$other"), associate("$other"), LOOK, associate("$other", AllowReassociation=True), addresses_of("$other"), LOOK,
        ],
    ),
    "an address of what stops and ends": Script(
        size=0, has_address=True,
        steps=[
            launch("new"), SETTLE, associate("$new"), stop("$new"), SETTLE, associate("$new"), terminate("$new"), SETTLE, address(),
            associate("$new"), associate(UNKNOWN), address("eipalloc-0123456789abcdef0"),
        ],
    ),
    "an unknown address": Script(
        size=0,
        steps=[launch("new"), SETTLE, associate("$new", AllocationId="eipalloc-0123456789abcdef0")],
    ),
    "an image": Script(
        size=0,
        steps=[
            launch("new"), SETTLE, create_image("own", of="$new"), create_image("second", of="$new"), own_images(),
            snapshot_of_image("$own"), launch("twin", ImageId="$own"), SETTLE, own_images(),
            snapshot_of_image("$own", name="snapshot"), own_snapshots(), launch("twin", ImageId="$own"), SETTLE,
        ],
    ),
    "an image that is deregistered": Script(
        size=0,
        steps=[
            launch("new"), SETTLE, create_image("own", of="$new"), SETTLE, snapshot_of_image("$own", name="snapshot"),
            delete_snapshot("$snapshot"), deregister("$own"), own_images(), own_snapshots(), deregister("$own"),
            launch("twin", ImageId="$own"), delete_snapshot("$snapshot"), own_snapshots(), delete_snapshot("$snapshot"),
            create_image("second", of="$new"), SETTLE,
        ],
    ),
    "images of what is gone": Script(
        size=0,
        steps=[
            image_by_id("$image"), image_by_id("ami-0123456789abcdef0"), deregister("ami-0123456789abcdef0"),
            launch("new"), SETTLE, terminate("$new"), SETTLE, create_image("own", of="$new"), create_image("own", of=UNKNOWN), own_images(),
        ],
    ),
    "volumes": Script(
        size=0,
        steps=[
            launch("new", **tagged("volume")), volume_of("$new", name="volume"), volumes([{"Name": "volume-id", "Values": ["$volume"]}]),
            volumes(BY_PROBE), SETTLE, stop("$new"), SETTLE, volumes(BY_PROBE), terminate("$new"), SETTLE, volumes(BY_PROBE),
        ],
    ),
    "subnets": Script(
        steps=[
            subnets("$subnet"), subnets("$subnet", "$elsewhere"), subnets("subnet-0123456789abcdef0"),
        ],
    ),
    "versions of a template": Script(
        steps=[
            template_versions("$Default"), template_versions("$Latest"), template_versions("1"),
            template_versions("1", LaunchTemplateName="$group"), template_versions("7"),
            template_versions("1", LaunchTemplateId="lt-0123456789abcdef0"), template_versions("1", LaunchTemplateName="none"),
        ],
    ),
    "target groups": Script(
        size=0, has_target_group=True,
        steps=[target_groups("$target_group"), target_groups("$target_group-none")],
    ),
    "scheduled actions": Script(
        steps=[
            scheduled_actions(), SCHEDULE, scheduled_actions(), scheduled_actions(EndTime="$soon"), scheduled_actions(EndTime="$late"), LOOK,
        ],
    ),
    "rules": Script(
        steps=[rule(), targets_of_rule(), rule("$rule-none"), targets_of_rule("$rule-none")],
    ),
}  # fmt: skip

# As `KNOWN` of `test_fidelity.py`.
KNOWN = {
    ("protection from stops", "5 terminate_instances"):
        "moto terminates it. Stop protection keeps an instance from being terminated, too: "
        "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-stop-protection.html",
    ("an image", "5 describe_images"):
        "moto names the snapshot of a pending image, the world does not: docs/to-try-on-aws.md asks what AWS does",
    ("rules", "3 list_targets_by_rule"):
        "MiniStack lists no targets of a rule that does not exist. EventBridge refuses: "
        "https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_ListTargetsByRule.html",
}  # fmt: skip
