"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from streaming.config.load import Config
from streaming.errors import ConfigError
from streaming.runtime import audit

CONFIG = click.argument("config", type=click.Path(path_type=Path))
ACTOR = click.option(
    "--actor", envvar="STREAMING_ACTOR", default=None, metavar="NAME", help="Who asks, for the audit log; beside it always user and host."
)


def chosen_lanes(config: Config, lanes: str | None) -> tuple[str, ...]:
    """The lanes that --lanes names; all that the config has work for when it was not given. ConfigError on an unknown one."""
    from streaming.job import service

    if lanes is None:
        return service.default_lanes(config)
    chosen = tuple(name.strip() for name in lanes.split(",") if name.strip())
    unknown = [name for name in chosen if name not in service.LANES]
    if unknown or not chosen:
        raise ConfigError(f"--lanes: unknown lane {', '.join(unknown) or '(none given)'}; valid: {', '.join(service.LANES)}")
    if "learn" in chosen and not config.learners:
        raise ConfigError("--lanes: learn: the configuration has no learners")
    if "monitor" in chosen and config.monitor is None:
        raise ConfigError("--lanes: monitor: the configuration has no section monitor")
    return chosen


@contextmanager
def audited(config: Config, action: str, about: str, *, actor: str | None, before: str | None = None) -> Iterator[audit.Act]:
    """Record an act of this process in the audit log of `config`: who, what, and what came of it. Without a log it is only done."""
    act = audit.Act(action, about, audit.operator(actor), before)
    log = audit.of(config)
    if log is None:
        yield act
        return
    with log.recorded(act):
        yield act
