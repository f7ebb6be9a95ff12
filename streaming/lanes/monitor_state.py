"""What the MONITOR lane holds: its states by batch number, the published windows, and how they are judged."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
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
_BASE: Final = "first_revision"
_IN_FORCE: Final = "baseline_in_force.json"
#: States that are kept: Spark repeats the last batch, never an older one.
_KEPT: Final = 3


@dataclass
class States:
    """The lane's states by batch number, in `folder`; the first batch starts from nothing."""

    folder: Folder
    #: Asked for the greatest revision in the history; -1: there is none.
    newest_revision: Callable[[], int] = lambda: -1
    #: The newest state, so that it need not be read again.
    last: tuple[int, State] | None = None
    base: int | None = None

    def before(self, n: int, watch: Watch) -> State:
        """The state after batch n - 1. StateError when it is gone: going on without it would lose windows silently."""
        if self.last is not None and self.last[0] == n - 1:
            return self.last[1]
        first = self.folder.read(_STARTED)
        if first is None or int(first) == n:
            self._begin(n)
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

    def _begin(self, n: int) -> None:
        """Start from nothing at batch `n`. States of later numbers are those of an earlier life, whose checkpoint was deleted: a
        batch of this life must not be taken for one of theirs, nor its revisions for older ones."""
        stale = [name for name in self.folder.names() if name.endswith(".npz")]
        if stale or self.folder.read(_STARTED) is None:
            self.folder.replace(_BASE, str(self.newest_revision() + 1 - n).encode())
        for name in stale:
            self.folder.delete(name)
        self.folder.create(_STARTED, str(n).encode())

    def revision(self, n: int) -> int:
        """The number of the revisions that batch `n` writes: greater than all before, whichever life of the lane wrote them."""
        if self.base is None:
            self.base = int(self.folder.read(_BASE) or b"0")
        return self.base + n

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

    def tidy(self, newest: int) -> None:
        """Remove windows that are older than the history keeps, when the newest arrival was at `newest`, ms since 1970."""
        assert self.config.monitor is not None
        self.history.tidy(before=newest - round(seconds(self.config.monitor.keep) * 1000))

    def show(self, records: Sequence[Record], beside: Mapping[str, Any]) -> None:
        """Let the gauges show the newest of these windows, unless they show a newer one, and the alerts that are raised."""
        assert self.config.monitor is not None
        self.gauges.measured(records)
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
    published = history(state)
    return Watcher(config, watch, States(own.below(_STATES), published.newest_revision), published, state, source, settings)


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
