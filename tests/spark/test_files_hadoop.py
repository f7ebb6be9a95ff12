"""A folder reached through Hadoop keeps the promises of a local one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from streaming.errors import StateError
from streaming.learning.commands import Command, JobAnswer
from streaming.learning.state_log import Meta, Snapshot, StateLog
from streaming.runtime.files import LocalFolder, folder
from streaming.runtime.hadoop import HadoopFolder


@pytest.fixture
def fresh(spark: SparkSession, tmp_path: Path) -> HadoopFolder:
    return HadoopFolder(f"file:{tmp_path}/made when needed", spark)


def test_a_hadoop_folder_keeps_its_promises(fresh: HadoopFolder, tmp_path: Path) -> None:
    assert fresh.names() == []
    assert fresh.read("a") is None
    fresh.delete("a")
    assert fresh.create("b", b"one")
    assert not fresh.create("b", b"two")
    assert fresh.read("b") == b"one"
    fresh.replace("b", b"three")
    assert fresh.read("b") == b"three"
    fresh.replace("a", b"")
    assert fresh.read("a") == b""
    assert fresh.names() == ["a", "b"]
    inner = fresh.below("deep")
    every_byte = bytes(range(256)) * 5_000
    assert inner.create("x y.npz", every_byte)
    assert inner.read("x y.npz") == every_byte
    assert fresh.names() == ["a", "b"], "a folder is not a file"
    fresh.delete("b")
    assert fresh.names() == ["a"]
    # The same bytes for whoever looks without Hadoop, and nothing temporary beside them.
    local = LocalFolder(tmp_path / "made when needed")
    assert local.below("deep").read("x y.npz") == every_byte
    assert [p.name for p in local.path.rglob("*") if p.is_file() and not p.name.endswith(".crc")] == ["a", "x y.npz"]


def test_the_writer_who_comes_between_look_and_rename_stands(fresh: HadoopFolder) -> None:
    """What `create` does after it has looked: the rename itself refuses a name that is taken."""
    fresh.create("n", b"first")
    assert not fresh._rename(fresh._write(b"second"), fresh._at("n")[1], "NONE")
    assert fresh.read("n") == b"first"
    assert fresh.names() == ["n"]


def test_a_state_log_on_hadoop(fresh: HadoopFolder) -> None:
    log = StateLog(fresh, "a")
    log.begin(3, Snapshot(Meta(-1, None), {}))
    assert log.get(2).meta.batch == -1
    assert log.add(3, Snapshot(Meta(3, "3"), {"w": np.array([1.5])}))
    assert not log.add(3, Snapshot(Meta(3, "3"), {"w": np.array([2.5])}))
    assert log.get(3).state["w"] == 1.5
    with pytest.raises(StateError):
        log.get(4)
    log.commands.ask(Command("c", None))
    assert log.commands.waiting() == Command("c", None)
    log.commands.answer(JobAnswer("c", "3"))
    assert log.commands.waiting() is None
    assert log.batches() == [3]


def test_which_folder_a_uri_gets(spark: SparkSession) -> None:
    assert folder("hdfs://h/x/", lambda: spark) == HadoopFolder("hdfs://h/x", spark)
