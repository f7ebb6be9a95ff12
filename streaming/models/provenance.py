"""Where a saved model comes from: what its manifest says, and whether its files are still those that were saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from streaming.config.sections import SavedModel
from streaming.errors import ModelError
from streaming.models import manifest, python


@dataclass(frozen=True)
class Provenance:
    """What is known of a saved model."""

    name: str
    version: str
    uri: str
    #: The sha256 of the files as they are now; None when they cannot be read.
    sha256: str | None
    #: What the manifest and the configuration expect.
    recorded: str | None
    pinned: str | None
    #: Path and hash of the training data, versions of code and packages, seed, when: what the manifest says of them.
    training: Mapping[str, Any]
    words: str

    @property
    def matches(self) -> bool:
        """False when the files cannot be read, or are not those that somebody recorded."""
        return self.sha256 is not None and all(expected in (None, self.sha256) for expected in (self.recorded, self.pinned))


_TOLD = ("data", "seed", "made_by", "trained_at", "algorithm", "params", "rows", "metrics")


def of(section: SavedModel, spark: SparkSession) -> Provenance:
    """What is known of the model at `section.uri`. Never raises for a model that is missing: `words` says so."""
    details: Mapping[str, Any] = {}
    sha256: str | None = None
    try:
        if section.format == "spark":
            details = manifest.read(spark, section.uri) or {}
            sha256 = manifest.fingerprint(spark, section.uri)
        else:
            sha256 = python.fetch(spark, section.uri).sha256
    except ModelError as missing:
        return Provenance(section.name, section.version, section.uri, None, None, section.sha256, {}, str(missing))
    recorded = details.get("sha256")
    told = {name: details[name] for name in _TOLD if name in details}
    provenance = Provenance(section.name, section.version, section.uri, sha256, recorded, section.sha256, told, "")
    if recorded is None and section.sha256 is None:
        words = "nobody recorded what the files should be; pin them: streaming fingerprint CONFIG gives model.sha256"
    elif provenance.matches:
        words = "the files are those that were recorded"
    else:
        words = f"sha256 is {sha256}, the manifest says {recorded or 'nothing'}, model.sha256 says {section.sha256 or 'nothing'}"
    return Provenance(section.name, section.version, section.uri, sha256, recorded, section.sha256, told, words)
