"""One function for each form of a model: the golden events in, its answers out, through the very code that users run."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import Any, Final

from streaming import adapters
from streaming.batch import run as batches
from streaming.batch.inputs import BatchInput
from streaming.config.load import Config
from streaming.config.sections import Api, SavedModel
from streaming.convert.spark.pipeline import convert
from streaming.errors import EnvironmentFailure, ModelError
from streaming.models.spark.pipeline import SparkModel
from streaming.proof.parity.answers import RowAnswer, in_order, scores
from streaming.proof.parity.golden import ROW, Golden, frame
from streaming.proof.parity.stream import ask
from streaming.records.predictions import split
from streaming.scorers import files
from streaming.scorers.base import Scores

#: Rows on which a package proves itself while it is made; the golden rows follow.
_PROOF: Final = 200
_REQUEST_ROWS: Final = 500
_PATIENCE_S: Final = 300


class NoSuchForm(Exception):
    """The model cannot have this form; the text says why. No difference, but nothing to compare either."""


class NotInstalled(EnvironmentFailure):
    """The form needs a package that is installed on demand alone."""


@dataclass(frozen=True)
class Bench:
    """What the forms are made of: one configuration, its pipeline, and a folder for their files."""

    config: Config
    model: SparkModel
    golden: Golden
    folder: Path
    #: What the run's own topics and queries are called.
    name: str

    @cached_property
    def portable(self) -> Any:
        """The pipeline as ONNX, proven once more on generated rows. NoSuchForm when a stage has none."""
        package = adapters.load("package", adapters.PARTS)
        try:
            convert(self.model)
        except ModelError as none:
            raise NoSuchForm(str(none)) from none
        return package.make(self.config.model, self.model.spark, n_rows=_PROOF)

    @cached_property
    def package(self) -> Path:
        """The folder that `streaming package` writes."""
        module = adapters.load("package", adapters.PARTS)
        made: Path = module.write(self.portable, self.folder / "package")
        return made


def reference(bench: Bench) -> Scores:
    """What the saved pipeline itself says, in one batch job: `SparkModel.transform`."""
    model, golden = bench.model, bench.golden
    events = frame(model.spark, golden.path, bench.config, golden.schema)
    said = model.transform(events).select(ROW, "prediction", "probability", "error").toArrow().to_pylist()
    return scores(in_order({each[ROW]: each for each in said}, len(golden), "reference"))


def microbatch(bench: Bench) -> Scores:
    """The SCORE lane over a real topic, in micro-batches."""
    return ask(bench.config, bench.model, bench.golden, bench.folder, name=bench.name, mode="microbatch")


def realtime(bench: Bench) -> Scores:
    """The SCORE lane over a real topic, in real-time mode. NoSuchForm when a stage needs Python."""
    if not bench.model.runs_in_jvm:
        raise NoSuchForm("; ".join(bench.model.why_not_jvm))
    return ask(bench.config, bench.model, bench.golden, bench.folder, name=bench.name, mode="realtime")


def batch(bench: Bench) -> Scores:
    """`streaming batch` over the data file as it is."""
    golden, spark = bench.golden, bench.model.spark
    out = bench.folder / "scored"
    source = BatchInput(golden.format, str(golden.source))  # type: ignore[arg-type]
    batches.run(bench.config, source, str(out), spark, output_format="json")
    said = [json.loads(line) for part in sorted(out.rglob("part-*.json")) for line in part.read_text("utf-8").splitlines()]
    # A row is named by the byte at which its piece of the file began, and its number from there.
    ordered = sorted(said, key=lambda each: split(each["event_id"])[1:])
    answers: list[RowAnswer] = [each | {"error": (each.get("rejected") or {}).get("error")} for each in ordered]
    if len(answers) <= golden.places[-1]:
        raise ModelError(f"parity: batch: {len(answers)} rows were scored of at least {golden.places[-1] + 1} in {golden.source}")
    return scores([answers[place] for place in golden.places])


def edge(bench: Bench) -> Scores:
    """The packaged scorer.py as a process of its own, with nothing of this project on its path."""
    asked = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in bench.golden.inputs())
    command = [sys.executable, "-I", str(bench.package / "scorer.py")]
    done = subprocess.run(command, input=asked.encode(), capture_output=True, timeout=_PATIENCE_S, check=False)
    if done.returncode:
        raise ModelError(
            f"parity: edge: scorer.py ended with code {done.returncode}: {done.stderr.decode(errors='replace').strip()[-500:]}"
        )
    said = [json.loads(line) for line in done.stdout.decode().splitlines()]
    return scores(in_order(dict(enumerate(said)), len(bench.golden), "edge"))


def onnx(bench: Bench) -> Scores:
    """The single .onnx file that `streaming convert` writes, opened as `model.format: onnx` opens it."""
    package = adapters.load("package", adapters.PARTS)
    file = package.as_file(bench.portable, bench.folder / "model.onnx")
    section = SavedModel(name="parity", version="1", format="onnx", uri=str(file))
    answered: Scores = adapters.scorer_of("onnx").open_scorer(files.read(section.uri), section).score(bench.golden.columns)
    return answered


def pmml(bench: Bench) -> Scores:
    """The PMML document that `streaming convert` writes, evaluated by PMML4S. NoSuchForm when JPMML cannot write it, NotInstalled without it."""
    try:
        module = adapters.load("to pmml", adapters.PARTS)
    except EnvironmentFailure as missing:
        raise NotInstalled(str(missing)) from missing
    try:
        content = module.document(bench.model)
    except ModelError as none:
        raise NoSuchForm(str(none)) from none
    written = files.Package("model.pmml", {"model.pmml": content}, is_folder=False)
    answered: Scores = adapters.scorer_of("pmml").open_pmml(written).score(bench.golden.columns)
    return answered


def rest(bench: Bench) -> Scores:
    """The REST API on a socket of this machine, asked in requests of many rows."""
    rows = bench.golden.inputs()
    said: list[RowAnswer] = []
    with _serving(bench) as port:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
        try:
            for start in range(0, len(rows), _REQUEST_ROWS):
                body = json.dumps({"instances": rows[start : start + _REQUEST_ROWS]})
                client.request("POST", f"/v1/models/{bench.config.model.name}:predict", body, {"content-type": "application/json"})
                reply = client.getresponse()
                answer = json.loads(reply.read())
                if reply.status != 200:
                    raise ModelError(f"parity: rest: status {reply.status}: {answer.get('error')} (rows are counted from row {start})")
                said += answer["predictions"]
        finally:
            client.close()
    return scores(in_order(dict(enumerate(said)), len(rows), "rest"))


@contextmanager
def _serving(bench: Bench) -> Iterator[int]:
    """The application over the package, on a free port; ends with the block."""
    serve: Any = adapters.load("api", adapters.PARTS)
    from streaming.api import served

    opened = adapters.scorer_of("onnx").open_onnx(bench.package)
    model = bench.config.model
    source = _Given(lambda: served.Served.of(opened, name=model.name, version=model.version))
    settings = Api(port=0, requests_per_second=None, max_body_bytes=64 << 20)
    listener = serve.listen(settings)
    with listener:
        listener.listen()
        app = serve.create_app(served.Models({model.name: source}), None, settings)
        server = serve.uvicorn.Server(serve.uvicorn.Config(app, log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=5))
        thread = Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(30)


@dataclass(frozen=True)
class _Given:
    """A model that stays the same while it is served."""

    make: Callable[[], Any]

    def mark(self) -> str:
        """Never another version."""
        return ""

    def load(self) -> Any:
        """The model."""
        return self.make()
