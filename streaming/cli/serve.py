"""The long-running job and what an operator asks beside it: `serve`, `check`, `topics`, `get`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from streaming import config as cfg
from streaming import secrets
from streaming.cli.options import ACTOR, CONFIG, audited, chosen_lanes
from streaming.errors import ConfigError


@click.command()
@CONFIG
@click.option("--lanes", default=None, metavar="LIST", help="Which lanes this process runs, of score,store,learn; all by default.")
@click.option(
    "--port", default=None, type=click.IntRange(0, 65535), help="Instead of job.port, for one process of several. 0: any free port."
)
@ACTOR
def serve(config: Path, lanes: str | None, port: int | None, actor: str | None) -> None:
    """Run the long-running job: score every event, keep the store current.

    A lane that dies is started again while the others go on; how they are is told at http://localhost:9464/readyz, for
    Prometheus at /metrics (job.port). Stops cleanly on SIGTERM and Ctrl-C. After a crash start it again with the same CONFIG: it goes on where it was.
    The same as: spark-submit jobs/serve.py CONFIG
    """
    from streaming.runtime import session
    from streaming.runtime.signals import stop_on_signals

    loaded, stop = cfg.load(config), stop_on_signals()
    if port is not None:
        loaded = loaded.model_copy(update={"job": loaded.job.model_copy(update={"port": port})})
    chosen = chosen_lanes(loaded, lanes)
    about = f"model {loaded.model.name} version {loaded.model.version}, lanes {', '.join(chosen)}"
    with audited(loaded, "serve", about, actor=actor), session.ahead(loaded):
        from streaming.job import service

        service.serve(loaded, lanes=chosen, source=str(config), stop=stop)


@click.command()
@CONFIG
@click.option("--lanes", default=None, metavar="LIST", help="Check what these lanes need; all by default.")
def check(config: Path, lanes: str | None) -> None:
    """Check that CONFIG can run here: broker, topics, model, schema, mode, task slots, state, store.

    One line a check, ✓ or ✗ and what to do; ! is a warning: what others may read. Exit code 0 only if nothing is ✗.
    Starts nothing; creates the store's table and the state folder if they are missing.
    """
    from streaming.checks import exposure
    from streaming.job import preflight
    from streaming.runtime import session

    loaded = cfg.load(config)
    click.echo(f"✓ config: {config} is valid")
    for words in exposure.warnings(loaded):
        click.echo(secrets.redact(f"! {words}"))

    def show(outcome: preflight.CheckOutcome) -> None:
        click.echo(secrets.redact(f"{'✓' if outcome.ok else '✗'} {outcome.name}: {outcome.detail}"))

    with session.running(loaded) as spark:
        well = preflight.survey(spark, loaded, lanes=chosen_lanes(loaded, lanes), source=str(config), show=show)
    if not well:
        sys.exit(ConfigError.exit_code)


@click.command()
@CONFIG
@click.option("--partitions", default=4, show_default=True, help="Partitions of a topic that is created.")
@click.option("--replication", default=-1, help="Replication factor; by default the broker's own.")
def topics(config: Path, partitions: int, replication: int) -> None:
    """Create the topics of CONFIG that are missing; topics that exist are left as they are."""
    from streaming.kafka import admin
    from streaming.runtime import session

    loaded = cfg.load(config)
    wanted = list(loaded.topics().values())
    with session.running(loaded) as spark:
        made = admin.create_topics(spark, loaded.kafka, dict.fromkeys(wanted, partitions), replication=replication)
    for topic in wanted:
        click.echo(f"{'created' if topic in made else 'exists '} {topic}")


@click.command(name="get")
@CONFIG
@click.argument("key")
def get_(config: Path, key: str) -> None:
    """Print the stored predictions of one entity as JSON lines, one per model."""
    import json

    from streaming import adapters
    from streaming.runtime import session

    loaded = cfg.load(config)
    with session.running(loaded) as spark:
        rows = adapters.load(loaded.store.kind, adapters.STORES).open(loaded.store, spark).get(key)
    for row in rows:
        click.echo(json.dumps(row, default=str))
    if not rows:
        raise ConfigError(f"the store has no prediction for the key {key!r}; keys are the text of events.key ({loaded.events.key})")
