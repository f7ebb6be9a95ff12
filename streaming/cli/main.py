"""The command `streaming`: thin, each subcommand reads its options, calls one function and turns errors into an exit code."""

from __future__ import annotations

import functools
import io
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streaming import __version__, secrets
from streaming import config as cfg
from streaming.cli.api import api
from streaming.cli.batch import batch
from streaming.cli.convert import convert, package
from streaming.cli.explain import explain_prediction
from streaming.cli.parity import parity
from streaming.errors import ConfigError, StateError, StreamingError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from streaming.learning.versions import Reply

_CONFIG = click.argument("config", type=click.Path(path_type=Path))


class _Redacted(logging.Formatter):
    """Log lines as `time level key=value …`, with every known secret masked."""

    def format(self, record: logging.LogRecord) -> str:
        return secrets.redact(super().format(record))


def _configure_logging(verbose: bool) -> None:
    screen = logging.StreamHandler(sys.stderr)
    screen.setFormatter(_Redacted("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[screen], force=True)
    logging.getLogger("streaming").setLevel(logging.DEBUG if verbose else logging.INFO)
    for noisy in ("py4j", "kafka"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and Ctrl-C set: the job then finishes what it holds and ends with exit code 0."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="streaming")
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
def cli(verbose: bool) -> None:
    """Score live Kafka topics with saved Spark ML pipelines and keep an operational store current.

    \b
    A first look, nothing needed but Java 17:      streaming demo
    Your own model on your own topics:
      1. copy conf/production.yaml and edit it
      2. streaming topics CONFIG                   create the topics that are missing
      3. streaming check CONFIG                    broker, model, schema, store: ✓ or ✗ and what to do
      4. streaming serve CONFIG                    the long-running job

    Exit codes: 0 all well · 2 somebody has to change something first · 75 try again, nothing is lost.
    """
    _configure_logging(verbose)


@cli.command()
@_CONFIG
@click.option("--lanes", default=None, metavar="LIST", help="Which lanes this process runs, of score,store,learn; all by default.")
def serve(config: Path, lanes: str | None) -> None:
    """Run the long-running job: score every event, keep the store current.

    Stops cleanly on SIGTERM and Ctrl-C. After a crash start it again with the same CONFIG: it goes on where it was.
    The same as: spark-submit jobs/serve.py CONFIG
    """
    from streaming.job import service

    loaded = cfg.load(config)
    service.serve(loaded, lanes=_chosen(loaded, lanes), source=str(config), stop=stop_on_signals())


def _chosen(config: cfg.Config, lanes: str | None) -> tuple[str, ...]:
    from streaming.job import service

    if lanes is None:
        return service.default_lanes(config)
    chosen = tuple(name.strip() for name in lanes.split(",") if name.strip())
    unknown = [name for name in chosen if name not in service.LANES]
    if unknown or not chosen:
        raise ConfigError(f"--lanes: unknown lane {', '.join(unknown) or '(none given)'}; valid: {', '.join(service.LANES)}")
    if "learn" in chosen and not config.learners:
        raise ConfigError("--lanes: learn: the configuration has no learners")
    return chosen


@cli.command()
@_CONFIG
@click.option("--lanes", default=None, metavar="LIST", help="Check what these lanes need; all by default.")
def check(config: Path, lanes: str | None) -> None:
    """Check that CONFIG can run here: broker, topics, model, schema, mode, task slots, state, store.

    One line a check, ✓ or ✗ and what to do. Exit code 0 only if all are ✓. Starts nothing; creates the store's table
    and the state folder if they are missing.
    """
    from streaming.job import preflight, service

    loaded = cfg.load(config)
    click.echo(f"✓ config: {config} is valid")

    def show(outcome: preflight.Outcome) -> None:
        click.echo(secrets.redact(f"{'✓' if outcome.ok else '✗'} {outcome.name}: {outcome.detail}"))

    with service.session(loaded) as spark:
        well = preflight.survey(spark, loaded, lanes=_chosen(loaded, lanes), source=str(config), show=show)
    if not well:
        sys.exit(ConfigError.exit_code)


@cli.command()
@_CONFIG
@click.option("--overwrite", is_flag=True, help="Replace a model that is already at model.uri.")
def train(config: Path, overwrite: bool) -> None:
    """Train the pipeline that CONFIG's `train` section describes and save it, with a manifest, at model.uri.

    The same data, settings and seed give the same model. The same as: spark-submit jobs/train.py CONFIG
    """
    from streaming.job import service
    from streaming.training import run as training

    loaded = cfg.load(config)
    if loaded.train is None:
        raise ConfigError(f"{config}: train: missing; conf/production.yaml has a commented example")
    with service.session(loaded) as spark:
        report = training.train(loaded.train, loaded.model, spark, source=str(config), overwrite=overwrite)
    click.echo(report.text())


@cli.command()
@_CONFIG
@click.option("--partitions", default=4, show_default=True, help="Partitions of a topic that is created.")
@click.option("--replication", default=-1, help="Replication factor; by default the broker's own.")
def topics(config: Path, partitions: int, replication: int) -> None:
    """Create the topics of CONFIG that are missing; topics that exist are left as they are."""
    from streaming.job import service
    from streaming.kafka import admin

    loaded = cfg.load(config)
    wanted = list(loaded.topics().values())
    with service.session(loaded) as spark:
        made = admin.create_topics(spark, loaded.kafka, dict.fromkeys(wanted, partitions), replication=replication)
    for topic in wanted:
        click.echo(f"{'created' if topic in made else 'exists '} {topic}")


@cli.command()
@_CONFIG
def fingerprint(config: Path) -> None:
    """Print the sha256 of the saved model, to pin it as model.sha256 in CONFIG."""
    from streaming.job import service
    from streaming.models import manifest
    from streaming.scorers import files

    loaded = cfg.load(config)
    if loaded.model.format != "spark":
        click.echo(files.read(loaded.model.uri).sha256)
        return
    with service.session(loaded) as spark:
        click.echo(manifest.fingerprint(spark, loaded.model.uri))


@cli.command(name="get")
@_CONFIG
@click.argument("key")
def get_(config: Path, key: str) -> None:
    """Print the stored predictions of one entity as JSON lines, one per model."""
    import json

    from streaming import adapters
    from streaming.job import service

    loaded = cfg.load(config)
    with service.session(loaded) as spark:
        rows = adapters.load(loaded.store.kind, adapters.STORES).open(loaded.store, spark).get(key)
    for row in rows:
        click.echo(json.dumps(row, default=str))
    if not rows:
        raise ConfigError(f"the store has no prediction for the key {key!r}; keys are the text of events.key ({loaded.events.key})")


@contextmanager
def _lazy_session(config: cfg.Config) -> Iterator[Callable[[], SparkSession]]:
    """A session that starts only when it is asked for: a state folder on this machine needs none."""
    from streaming.job import service

    with ExitStack() as stack:
        yield functools.cache(lambda: stack.enter_context(service.session(config)))


@cli.command()
@_CONFIG
@click.argument("learner")
def versions(config: Path, learner: str) -> None:
    """List the versions of LEARNER that are kept: batch, labels learned, prequential metrics, time."""
    from rich.console import Console
    from rich.table import Table

    from streaming.learning import versions as kept

    loaded = cfg.load(config)
    with _lazy_session(loaded) as spark:
        metas = kept.history(kept.learner(loaded, learner, spark))
    names = sorted({name for meta in metas for name in meta.metrics})
    table = Table(
        *("version", "batch", "learned", "total", *names, "at", ""),
        title=f"{learner}: metrics over the newest labels, as served",
        title_justify="left",
    )
    for meta in metas:
        note = f"frozen: {meta.frozen}" if meta.frozen else "" if meta.base in (-1, meta.batch - 1) else f"learned from batch {meta.base}"
        figures = [f"{meta.metrics[name]:.4f}" if name in meta.metrics else "" for name in names]
        table.add_row(meta.version or "none", str(meta.batch), str(meta.learned), str(meta.total), *figures, meta.at[:19], note)
    Console(width=max(110, Console().width)).print(table)


def _became(reply: Reply) -> str:
    """What became of a request, in a sentence."""
    return {
        "in force": f"version {reply.version} is in force; the next batch of labels is learned from there",
        "no job": f"no job runs here; version {reply.version} comes into force when one starts, before it scores anything",
        "silent": f"the job has not answered yet; the request for version {reply.version} stays until it does",
    }[reply.outcome]


@cli.command()
@_CONFIG
@click.argument("learner")
@click.option("--to", required=True, metavar="VERSION", help="The version to take back; `streaming versions` lists them.")
def rollback(config: Path, learner: str, to: str) -> None:
    """Score with an earlier VERSION of LEARNER at once, and learn on from there.

    The running job scores with it from its next batch of events on. A frozen learner learns again.
    """
    from streaming.learning import versions as kept

    loaded = cfg.load(config)
    with _lazy_session(loaded) as spark:
        reply = kept.rollback(loaded, learner, to=to, spark=spark)
    click.echo(f"{learner}: {_became(reply)}")


@cli.command()
@_CONFIG
@click.argument("learner")
def resume(config: Path, learner: str) -> None:
    """Let a frozen LEARNER learn on from the version in force."""
    from streaming.learning import versions as kept

    loaded = cfg.load(config)
    with _lazy_session(loaded) as spark:
        reply = kept.rollback(loaded, learner, to=None, spark=spark)
    click.echo(f"{learner}: {_became(reply)}")


@cli.command()
@_CONFIG
@click.argument("learner")
@click.option("--version", default=None, help="Which version; the newest by default.")
@click.option("--out", required=True, help="Path or URI of the folder to write.")
def export(config: Path, learner: str, version: str | None, out: str) -> None:
    """Write a version of LEARNER as a standard Spark ML model (MLWritable) that any Spark user can load.

    It reads the column `features`, as the saved pipeline made it for the learner.
    """
    from streaming.job import service
    from streaming.learning import versions as kept
    from streaming.models.spark import learned

    loaded = cfg.load(config)
    with service.session(loaded) as spark:
        found, numbers = kept.weights_of(kept.learner(loaded, learner, lambda: spark), version)
        stage = learned.to_stage(spark, numbers, uid=f"{learner}-{found}")
        stage.write().overwrite().save(out)
    click.echo(f"{type(stage).__name__} version {found} is at {out}")


@cli.command()
@_CONFIG
@click.argument("learner")
@click.option("--from", "first", required=True, metavar="VERSION", help="The version to start from.")
@click.option("--to", "last", required=True, metavar="VERSION", help="The version to arrive at.")
def replay(config: Path, learner: str, first: str, last: str) -> None:
    """Learn a version of LEARNER again from the topics and prove that the weights are equal."""
    from streaming.job import service
    from streaming.proof import replay as again

    loaded = cfg.load(config)
    with service.session(loaded) as spark:
        proof = again.replay(loaded, learner, first=first, last=last, spark=spark)
    click.echo(
        f"{learner}: {first} to {last}: {proof.batches} batches, {proof.labels} labels learned again; "
        f"{'equal bit for bit' if proof.equal else f'largest difference {proof.difference:.3g}'}"
    )
    if proof.difference > 1e-12:
        raise StateError(
            f"learner {learner}: version {last} cannot be reproduced: largest difference {proof.difference:.3g}, expected at most 1e-12"
        )


@cli.command()
@click.option("--port", default=9092, show_default=True, help="Port on the loopback interface.")
@click.option(
    "--data", type=click.Path(path_type=Path), default=Path(".cache/kafka"), show_default=True, help="Where the broker keeps its topics."
)
def kafka(port: int, data: Path) -> None:
    """Run a single-node Kafka broker from pinned jars, for development. Ctrl-C stops it; its topics stay in --data."""
    from streaming.embedded.broker import running_broker

    stop = stop_on_signals()
    with running_broker(data=data, port=port) as broker:
        click.echo(f"Kafka runs at {broker.bootstrap_servers} (data in {data}); Ctrl-C stops it")
        stop.wait()


@cli.command()
@click.option("--conf", type=click.Choice(["spark", "broker"]), default="spark", show_default=True, help="Which set of jars.")
def jars(conf: str) -> None:
    """Print the pinned jars, separated by commas, for spark-submit: --jars "$(streaming jars)"."""
    from streaming.runtime import jars as pinned

    click.echo(",".join(str(path) for path in pinned.resolve("broker" if conf == "broker" else "spark")))


@cli.command()
@click.option("--seconds", default=30, show_default=True, help="How long customer events are streamed.")
@click.option("--rate", default=500, show_default=True, help="Events per second.")
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    default=Path(".cache/demo"),
    show_default=True,
    help="Where the demo keeps its model and state.",
)
def demo(seconds: int, rate: int, home: Path) -> None:
    """Show it all on this machine: a real broker, a trained churn pipeline, live scoring, a store that is kept current."""
    from streaming.demo import run

    sys.exit(run.demo(seconds=seconds, rate=rate, home=home))


for command in (batch, api, convert, package, parity, explain_prediction):
    cli.add_command(command)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; a StreamingError becomes one readable message and its exit code, never a stack trace."""
    secrets.install_hooks()
    try:
        code: Any = cli.main(args=list(argv) if argv is not None else None, prog_name="streaming", standalone_mode=False)
    except StreamingError as error:
        click.echo(secrets.redact(f"error: {error}"), err=True)
        code = error.exit_code
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        click.echo(secrets.redact(shown.getvalue()), err=True, nl=False)
        code = error.exit_code
    except click.Abort:
        code = 130
    sys.stdout.flush()
    sys.stderr.flush()
    if isinstance(code, int) and code:
        sys.exit(code)


__all__ = ["cli", "main", "stop_on_signals"]
