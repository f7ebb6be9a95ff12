"""The subcommands `streaming convert` and `streaming package`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streaming import adapters
from streaming import config as cfg
from streaming.config.sections import SavedModel
from streaming.errors import ConfigError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_MODEL = click.argument("model")
_FORMAT = click.option("--format", "kind", type=click.Choice(adapters.portable()), default="spark", show_default=True)
_SHA256 = click.option("--sha256", default=None, help="Expected sha256 of the model's files.")
_TRUST = click.option(
    "--trust", is_flag=True, help="Open a pickle, which runs whatever code it holds. Only for files whose origin you trust."
)
_ALLOW = click.option(
    "--allow-class",
    "allow",
    multiple=True,
    metavar="NAME",
    help="A further class that may be loaded, as model.allow_classes; may be repeated.",
)
_DATA = click.option("--data", type=click.Path(path_type=Path), help="Rows to compare on as well: .parquet, .csv, .jsonl.")


@click.command()
@_MODEL
@click.option("--to", "target", type=click.Choice(["onnx", "pmml"]), required=True, help="The portable form.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file to write.")
@_FORMAT
@_DATA
@_SHA256
@_TRUST
@_ALLOW
def convert(
    model: str, target: str, out: Path, kind: str, data: Path | None, sha256: str | None, trust: bool, allow: tuple[str, ...]
) -> None:
    """Write MODEL, a saved model (or a configuration that names one), in a portable form.

    The portable form is compared with the original on 10,000 generated rows, and on --data. When it answers otherwise
    nothing is written and the exit code is 2.
    """
    with _opened(model, kind=kind, sha256=sha256, trust=trust, allow=allow) as (section, spark):
        if target == "pmml":
            pmml = adapters.load("to pmml", adapters.PARTS)
            click.echo(pmml.write(section, spark, out, rows=_table(data)))
            return
        package = _module()
        made = package.make(section, spark, data=_table(data))
        package.as_file(made, out)
    _say(made)
    click.echo(f"{section.uri} is now also at {out}")


@click.command()
@_MODEL
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to make; it must not exist.")
@_FORMAT
@click.option("--name", default="", help="Name of the model; by default that of its file or folder.")
@click.option("--version", default="1", show_default=True, help="Version of the model.")
@_DATA
@_SHA256
@_TRUST
@_ALLOW
def package(
    model: str, out: Path, kind: str, name: str, version: str, data: Path | None, sha256: str | None, trust: bool, allow: tuple[str, ...]
) -> None:
    """Make MODEL, a saved model (or a configuration that names one), a folder that scores with Python and onnxruntime alone.

    The folder holds model.onnx, a manifest, a scorer of one file, its requirements and a README. It is compared with
    the original before it appears.
    """
    with _opened(model, kind=kind, sha256=sha256, trust=trust, allow=allow, name=name, version=version) as (section, spark):
        made = _module().make(section, spark, data=_table(data))
    folder = _module().write(made, out)
    _say(made)
    click.echo(f"{section.name} {section.version} is packaged at {folder}; try: python {folder}/scorer.py < rows.jsonl")


def _module() -> Any:
    return adapters.load("package", adapters.PARTS)


def _say(made: Any) -> None:
    for report in made.reports:
        click.echo(report.text())


@contextmanager
def _opened(
    model: str, *, kind: str, sha256: str | None, trust: bool, allow: tuple[str, ...], name: str = "", version: str = "1"
) -> Iterator[tuple[SavedModel, SparkSession | None]]:
    """What MODEL names, and a Spark session if it takes one to open it."""
    from streaming.runtime import session

    if model.endswith((".yaml", ".yml")):
        config = cfg.load(model)
        if config.model.format != "spark":
            yield config.model, None
            return
        with session.running(config) as spark:
            yield config.model, spark
        return
    called = name or Path(model.rstrip("/")).stem or "model"
    tree = {"name": called, "version": version, "format": kind, "uri": model, "sha256": sha256, "trust": trust, "allow_classes": allow}
    try:
        section = SavedModel.model_validate(tree)
    except ValueError as wrong:
        raise ConfigError(f"{model}: name {called!r}, version {version!r}, sha256 {sha256!r}: expected a short name, a version and 64 hex digits; "
                          "give --name, --version and --sha256 accordingly") from wrong  # fmt: skip
    if kind != "spark":
        yield section, None
        return
    started = session.start("streaming convert", master="local[2]", log=Path(os.devnull))
    try:
        yield section, started
    finally:
        started.stop()


def _table(data: Path | None) -> Any:
    """The user's rows as an Arrow table; None when there are none."""
    if data is None:
        return None
    import pyarrow as pa
    from pyarrow import csv, json, parquet

    readers = {".parquet": parquet.read_table, ".csv": csv.read_csv, ".jsonl": json.read_json, ".json": json.read_json}
    if data.suffix not in readers:
        raise ConfigError(f"--data: {data}: expected a name that ends in {', '.join(readers)}")
    try:
        return readers[data.suffix](data)
    except (OSError, pa.ArrowException) as broken:
        raise ConfigError(f"--data: {data}: cannot be read: {(str(broken).splitlines() or [''])[0]}") from broken
