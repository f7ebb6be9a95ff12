"""The configuration: one YAML file, one tree of typed values.

An unknown key, a missing key or a wrong type is refused with the file, the path inside it and the valid keys.
`${env:VAR}` is the only interpolation. What came from the environment is treated as a secret, unless it stands where
only an address or a name can stand: it never shows in an error, a log line or a repr (:mod:`streaming.secrets`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError, model_validator
from pydantic_core import ErrorDetails

from streaming.config.monitoring import Monitor
from streaming.config.sections import (
    Api,
    Events,
    JobSection,
    Kafka,
    Labels,
    Learn,
    LearnerSection,
    Predictions,
    SavedModel,
    Score,
    Spark,
    Train,
)
from streaming.config.stores import KINDS, StoreSection
from streaming.config.values import Name, Section, interpolate
from streaming.errors import ConfigError


class Config(Section):
    """The whole configuration of one scoring service."""

    name: Name
    kafka: Kafka
    events: Events
    model: SavedModel
    score: Score = Score()
    predictions: Predictions
    store: StoreSection
    state: str
    #: The file of the audit log, on this machine. None: audit.jsonl in a `state` that is on this machine; else there is none.
    audit: str | None = None
    learners: tuple[LearnerSection, ...] = ()
    labels: Labels | None = None
    learn: Learn = Learn()
    train: Train | None = None
    api: Api = Api()
    monitor: Monitor | None = None
    job: JobSection = JobSection()
    spark: Spark = Spark()

    @model_validator(mode="after")
    def _learners_fit(self) -> Config:
        names = [self.model.name, *(learner.name for learner in self.learners)]
        # Upper and lower case are the same to Spark's columns, and to some disks.
        repeated = [name for i, name in enumerate(names) if name.lower() in map(str.lower, names[:i])]
        if repeated:
            raise ValueError(f"learners: the name {repeated[0]!r} is used twice; the model and every learner need names of their own")
        if sum(learner.role == "champion" for learner in self.learners) > 1:
            raise ValueError("learners: two champions; consumers see one answer per event, so at most one learner may be champion")
        if self.learners and self.labels is None:
            raise ValueError("labels: missing; learners need a topic of labels, or a field of the event that holds the label")
        if self.learners and self.predictions.shadow_topic is None:
            raise ValueError(
                "predictions.shadow_topic: missing; with learners there are models beside the champion, and their answers go there"
            )
        return self

    @property
    def champion(self) -> str:
        """The name of the model whose answers consumers see."""
        return next((learner.name for learner in self.learners if learner.role == "champion"), self.model.name)

    def topics(self) -> dict[str, str]:
        """The topics of the service by what they are for: events, predictions, rejected; the others where the file names them."""
        labels = None if self.labels is None else self.labels.topic
        named = {
            "events": self.events.topic,
            "predictions": self.predictions.topic,
            "rejected": self.predictions.rejected_topic,
            "shadow": self.predictions.shadow_topic,
            "labels": labels,
            "monitor": None if self.monitor is None else self.monitor.topic,
            "alerts": None if self.monitor is None else self.monitor.alerts.topic,
        }
        return {role: topic for role, topic in named.items() if topic is not None}

    def topic_of(self, model: str) -> str:
        """Where the answers of `model` stand: consumers read the champion's, all others are in its shadow."""
        return self.topics()["predictions" if model == self.champion else "shadow"]


def load(path: str | Path) -> Config:
    """Read and check a configuration file. ConfigError names the file, the path inside it and what would be valid."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as missing:
        raise ConfigError(f"{file}: no such file; start from a copy of conf/production.yaml") from missing
    except (OSError, UnicodeDecodeError) as unreadable:
        raise ConfigError(f"{file}: cannot be read: {unreadable}") from unreadable
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as broken:
        raise ConfigError(f"{file}: not valid YAML: {' '.join(str(broken).split())}") from broken
    return parse(tree, source=str(file))


def parse(tree: Any, *, source: str = "config") -> Config:
    """Check a configuration given as plain Python values; `source` is the name that errors show."""
    if not isinstance(tree, dict):
        raise ConfigError(f"{source}: expected a mapping with the keys {', '.join(_keys(Config))}; got {type(tree).__name__}")
    try:
        return Config.model_validate(interpolate(tree, source, ()))
    except ValidationError as invalid:
        lines = [_explain(error, source) for error in invalid.errors(include_url=False, include_context=True)]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


def _keys(section: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in section.model_fields.items()]


def _explain(error: ErrorDetails, source: str) -> str:
    """One line for one pydantic error, in the words of this project."""
    loc = [str(part) for part in error["loc"]]
    section = _section_at(loc[:-1])
    # The kind of a store is a step of pydantic's, not of the file's.
    path = ".".join(part for i, part in enumerate(loc) if not (part in KINDS and loc[:i] == ["store"]))
    valid = f"; valid keys: {', '.join(_keys(section))}" if section is not None else ""
    match error["type"]:
        case "extra_forbidden":
            return f"{source}: {path}: unknown key{valid}"
        case "missing":
            return f"{source}: {path}: missing{valid}"
        case "union_tag_invalid" | "union_tag_not_found":
            return f"{source}: {path}.kind: expected one of {', '.join(sorted(KINDS))}"
        case "value_error":
            # What is wrong with the whole has no path; its message begins with one.
            return ": ".join(filter(None, (source, path, str(error.get("ctx", {}).get("error", error["msg"])))))
        case _:
            return f"{source}: {path}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _section_at(loc: list[str]) -> type[BaseModel] | None:
    """The section that holds the key an error is about, or None inside a free-form mapping."""
    section: type[BaseModel] = Config
    for part in loc:
        if part in KINDS:
            section = KINDS[part]
            continue
        if part == "store" and section is Config:
            continue
        if part.isdigit():
            continue  # a place in a list: the section is that of the list's items
        field = next((f for name, f in section.model_fields.items() if part in {name, f.alias}), None)
        if field is None:
            return None
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        nested = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if nested is None:
            return None
        section = nested
    return section
