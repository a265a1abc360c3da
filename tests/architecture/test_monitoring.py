"""Alert rules and the dashboard speak of metrics that exist, and promtool agrees with the rules."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dispatcher.telemetry.lane_metrics import PHASES
from dispatcher.telemetry.metrics import LANES, LIMITS, Metrics

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "systemd" / "prometheus"
RULES = PROMETHEUS / "grillo-dispatcher.rules.yml"
DASHBOARD = ROOT / "systemd" / "grafana" / "grillo-dispatcher.json"
NAME = re.compile(r"\b((?:dispatcher|process|python)_[a-z_]+)(?:\{([^}]*)\})?")
SCRAPED = {"job", "instance", "le"}  # labels that Prometheus adds, and that of buckets


def exposition() -> dict[str, dict[str, set[str]]]:
    """Give every sample's name with its labels and their values, as a scrape shows them."""
    page: dict[str, dict[str, set[str]]] = {}
    metrics = Metrics()
    for family in metrics.registry.collect():
        for sample in family.samples:
            labels = page.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return page


def dashboard_expressions() -> list[str]:
    """Give every query of the dashboard."""
    board: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]


def test_everything_that_is_asked_for_exists() -> None:
    """Names and labels, and of labels with few values those too."""
    page = exposition()
    known = {*LANES, *LIMITS, *PHASES, "true", "false", "in_use", "idle"}
    asked = [RULES.read_text("utf-8").replace("\n", " "), *dashboard_expressions()]
    wrong = []
    count = 0
    for text in asked:
        for name, conditions in NAME.findall(text):
            count += 1
            if name not in page:
                wrong.append(name)
                continue
            for label, value in re.findall(r'(\w+)!?=~?"([^"]*)"', conditions):
                if label not in page[name].keys() | SCRAPED:
                    wrong.append(f"{name}{{{label}}}")
                elif label in {"lane", "of", "phase", "active", "state"}:
                    wrong += [f'{label}="{word}"' for word in value.split("|") if word not in known]
    assert count > 40
    assert [] == wrong


def test_every_metric_of_ours_is_on_the_dashboard() -> None:
    """But those that only explain others."""
    shown = {name for text in dashboard_expressions() for name, _ in NAME.findall(text)}
    stems = {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown}
    ours = {
        re.sub(r"_(bucket|count|sum)$", "", name) for name in exposition() if name.startswith("dispatcher_")
    }
    explain = {
        *("dispatcher_tail_wakeups_total", "dispatcher_messages_created_total"),
        *("dispatcher_deliveries_created_total", "dispatcher_build_info"),
    }
    assert explain == ours - stems


def test_the_dashboard_can_be_imported() -> None:
    """Panels have ids and places of their own, and name the data source that the viewer chooses."""
    board = json.loads(DASHBOARD.read_text("utf-8"))
    panels = board["panels"]
    assert len(panels) == len({panel["id"] for panel in panels})
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"


def test_every_alert_is_documented_and_tested() -> None:
    """With its severity; both that it rings and that it does not on a calm day."""
    text = RULES.read_text("utf-8")
    alerts = dict(re.findall(r"- alert: (\w+).*?severity: (\w+)", text, re.DOTALL))
    assert len(alerts) == text.count("- alert:")
    page = (ROOT / "docs" / "how-to" / "monitor.md").read_text("utf-8")
    assert alerts == dict(re.findall(r"^\| `(Dispatcher\w+)` \| (\w+) \|", page, re.MULTILINE))
    tests = (PROMETHEUS / "grillo-dispatcher.rules.test.yml").read_text("utf-8")
    calm, _, storms = tests.partition("\n  - name: the process is gone")
    for alert in alerts:
        assert f"alertname: {alert}}}" in calm
        assert re.search(rf"alertname: {alert}\n +exp_alerts:", storms), alert


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    "command",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", RULES.name],
        ["test", "rules", "grillo-dispatcher.rules.test.yml"],
    ],
    ids=" ".join,
)
def test_promtool_agrees(command: list[str]) -> None:
    """The files as they are shipped."""
    ran = subprocess.run(["promtool", *command], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert 0 == ran.returncode, ran.stdout + ran.stderr
    assert "SUCCESS" in ran.stdout
