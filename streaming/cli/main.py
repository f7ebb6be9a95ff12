"""The command `streaming`: its groups of commands put together, logging, and errors turned into exit codes."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from streaming import __version__, secrets
from streaming.cli import development, learners, monitor, serve, train
from streaming.cli.api import api
from streaming.cli.audit import audit
from streaming.cli.batch import batch
from streaming.cli.convert import convert, package
from streaming.cli.explain import explain_prediction
from streaming.cli.parity import parity
from streaming.errors import StreamingError


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
    # py4j tells the root logger, with a stack trace, that the JVM is gone; whoever asked the JVM says it in words.
    screen.addFilter(lambda record: record.module not in {"clientserver", "java_gateway"})


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


for command in (
    serve.serve,
    serve.check,
    serve.topics,
    serve.get_,
    train.train,
    train.fingerprint,
    train.sign,
    learners.versions,
    learners.rollback,
    learners.resume,
    learners.export,
    learners.replay,
    monitor.baseline,
    monitor.drift,
    learners.learner_,
    development.kafka,
    development.jars,
    development.demo,
    batch,
    audit,
    api,
    convert,
    package,
    parity,
    explain_prediction,
):
    cli.add_command(command)


def _make_files_private() -> None:
    """What this process and its children make is for its own user: files 0600, folders 0700. STREAMING_UMASK=027 lets the group read."""
    try:
        mask = int(os.environ.get("STREAMING_UMASK", "077"), 8) & 0o777
    except ValueError:
        mask = 0o077
    os.umask(mask)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; a StreamingError becomes one readable message and its exit code, never a stack trace."""
    secrets.install_hooks()
    _make_files_private()
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
