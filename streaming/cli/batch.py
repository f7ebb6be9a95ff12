"""`streaming batch`: score files, or a range of the events topic, into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click

from streaming import config as cfg
from streaming.cli.options import ACTOR, audited
from streaming.errors import ConfigError

_FORMATS = ("csv", "json", "parquet", "delta", "kafka")
_ENDINGS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--input", "uri", required=True, help="File, folder, glob or URI of the rows to score; or the word kafka: the topic events.topic."
)
@click.option("--output", required=True, help="Path or URI of the folder to write. It appears when it is complete.")
@click.option("--format", "kind", type=click.Choice(_FORMATS[:-1]), help="Format of the input; by default its ending says it.")
@click.option("--output-format", type=click.Choice(["parquet", "json", "delta"]), default="parquet", show_default=True)
@click.option("--from", "start", default="earliest", show_default=True, help="kafka: where the range begins: earliest or an ISO 8601 time.")
@click.option("--to", "end", default="latest", show_default=True, help="kafka: where it ends: latest (now) or an ISO 8601 time.")
@click.option("--overwrite", is_flag=True, help="Replace what is at --output, and forget an unfinished run.")
@ACTOR
def batch(
    config: Path, uri: str, output: str, kind: str | None, output_format: str, start: str, end: str, overwrite: bool, actor: str | None
) -> None:
    """Score a table or a range of the topic with the model of CONFIG, as the stream would.

    Every row is in the output once: below outcome=predicted with the fields of a prediction, or below
    outcome=rejected with the row as it came and the reason. Run it again with the same options after a crash: it goes
    on with what is missing. The same as: spark-submit jobs/batch.py CONFIG --input … --output …
    """
    from rich.console import Console
    from rich.progress import Progress

    from streaming.batch import run
    from streaming.batch.inputs import BatchInput, Format
    from streaming.runtime import session

    loaded = cfg.load(config)
    chosen = "kafka" if uri == "kafka" else kind or _format(uri)
    source = BatchInput(cast(Format, chosen), "" if uri == "kafka" else uri, start, end)
    delta = "delta" in (chosen, output_format)
    about = f"model {loaded.model.name} version {loaded.model.version}, rows of {uri}, written to {output}"
    with (
        audited(loaded, "predict", about, actor=actor) as act,
        session.running(loaded, delta=delta) as spark,
        Progress(console=Console(stderr=True), transient=True) as bar,
    ):
        task = bar.add_task("scoring", total=None)
        with run.watched(spark, lambda done, total: bar.update(task, completed=done, total=total)):
            report = run.run(loaded, source, output, spark, output_format=cast(run.OutputFormat, output_format), overwrite=overwrite)
        act.after = f"{report.predicted} predicted, {report.rejected} rejected"
    resumed = f" ({report.resumed} of {report.chunks} chunks were there from an earlier run)" if report.resumed else ""
    click.echo(f"{report.rows} rows: {report.predicted} predicted, {report.rejected} rejected{resumed}")
    click.echo(f"written: {output}")


def _format(uri: str) -> str:
    ending = Path(uri.rstrip("/*")).suffix.lower()
    if ending not in _ENDINGS:
        raise ConfigError(f"--input: {uri}: its ending does not say what it is; name the format: --format {'|'.join(_FORMATS[:-1])}")
    return _ENDINGS[ending]
