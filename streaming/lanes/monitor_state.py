"""What the MONITOR lane holds: its states by batch number, the published windows, and how they are judged."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from streaming.config.load import Config
from streaming.config.values import seconds
from streaming.errors import StateError
from streaming.monitor import LANE, windows
from streaming.monitor.baseline import Baseline
from streaming.monitor.gauges import MonitorGauges
from streaming.monitor.history import ALERTS, COUNTS, HISTORY, History
from streaming.monitor.record import Record, Settings
from streaming.monitor.watched import watched
from streaming.monitor.windows import State, Watch
from streaming.runtime.files import Folder

log = logging.getLogger(__name__)

#: Below the state folder: the windows, and the states by batch number.
FOLDER: Final = "monitor"
_STATES: Final = "states"
_STARTED: Final = "started"
_IN_FORCE: Final = "baseline_in_force.json"
#: States that are kept: Spark repeats the last batch, never an older one.
_KEPT: Final = 3


@dataclass
class States:
    """The lane's states by batch number, in `folder`; the first batch starts from nothing."""

    folder: Folder
    #: The newest state, so that it need not be read again.
    last: tuple[int, State] | None = None

    def before(self, n: int, watch: Watch) -> State:
        """The state after batch n - 1. StateError when it is gone: going on without it would lose windows silently."""
        if self.last is not None and self.last[0] == n - 1:
            return self.last[1]
        first = self.folder.read(_STARTED)
        if first is None:
            self.folder.create(_STARTED, str(n).encode())
        if first is None or int(first) == n:
            return State.empty(watch)
        content = self.folder.read(_file(n - 1))
        if content is None:
            raise StateError(
                f"monitor: no state after batch {n - 1}; expected the file {_file(n - 1)} in {FOLDER}/{_STATES} of the state folder; "
                f"restore the folder, or delete both {FOLDER}/{_STATES} and checkpoints/{LANE} to watch anew from now on"
            )
        state = windows.from_bytes(content)
        if state.identity == watch.identity:
            return state
        log.warning("monitor: another baseline, other models or another window than before: the windows begin anew with batch %d", n)
        return State.empty(watch)

    def has(self, n: int) -> bool:
        """Whether batch `n` has been carried out whole."""
        return self.folder.read(_file(n)) is not None

    def add(self, n: int, state: State) -> None:
        """Write the state after batch `n`; what somebody else wrote first stands."""
        self.folder.create(_file(n), windows.to_bytes(state))
        self.last = (n, state)
        self.folder.delete(_file(n - _KEPT))


def _file(n: int) -> str:
    return f"{n:010d}.npz"


@dataclass
class Watcher:
    """All that the lane holds while it runs."""

    config: Config
    watch: Watch
    states: States
    history: History
    #: The job's state folder.
    state: Folder
    #: The name of the config in what people are told to type.
    source: str = "CONFIG"
    settings: Settings = field(default_factory=Settings)
    gauges: MonitorGauges = field(default_factory=MonitorGauges)
    #: The start of the newest window that the gauges show.
    shown: int = -1

    def show(self, records: Sequence[Record], beside: Mapping[str, Any]) -> None:
        """Let the gauges show the newest of these windows, unless they show a newer one, and the alerts that are raised."""
        assert self.config.monitor is not None
        severities = {rule.on: rule.severity for rule in self.config.monitor.alerts.rules}
        memory = beside.get("alerts", {})
        raised = {str(on): str(severity) for on, severity in severities.items() if memory.get(on, {}).get("raised")}
        newest = max(records, key=lambda record: record.start, default=None)
        if newest is not None and newest.start >= self.shown:
            self.shown = newest.start
            self.gauges.show(newest, raised)


def open_watcher(config: Config, baseline: Baseline, state: Folder, *, source: str = "CONFIG") -> Watcher:
    """What the lane needs, from the config, the baseline and the job's state folder. ConfigError when they do not fit."""
    assert config.monitor is not None
    section, own = config.monitor, state.below(FOLDER)
    delay = 0.0 if config.labels is None else seconds(config.labels.max_delay)
    watch = Watch(
        baseline=baseline,
        models=watched(config, baseline),
        window=round(seconds(section.window) * 1000),
        least_rows=section.least_rows,
        horizon=round(max(delay, 2 * seconds(section.window)) * 1000),
        waiting=section.waiting,
    )
    limits = {str(name): limit for name, limit in section.thresholds.items()}
    settings = Settings(limits, section.alpha, limits.pop("rejected", Settings.rejected))
    return Watcher(config, watch, States(own.below(_STATES)), history(state), state, source, settings)


def history(state: Folder) -> History:
    """The published windows of the job whose state folder it is."""
    own = state.below(FOLDER)
    return History(own.below(HISTORY), own.below(COUNTS), own.below(ALERTS))


def keep_in_force(state: Folder, baseline: Baseline) -> None:
    """Write down which baseline the windows are held against: reports show it, whatever becomes of the model's files."""
    state.below(FOLDER).replace(_IN_FORCE, baseline.to_bytes())


def baseline_in_force(state: Folder) -> Baseline | None:
    """The baseline of the newest start of the lane; None before the first."""
    content = state.below(FOLDER).read(_IN_FORCE)
    return None if content is None else Baseline.from_json(json.loads(content), where=f"{FOLDER}/{_IN_FORCE}")
