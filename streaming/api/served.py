"""The models in force: each name has one at a time, and a new version takes its place in one step."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from streaming import secrets
from streaming.api import instances
from streaming.errors import ModelError, StreamingError
from streaming.runtime.model_versions import other_files
from streaming.scorers.base import ColumnKind, Columns, Scorer

log: Final = logging.getLogger(__name__)


@runtime_checkable
class Explains(Protocol):
    """A scorer that can say what each input adds to the log-odds (or to the prediction) of a row, because it is linear."""

    def contributions(self, columns: Columns) -> Mapping[str, NDArray[np.float64]] | None:
        """Per input the n contributions; None when this model is not linear."""


@runtime_checkable
class KnowsCategories(Protocol):
    """A scorer that knows which values of its text inputs it was trained on."""

    def categories(self) -> Mapping[str, Sequence[str]]:
        """Input -> the values it knows."""


@dataclass(frozen=True)
class Served:
    """One version of a model, ready to answer. Frozen: a request that took it keeps it to its end, whatever comes after."""

    name: str
    version: str
    scorer: Scorer
    inputs: Mapping[str, ColumnKind]
    #: Input -> the categories the model was trained on, where they are known.
    categories: Mapping[str, Sequence[str]] = field(default_factory=dict)
    #: What the probability is the probability of.
    outcome: str = ""
    #: What a key of the store names.
    entity: str = "customer"
    example: Mapping[str, object] = field(default_factory=dict)
    #: The sha256 of the model's files, where it is known.
    sha256: str | None = None
    loaded_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @classmethod
    def of(
        cls,
        scorer: Scorer,
        *,
        name: str,
        version: str,
        outcome: str | None = None,
        entity: str = "customer",
        example: Mapping[str, object] | None = None,
        sha256: str | None = None,
    ) -> Served:
        """The scorer under its name, tried on one row so that a broken one is refused here and not by a caller's request."""
        inputs = dict(scorer.inputs())
        categories = {key: tuple(values) for key, values in scorer.categories().items()} if isinstance(scorer, KnowsCategories) else {}
        if "vector" not in inputs.values():  # the size of a vector is not known here
            scores = scorer.score(instances.columns([{}], inputs))
            if len(scores.prediction) != 1 or len(scores.error) != 1:
                raise ModelError(f"{name} version {version}: one row gave {len(scores.prediction)} predictions; convert the model again")
        return cls(name, version, scorer, inputs, categories, outcome or name, entity, dict(example or {}), sha256)


class ModelSource(Protocol):
    """Where the versions of one model come from."""

    def mark(self) -> str:
        """A text that changes when there may be a new version. Cheap: it is asked for every few seconds."""

    def load(self) -> Served:
        """The version that stands there now. StreamingError when it cannot be served."""


@dataclass(frozen=True)
class Refreshed:
    """What became of looking for a new version."""

    served: Served
    changed: bool = False
    #: Why what stands there now was refused; `served` is then the old one, still in force.
    error: str | None = None


class Models:
    """The versions in force, by name. A lookup is one dictionary access; a swap is one assignment: no request sees a half."""

    def __init__(self, sources: Mapping[str, ModelSource]) -> None:
        """Load each model once. StreamingError when one cannot be loaded: a service without its model must not start."""
        self._sources = dict(sources)
        self._locks = {name: threading.Lock() for name in sources}
        # The mark is taken before the files are read: what changes meanwhile is a new version.
        self._marks = {name: source.mark() for name, source in sources.items()}
        self._seen = dict(self._marks)
        self._served = {name: source.load() for name, source in sources.items()}

    @classmethod
    def fixed(cls, *served: Served) -> Models:
        """Models that never change."""
        return cls({each.name: Fixed(each) for each in served})

    def get(self, name: str) -> Served | None:
        """The version of `name` in force now, or None when there is no such model."""
        return self._served.get(name)

    def all(self) -> list[Served]:
        """Every model, in name order."""
        return [self._served[name] for name in sorted(self._served)]

    def pending(self, name: str) -> bool:
        """True when the source has changed since it was read, and has stopped changing since the last call.

        Files that are still being written change between two looks, so a half-written version is left alone.
        """
        mark = self._sources[name].mark()
        settled, self._seen[name] = mark == self._seen[name], mark
        return settled and mark != self._marks[name]

    def recheck(self) -> None:
        """Take every source for changed at the next look."""
        self._marks = dict.fromkeys(self._marks, "")

    def refresh(self, name: str) -> Refreshed:
        """Load what stands at the source beside the version in force, and put it in force if it is fit. Slow: not for the event loop."""
        with self._locks[name]:
            old, self._marks[name] = self._served[name], self._sources[name].mark()
            try:
                new, error = _another(self._sources[name].load(), old), None
            except Exception as broken:  # whatever is wrong with the new files, the old version goes on answering
                words = str(broken) if isinstance(broken, StreamingError) else f"{type(broken).__name__}: {broken}"
                new, error = old, secrets.redact(words)
            if error is not None:
                log.error("model=%s version=%s stays in force; the new one is refused: %s", name, old.version, error)
                return Refreshed(old, error=error)
            self._served[name] = new
            log.info("model=%s version=%s replaces version=%s", name, new.version, old.version)
            return Refreshed(new, changed=(new.version, new.sha256) != (old.version, old.sha256))


def _another(new: Served, old: Served) -> Served:
    """The new one. ModelError when it has the version of the old one and other files: two models would answer under one name."""
    if new.version == old.version and None not in (new.sha256, old.sha256) and new.sha256 != old.sha256:
        raise other_files("model.uri", model=new.name, version=new.version, known=old.sha256, got=new.sha256)
    return new


@dataclass(frozen=True)
class Fixed:
    """A source with one version for ever."""

    served: Served

    def mark(self) -> str:
        """Always the same."""
        return self.served.version

    def load(self) -> Served:
        """The one there is."""
        return self.served
