"""Deploys the rendered template to MiniStack with the real `sam deploy`, and writes down how to use the stack."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import boto3

from .paths import ACCOUNT, REGION, SAM, STACK, client_environment, credentials, without_aws
from .progress import step

if TYPE_CHECKING:
    from .paths import Home
    from .progress import Step

BUCKET = "local-artifacts"
PARAMETERS = {
    "EnvironmentType": "PROD", "AllowDrills": "true", "Architecture": "x86_64", "TableDeletionProtection": "true",
    "ForwardingAccountIds": "666666666666",
}  # fmt: skip


class DeployFailed(Exception):
    pass


def deploy(home: Home, template: Path, parameters: dict[str, str] | None = None, account: str = ACCOUNT) -> dict[str, str]:
    """Creates or updates the stack. Returns its outputs, and writes them to a file for the usual account."""
    ports = home.read_state()["ports"]
    environment = {**without_aws(os.environ), **client_environment(ports, account), "SAM_CLI_TELEMETRY": "0"}
    wanted = {**PARAMETERS, **(parameters or {})}
    with step(f"sam deploy, stack {STACK}" + (f" of {account}" if account != ACCOUNT else "")) as progress:
        session = boto3.Session(*credentials(account).values(), region_name=REGION)
        session.client("s3", endpoint_url=environment["AWS_ENDPOINT_URL"]).create_bucket(Bucket=f"{BUCKET}-{account}")
        _sam_deploy(home, template, wanted, environment, progress, account)
        stacks = session.client("cloudformation", endpoint_url=environment["AWS_ENDPOINT_URL"])
        outputs = stacks.describe_stacks(StackName=STACK)["Stacks"][0].get("Outputs", [])
    flat = {o["OutputKey"]: o["OutputValue"] for o in outputs}
    if account != ACCOUNT:
        return flat
    home.outputs_file.write_text(json.dumps(flat, indent=2, sort_keys=True) + "\n")
    exports = "".join(f"export {name}={value}\n" for name, value in sorted(client_environment(ports).items()))
    home.env_file.write_text(f"# To be sourced: points every AWS client at the local AWS of this checkout.\n{exports}")
    return flat


def _sam_deploy(
    home: Home, template: Path, parameters: dict[str, str] | None, environment: Mapping[str, str], progress: Step, account: str
):
    command = [
        str(SAM), "deploy", "--template-file", str(template), "--stack-name", STACK, "--region", REGION,
        "--s3-bucket", f"{BUCKET}-{account}", "--no-confirm-changeset", "--no-fail-on-empty-changeset", "--no-progressbar",
        "--capabilities", "CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND",
        "--parameter-overrides", *(f"{name}={value}" for name, value in parameters.items()),
    ]  # fmt: skip
    log = home.log("deploy" if account == ACCOUNT else f"deploy-{account}")
    # The scratch files of `sam`, .aws-sam among them, belong to the home, not to the checkout.
    run = subprocess.Popen(command, cwd=home.directory, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with open(log, "w") as out:
        for line in run.stdout:
            out.write(line)
            if line.strip():
                progress.update(line.strip())
    if run.wait():
        raise DeployFailed(f"sam deploy failed; the end of {log}:\n" + "\n".join(log.read_text().splitlines()[-30:]))
