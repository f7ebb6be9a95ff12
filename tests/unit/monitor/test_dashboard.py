"""The dashboard and the alert rules: made by the code, of metrics that there are, and judged by Prometheus' own tool."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from streaming.monitor import dashboard
from streaming.monitor.gauges import MonitorGauges
from streaming.monitor.metrics import JobMetrics

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "docker"
#: What Prometheus itself knows.
_OWN = {"up", "ALERTS"}
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}


def exported() -> set[str]:
    """The names of all series that a job's /metrics can have."""
    metrics = JobMetrics(lambda: [], labels={})
    metrics.registry.register(MonitorGauges())
    return {f"{family.name}{end}" for family in metrics.registry.collect() for end in _SUFFIXES.get(family.type, ("",))}


def used(expression: str) -> set[str]:
    """The names of series in a PromQL expression: this project's, and `up`."""
    return set(re.findall(r"\bstreaming_\w+|\bup\b", re.sub(r"\{[^}]*\}|\"[^\"]*\"", "", expression)))


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load((DOCKER / "prometheus" / "rules.yaml").read_text())["groups"] for rule in group["rules"]]


def test_the_file_is_what_the_code_makes() -> None:
    written = (DOCKER / "grafana" / "dashboards" / "streaming.json").read_text()
    assert written == dashboard.to_json(), "make dashboard"


def test_every_metric_that_is_shown_or_judged_is_exported() -> None:
    expressions = [*dashboard.expressions(), *(rule["expr"] for rule in rules())]
    names = set().union(*map(used, expressions))
    assert len(names) > 15
    assert names - exported() - _OWN == set()


def test_every_panel_asks_the_chosen_source_and_job() -> None:
    board = json.loads(dashboard.to_json())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len(panels) == sum(len(row) for _, row in dashboard.ROWS)
    for panel in panels:
        assert panel["datasource"]["uid"] == "${source}"
        assert all('job=~"$job"' in target["expr"] for target in panel["targets"]), panel["title"]
    assert {variable["name"] for variable in board["templating"]["list"]} == {"source", "job"}
    cells = [
        (p["gridPos"]["x"] + dx, p["gridPos"]["y"] + dy)
        for p in panels
        for dx in range(p["gridPos"]["w"])
        for dy in range(p["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)), "panels lie over one another"


def test_every_rule_says_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"].endswith((".", "?"))


def promtool() -> str:
    tool = shutil.which("promtool") or shutil.which("promtool", path=ROOT / ".cache" / "bin")
    if tool is None:
        pytest.skip("no promtool on this machine (bash scripts/promtool.sh)")
    return tool


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([promtool(), *arguments], capture_output=True, text=True, cwd=DOCKER / "prometheus")


def test_the_rules_fire_when_they_must_and_only_then() -> None:
    done = run("test", "rules", "rules_test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    tested = set(re.findall(r'alertname="(\w+)"', (DOCKER / "prometheus" / "rules_test.yaml").read_text()))
    assert tested == {rule["alert"] for rule in rules()}


def test_prometheus_takes_its_files() -> None:
    done = run("check", "config", "prometheus.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_mounts_what_there_is() -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    mounted = [volume.split(":") for name in ("prometheus", "grafana") for volume in services[name]["volumes"]]
    assert [part[0] for part in mounted if part[0].startswith(".") and not (DOCKER / part[0]).exists()] == []
    (target,) = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yaml").read_text())["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target == "job:9464"
    assert yaml.safe_load((DOCKER / "job.yaml").read_text())["job"]["host"] == "0.0.0.0"
