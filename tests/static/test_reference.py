"""The template names only events and metrics that docs/reference lists, which follow from the declarations in Rust."""

import json
import re

import pytest

from local_aws.paths import ROOT
from rendered import translated
from test_template import KINDS, stack

REFERENCE = ROOT / "docs" / "reference"
OURS = "SpotOptimizer"
# A drill bears AWS's detail type with a source of its own: AWS refuses its own source in PutEvents.
DRILL = "spot-optimizer.drill"


def rows(page, *head):
    """Returns the rows of the page's tables that have this head, as the cells of its columns."""
    found, is_inside = [], False
    for line in (REFERENCE / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if tuple(cells) == head:
            is_inside = True
        elif not cells:
            is_inside = False
        elif is_inside and set(line) != set("|-"):
            found.append(dict(zip(head, cells, strict=True)))
    assert found, f"{page} has no table {head}"
    return found


def metrics():
    """Returns the declared metrics: name → sets of dimensions, alarm."""
    listed = rows("metrics.md", "metric", "unit", "dimensions", "published by", "alarm", "meaning")
    sets = {row["metric"]: row["dimensions"].split("; ") for row in listed}
    return {
        row["metric"].strip("`"): (
            {frozenset(one.strip("`").split(", ")) for one in sets[row["metric"]]},
            row["alarm"].strip("`"),
        )
        for row in listed
    }


def events():
    """Returns the declared events: source, detail type."""
    listed = rows("events.md", "detail type", "source", "sent by", "bus", "read by", "meaning")
    return {(row["source"].strip("`"), row["detail type"].strip("`")) for row in listed}


def detail_fields(detail_type):
    """Returns the declared fields of a detail."""
    page = (REFERENCE / "events.md").read_text()
    (table,) = re.findall(rf"^[^|\n]*`{detail_type}`[^|\n]*:\n\n((?:\|.*\n)+)", page, re.MULTILINE)
    return set(re.findall(r"^\| `([^`]+)`", table, re.MULTILINE))


def dicts(node):
    """Yields every mapping below the node."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else []:
        yield from dicts(child)


def patterns(rendered):
    found = [p["EventPattern"] for p in rendered.of_type("AWS::Events::Rule").values() if "EventPattern" in p]
    assert len(found) >= 3
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_alarms_watch_declared_metrics_and_the_reference_names_each_alarm(kind):
    alarms = {
        name: (alarm["MetricName"], frozenset(dimension["Name"] for dimension in alarm["Dimensions"]))
        for name, alarm in stack(kind).of_type("AWS::CloudWatch::Alarm").items()
        if alarm["Namespace"] == OURS
    }
    declared = metrics()
    for name, (metric, dimensions) in alarms.items():
        sets, alarm = declared[metric]
        assert dimensions in sets, f"{name}: {metric} is not kept by {set(dimensions)}"
        assert alarm == name, f"docs/reference/metrics.md names another alarm of {metric}"
    # Only a hub has members that could be muted.
    named = {alarm for _, alarm in declared.values() if alarm} - ({"MutedAccountAlarm"} if kind != "hub" else set())
    assert set(alarms) == named


def test_the_dashboard_shows_declared_metrics():
    body = translated()["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    widgets = json.loads(body)["widgets"]
    shown = [m for widget in widgets for m in widget["properties"]["metrics"] if m[0] == OURS]
    assert shown
    for _, name, *dimensions in shown:
        sets, _ = metrics()[name]
        assert frozenset(dimensions[::2]) in sets, f"{name}: {dimensions}"


@pytest.mark.parametrize("kind", KINDS)
def test_rules_listen_to_declared_events_and_fields(kind):
    for pattern in patterns(stack(kind, AllowDrills="true")):
        heard = {(source, of) for source in pattern["source"] for of in pattern["detail-type"] if source != DRILL}
        assert heard <= events(), pattern
        of_detail = set().union(*(d.keys() for d in dicts(pattern.get("detail", {})))) - {"$or", "prefix", "anything-but", "Ref"}
        for detail_type in pattern["detail-type"]:
            assert of_detail <= detail_fields(detail_type), pattern


@pytest.mark.parametrize("kind", KINDS)
def test_policies_of_buses_admit_declared_events(kind):
    conditions = [d for d in dicts(stack(kind).resources) if "events:detail-type" in d]
    assert bool(conditions) == (kind == "hub")
    for condition in conditions:
        assert (condition["events:source"], condition["events:detail-type"]) in events()


@pytest.mark.parametrize("sample", sorted((ROOT / "events").glob("*.json")), ids=lambda path: path.stem)
def test_the_samples_are_declared_events(sample):
    event = json.loads(sample.read_text())
    if "detail-type" not in event:
        return  # an input of a schedule or of a person
    if event["source"] != DRILL:
        assert (event["source"], event["detail-type"]) in events()
    if event["source"] == "spot-optimizer":
        assert set(event["detail"]) <= detail_fields(event["detail-type"])
