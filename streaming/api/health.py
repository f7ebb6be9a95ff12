"""What the page *Health* shows: lanes and learners as the job tells them, windows as the monitor wrote them. No event value is in it.

The job is asked over its port (`job.host`, `job.port`), the windows are read from the state folder when it is on this
machine. What cannot be had is left out and said in words: a page about health must work when something is ill.
"""

from __future__ import annotations

import json
import logging
import math
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from streaming.config.load import Config
from streaming.monitor import overview
from streaming.monitor.history import ALERTS, COUNTS, HISTORY, History
from streaming.monitor.overview import PastWindow
from streaming.monitor.record import iso
from streaming.runtime.files import LocalFolder, is_local, local_path

log: Final = logging.getLogger(__name__)

#: How long the job may take to answer; it is on this machine or near.
_ANSWER_S: Final = 2.0
#: Windows that the page draws: four hours of five minutes.
WINDOWS: Final = 48
#: Figures of a window that are listed: the greatest of each.
_FIGURES: Final = 12

#: Batches that told something are read back so far: of each rule the newest counts.
_ALERTS: Final = 200
_SAID: Final = ("on", "severity", "since", "model_version", "says", "next", "silenced")

#: What the job's metrics call it -> what the page calls it.
_OF_LANES: Final = {
    "streaming_lane_lag_records": "behind",
    "streaming_lane_lag_seconds": "behind_s",
    "streaming_lane_records_total": "records",
}

Get = Callable[[str], bytes]


@dataclass(frozen=True)
class HealthSource:
    """Where health is looked up. `jobs`: addresses at which the job may answer, none when it has no port; `state`: local, or None.

    `name`: the job that is meant; another one that answers is passed over. Empty: whichever answers.
    """

    jobs: Sequence[str]
    state: str | None
    get: Get
    name: str = ""

    @classmethod
    def of(cls, config: Config) -> HealthSource:
        """As the configuration says: the API stands beside the job, or `api.job` says where that is."""
        host = "127.0.0.1" if config.job.host in ("0.0.0.0", "::") else config.job.host
        near = [f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}" for port in config.job.ports() if port]
        state = config.state if is_local(config.state) else None
        return cls([config.api.job] if config.api.job else near, state, fetch, config.name)

    def report(self) -> dict[str, Any]:
        """Everything that the page shows."""
        return {"job": self._job(), "windows": self._windows()}

    def _job(self) -> dict[str, Any]:
        if not self.jobs:
            return {"answers": False, "words": "the job has no port that could be asked; set job.port, or api.job where it is elsewhere"}
        other = ""
        for address in self.jobs:
            try:
                ready, metrics = json.loads(self.get(f"{address}/readyz")), self.get(f"{address}/metrics").decode()
                told = of_job(ready, metrics)
            except (OSError, ValueError, LookupError, TypeError, AttributeError) as silent:  # nobody, or somebody else's service
                log.debug("the job does not answer at %s: %s", address, silent)
                continue
            if told["about"].get("name", self.name) == self.name or not self.name:
                return {"answers": True, **told}
            other = f"; at {address} answers the job {told['about']['name']}: give each job a job.port of its own"
        log.info("the job does not answer at %s", ", ".join(self.jobs))
        return {"answers": False, "words": f"the job does not answer; is it running? (streaming serve){other}"}

    def _windows(self) -> dict[str, Any]:
        if self.state is None:
            return _no_windows("the state folder is not on this machine; streaming drift CONFIG shows the windows")
        folder = local_path(self.state) / "monitor"
        history = History(LocalFolder(folder / HISTORY), LocalFolder(folder / COUNTS), LocalFolder(folder / ALERTS))
        try:
            seen = overview.windows(history.table(last=WINDOWS))
            told = history.alerts(last=_ALERTS)
        except (OSError, ValueError) as broken:
            log.warning("the history cannot be read: %s", broken)
            return _no_windows("the history of the monitor cannot be read; the log of this service says why")
        words = "" if seen else "the monitor has published no window yet; it runs when the configuration has a section monitor"
        return {"words": words, "list": [of_window(each) for each in seen], "alerts": raised(told)}


def _no_windows(words: str) -> dict[str, Any]:
    return {"words": words, "list": [], "alerts": []}


def raised(told: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of all that was told, oldest first, the alerts that are not over: what, since when, and what to do next."""
    newest = {alert["on"]: alert for alert in told}
    return [{name: alert[name] for name in _SAID} for alert in newest.values() if alert["state"] == "raised"]


def fetch(url: str) -> bytes:
    """The body of an answer, be the job ready (200) or not (503). OSError when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=_ANSWER_S) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as told:
        if told.code != 503:
            raise
        return told.read()


def of_job(ready: Mapping[str, Any], metrics: str) -> dict[str, Any]:
    """The job's own words (/readyz) with the figures that stand in its metrics."""
    samples = list(_samples(metrics))
    lanes = [{"lane": name, **status, **_figures(samples, name)} for name, status in ready["lanes"].items()]
    return {"status": ready["status"], "lanes": lanes, "learners": _learners(samples), "about": _about(samples), "alerts": _alerts(samples)}


def _samples(metrics: str) -> Iterator[Sample]:
    for family in text_string_to_metric_families(metrics):
        yield from family.samples


def _figures(samples: Sequence[Sample], lane: str) -> dict[str, float]:
    return {_OF_LANES[s.name]: s.value for s in samples if s.name in _OF_LANES and s.labels.get("lane") == lane and math.isfinite(s.value)}


def _learners(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    made: dict[str, dict[str, Any]] = {}
    for s in samples:
        name = s.labels.get("learner")
        if name is None or not math.isfinite(s.value):
            continue
        learner = made.setdefault(name, {"learner": name, "metrics": {}})
        if s.name == "streaming_learner_version":
            learner["version"] = int(s.value)
        elif s.name == "streaming_learner_frozen":
            learner["frozen"] = bool(s.value)
        elif s.name == "streaming_learner_metric":
            learner["metrics"][s.labels["metric"]] = s.value
    return list(made.values())


def _about(samples: Sequence[Sample]) -> dict[str, str]:
    return next((dict(s.labels) for s in samples if s.name == "streaming_job_info"), {})


def _alerts(samples: Sequence[Sample]) -> list[dict[str, str]]:
    return [dict(s.labels) for s in samples if s.name == "streaming_alerts_active" and s.value > 0]


def of_window(seen: PastWindow) -> dict[str, Any]:
    """A window for people: how much, what drifted, how good the answers were and were expected to be. Slices by number, not by value."""
    return {
        "start": iso(seen.start),
        "end": iso(seen.end),
        "judged": seen.judged,
        **{name: seen.value("window", name) for name in ("rows", "answers", "labels")},
        "rejected": seen.value("rejected", "rate", subject=""),
        "drift": [_figure(row) for row in _greatest(seen)],
        "drifted": [_figure(row) for row in overview.by_themselves(seen.drifted)[:_FIGURES]],
        "carriers": [{"subject": name, "share": share} for name, share in seen.carriers()[:_FIGURES] if share > 0.0],
        "quality": [_measured(row) for row in seen.rows if row["kind"] in ("truth", "estimate") and not row["slice"]],
    }


def _greatest(seen: PastWindow) -> list[Mapping[str, Any]]:
    """Of every column and answer the figure with the greatest excess, the greatest first."""
    best: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in seen.rows:
        about = (row["kind"], row["subject"])
        if row["kind"] in ("feature", "prediction") and not row["slice"] and row["threshold"]:
            best[about] = max(best.get(about, row), row, key=overview.excess)
    return sorted(best.values(), key=overview.excess, reverse=True)[:_FIGURES]


def _figure(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("kind", "subject", "slice", "statistic", "value", "threshold", "drifted")} | {
        "excess": overview.excess(row)
    }


def _measured(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"source": row["kind"], "model": row["subject"], "metric": row["statistic"], **{n: row[n] for n in ("value", "low", "high")}}
