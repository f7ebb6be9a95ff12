"""A trained model put in its place whole: written beside it first, renamed when complete."""

from __future__ import annotations

import logging
import platform
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyspark
from pyspark.ml import PipelineModel
from pyspark.sql import SparkSession

import streaming
from streaming.errors import ConfigError
from streaming.models import manifest

log = logging.getLogger(__name__)

_GIT_TIMEOUT_S: Final = 10


def refuse_existing(spark: SparkSession, uri: str, *, source: str) -> None:
    """ConfigError when something stands at `uri` already."""
    fs, path = _at(spark, uri)
    if fs.exists(path):
        raise ConfigError(f"{source}: model.uri: {uri} exists already; choose another uri for the new version, or train with --overwrite")


def save(spark: SparkSession, model: PipelineModel, uri: str, *, details: Mapping[str, Any], overwrite: bool, source: str) -> str:
    """Save `model` and its manifest at `uri` and return the sha256 that the manifest records.

    1. Write both to a sibling of `uri`. A crash here leaves only that sibling, with a name that says what it is.
    2. With `overwrite`, rename the old model aside. A crash here leaves no model at `uri`, and both beside it.
    3. Rename the sibling to `uri`. From here on the new model stands, whole.
    4. Delete the old one.
    """
    fs, target = _at(spark, uri)
    mark = uuid.uuid4().hex[:8]
    jvm: Any = spark._jvm
    new, old = (jvm.org.apache.hadoop.fs.Path(target.getParent(), f"{target.getName()}.{what}-{mark}") for what in ("writing", "replaced"))
    try:
        model.write().save(new.toString())
        sha256: str = manifest.write(spark, new.toString(), details)
        if fs.exists(target):
            if not overwrite:
                refuse_existing(spark, uri, source=source)
            _rename(fs, target, old)
        _rename(fs, new, target)
    except BaseException:
        fs.delete(new, True)
        if fs.exists(old) and not fs.exists(target):
            fs.rename(old, target)
        raise
    fs.delete(old, True)
    return sha256


def _rename(fs: Any, a: Any, b: Any) -> None:
    if not fs.rename(a, b):
        raise ConfigError(f"{a}: cannot be renamed to {b}; check the permissions of its folder")


def _at(spark: SparkSession, uri: str) -> tuple[Any, Any]:
    jvm: Any = spark._jvm
    context: Any = spark._jsc
    path = jvm.org.apache.hadoop.fs.Path(uri)
    fs = path.getFileSystem(context.hadoopConfiguration())
    return fs, fs.makeQualified(path)


def made_by(spark: SparkSession) -> dict[str, Any]:
    """What made a model: the versions of the code and of what it runs on. `commit` is None outside a Git checkout."""
    jvm: Any = spark._jvm
    commit, dirty = _commit(Path(streaming.__file__).parent.parent)
    return {
        "package": streaming.__version__,
        "commit": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        "spark": pyspark.__version__,
        "numpy": np.__version__,
        "java": str(jvm.java.lang.System.getProperty("java.version")),
    }


def _commit(root: Path) -> tuple[str | None, bool | None]:
    if not (root / ".git").exists():
        return None, None
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(root), *command], capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=True
            ).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError) as unknown:
        log.info("git_commit=unknown reason=%s", type(unknown).__name__)
        return None, None
    return commit, bool(changes)
