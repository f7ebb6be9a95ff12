"""The demo: a real broker, a trained churn pipeline, the real job, real traffic, and a balance that has to come out."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from kafka import KafkaConsumer, KafkaProducer
from rich.console import Console

from streaming import config as cfg
from streaming.config.stores import SqliteSection
from streaming.demo import churn, display
from streaming.demo.audience import JobOutput, watch
from streaming.demo.traffic import Sent, Topics, produce
from streaming.embedded.broker import running_broker
from streaming.errors import EnvironmentFailure, TransientError

CONFIG: Final = Path("conf") / "demo.yaml"
_TRAINING_ROWS: Final = 20_000
_PARTITIONS: Final = 2
_SEED: Final = 7
#: In the second half the prices are this many times what they were: a drift of the data, beside that of what customers think.
_PRICE_RISE: Final = 1.25
#: The truth about an event comes this much later: seconds, as in a demo; in life it may be weeks.
_LATE: Final = churn.LateLabels(mean_s=1.0, max_s=4.0)
#: Events sent before the clock starts, so that the latency shown is not that of a JVM that is still warming up.
_WARM_UP: Final = 500
#: How long the job may take to answer the last events, and to start.
_PATIENCE_S: Final = 240.0


def demo(*, seconds: int, rate: int, home: Path, console: Console | None = None) -> int:
    """Run the demo and return its exit code: 0 only if every event sent is predicted or rejected, and the store agrees."""
    screen = console or Console()
    home = home.absolute()
    run = home / "run"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    display.welcome(screen, seconds=seconds, rate=rate)
    with ExitStack() as stack:
        with display.step(screen, "Starting a Kafka broker"):
            broker = stack.enter_context(running_broker(data=run / "kafka"))
        path = run / "demo.yaml"
        # Written out in full, so that every command works with it after the demo.
        text = _config_file().read_text().replace("${env:DEMO_BROKER}", broker.bootstrap_servers).replace("${env:DEMO_HOME}", str(home))
        path.write_text(text)
        config = cfg.load(path)
        _prepare(screen, config, home, path)
        with display.step(screen, "Starting the job (streaming serve conf/demo.yaml)"):
            job = stack.enter_context(_job(path, run / "serve.log"))
            _wait_for(job, lambda: "started name=" in (run / "serve.log").read_text(), run / "serve.log")
        sent, seen = _traffic(screen, config, broker.bootstrap_servers, job, seconds=seconds, rate=rate)
        with display.step(screen, "Stopping the job (SIGTERM)"):
            clean = _stop(job)
        return display.summary(screen, config, sent, seen, seconds=seconds, stored=_stored(config), clean=clean)


def _config_file() -> Path:
    path = next((p for p in (CONFIG, Path(__file__).parents[2] / CONFIG) if p.exists()), None)
    if path is None:
        raise EnvironmentFailure(f"{CONFIG}: not found; run the demo from a checkout of the project")
    return path


def _prepare(screen: Console, config: cfg.Config, home: Path, source: Path) -> None:
    """Topics, and the model if there is none yet for these settings."""
    from streaming.kafka import admin
    from streaming.runtime import session
    from streaming.training import run as training

    assert config.train is not None
    settings = home / "model.settings"
    slices = () if config.monitor is None else config.monitor.slices
    wanted = f"{config.train!r} {config.model!r} rows={_TRAINING_ROWS} slices={slices}"
    fresh = not (settings.exists() and settings.read_text() == wanted and Path(config.model.uri).exists())
    what = "Training a churn pipeline on 20,000 customers" if fresh else "Creating topics (the pipeline is trained already)"
    with display.step(screen, what), session.running(config) as spark:
        topics = {topic: 1 if role == "rejected" else _PARTITIONS for role, topic in config.topics().items()}
        admin.create_topics(spark, config.kafka, topics, settings={"message.timestamp.type": "LogAppendTime"})
        if fresh:
            churn.write_training_table(config.train.data, _TRAINING_ROWS, seed=_SEED)
            report = training.train(config.train, config.model, spark, source=str(source), overwrite=True, slices=slices)
            settings.write_text(wanted)
            screen.print(display.indented(report.text()))


@contextmanager
def _job(path: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The real command in a process of its own, ended in any case."""
    with log.open("wb") as target:
        job = subprocess.Popen([sys.executable, "-m", "streaming", "serve", str(path)], stdout=target, stderr=target)
    try:
        yield job
    finally:
        _stop(job)


def _stop(job: subprocess.Popen[bytes]) -> bool:
    """Ask the job to stop; True when it did so with exit code 0."""
    if job.poll() is None:
        job.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            job.wait(60)
    if job.poll() is None:
        job.kill()
        job.wait()
    return job.returncode == 0


def _wait_for(job: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path) -> None:
    """Return when `ready` says so. TransientError when the job ends or takes too long."""
    deadline = time.monotonic() + _PATIENCE_S
    while not ready():
        if job.poll() is not None or time.monotonic() > deadline:
            last = "\n".join(log.read_text().splitlines()[-5:])
            raise TransientError(f"the job {'ended' if job.poll() is not None else 'is not ready'}; the last lines of {log}:\n{last}")
        time.sleep(0.1)


def _traffic(
    screen: Console, config: cfg.Config, servers: str, job: subprocess.Popen[bytes], *, seconds: int, rate: int
) -> tuple[Sent, JobOutput]:
    """Stream events and labels, watch what comes back, and wait until the job has answered them all."""
    assert config.labels is not None
    assert config.labels.topic is not None
    sent, seen, stop = Sent(), JobOutput(), threading.Event()
    producer = KafkaProducer(bootstrap_servers=servers, linger_ms=0)
    topics = Topics(config.events.topic, config.labels.topic)
    answers = {role: topic for role, topic in config.topics().items() if role in {"predictions", "shadow", "rejected"}}
    consumer = KafkaConsumer(*answers.values(), bootstrap_servers=servers, auto_offset_reset="earliest", enable_auto_commit=False)
    drift_at = _WARM_UP + rate * seconds // 2
    stream = churn.stream(
        _SEED + 1, start=datetime.now(UTC), regime_at=lambda i: churn.AFTER if i >= drift_at else churn.BEFORE, late=_LATE
    )
    stream = _dearer(stream, after=drift_at)
    log = Path(config.state).parent / "serve.log"

    def send(rate: int, seconds: float) -> threading.Thread:
        settings = {"rate": rate, "seconds": seconds, "sent": sent, "stop": stop}
        thread = threading.Thread(target=produce, args=(producer, topics, stream), kwargs=settings)
        thread.start()
        return thread

    settings = {"champion": answers["predictions"], "rejected": answers["rejected"], "seen": seen, "stop": stop}
    watching = threading.Thread(target=watch, args=(consumer,), kwargs=settings)
    watching.start()
    making: threading.Thread | None = None
    try:
        with display.step(screen, f"Warming up ({_WARM_UP} events)"):
            making = send(rate, _WARM_UP / rate)
            making.join()
            _wait_for(job, lambda: _answered(sent, seen), log)
            seen.latencies_ms.clear()
            sent.truth.clear()
        sent.drifted_at = datetime.now(UTC) + timedelta(seconds=seconds // 2)
        making = send(rate, seconds)
        display.live(
            screen, sent, seen, seconds=seconds, stored=lambda: len(_stored(config)), busy=lambda: making.is_alive() and job.poll() is None
        )
        with display.step(screen, "Waiting for the last answers"):
            _wait_for(job, lambda: not making.is_alive() and _answered(sent, seen) and _agrees(config, seen), log)
    finally:
        stop.set()
        if making is not None:
            making.join()
        watching.join()
        producer.close()
        consumer.close()
    return sent, seen


def _dearer(stream: Iterator[churn.Occurrence], *, after: int) -> Iterator[churn.Occurrence]:
    """The same events; from number `after` on every customer pays a quarter more."""
    for occurrence in stream:
        raised = round(float(occurrence.event["monthly_charges"]) * _PRICE_RISE, 2)
        yield replace(occurrence, event={**occurrence.event, "monthly_charges": raised}) if occurrence.index >= after else occurrence


def _answered(sent: Sent, seen: JobOutput) -> bool:
    return len(seen.event_ids) + len(seen.rejected_ids) >= sent.total


def _agrees(config: cfg.Config, seen: JobOutput) -> bool:
    stored = _stored(config)
    return len(stored) == len(seen.newest) and all(
        stored[key][0] == prediction["event_id"] for key, prediction in seen.newest.items() if key in stored
    )


def _stored(config: cfg.Config) -> dict[str, tuple[str, float, str]]:
    """What the store holds: customer -> (event_id, prediction, probability)."""
    assert isinstance(config.store, SqliteSection)
    if not Path(config.store.path).exists():
        return {}
    with contextlib.closing(sqlite3.connect(f"file:{config.store.path}?mode=ro", uri=True, timeout=10)) as connection:
        try:
            rows = connection.execute(f"SELECT key, event_id, prediction, probability FROM {config.store.table}").fetchall()
        except sqlite3.OperationalError:  # the job has not made the table yet
            return {}
    return {key: (event_id, prediction, probability) for key, event_id, prediction, probability in rows}
