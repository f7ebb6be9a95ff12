"""The arithmetic of the benchmarks, and what they refuse to call a measurement."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import apart, crayfish, linear, report, results, scaling, soak, suite
from benchmarks.bounds import BOUNDS, Bound, latency
from benchmarks.load import Event, Sent, answers, moment
from benchmarks.results import Part, Results
from benchmarks.running import Stopped, running
from benchmarks.statistics import latencies, percentiles, rate, reached, slope, spread, thinned, windows
from benchmarks.systems.base import Place, Script
from benchmarks.systems.catalogue import SYSTEMS
from benchmarks.systems.ours import Ours
from benchmarks.watch import Watch
from streaming import config as cfg

NOW = 1_767_225_600.0
EXPECTED = {"C1": 0.25, "C2": 0.75}


class Record:
    """A record of Kafka, as far as the benchmarks look at it."""

    def __init__(self, said: dict[str, Any], stamp_ms: int) -> None:
        self._value, self._stamp = json.dumps(said).encode(), stamp_ms

    def value(self) -> bytes:
        return self._value

    def timestamp(self) -> tuple[int, int]:
        return 2, self._stamp


def answer(customer: str, *, due: float, after_ms: float, p: float | None = None) -> Any:
    p = EXPECTED[customer] if p is None else p
    said = {"key": customer, "event_time": moment(due).decode(), "probability": [1.0 - p, p]}
    return Record(said, int(due * 1000.0 + after_ms))


def test_an_event_waits_from_when_it_was_due() -> None:
    sent = Sent(NOW, NOW + 1.0, 2, 0.0)
    got = answers([answer("C1", due=NOW, after_ms=7.0), answer("C2", due=NOW + 0.5, after_ms=900.0)], sent, EXPECTED)
    assert got.waited_ms == pytest.approx([7.0, 900.0], abs=1.0)


@pytest.mark.parametrize(
    ("records", "complaint"),
    [
        ([answer("C1", due=NOW, after_ms=1)], "sent 2 events, got 1"),
        ([answer("C1", due=NOW, after_ms=1)] * 2, "got 2 answers to 1"),
        ([answer("C1", due=NOW, after_ms=1), answer("C2", due=NOW + 0.5, after_ms=1, p=0.7500001)], "the pipeline gives 0.75"),
        ([answer("C1", due=NOW, after_ms=1), answer("C2", due=NOW + 2.0, after_ms=1)], "got 1 answers"),
    ],
    ids=["lost", "twice", "another model", "of another stretch"],
)
def test_a_window_with_a_wrong_answer_is_no_measurement(records: list[Any], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        answers(records, Sent(NOW, NOW + 1.0, 2, 0.0), EXPECTED)


def test_an_event_is_the_same_but_for_its_time() -> None:
    event = Event("C1", b"C1", b'{"event_time": "', b'"}', 1)
    assert json.loads(event.at(moment(NOW)))["event_time"] == "2026-01-01T00:00:00.000000+00:00"


def test_percentiles_and_their_spread() -> None:
    assert percentiles(np.arange(101.0)) == {"p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0}
    assert spread([3.0, 1.0, 2.0]) == spread((1.0, 2.0, 3.0))
    with pytest.raises(ValueError, match="no repeats"):
        spread([])


def test_nobody_is_answered_before_the_event() -> None:
    assert latencies(np.array([10.9, 20.1]), np.array([10.0, 25.0])) == pytest.approx([0.0, 4.9])


def test_windows_hold_everything_once() -> None:
    at = np.linspace(0.0, 10.0, 101)
    parts = windows(at, at, 5)
    assert len(parts) == 5
    assert np.concatenate(parts).tolist() == at.tolist()
    assert [len(part) for part in windows(np.array([1.0]), np.array([2.0]), 5)] == [1]


def test_rates_are_read_off_the_curve() -> None:
    curve = [(0.0, 0.0), (10.0, 0.0), (11.0, 100.0), (12.0, 300.0), (12.5, 400.0)]
    assert reached(curve, 200.0) == 11.5
    assert rate(curve, since=0.5, until=1.0) == 200.0
    with pytest.raises(ValueError, match="ends at 400"):
        reached(curve, 401.0)


def test_the_start_does_not_count_in_a_slope() -> None:
    assert slope([(0.0, 500.0), (1.0, 100.0), (2.0, 110.0), (3.0, 120.0)]) == pytest.approx(10.0)
    assert np.isnan(slope([(0.0, 1.0)]))


def test_a_thinned_distribution_keeps_its_ends() -> None:
    kept = thinned(np.arange(10_000.0), 100)
    assert (kept[0], kept[-1]) == (0.0, 9_999.0)
    assert sum(value >= 9_799.0 for value in kept) == 50


def _measured(p99: float) -> Results:
    part = Part("latency", "Latency", "how")
    part.add(SYSTEMS["realtime-all"].title, "1,000 events/s", "p99", "ms", [p99])
    return Results({"Python": "3"}, {"latency": part})


@pytest.mark.parametrize(("p99", "verdict"), [(100.0, "held"), (100.1, "**missed**")])
def test_a_bound_says_what_is_missed(p99: float, verdict: str) -> None:
    bound = Bound("p99", latency("realtime-all", "p99"), 100.0, False, " ms")
    assert bound.judge(_measured(p99)) == (f"{p99:.3g} ms", verdict)


def test_what_was_not_measured_says_so() -> None:
    assert {bound.judge(Results({}))[1] for bound in BOUNDS} == {"not measured"}


def test_results_come_back_as_they_were(tmp_path: Path) -> None:
    measured = _measured(5.0)
    measured.parts["latency"].distributions.append(("a", "b", [1.0, 2.0]))
    measured.save(tmp_path / "deep" / "results.json")
    assert results.load(tmp_path / "deep" / "results.json") == measured


def test_a_later_round_adds_repeats() -> None:
    part = Part("drain", "Drain", "how")
    for value in (3.0, 9.0, 4.0):
        part.add("ours", "2 events", "cold", "events/s", [value])
    assert [figure.repeats for figure in part.figures] == [[3.0, 9.0, 4.0]]
    assert part.get("ours", "2 events", "cold") == 4.0


def test_the_page_has_every_figure_and_every_note() -> None:
    measured = _measured(5.0)
    measured.parts["latency"].add("peer", "1,000 events/s", "p99", "ms", [1.0, 2.0, 3_000.0])
    measured.parts["latency"].notes.append("Quix Streams: left out")
    page = report.page(measured, "make bench")
    assert "| peer | 1,000 events/s | 2 (1-3,000) |" in page
    assert "- Quix Streams: left out" in page
    assert "- Python: 3" in page


def test_every_system_has_a_title_of_its_own() -> None:
    assert len({system.title for system in SYSTEMS.values()}) == len(SYSTEMS)


def test_a_part_that_runs_apart_hands_its_figures_over() -> None:
    part, watch = Part("cost", "Cost", "how"), Watch(expected_s=1.0)
    for line in ("noise of a library\n", '{"figure": ["a", "b", "rows/s", "", [1.0, 3.0]]}\n', '{"note": "left out"}\n', '{"say": "on"}\n'):
        apart.take(line, part, watch)
    assert part.get("a", "b", "rows/s") == 2.0
    assert part.notes == ["left out"]


def test_a_part_that_dies_says_its_last_word(tmp_path: Path) -> None:
    part = Part("cost", "Cost", "how")
    apart.run("flink", [], part, Watch(expected_s=1.0), log=tmp_path / "log")
    assert part.notes == [f"flink : ended with exit code 1: {sys.executable}: No module named benchmarks.flink"]


def test_only_systems_of_the_plan_can_be_asked_for() -> None:
    kept = suite.only(suite.QUICK, ["quix", "bytes"])
    assert (kept.latency.systems, kept.drain.systems) == (("quix",), ("quix", "bytes"))
    assert suite.only(suite.FULL, None, [500]).latency.rates == ((500, 4.0),)
    with pytest.raises(SystemExit, match="--rates: got"):
        suite.only(suite.FULL, None, [7])
    with pytest.raises(SystemExit, match="unknown: flink; known: realtime"):
        suite.only(suite.FULL, ["flink"])


@pytest.mark.parametrize("plan", [suite.QUICK, suite.FULL], ids=["quick", "full"])
def test_every_bound_of_a_part_that_is_measured_can_be_judged(plan: suite.Plan) -> None:
    assert set(plan.parts) <= set(suite.PARTS)
    assert {*plan.latency.systems, *plan.drain.systems} <= set(SYSTEMS)
    assert plan.latency.rates[0][0] == 1_000


def test_the_model_in_scikit_learn_answers_as_the_weights_say() -> None:
    def ask(rows: Sequence[linear.Row]) -> list[float]:
        return [0.5 + {"a": 0.25, "b": -2.0}[row["c"]] + 0.125 * row["n"] for row in rows]

    weights = linear.read_off(ask, {"c": ["a", "b"]}, {"n": 3.0})
    rows = [{"c": "b", "n": 7.0, "customer_id": "C1"}, {"c": "a", "n": -1.0, "customer_id": "C2"}]
    expected = 1.0 / (1.0 + np.exp(-np.array(ask(rows))))
    assert linear.dict_pipeline(weights).predict_proba(rows)[:, 1] == pytest.approx(expected, rel=1e-12)
    assert linear.frame_pipeline(weights).predict_proba(pd.DataFrame(rows))[:, 1] == pytest.approx(expected, rel=1e-12)


def test_the_heap_in_use_is_read_off_what_jcmd_prints() -> None:
    said = " garbage-first heap   total 262144K, used 131072K [0x0000000080000000, 0x0000000100000000)\n  region size 1024K"
    assert soak.heap_of(said) == 128.0
    with pytest.raises(ValueError, match="no line of the heap"):
        soak.heap_of("Metaspace used 1K")


@dataclass(frozen=True)
class Says:
    """A system that runs a line of Python."""

    code: str
    title: str = "says"
    answers: bool = False
    learns: bool = False
    realtime: bool = False

    def missing(self) -> None:
        return None

    def commands(self, place: Place) -> list[list[str]]:
        return [[sys.executable, "-c", self.code]]

    def environment(self) -> Mapping[str, str]:
        return {}


def _place(folder: Path) -> Place:
    return Place("localhost:1", "in", "out", folder, folder, "1 minute")


def test_a_system_that_ends_by_itself_is_not_measured(tmp_path: Path) -> None:
    with running(Says("print('no model here')"), _place(tmp_path)) as job, pytest.raises(Stopped, match="ended by itself: no model here"):
        job.wait_for(lambda: False, within_s=60.0, what="anything")


def test_a_system_tells_how_far_it_is_and_is_gone_afterwards(tmp_path: Path) -> None:
    says = Says("""import time; print('noise'); print('{"rows": 5, "at": 1.0}', flush=True); time.sleep(600)""")
    with running(says, _place(tmp_path)) as job:
        job.wait_for(lambda: bool(job.told()), within_s=60.0, what="a line")
        assert job.told() == [{"rows": 5, "at": 1.0}]
        assert job.cpu_s() > 0.0
        with pytest.raises(Stopped, match="answers: not within 0 s"):
            job.wait_for(lambda: False, within_s=0.0, what="answers")
    assert job.processes[0].poll() is not None


def test_a_peer_that_is_not_installed_says_how_to_install_it() -> None:
    peer = Script("Flink", "flink", needs=("no_such_package",), group="bench-flink")
    assert peer.missing() == "Flink: left out; to install it: make bench-peers"


def test_scaling_changes_one_thing_at_a_time(tmp_path: Path) -> None:
    plan = scaling.Plan(cores=(1, 2), partitions=(16,), models=(1, 3), events=10, cap_s=1.0)
    trees = {setting: (system.configuration(_place(tmp_path)), partitions) for setting, system, partitions in scaling.settings(plan)}
    assert list(trees) == ["1 core, 2 partitions", "2 cores, 2 partitions", "16 partitions", "1 model", "3 models"]
    assert trees["1 core, 2 partitions"][0]["spark"] == {"master": "local[1]"}
    assert trees["16 partitions"] == (trees["1 model"][0], 16)
    assert [learner["name"] for learner in trees["3 models"][0]["learners"]] == ["churn-online-0", "churn-online-1"]
    assert all(cfg.parse(tree) for tree, _ in trees.values())


def test_every_way_to_run_the_service_is_a_valid_configuration(tmp_path: Path) -> None:
    ours = [system for system in (*SYSTEMS.values(), crayfish.OURS) if isinstance(system, Ours)]
    assert len(ours) == 7
    for system in ours:
        config = cfg.parse(system.configuration(_place(tmp_path)))
        assert (config.score.mode, bool(config.learners)) == (system.mode, system.learns)


def test_the_command_line_of_the_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["suite", "--quick", "--parts", "drain", "--systems", "quix", "--rates", "500", "--rounds", "2"])
    given = suite.arguments()
    assert (given.quick, given.parts, given.systems, given.rates, given.rounds) == (True, ["drain"], ["quix"], [500], 2)


def test_what_was_measured_before_a_stop_stands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(home: Path, plan: suite.Plan, part: Part, watch: Watch) -> None:
        part.add("ours", "1 event", "p50", "ms", [3.0])
        sys.exit("stopped")

    monkeypatch.setitem(suite.PARTS, "latency", suite.Measured("Latency", "how", run))
    part = suite.begin("latency", 1)
    with pytest.raises(SystemExit):
        suite.measure(part, tmp_path, suite.QUICK, Watch(expected_s=1.0))
    assert (part.get("ours", "1 event", "p50"), part.notes) == (3.0, ["stopped before the end"])
