"""The long-running job: what it needs, its lanes started, watched, and stopped cleanly."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import Final

from streaming import monitor
from streaming.config.load import Config
from streaming.job import preflight
from streaming.job.start import start
from streaming.job.stop import stop as stop_lanes
from streaming.job.supervise import watch
from streaming.lanes import learn, score, store
from streaming.learning.claim import claim
from streaming.learning.publish import Publisher
from streaming.monitor.progress import Progress
from streaming.runtime import files, session, signals, spark

log = logging.getLogger(__name__)

LANES: Final = (score.LANE, store.LANE, learn.LANE, monitor.LANE)


def serve(
    config: Config,
    *,
    lanes: Collection[str] | None = None,
    source: str = "config",
    stop: threading.Event | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> None:
    """Run the lanes until `stop` is set, then stop them cleanly and return. `lanes` None: all that the config has work for.

    Raises the error of the first lane that dies, after stopping the others: TerminalError or TransientError.
    """
    stop = stop or threading.Event()
    lanes = default_lanes(config) if lanes is None else lanes
    with session.running(config) as active, ExitStack() as held:
        if spark.submitted():
            signals.on_sigterm(active, stop.set)
        ready = preflight.demand(active, config, lanes=lanes, source=source)
        state = files.folder(config.state, lambda: active)
        if learn.LANE in lanes:
            held.enter_context(claim(state))
        publisher = Publisher(ready.learning, state, config.events.topic) if config.learners else None
        running = start(ready, config, lanes, publisher)
        model = f"{config.model.name}:{config.model.version}"
        log.info("started name=%s lanes=%s mode=%s model=%s", config.name, ",".join(lanes), ready.mode, model)
        try:
            asked = publisher if learn.LANE in lanes else None
            watch(ready.spark, config, running, stop, on_progress or _log, asked)
        finally:
            stop_lanes(running)
    log.info("stopped name=%s", config.name)


def default_lanes(config: Config) -> tuple[str, ...]:
    """The lanes that a config has work for: `learn` only when there are learners, `monitor` only with that section."""
    idle = {learn.LANE: not config.learners, monitor.LANE: config.monitor is None}
    return tuple(name for name in LANES if not idle.get(name))


def _log(progress: Progress) -> None:
    log.info("%s", progress.line())
