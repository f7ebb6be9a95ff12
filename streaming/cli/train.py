"""The saved model: `train`, `fingerprint`."""

from __future__ import annotations

from pathlib import Path

import click

from streaming import config as cfg
from streaming.cli.options import CONFIG
from streaming.errors import ConfigError


@click.command()
@CONFIG
@click.option("--overwrite", is_flag=True, help="Replace a model that is already at model.uri.")
def train(config: Path, overwrite: bool) -> None:
    """Train the pipeline that CONFIG's `train` section describes and save it, with a manifest, at model.uri.

    The same data, settings and seed give the same model. The same as: spark-submit jobs/train.py CONFIG
    """
    from streaming.runtime import session
    from streaming.training import run as training

    loaded = cfg.load(config)
    if loaded.train is None:
        raise ConfigError(f"{config}: train: missing; conf/production.yaml has a commented example")
    with session.running(loaded) as spark:
        slices = () if loaded.monitor is None else loaded.monitor.slices
        report = training.train(loaded.train, loaded.model, spark, source=str(config), overwrite=overwrite, slices=slices)
    click.echo(report.text())


@click.command()
@CONFIG
def fingerprint(config: Path) -> None:
    """Print the sha256 of the saved model, to pin it as model.sha256 in CONFIG."""
    from streaming.models import manifest
    from streaming.runtime import session
    from streaming.scorers import files

    loaded = cfg.load(config)
    if loaded.model.format != "spark":
        click.echo(files.read(loaded.model.uri).sha256)
        return
    with session.running(loaded) as spark:
        click.echo(manifest.fingerprint(spark, loaded.model.uri))
