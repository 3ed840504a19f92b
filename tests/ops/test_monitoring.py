"""The alert rules and the dashboard ask for what /metrics really shows: every name, every label, every alert."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client.metrics import MetricWrapperBase

from mailerd.ops.metrics import Metrics
from tests.house.source import ROOT

RULES: Final = ROOT / "docs/prometheus/mailerd.rules.yml"
DASHBOARD: Final = json.loads((ROOT / "docs/grafana/mailerd.json").read_text("utf-8"))
PANELS: Final = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
_METRIC: Final = re.compile(r"\b(?P<name>(?:mailerd|process|python)_\w+|up)\b(?P<labels>\{[^}]*\})?")
_BY: Final = re.compile(r"\bby \((?P<labels>[^)]*)\)")
_SUFFIXES: Final = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count"), "info": ("",)}
_OF_PROMETHEUS: Final = {"job", "instance"}


def shown() -> dict[str, set[str]]:
    """The labels of every series of /metrics, by its name."""
    registry = Metrics()._registry
    labels: dict[str, set[str]] = {"up": set()}
    for family in registry.collect():
        for suffix in _SUFFIXES[family.type]:
            labels[family.name + suffix] = {label for sample in family.samples for label in sample.labels}
            if suffix == "_bucket":
                labels[family.name + suffix].add("le")
    for collector in set(registry._names_to_collectors.values()):  # labels that no sample has yet
        for suffix in ("", "_total", "_bucket", "_sum", "_count"):
            known = labels.get(f"{getattr(collector, '_name', '')}{suffix}")
            if known is not None:
                known |= set(getattr(collector, "_labelnames", ()))
    return labels


SHOWN: Final = shown()


def complaints(expression: str) -> list[str]:
    """What an expression asks for and no mailerd shows."""
    wrong, known = [], set(_OF_PROMETHEUS)
    for found in _METRIC.finditer(expression):
        name = found["name"]
        known |= SHOWN.get(name, set())
        if name not in SHOWN:
            wrong.append(f"no metric {name}")
            continue
        labels = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", found["labels"] or "")
        wrong += [f"{name} has no label {it}" for it in labels if it not in SHOWN[name] | _OF_PROMETHEUS]
    for by in _BY.finditer(expression):
        wrong += [f"nothing has a label {each}" for each in re.split(r",\s*", by["labels"]) if each not in known]
    return wrong


def of_the_dashboard() -> Iterator[tuple[str, str]]:
    for panel in PANELS:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


def of_the_rules() -> Iterator[tuple[str, str]]:
    """By the name of the alert; an expression may go over several lines, all indented more than its key."""
    text = RULES.read_text("utf-8")
    for found in re.finditer(r"- alert: (\w+)\n(?: +#.*\n)* +expr: (?:\|\n((?: {10}.*\n)+)|(.*)\n)", text):
        yield found[1], found[2] or found[3]


EXPRESSIONS: Final = [*of_the_dashboard(), *of_the_rules()]
ALERTS: Final = re.findall(r"- alert: (\w+)", RULES.read_text("utf-8"))


@pytest.mark.parametrize("expression", [it for _, it in EXPRESSIONS], ids=[name for name, _ in EXPRESSIONS])
def test_an_expression_asks_for_what_is_shown(expression: str) -> None:
    assert _METRIC.search(expression)
    assert complaints(expression) == []


@pytest.mark.parametrize(
    "expression",
    [
        "mailerd_message_total",
        "mailerd_messages",  # a counter ends in _total
        'mailerd_messages_total{result="sent"}',
        "sum by (mailbox) (mailerd_messages_total)",
        "mailerd_send_seconds",
        "process_threads",
    ],
)
def test_what_nobody_shows_is_seen(expression: str) -> None:
    assert complaints(expression)


@pytest.mark.parametrize("expression", [it for _, it in EXPRESSIONS if "loop=" in it])
def test_a_loop_that_is_asked_for_has_a_heartbeat_of_that_name(expression: str) -> None:
    registered = {
        name
        for file in (ROOT / "mailerd").rglob("*.py")
        for name in re.findall(r'\bregister\("([^"]+)"', file.read_text("utf-8"))
    }
    asked = re.findall(r'loop=~?"([^"]+)"', expression)
    assert asked
    assert {loop for it in asked for loop in it.split("|")} - registered == set()


def test_every_alert_is_read_here_and_has_its_place_on_the_dashboard() -> None:
    assert [name for name, _ in of_the_rules()] == ALERTS
    assert len(ALERTS) >= 9
    told = " ".join(panel["description"] for panel in PANELS)
    assert [alert for alert in ALERTS if alert != "MailerdDown" and f"Alert: {alert}" not in told] == []


def test_no_panel_lies_over_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at: dict[str, Any] = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_prometheus_itself_reads_rules_and_dashboard(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: promtool): names and labels were checked, the syntax was not")
    written = tmp_path / "dashboard.yml"
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, (_, expression) in enumerate(of_the_dashboard())
    ]
    written.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}), "utf-8")  # JSON is YAML
    for file in (RULES, written):
        done = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    tried = [promtool, "test", "rules", str(RULES.with_name("mailerd.test.yml"))]
    done = subprocess.run(tried, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", ["docs/reference/metrics.md", "docs/reference/metrics.zh-CN.md"])
def test_every_metric_is_explained(page: str) -> None:
    words = (ROOT / page).read_text("utf-8")
    families = {
        family.name + _SUFFIXES[family.type][0].removesuffix("_bucket") for family in Metrics()._registry.collect()
    }
    ours = {name for name in families if name.startswith("mailerd_")}
    assert len(ours) > 30
    assert {name for name in ours if f"`{name}`" not in words} == set()
    rows = [line.split("|") for line in words.splitlines() if line.startswith("| `mailerd_")]
    named = {name: row[2] for row in rows for name in re.findall("`(mailerd_[a-z_]+)`", row[1])}
    labels = dict[str, set[str]]()
    for collector in Metrics()._registry._collector_to_names:
        if isinstance(collector, MetricWrapperBase):
            name = f"{collector._name}{_SUFFIXES[str(collector._type)][0].removesuffix('_bucket')}"
            of_many = re.findall(f"`{name}`[:：]([^;；]+)", named[name])
            labels[name] = set(re.findall("`([a-z]+)`", (of_many or [named[name]])[0]))
            if "mailerd_" in named[name] and not of_many:
                labels[name] = set()
            assert labels[name] == set(collector._labelnames), name
    assert sum(map(bool, labels.values())) > 15


def test_no_sample_says_when_its_counter_was_made() -> None:
    samples = [each.name for family in Metrics()._registry.collect() for each in family.samples]
    assert len(samples) > 100
    assert [name for name in samples if name.endswith("_created")] == []
