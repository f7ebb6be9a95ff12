"""Learners and their versions: `versions`, `rollback`, `resume`, `export`, `replay`, `learner reset` and `learner migrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from streaming import config as cfg
from streaming.cli.options import ACTOR, CONFIG, audited
from streaming.errors import StateError

if TYPE_CHECKING:
    from streaming.learning.versions import Reply


@click.command()
@CONFIG
@click.argument("learner")
def versions(config: Path, learner: str) -> None:
    """List the versions of LEARNER that are kept: batch, labels learned, prequential metrics, time."""
    from rich.console import Console
    from rich.table import Table

    from streaming.learning import versions as kept
    from streaming.runtime import session

    loaded = cfg.load(config)
    with session.lazily(loaded) as spark:
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


def _ask(config: cfg.Config, learner: str, *, to: str | None, wait: int, actor: str | None) -> None:
    """Ask the job for a version, as somebody whom the audit log names, and say what became of it."""
    from streaming.learning import versions as kept
    from streaming.runtime import audit, session

    by = audit.operator(actor)
    with session.lazily(config) as spark:
        before = kept.newest_version(config, learner, spark)
        with audited(config, "resume" if to is None else "rollback", f"learner {learner}", actor=actor, before=before) as act:
            reply = kept.rollback(config, learner, to=to, spark=spark, wait_s=wait, by=by)
            act.after = f"{reply.version} ({reply.outcome})"
    click.echo(f"{learner}: {_became(reply)}")


_WAIT = click.option(
    "--wait",
    type=click.IntRange(min=0),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the job's word. The request stays in any case, until the job has carried it out.",
)


@click.command()
@CONFIG
@click.argument("learner")
@click.option("--to", required=True, metavar="VERSION", help="The version to take back; `streaming versions` lists them.")
@_WAIT
@ACTOR
def rollback(config: Path, learner: str, to: str, wait: int, actor: str | None) -> None:
    """Score with an earlier VERSION of LEARNER at once, and learn on from there.

    The running job scores with it from its next batch of events on. A frozen learner learns again.
    """
    loaded = cfg.load(config)
    _ask(loaded, learner, to=to, wait=wait, actor=actor)


@click.command()
@CONFIG
@click.argument("learner")
@_WAIT
@ACTOR
def resume(config: Path, learner: str, wait: int, actor: str | None) -> None:
    """Let a frozen LEARNER learn on from the version in force."""
    loaded = cfg.load(config)
    _ask(loaded, learner, to=None, wait=wait, actor=actor)


@click.command()
@CONFIG
@click.argument("learner")
@click.option("--version", default=None, help="Which version; the newest by default.")
@click.option("--out", required=True, help="Path or URI of the folder to write.")
def export(config: Path, learner: str, version: str | None, out: str) -> None:
    """Write a version of LEARNER as a standard Spark ML model (MLWritable) that any Spark user can load.

    It reads the column `features`, as the saved pipeline made it for the learner.
    """
    from streaming.learning import versions as kept
    from streaming.models.spark import learned
    from streaming.runtime import session

    loaded = cfg.load(config)
    with session.running(loaded) as spark:
        number, weights = kept.weights_of(kept.learner(loaded, learner, lambda: spark), version)
        stage = learned.to_stage(spark, weights, uid=f"{learner}-{number}")
        stage.write().overwrite().save(out)
    click.echo(f"{type(stage).__name__} version {number} is at {out}")


@click.command()
@CONFIG
@click.argument("learner")
@click.option("--from", "first", required=True, metavar="VERSION", help="The version to start from.")
@click.option("--to", "last", required=True, metavar="VERSION", help="The version to arrive at.")
def replay(config: Path, learner: str, first: str, last: str) -> None:
    """Learn a version of LEARNER again from the topics and prove that the weights are equal."""
    from streaming.proof import replay as again
    from streaming.runtime import session

    loaded = cfg.load(config)
    with session.running(loaded) as spark:
        proof = again.replay(loaded, learner, first=first, last=last, spark=spark)
    click.echo(
        f"{learner}: {first} to {last}: {proof.batches} batches, {proof.labels} labels learned again; "
        f"{'equal bit for bit' if proof.equal else f'largest difference {proof.difference:.3g}'}"
    )
    if proof.difference > 1e-12:
        raise StateError(
            f"learner {learner}: version {last} cannot be reproduced: largest difference {proof.difference:.3g}, expected at most 1e-12"
        )


@click.group(name="learner")
def learner_() -> None:
    """When what a learner knows does not fit any more: take it along (migrate), or begin anew (reset). Stop the job first."""


@learner_.command()
@CONFIG
@click.argument("learner")
@click.option("--yes", is_flag=True, help="Do not ask. What it learned is gone for good.")
@ACTOR
def reset(config: Path, learner: str, yes: bool, actor: str | None) -> None:
    """Forget all that LEARNER has learned; it begins anew with the next labels, as CONFIG says now."""
    from streaming.learning import migrate as moves
    from streaming.learning import versions as kept
    from streaming.runtime import files, session

    loaded = cfg.load(config)
    with session.lazily(loaded) as spark:
        chosen = kept.learner(loaded, learner, spark)
        if not yes:
            click.confirm(f"{learner}: delete {len(chosen.log.batches())} states for good?", abort=True)
        with audited(loaded, "learner reset", f"learner {learner}", actor=actor, before=kept.newest_version(loaded, learner, spark)):
            moves.reset(chosen, files.folder(loaded.state, spark))
    click.echo(f"{learner}: begins anew when the job is started")


@learner_.command()
@CONFIG
@click.argument("learner")
@click.option("--labels-from", type=click.Choice(["latest", "earliest"]), default=None, help="Only where the states do not say how far they had read.")  # fmt: skip
@ACTOR
def migrate(config: Path, learner: str, labels_from: str | None, actor: str | None) -> None:
    """Let LEARNER go on from its newest state with the checkpoint, the model and the parameters that there are now.

    For a checkpoint that was deleted or replaced, a learner that was taken out and put back, other parameters that still
    fit, and a saved pipeline whose features still mean the same.
    """
    from streaming.job import preflight
    from streaming.learning import migrate as moves
    from streaming.learning import versions as kept
    from streaming.runtime import files, session

    loaded = cfg.load(config)
    with session.running(loaded) as spark, audited(loaded, "learner migrate", f"learner {learner}", actor=actor) as act:
        chosen = kept.learner(loaded, learner, lambda: spark, features=preflight.features_of(loaded, spark))
        outcome = moves.migrate(loaded, chosen, files.folder(loaded.state, lambda: spark), labels_from=labels_from)
        act.after = outcome.version
    where = "; ".join(f"{topic} from {dict(offsets) or 'its end'}" for topic, offsets in outcome.starting.items())
    click.echo(f"{learner}: goes on from version {outcome.version or 'none'} when the job is started{f'; reads {where}' if where else ''}")
