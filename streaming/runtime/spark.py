"""The SparkSession: jars, slots and settings tuned for three streaming lanes on one machine; a cluster's own settings win."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from streaming.errors import EnvironmentFailure
from streaming.runtime import jars, java

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Settings of every session, on a laptop or under spark-submit.
_ALWAYS: Final = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.streaming.stateStore.providerClass": "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider",
    # The text of the code is made anew for every micro-batch; without the search for common parts that takes half the time,
    # and the guard (streaming.models.spark.guard) keeps what is costly in projections of its own.
    "spark.sql.subexpressionElimination.enabled": "false",
    # A commit writes what has changed, not the whole state.
    "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
    "spark.sql.streaming.metricsEnabled": "false",
    "spark.sql.streaming.stopTimeout": "30s",
    # Below a join Spark derives constraints from every column; over the expressions of a pipeline that takes minutes.
    "spark.sql.constraintPropagation.enabled": "false",
}

#: Settings of a session that runs inside this process. Two shuffle partitions: a micro-batch of some thousand rows
#: is over before more tasks are even scheduled. Loopback: a laptop that changes networks keeps its session.
_LOCAL: Final = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "2g",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.python.worker.reuse": "true",
    "spark.sql.lightweightPlanChangeValidation": "false",
    "spark.log.structuredLogging.enabled": "false",
}

#: DontCompileHugeMethods: the JVM never compiles a method above 8,000 bytes, and the code Spark makes of a wide pipeline
#: is longer; interpreted it is about half as fast. ExitOnOutOfMemoryError: inside a pipeline Spark's compiled functions
#: turn even that error into an exception, which would then look like a bad row.
_JVM: Final = "-XX:+UseG1GC -XX:-DontCompileHugeMethods -XX:+ExitOnOutOfMemoryError"

#: For checkpoints on a local disk. Spark's default asks the shell (readlink, chmod, ls) some twenty times per micro-batch.
LOCAL_STATE: Final = {
    "spark.sql.streaming.checkpointFileManagerClass": (
        "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
    )
}

_DELTA: Final = {
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}


def submitted() -> bool:
    """True when spark-submit started this process: master, memory and jars are its business then."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def session(
    app_name: str, *, master: str | None = None, options: Mapping[str, str] | None = None, delta: bool = False, log: Path | None = None
) -> SparkSession:
    """Start (or get) the session. `log`: where the JVM's own log goes; nothing of it reaches the screen.

    Raises EnvironmentFailure when Java is missing or too old, or when the jars cannot be had.
    """
    from pyspark.sql import SparkSession

    settings = {**_ALWAYS, **(_DELTA if delta else {})}
    builder = SparkSession.builder.appName(app_name)
    if not submitted():
        java.java_command()
        os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        paths = [str(path) for path in jars.resolve("spark")]
        # The driver's class path, not only spark.jars: no copying of 19 MB at every start, and py4j sees the classes.
        settings |= _LOCAL | {"spark.driver.extraClassPath": os.pathsep.join(paths), "spark.driver.extraJavaOptions": _java_options(log)}
        builder = builder.master(master or "local[4]")
    for key, value in (settings | dict(options or {})).items():
        builder = builder.config(key, value)
    with _jvm_stderr_to(log):
        return builder.getOrCreate()


def on_sigterm(active: SparkSession, do: Callable[[], None]) -> None:
    """Under spark-submit the signal goes to the JVM, whose habit is to die with code 143; let it tell us instead."""
    from pyspark.java_gateway import ensure_callback_server_started

    class Handler:
        def handle(self, signal: object) -> None:
            do()

        class Java:
            implements = ("sun.misc.SignalHandler",)

    gateway: Any = active.sparkContext._gateway
    ensure_callback_server_started(gateway)  # type: ignore[no-untyped-call]
    for name in ("TERM", "INT"):
        gateway.jvm.sun.misc.Signal.handle(gateway.jvm.sun.misc.Signal(name), Handler())


@contextmanager
def _jvm_stderr_to(log: Path | None) -> Iterator[None]:
    """Let a JVM that starts in here write its stderr to `log`: it inherits whatever this process has at that moment.

    Spark's shutdown and the JVM's own warnings would otherwise stand between the lines people read.
    """
    if submitted() or log is None:
        yield
        return
    sys.stderr.flush()
    keep = os.dup(2)
    with log.open("ab") as target:
        os.dup2(target.fileno(), 2)
    try:
        yield
    except Exception as failed:
        raise EnvironmentFailure(f"Spark did not start: {failed}; its log is {log}") from failed
    finally:
        os.dup2(keep, 2)
        os.close(keep)


def _java_options(log: Path | None) -> str:
    """Log4j to a file: Spark prints a stack trace for every task that a clean stop interrupts."""
    settings = jars.conf_file("log4j2.properties")
    target = log or Path(os.devnull)
    return f"-Dlog4j2.configurationFile=file:{settings} -Dstreaming.log={target} {_JVM}"
