"""`streaming drift` over a history on disk: the newest window and the worst, one by its time, a page; and what it says when there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from streaming.cli.main import cli
from streaming.errors import ConfigError
from streaming.lanes.monitor_state import history
from streaming.monitor.record import Measure, Record
from streaming.monitor.statistics import Statistics
from streaming.runtime.files import LocalFolder

MINUTE = 60_000
START = 1_800_000_000_000  # 2027-01-15T08:00:00Z
#: The PSI of `charges`, by window: the second is the worst, the last one drifts too.
PSI = (0.02, 2.5, 0.04, 0.3)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    tree = {
        "name": "watched", "kafka": {"bootstrap_servers": "nowhere:1"}, "state": str(tmp_path / "state"), "monitor": {"window": "1 minute"},
        "events": {"topic": "e", "schema": "id STRING, charges DOUBLE", "key": "id"}, "model": {"name": "m", "version": "7", "uri": "none"},
        "predictions": {"topic": "p", "rejected_topic": "r"}, "store": {"kind": "sqlite", "path": "none.db"},
    }  # fmt: skip
    path = tmp_path / "watched.yaml"
    path.write_text(json.dumps(tree))
    return path


@pytest.fixture
def watched(config: Path) -> Path:
    """The config of a job with four windows behind it."""
    past = history(LocalFolder(config.parent / "state"))
    for n, psi in enumerate(PSI):
        start = START + n * MINUTE
        measures = (
            Measure("window", "", "rows", 2000.0),
            Measure("window", "", "judged", 2000.0),
            Measure("feature", "charges", "psi", psi, threshold=0.1, p=0.0 if psi > 0.1 else 0.4, rows=2000, drifted=psi > 0.1),
            Measure(
                "feature", "charges", "psi", psi * (1.1 if psi > 0.1 else 0.5), "plan#0", threshold=0.1, p=0.0, rows=700, drifted=psi > 0.1
            ),
            Measure("share", "charges", "share", 0.8),
        )
        past.add(start, n, Record(start, start + MINUTE, n, "7", start, True, measures).to_arrow({}), Statistics())
    return config


def drift(config: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["drift", str(config), *options])


def test_the_newest_and_the_worst_with_what_carries_them(watched: Path) -> None:
    said = drift(watched).output
    assert said.index("newest window: 2027-01-15T08:03:00.000Z") < said.index("worst window: 2027-01-15T08:01:00.000Z")
    assert "charges 80%" in said
    assert said.count("< 1e-300") == 2
    assert "plan" not in said  # the slice drifted no farther than the whole
    assert "the last windows" in said
    for n in range(4):
        assert f"2027-01-15T08:0{n}:00Z" in said.split("the last windows")[1]  # whole, to be given to --window


def test_one_window_by_any_time_in_it(watched: Path) -> None:
    said = drift(watched, "--window", "2027-01-15T08:02:30Z").output
    assert "window: 2027-01-15T08:02:00.000Z" in said
    assert "nothing drifted" in said
    assert "worst" not in said


def test_a_page_in_one_file(watched: Path, tmp_path: Path) -> None:
    page = tmp_path / "deep" / "report.html"
    assert f"written: {page}" in drift(watched, "--html", str(page)).output
    assert "2 of 4 windows drifted" in page.read_text()


@pytest.mark.parametrize(
    ("asked", "words"), [("2026-01-01T00:00:00Z", "no window holds"), ("yesterday", "expected a time such as"), ("", "expected a time")]
)
def test_a_window_that_is_not_there_is_said(watched: Path, asked: str, words: str) -> None:
    failed = drift(watched, "--window", asked).exception
    assert isinstance(failed, ConfigError)
    assert words in str(failed)


@pytest.mark.parametrize("options", [(), ("--html", "page.html")])
def test_before_the_first_window_it_says_what_to_look_at(config: Path, options: tuple[str, ...]) -> None:
    failed = drift(config, *options).exception
    assert isinstance(failed, ConfigError)
    assert "no window yet" in str(failed)
