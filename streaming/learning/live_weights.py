"""The weights file in the memory of the JVM that scores: in force for the next event, not only at the next batch.

A real-time query reads the file once a trigger, and its boundaries cost latency, so a trigger is long. Between two of them
the file is followed here: its newest content is put where each row's expression looks it up. The file alone is
the truth; what is in memory is a copy of it that is at most a look older, and where there is none (executors that are other
processes) the content of the batch's start stands.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from py4j.protocol import Py4JError
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.classic.column import Column as ClassicColumn

from streaming.learning import weights_file
from streaming.runtime.files import Folder

log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 0.25


def learners(spark: SparkSession, state: str) -> Column:
    """The learners of the job with this state as :func:`put` left them; null in a JVM where nobody did.

    Evaluated once a row and never merged with another expression (it is not deterministic to Spark), so that a version
    and its coefficients are always of one file.
    """
    jvm: Any = spark._jvm
    catalyst, types, seq = jvm.org.apache.spark.sql.catalyst.expressions, jvm.org.apache.spark.sql.types, jvm.PythonUtils.toSeq
    classes = jvm.org.apache.spark.util.Utils

    def class_of(name: str) -> Any:
        return classes.classForName(name, True, False)

    properties = catalyst.objects.StaticInvoke(
        class_of("java.lang.System"), types.ObjectType(class_of("java.util.Properties")), "getProperties",
        seq([]), seq([]), True, False, False, jvm.scala.Option.empty(),
    )  # fmt: skip
    name = catalyst.Literal(_name(state), types.ObjectType(class_of("java.lang.Object")))
    kind = types.DataType.fromDDL(weights_file.LEARNERS)
    value = catalyst.objects.Invoke(properties, "get", kind, seq([name]), seq([]), True, True, False)
    return ClassicColumn(jvm.org.apache.spark.sql.classic.ExpressionUtils.column(value))


def put(spark: SparkSession, state: str, content: bytes) -> None:
    """Let every row from here on see this content of the weights file."""
    text = F.from_json(F.lit(content.decode().rstrip()), weights_file.SCHEMA)
    frame: Any = spark.range(1).select(text.getField("learners").alias("learners"))._jdf
    # The optimizer computes it, being a constant: no job runs.
    constant = frame.queryExecution().optimizedPlan().projectList().apply(0).child()
    _properties(spark).put(_name(state), constant.value())


@contextmanager
def followed(spark: SparkSession, folder: Folder, state: str) -> Iterator[None]:
    """For the length of the block what rows see follows the weights file in `folder`; only where tasks run in this JVM."""
    context: Any = spark.sparkContext._jsc
    if not context.sc().isLocal():
        yield
        return
    end = threading.Event()
    follower = threading.Thread(target=_follow, args=(spark, folder, state, end), name="weights", daemon=True)
    follower.start()
    try:
        yield
    finally:
        end.set()
        follower.join()
        with suppress(Py4JError, OSError):  # a JVM that is gone has forgotten it
            _properties(spark).remove(_name(state))


def _follow(spark: SparkSession, folder: Folder, state: str, end: threading.Event) -> None:
    known: bytes | None = None
    while not end.wait(_LOOK_EVERY_S):
        try:
            content = folder.read(weights_file.FILE)
            if content is not None and content != known:
                known = content
                put(spark, state, content)
        except (OSError, Py4JError) as error:
            # The next look may go well; until then what was seen last stands, and at every batch the file itself.
            log.warning("the weights file cannot be followed now: %s", error)


def _properties(spark: SparkSession) -> Any:
    jvm: Any = spark._jvm
    return jvm.java.lang.System.getProperties()


def _name(state: str) -> str:
    return f"streaming.weights {state}"
