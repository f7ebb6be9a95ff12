"""The saved model: `train`, `fingerprint`, `sign`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from streaming import config as cfg
from streaming.cli.options import ACTOR, CONFIG, audited
from streaming.errors import ConfigError


@click.command()
@CONFIG
@click.option("--overwrite", is_flag=True, help="Replace a model that is already at model.uri.")
@ACTOR
def train(config: Path, overwrite: bool, actor: str | None) -> None:
    """Train the pipeline that CONFIG's `train` section describes and save it, with a manifest, at model.uri.

    The same data, settings and seed give the same model. The same as: spark-submit jobs/train.py CONFIG
    """
    from streaming.runtime import files, model_versions, session
    from streaming.training import run as training

    loaded = cfg.load(config)
    if loaded.train is None:
        raise ConfigError(f"{config}: train: missing; conf/production.yaml has a commented example")
    about = f"model {loaded.model.name} version {loaded.model.version} at {loaded.model.uri}"
    slices = () if loaded.monitor is None else loaded.monitor.slices
    with audited(loaded, "train", about, actor=actor) as act, session.running(loaded) as spark:
        report = training.train(loaded.train, loaded.model, spark, source=str(config), overwrite=overwrite, slices=slices)
        act.after = f"sha256 {report.sha256}"
        served = model_versions.known(files.folder(loaded.state, lambda: spark), model=loaded.model.name, version=loaded.model.version)
    click.echo(report.text())
    if served not in (None, report.sha256):
        click.echo(
            f"! version {loaded.model.version} was served with other files, so these are refused under it: "
            f"set model.version in {config} to one that was never served, then restart the job"
        )


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


@click.command()
@CONFIG
@click.option("--key", type=click.Path(path_type=Path), required=True, help="PEM of a private key on an elliptic curve.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="The file to write; by default model.signature.file.")
@click.option("--password-env", default=None, metavar="NAME", help="The variable of the environment that holds the key's password.")
def sign(config: Path, key: Path, out: Path | None, password_env: str | None) -> None:
    """Sign the saved model of CONFIG with KEY, so that model.signature can ask for it. Needs no network.

    \b
    A key pair:  openssl ecparam -name prime256v1 -genkey -noout -out signing.pem
                 openssl ec -in signing.pem -pubout -out signing.pub
    """
    from streaming.models import python
    from streaming.runtime import session
    from streaming.runtime.files import is_local
    from streaming.scorers import files, signatures

    loaded = cfg.load(config)
    target = out or (None if loaded.model.signature is None else Path(loaded.model.signature.file))
    if target is None:
        raise ConfigError(f"{config}: nowhere to write the signature; give --out, or model.signature.file")
    uri = loaded.model.uri
    with session.lazily(loaded) as spark:
        package = files.read(uri) if is_local(uri) else python.fetch(spark(), uri)
    signatures.sign(package, target, key=key, password=None if password_env is None else os.environ.get(password_env))
    click.echo(f"{loaded.model.uri} is signed: {target}; sha256 {package.sha256}")
