"""The long-running job: what it needs, its lanes started, watched, and stopped cleanly."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from streaming import monitor
from streaming.config.load import Config
from streaming.config.values import seconds
from streaming.job import endpoint, preflight
from streaming.job.report import Reporter
from streaming.job.start import lanes_of
from streaming.job.stop import stop as stop_lanes
from streaming.job.supervise import Supervisor
from streaming.kafka.groups import groups
from streaming.kafka.tail import tail
from streaming.lanes import learn, score, store
from streaming.learning import live_weights
from streaming.learning.publish import Publisher
from streaming.learning.teach import Learned
from streaming.monitor import spans
from streaming.monitor.health import Health
from streaming.monitor.metrics import JobMetrics
from streaming.monitor.progress import Progress
from streaming.runtime import audit, files, session, signals, spark
from streaming.runtime.claim import claim

log = logging.getLogger(__name__)

LANES: Final = (score.LANE, store.LANE, learn.LANE, monitor.LANE)

#: How often the lanes are looked at.
_LOOK_EVERY_S: Final = 0.5
#: The lane that the job is for is planned within this; the line that says "started" does not wait longer for anything.
_STARTED_WITHIN_S: Final = 120.0


def serve(
    config: Config,
    *,
    lanes: Collection[str] | None = None,
    source: str = "config",
    stop: threading.Event | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> None:
    """Run the lanes until `stop` is set, then stop them cleanly and return. `lanes` None: all that the config has work for.

    Each lane is watched by itself (streaming.job.supervise). Raises the error that ends the job, after stopping all
    lanes: TerminalError or TransientError.
    """
    stop = stop or threading.Event()
    lanes = default_lanes(config) if lanes is None else lanes
    health = Health(list(lanes), purpose=score.LANE)
    metrics = JobMetrics(lambda: health.statuses, labels={"name": config.name, "model": config.model.name, "version": config.model.version})
    with ExitStack() as held:
        held.enter_context(endpoint.listening(config.job, health, metrics.text))
        active = held.enter_context(session.running(config))
        if spark.submitted():
            signals.on_sigterm(active, stop.set)
        ready = preflight.demand(active, config, lanes=lanes, source=source)
        if ready.monitor is not None:
            ready.monitor.measured_in(metrics.registry)
        state = files.folder(config.state, lambda: active)
        for lane in lanes:
            held.enter_context(claim(state, lane))
        publisher = Publisher(ready.learning, state, config.events.topic, audit=audit.of(config)) if config.learners else None
        if publisher is not None:
            publisher.start(scores=score.LANE in lanes, learns=learn.LANE in lanes)
            if score.LANE in lanes and ready.mode == "realtime":
                held.enter_context(live_weights.followed(active, state, config.state))
        built = lanes_of(ready, config, lanes, publisher, on_learned=lambda learned: _count(metrics, learned))
        supervisor = Supervisor(built, on_failure=config.job.on_lane_failure, is_alive=lambda: _is_alive(active))
        ends, offsets = tail(active, config.kafka), groups(active, config.kafka)
        reporter = Reporter(config.name, ends, offsets, metrics, on_progress or _log, spans.of_environment(config.name))
        held.callback(reporter.close)
        job = _Job(config, supervisor, reporter, health, publisher if learn.LANE in lanes else None, ready)
        job.run(
            stop,
            started=f"started name={config.name} lanes={','.join(lanes)} mode={ready.mode} model={config.model.name}:{config.model.version}",
        )
    log.info("stopped name=%s", config.name)


def default_lanes(config: Config) -> tuple[str, ...]:
    """The lanes that a config has work for: `learn` only when there are learners, `monitor` only with that section."""
    idle = {learn.LANE: not config.learners, monitor.LANE: config.monitor is None}
    return tuple(name for name in LANES if not idle.get(name))


@dataclass(frozen=True)
class _Job:
    """Everything that runs, once it is built. `publisher`: present where this process carries out what people ask of the learners."""

    config: Config
    supervisor: Supervisor
    reporter: Reporter
    health: Health
    publisher: Publisher | None
    ready: preflight.Ready

    def run(self, stop: threading.Event, *, started: str) -> None:
        """Start the lanes, look after them until `stop` is set, and stop them. Raises the error that ends the job."""
        patience_s = 0.0
        try:
            self.supervisor.start()
            self._await_start(stop)
            log.info("%s", started)
            self._watch(stop)
            patience_s = seconds(self.config.job.stop_within)  # asked to stop, in peace
        finally:
            stop_lanes(self.supervisor, within_s=patience_s)
            for lane in self.supervisor.lanes:
                self.reporter.report(lane)  # the last batch of each
            self.health.update(self.supervisor.statuses)

    def _await_start(self, stop: threading.Event) -> None:
        """Until the job does what it is for, or cannot. Other lanes that are still being started are not waited for."""
        deadline = time.monotonic() + _STARTED_WITHIN_S
        while not stop.wait(0.05) and time.monotonic() < deadline:
            self.health.update(self.supervisor.look())
            vital = [lane.status.state for lane in self.supervisor.lanes if lane.lane.vital]
            if "running" in vital or (not vital and all(each.state != "starting" for each in self.supervisor.statuses)):
                return

    def _watch(self, stop: threading.Event) -> None:
        """Report every batch, look at every lane, and carry out what people ask."""
        told = ""
        while not stop.wait(_LOOK_EVERY_S):
            if self.publisher is not None and (failed := _carry_out(self.publisher)) != told:
                told = failed
                if failed:
                    log.warning("requests to the learners are not carried out now: %s", failed)
            for lane in self.supervisor.lanes:
                self.reporter.report(lane)
            keep_up(self.ready, self.reporter.partitions)
            self.health.update(self.supervisor.look())


def keep_up(ready: preflight.Ready, partitions: Mapping[str, int]) -> None:
    """Take notice of partitions that the events topic has been given since: `partitions` by topic, as they are now.

    EnvironmentFailure when real-time mode, which holds a slot for each of them, would leave the other lanes none.
    """
    topic = ready.config.events.topic
    before, now = ready.partitions.get(topic, 0), partitions.get(topic, 0)
    if now > before and score.LANE in ready.lanes:
        ready.partitions[topic] = now
        log.warning("topic=%s partitions=%d were=%d: %s", topic, now, before, preflight.slots(ready))


def _carry_out(publisher: Publisher) -> str:
    """What people asked of the learners; why it could not be done, empty when it was. What cannot be read now is read at the next look."""
    try:
        publisher.carry_out()
    except Exception as error:
        # Whatever is wrong with a learner's files ends neither scoring nor storing. The lane that learns meets it too and tells.
        return f"{type(error).__name__}: {error}"
    return ""


def _is_alive(active: SparkSession) -> bool:
    try:
        return not active.sparkContext._jsc.sc().isStopped()
    except (Py4JError, OSError, AttributeError):
        return False


def _count(metrics: JobMetrics, learned: Learned) -> None:
    meta = learned.snapshot.meta
    metrics.learner(
        learned.name,
        version=meta.version,
        learned=0 if learned.repeated else meta.learned,
        skipped=learned.skipped,
        frozen=meta.frozen is not None,
        metrics=meta.metrics,
    )


def _log(progress: Progress) -> None:
    log.info("%s", progress.line())
