"""Mutated model directories of five formats: whatever is done to them, they are refused or answer as what was vetted, and nothing else happens.

make fuzz                 1,000 directories
FUZZ=50 make fuzz         fewer
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.ml import Pipeline, classification
from pyspark.ml import feature as ft
from pyspark.sql import DataFrame, SparkSession

from streaming import adapters
from streaming.config.sections import SavedModel
from streaming.errors import ModelError
from streaming.scorers import files
from tests.support.saved_models import SAVED, rows

N = int(os.environ.get("FUZZ", "1000"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
SECRET = "hunter2-of-the-environment"


@dataclass
class Watch:
    """What a model must not reach: a folder, a port, the properties of the JVM."""

    folder: Path
    port: int
    calls: list[Any] = field(default_factory=list)

    def payloads(self) -> list[str]:
        stolen, url = self.folder / "stolen", f"http://127.0.0.1:{self.port}/x"
        java = f"'java.lang.System', 'setProperty', 'streaming.fuzz', '{url}'"
        return [
            f"INSERT OVERWRITE LOCAL DIRECTORY '{stolen}' USING json SELECT '${{env:FUZZ_SECRET}}' AS a",
            f"SELECT *, java_method({java}) AS z FROM __THIS__", f"SELECT *, IDENTIFIER('java_' || 'method')({java}) AS z FROM __THIS__",
            f"SELECT *, reflect({java}) AS z FROM __THIS__ -- ", f"x -- {stolen}", "${env:FUZZ_SECRET}", f"../../../../{stolen}", str(stolen),
            "../../other", url, f"file:{stolen}", "*", "{a,b}", "java.lang.Runtime", "org.apache.spark.ml.feature.RFormulaModel", "os.system",
            "org.apache.spark.ml.PipelineModel", "sklearn.datasets.load_files", "builtins.eval", "numpy.load", "filename", "[" * 20_000, "\0", "", "skip",
            f'<!DOCTYPE a [<!ENTITY b SYSTEM "{url}">]>', "mlflow.pyfunc.model", "joblib.load", str(10**40), "-1", "NaN",
        ]  # fmt: skip


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        watched = Watch(tmp_path_factory.mktemp("watched"), server.getsockname()[1])

        def accept() -> None:
            while True:
                try:
                    connection, address = server.accept()
                except OSError:
                    return
                watched.calls.append(address)
                connection.close()

        threading.Thread(target=accept, daemon=True).start()
        yield watched


@pytest.fixture(scope="module")
def originals(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, SavedModel]:
    """One of each format, and of two the kind with a model inside a model."""
    made = {}
    for name in ("sklearn classifier", "onnx classifier", "pmml tree", "mlflow sklearn", "mlflow spark"):
        folder = tmp_path_factory.mktemp(name.replace(" ", "-"))
        made[name] = SAVED[name](folder)
    table = spark.createDataFrame(
        [(*row[1:4], float(i % 2)) for i, row in enumerate(rows())], "contract STRING, tenure INT, charges DOUBLE, label DOUBLE"
    )
    sql = ft.SQLTransformer(statement="SELECT *, charges * 2 AS twice FROM __THIS__")
    formula = ft.RFormula(formula="label ~ contract + tenure + twice", handleInvalid="keep")
    folder = tmp_path_factory.mktemp("spark") / "m"
    Pipeline(stages=[sql, formula, classification.LogisticRegression(maxIter=2)]).fit(table.coalesce(1)).write().save(str(folder))
    made["spark"] = SavedModel(name="m", version="1", uri=str(folder))
    return made


@pytest.fixture(scope="module")
def events(spark: SparkSession) -> DataFrame:
    few = [row[1:4] for row in rows()[:8]]
    return spark.createDataFrame(few, "contract STRING, tenure INT, charges DOUBLE").coalesce(1)


def opened(section: SavedModel, spark: SparkSession) -> Any:
    return adapters.model_of(section.format).load(section, spark)


def answers(model: Any, events: DataFrame) -> list[Any]:
    return [(row["prediction"], row["probability"], row["error"]) for row in model.transform(events).collect()]


def tried(model: Any, events: DataFrame, *, may_fail: bool) -> list[Any]:
    """The answers; none of a model that nobody pinned and that cannot give any."""
    try:
        return answers(model, events)
    except (ModelError, PySparkException, Py4JJavaError):
        if not may_fail:
            raise
        return []


def mutate(root: Path, payloads: list[str], draw: random.Random) -> str:
    """Do one thing to the directory, or to the file; returns what."""
    there = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
    target = draw.choice(there)
    kinds = [_flip, _cut, _text, _text, _text, _json, _json, _json] + ([_add, _rename, _copy] if root.is_dir() else [])
    chosen = draw.choice(kinds)
    chosen(root, target, payloads, draw)
    return f"{chosen.__name__} {target.name}"


def _flip(root: Path, target: Path, payloads: list[str], draw: random.Random) -> None:
    content = bytearray(target.read_bytes() or b"\0")
    for _ in range(draw.choice([1, 1, 8, 64])):
        content[draw.randrange(len(content))] = draw.randrange(256)
    target.write_bytes(content)


def _cut(root: Path, target: Path, payloads: list[str], draw: random.Random) -> None:
    content = target.read_bytes()
    target.write_bytes(content[: draw.randrange(len(content) + 1)])


def _text(root: Path, target: Path, payloads: list[str], draw: random.Random) -> None:
    """A payload in place of a word, in the bytes: the file keeps its form or loses it."""
    content, payload = target.read_bytes(), draw.choice(payloads).encode()
    words = [
        w for w in (b"content", b"SELECT", b"PipelineModel", b"sklearn", b"model", b"uid", b"x", b"error", b"skops") if w in content
    ] or [content[:4]]
    target.write_bytes(content.replace(draw.choice(words), payload, draw.choice([1, 1, -1])))


def _json(root: Path, target: Path, payloads: list[str], draw: random.Random) -> None:
    """A payload in place of a value somewhere in the JSON; other files get it as text."""
    try:
        tree = json.loads(target.read_text())
    except (ValueError, OSError):
        _text(root, target, payloads, draw)
        return
    place, node = [], tree
    while isinstance(node, dict | list) and node:
        key = draw.choice(list(node)) if isinstance(node, dict) else draw.randrange(len(node))
        place.append((node, key))
        node = node[key]
    if place:
        node, key = draw.choice(place)
        node[key] = draw.choice([draw.choice(payloads), [draw.choice(payloads)], {}, None, 3])
    target.write_text(json.dumps(tree))


def _add(root: Path, target: Path, payloads: list[str], draw: random.Random) -> None:
    name = draw.choice(
        ["part-00007.crc", "_SUCCESS", ".hidden", "part 1", "a*b", "part-00001", "MANIFEST.json", "metadata/part-00000", "{x}", "_metadata"]
    )
    added = draw.choice([target.parent, root]) / name
    added.parent.mkdir(parents=True, exist_ok=True)
    added.write_bytes(draw.choice([target.read_bytes(), draw.choice(payloads).encode(), b""]))


def _rename(root: Path, target: Path, payloads: list[str], draw: random.Random) -> None:
    target.rename(target.with_name(draw.choice(["x", "-1", "a b", "part-00000", "model.pkl", f"{target.name}.crc"])))


def _copy(root: Path, target: Path, payloads: list[str], draw: random.Random) -> None:
    place = draw.choice([p for p in root.rglob("*") if p.is_dir()] or [root])
    if place != root:
        shutil.copytree(place, place.with_name(draw.choice(["0", "00", "x"]) + place.name), dirs_exist_ok=True)


@pytest.mark.campaign
@pytest.mark.timeout(7200)
def test_mutated_models_are_refused_or_are_what_was_vetted(
    spark: SparkSession, originals: dict[str, SavedModel], events: DataFrame, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUZZ_SECRET", SECRET)
    jvm: Any = spark._jvm
    properties = dict(jvm.java.lang.System.getProperties())
    draw, fate = random.Random(SEED), Counter[tuple[str, str]]()
    pins = {name: section.sha256 or files.read(section.uri).sha256 for name, section in originals.items()}
    expected = {name: answers(opened(section, spark), events) for name, section in originals.items()}
    for number in range(N):
        name = list(originals)[number % len(originals)]
        source = Path(originals[name].uri)
        copy = tmp_path / str(number) / source.name
        copy.parent.mkdir()
        shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
        done = [mutate(copy, watch.payloads(), draw) for _ in range(draw.choice([1, 1, 1, 2, 4]))]
        # Half of them as the operator pins them, half as an attacker would like it best.
        pinned = number // len(originals) % 2 == 0
        section = originals[name].model_copy(update={"uri": str(copy), "sha256": pins[name] if pinned else None})
        where = f"directory {number} (FUZZ_SEED={SEED}), {name}, pinned={pinned}: {done}"
        try:
            model = opened(section, spark)
        except ModelError as refused:
            fate[name, "refused"] += 1
            got: list[Any] = [str(refused)]
        except Exception as odd:
            raise AssertionError(f"{where}: {type(odd).__name__}: {str(odd)[:500]}") from odd
        else:
            got = tried(model, events, may_fail=not pinned)
            fate[name, "answers" if got else "cannot answer"] += 1
            assert not pinned or got == expected[name], f"{where}: loaded with other behaviour than the vetted one"
        assert SECRET not in repr(got), f"{where}: the secret is told"
        assert not list(watch.folder.iterdir()), f"{where}: a file was written"
        assert not watch.calls, f"{where}: a connection was made"
        shutil.rmtree(copy.parent)
    assert dict(jvm.java.lang.System.getProperties()) == properties
    print(f"{N} directories:", dict(sorted(fate.items())))


def test_the_campaign_would_notice(watch: Watch, tmp_path: Path) -> None:
    """Each kind of mutation changes something, and the traps are set."""
    draw = random.Random(1)
    for kind in (_flip, _cut, _text, _json, _add, _rename, _copy):
        root = tmp_path / kind.__name__
        (root / "stages").mkdir(parents=True)
        (root / "stages" / "part-00000").write_text('{"uid": "x", "class": "PipelineModel"}')
        before = {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}
        kind(root, root / "stages" / "part-00000", watch.payloads(), draw)
        assert before != {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}, kind.__name__
    own = Watch(tmp_path, 0)
    assert own.payloads() != watch.payloads()
