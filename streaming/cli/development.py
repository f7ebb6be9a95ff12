"""On a developer's machine: `kafka`, `jars`, `demo`."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.option("--port", default=9092, show_default=True, help="Port on the loopback interface.")
@click.option(
    "--data", type=click.Path(path_type=Path), default=Path(".cache/kafka"), show_default=True, help="Where the broker keeps its topics."
)
def kafka(port: int, data: Path) -> None:
    """Run a single-node Kafka broker from pinned jars, for development. Ctrl-C stops it; its topics stay in --data."""
    from streaming.embedded.broker import running_broker
    from streaming.runtime.signals import stop_on_signals

    stop = stop_on_signals()
    with running_broker(data=data, port=port) as broker:
        click.echo(f"Kafka runs at {broker.bootstrap_servers} (data in {data}); Ctrl-C stops it")
        stop.wait()


@click.command()
@click.option("--conf", type=click.Choice(["spark", "broker"]), default="spark", show_default=True, help="Which set of jars.")
def jars(conf: str) -> None:
    """Print the pinned jars, separated by commas, for spark-submit: --jars "$(streaming jars)"."""
    from streaming.runtime import jars as pinned

    click.echo(",".join(str(path) for path in pinned.resolve("broker" if conf == "broker" else "spark")))


@click.command()
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
