"""A chapter of the demo: a group is tagged, and the loop keeps it on Spot through a day with three interruptions."""

import contextlib
import datetime
import itertools
import time

from local_aws.progress import BLUE, BOLD, DIM, GREEN, RED, YELLOW, paint, say, step, table
from local_aws.stack import ENDED

SIZE = 3
ENABLED, WINDOW = "spot-optimizer:enabled", "spot-optimizer:window"
TYPES = ("m5.large", "c5.large")
TIMEOUT_SECONDS = 120
SWEEP, ANSWER = "ClusterSwapStateMachineArn", "InterruptionResponseStateMachineArn"


def tell(aws):
    """Returns True if the chapter did not end as it should."""
    say(paint("\nTag a group and forget", BOLD))
    aws.control.reset()
    aws.clear_pools()
    aws.clear_memory()
    with contextlib.ExitStack() as leftovers:
        aws.settings(settle_seconds=0)
        leftovers.callback(aws.settings)
        leftovers.callback(aws.clear_pools)
        leftovers.enter_context(aws.names_return())
        day = Day(aws, _prepare(aws))
        leftovers.callback(day.group.delete)
        return _live(day)


def _prepare(aws):
    with step(f"a group of {SIZE} On-Demand instances at its MaxSize, tagged {ENABLED}=true") as progress:
        group = aws.create_group(size=SIZE, minimum=0, maximum=SIZE, overrides=list(TYPES), tags={ENABLED: "true"})
        progress.detail = group.name
    say("  The loop looks every quarter of an hour, an interruption has its two minutes; here waits are scaled down.")
    say(paint("  O = On-Demand in service, S = Spot in service, lower case = on its way in or out", DIM))
    return group


def _live(day):
    day.hour("08:00", "the loop finds the group")
    day.loop()

    day.hour("10:30", "EC2 takes an instance back (a drill, through EventBridge)")
    day.interrupt()
    day.hour("10:45", "the loop brings the group back")
    day.loop()

    day.hour("13:00", "the owner closes the window, and EC2 takes another: it is rescued all the same")
    _window(day, f"{_other_weekday()} 00:00-24:00 UTC")
    day.interrupt()
    day.refused("WINDOW_CLOSED")
    day.hour("14:00", "the window opens")
    _window(day, "Mon-Sun 00:00-24:00 UTC")
    day.loop()

    day.hour("18:00", "a bad evening: every pool of the region is interrupted")
    day.interrupt()
    with step("a Spot instance in each pool that is still clear gets its notice"):
        for pool in day.clear_pools():
            _poison_by_drill(day.aws, *pool)
    day.refused("POOL_POISONED")
    day.hour("+15 d", "the poison has ended, and a person names the group to the loop, which had put it off for an hour")
    day.aws.clear_pools()
    day.loop(by_name=True)
    return _report(day)


class Day:
    """The group's day: what was done, and what was seen of it."""

    def __init__(self, aws, group):
        self.aws, self.group, self.started = aws, group, time.time()
        self.now, self.executions, self.answers, self.shares, self.problems = "", [], [], [], []
        self.shown, self.last = len(aws.control.history(group.name)) - 1, ""

    def hour(self, now, what):
        self.now = now
        say(f"\n  {paint(now.rjust(5), BOLD)}  {what}")

    # -- acts ----------------------------------------------------------------------------------------------------

    def loop(self, by_name=False):
        """Lets the group watcher look, and shows the swaps that it starts."""
        poisoned = {pool for pool, row in self.aws.pools().items() if row["is_poisoned"]}
        answer = self._look({"asg_name": self.group.name} if by_name else {})
        if not answer["started"]:
            self.problems.append(f"{self.now}: the loop started nothing: {answer}")
            return
        output = self._follow(SWEEP, answer["started"][0]["execution_arn"])["output"] or {}
        for swapped in output.get("swapped", []):
            say(f"         {swapped['old_instance_id']} → {swapped['new_instance_id']} in {paint(swapped['pool'], GREEN)}")
            if swapped["pool"] in poisoned:
                self.problems.append(f"{self.now}: {swapped['pool']} is poisoned")
        if self._remember() < SIZE:
            self.problems.append(f"{self.now}: not all are Spot: {output}")

    def refused(self, reason):
        """Lets the group watcher look, which is to start nothing."""
        answer = self._look({})
        told = [f"{d['reason']}: {d['detail']}" for d in answer["deferred"]]
        say(f"         the loop starts nothing: {paint('; '.join(told), YELLOW)}")
        if [d["reason"] for d in answer["deferred"]] != [reason] or answer["started"]:
            self.problems.append(f"{self.now}: the loop was to say {reason}: {answer}")

    def interrupt(self):
        """Interrupts a member whose pool is clear, and shows how it is answered."""
        poisoned = self.aws.pools()
        doomed = next(i for i in self.group.spot if self.aws.pool_of(i) not in poisoned)
        pool = self.aws.pool_of(doomed)
        self.aws.put_drill(doomed)
        self.aws.wait_pool(pool)
        say(f"         {doomed} has two minutes; {paint(pool, YELLOW)} is poisoned")
        execution = self._follow(ANSWER, self._answer_to(doomed))
        output = execution["output"] or {"outcome": execution["status"], "detail": execution.get("cause")}
        self.answers.append((self.now, doomed, pool, output))
        self._wait_whole(doomed)
        say(f"         {output['outcome']}: at least {output.get('served_at_least')} served; the group's own launch is its fallback")
        if output["outcome"] != "REPLACED":
            self.problems.append(f"{self.now}: the interruption was not answered: {output}")
        self._remember()

    def clear_pools(self):
        """Returns type and zone of each pool that is not poisoned."""
        ids = {z["ZoneName"]: z["ZoneId"] for z in self.aws.client("ec2").describe_availability_zones()["AvailabilityZones"]}
        poisoned = self.aws.pools()
        pools = itertools.product(TYPES, self.aws.network.subnets)
        return [(kind, zone) for kind, zone in pools if f"us-east-1#{ids[zone]}#{kind}" not in poisoned]

    def _look(self, input):
        answer, error = self.aws.invoke("GroupWatcherFunctionName", input)
        if error:
            raise TimeoutError(f"the group watcher: {error['errorType']}: {error['errorMessage']}")
        return answer

    def _answer_to(self, doomed):
        deadline, client = time.monotonic() + TIMEOUT_SECONDS, self.aws.client("stepfunctions")
        while time.monotonic() < deadline:
            running = client.list_executions(stateMachineArn=self.aws.outputs[ANSWER])["executions"]
            for execution in running:
                if doomed in execution["name"]:
                    return execution["executionArn"]
            time.sleep(0.05)
        raise TimeoutError(f"nothing answers the interruption of {doomed}")

    # -- looks ---------------------------------------------------------------------------------------------------

    def _follow(self, machine, arn):
        """Shows the group's changes until the execution has ended; returns it."""
        self.executions.append(machine)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self.aws.client("stepfunctions").describe_execution(executionArn=arn)["status"] not in ENDED:
            self._show()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{arn} still runs after {TIMEOUT_SECONDS} s")
            time.sleep(0.1)
        self._show()
        return self.aws.wait_execution(arn)

    def _wait_whole(self, doomed):
        """Waits until the interrupted instance has left its group."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while doomed in self.group.instance_ids and time.monotonic() < deadline:
            time.sleep(0.1)
        self._show()

    @property
    def samples(self):
        return self.aws.control.history(self.group.name)

    def _show(self):
        samples = self.samples
        for sample in samples[self.shown + 1 :]:
            text = f"{_members(sample)}  {_numbers(sample)}"
            if text != self.last:  # A suspended process, say, is not shown.
                say(f"         {max(sample['t'] - self.started, 0):6.2f} s  {text}")
            self.last = text
        self.shown = len(samples) - 1

    def _remember(self):
        """Remembers how many are Spot at this hour."""
        spot = len(self.group.spot)
        self.shares.append((self.now, spot))
        return spot


def _members(sample):
    text = ""
    for member in sample["members"]:
        letter = "S" if member["spot"] else "O"
        serves = member["lifecycle_state"] == "InService" and member["state"] == "running"
        text += paint(letter, GREEN if member["spot"] else YELLOW) if serves else paint(letter.lower(), DIM)
    return text + " " * (SIZE + 2 - len(sample["members"]))


def _numbers(sample):
    serving = sample["in_service"]
    return f"{paint(f'serving {serving}', *([RED] if serving < SIZE else []))}  desired {sample['desired']}  " + paint(
        f"max {sample['max']}", DIM
    )


def _window(day, window):
    tag = {"Key": WINDOW, "Value": window, "PropagateAtLaunch": False}
    tag |= {"ResourceId": day.group.name, "ResourceType": "auto-scaling-group"}
    day.aws.client("autoscaling").create_or_update_tags(Tags=[tag])
    say(f"         {WINDOW} = {paint(window, BLUE)}")


def _other_weekday():
    return (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=3)).strftime("%a")


def _poison_by_drill(aws, kind, zone):
    victim = aws.launch_spot(kind, zone)
    pool = aws.pool_of(victim)
    aws.put_drill(victim)
    aws.wait_pool(pool)
    aws.client("ec2").terminate_instances(InstanceIds=[victim])


def _report(day):
    samples = day.samples
    lowest = min(sample["in_service"] for sample in samples)
    after = day.group.describe()
    sizes = (after["DesiredCapacity"], after["MaxSize"])
    swaps, answers = day.executions.count(SWEEP), day.executions.count(ANSWER)
    share = ", ".join(f"{now} {100 * spot // SIZE} %" for now, spot in day.shares)
    say()
    table(
        [
            ("interruptions", f"{len(day.answers)}, answered: {', '.join(output['outcome'] for *_, output in day.answers)}"),
            ("lowest serving", f"{lowest} (the owner asked for {SIZE})"),
            ("highest desired", max(sample["desired"] for sample in samples)),
            ("Spot share", share),
            ("executions", f"{swaps} swaps that the loop started, {answers} answers; nobody started one by hand"),
            ("desired and MaxSize now", f"{sizes[0]} and {sizes[1]}, as the owner had them"),
        ],
        ("measure", "value"),
    )
    problems = [*day.problems]
    if lowest < SIZE:
        problems.append(f"only {lowest} served")
    if sizes != (SIZE, SIZE):
        problems.append(f"desired and MaxSize are {sizes}")
    for problem in problems:
        say(paint(f"✗ {problem}", RED))
    if not problems:
        say(paint("\n✓ three interruptions, a closed window, a poisoned region, and capacity never dropped", GREEN, BOLD))
    return int(bool(problems))
