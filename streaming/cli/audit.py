"""The audit log: `audit show`, `audit verify`."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import click

from streaming import config as cfg
from streaming.cli.options import CONFIG
from streaming.errors import ConfigError, StateError
from streaming.runtime import audit as trail


@click.group()
def audit() -> None:
    """Who predicted, reloaded, rolled back and trained: the audit log of CONFIG."""


def _log(config: Path) -> trail.AuditLog:
    log = trail.of(cfg.load(config))
    if log is None:
        raise ConfigError(f"{config}: audit: missing; the state is not on this machine, so name the file of the audit log")
    return log


@audit.command()
@CONFIG
@click.option("-n", "--last", default=20, show_default=True, help="How many records, the newest last.")
def show(config: Path, last: int) -> None:
    """Print the newest records, one line of JSON each."""
    for line in deque(_log(config).lines(), maxlen=last):
        click.echo(line.decode(errors="replace"))


@audit.command()
@CONFIG
@click.option("--head", default=None, metavar="HASH", help="A hash that was kept elsewhere: fail unless it still stands in the chain.")
def verify(config: Path, head: str | None) -> None:
    """Check that no record was changed, moved or taken out, and print the newest hash; exit code 2 and where, if one was."""
    log = _log(config)
    verdict = trail.verify(log, head=head)
    for line in verdict.cut:
        click.echo(f"line {line} was cut by a crash; the chain goes on behind it")
    if verdict.broken:
        where = "\n".join(f"  line {each.line}: {each.why}" for each in verdict.broken)
        raise StateError(
            f"{log.path}: the chain is broken:\n{where}\ncompare with a copy that was kept elsewhere; the records around still stand"
        )
    if not verdict.knows_head:
        raise StateError(f"{log.path}: the hash {head} does not stand in the chain; its end was cut off, or all of it was written anew")
    click.echo(f"{verdict.records} records, unbroken; the newest hash is {verdict.head}")
