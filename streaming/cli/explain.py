"""The subcommand `streaming explain-prediction`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streaming import config as cfg
from streaming.errors import StateError

if TYPE_CHECKING:
    from rich.table import Table

    from streaming.proof.lineage.explain import Compared, Explanation
    from streaming.proof.lineage.topics import GivenAnswer


@click.command(name="explain-prediction")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("event_id")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def explain_prediction(config: Path, event_id: str, as_json: bool) -> None:
    """Show why the event EVENT_ID (topic:partition:offset) got its answer, and prove it by asking again.

    The event, what every model answered and what is stored, beside the answer of the model of CONFIG now; where the
    model comes from and whether its files are still the same. Prints the event itself. Exit code 0 if the answers are
    reproduced, 2 otherwise.
    """
    from streaming.proof.lineage.explain import explain
    from streaming.runtime import session

    loaded = cfg.load(config)
    with session.running(loaded) as spark:
        explanation = explain(loaded, event_id, spark)
    if as_json:
        click.echo(json.dumps(explanation.tree(), default=str, ensure_ascii=False, indent=2))
    else:
        _show(explanation)
    if not explanation.reproduced:
        sys.exit(StateError.exit_code)


def _show(explanation: Explanation) -> None:
    from rich.console import Console

    click.echo(f"event {explanation.event_id}, recorded at {explanation.recorded_at}\n  {explanation.event}\n")
    console = Console()
    Console(width=max(120, console.width)).print(_table(explanation))
    click.echo(f"store: {explanation.store}")
    about = explanation.model
    click.echo(f"model {about.name} {about.version} at {about.uri}\n  sha256 {about.sha256 or 'unknown'}: {about.words}")
    for name, value in about.training.items():
        click.echo(f"  {name}: {value if isinstance(value, str | int) else json.dumps(value, default=str)}")
    for problem in explanation.problems:
        click.echo(f"✗ {problem}")
    click.echo("✓ reproduced" if explanation.reproduced else "✗ not reproduced")


def _table(explanation: Explanation) -> Table:
    from rich.markup import escape
    from rich.table import Table

    made = Table("", "model", "version then", "answer then", "version now", "answer now", "", title="answers", title_justify="left")
    for each in explanation.answers:
        made.add_row(*map(escape, _cells(each)))
    return made


def _cells(each: Compared) -> tuple[str, ...]:
    now = each.now
    times = f" ({each.then.times} times)" if each.then.times > 1 else ""
    return (
        "✓" if each.reproduced else "✗",
        each.then.model,
        each.then.model_version or "none",
        _words(each.then) + times,
        "" if now is None else now.model_version or "none",
        "" if now is None else _words(now),
        each.words,
    )


def _words(answer: GivenAnswer) -> str:
    if answer.reason is not None:
        return f"rejected: {answer.reason}: {answer.error}"
    probability = "" if answer.probability is None else f" {[*answer.probability]}"
    return f"{answer.prediction}{probability}"
