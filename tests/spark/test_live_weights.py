"""Weights in the memory of the JVM: in force for the next row of a plan that is already made, and gone with the job."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from streaming.learning import live_weights, weights_file
from streaming.online.weights import Weights
from streaming.runtime.files import LocalFolder


def content(version: str, coefficient: float) -> bytes:
    return weights_file.line("events", {"a": (version, Weights("linear", np.array([coefficient]), np.array(0.0)))})


def scored(spark: SparkSession, state: str) -> DataFrame:
    rows = spark.range(2, numPartitions=1).select(
        F.array(F.lit(3.0)).alias("features"), live_weights.learners(spark, state).alias("_learners")
    )
    return weights_file.score(rows, ["a"]).select(F.col(weights_file.column("a")).alias("a")).select("a.version", "a.prediction")


def test_new_weights_are_in_force_without_a_new_plan(spark: SparkSession) -> None:
    frame = scored(spark, "one")
    assert frame.collect() == [(None, None)] * 2
    live_weights.put(spark, "one", content("7", 0.5))
    assert frame.collect() == [("7", 1.5)] * 2
    live_weights.put(spark, "one", content("8", -1.0))
    assert frame.collect() == [("8", -3.0)] * 2
    assert scored(spark, "another job").collect() == [(None, None)] * 2


def test_the_file_is_followed_and_forgotten(spark: SparkSession, tmp_path: Path) -> None:
    folder, frame = LocalFolder(tmp_path), scored(spark, "two")
    with live_weights.followed(spark, folder, "two"):
        for version in ("1", "2"):
            folder.replace(weights_file.FILE, content(version, 1.0))
            until(lambda version=version: frame.first() == (version, 3.0))  # type: ignore[misc]
        folder.replace(weights_file.FILE, b"no weights")  # by somebody else: what stood stands
        folder.replace(weights_file.FILE, content("3", 1.0))
        until(lambda: frame.first() == ("3", 3.0))
    assert frame.first() == (None, None)
    assert "weights" not in {thread.name for thread in threading.enumerate()}


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
