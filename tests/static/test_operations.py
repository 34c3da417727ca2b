"""The figures and names in docs/operations.md are those of the template."""

import re

import pytest

from local_aws.build import load
from local_aws.paths import ROOT, TEMPLATE
from test_reference import metrics, rows
from test_template import stack

TEXT = (ROOT / "docs" / "operations.md").read_text()
NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
HOURS = 30 * 24


def row(name):
    """Returns the cells of a row of the cost table, behind its name."""
    (found,) = [line for line in TEXT.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in found.strip("|").split("|")][1:]


def dollars(cell):
    """Returns the prices in a cell; that of a hub comes second where it is another."""
    return [float(price) for price in re.findall(r"\$([\d.]+)", cell)]


def alarms(kind, **more):
    return stack(kind, **more).of_type("AWS::CloudWatch::Alarm")


def times_a_month(schedule):
    """Returns the number of invocations in thirty days."""
    expression = schedule["ScheduleExpression"]
    if found := re.fullmatch(r"rate\((\d+) (minute|hour)s?\)", expression):
        return HOURS * (60 if found[2] == "minute" else 1) // int(found[1])
    assert re.fullmatch(r"cron\(0 \d+ \* \* \? \*\)", expression), expression
    return 30


def test_all_state_machines_are_watched_before_an_upgrade_and_stopped_before_the_end():
    (names,) = re.findall(r"^machines\(\) \{ for name in ([\w ]+); do out \$\{name\}StateMachineArn; done; \}$", TEXT, re.MULTILINE)
    template = load(TEMPLATE)
    machines = {name for name, r in template["Resources"].items() if r["Type"] == "AWS::Serverless::StateMachine"}
    assert {f"{name}StateMachine" for name in names.split()} == machines
    assert {f"{name}Arn" for name in machines} <= set(template["Outputs"])


def test_what_is_counted_in_words():
    rendered = stack()
    tables, functions = (rendered.of_type(kind) for kind in ("AWS::DynamoDB::Table", "AWS::Lambda::Function"))
    silent = [a for a in alarms("standalone").values() if a["TreatMissingData"] == "breaching"]
    assert f"{NUMBERS[len(tables)]} tables would stay behind" in TEXT
    assert f"{NUMBERS[len(functions)]} binaries" in TEXT
    assert f"{NUMBERS[len(silent)].capitalize()} alarms ring right after the first deployment" in TEXT
    stopped = set(alarms("member")) - set(alarms("member", SchedulesEnabled="false"))
    assert f"saves the hourly metrics and {NUMBERS[len(stopped)]} alarms" in TEXT
    assert f"The {NUMBERS[len(tables)]} tables" in (ROOT / "docs" / "import-tables.yaml").read_text()


def test_the_alarms_of_each_kind_of_stack_are_counted():
    count, price, standalone, member = row("alarms")
    each = len(alarms("standalone")), len(alarms("hub")), len(alarms("member"))
    assert count == f"{each[0]} (hub {each[1]})"
    prices = [round(n * dollars(price)[0], 2) for n in each]
    assert (dollars(standalone), dollars(member)) == (prices[:2], prices[2:])


def test_every_invocation_by_a_schedule_is_counted():
    schedules = stack().of_type("AWS::Scheduler::Schedule").values()
    (count,) = [row(line)[0] for line in re.findall(r"^\| (sweeps, [^|]+) \|", TEXT, re.MULTILINE)]
    counted = [int(number.replace(",", "")) for number in re.findall(r"[\d,]+", count)]
    assert sorted(counted) == sorted(map(times_a_month, schedules))


def test_every_metric_that_is_sent_each_hour_is_counted():
    published = {r["metric"].strip("`"): r["published by"] for r in METRICS}
    each_hour = ("hourly", "at each run", "at each sweep")
    hourly = [name for name, by in published.items() if any(time in by for time in each_hour)]
    assert int(row("metrics that are sent each hour")[0]) == sum(len(metrics()[name][0]) for name in hourly)


METRICS = rows("metrics.md", "metric", "unit", "dimensions", "published by", "alarm", "meaning")


@pytest.mark.parametrize("column, kinds", [(2, ["standalone", "hub"]), (3, ["member"])])
def test_the_sum_is_that_of_its_column(column, kinds):
    (table,) = re.findall(r"^\| a month \|.*\n\|[-|]+\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    *parts, (_, total) = [(line, dollars(line.strip("|").split("|")[column + 1])) for line in table.splitlines()]
    for at, kind in enumerate(kinds):
        prices = [found[min(at, len(found) - 1)] for _, found in parts if found]
        assert total[at] == pytest.approx(sum(prices)), kind


def test_a_hub_with_fifty_members_costs_what_the_sums_say():
    sums = row("**sum**")
    hub, member = dollars(sums[2])[1], dollars(sums[3])[0]
    assert f"{hub:.2f} + 50 × {member:.2f} = **${hub + 50 * member:.0f} a month**" in TEXT
    assert f"With a dashboard in each member it is ${hub + 50 * (member + 3):.0f}." in TEXT
