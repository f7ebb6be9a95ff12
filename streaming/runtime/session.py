"""Spark sessions: started as a config wants them, and stopped without a stack trace."""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from streaming.config.load import Config
from streaming.errors import EnvironmentFailure
from streaming.runtime import files, jars, java, jvm_names, spark, spark_log

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

#: The modules that starting a session imports.
_STARTING: Final = ("pyspark.sql", "pyspark.java_gateway", "pyspark.sql.classic.dataframe", "pyspark.sql.context")
#: One start at a time: whoever comes second gets what the first has started.
_ONE: Final = threading.Lock()


@contextmanager
def running(config: Config, *, delta: bool = False) -> Iterator[SparkSession]:
    """The session of a job, with enough task slots for its lanes; stopped at the end. `delta`: Delta tables are read or written."""
    active = of_job(config, delta=delta)
    try:
        yield active
    finally:
        stop(active)


@contextmanager
def lazily(config: Config) -> Iterator[Callable[[], SparkSession]]:
    """A session that starts only when it is asked for: a state folder on this machine needs none."""
    with ExitStack() as stack:
        yield functools.cache(lambda: stack.enter_context(running(config)))


@contextmanager
def ahead(config: Config) -> Iterator[None]:
    """Spark starts while the block imports what will use it: each takes seconds, and most machines have two cores.

    :func:`running` waits for it and gives the session that was started; what kept it from starting it finds, and raises, by itself.
    """
    if spark.submitted():
        yield
        return
    # What the start itself imports is imported first: no two threads must ever import each other's half-made modules.
    for module in _STARTING:
        import_module(module)
    starting = threading.Thread(target=_quietly, args=(config,), name="spark-start", daemon=True)
    starting.start()
    try:
        yield
    finally:
        starting.join()


def _quietly(config: Config) -> None:
    try:
        of_job(config)
    except Exception as failed:
        log.debug("Spark did not start ahead: %s", failed)


def of_job(config: Config, *, slots: int = spark.LOCAL_SLOTS, delta: bool = False) -> SparkSession:
    """Start Spark as the config wants it. Spark's own log goes to `state`/logs/spark.log when `state` is local."""
    target = files.local_path(config.state) / "logs" / "spark.log" if files.is_local(config.state) else None
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
    master = config.spark.master or f"local[{slots}]"
    options = (spark.LOCAL_STATE if target is not None else {}) | {spark.COPIES: f"{config.state}/models"} | config.spark.options
    return start(config.name, master=master, options=options, delta=delta or config.store.kind == "delta", log=target)


def start(
    app_name: str, *, master: str | None = None, options: Mapping[str, str] | None = None, delta: bool = False, log: Path | None = None
) -> SparkSession:
    """Start (or get) the session. `log`: where the JVM's own log goes; nothing of it reaches the screen.

    Raises EnvironmentFailure when Java is missing or too old, or when the jars cannot be had.
    """
    from pyspark.sql import SparkSession

    everything = spark.settings(delta=delta) | dict(options or {})
    if not spark.submitted():
        java.java_command()
        os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        local = spark.local_settings(jars.resolve("spark")) | {"spark.master": master or "local[4]", "spark.app.name": app_name}
        # What the JVM makes has the modes of what this process makes; Hadoop would set its own.
        everything = local | {"spark.hadoop.fs.permissions.umask-mode": f"{files.umask():03o}"} | everything
        with _ONE:
            _start_context(everything, log)
    builder = SparkSession.builder.appName(app_name)
    for key, value in everything.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def _start_context(settings: Mapping[str, str], log: Path | None) -> None:
    """Start JVM and context, unless they are there. The JVM's command line, which everybody on this machine can read, gets
    only what a JVM must know when it starts; the rest follows over the socket that this process alone may use.
    """
    from pyspark import SparkConf, SparkContext
    from pyspark.java_gateway import launch_gateway

    if SparkContext._active_spark_context is not None:
        return
    try:
        if SparkContext._gateway is None:
            visible = SparkConf(loadDefaults=False).setAll(list(spark.on_command_line(settings).items()))
            with spark_log.redacted(log) as stderr:
                SparkContext._gateway = launch_gateway(visible, {"stderr": stderr})  # type: ignore[no-untyped-call]
                jvm_names.remember(SparkContext._gateway)
                SparkContext._jvm = SparkContext._gateway.jvm
        SparkContext(conf=SparkConf().setAll(list(settings.items())))
    except Exception as failed:
        raise EnvironmentFailure(
            f"Spark did not start: {failed}; {'its log is on stderr' if log is None else f'its log is {log}'}"
        ) from failed


def stop(active: SparkSession) -> None:
    """Stop Spark; a JVM that is already gone is stopped enough."""
    from py4j.protocol import Py4JError

    try:
        active.stop()
    except (Py4JError, OSError):
        log.debug("spark was gone already")
