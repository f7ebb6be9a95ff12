"""Spark's settings, tuned for streaming lanes on one machine; a cluster's own settings win."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from streaming import secrets
from streaming.errors import ConfigError
from streaming.runtime import classes, jars

#: Task slots of a local session, unless the topic has more partitions than this leaves room for.
LOCAL_SLOTS: Final = 16

#: The setting that says where executors can read copies of models: a folder that all machines see.
COPIES: Final = "spark.scoring.copies"

#: Settings of every session, on a laptop or under spark-submit.
_ALWAYS: Final = {
    "spark.sql.session.timeZone": "UTC",
    # Else ${env:POSTGRES_PASSWORD} in any text that becomes SQL would be the password.
    "spark.sql.variable.substitute": "false",
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

#: Settings that are no good when they come late: the JVM's own, and what SparkSubmit fetches before anything runs.
_AT_START: Final = ("spark.driver.", "spark.jars", "spark.files", "spark.archives", "spark.submit.", "spark.master", "spark.app.name")


def submitted() -> bool:
    """True when spark-submit started this process: master, memory and jars are its business then."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def settings(*, delta: bool = False) -> dict[str, str]:
    """What every session is started with."""
    # What Spark masks in its pages and its event log: also the options of Kafka's clients and of object stores.
    masked = secrets.spark_regex()
    return {**_ALWAYS, "spark.redaction.regex": masked, "spark.sql.redaction.options.regex": f"{masked}|url", **(_DELTA if delta else {})}


def local_settings(paths: Sequence[Path]) -> dict[str, str]:
    """What a session inside this process needs beside: its jars and the JVM's options."""
    # The driver's class path, not only spark.jars: no copying of 19 MB at every start, and py4j sees the classes.
    return _LOCAL | {"spark.driver.extraClassPath": os.pathsep.join(map(str, paths)), "spark.driver.extraJavaOptions": _java_options()}


def on_command_line(settings: Mapping[str, str]) -> dict[str, str]:
    """Of the settings those that a JVM must know when it starts; all others can follow when it runs.

    ConfigError when one of them holds a secret: a command line can be read by every user of the machine.
    """
    needed = {key: value for key, value in settings.items() if key.startswith(_AT_START)}
    for key, value in needed.items():
        if secrets.is_secret_name(key) or secrets.redact(value) != value:
            raise ConfigError(
                f"spark.options.{key}: holds a secret, and this option stands on the JVM's command line, which every user of this machine can "
                "read; leave the secret out and give Java a file of options that only you can read: JDK_JAVA_OPTIONS=@FILE"
            )
    return needed


def _java_options() -> str:
    """Log4j to stderr, which streaming.runtime.spark_log reads: nothing of it reaches the screen or holds a secret."""
    layout = jars.conf_file("log4j2-stderr.properties")
    return " ".join([f"-Dlog4j2.configurationFile=file:{layout}", _JVM, *classes.options("spark")])
