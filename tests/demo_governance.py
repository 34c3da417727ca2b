"""Two chapters of the demo: resources that cost money and serve no purpose, and instances that no owner answers for."""

import contextlib
import time

from local_aws.inbox import listening
from local_aws.paths import ACCOUNT, REGION
from local_aws.progress import BOLD, DIM, GREEN, RED, YELLOW, paint, say, step, table

PLACE = f"{ACCOUNT}#{REGION}"
DAY = 86_400
OPT_OUT = {"Key": "spot-optimizer:opt-out", "Value": "true"}


def tell(aws):
    """Returns the number of chapters that did not end as they should."""
    with contextlib.ExitStack() as leftovers:
        return waste(aws, leftovers) + audit(aws, leftovers)


# -- the waste report ------------------------------------------------------------------------------------------------


def waste(aws, leftovers):
    say(paint("\nWhat the account pays for and nobody uses", BOLD))
    with step("litter it: addresses, volumes, a month of snapshots"):
        expected = _litter(aws, leftovers)
    with step("the daily scan") as progress:
        summary = _run(aws, "WasteScannerFunctionName", {"account_id": ACCOUNT, "region": REGION})
        progress.detail = f"{sum(t['count'] for t in summary['types'].values())} findings"
    found = _rows(aws, "WasteResourceTableName", "resource")
    rows = {key: row for key, row in found.items() if row["status"] == "OPEN"}
    dear = sorted((r for r in rows.values() if r["monthly_cost_usd"] > 0), key=lambda r: -r["monthly_cost_usd"])
    shown = [(*_finding(row), _usd(row["monthly_cost_usd"]), row["price_source"], row["price_as_of"]) for row in dear]
    table(shown, ("finding", "what it is", "a month", "price from", "as of"))
    snapshots = summary["types"]["snapshot"]
    say(
        f"\n  {snapshots['count']} snapshots of {snapshots['lineages']} volume share their blocks: one price, not "
        f"{snapshots['count']} ({_usd(snapshots['upper_bound_usd'])} at most)"
    )
    for kind, listing in summary["types"].items():
        for why, left in listing["left_alone"].items():
            dollars = f"at most {_usd(left['upper_bound_usd'])} a month"
            say(f"  left alone: {left['count']} {kind} ({why.replace('_', ' ').lower()}), {dollars}")
    say(f"  total {paint(_usd(summary['total_monthly_waste_usd']) + ' a month', GREEN, BOLD)}; the scanner deletes nothing")
    missing = expected - rows.keys()
    if missing or summary["partial"]:
        say(paint(f"✗ not found: {sorted(missing)}; failed: {summary['failed']}", RED))
    return int(bool(missing or summary["partial"]))


def _litter(aws, leftovers):
    """Creates waste, and resources that only look like waste. Returns the keys that the scan has to find."""
    ec2 = aws.client("ec2")
    address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    leftovers.callback(ec2.release_address, AllocationId=address)
    fast = _volume(aws, leftovers, "shop-db-old", days_old=40, Size=500, VolumeType="io2", Iops=20_000)
    cold = _volume(aws, leftovers, "logs-2024", days_old=400, Size=2_000, VolumeType="sc1")
    young = _volume(aws, leftovers, "resize-test", days_old=2, Size=100, VolumeType="gp3")
    kept = _volume(aws, leftovers, "evidence", days_old=90, Size=50, VolumeType="gp3")
    ec2.create_tags(Resources=[kept], Tags=[OPT_OUT])
    snapshots = []
    for day in range(31, 61):
        snapshots.append(ec2.create_snapshot(VolumeId=young, Description="nightly")["SnapshotId"])
        leftovers.callback(ec2.delete_snapshot, SnapshotId=snapshots[-1])
        aws.control.storage(snapshots[-1], days_old=day)
    return {f"elastic-ip#{address}", f"volume#{fast}", f"volume#{cold}", *(f"snapshot#{s}" for s in snapshots)}


def _volume(aws, leftovers, name, days_old, **what):
    ec2 = aws.client("ec2")
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": name}]}]
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", TagSpecifications=tags, **what)["VolumeId"]
    leftovers.callback(ec2.delete_volume, VolumeId=volume)
    aws.control.storage(volume, days_old=days_old)
    return volume


def _finding(row):
    details, resource_id = row["details"], row["resource"].split("#", 1)[1]
    if row["resource_type"] == "elastic-ip":
        return resource_id, f"address {details['public_ip']}, associated with nothing"
    if row["resource_type"] == "volume":
        iops = f", {details['iops']} IOPS" if "iops" in details else ""
        return resource_id, f"{details['name']}: {details['size_gib']} GiB {details['volume_type']}{iops}, unattached"
    return resource_id, f"snapshots of {row['lineage']}, no image needs them"


# -- the audit -------------------------------------------------------------------------------------------------------


def audit(aws, leftovers):
    say(paint("\nWho answers for what runs", BOLD))
    with step("a person subscribes to the alerts (a notice without a subscriber is none)"):
        leftovers.enter_context(listening(aws))
    with step("start an instance by hand, one of a cluster, and one that claims to be ours"):
        stray = _launch(aws, leftovers, Name="bitcoin-test")
        member = _launch(aws, leftovers, **{"Name": "worker", "eks:cluster-name": "prod"})
        forged = _launch(aws, leftovers, Name="hidden", ManagedBy="SpotOptimizer")
    with step("the hourly audit") as progress:
        first = _run(aws, "SecurityEnforcerFunctionName", {"account_id": ACCOUNT, "region": REGION})
        progress.detail = f"{first['running']} running, {first['places'][0]['authorised']} authorised"
    rows = _verdicts(aws)
    table(
        [(i, rows[i]["auth_status"], rows[i]["reason"]) if i in rows else (i, "authorised", "its tag eks:cluster-name")
         for i in (stray, member, forged)],
        ("instance", "verdict", "why"),
    )  # fmt: skip
    with step("a day later (the flag is dated back)"):
        aws.table("InstanceAuthTableName").update_item(
            Key={"account_region": PLACE, "instance_id": stray},
            UpdateExpression="SET flagged_at = :at",
            ExpressionAttributeValues={":at": int(time.time()) - DAY - 60},
        )
        second = _run(aws, "SecurityEnforcerFunctionName", {"account_id": ACCOUNT, "region": REGION})
    due = [i for i, row in _verdicts(aws).items() if row["auth_status"] == "FLAGGED" and row["flagged_at"] < time.time() - DAY]
    say(f"  due, its grace of 24 h is over: {paint(', '.join(due), YELLOW)}")
    say(f"  terminated: {len(second['terminated'])}, for enforcement is off; with auto_terminate = true in the account's row it would be")
    problems = _wrong(rows, stray, member, forged)
    if (due, second["due"], second["terminated"]) != ([stray], 1, []):
        problems.append(f"due are {due}, the audit says {second['due']}, terminated were {second['terminated']}")
    for problem in problems:
        say(paint(f"✗ {problem}", RED))
    if not problems:
        say(paint("\n✓ waste is priced, the stray is flagged, and nothing was touched", GREEN, BOLD))
        say(paint("  the scanner's role can't delete; the enforcer acts only where an account's row says so", DIM))
    return int(bool(problems))


def _wrong(rows, stray, member, forged):
    verdicts = [rows.get(i, {}).get("auth_status") for i in (stray, member, forged)]
    expected = ["FLAGGED", None, "SUSPICIOUS"]
    return [] if verdicts == expected else [f"the verdicts are {verdicts}, not {expected}"]


def _launch(aws, leftovers, **tags):
    ec2 = aws.client("ec2")
    pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
    launched = ec2.run_instances(
        ImageId=aws.network.image, InstanceType="m5.large", MinCount=1, MaxCount=1, SubnetId=aws.network.subnets["us-east-1a"],
        TagSpecifications=[{"ResourceType": "instance", "Tags": pairs}],
    )  # fmt: skip
    instance_id = launched["Instances"][0]["InstanceId"]
    leftovers.callback(ec2.terminate_instances, InstanceIds=[instance_id])
    ec2.get_waiter("instance_running").wait(InstanceIds=[instance_id], WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    return instance_id


# -- both ------------------------------------------------------------------------------------------------------------


def _run(aws, function, input):
    answer, error = aws.invoke(function, input)
    if error:
        raise TimeoutError(f"{function}: {error['errorType']}: {error['errorMessage']}")
    return answer


def _rows(aws, output, key):
    items = aws.table(output).scan(ConsistentRead=True)["Items"]
    return {row[key]: row for row in items if row["account_region"] == PLACE}


def _verdicts(aws):
    return _rows(aws, "InstanceAuthTableName", "instance_id")


def _usd(amount):
    return f"${float(amount):,.2f}"
