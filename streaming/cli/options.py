"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

from streaming.config.load import Config
from streaming.errors import ConfigError

CONFIG = click.argument("config", type=click.Path(path_type=Path))


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
