"""The main job on one screen: a drill poisons a Spot pool, then a group of On-Demand instances moves to Spot.

Three instances in two zones. The pool of zone b is interrupted first, so its instance must stay On-Demand; the two in
zone a are swapped one after the other, and InService capacity never falls below three.
"""

import collections
import sys
import time

import demo_governance
import demo_kubernetes
import demo_loop
from local_aws import build, deploy, servers
from local_aws.control import CapacityWatcher
from local_aws.progress import BLUE, BOLD, DIM, GREEN, RED, YELLOW, paint, say, step, table
from local_aws.stack import ENDED, LocalAws
from local_aws.tally import without_polling

SIZE = 3
POISONED_ZONE = "us-east-1b"
TIMEOUT_SECONDS = 300


def main():
    began = time.monotonic()
    aws = LocalAws()
    say(paint("Spot Optimizer on local AWS", BOLD))
    say(
        f"  A drill will poison the Spot pool of zone b; then a group of {SIZE} On-Demand instances moves to Spot, except\n"
        f"  the one in that zone, and InService capacity never falls below {SIZE}.\n"
    )
    started = aws.up()
    try:
        return demo(aws, began)
    finally:
        if started:
            aws.stop()
            say(paint("\n  local AWS stopped; `make local` keeps one running", DIM))


def demo(aws, began):
    group = prepare(aws)
    drill(aws)
    say(paint(f"\nSwap the group {group.name}", BOLD))
    say(paint("  O = On-Demand in service, S = Spot in service, lower case = on its way in or out\n", DIM))
    aws.control.clear_calls()
    started = time.time()
    with CapacityWatcher(aws.control, group.name) as capacity:
        arn = aws.start_execution({"asg_name": group.name})
        execution = show_timeline(aws, arn, capacity, started)
    seconds = time.time() - started
    failed = report(aws, group, execution, capacity, seconds, time.monotonic() - began)
    return failed or demo_loop.tell(aws) or demo_governance.tell(aws) or demo_kubernetes.tell(aws)


def prepare(aws):
    say(paint("\nA customer's group", BOLD))
    aws.control.reset()
    aws.clear_pools()
    with step(f"Auto Scaling group of {SIZE} On-Demand m5.large in two zones") as progress:
        group = aws.create_group(size=SIZE, instance_tags={"team": "shop"}, overrides=["m5.large"])
        progress.detail = group.name
    rows = [(i["InstanceId"], i["Placement"]["AvailabilityZone"], i["InstanceType"], "On-Demand") for i in group.instances]
    table(rows, ("instance", "zone", "type", "bought as"))
    return group


def drill(aws):
    say(paint("\nAn interruption somewhere else in the account", BOLD))
    with step(f"a Spot instance in {POISONED_ZONE} gets its two-minute warning (a drill, through EventBridge)"):
        victim = aws.launch_spot("m5.large", POISONED_ZONE)
        pool = aws.pool_of(victim)
        aws.put_drill(victim)
        item = aws.wait_pool(pool)
        aws.client("ec2").terminate_instances(InstanceIds=[victim])
    days = (int(item["poison_expires_at"]) - time.time()) / 86400
    say(f"  {paint(pool, YELLOW)} is poisoned for {days:.0f} days")


def show_timeline(aws, arn, capacity, started):
    """Prints states and capacity in the order in which they happened; returns the ended execution."""
    shown_states, shown_samples, recent = 0, 0, collections.deque(maxlen=3)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        execution = aws.client("stepfunctions").describe_execution(executionArn=arn)
        states, samples = aws.states(arn), capacity.samples
        events = [(at.timestamp(), "state", name) for at, name in states[shown_states:]]
        events += [(sample["t"], "capacity", sample) for sample in samples[shown_samples:]]
        shown_states, shown_samples = len(states), len(samples)
        for at, kind, what in sorted(events, key=lambda event: event[0]):
            if kind == "capacity":
                say(f"  {max(at - started, 0):6.2f} s  {_members(what)}  {_numbers(what)}")
            elif what not in recent:  # Shows a loop of waiting and checking as one line.
                recent.append(what)
                say(f"  {max(at - started, 0):6.2f} s  {paint(what, BLUE)}")
        if execution["status"] in ENDED:
            return aws.wait_execution(arn)
        if time.monotonic() > deadline:
            raise TimeoutError(f"the execution still runs after {TIMEOUT_SECONDS} s")
        time.sleep(0.1)


def _members(sample):
    text, width = "", SIZE + 2
    for member in sample["members"]:
        letter = "S" if member["spot"] else "O"
        serving = member["lifecycle_state"] == "InService" and member["state"] == "running"
        text += paint(letter, GREEN if member["spot"] else YELLOW) if serving else paint(letter.lower(), DIM)
    return text + " " * (width - len(sample["members"]))


def _numbers(sample):
    dip = sample["in_service"] < SIZE
    limits = paint(f"max {sample['max']}" + "".join(f", {p} suspended" for p in sample["suspended"]), DIM)
    return f"{paint('InService ' + str(sample['in_service']), *([RED] if dip else []))}  desired {sample['desired']}  {limits}"


def report(aws, group, execution, capacity, seconds, total):
    if execution["status"] != "SUCCEEDED":
        say(paint(f"\n✗ the execution {execution['status']}: {execution.get('error')}: {execution.get('cause')}", RED))
        return 1
    output = execution["output"]
    say(paint("\nResult", BOLD))
    rows = [
        ("swapped", s["old_instance_id"], s["new_instance_id"], s["pool"], f"saves ${float(s['monthly_saving_usd']):.2f} a month")
        for s in output["swapped"]
    ]
    rows += [("skipped", s["instance_id"], "", s["reason"], s["detail"]) for s in output["skipped"]]
    rows += [("rolled back", r["instance_id"], "", r["reason"], r["detail"]) for r in output["rolled_back"]]
    table(rows, ("outcome", "instance", "replaced by", "pool or reason", ""))
    saving = sum(float(s["monthly_saving_usd"]) for s in output["swapped"])
    calls = aws.control.calls()
    services = collections.Counter(c["service"] for c in calls)
    say()
    table(
        [
            ("lowest InService capacity", f"{capacity.lowest} (the owner asked for {SIZE})"),
            ("highest desired capacity", capacity.highest_desired),
            ("AWS calls", f"{len(calls)} ({', '.join(f'{n} {s}' for s, n in services.most_common())})"),
            ("AWS calls per swap", _calls_per_swap(aws, execution, calls)),
            ("time of the execution", f"{seconds:.1f} s (waits are scaled down)"),
            ("time of the demo", f"{total:.0f} s"),
            ("monthly saving", paint(f"${saving:.2f}", GREEN, BOLD)),
        ],
        ("measure", "value"),
    )
    return verdict(output, capacity)


def _calls_per_swap(aws, execution, calls):
    swaps = max(len(execution["output"]["swapped"]), 1)
    needed = without_polling(calls, aws.states(execution["executionArn"]))
    return f"{len(needed) / swaps:.0f} without polling, {len(calls) / swaps:.0f} with it"


def verdict(output, capacity):
    problems = []
    if capacity.lowest < SIZE:
        problems.append(f"InService capacity fell to {capacity.lowest}")
    if len(output["swapped"]) != SIZE - 1:
        problems.append(f"{len(output['swapped'])} instances were swapped instead of {SIZE - 1}")
    if [s["reason"] for s in output["skipped"]] != ["POOL_POISONED"]:
        problems.append("the instance in the poisoned pool was not skipped for that reason")
    for problem in problems:
        say(paint(f"✗ {problem}", RED))
    if not problems:
        say(paint("\n✓ two instances run on Spot, the poisoned pool was left alone, capacity never dropped", GREEN, BOLD))
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (build.BuildFailed, deploy.DeployFailed, servers.ServerFailed, TimeoutError) as error:
        sys.exit(paint(f"\n✗ {error}", RED))
    except KeyboardInterrupt:
        sys.exit(130)
