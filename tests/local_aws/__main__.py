"""`python -m local_aws COMMAND`: the commands of the Makefile's targets."""

from __future__ import annotations

import argparse
import sys

from . import build, cargo_tool, check, deploy, sbom, servers
from .deny import deny
from .kubernetes import assets
from .paths import Home
from .progress import BOLD, RED, paint, say, table

FAILURES = (
    build.BuildFailed,
    servers.ServerFailed,
    deploy.DeployFailed,
    assets.AssetsMissing,
    cargo_tool.ToolMissing,
    sbom.SbomIncomplete,
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m local_aws", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help_text in {
        "build": "build the Lambdas and render the template for local AWS",
        "up": "start local AWS, deploy the stack, leave it running",
        "down": "stop what `up` started",
        "test": "unit and property tests, template lint, end-to-end tests",
        "lint": "the template lint and the scanner alone",
        "deny": "sources, licences, bans and advisories of the crates",
        "sbom": "write a bill of materials for each Lambda",
        "bench": "measure what the README promises",
        "k8s-assets": "provide the binaries of Kubernetes' control plane",
    }.items():
        command = commands.add_parser(name, help=help_text)
        if name == "sbom":
            command.add_argument("--architecture", choices=sbom.TARGETS, help="the template's default unless given")
        if name == "test":
            command.add_argument("--ci", action="store_true", help="formatting, clippy and the supply chain, too, warnings denied")
            command.add_argument("pytest", nargs="*", help="arguments for pytest")
    arguments = parser.parse_args()
    try:
        sys.exit(run(arguments))
    except FAILURES as error:
        sys.exit(paint(f"\n{error}", RED))
    except KeyboardInterrupt:
        sys.exit(130)


def run(arguments: argparse.Namespace) -> int:
    if arguments.command == "build":
        build.build()
    elif arguments.command == "up":
        up()
    elif arguments.command == "down":
        stopped = servers.stop(Home())
        say(f"  stopped: {', '.join(stopped)}" if stopped else "  nothing of ours is running")
    elif arguments.command == "lint":
        return check.lint()
    elif arguments.command == "deny":
        return deny()[0]
    elif arguments.command == "sbom":
        sbom.write(arguments.architecture)
    elif arguments.command == "test":
        return check.run_all(arguments.ci, arguments.pytest)
    elif arguments.command == "k8s-assets":
        say(f"  Kubernetes {assets.release()}: {assets.provide()}")
    elif arguments.command == "bench":
        from . import bench

        return bench.main()
    return 0


def up() -> None:
    from .stack import LocalAws

    aws = LocalAws()
    started = aws.up()
    ports = aws.ports
    say()
    say(paint("Local AWS is up" if started else "Local AWS was up already; the stack is up to date", BOLD))
    table(
        [
            ("MiniStack (everything but the below)", f"http://127.0.0.1:{ports['ministack']}"),
            ("EC2, Auto Scaling, ELBv2, pricing", f"http://127.0.0.1:{ports['ec2']}"),
            ("AWS calls of the Lambdas", f"http://127.0.0.1:{ports['ec2']}/_local/calls"),
            ("logs", "the *.log files in .local/"),
        ],
        ("what", "where"),
    )
    say()
    say(paint("Try", BOLD))
    say("  . .local/env")
    say("  aws autoscaling describe-auto-scaling-groups     # or boto3: the endpoints are in the environment")
    say("  make demo                                        # runs against this stack")
    say("  make down")


if __name__ == "__main__":
    main()
