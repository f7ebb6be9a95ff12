"""The subcommand `streaming parity`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import click

from streaming import config as cfg
from streaming.errors import ModelError


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--data", type=click.Path(path_type=Path), help="The events to compare on: .parquet, .csv, .jsonl. Without it they are generated."
)
@click.option("--forms", "names", metavar="LIST", default=None, help="Which forms, of stream,batch,rest,edge,onnx,pmml; all by default.")
@click.option(
    "--rows", "n", type=click.IntRange(min=1), default=None, help="The first N rows of --data, or N generated ones (1,000 by default)."
)
@click.option("--embedded", is_flag=True, help="Use a Kafka broker of this run's own, on this machine, instead of the configured one.")
def parity(config: Path, data: Path | None, names: str | None, n: int | None, embedded: bool) -> None:
    """Prove that every form of the model answers as the saved pipeline does, on the same events.

    The stream in both modes (over topics of this run's own, deleted at its end), batch, REST, the packaged edge
    scorer, ONNX and PMML. Prints differences, numbers of rows and keys, never values. Exit code 2 if a form differs by
    more than 1e-9.
    """
    from rich.console import Console

    from streaming.config.sections import Kafka
    from streaming.proof.parity import run, table
    from streaming.runtime import session

    loaded, chosen = cfg.load(config), run.chosen(names)
    with ExitStack() as stack:
        if embedded and "stream" in chosen:
            from streaming.embedded.broker import running_broker

            broker = stack.enter_context(running_broker())
            loaded = loaded.model_copy(update={"kafka": Kafka(bootstrap_servers=broker.bootstrap_servers)})
        spark = stack.enter_context(session.running(loaded))
        with Console(stderr=True).status("") as status:
            outcome = run.run(
                loaded, spark, names=None if names is None else chosen, data=data, n=n, on_form=lambda form: status.update(f"{form} …")
            )
    console = Console()
    Console(width=max(140, console.width)).print(table.table(outcome, title=f"{loaded.model.name} {loaded.model.version}"))
    click.echo(table.summary(outcome))
    if not outcome.ok:
        sys.exit(ModelError.exit_code)
